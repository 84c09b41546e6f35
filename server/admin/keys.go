package admin

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/server/audit"
	"hotdesk/server/registry"
)

// forgetKey takes a terminal's key out of the registry, and out of what the
// hosts remember: the next that comes with its id, and another key, counts.
func (s *Server) forgetKey(r *http.Request) (any, error) {
	id := alp.TerminalID(r.PathValue("id"))
	if !id.Valid() {
		return nil, adminapi.Invalid{Text: clip(string(id)) + " is no terminal's id: it has 12 hex digits, as `hotdesk terminal list` shows it"}
	}
	var done adminapi.Done
	var was adminapi.PeerForget
	if s.conf.Registry != nil {
		if old, _ := s.conf.Registry.Snapshot().Terminal(id); old.Key != "" {
			was.Key = old.Key
			out, err := s.change(r, "terminal forget "+string(id), func(now *registry.Snapshot) ([]adminapi.Edit, error) {
				return withoutKey(now, id), nil
			})
			if err != nil {
				return nil, err
			}
			done, _ = out.(adminapi.Done)
		}
	}
	parts, missing, err := everywhere(r.Context(), s, "", func() (bool, error) { return s.conf.Desk.ForgetKey(r.Context(), id, was.Key) }, func(ctx context.Context, p remote) (known bool, err error) {
		err = s.askPeer(ctx, p, PeerWithin, "POST", "/terminals/"+string(id)+"/forget", was, &known)
		return known, err
	})
	s.note(r, err, audit.Entry{What: audit.Admin, Terminal: string(id), Text: "terminal forget " + string(id)})
	if err != nil {
		return nil, err
	}
	known := was.Key != "" || slices.ContainsFunc(parts, func(p part[bool]) bool { return p.val })
	var away []string
	for _, m := range missing {
		away = append(away, m.Host)
	}
	switch {
	case len(away) > 0:
		done.Text = "not reached, and may remember the key until the server program is restarted there: " + strings.Join(away, ", ")
	case !known:
		done.Text = "no host knows a key of " + string(id)
	default:
		done.Text = "forgotten: the next terminal that comes with the id " + string(id) + " and another key has it; the one of the old key was sent away, and may come again in a minute if no other has"
	}
	return done, nil
}

// withoutKey is the change that takes a terminal's key away, and its record
// where there is nothing else in it.
func withoutKey(now *registry.Snapshot, id alp.TerminalID) []adminapi.Edit {
	r, there := now.Record(adminapi.KindTerminal, string(id))
	if !there {
		return nil
	}
	next := adminapi.Record{Kind: r.Kind, Name: r.Name, Fields: maps.Clone(r.Fields)}
	delete(next.Fields, "key")
	if len(next.Fields) == 0 {
		return []adminapi.Edit{adminapi.Delete(r.Kind, r.Name)}
	}
	return []adminapi.Edit{adminapi.Put(next)}
}
