package engine

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"hotdesk/groupmgr/member"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
)

// asksAtOnce lets the hosts ask for one new token, each after its time, over a
// network with random delays, and returns the hosts that make a session.
func asksAtOnce(t *testing.T, seed uint64, n int, busy bool, after func(*rand.Rand) time.Duration) map[string]bool {
	t.Helper()
	w := newWorld(t)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for i := range n {
		h := w.add(fmt.Sprintf("h%d", i), Config{}, fmt.Sprintf("10.0.0.%d", i+1))
		w.step(h, Hello{7000})
	}
	w.run(time.Second)
	if busy { // all but the last send new sessions away
		for _, h := range w.hosts[:n-1] {
			h.about.Busy = 900
			w.step(h, h.about)
		}
		w.run(25 * time.Second)
	}
	w.delay = func() time.Duration { return time.Duration(rnd.Int64N(int64(5 * time.Millisecond))) }
	begin := w.now
	at := make([]time.Duration, n)
	for i := range at {
		at[i] = after(rnd)
	}
	for {
		next := -1
		for i, d := range at {
			if d >= 0 && (next < 0 || d < at[next]) {
				next = i
			}
		}
		if next < 0 {
			break
		}
		if d := at[next] - w.now.Sub(begin); d > 0 {
			w.run(d)
		}
		at[next] = -1
		w.step(w.hosts[next], Ask{1, local.Lookup{Token: "card.1", Terminal: alp.TerminalID(fmt.Sprintf("0003ba0a0b%02x", next)), Addr: ip("10.0.0.50")}})
	}
	w.run(time.Second)
	makers := map[string]bool{}
	for i, h := range w.hosts {
		a, ok := h.answers[1]
		switch {
		case !ok:
			t.Errorf("seed %d: no answer at %s", seed, h.name)
		case a.Where == local.New:
			makers[h.name] = true
		case a.Where == local.There && a.Session == "":
			makers[a.Host] = true
			terminal := alp.TerminalID(fmt.Sprintf("0003ba0a0b%02x", i))
			for _, to := range w.hosts {
				if v := to.Verify(w.now, local.Verify{Props: a.Props, Token: "card.1", Terminal: terminal}); to.name == a.Host && !v.OK {
					t.Errorf("seed %d: %s", seed, v.Reason)
				}
			}
		default:
			t.Errorf("seed %d: %s got %+v", seed, h.name, a)
		}
	}
	return makers
}

// Hosts that are asked for the same new token in the same round trip make one
// session, whatever the order of their messages.
func TestOneSessionOfOneToken(t *testing.T) {
	runs := uint64(30)
	if os.Getenv("HOTDESK_LONG") != "" {
		runs = 2000
	}
	for name, tc := range map[string]struct {
		hosts int
		busy  bool
		after func(*rand.Rand) time.Duration
	}{
		"two at once":             {2, false, func(*rand.Rand) time.Duration { return 0 }},
		"two nearly at once":      {2, false, func(r *rand.Rand) time.Duration { return time.Duration(r.Int64N(int64(12 * time.Millisecond))) }},
		"three":                   {3, false, func(r *rand.Rand) time.Duration { return time.Duration(r.Int64N(int64(8 * time.Millisecond))) }},
		"six":                     {6, false, func(r *rand.Rand) time.Duration { return time.Duration(r.Int64N(int64(15 * time.Millisecond))) }},
		"two that send it away":   {3, true, func(r *rand.Rand) time.Duration { return time.Duration(r.Int64N(int64(8 * time.Millisecond))) }},
		"five that send it away":  {6, true, func(r *rand.Rand) time.Duration { return time.Duration(r.Int64N(int64(15 * time.Millisecond))) }},
		"one long after another ": {2, false, func(r *rand.Rand) time.Duration { return time.Duration(r.Int64N(int64(900 * time.Millisecond))) }},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range runs {
				if makers := asksAtOnce(t, seed, tc.hosts, tc.busy, tc.after); len(makers) != 1 {
					t.Fatalf("seed %d: sessions of one token on %v", seed, makers)
				}
			}
		})
	}
}

