package bootstrap

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"hotdesk/protocol/group"

	"pgregory.net/rapid"
)

const me = "02005e000001"

var start = time.Unix(1e9, 0)

func addrs(s ...string) []netip.AddrPort {
	var a []netip.AddrPort
	for _, s := range s {
		a = append(a, netip.MustParseAddrPort(s))
	}
	return a
}

func text(out []Action) string {
	var words []string
	for _, a := range out {
		switch a := a.(type) {
		case Ask:
			words = append(words, "ask")
		case Resolve:
			words = append(words, "resolve")
		case Found:
			words = append(words, fmt.Sprint("found ", a.Servers))
		}
	}
	return strings.Join(words, " ")
}

// after lets time pass and returns what was done when.
func after(m *Machine, now *time.Time, d time.Duration) string {
	var words []string
	end := now.Add(d)
	for next := m.Next(); !next.IsZero() && !next.After(end); next = m.Next() {
		*now = next
		if out := text(m.Tick(next)); out != "" {
			words = append(words, out)
		}
	}
	*now = end
	return strings.Join(words, ", ")
}

func answer(m *Machine, now time.Time, server string) {
	s := netip.MustParseAddrPort(server)
	m.Answer(now, group.ServerR{Addr: s.Addr(), Port: int(s.Port()), Terminal: me, ID: m.id})
}

func TestSourcesInOrder(t *testing.T) {
	m := New(Config{Servers: addrs("10.0.0.1:7443"), Broadcast: true, Question: group.ServerQ{Terminal: me}})
	m.Took(netip.MustParseAddrPort("10.0.0.1:7443"))
	m.Took(netip.MustParseAddrPort("10.0.0.9:7443"))
	now := start
	expect := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	expect("configured first", text(m.Locate(now, FromKnown)), "found [10.0.0.1:7443]")
	expect("then the last list", text(m.Locate(now, FromNext)), "found [10.0.0.9:7443]")
	expect("then the network", text(m.Locate(now, FromNext)), "ask")
	answer(m, now, "10.0.0.3:7443")
	answer(m, now, "10.0.0.3:7443")
	answer(m, now, "10.0.0.2:7443")
	expect("answers are gathered", after(m, &now, Gather), "found [10.0.0.3:7443 10.0.0.2:7443]")
	expect("too soon to ask again", text(m.Locate(now, FromNext)), "")
	expect("asked again", after(m, &now, MinPause), "ask")
	expect("known ones between the questions", after(m, &now, time.Minute), "ask, found [10.0.0.1:7443 10.0.0.3:7443 10.0.0.2:7443 10.0.0.9:7443]")
	expect("from the start", text(m.Locate(now, FromKnown)), "found [10.0.0.1:7443]")
}

func TestFromNetwork(t *testing.T) {
	m := New(Config{Servers: addrs("10.0.0.1:7443"), Broadcast: true, Question: group.ServerQ{Terminal: me}})
	now := start
	if got := text(m.Locate(now, FromNetwork)); got != "ask" {
		t.Errorf("%q", got)
	}
	if got := after(m, &now, 10*time.Second); got != "ask, found [10.0.0.1:7443]" {
		t.Errorf("nobody answers: %q", got)
	}
}

// TestFromAll: a host is dead, and everybody who is known is to be tried.
func TestFromAll(t *testing.T) {
	m := New(Config{Servers: addrs("10.0.0.1:7443"), Broadcast: true, Question: group.ServerQ{Terminal: me}})
	m.Took(addrs("10.0.0.2:7443")[0])
	m.Heard(addrs("10.0.0.3:7443", "10.0.0.1:7443"))
	if got := text(m.Locate(start, FromAll)); got != "found [10.0.0.1:7443 10.0.0.2:7443 10.0.0.3:7443]" {
		t.Errorf("%q", got)
	}
	if got := text(m.Locate(start, FromNetwork)); got != "ask" {
		t.Errorf("nobody answered: %q", got)
	}
	if m.Took(addrs("10.0.0.1:7443")[0]); !m.Next().IsZero() {
		t.Error("the search goes on after a server took us")
	}
	if got := text(New(Config{Broadcast: true}).Locate(start, FromAll)); got != "ask" {
		t.Errorf("nobody known: %q", got)
	}
}

func TestNobodyThere(t *testing.T) {
	m := New(Config{Broadcast: true, Question: group.ServerQ{Terminal: me}})
	now := start
	out := text(m.Locate(now, FromKnown))
	if got := out + ", " + after(m, &now, 20*time.Second); strings.Count(got, "ask") < 6 || strings.Count(got, "ask") > 9 {
		t.Errorf("in 20 s: %s", got)
	}
}

