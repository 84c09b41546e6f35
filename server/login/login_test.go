package login

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func text(actions []any) string {
	var all []string
	for _, a := range actions {
		switch a := a.(type) {
		case Show:
			var notes []string
			for _, n := range a.Page.Notes {
				notes = append(notes, n.Text)
			}
			all = append(all, fmt.Sprintf("show %d %s [%s] %s", a.Page.State, a.Page.User, strings.Join(notes, "|"), a.Page.Question))
		case Reply:
			all = append(all, fmt.Sprintf("reply %q", a.Answer))
		default:
			all = append(all, fmt.Sprintf("%T%v", a, a))
		}
	}
	return strings.ReplaceAll(strings.Join(all, "; "), "login.", "")
}

func noWait(time.Time, string) time.Duration { return 0 }

func TestConversations(t *testing.T) {
	type step struct {
		do   func(m *Machine, now time.Time) []any
		want string
	}
	submit := func(user, password string) func(*Machine, time.Time) []any {
		return func(m *Machine, now time.Time) []any { return m.Submit(now, user, []byte(password)) }
	}
	prompt := func(k Kind, s string) func(*Machine, time.Time) []any {
		return func(m *Machine, now time.Time) []any { return m.Prompt(now, k, s) }
	}
	answer := func(s string) func(*Machine, time.Time) []any {
		return func(m *Machine, now time.Time) []any { return m.Answer(now, []byte(s)) }
	}
	after := func(d time.Duration) func(*Machine, time.Time) []any {
		return func(m *Machine, now time.Time) []any { return m.Tick(now.Add(d)) }
	}
	passed := func(m *Machine, now time.Time) []any { return m.Passed(now, "ann") }
	wrong := func(m *Machine, now time.Time) []any { return m.Failed(now, "Wrong.", true) }
	cancel := func(m *Machine, now time.Time) []any { return m.Cancel(now) }
	for name, steps := range map[string][]step{
		"password": {
			{submit("ann", "pw"), "show 3 ann [] ; Start{ann}"},
			{prompt(Hidden, "Password: "), `reply "pw"`},
			{passed, "Enter{ann}"},
			{cancel, ""},
		},
		"second factor, and something to read": {
			{submit("ann", "pw"), "show 3 ann [] ; Start{ann}"},
			{prompt(Hidden, "Password: "), `reply "pw"`},
			{prompt(Shown, "Code:"), "show 4 ann [] Code:"},
			{answer("123"), `reply "123"; show 3 ann [] `},
			{prompt(Info, "Expires in 3 days."), `reply ""; show 3 ann [Expires in 3 days.] `},
			{passed, "show 5 ann [Expires in 3 days.] "},
			{answer(""), "Enter{ann}"},
		},
		"no password beforehand": {
			{submit("ann", ""), "show 3 ann [] ; Start{ann}"},
			{prompt(Hidden, "PIN"), "show 4 ann [] PIN"},
			{answer("1"), `reply "1"; show 3 ann [] `},
			{wrong, "Wrong{ann}; Stop{}; show 1 ann [Wrong.] "},
		},
		"the password is for the first hidden question alone": {
			{submit("ann", "pw"), "show 3 ann [] ; Start{ann}"},
			{prompt(Shown, "Realm:"), "show 4 ann [] Realm:"},
			{answer("x"), `reply "x"; show 3 ann [] `},
			{prompt(Hidden, "Password:"), `reply "pw"`},
			{prompt(Hidden, "New password:"), "show 4 ann [] New password:"},
		},
		"nothing was sent": {
			{submit("ann", "pw"), "show 3 ann [] ; Start{ann}"},
			{prompt(Problem, "The system is going down."), `reply ""; show 3 ann [The system is going down.] `},
			{wrong, "Stop{}; show 1 ann [The system is going down.|Wrong.] "},
		},
		"cancelled": {
			{submit("ann", "pw"), "show 3 ann [] ; Start{ann}"},
			{prompt(Shown, "Code:"), "show 4 ann [] Code:"},
			{cancel, "Stop{}; show 1 ann [] "},
			{passed, ""}, // too late
			{cancel, "Leave{}"},
		},
		"nobody answers": {
			{submit("ann", "pw"), "show 3 ann [] ; Start{ann}"},
			{prompt(Shown, "Code:"), "show 4 ann [] Code:"},
			{after(IdleWithin - 1), ""},
			{after(IdleWithin), "Stop{}; show 1  [Nobody answered. Please log in again.] "},
		},
		"nobody comes":          {{after(NamingWithin), "Leave{}"}},
		"modules that hang":     {{submit("ann", ""), "show 3 ann [] ; Start{ann}"}, {after(WorkWithin), "Stop{}; show 1 ann [The login took too long. Please try again.] "}},
		"a question at no time": {{prompt(Hidden, "Password"), ""}, {answer("x"), ""}, {passed, ""}},
	} {
		t.Run(name, func(t *testing.T) {
			m, first := New(noon, true, 0, noWait)
			if got := text(first); got != "show 1  [] " {
				t.Errorf("first %q", got)
			}
			for i, s := range steps {
				if got := text(s.do(m, noon)); got != s.want {
					t.Errorf("step %d: %q, want %q", i, got, s.want)
				}
			}
		})
	}
}

