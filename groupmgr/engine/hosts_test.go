package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
)

// asks has h answer any lookup, and waits for that.
func (w *world) asks(h *host, q local.Lookup) local.Answer {
	w.t.Helper()
	if q.Terminal == "" {
		q.Terminal, q.Addr = terminal, ip("10.0.0.77")
	}
	if err := q.Check(); err != nil {
		w.t.Fatal(err)
	}
	h.ids++
	w.step(h, Ask{h.ids, q})
	for range 3000 {
		if a, ok := h.answers[h.ids]; ok {
			return a
		}
		w.run(time.Millisecond)
	}
	w.t.Fatalf("%s: no answer for %s", h.name, q.Token)
	return local.Answer{}
}

// A new session is placed where its user may have one, though another host is
// nearer, or has more to give; what exists is found wherever it is.
func TestHostsOfAPolicy(t *testing.T) {
	for name, tc := range map[string]struct {
		hosts  []string
		want   local.Want
		before func(w *world, north, south, east *host)
		where  local.Where
		host   string
		reason string
	}{
		"any":                                   {nil, "", nil, local.New, "north", ""},
		"here":                                  {[]string{"north"}, "", nil, local.New, "north", ""},
		"here, though busy":                     {[]string{"nor*"}, "", func(w *world, n, s, e *host) { n.about.Busy = 900; w.step(n, n.about) }, local.New, "north", ""},
		"another":                               {[]string{"south"}, "", nil, local.There, "south", ""},
		"another, though busy":                  {[]string{"s*"}, "", func(w *world, n, s, e *host) { s.about.Busy = 900; w.step(s, s.about); w.run(21 * time.Second) }, local.There, "south", ""},
		"the better of two":                     {[]string{"south", "east"}, "", func(w *world, n, s, e *host) { s.about.Busy = 900; w.step(s, s.about); w.run(21 * time.Second) }, local.There, "east", ""},
		"one that is there, of two":             {[]string{"south", "east"}, "", func(w *world, n, s, e *host) { w.step(s, SetState{State: group.Offline}); w.run(time.Second) }, local.There, "east", ""},
		"none that is there":                    {[]string{"west", "far*"}, "", nil, local.Refused, "", "you may have a session on west, far*: no server that you may use can be reached from here"},
		"none of very many":                     {slices.Repeat([]string{strings.Repeat("w", 50)}, local.MaxHosts), "", nil, local.Refused, "", ", " + strings.Repeat("w", 50) + " and 62 more: no server that you may use can be reached from here"},
		"one that is offline":                   {[]string{"south"}, "", func(w *world, n, s, e *host) { w.step(s, SetState{State: group.Offline}); w.run(time.Second) }, local.Refused, "", "that you may use is offline"},
		"none, but there is a session":          {[]string{"west"}, "", func(w *world, n, s, e *host) { w.has(e) }, local.There, "east", ""},
		"another, but there is a session here":  {[]string{"south"}, "", func(w *world, n, s, e *host) { w.has(n) }, local.Here, "north", ""},
		"another, but there is a session there": {[]string{"south"}, "", func(w *world, n, s, e *host) { w.has(e) }, local.There, "east", ""},
		"promised here to others":               {[]string{"south"}, "", func(w *world, n, s, e *host) { w.asks(n, local.Lookup{Token: "card.1"}) }, local.There, "south", ""},
		"promised there to others":              {[]string{"south"}, "", func(w *world, n, s, e *host) { w.asks(e, local.Lookup{Token: "card.1"}) }, local.There, "south", ""},
		"promised, and allowed":                 {[]string{"south", "east"}, "", func(w *world, n, s, e *host) { w.asks(e, local.Lookup{Token: "card.1"}) }, local.There, "east", ""},
		"chosen here":                           {[]string{"north"}, local.WantNew, nil, local.New, "north", ""},
		"chosen here in vain":                   {[]string{"south"}, local.WantNew, nil, local.Refused, "", "you may have a session on south: no server that you may use"},
		"away from here":                        {[]string{"south"}, local.WantHost, nil, local.There, "south", ""},
		"away from here in vain":                {[]string{"north"}, local.WantHost, nil, local.Refused, "", "no other server can be reached"},
		"before a login, any":                   {nil, local.WantPlace, nil, local.New, "north", ""},
		"before a login":                        {[]string{"east"}, local.WantPlace, nil, local.There, "east", ""},
		"before a login, in vain":               {[]string{"west"}, local.WantPlace, nil, local.Refused, "", "you may have a session on west"},
		"before a login, from a busy host":      {[]string{"*th"}, local.WantPlace, func(w *world, n, s, e *host) { n.about.Busy = 900; w.step(n, n.about) }, local.There, "south", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			n, s, e := w.add("north", Config{}, "10.0.0.1"), w.add("south", Config{}, "10.0.0.2"), w.add("east", Config{}, "10.0.0.3")
			for _, h := range w.hosts {
				w.step(h, Hello{7000})
			}
			w.run(time.Second)
			if tc.before != nil {
				tc.before(w, n, s, e)
			}
			held := n.promised(w.now, "card.1")
			a := w.asks(n, local.Lookup{Token: "card.1", Want: tc.want, Hosts: tc.hosts})
			if a.Where != tc.where || tc.host != "" && a.Host != tc.host || !strings.Contains(a.Reason, tc.reason) {
				t.Errorf("got %+v", a)
			}
			if tc.want == local.WantPlace && n.promised(w.now, "card.1") != held {
				t.Error("a session was promised")
			}
		})
	}
}

