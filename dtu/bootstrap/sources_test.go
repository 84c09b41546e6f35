package bootstrap

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hotdesk/protocol/group"
)

// learner is a machine beside a DHCP client, with the first network.
func learner(order []Source) *Machine {
	return New(Config{Servers: addrs("10.0.0.1:7443"), Broadcast: true, Learns: true, Order: order, Question: group.ServerQ{Terminal: me}})
}

func TestLearnedSources(t *testing.T) {
	m := learner(nil)
	now := start
	expect := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	expect("no network", text(m.Network(now, false)), "")
	expect("nothing yet", text(m.Locate(now, FromKnown)), "")
	if !m.Next().IsZero() {
		t.Error("waits for time to pass without a network")
	}
	expect("a network", text(m.Network(now, true)), "found [10.0.0.1:7443]")
	expect("DHCP is waited for", text(m.Locate(now, FromNext)), "")
	expect("what it names, but not what was tried", text(m.Learn(now, addrs("10.0.0.1:7443", "10.0.0.2:7443"))), "found [10.0.0.2:7443]")
	expect("then DNS", text(m.Locate(now, FromNext)), "resolve")
	expect("knows", text(m.Resolved(now, addrs("10.0.0.3:7443", "10.0.0.2:7443"))), "found [10.0.0.3:7443]")
	expect("then the network", text(m.Locate(now, FromNext)), "ask")
	expect("a late server is not waited for", text(m.Learn(now, addrs("10.0.0.2:7443", "10.0.0.4:7443"))), "found [10.0.0.4:7443]")
	expect("again", text(m.Locate(now, FromNext)), "")
	expect("the plug is out", text(m.Network(now, false)), "")
	expect("time passes", after(m, &now, time.Minute), "")
	expect("in again, from the start", text(m.Network(now, true)), "found [10.0.0.1:7443]")
	expect("DHCP is known now", text(m.Locate(now, FromNext)), "found [10.0.0.2:7443 10.0.0.4:7443]")
	expect("DNS is asked again", text(m.Locate(now, FromNext)), "resolve")
	expect("and does not answer", after(m, &now, ResolveWait), "ask")
}

func TestSilentDHCP(t *testing.T) {
	m := learner([]Source{DHCP, Configured})
	now := start
	if got := text(m.Locate(now, FromKnown)); got != "" {
		t.Errorf("%q", got)
	}
	if got := after(m, &now, LearnWait); got != "found [10.0.0.1:7443]" {
		t.Errorf("without DHCP: %q", got)
	}
}

func TestOrder(t *testing.T) {
	m := learner([]Source{DNS, Configured})
	now := start
	m.Took(netip.MustParseAddrPort("10.0.0.9:7443"))
	for i, want := range []string{"resolve", "found [10.0.0.1:7443]"} {
		got := ""
		if i == 0 {
			got = text(m.Locate(now, FromKnown))
		} else {
			got = text(m.Resolved(now, nil))
		}
		if got != want {
			t.Errorf("%d: %q, want %q", i, got, want)
		}
	}
	if got := text(m.Locate(now, FromNext)) + after(m, &now, 10*time.Second); got != "found [10.0.0.1:7443]" {
		t.Errorf("nobody is asked where that is no source: %q", got)
	}
	m = learner([]Source{Broadcast, Configured})
	if got := text(m.Locate(now, FromKnown)); got != "ask" {
		t.Errorf("%q", got)
	}
	answer(m, now, "10.0.0.3:7443")
	if got := after(m, &now, Gather); got != "found [10.0.0.3:7443]" {
		t.Errorf("%q", got)
	}
	if got := text(m.Locate(now, FromNext)); got != "found [10.0.0.1:7443]" {
		t.Errorf("after the broadcast: %q", got)
	}
}

// TestLearnerNeverSleeps: with a network a search goes on whatever DHCP and DNS
// do, and each ends with one Found (invariant 1).
func TestLearnerNeverSleeps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		order := slices.Clone(rapid.Permutation(Order).Draw(t, "order")[:rapid.IntRange(1, len(Order)).Draw(t, "sources")])
		if !slices.Contains(order, Configured) {
			order = append(order, Configured)
		}
		m := learner(order)
		now := start
		searching, up := false, true
		do := func(out []Action) {
			for _, a := range out {
				if f, ok := a.(Found); ok {
					if !searching || !up || len(f.Servers) == 0 {
						t.Fatalf("%v, searching %v, network %v", f, searching, up)
					}
					searching = false
				}
			}
		}
		servers := func(t *rapid.T) []netip.AddrPort {
			return addrs("10.0.0.2:7443", "10.0.0.3:7443", "10.0.0.4:7443")[:rapid.IntRange(0, 3).Draw(t, "servers")]
		}
		t.Repeat(map[string]func(*rapid.T){
			"locate": func(t *rapid.T) {
				searching = true
				do(m.Locate(now, From(rapid.IntRange(0, 2).Draw(t, "from"))))
			},
			"network": func(t *rapid.T) {
				up = rapid.Bool().Draw(t, "up")
				do(m.Network(now, up))
			},
			"learn":    func(t *rapid.T) { do(m.Learn(now, servers(t))) },
			"resolved": func(t *rapid.T) { do(m.Resolved(now, servers(t))) },
			"took": func(t *rapid.T) { // which ends the search
				m.Took(netip.MustParseAddrPort("10.0.0.7:7443"))
				searching = false
			},
			"time": func(t *rapid.T) {
				if next := m.Next(); !next.IsZero() {
					now = next
				} else if searching && up {
					t.Fatal("asleep while searching")
				}
				do(m.Tick(now))
			},
		})
	})
}