// A rule may have the user take less time, or more: on the first page where it
// gives way, and for each answer. A terminal without a card has nothing to give
// way to.
func TestLoginTime(t *testing.T) {
	for _, within := range []time.Duration{10 * time.Second, time.Hour} {
		m, _ := New(noon, true, within, noWait)
		if got := text(m.Tick(noon.Add(within - 1))); got != "" {
			t.Errorf("%v: too early: %q", within, got)
		}
		if got := text(m.Tick(noon.Add(within))); got != "Leave{}" {
			t.Errorf("%v: %q", within, got)
		}
		m, _ = New(noon, false, within, noWait)
		if !m.Next().IsZero() || text(m.Tick(noon.Add(24*time.Hour))) != "" {
			t.Errorf("%v: a terminal without a card gives way", within)
		}
		m.Submit(noon, "ann", []byte("pw"))
		m.Prompt(noon, Shown, "Code:")
		if got := text(m.Tick(noon.Add(within))); got != "Stop{}; show 1  [Nobody answered. Please log in again.] " {
			t.Errorf("%v: %q", within, got)
		}
	}
}

// What is held back is held back once, and wiped when it is not wanted.
func TestHolding(t *testing.T) {
	m, _ := New(noon, false, 0, func(time.Time, string) time.Duration { return 4 * time.Second })
	password := []byte("pw")
	if got := text(m.Submit(noon, "ann", password)); got != "show 2 ann [Too many attempts. This one waits 4 seconds.] " {
		t.Errorf("%q", got)
	}
	if got := text(m.Tick(noon.Add(4*time.Second - 1))); got != "" {
		t.Errorf("%q", got)
	}
	if got := text(m.Cancel(noon)); got != "Stop{}; show 1 ann [] " || string(password) != "\x00\x00" {
		t.Errorf("%q, %q", got, password)
	}
	m.Submit(noon, "ann", []byte("pw"))
	if got := text(m.Tick(noon.Add(4 * time.Second))); got != "show 3 ann [] ; Start{ann}" {
		t.Errorf("%q", got)
	}
	if !m.Next().Equal(noon.Add(4*time.Second + WorkWithin)) {
		t.Errorf("next %v", m.Next())
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{1: "a second", 1500 * time.Millisecond: "2 seconds", time.Minute: "60 seconds"} {
		if got := span(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestBackoff(t *testing.T) {
	b := NewBackoff()
	home := Source{"ann", "080020c0ffee", netip.MustParseAddr("10.0.0.7")}
	thief := Source{"ann", "080020c0ffee", netip.MustParseAddr("10.0.0.66")} // says that it is ann's terminal
	away := Source{"ann", "080020c0ffaa", netip.MustParseAddr("10.0.0.8")}
	b.Succeeded(noon, home)
	for i := range 1000 {
		b.Failed(noon, thief)
		if got := b.Wait(noon, home); got != 0 {
			t.Fatalf("after %d failures of a stranger the user waits %v at home", i+1, got)
		}
	}
	if got := b.Wait(noon, thief); got != MaxWait {
		t.Errorf("the stranger waits %v", got)
	}
	if got := b.Wait(noon, away); got != MaxStrange {
		t.Errorf("the user waits %v elsewhere", got)
	}
	if got := b.Wait(noon, Source{"bob", "x", thief.Addr}); got != MaxWait {
		t.Errorf("the stranger waits %v for another user", got)
	}
	b.Succeeded(noon, away)
	if got := b.Wait(noon, away); got != 0 {
		t.Errorf("%v where the user has just logged in", got)
	}

	var waits []time.Duration
	for range 10 {
		b.Failed(noon, home)
		waits = append(waits, b.Wait(noon, home))
	}
	want := "[0s 0s 1s 2s 4s 8s 16s 32s 1m0s 1m0s]"
	if got := fmt.Sprint(waits); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := b.Wait(noon.Add(59*time.Second), home); got != time.Second {
		t.Errorf("%v left", got)
	}
	if got := b.Wait(noon.Add(10*fade), home); got != 0 {
		t.Errorf("%v left after hours", got)
	}
	b.Succeeded(noon, home)
	if got := b.Wait(noon, home); got != 0 {
		t.Errorf("%v after a success", got)
	}
}

// Tables stay within their bounds, and users' own places go last.
func TestBounds(t *testing.T) {
	b := NewBackoff()
	home := Source{User: "ann", Terminal: "t"}
	b.Succeeded(noon, home)
	for i := range MaxPlaces - 5 { // what many failures leave, without their time
		addr := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		t := tally{failures: 1, last: noon.Add(time.Duration(i))}
		b.places[Source{fmt.Sprint("v", i), "t", addr}] = t
		if i < MaxUsers-5 {
			b.users[fmt.Sprint("v", i)] = t
			b.addrs[addr] = t
		}
	}
	for i := range 20 {
		addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		b.Failed(noon.Add(time.Duration(MaxPlaces+i)), Source{fmt.Sprint("u", i), "t", addr})
	}
	if len(b.places) != MaxPlaces || len(b.users) != MaxUsers || len(b.addrs) != MaxAddrs {
		t.Errorf("%d, %d, %d", len(b.places), len(b.users), len(b.addrs))
	}
	if b.places[home].usual.IsZero() {
		t.Error("strangers pushed out the user's own place")
	}
}
