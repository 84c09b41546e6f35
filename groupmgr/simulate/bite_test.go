package simulate

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"hotdesk/groupmgr/engine"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
)

// two is a group of two, at rest for longer than any excuse lasts, with a
// session of card.1 on north, and a rogue.
func two(t *testing.T) (s *Story, north, south, evil *Host) {
	t.Helper()
	s = NewStory(1)
	for _, l := range []string{
		"hosts north south on core lan1", "hosts other on core lan2", "rogue evil on lan1", "terminal t1 on lan1 knows north",
		"start", "after 2s", "insert card1 at t1", "after 25s", "expect t1 shows card1 on north",
	} {
		if _, err := s.Do(l); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.Broken) > 0 {
		t.Fatal(s.Broken)
	}
	return s, s.hosts[0], s.hosts[1], s.hosts[3]
}

// TestInvariantsBite: what the machines never do is noticed when it is done.
func TestInvariantsBite(t *testing.T) {
	ask := func(s *Story) *asked {
		return &asked{q: local.Lookup{Token: "card.1", Terminal: s.units[0].id, Addr: s.units[0].addr}, from: s.now}
	}
	for name, tc := range map[string]struct {
		do  func(s *Story, north, south, evil *Host)
		why string
	}{
		"token traffic to a rogue": {func(s *Story, north, _, evil *Host) {
			q := group.TokenQ{Stamp: group.Stamp{Host: "north", Time: 1, Boot: 1, Counter: 1}, Token: "card.1"}
			s.checkSend(north, engine.Datagram{To: netip.AddrPortFrom(evil.ifaces[0].IP, group.Port), Data: q.Append(nil)})
		}, "never shared a key"},
		"a second session": {func(s *Story, _, south, _ *Host) {
			s.checkNew(south, south, "card.1")
		}, "second session"},
		"a second session that nobody chose": {func(s *Story, _, south, _ *Host) {
			s.Do("terminal t2 on lan1 knows south")
			s.Do("start t2")
			s.Do("after 1s")
			u := s.units[1]
			p := &presentation{t: south.gw.terms[u.id], unit: u, token: "card.1", fresh: true}
			south.gw.here(p, south)
		}, "that nobody chose"},
		"a session where none may be": {func(s *Story, _, south, _ *Host) {
			s.Allow("card.2", "north")
			s.makeSession(south, "card.2")
		}, "which is for [north] alone"},
		"a place where none may be": {func(s *Story, north, _, _ *Host) {
			s.Allow("card.2", "north")
			a := ask(s)
			a.q.Token = "card.2"
			s.checkAnswer(north, a, local.Answer{Where: local.New, Host: "south"})
		}, "which is for [north] alone"},
		"says there is none": {func(s *Story, _, south, _ *Host) {
			s.checkAnswer(south, ask(s), local.Answer{Where: local.New, Host: "south"})
		}, "of which there is session 1"},
		"was told of one": {func(s *Story, _, south, _ *Host) {
			s.Cut("south", "north")
			a := ask(s)
			a.seen = "north"
			s.checkAnswer(south, a, local.Answer{Where: local.New, Host: "south"})
		}, "north told it of one"},
		"an old one for the newest": {func(s *Story, _, south, _ *Host) {
			old := s.makeSession(south, "card.1")
			old.lastAt = 0
			s.checkAnswer(south, ask(s), local.Answer{Where: local.Here, Host: "south", Session: old.id})
		}, "for the newest"},
		"out of the terminal's reach": {func(s *Story, _, south, _ *Host) {
			other := s.hosts[2]
			to := netip.AddrPortFrom(other.ifaces[0].IP, controlPort)
			s.checkAnswer(south, ask(s), local.Answer{Where: local.There, Host: "other", Session: "0000000000000001", Target: to})
		}, "cannot reach"},
		"to a rogue": {func(s *Story, _, south, evil *Host) {
			to := netip.AddrPortFrom(evil.ifaces[0].IP, controlPort)
			s.checkAnswer(south, ask(s), local.Answer{Where: local.There, Host: "evil", Session: "0000000000000001", Target: to})
		}, "to the rogue"},
		"disagreement": {func(s *Story, _, _, _ *Host) {
			s.Cut("south", "north")
			s.Run(Down + Period)
			s.Agree()
		}, "has south as trusted true, down true"},
		"a dead host that is up to all": {func(s *Story, north, _, _ *Host) {
			north.Crash()
			north.gmUntil = never
			s.Agree()
		}, "as up, which is off"},
		"two newest": {func(s *Story, _, south, _ *Host) {
			second := s.makeSession(south, "card.1") // its gateway does not know of it
			second.ready = true
			s.Run(time.Second)
			s.Rest()
		}, "for the newest of card.1"},
		"a terminal that waits for ever": {func(s *Story, north, _, _ *Host) {
			s.Do("terminal t2 on lan2 knows other")
			s.units[1].On()
			s.Cut("t2", "other")
			s.Run(time.Minute)
			s.Rest()
		}, "is still"},
		"a machine that spins": {func(s *Story, _, _, _ *Host) {
			a := alarm{at: -1}
			var tick func()
			tick = func() { a.set(s.World, 0, "it", func() bool { return true }, tick) }
			tick()
			s.Run(time.Second)
		}, "again and again"},
	} {
		t.Run(name, func(t *testing.T) {
			s, north, south, evil := two(t)
			tc.do(s, north, south, evil)
			if !slices.ContainsFunc(s.Broken, func(b string) bool { return strings.Contains(b, tc.why) }) {
				t.Errorf("nobody noticed: %q", s.Broken)
			}
		})
	}
}

