package engine

import (
	"testing"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
)

// want asks h for something other than a session, and has the answer at once.
func (w *world) want(h *host, token alp.Token, want local.Want) local.Answer {
	w.t.Helper()
	h.ids++
	sent := len(w.queue)
	w.step(h, Ask{h.ids, local.Lookup{Token: token, Terminal: terminal, Addr: ip("10.0.0.77"), Want: want}})
	a, ok := h.answers[h.ids]
	if !ok || len(w.queue) != sent {
		w.t.Fatalf("%s for %s: answer %v, %d questions", want, token, ok, len(w.queue)-sent)
	}
	return a
}

// TestWantNew: who chose a session here gets one whatever others have, and
// others hear of it; but not from a host that takes none.
func TestWantNew(t *testing.T) {
	w, a, b := two(t)
	w.step(b, Report{Sessions: []local.Session{w.session(b, s1, "card.1", time.Minute)}})
	if got := w.want(a, "card.1", local.WantNew); got.Where != local.New || got.Host != "a" {
		t.Errorf("%+v", got)
	}
	if f := a.own(w.now, "card.1", true); len(f) != 1 || f[0].State != group.Starting {
		t.Errorf("others are told %+v", f)
	}
	w.step(a, SetState{State: group.Offline})
	if got := w.want(a, "card.2", local.WantNew); got.Where != local.Refused || got.Reason == "" {
		t.Errorf("offline: %+v", got)
	}
	full := w.add("c", Config{Limit: 1}, "10.0.0.3")
	w.step(full, Hello{7003})
	w.run(5 * time.Second)
	w.step(full, Report{Sessions: []local.Session{w.session(full, s2, "card.3", 0)}})
	if got := w.want(full, "card.2", local.WantNew); got.Where != local.Refused || got.Reason == "" {
		t.Errorf("full: %+v", got)
	}
}

// TestWantHost: a terminal without a session goes to any host that works, and
// takes no room from sessions there.
func TestWantHost(t *testing.T) {
	w, a, b := two(t)
	c := w.add("c", Config{}, "10.0.0.3")
	w.step(c, Hello{7003})
	w.run(time.Second)
	count := map[string]int{}
	for range 100 {
		got := w.want(a, "pseudo.080020c0ffee", local.WantHost)
		if got.Where != local.There || got.Session != "" || got.Props == "" {
			t.Fatalf("%+v", got)
		}
		count[got.Host]++
	}
	if count["b"] < 25 || count["c"] < 25 || count["a"] > 0 {
		t.Errorf("100 terminals went to %v", count)
	}
	if a.promised(w.now, "pseudo.080020c0ffee") != "" {
		t.Error("a session was promised")
	}
	w.step(b, SetState{State: group.Offline})
	w.cut["c"] = true
	w.run(90 * time.Second)
	if got := w.want(a, "pseudo.080020c0ffee", local.WantHost); got.Where != local.Refused || got.Reason == "" {
		t.Errorf("none is left: %+v", got)
	}
}

// Another session, chosen beside one that is there, is a new one, and counts
// with its host.
func TestAnotherSession(t *testing.T) {
	w, a, b := two(t)
	w.step(b, Report{[]local.Session{w.session(b, s2, "card.1", 0)}})
	for another, want := range map[bool]local.Verified{false: {OK: true, Session: s2, New: true}, true: {OK: true, Another: true}} {
		got := w.asks(a, local.Lookup{Token: "card.1", Want: local.WantPlace, Hosts: []string{"b"}, Another: another})
		if got.Where != local.There || got.Host != "b" || got.Session != "" {
			t.Errorf("%+v", got)
		}
		if v := b.Verify(w.now, local.Verify{Props: got.Props, Token: "card.1", Terminal: terminal}); v != want {
			t.Errorf("%+v, want %+v", v, want)
		}
	}
	if n := b.total(w.now); n != 2 {
		t.Errorf("%d sessions, one of them about to be", n)
	}
}
