package engine

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"hotdesk/groupmgr/member"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
)

func TestFigure9b(t *testing.T) {
	w, a, b := two(t)
	// No session anywhere: a new one, where the terminal is (box 915).
	if got, _ := w.lookup(a, "card.1", "10.0.0.50"); got.Where != local.New || got.Host != "a" {
		t.Fatalf("got %+v", got)
	}
	w.step(a, Report{[]local.Session{w.session(a, s1, "card.1", 0)}})
	// Asked here: here (914).
	got, took := w.lookup(a, "card.1", "10.0.0.50")
	if got.Where != local.Here || got.Session != s1 {
		t.Fatalf("got %+v", got)
	}
	if took > 5*time.Millisecond {
		t.Errorf("took %v though everybody answered", took)
	}
	// Asked there: redirect (922), with a proof that holds there and nowhere else.
	got, _ = w.lookup(b, "card.1", "10.0.0.50")
	if got.Where != local.There || got.Session != s1 || got.Host != "a" || got.Target.String() != "10.0.0.1:7001" {
		t.Fatalf("got %+v", got)
	}
	good := local.Verify{Props: got.Props, Token: "card.1", Terminal: terminal}
	if v := a.Verify(w.now, good); !v.OK || v.Session != s1 {
		t.Fatalf("got %+v", v)
	}
	for name, tc := range map[string]struct {
		h     *host
		v     local.Verify
		later time.Duration
		why   string
	}{
		"wrong host":     {b, good, 0, "for host a"},
		"wrong terminal": {a, local.Verify{Props: got.Props, Token: "card.1", Terminal: "0003ba0a0b0d"}, 0, "another terminal"},
		"wrong token":    {a, local.Verify{Props: got.Props, Token: "card.2", Terminal: terminal}, 0, "another token"},
		"old":            {a, good, 8 * time.Second, "too old"},
		"no proof":       {a, local.Verify{Token: "card.1", Terminal: terminal}, 0, "bad message"},
	} {
		if v := tc.h.Verify(w.now.Add(tc.later), tc.v); v.OK || v.Session != "" || !strings.Contains(v.Reason, tc.why) {
			t.Errorf("%s: got %+v", name, v)
		}
	}
	// A session on both: the latest connection wins.
	w.step(a, Report{[]local.Session{w.session(a, s1, "card.1", 10*time.Minute)}})
	w.step(b, Report{[]local.Session{w.session(b, s2, "card.1", time.Minute)}})
	if got, _ = w.lookup(a, "card.1", "10.0.0.50"); got.Where != local.There || got.Session != s2 {
		t.Errorf("got %+v", got)
	}
	if got, _ = w.lookup(b, "card.1", "10.0.0.50"); got.Where != local.Here || got.Session != s2 {
		t.Errorf("got %+v", got)
	}
}

func TestClocksApart(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", Config{}, "10.0.0.1")
	b := w.add("b", Config{}, "10.0.0.2")
	b.skew = 4 * time.Minute
	w.start(b, Config{})
	w.step(a, Hello{7001})
	w.step(b, Hello{7002})
	w.run(time.Second)
	w.step(a, Report{[]local.Session{w.session(a, s1, "card.1", time.Minute)}})
	w.step(b, Report{[]local.Session{w.session(b, s2, "card.1", 2*time.Minute)}}) // later by its clock, earlier in truth
	got, _ := w.lookup(b, "card.1", "10.0.0.50")
	if got.Where != local.There || got.Session != s1 {
		t.Fatalf("got %+v", got)
	}
	if v := a.Verify(w.now, local.Verify{Props: got.Props, Token: "card.1", Terminal: terminal}); !v.OK {
		t.Fatalf("a proof of a clock that is ahead by %v: %+v", b.skew, v)
	}
	if table := a.Table(w.now, local.TableRequest{}); table.Hosts[1].TimeOff != 240 {
		t.Errorf("%s", table)
	}
}