// The second terminal that is sent for a new session finds the first one's.
func TestSecondNewFindsTheFirst(t *testing.T) {
	w, a, b := two(t)
	a.about.Busy = 900
	w.step(a, a.about)
	got, _ := w.lookup(a, "card.1", "10.0.0.50")
	proof := local.Verify{Props: got.Props, Token: "card.1", Terminal: terminal}
	w.step(b, Report{[]local.Session{w.session(b, s2, "card.1", 0)}})
	if v := b.Verify(w.now, proof); v != (local.Verified{OK: true, Session: s2, New: true}) {
		t.Errorf("got %+v", v)
	}
	w.step(b, Report{nil})
	w.step(b, SetState{State: group.Offline})
	if v := b.Verify(w.now, proof); v.OK || v.Reason == "" {
		t.Errorf("a host that drains took a new session: %+v", v)
	}
	// It came back from there: the promise is void, a takes it.
	w.run(time.Second)
	if got, _ = w.lookup(a, "card.1", "10.0.0.50"); got.Where != local.New {
		t.Errorf("got %+v", got)
	}
}

// A drain: sessions stay and are found, new ones go elsewhere, terminals find
// the host only where nobody else is, and at the deadline it is down.
func TestDrain(t *testing.T) {
	w, a, b := two(t)
	w.step(b, Report{[]local.Session{w.session(b, s2, "card.1", 0)}})
	a.about.Busy = 900 // or else nobody would be sent away
	w.step(a, a.about)
	deadline := w.now.Add(time.Minute)
	w.step(b, SetState{State: group.Offline, Deadline: deadline})
	w.step(b, SetState{State: group.Offline, Deadline: deadline}) // no news
	w.run(time.Second)
	if got := b.states; len(got) != 1 || got[0] != (local.State{State: "offline", Deadline: deadline.Unix(), Sessions: 1}) {
		t.Fatalf("got %+v", got)
	}
	if table := a.Table(w.now, local.TableRequest{}); table.Hosts[1].State != "offline" {
		t.Fatalf("%s", table)
	}
	for _, h := range []*host{a, b} {
		if got, _ := w.lookup(h, "card.1", "10.0.0.50"); got.Session != s2 {
			t.Errorf("its session at %s: %+v", h.name, got)
		}
		if got, _ := w.lookup(h, alp.Token("card."+h.name), "10.0.0.50"); got.Host != "a" {
			t.Errorf("a new one at %s: %+v", h.name, got)
		}
	}
	question := Packet{From: addrPort("10.0.0.50:5000"), Data: group.ServerQ{Hardware: "Hotdesk", Terminal: terminal, ID: 5}.Append(nil)}
	var answered []string
	w.saw = func(from *host, d Datagram) {
		if group.Kind(d.Data) == group.CmdServerR {
			answered = append(answered, from.name)
		}
	}
	w.step(b, question)
	w.step(a, question)
	w.run(time.Second)
	if fmt.Sprint(answered) != "[a b]" {
		t.Errorf("answers of %v", answered)
	}
	w.run(time.Minute)
	if got := b.states[len(b.states)-1]; len(b.states) != 2 || got.State != "down" || got.Deadline != 0 {
		t.Errorf("after the deadline: %+v", b.states)
	}
	if got, _ := w.lookup(a, "card.1", "10.0.0.50"); got.Session != s2 {
		t.Errorf("its session while it is ended: %+v", got)
	}
	answered = nil
	w.step(b, question)
	w.run(time.Second)
	if answered != nil {
		t.Error("a host that is down answers terminals")
	}
	w.step(b, SetState{State: group.Online, Deadline: deadline})
	w.run(time.Second)
	if got := b.State(); got.State != "online" || got.Deadline != 0 {
		t.Errorf("got %+v", got)
	}
}