// has gives a host a session of card.1.
func (w *world) has(h *host) {
	w.step(h, Report{[]local.Session{w.session(h, s1, "card.1", time.Hour)}})
}

// Who is sent on after a login, having been placed before with the rights that
// anybody has, is not held to the place of before: neither by the host that
// sent, nor by the one that took.
func TestPlacedAnewAfterALogin(t *testing.T) {
	const card = alp.Token("card.1")
	w, a, b := two(t)
	sent := w.asks(a, local.Lookup{Token: card, Hosts: []string{"b"}})
	if v := b.Verify(w.now, local.Verify{Props: sent.Props, Token: card, Terminal: terminal}); !v.OK || v.Session != "" {
		t.Fatalf("%+v", v)
	}
	back := w.asks(b, local.Lookup{Token: card, Hosts: []string{"a"}, User: "ann", Proven: "piv"})
	if back.Where != local.There || back.Host != "a" || back.Session != "" {
		t.Fatalf("%+v", back)
	}
	if v := a.Verify(w.now, local.Verify{Props: back.Props, Token: card, Terminal: terminal}); v != (local.Verified{OK: true, User: "ann", Proven: "piv"}) {
		t.Fatalf("%+v", v)
	}
	if got := w.asks(a, local.Lookup{Token: card, Hosts: []string{"a"}, User: "ann"}); got.Where != local.New {
		t.Errorf("%+v", got)
	}
}

// Who may not be on some hosts is placed on none of them, whatever is asked for.
// Sessions are found there all the same.
func TestAccess(t *testing.T) {
	deny, allow := func(host string) local.Access { return local.Access{Host: host, Deny: true} }, func(host string) local.Access { return local.Access{Host: host} }
	for name, tc := range map[string]struct {
		access []local.Access
		hosts  []string
		want   local.Want
		where  local.Where
		host   string
	}{
		"not here":                  {[]local.Access{deny("north")}, []string{"north", "east"}, "", local.There, "east"},
		"nowhere":                   {[]local.Access{deny("*")}, nil, "", local.Refused, ""},
		"the first counts":          {[]local.Access{allow("east"), deny("*")}, nil, "", local.There, "east"},
		"and not a later one":       {[]local.Access{deny("*th"), allow("north"), deny("east")}, nil, "", local.Refused, ""},
		"before a login":            {[]local.Access{deny("*th")}, nil, local.WantPlace, local.There, "east"},
		"to wait for a card":        {[]local.Access{deny("*th")}, nil, local.WantHost, local.There, "east"},
		"no other to wait for one":  {[]local.Access{allow("north"), deny("*")}, nil, local.WantHost, local.Refused, ""},
		"one that hosts= leaves":    {[]local.Access{deny("south")}, []string{"*th"}, "", local.New, "north"},
		"none that hosts= leaves":   {[]local.Access{deny("south")}, []string{"south"}, "", local.Refused, ""},
		"in place of another, here": {[]local.Access{deny("north")}, nil, local.WantNew, local.Refused, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			n := w.add("north", Config{}, "10.0.0.1")
			w.add("south", Config{}, "10.0.0.2")
			w.add("east", Config{}, "10.0.0.3")
			for _, h := range w.hosts {
				w.step(h, Hello{7000})
			}
			w.run(time.Second)
			a := w.asks(n, local.Lookup{Token: "card.1", Want: tc.want, Hosts: tc.hosts, Access: tc.access})
			if a.Where != tc.where || tc.host != "" && a.Host != tc.host || a.Session != "" {
				t.Errorf("got %+v", a)
			}
		})
	}
	w, a, b := two(t)
	w.has(b)
	if got := w.asks(a, local.Lookup{Token: "card.1", Access: []local.Access{deny("b")}}); got.Where != local.There || got.Session != s1 {
		t.Errorf("%+v", got)
	}
}