// Token traffic goes to trusted hosts only, whatever others say.
func TestUntrustedGetsNothing(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", Config{}, "10.0.0.1")
	w.add("b", Config{}, "10.0.0.2")
	rogue := w.add("rogue", Config{Ring: ring(2)}, "10.0.0.3")
	w.step(a, Hello{7001})
	w.step(rogue, Hello{7003})
	w.saw = func(from *host, d Datagram) {
		if k := group.Kind(d.Data); (k == group.CmdTokenQ || k == group.CmdTokenR) && (from == rogue || d.To.Addr() == ip("10.0.0.3")) {
			t.Errorf("%s sent %s to %v", from.name, k, d.To)
		}
	}
	w.run(time.Second)
	w.step(rogue, Report{[]local.Session{w.session(rogue, s2, "card.1", 0)}})
	if got, _ := w.lookup(a, "card.1", "10.0.0.50"); got.Where != local.New {
		t.Errorf("got %+v", got)
	}
	if got, _ := w.lookup(rogue, "card.2", "10.0.0.50"); got.Where != local.New || got.Host != "rogue" {
		t.Errorf("got %+v", got)
	}
	table := a.Table(w.now, local.TableRequest{})
	if n := len(table.Hosts); n != 3 || table.Hosts[2].Host != "rogue" || table.Hosts[2].Trusted || !strings.Contains(table.Hosts[2].Why, "key") {
		t.Errorf("%s", table)
	}
	// A question with the right words and another key is not answered either.
	q := ring(2).Sign(group.TokenQ{Stamp: group.Stamp{Host: "b", Time: w.now.Unix(), Boot: 1, Counter: 1}, ID: 1, Token: "card.1"}.Append(nil), group.SHA1)
	if out := a.Step(w.now, Packet{From: netip.MustParseAddrPort("10.0.0.3:7009"), Data: q}); len(out.Send) > 0 || len(out.Notices) != 1 {
		t.Errorf("got %+v", out)
	}
}

// A question of a trusted host that is played again is not answered.
func TestReplayedQuestion(t *testing.T) {
	w, a, b := two(t)
	var question Datagram
	w.saw = func(from *host, d Datagram) {
		if from == a && group.Kind(d.Data) == group.CmdTokenQ {
			question = d
		}
	}
	w.lookup(a, "card.1", "10.0.0.50")
	out := b.Step(w.now, Packet{From: netip.MustParseAddrPort("10.0.0.1:7009"), Data: question.Data})
	if len(question.Data) == 0 || len(out.Send) > 0 {
		t.Fatalf("answered %+v", out)
	}
}

func TestSilentHost(t *testing.T) {
	w, a, b := two(t)
	w.step(b, Report{[]local.Session{w.session(b, s2, "card.1", 0)}})
	w.run(time.Second)
	w.cut["b"] = true
	got, took := w.lookup(a, "card.2", "10.0.0.50")
	if got.Where != local.New || took < 149*time.Millisecond || took > 151*time.Millisecond {
		t.Fatalf("got %+v after %v", got, took)
	}
	// Now it is suspect: not waited for, not given new sessions.
	if _, took = w.lookup(a, "card.3", "10.0.0.50"); took > time.Millisecond {
		t.Errorf("took %v", took)
	}
	if table := a.Table(w.now, local.TableRequest{}); !table.Hosts[1].Suspect {
		t.Errorf("%s", table)
	}
	// Heard again, it counts again.
	w.cut["b"] = false
	w.run(20 * time.Second)
	if got, _ = w.lookup(a, "card.1", "10.0.0.50"); got.Where != local.There || got.Session != s2 {
		t.Errorf("got %+v", got)
	}
	// Silent for a minute, it is down.
	w.cut["b"] = true
	w.run(61 * time.Second)
	if _, took = w.lookup(a, "card.4", "10.0.0.50"); took > time.Millisecond {
		t.Errorf("took %v", took)
	}
	if !slices.ContainsFunc(a.notices, func(n member.Notice) bool { return n.Kind == member.Down && n.Host == "b" }) {
		t.Errorf("notices %+v", a.notices)
	}
}

// A group manager that has just started must not answer "new" before it had a
// chance to hear the others.
func TestStartWaitsForTheGroup(t *testing.T) {
	w := newWorld(t)
	b := w.add("b", Config{}, "10.0.0.2")
	w.step(b, Hello{7002})
	w.run(5 * time.Second)
	w.step(b, Report{[]local.Session{w.session(b, s2, "card.1", 0)}})
	a := w.add("a", Config{}, "10.0.0.1")
	w.step(a, Hello{7001})
	got, took := w.lookup(a, "card.1", "10.0.0.50")
	if got.Where != local.There || got.Session != s2 || took > Settle+5*time.Millisecond {
		t.Fatalf("got %+v after %v", got, took)
	}
}

// Whoever starts while others run knows them at once, not after a period.
func TestNewcomerIsToldAtOnce(t *testing.T) {
	w, _, _ := two(t)
	w.run(3 * time.Second)
	c := w.add("c", Config{}, "10.0.0.3")
	w.run(3 * time.Millisecond)
	if table := c.Table(w.now, local.TableRequest{}); len(table.Hosts) != 3 || !table.Hosts[1].Trusted || table.Hosts[2].Control != 7002 {
		t.Fatalf("%s", table)
	}
}