// goodbye stops h's group manager in good order.
func (w *world) goodbye(h *host) {
	w.perform(h, h.Goodbye(w.now.Add(h.skew)))
	w.cut[h.name] = true
	w.run(2 * time.Millisecond)
}

func TestGoodbye(t *testing.T) {
	w, a, b := two(t)
	w.step(b, Report{[]local.Session{w.session(b, s2, "card.1", 0)}})
	w.run(25 * time.Second)

	// Its gateway stays: it is waited for, and finds its session.
	w.goodbye(b)
	if table := a.Table(w.now, local.TableRequest{}); !table.Hosts[1].Stopped || !table.Hosts[1].Down {
		t.Fatalf("%s", table)
	}
	w.step(a, Ask{900, local.Lookup{Token: "card.1", Terminal: terminal, Addr: ip("10.0.0.50")}})
	w.run(500 * time.Millisecond)
	if got, ok := a.answers[900]; ok {
		t.Fatalf("did not wait: %+v", got)
	}
	w.cut["b"] = false
	w.start(b, Config{})
	w.step(b, Hello{7002})
	w.step(b, Report{[]local.Session{w.session(b, s2, "card.1", 0)}})
	w.run(10 * time.Millisecond)
	if got := a.answers[900]; got.Where != local.There || got.Session != s2 {
		t.Fatalf("after its return: %+v", got)
	}
	if _, took := w.lookup(a, "card.2", "10.0.0.50"); took > 5*time.Millisecond {
		t.Errorf("still waiting: %v", took)
	}

	// It does not come back: not for ever. What is here goes on at once.
	w.step(a, Report{[]local.Session{w.session(a, s1, "card.7", 0)}})
	w.goodbye(b)
	if got, took := w.lookup(a, "card.7", "10.0.0.50"); got.Where != local.Here || took > time.Millisecond {
		t.Errorf("got %+v after %v", got, took)
	}
	if got, took := w.lookup(a, "card.1", "10.0.0.50"); got.Where != local.New || took > restart+time.Millisecond {
		t.Errorf("got %+v after %v", got, took)
	}
	if got, took := w.lookup(a, "card.8", "10.0.0.50"); got.Where != local.New || took > time.Millisecond {
		t.Errorf("got %+v after %v", got, took)
	}

	// Its gateway went first: the host goes, and nothing waits.
	w.cut["b"] = false
	w.start(b, Config{})
	w.step(b, Hello{7002})
	w.run(time.Second)
	w.step(b, Lost{})
	w.goodbye(b)
	if got, took := w.lookup(a, "card.9", "10.0.0.50"); got.Where != local.New || took > time.Millisecond {
		t.Errorf("got %+v after %v", got, took)
	}
	var stopped int
	for _, n := range a.notices {
		if n.Kind == member.Stopped {
			stopped++
		}
	}
	if stopped != 3 {
		t.Errorf("%d notices", stopped)
	}
}

// A card that is an alias is sent for a new session of another token, and a bare
// terminal after its login for one of its user's: the place is promised to
// that token, and one that somebody else got meanwhile is found.
func TestNewSessionOfAnotherToken(t *testing.T) {
	for presented, token := range map[alp.Token]alp.Token{"card.9": "card.1", "pseudo." + alp.Token(terminal): "user.ann"} {
		w, a, b := two(t)
		q := local.Lookup{Token: token, Presented: presented, Hosts: []string{"b"}}
		proof := local.Verify{Props: w.asks(a, q).Props, Token: presented, Terminal: terminal}
		if v := b.Verify(w.now, proof); v != (local.Verified{OK: true}) {
			t.Fatalf("%+v", v)
		}
		if b.promised(w.now, token) != "b" || b.promised(w.now, presented) != "" {
			t.Errorf("what is promised is not a session of %s", token)
		}
		w.step(b, Report{[]local.Session{w.session(b, s2, token, 0)}})
		if v := b.Verify(w.now, proof); v != (local.Verified{OK: true, Session: s2, New: true}) {
			t.Errorf("%+v", v)
		}
	}
}