// TestExcuses: where nobody can know, nothing is broken.
func TestExcuses(t *testing.T) {
	for name, lines := range map[string][]string{
		"cut":           {"cut south -> north"},
		"cut lately":    {"cut south - north", "after 1s", "mend", "after 10s"},
		"bad weather":   {"weather loss 30%"},
		"crashed":       {"crash group north"},
		"away for long": {"stop group north", "after 5s"},
		"no gateway":    {"stop gateway north", "after 5s"},
		"clock":         {"clock north -10m"},
		"key":           {"keys north : 7"},
	} {
		s, _, south, _ := two(t)
		for _, l := range lines {
			if _, err := s.Do(l); err != nil {
				t.Fatal(err)
			}
		}
		if s.checkNew(south, south, "card.1"); len(s.Broken) > 0 {
			t.Errorf("%s: %q", name, s.Broken)
		}
	}
}

// TestShrink: what remains is what breaks, and it breaks alike.
func TestShrink(t *testing.T) {
	lines := []string{
		"hosts north south on lan1", "hosts west on lan1", "terminal t1 on lan1", "start", "after 2s", "insert card1 at t1", "clock west +1s",
		"after 1s", "cut south -> north", "weather slow 1ms", "after 70s", "pull t1", "expect agreement", "after 1s",
	}
	short := Shrink(1, lines, 200)
	want := []string{"hosts north south on lan1", "start", "cut south -> north"} // all agree at the end of each
	if !slices.Equal(short, want) {
		t.Errorf("got %q", short)
	}
}

// TestSameAgain: a history is its seed.
func TestSameAgain(t *testing.T) {
	for seed := range uint64(8) {
		a, b := Told(seed, History(seed)), Told(seed, History(seed))
		if !slices.Equal(a, b) {
			for i := range a {
				if a[i] != b[i] {
					t.Fatalf("seed %d, line %d: %q, then %q", seed, i, a[i], b[i])
				}
			}
		}
	}
}

func TestWords(t *testing.T) {
	for _, l := range []string{
		"dance", "hosts", "hosts a", "hosts a on", "hosts north on lan1", "terminal t1 on", "terminal t9 in lan1", "terminal t9 on lan1 knows nobody",
		"start nobody", "kill t1", "crash north", "stop group t1", "insert card1 at nobody", "insert card1 t1", "insert card1", "pull north",
		"cut north", "cut north -> nobody", "partition north south", "weather rain 3%", "weather loss x", "weather slow x", "clock north", "clock north x",
		"clock t1 +1s", "keys north 1", "keys north : x", "keys north :", "keys nobody : 1", "replay x", "after", "after x", "table nobody",
		"allow card1", "allow card1 north", "state north", "state nobody online", "expect", "expect north has nobody up", "expect t1 shows card1 on south", "expect t1 says hello",
		"expect 2 sessions of card1", "expect nobody shows card1 on north", "expect nobody has north up",
	} {
		s, _, _, _ := two(t)
		if _, err := s.Do(l); err == nil {
			t.Errorf("%q: no error", l)
		}
	}
	s, _, _, _ := two(t)
	s.Tell()
	out, err := s.Do("table north")
	if err != nil || !slices.Contains(out, "north has evil: untrusted") || !slices.Contains(out, "north has south: up") {
		t.Errorf("%q, %v", out, err)
	}
	if out, err = s.Do(""); err != nil || out != nil {
		t.Errorf("%q, %v", out, err)
	}
}