func TestRestartOfAGroupManager(t *testing.T) {
	w, a, b := two(t)
	w.run(30 * time.Second)
	w.start(b, Config{})
	w.step(b, Hello{7012})
	w.step(b, Report{[]local.Session{w.session(b, s2, "card.1", 0)}})
	w.run(time.Second)
	if got, _ := w.lookup(a, "card.1", "10.0.0.50"); got.Where != local.There || got.Target.Port() != 7012 {
		t.Fatalf("got %+v", got)
	}
}

// What a gateway reported outlives its connection for the time of a restart.
func TestGatewayAway(t *testing.T) {
	w, a, b := two(t)
	w.step(b, Report{[]local.Session{w.session(b, s2, "card.1", 0)}})
	w.step(b, Lost{})
	w.run(4 * time.Second)
	if got, _ := w.lookup(a, "card.1", "10.0.0.50"); got.Where != local.There {
		t.Fatalf("after 4 s: %+v", got)
	}
	w.step(b, Hello{7002})
	w.run(10 * time.Second)
	if got, _ := w.lookup(a, "card.1", "10.0.0.50"); got.Where != local.There {
		t.Fatalf("after its return: %+v", got)
	}
	w.step(b, Lost{})
	w.run(6 * time.Second)
	if got, _ := w.lookup(a, "card.1", "10.0.0.50"); got.Where != local.New {
		t.Fatalf("after 6 s: %+v", got)
	}
	if got, _ := w.lookup(a, "card.9", "10.0.0.50"); got.Host != "a" {
		t.Fatalf("a host without gateway was given a session: %+v", got)
	}
}

// Between "new" and the report, others hear of the promise: no second session.
func TestPromises(t *testing.T) {
	w, a, b := two(t)
	if got, _ := w.lookup(a, "card.1", "10.0.0.50"); got.Where != local.New {
		t.Fatalf("got %+v", got)
	}
	got, _ := w.lookup(b, "card.1", "10.0.0.50")
	if got.Where != local.There || got.Host != "a" || got.Session != "" {
		t.Fatalf("got %+v", got)
	}
	if v := a.Verify(w.now, local.Verify{Props: got.Props, Token: "card.1", Terminal: terminal}); !v.OK || v.Session != "" {
		t.Fatalf("got %+v", v)
	}
	if got, _ = w.lookup(a, "card.1", "10.0.0.50"); got.Where != local.New {
		t.Fatalf("asked again: %+v", got)
	}
	// A promise that nobody kept is forgotten.
	w.run(15 * time.Second)
	if got, _ = w.lookup(b, "card.1", "10.0.0.50"); got.Where != local.New || got.Host != "b" {
		t.Fatalf("got %+v", got)
	}
}

// A busy host sends a new session to an idle one, and says the same again.
func TestNewThere(t *testing.T) {
	w, a, b := two(t)
	a.about.Busy = 900
	w.step(a, a.about)
	for range 2 {
		got, _ := w.lookup(a, "card.1", "10.0.0.50")
		if got.Where != local.There || got.Host != "b" || got.Session != "" {
			t.Fatalf("got %+v", got)
		}
		if v := b.Verify(w.now, local.Verify{Props: got.Props, Token: "card.1", Terminal: terminal}); !v.OK {
			t.Fatalf("got %+v", v)
		}
		if got, _ = w.lookup(b, "card.1", "10.0.0.50"); got.Where != local.New {
			t.Fatalf("got %+v", got)
		}
	}
}

func TestUnreachable(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", Config{}, "10.0.0.1", "10.0.1.1")
	b := w.add("b", Config{}, "10.0.0.2", "10.0.2.2") // shares 10.0.0.0/24 with a only
	w.step(a, Hello{7001})
	w.step(b, Hello{7002})
	w.run(time.Second)
	w.step(b, Report{[]local.Session{w.session(b, s2, "card.1", 0)}})
	got, _ := w.lookup(a, "card.1", "10.0.1.50")
	if got.Where != local.Unreachable || got.Host != "b" || got.Session != s2 || got.Reason == "" || got.Props != "" {
		t.Errorf("got %+v", got)
	}
	// On the shared subnet, and behind a router, it is reached.
	if got, _ = w.lookup(a, "card.1", "10.0.0.50"); got.Target.String() != "10.0.0.2:7002" {
		t.Errorf("got %+v", got)
	}
	if got, _ = w.lookup(a, "card.1", "172.16.0.1"); got.Target.String() != "10.0.0.2:7002" {
		t.Errorf("got %+v", got)
	}
}