// All sessions of a token are named to a user who may choose, and the chosen
// one is gone to, whichever was shown last.
func TestSessionsOfTheGroup(t *testing.T) {
	w := newWorld(t)
	n, s, e := w.add("north", Config{}, "10.0.0.1"), w.add("south", Config{}, "10.0.0.2"), w.add("east", Config{}, "10.0.0.3")
	for _, h := range w.hosts {
		w.step(h, Hello{7000})
	}
	w.run(time.Second)
	const s3, s4 = alp.SessionID("3333333333333333"), alp.SessionID("4444444444444444")
	shown := w.session(e, s3, "card.1", time.Minute)
	shown.Connected = true
	w.step(n, Report{[]local.Session{w.session(n, s1, "card.1", 2*time.Minute)}})
	w.step(s, Report{[]local.Session{w.session(s, s2, "card.1", 3*time.Minute), w.session(s, s4, "card.2", 0)}})
	w.step(e, Report{[]local.Session{shown}})
	q := local.Lookup{Token: "card.1", Terminal: terminal, Addr: ip("10.0.0.77"), Presented: "card.9", User: "ann", Proven: "pin"}
	got := w.asks(n, q)
	want := []local.Elsewhere{{Host: "east", Session: s3, Connected: true, Last: shown.Last}, {Host: "south", Session: s2, Last: shown.Last - 120000}}
	for i := range got.Others { // answers are a millisecond on their way
		if d := got.Others[i].Last - want[min(i, 1)].Last; d > 0 && d < 10 {
			got.Others[i].Last -= d
		}
	}
	if got.Where != local.There || got.Session != s3 || !slices.Equal(got.Others, want) {
		t.Errorf("%+v", got)
	}
	q.Want, q.Session, q.Host = local.WantSession, s2, "south"
	got = w.asks(n, q)
	if got.Where != local.There || got.Session != s2 || got.Host != "south" || got.Target.String() != "10.0.0.2:7000" {
		t.Errorf("%+v", got)
	}
	if v := s.Verify(w.now, local.Verify{Props: got.Props, Token: "card.9", Terminal: terminal}); v != (local.Verified{OK: true, Session: s2, User: "ann", Proven: "pin"}) {
		t.Errorf("%+v", v)
	}
	for _, nobody := range []string{"north", "west"} {
		q.Host = nobody
		if got = w.asks(n, q); got.Where != local.Refused || got.Reason == "" {
			t.Errorf("%s: %+v", nobody, got)
		}
	}
	// The list is bounded, by the latest.
	var many []local.Session
	for i := range 9 {
		many = append(many, w.session(s, alp.SessionID(fmt.Sprintf("%016x", i)), "card.3", time.Duration(i+1)*time.Minute))
	}
	w.step(s, Report{many})
	for i := range 4 {
		h := w.add(fmt.Sprintf("more%d", i), Config{}, fmt.Sprintf("10.0.0.%d", 10+i))
		w.step(h, Hello{7000})
		w.run(5 * time.Second)
		w.step(h, Report{many})
	}
	q = local.Lookup{Token: "card.3"}
	if got = w.asks(n, q); len(got.Others) != local.MaxOthers || got.Others[0].Last < got.Others[31].Last {
		t.Errorf("%d sessions: %+v", len(got.Others), got.Others)
	}
}
