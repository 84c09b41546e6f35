package sessions

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(n int) time.Time { return epoch.Add(time.Duration(n) * time.Second) }

func id(n int) alp.SessionID { return alp.SessionID(fmt.Sprintf("%016x", n)) }

const a, b = alp.TerminalID("080020000001"), alp.TerminalID("080020000002")

func (t *Table) want(tb *testing.T, n int, state State, terminal alp.TerminalID, gen uint64) {
	tb.Helper()
	s, ok := t.Get(id(n))
	if !ok || s.State != state || s.Terminal != terminal || s.Gen != gen {
		tb.Errorf("session %d is %v at %q as %d, want %v at %q as %d", n, s.State, s.Terminal, s.Gen, state, terminal, gen)
	}
}

func TestLife(t *testing.T) {
	tab := New(2)
	if err := tab.Add(Session{ID: id(1), Token: "card.1", State: Starting, Last: at(1)}); err != nil {
		t.Fatal(err)
	}
	tab.want(t, 1, Starting, "", 0)
	tab.Up(id(1))
	tab.want(t, 1, Disconnected, "", 0)
	if before, ok := tab.Attached(id(1), a, 1, at(2)); !ok || before.State != Disconnected {
		t.Errorf("attached: %+v, %v", before, ok)
	}
	if before, ok := tab.Attached(id(1), b, 3, at(3)); !ok || before.Terminal != a || before.Gen != 1 {
		t.Errorf("attached elsewhere: %+v, %v", before, ok)
	}
	if _, ok := tab.Attached(id(1), a, 2, at(4)); ok {
		t.Error("an older attachment won")
	}
	if tab.Detached(id(1), 1) || tab.Detached(id(1), 4) || tab.Void(id(1), 2) {
		t.Error("another attachment's end ended this one")
	}
	tab.want(t, 1, Connected, b, 3)
	if s, ok := tab.At(b); !ok || s.ID != id(1) {
		t.Errorf("at b: %+v", s)
	}
	if !tab.Detached(id(1), 3) || tab.Detached(id(1), 3) {
		t.Error("detached")
	}
	tab.want(t, 1, Disconnected, "", 0)
	tab.Attached(id(1), a, 5, at(5))
	if !tab.Void(id(1), 9) {
		t.Error("void")
	}
	tab.want(t, 1, Disconnected, "", 0)

	if err := tab.Add(Session{ID: id(1)}); err == nil {
		t.Error("the same session twice")
	}
	if err := tab.Add(Session{ID: id(2), Token: "card.2", Last: at(1)}); err != nil {
		t.Error(err)
	}
	if err := tab.Add(Session{ID: id(3)}); !errors.Is(err, ErrFull) {
		t.Errorf("over the limit: %v", err)
	}
	if s, ok := tab.End(id(1)); !ok || s.ID != id(1) {
		t.Error("end")
	}
	if _, ok := tab.End(id(1)); ok {
		t.Error("ended twice")
	}
	for _, f := range []func() bool{
		func() bool { _, ok := tab.Get(id(1)); return ok },
		func() bool { _, ok := tab.Attached(id(1), a, 9, at(9)); return ok },
		func() bool { return tab.Detached(id(1), 9) },
		func() bool { return tab.Void(id(1), 9) },
		func() bool { _, ok := tab.Latest("card.1"); return ok },
	} {
		if f() {
			t.Error("a session that ended does something")
		}
	}
	tab.Up(id(1))
}

func TestLatest(t *testing.T) {
	tab := New(10)
	for n, last := range []int{5, 9, 9, 3} {
		if err := tab.Add(Session{ID: id(n), Token: "card.1", State: Disconnected, Last: at(last)}); err != nil {
			t.Fatal(err)
		}
	}
	if s, _ := tab.Latest("card.1"); s.ID != id(2) {
		t.Errorf("latest is %s", s.ID)
	}
	tab.Attached(id(3), a, 1, at(10))
	if s, _ := tab.Latest("card.1"); s.ID != id(3) {
		t.Errorf("latest is %s", s.ID)
	}
	if _, ok := tab.Latest("card.2"); ok {
		t.Error("a session of a token that has none")
	}
	// A terminal shows one session.
	tab.Attached(id(0), a, 1, at(11))
	tab.want(t, 3, Disconnected, "", 0)
	tab.want(t, 0, Connected, a, 1)
}

func TestReport(t *testing.T) {
	tab := New(local.MaxSessions + 10)
	if r := tab.Report(at(9999)); r.Sessions == nil || len(r.Sessions) != 0 {
		t.Errorf("empty: %+v", r)
	}
	for n := range local.MaxSessions + 10 {
		if err := tab.Add(Session{ID: id(n), Token: "card.1", State: Disconnected, Last: at(n)}); err != nil {
			t.Fatal(err)
		}
	}
	tab.Attached(id(3), a, 1, at(9999))
	r := tab.Report(at(9999))
	if err := r.Check(); err != nil {
		t.Error(err)
	}
	if len(r.Sessions) != local.MaxSessions || r.Sessions[0] != (local.Session{ID: id(3), Token: "card.1", Connected: true, Last: at(9999).UnixMilli()}) {
		t.Errorf("%d sessions, first %+v", len(r.Sessions), r.Sessions[0])
	}
	if r.Sessions[1].ID != id(local.MaxSessions+9) || r.Sessions[1].Connected {
		t.Errorf("second %+v", r.Sessions[1])
	}
}

// TestInvariants: whatever is said in whatever order, a terminal shows one
// session and a session is at one terminal.
func TestInvariants(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	tab := New(8)
	for step := range 5000 {
		n, gen := rng.IntN(10), uint64(rng.IntN(6))
		terminal := []alp.TerminalID{a, b}[rng.IntN(2)]
		switch rng.IntN(7) {
		case 0:
			_ = tab.Add(Session{ID: id(n), Token: "card.1", State: Starting, Last: at(step)}) // there, or full
		case 1:
			tab.Up(id(n))
		case 2, 3:
			tab.Attached(id(n), terminal, gen, at(step))
		case 4:
			tab.Detached(id(n), gen)
		case 5:
			tab.Void(id(n), gen)
		case 6:
			tab.End(id(n))
		}
		shows := map[alp.TerminalID]alp.SessionID{}
		for _, s := range tab.All() {
			if (s.State == Connected) != (s.Terminal != "") {
				t.Fatalf("seed %d step %d: %+v", seed, step, s)
			}
			if other := shows[s.Terminal]; s.Terminal != "" && other != "" {
				t.Fatalf("seed %d step %d: %s shows %s and %s", seed, step, s.Terminal, other, s.ID)
			}
			shows[s.Terminal] = s.ID
		}
	}
}