func TestOfflineAndFull(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", Config{State: group.Offline}, "10.0.0.1")
	b := w.add("b", Config{Limit: 1}, "10.0.0.2")
	w.step(a, Hello{7001})
	w.step(b, Hello{7002})
	w.run(time.Second)
	if got, _ := w.lookup(a, "card.1", "10.0.0.50"); got.Where != local.There || got.Host != "b" {
		t.Errorf("offline: %+v", got)
	}
	w.step(a, Report{[]local.Session{w.session(a, s1, "card.3", 0)}})
	if got, _ := w.lookup(a, "card.3", "10.0.0.50"); got.Where != local.Here {
		t.Errorf("offline, its own session: %+v", got)
	}
	w.step(b, Report{[]local.Session{w.session(b, s2, "card.1", 0)}})
	w.run(2 * time.Second)
	if got, _ := w.lookup(b, "card.2", "10.0.0.50"); got.Where != local.Refused || !strings.Contains(got.Reason, "1 full, 1 offline") {
		t.Errorf("full: %+v", got)
	}
}

// At any rate that terminals come, no host gets much more than its share
// because all believe the same stale figures.
func TestSpread(t *testing.T) {
	for _, entry := range []string{"one gateway", "all gateways"} {
		t.Run(entry, func(t *testing.T) {
			w := newWorld(t)
			sessions := map[string][]local.Session{}
			for i := range 10 {
				h := w.add(fmt.Sprintf("h%d", i), Config{}, fmt.Sprintf("10.0.0.%d", i+1))
				w.step(h, Hello{7000})
			}
			w.run(time.Second)
			for i := range 100 {
				h := w.hosts[0]
				if entry == "all gateways" {
					h = w.hosts[i*7%10]
				}
				token := alp.Token(fmt.Sprintf("card.%d", i))
				got, _ := w.lookup(h, token, "10.0.0.50")
				if got.Where != local.New && got.Where != local.There {
					t.Fatalf("got %+v", got)
				}
				to := w.hosts[slices.IndexFunc(w.hosts, func(h *host) bool { return h.name == got.Host })]
				sessions[to.name] = append(sessions[to.name], w.session(to, alp.SessionID(fmt.Sprintf("%016x", i)), token, 0))
				w.step(to, Report{slices.Clone(sessions[to.name])})
				w.run(300 * time.Millisecond)
			}
			most := 0
			for _, s := range sessions {
				most = max(most, len(s))
			}
			if most > 15 {
				t.Errorf("one host got %d of 100 sessions for 10 hosts", most)
			}
		})
	}
}

func TestServerQ(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", Config{}, "10.0.0.1", "10.0.1.1")
	w.run(time.Second)
	ask := func(from string, size int) []Datagram {
		q := group.ServerQ{Hardware: "Hotdesk", Terminal: terminal, ID: 5}.Append(nil)
		if size > 0 {
			q = []byte("serverQ sn=" + string(terminal) + " id=0000000000000005")
		}
		return a.Step(w.now, Packet{From: netip.MustParseAddrPort(from), Data: q}).Send
	}
	if out := ask("10.0.1.50:5000", 0); len(out) > 0 {
		t.Fatalf("answered without a gateway: %+v", out)
	}
	w.step(a, Hello{7443})
	for from, want := range map[string]string{"10.0.0.50:5000": "10.0.0.1", "10.0.1.50:5000": "10.0.1.1", "172.16.0.9:5000": "10.0.0.1"} {
		out := ask(from, 0)
		if len(out) != 1 || out[0].To.String() != from {
			t.Fatalf("got %+v", out)
		}
		r, err := group.ParseServerR(out[0].Data)
		if err != nil || r != (group.ServerR{Addr: ip(want), Port: 7443, Terminal: terminal, ID: 5, Host: "a"}) {
			t.Errorf("%s: got %+v, %v", from, r, err)
		}
	}
	for _, from := range []string{"224.0.0.1:5000", "0.0.0.0:5000", "10.0.0.51:0", "[::1]:5000"} {
		if out := ask(from, 0); len(out) > 0 {
			t.Errorf("answered to %s", from)
		}
	}
	if out := ask("10.0.0.52:5000", 1); len(out) > 0 {
		t.Error("the answer is longer than the question")
	}
	// A flood of one source gets a few answers a second, others still theirs.
	n := 0
	for range 1000 {
		n += len(ask("10.0.0.53:5000", 0))
	}
	if n != sourceBurst || len(ask("10.0.0.54:5000", 0)) != 1 {
		t.Errorf("%d answers to a flood", n)
	}
	// Forged sources of other networks use up what there is for those. Who is on
	// ours does not notice.
	n = 0
	for i := range 3 * maxSources {
		n += len(ask(fmt.Sprintf("10.3.%d.%d:5000", i/250, i%250+1), 0))
	}
	if len(a.far.sources) != maxSources || len(a.far.order) != maxSources || n != farRate-1 || len(ask("10.0.0.55:5000", 0)) != 1 {
		t.Errorf("%d sources, %d answers", len(a.far.sources), n)
	}
	// So many a second that all are remembered, for ever: who comes newly is
	// answered, also from there, and the other bound holds.
	n = 0
	for i := range 20 * maxSources {
		w.now = w.now.Add(2 * time.Second / maxSources)
		n += len(ask(fmt.Sprintf("10.3.%d.%d:5000", i%maxSources/250, i%250+1), 0))
	}
	if most := farRate * (1 + 20*2); n > most || n < most*9/10 {
		t.Errorf("%d answers, at most %d", n, most)
	}
	w.now = w.now.Add(time.Second / farRate)
	if len(ask("10.4.0.1:5000", 0)) != 1 {
		t.Error("no answer to who comes newly in a flood")
	}
}