func TestNoBroadcast(t *testing.T) {
	m := New(Config{Servers: addrs("10.0.0.1:7443")})
	now := start
	for i, want := range []string{"found [10.0.0.1:7443]", "found [10.0.0.1:7443]", ""} {
		if got := text(m.Locate(now, []From{FromKnown, FromNext, FromNext}[i])); got != want {
			t.Errorf("%d: %q, want %q", i, got, want)
		}
	}
	if got := after(m, &now, MaxPause); got != "found [10.0.0.1:7443]" {
		t.Errorf("later: %q", got)
	}
	if got := text(New(Config{}).Locate(now, FromKnown)); got != "" {
		t.Errorf("nothing to ask: %q", got)
	}
}

func TestForeignAnswers(t *testing.T) {
	m := New(Config{Broadcast: true, Question: group.ServerQ{Terminal: me}})
	now := start
	ask := m.Locate(now, FromKnown)[0].(Ask)
	good := group.ServerR{Addr: netip.MustParseAddr("10.0.0.2"), Port: 7443, Terminal: me, ID: ask.Question.ID}
	for name, spoil := range map[string]func(*group.ServerR){
		"another id":       func(r *group.ServerR) { r.ID++ },
		"another terminal": func(r *group.ServerR) { r.Terminal = "02005e000002" },
		"nowhere":          func(r *group.ServerR) { r.Addr = netip.IPv4Unspecified() },
		"multicast":        func(r *group.ServerR) { r.Addr = netip.MustParseAddr("224.0.0.1") },
		"no address":       func(r *group.ServerR) { r.Addr = netip.Addr{} },
	} {
		r := good
		spoil(&r)
		m.Answer(now, r)
		if m.answers != nil {
			t.Errorf("%s was taken", name)
		}
	}
	for i := range 2 * MaxServers {
		r := good
		r.Port += i
		m.Answer(now, r)
	}
	if got := m.Tick(now.Add(Gather)); len(got) != 1 || len(got[0].(Found).Servers) != MaxServers {
		t.Errorf("a flood of answers: %v", got)
	}
	m.Answer(now, good)
	if m.answers == nil || len(m.answers) != MaxServers {
		t.Error("an answer after the search was taken")
	}
}

// TestInvariants: whatever comes, questions keep their distance, a search gives
// at most one Found and does not fall asleep while there is somebody to ask.
func TestInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{Broadcast: rapid.Bool().Draw(t, "broadcast"), Question: group.ServerQ{Terminal: me}, Seed: rapid.Uint64().Draw(t, "seed")}
		if rapid.Bool().Draw(t, "configured") {
			cfg.Servers = addrs("10.0.0.1:7443")
		}
		m := New(cfg)
		now := start
		var asked time.Time
		searching := false
		do := func(out []Action) {
			for _, a := range out {
				switch a := a.(type) {
				case Ask:
					if !asked.IsZero() && now.Sub(asked) < MinPause {
						t.Fatalf("asked again after %v", now.Sub(asked))
					}
					asked = now
				case Found:
					if !searching || len(a.Servers) == 0 {
						t.Fatalf("%v, searching %v", a, searching)
					}
					searching = false
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"locate": func(t *rapid.T) {
				searching = true
				do(m.Locate(now, From(rapid.IntRange(0, int(FromAll)).Draw(t, "from"))))
			},
			"answer": func(t *rapid.T) {
				r := group.ServerR{Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(1, 40).Draw(t, "host"))}), Port: 7443, Terminal: me, ID: m.id}
				do(m.Answer(now, r))
			},
			"time": func(t *rapid.T) {
				if next := m.Next(); !next.IsZero() {
					now = next
				} else if searching && (cfg.Broadcast || len(cfg.Servers) > 0) {
					t.Fatal("asleep while searching")
				}
				do(m.Tick(now))
			},
			"took":  func(t *rapid.T) { searching = false; m.Took(netip.MustParseAddrPort("10.0.0.7:7443")) },
			"heard": func(t *rapid.T) { m.Heard(addrs("10.0.0.1:7443", "10.0.0.8:7443")) },
		})
	})
}

func TestSeedDecides(t *testing.T) {
	run := func() (out []Action) {
		m := New(Config{Broadcast: true, Question: group.ServerQ{Terminal: me}, Seed: 7})
		now := start
		out = m.Locate(now, FromKnown)
		for range 5 {
			out = append(out, m.Tick(m.Next())...)
		}
		return out
	}
	if a, b := run(), run(); !reflect.DeepEqual(a, b) {
		t.Errorf("%v and %v", a, b)
	}
}
