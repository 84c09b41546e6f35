package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/protocol/rpc"
	"hotdesk/server/audit"
	"hotdesk/server/registry"
)

func cutSpace(s string) (string, string, bool) { return strings.Cut(s, " ") }

func (s *Server) routes() {
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.answer(w, nil, adminapi.Error{Code: adminapi.CodeNotFound, Text: "there is no " + r.Method + " " + clip(r.URL.Path) + ": the programs may be of different versions"})
	})
	s.handle("GET /status", s.status)
	s.handle("GET /sessions", func(r *http.Request) (any, error) { return s.sessions(r.Context()) })
	s.handle("POST /sessions/{id}/{verb}", s.session)
	s.handle("GET /terminals", func(r *http.Request) (any, error) { return s.terminals(r.Context()) })
	s.handle("GET /group/sessions", s.groupSessions)
	s.handle("GET /group/terminals", s.groupTerminals)
	s.handle("DELETE /group/terminals/{id}/key", s.forgetKey)
	s.handle("GET /group/audit", s.groupAudit)
	s.handle("GET /group", func(r *http.Request) (any, error) { return s.group(r.Context()) })
	s.handle("POST /host/state", s.state)
	s.handle("GET /policy/explain", s.explain)
	s.handle("GET /records/{kind}", s.list)
	s.handle("GET /records/{kind}/{name}", s.show)
	s.handle("POST /records/{kind}/{name}", s.put)
	s.handle("DELETE /records/{kind}/{name}", s.remove)
	s.handle("GET /registry", func(*http.Request) (any, error) {
		if s.conf.Registry == nil {
			return nil, noRegistry
		}
		return s.conf.Registry.Status(), nil
	})
	s.handle("GET /registry/export", s.export)
	s.handle("GET /registry/history", s.history)
	s.handle("GET /registry/diff", s.diff)
	s.handle("POST /registry/diff", s.wouldBe)
	s.handle("POST /registry/import", s.load)
	s.handle("POST /registry/rollback", s.rollback)
	s.handle("POST /registry/adopt", s.adopt)
	s.handle("POST /registry/accept", s.accept)
	s.mux.HandleFunc("GET "+adminapi.Prefix+"/registry/watch", s.watch)
}

func clip(s string) string { return strconv.Quote(s[:min(len(s), 100)]) }

var noRegistry = adminapi.Error{Code: adminapi.CodeAway, Text: "this host runs without a registry: start server without -registry none"}

func (s *Server) sessions(ctx context.Context) ([]adminapi.Session, error) {
	all, err := s.conf.Desk.Sessions(ctx)
	for i := range all {
		all[i].Host = s.conf.Host
	}
	if all == nil {
		all = []adminapi.Session{}
	}
	return all, err
}

func (s *Server) terminals(ctx context.Context) ([]adminapi.TerminalState, error) {
	all, err := s.conf.Desk.Terminals(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Connected {
			all[i].Host = s.conf.Host
		}
	}
	if s.conf.Registry != nil {
		for _, r := range s.conf.Registry.Snapshot().Records() {
			if r.Kind != adminapi.KindTerminal {
				continue
			}
			t := r.Terminal()
			i := slices.IndexFunc(all, func(x adminapi.TerminalState) bool { return x.ID == t.ID })
			if i < 0 {
				all = append(all, adminapi.TerminalState{ID: t.ID})
				i = len(all) - 1
			}
			all[i].Name, all[i].Location, all[i].Key = t.Name, t.Location, t.Key
		}
	}
	slices.SortFunc(all, func(a, b adminapi.TerminalState) int { return cmp.Compare(a.ID, b.ID) })
	if all == nil {
		all = []adminapi.TerminalState{}
	}
	return all, nil
}

// session does something to one session, here or on another host.
func (s *Server) session(r *http.Request) (any, error) {
	id, verb := r.PathValue("id"), r.PathValue("verb")
	var why adminapi.Reason
	if err := decode(r, &why); err != nil {
		return nil, err
	}
	host := r.URL.Query().Get("host")
	if host == "" || host == s.conf.Host {
		return s.act(r.Context(), id, verb, why.Reason, who(r))
	}
	if err := actable(id, why.Reason); err != nil {
		return nil, err
	}
	done, err := s.elsewhere(r.Context(), host, id, url.PathEscape(verb), why.Reason, who(r))
	s.note(r, err, audit.Entry{What: audit.Admin, Session: id, Text: strings.TrimSpace("session " + verb + " on " + host + " " + why.Reason)})
	return done, err
}

