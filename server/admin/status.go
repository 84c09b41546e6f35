package admin

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/group/local"
	"hotdesk/protocol/rpc"
)

// Bounds of what status finds worth a warning.
const (
	clockApart = 2 // seconds between two hosts
	certSoon   = 60 * 24 * time.Hour
)

// status is how this host does, with what an admin should look at.
func (s *Server) status(r *http.Request) (any, error) {
	out := adminapi.Status{Host: s.conf.Host, Version: s.conf.Version, Time: time.Now().UTC().Truncate(time.Millisecond), Warnings: []string{}}
	if s.conf.Cert != nil {
		out.Authority, out.CertUntil = s.conf.Cert()
	}
	warn := func(format string, a ...any) { out.Warnings = append(out.Warnings, fmt.Sprintf(format, a...)) }
	if all, err := s.conf.Desk.Sessions(r.Context()); err != nil {
		warn("sessions: %v", err)
	} else {
		out.Sessions = len(all)
	}
	if all, err := s.conf.Desk.Terminals(r.Context()); err != nil {
		warn("terminals: %v", err)
	} else {
		for _, t := range all {
			if t.Connected {
				out.Terminals++
			}
		}
	}
	if s.conf.Registry != nil {
		out.Registry = s.conf.Registry.Status()
		if !out.Registry.Connected {
			warn("registry: away since %s, changes wait: %s", out.Registry.Since.UTC().Format(time.RFC3339), out.Registry.Error)
		}
	}
	if err := s.conf.Audit.Err(); err != nil {
		warn("audit: the last entry could not be written: make room on its disk: %v", err)
	}
	if left := time.Until(out.CertUntil); !out.CertUntil.IsZero() && left < certSoon {
		warn("certificate: it ends in %d days: server renews it by itself where the host with the authority's key can be asked: see to that, or join again with `hotdesk setup join`", int(left/(24*time.Hour)))
	}
	var g local.Status
	if err := s.ask(r.Context(), func(ctx context.Context, c *rpc.Conn) error { return c.Call(ctx, local.OpStatus, nil, &g) }); err != nil {
		warn("group: %v", err)
		return out, nil
	}
	out.Group = &g
	t, err := s.group(r.Context())
	if err != nil {
		warn("group: %v", err)
		return out, nil
	}
	for _, h := range t.Hosts[min(1, len(t.Hosts)):] {
		switch {
		case h.Duplicate != "":
			warn("host %s: %s", h.Host, h.Duplicate)
		case !h.Trusted:
			warn("host %s at %s is not trusted: %s", h.Host, h.Addr, cmp.Or(h.Why, "its key is another one"))
		case h.Down && !h.Stopped:
			warn("host %s: nothing was heard of it for %d s", h.Host, h.LastSeen)
		case h.TimeOff < -clockApart || h.TimeOff > clockApart:
			warn("host %s: its clock is %+d s off this one's: set both by the same time server", h.Host, h.TimeOff)
		}
	}
	s.alike(r.Context(), warn)
	return out, nil
}

// names are the accounts that should be alike on all hosts: of users with a
// session here and of registered ones, in that order, up to the bound.
func (s *Server) names(ctx context.Context) (all []string, left int) {
	seen := map[string]bool{"": true}
	add := func(name string) {
		if !seen[name] && len(name) <= adminapi.MaxReason {
			seen[name] = true
			all = append(all, name)
		}
	}
	if rows, err := s.conf.Desk.Sessions(ctx); err == nil {
		for _, x := range rows {
			add(x.User)
		}
	}
	if s.conf.Registry != nil {
		for _, r := range s.conf.Registry.Snapshot().Records() {
			switch r.Kind {
			case adminapi.KindUser:
				add(r.Name)
			case adminapi.KindToken:
				add(r.Fields["user"])
			}
		}
	}
	n := min(len(all), adminapi.MaxNames)
	return all[:n], len(all) - n
}

// alike warns of hosts that are another version, or know users otherwise.
func (s *Server) alike(ctx context.Context, warn func(string, ...any)) {
	names, left := s.names(ctx)
	parts, missing, err := everywhere(ctx, s, "", func() (adminapi.Facts, error) { return s.facts(ctx, names), nil },
		func(ctx context.Context, r remote) (f adminapi.Facts, err error) {
			err = s.askPeer(ctx, r, PeerWithin, "POST", "/facts", adminapi.FactsRequest{Names: names}, &f)
			return f, err
		})
	if err != nil {
		warn("group: %v", err)
		return
	}
	for _, m := range missing {
		if !strings.HasPrefix(m.Why, "nothing was heard") { // said already
			warn("host %s: its version and users are not known: %s", m.Host, m.Why)
		}
	}
	i := slices.IndexFunc(parts, func(p part[adminapi.Facts]) bool { return p.host == s.conf.Host })
	for j, p := range parts {
		if j != i {
			for _, w := range differ(parts[i].val, p.host, p.val) {
				warn("%s", w)
			}
		}
	}
	if left > 0 && len(parts) > 1 {
		warn("accounts: %d were compared, %d more were not", len(names), left)
	}
}

// maxNamed is how many users one warning names.
const maxNamed = 3

// differ says what is not alike on this host and another one.
func differ(here adminapi.Facts, host string, there adminapi.Facts) (out []string) {
	if here.Version != there.Version {
		out = append(out, fmt.Sprintf("host %s runs version %.60s, this one %.60s: upgrade the older one", host, there.Version, here.Version))
	}
	mine := map[string]adminapi.Account{}
	for _, a := range here.Accounts {
		mine[a.Name] = a
	}
	kinds := []struct {
		next string
		said []string
	}{
		{next: "make the account there, or take users on all hosts from one directory"},
		{next: "make the account here, or take users on all hosts from one directory"},
		{next: "give the user the same uid everywhere, and the files to it"},
		{next: "have the home at the same place everywhere"},
		{next: "mount the same homes on all hosts, or keep these users on one host"},
	}
	for _, b := range there.Accounts {
		a, ok := mine[b.Name]
		if !ok {
			continue
		}
		k, text := -1, ""
		switch {
		case a.UID < 0 && b.UID < 0:
			continue
		case b.UID < 0:
			k, text = 0, "is not known there"
		case a.UID < 0:
			k, text = 1, "is known there, and not here"
		case a.UID != b.UID:
			k, text = 2, fmt.Sprintf("has uid %d there, %d here", b.UID, a.UID)
		case a.Home != b.Home:
			k, text = 3, fmt.Sprintf("has the home %.60s there, %.60s here", b.Home, a.Home)
		case a.Dir != 0 && b.Dir != 0 && a.Dir != b.Dir:
			k, text = 4, fmt.Sprintf("has another directory as %.60s there", b.Home)
		default:
			continue
		}
		kinds[k].said = append(kinds[k].said, fmt.Sprintf("%.60s %s", b.Name, text))
	}
	for _, k := range kinds {
		if n := len(k.said); n > 0 {
			text := strings.Join(k.said[:min(n, maxNamed)], "; ")
			if n > maxNamed {
				text += fmt.Sprintf("; so have %d more users", n-maxNamed)
			}
			out = append(out, fmt.Sprintf("host %s: %s: %s", host, text, k.next))
		}
	}
	return out
}