func TestTooManyLookups(t *testing.T) {
	w, a, b := two(t)
	w.cut["b"] = true
	_ = b
	for i := range MaxLookups + 1 {
		w.step(a, Ask{uint64(1000 + i), local.Lookup{Token: alp.Token(fmt.Sprintf("card.%d", i)), Terminal: terminal, Addr: ip("10.0.0.50")}})
	}
	if got := a.answers[1000+MaxLookups]; got.Where != local.Refused {
		t.Fatalf("got %+v", got)
	}
	w.run(time.Second)
	for i := range MaxLookups {
		if got := a.answers[uint64(1000+i)]; got.Where != local.New {
			t.Fatalf("%d: %+v", i, got)
		}
	}
}

func TestTablePages(t *testing.T) {
	w := newWorld(t)
	for i := range 60 {
		w.add(fmt.Sprintf("h%02d", i), Config{}, fmt.Sprintf("10.0.0.%d", i+1))
	}
	w.run(time.Second)
	var names []string
	for {
		page := w.hosts[7].Table(w.now, local.TableRequest{After: len(names)})
		for _, h := range page.Hosts {
			names = append(names, h.Host)
			if !h.Trusted || len(h.Interfaces) != 1 || h.Interfaces[0].LastPkt < 0 {
				t.Errorf("%+v", h)
			}
		}
		if !page.More {
			break
		}
	}
	if len(names) != 60 || names[0] != "h07" || !slices.IsSortedFunc(names[1:], cmp.Compare[string]) {
		t.Errorf("%v", names)
	}
	for _, after := range []int{-5, 60, 1000} {
		if page := w.hosts[0].Table(w.now, local.TableRequest{After: after}); page.More && after > 0 {
			t.Errorf("after %d: %+v", after, page)
		}
	}
}

// Garbage changes nothing and is not answered.
func FuzzPacket(f *testing.F) {
	r := ring(1)
	stamp := group.Stamp{Host: "b", Time: 1700000000, Boot: 7, Counter: 1}
	for _, m := range [][]byte{
		group.Host{Name: "b", Addr: ip("10.0.0.2"), Time: 1700000000, State: group.Online, Boot: 7, Counter: 1}.Append(nil),
		group.TokenQ{Stamp: stamp, ID: 1, Token: "card.1"}.Append(nil),
		group.TokenR{Stamp: stamp, To: "a", ID: 1, Token: "card.1"}.Append(nil),
		group.ServerQ{Hardware: "Hotdesk", Terminal: terminal, ID: 1}.Append(nil),
		group.ServerR{Addr: ip("10.0.0.2"), Port: 7443, Terminal: terminal, Host: "b"}.Append(nil),
	} {
		f.Add(m)
		f.Add(r.Sign(m, group.SHA1))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		w := newWorld(t)
		a := w.add("a", Config{}, "10.0.0.1")
		w.step(a, Hello{7443})
		out := a.Step(w.now, Packet{From: netip.MustParseAddrPort("10.0.0.2:7009"), Data: data})
		for _, d := range out.Send {
			if k := group.Kind(d.Data); k != group.CmdServerR && k != group.CmdHost || k == group.CmdServerR && len(d.Data) > len(data) {
				t.Fatalf("answered %q by %q", data, d.Data)
			}
		}
		a.Tick(w.now.Add(time.Second))
	})
}