func actable(id, reason string) error {
	if len(reason) > adminapi.MaxReason {
		return adminapi.Invalid{Text: fmt.Sprintf("a reason, or a message, has at most %d bytes", adminapi.MaxReason)}
	}
	if !alp.SessionID(id).Valid() {
		return adminapi.Invalid{Text: clip(id) + " is no session's id: it has 16 hex digits, as `hotdesk session list` shows it"}
	}
	return nil
}

// act does something to a session of this host, for whoever it is.
func (s *Server) act(ctx context.Context, text, verb, reason, who string) (any, error) {
	if err := actable(text, reason); err != nil {
		return nil, err
	}
	id := alp.SessionID(text)
	var err error
	var done adminapi.Done
	switch verb {
	case "end":
		err = s.conf.Desk.End(ctx, id)
	case "detach":
		var was bool
		was, err = s.conf.Desk.Detach(ctx, id, cmp.Or(reason, "An administrator has taken your session off this terminal. It runs on: insert the card again."))
		if !was && err == nil {
			done.Text = "it was shown nowhere"
		}
	case "message":
		var was bool
		if reason == "" {
			err = adminapi.Invalid{Text: "a message needs its text"}
		} else if was, err = s.conf.Desk.Message(ctx, id, reason); !was && err == nil {
			err = adminapi.Error{Code: adminapi.CodeConflict, Text: "the session is shown nowhere: nobody would read it"}
		}
	case "lock":
		var was bool
		was, err = s.conf.Desk.Lock(ctx, id)
		if !was && err == nil {
			done.Text = "it was shown nowhere: its user logs in to see it again"
		}
	default:
		return nil, adminapi.Error{Code: adminapi.CodeNotFound, Text: "a session can be ended, detached, locked or told something, not " + clip(verb)}
	}
	s.noteOf(who, err, audit.Entry{What: audit.Admin, Session: text, Text: strings.TrimSpace("session " + verb + " " + reason)})
	return done, err
}

// ask has the group manager answer.
func (s *Server) ask(ctx context.Context, f func(context.Context, *rpc.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, groupTime)
	defer cancel()
	nc, err := s.conf.Group(ctx)
	if err != nil {
		return adminapi.Error{Code: adminapi.CodeAway, Text: "the group manager of this host does not run: start groupmgr: " + err.Error()}
	}
	c := rpc.New(nc, nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.Close()
	wg.Go(func() { _ = c.Serve(ctx) }) // its end shows in f
	err = f(ctx, c)
	if _, refused := errors.AsType[rpc.RemoteError](err); refused {
		return adminapi.Invalid{Text: err.Error()}
	}
	if err != nil {
		return adminapi.Error{Code: adminapi.CodeAway, Text: "the group manager of this host does not answer: " + err.Error()}
	}
	return nil
}

// group is the table of hosts.
func (s *Server) group(ctx context.Context) (t local.Table, err error) {
	err = s.ask(ctx, func(ctx context.Context, c *rpc.Conn) error {
		for {
			var page local.Table
			if err := c.Call(ctx, local.OpTable, local.TableRequest{After: len(t.Hosts)}, &page); err != nil {
				return err
			}
			t.Hosts = append(t.Hosts, page.Hosts...)
			if !page.More || len(page.Hosts) == 0 {
				return nil
			}
		}
	})
	return t, err
}

// state has the group manager change what this host takes.
func (s *Server) state(r *http.Request) (any, error) {
	var q local.StateRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	if err := q.Check(); err != nil {
		return nil, adminapi.Invalid{Text: err.Error()}
	}
	var st local.State
	err := s.ask(r.Context(), func(ctx context.Context, c *rpc.Conn) error { return c.Call(ctx, local.OpState, q, &st) })
	s.note(r, err, audit.Entry{What: audit.Admin, Text: strings.TrimSpace("host " + q.State + " " + deadline(q.Within))})
	return st, err
}

func deadline(seconds int64) string {
	if seconds == 0 {
		return ""
	}
	return "within " + (time.Duration(seconds) * time.Second).String()
}

// kindOf reads the kind and, if the path has one, the name of a record.
func (s *Server) kindOf(r *http.Request) (adminapi.Kind, string, error) {
	k, name := adminapi.Kind(r.PathValue("kind")), r.PathValue("name")
	if s.conf.Registry == nil {
		return "", "", noRegistry
	}
	if name != "" {
		return k, name, adminapi.CheckName(k, name)
	}
	if _, ok := adminapi.SchemaOf(k); !ok {
		return "", "", adminapi.Error{Code: adminapi.CodeNotFound, Text: "there is no kind of record " + clip(string(k))}
	}
	return k, "", nil
}

func (s *Server) list(r *http.Request) (any, error) {
	k, _, err := s.kindOf(r)
	if err != nil {
		return nil, err
	}
	all := []adminapi.Record{}
	for _, r := range s.conf.Registry.Snapshot().Records() {
		if r.Kind == k {
			all = append(all, r)
		}
	}
	return all, nil
}

func notThere(k adminapi.Kind, name string) error {
	return adminapi.Error{Code: adminapi.CodeNotFound, Text: fmt.Sprintf("there is no %s %s in the registry: `hotdesk %s list` shows those that are", k, name, k)}
}

func (s *Server) show(r *http.Request) (any, error) {
	k, name, err := s.kindOf(r)
	if err != nil {
		return nil, err
	}
	rec, ok := s.conf.Registry.Snapshot().Record(k, name)
	if !ok {
		return nil, notThere(k, name)
	}
	return rec, nil
}

func (s *Server) put(r *http.Request) (any, error) {
	k, name, err := s.kindOf(r)
	if err != nil {
		return nil, err
	}
	var q adminapi.RecordRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	verb := "set"
	if q.Create {
		verb = "add"
	}
	return s.change(r, fmt.Sprintf("%s %s %s", k, verb, name), func(now *registry.Snapshot) ([]adminapi.Edit, error) {
		old, there := now.Record(k, name)
		switch {
		case q.Base != 0 && q.Base != now.Rev:
			return nil, registry.ErrConflict
		case q.Create && there:
			return nil, adminapi.Error{Code: adminapi.CodeConflict, Text: fmt.Sprintf("%s %s is registered already: `hotdesk %s set %s FIELD=VALUE` changes it", k, name, k, name)}
		case !q.Create && !q.Replace && !there:
			return nil, adminapi.Error{Code: adminapi.CodeNotFound, Text: fmt.Sprintf("there is no %s %s in the registry: `hotdesk %s add %s` registers it", k, name, k, name)}
		}
		next := adminapi.Record{Kind: k, Name: name, Fields: map[string]string{}}
		if !q.Replace {
			maps.Copy(next.Fields, old.Fields)
		}
		for key, v := range q.Fields {
			if v == "" {
				delete(next.Fields, key)
			} else {
				next.Fields[key] = v
			}
		}
		if len(next.Fields) == 0 {
			next.Fields = nil
		}
		return []adminapi.Edit{adminapi.Put(next)}, nil
	})
}

func (s *Server) remove(r *http.Request) (any, error) {
	k, name, err := s.kindOf(r)
	if err != nil {
		return nil, err
	}
	return s.change(r, fmt.Sprintf("%s remove %s", k, name), func(now *registry.Snapshot) ([]adminapi.Edit, error) {
		if _, ok := now.Record(k, name); !ok {
			return nil, notThere(k, name)
		}
		return []adminapi.Edit{adminapi.Delete(k, name)}, nil
	})
}

// change makes one change of the registry.
func (s *Server) change(r *http.Request, op string, edits func(*registry.Snapshot) ([]adminapi.Edit, error)) (any, error) {
	if s.conf.Registry == nil {
		return nil, noRegistry
	}
	before, after, err := s.conf.Registry.Change(r.Context(), registry.By{Who: who(r), Op: op}, edits)
	s.note(r, err, audit.Entry{What: audit.Registry, Text: op, Before: before, After: after})
	if err != nil {
		return nil, err
	}
	done := adminapi.Done{Before: before, Rev: after}
	if before == after {
		done.Text = "nothing was to be changed"
	}
	return done, nil
}

// number reads a query's number, def where it has none.
func number(r *http.Request, key string, def uint64) (uint64, error) {
	v := r.URL.Query().Get(key)
	if v == "" {
		return def, nil
	}
	n, err := strconv.ParseUint(v, 10, 63)
	if err != nil {
		return 0, adminapi.Invalid{Text: fmt.Sprintf("%s=%s is no number", key, clip(v))}
	}
	return n, nil
}

func (s *Server) at(r *http.Request, key string) (*registry.Snapshot, error) {
	if s.conf.Registry == nil {
		return nil, noRegistry
	}
	rev, err := number(r, key, s.conf.Registry.Snapshot().Rev)
	if err != nil {
		return nil, err
	}
	return s.conf.Registry.At(rev)
}

func (s *Server) export(r *http.Request) (any, error) {
	snap, err := s.at(r, "rev")
	if err != nil {
		return nil, err
	}
	head := fmt.Sprintf("# Hotdesk's registry, revision %d, from %s. Remarks like this one are lost at an import: use note= to keep them.\n", snap.Rev, s.conf.Host)
	return text(adminapi.AppendText([]byte(head), snap.Records())), nil
}

// maxHistory bounds a list of changes.
const maxHistory = 10_000

func (s *Server) history(r *http.Request) (any, error) {
	if s.conf.Registry == nil {
		return nil, noRegistry
	}
	n, err := number(r, "limit", 50)
	if err != nil || n == 0 || n > maxHistory {
		return nil, adminapi.Invalid{Text: fmt.Sprintf("limit= is from 1 to %d", maxHistory)}
	}
	all, err := s.conf.Registry.History(int(n))
	if all == nil {
		all = []adminapi.Change{}
	}
	return all, err
}

func (s *Server) diff(r *http.Request) (any, error) {
	from, err := s.at(r, "from")
	if err != nil {
		return nil, err
	}
	to, err := s.at(r, "to")
	if err != nil {
		return nil, err
	}
	return text(adminapi.DiffText(from.Records(), to.Records())), nil
}

func (s *Server) body(r *http.Request) ([]adminapi.Record, error) {
	if s.conf.Registry == nil {
		return nil, noRegistry
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	return adminapi.ParseText(b)
}

func (s *Server) wouldBe(r *http.Request) (any, error) {
	to, err := s.body(r)
	if err != nil {
		return nil, err
	}
	return text(adminapi.DiffText(s.conf.Registry.Snapshot().Records(), to)), nil
}

func (s *Server) load(r *http.Request) (any, error) {
	to, err := s.body(r)
	if err != nil {
		return nil, err
	}
	base, err := number(r, "base", 0)
	if err != nil {
		return nil, err
	}
	return s.change(r, fmt.Sprintf("registry import of %d records", len(to)), func(now *registry.Snapshot) ([]adminapi.Edit, error) {
		if base != 0 && base != now.Rev {
			return nil, registry.ErrConflict
		}
		return adminapi.Diff(now.Records(), to), nil
	})
}

func (s *Server) rollback(r *http.Request) (any, error) {
	var q adminapi.Rollback
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	if s.conf.Registry == nil {
		return nil, noRegistry
	}
	old, err := s.conf.Registry.At(q.Rev)
	if err != nil {
		return nil, err
	}
	return s.change(r, fmt.Sprintf("registry rollback %d", q.Rev), func(now *registry.Snapshot) ([]adminapi.Edit, error) {
		return adminapi.Diff(now.Records(), old.Records()), nil
	})
}

func (s *Server) adopt(r *http.Request) (any, error) {
	if s.conf.Adopt == nil {
		return nil, adminapi.Error{Code: adminapi.CodeConflict, Text: "this host is the registry already, or one of its voters, or runs without one"}
	}
	next, err := s.conf.Adopt()
	s.note(r, err, audit.Entry{What: audit.Admin, Text: "registry adopt"})
	return adminapi.Done{Text: next}, err
}

func (s *Server) accept(r *http.Request) (any, error) {
	if s.conf.Registry == nil {
		return nil, noRegistry
	}
	err := s.conf.Registry.Accept()
	s.note(r, err, audit.Entry{What: audit.Admin, Text: "registry accept"})
	return adminapi.Done{}, err
}

// watch tells at every news how the registry is, until the caller goes.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	if s.conf.Registry == nil {
		s.answer(w, nil, noRegistry)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	rc := http.NewResponseController(w)
	e := json.NewEncoder(w)
	for {
		news := s.conf.Registry.News()
		rc.SetWriteDeadline(time.Now().Add(headTime))
		if e.Encode(s.conf.Registry.Status()) != nil || rc.Flush() != nil {
			return
		}
		select {
		case <-news:
		case <-r.Context().Done():
			return
		}
	}
}
