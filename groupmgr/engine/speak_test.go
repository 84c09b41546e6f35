package engine

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"hotdesk/groupmgr/member"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
)

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// One end that is told of the other is enough, over routers and for ever.
func TestPeers(t *testing.T) {
	w := newWorld(t)
	w.routed = true
	a := w.add("a", Config{Peers: []netip.AddrPort{addrPort("10.0.2.1:7009"), addrPort("10.0.9.9:7009")}}, "10.0.1.1")
	b := w.add("b", Config{}, "10.0.2.1")
	w.step(a, Hello{7001})
	w.step(b, Hello{7002})
	w.run(time.Second)
	w.step(b, Report{[]local.Session{w.session(b, s2, "card.1", 0)}})
	for range 10 {
		w.run(30 * time.Second)
		if got, _ := w.lookup(a, "card.1", "10.0.1.50"); got.Where != local.There || got.Session != s2 {
			t.Fatalf("at a: %+v", got)
		}
		if got, _ := w.lookup(b, "card.1", "10.0.2.50"); got.Where != local.Here {
			t.Fatalf("at b: %+v", got)
		}
	}
	for _, h := range []*host{a, b} {
		if slices.ContainsFunc(h.notices, func(n member.Notice) bool { return n.Kind == member.Down }) {
			t.Errorf("%s: %+v", h.name, h.notices)
		}
	}
	want := []local.Peer{{Addr: "10.0.2.1:7009", Host: "b", Configured: true}, {Addr: "10.0.9.9:7009", LastSeen: -1, Configured: true}}
	if got := a.Status(w.now).Peers; !slices.Equal(got, want) {
		t.Errorf("a: %+v", got)
	}
	if got := b.Status(w.now).Peers; len(got) != 1 || got[0].Addr != "10.0.1.1:7009" || got[0].Host != "a" || got[0].Configured {
		t.Errorf("b: %+v", got)
	}
}

// A host that was told of nobody finds those who know it at once after a
// restart, or it would make second sessions until they speak again.
func TestLearnedPeersOutliveARestart(t *testing.T) {
	w := newWorld(t)
	w.routed = true
	a := w.add("a", Config{Peers: []netip.AddrPort{addrPort("10.0.2.1:7009")}}, "10.0.1.1")
	b := w.add("b", Config{}, "10.0.2.1")
	w.step(a, Hello{7001})
	w.step(a, Report{[]local.Session{w.session(a, s1, "card.1", 0)}})
	w.run(time.Minute)
	learned := b.Learned(w.now)
	if !slices.Equal(learned, []netip.AddrPort{addrPort("10.0.1.1:7009")}) {
		t.Fatalf("learned %v", learned)
	}
	w.run(5 * time.Second) // between two periods
	w.start(b, Config{Learned: learned})
	w.step(b, Hello{7002})
	if got, took := w.lookup(b, "card.1", "10.0.2.50"); got.Session != s1 || took > Settle+5*time.Millisecond {
		t.Errorf("got %+v after %v", got, took)
	}
}

// Each interface has its multicast; hosts of one subnet find each other by it
// alone.
func TestMulticast(t *testing.T) {
	w := newWorld(t)
	c := Config{NoBroadcast: true, Multicast: ip("239.255.70.9")}
	sent := map[string]int{}
	w.saw = func(from *host, d Datagram) {
		if from.name == "a" && group.Kind(d.Data) == group.CmdHost {
			sent[d.From.String()+" "+d.To.Addr().String()]++
		}
	}
	a := w.add("a", c, "10.0.0.1", "10.0.1.1")
	b := w.add("b", c, "10.0.1.2")
	w.run(5 * time.Minute)
	for _, h := range []*host{a, b} {
		if table := h.Table(w.now, local.TableRequest{}); len(table.Hosts) != 2 || !table.Hosts[1].Trusted || table.Hosts[1].Down {
			t.Errorf("%s: %s", h.name, table)
		}
	}
	// Of 3 + 14 messages one also went to b alone, when it was new.
	if sent["10.0.0.1 239.255.70.9"] != 17 || sent["10.0.1.1 239.255.70.9"] != 17 || sent["invalid IP 10.0.1.2"] != 1 || len(sent) != 3 {
		t.Errorf("sent %v", sent)
	}
	if s := a.Status(w.now); s.Multicast != "239.255.70.9" || s.Broadcast || len(s.Peers) != 0 {
		t.Errorf("got %+v", s)
	}
}

// An answer comes from the address that was asked, so that it passes filters
// and the asker's check.
func TestAnswersComeFromWhereTheQuestionWent(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", Config{}, "10.0.0.1", "10.0.1.1")
	b := w.add("b", Config{}, "10.0.0.2")
	w.run(time.Second)
	q := func() []byte {
		m := group.TokenQ{Stamp: b.table.Stamp(w.now), ID: 1, Token: "card.1", Ticket: 1}
		return b.sign(m.Append(nil))
	}
	for to, want := range map[string]netip.Addr{"10.0.1.1": ip("10.0.1.1"), "10.0.0.1": ip("10.0.0.1"), "10.0.0.255": {}, "239.255.70.9": {}} {
		out := a.Step(w.now, Packet{From: addrPort("10.0.0.2:7009"), To: ip(to), Data: q()})
		if len(out.Send) != 1 || out.Send[0].From != want || out.Send[0].To != addrPort("10.0.0.2:7009") {
			t.Errorf("to %s: %+v", to, out)
		}
	}
	// A terminal too hears from the address that it asked; that it should
	// connect to the one of its own subnet is in the answer.
	w.step(a, Hello{7443})
	question := group.ServerQ{Hardware: "Hotdesk", Terminal: terminal, ID: 5}.Append(nil)
	for to, want := range map[string]netip.Addr{"10.0.1.1": ip("10.0.1.1"), "10.0.0.255": ip("10.0.0.1")} {
		out := a.Step(w.now, Packet{From: addrPort("10.0.0.50:5000"), To: ip(to), Data: question})
		if r, err := group.ParseServerR(out.Send[0].Data); err != nil || out.Send[0].From != want || r.Addr != ip("10.0.0.1") {
			t.Errorf("to %s: %+v, %v", to, r, err)
		}
	}
}

// An interface without broadcast is spoken of and not spoken to.
func TestNoBroadcastAddress(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", Config{}, "10.0.0.1", "10.0.1.1")
	a.about.Interfaces[1].Bcast, a.about.Interfaces[1].Mask = netip.IPv4Unspecified(), ip("255.255.255.255")
	w.step(a, a.about)
	w.saw = func(_ *host, d Datagram) {
		if h, err := group.ParseHost(d.Data); err != nil || len(h.Interfaces) != 2 || d.To.Addr() != ip("10.0.0.255") {
			t.Errorf("%s to %v, %v", d.Data, d.To, err)
		}
	}
	w.run(time.Minute)
}

// A new key is taken over live: second in every file, then first, then alone.
// No host is ever seen untrusted or down, at any moment, by any other.
func TestKeyRollover(t *testing.T) {
	w := newWorld(t)
	w.delay = func() time.Duration { return 3 * time.Millisecond }
	for i := range 3 {
		w.step(w.add(fmt.Sprintf("h%d", i), Config{}, fmt.Sprintf("10.0.0.%d", i+1)), Hello{7000})
	}
	old, both, turned, alone := ring(1), append(ring(1), ring(2)...), append(ring(2), ring(1)...), ring(2)
	w.run(30 * time.Second)
	for _, ring := range []group.Ring{old, both, turned, alone} {
		for _, h := range w.hosts {
			h.SetRing(ring)
			for range 300 { // as the files come to the hosts, one after the other
				w.run(20 * time.Millisecond)
				for _, at := range w.hosts {
					for _, row := range at.Table(w.now, local.TableRequest{}).Hosts {
						if !row.Trusted || row.Down || row.Suspect {
							t.Fatalf("%s sees %+v", at.name, row)
						}
					}
				}
			}
			if got, _ := w.lookup(h, "card.1", "10.0.0.50"); got.Where == local.Refused {
				t.Fatalf("got %+v", got)
			}
		}
		w.run(25 * time.Second)
	}
	if s := w.hosts[0].Status(w.now); len(s.Keys) != 1 || s.Keys[0] != (local.Key{ID: alone[0].ID(), Signs: true}) || s.Counters.Untrusted != 0 || s.Trusted != 2 {
		t.Errorf("got %+v", s)
	}
}

// What is wrong with whom is in the status.
func TestStatus(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", Config{}, "10.0.0.1")
	w.add("b", Config{}, "10.0.0.2")
	w.add("c", Config{}, "10.0.0.3")
	w.add("rogue", Config{Ring: ring(2)}, "10.0.0.66")
	w.hosts[2].about.Addr = ip("10.0.0.2")
	w.step(w.hosts[2], w.hosts[2].about)
	w.cut["b"] = false
	w.run(30 * time.Second)
	a.Step(w.now, Packet{From: addrPort("10.0.0.9:7009"), Data: []byte("hello")})
	s := a.Status(w.now)
	if len(s.Untrusted) != 1 || s.Untrusted[0].Host != "rogue" || s.Untrusted[0].From != "10.0.0.66" || !strings.Contains(s.Untrusted[0].Why, "not in our key file") {
		t.Errorf("untrusted %+v", s.Untrusted)
	}
	if len(s.Duplicates) != 2 || s.Duplicates[0].Host != "b" || s.Duplicates[0].Why != "address 10.0.0.2 is also that of c" {
		t.Errorf("duplicates %+v", s.Duplicates)
	}
	if s.Counters.Bad != 1 || s.Counters.Untrusted == 0 || s.Counters.Sent == 0 || s.Counters.SentBytes < 100*s.Counters.Sent {
		t.Errorf("counters %+v", s.Counters)
	}
	if row := a.Table(w.now, local.TableRequest{}).Hosts[1]; row.Duplicate != "address 10.0.0.2 is also that of c" {
		t.Errorf("row %+v", row)
	}
}

// A hundred users within 30 s and ten hosts, while no host message comes: the
// figures in the tables are up to 30 s old. The answers to the questions about
// each token are not.
func TestSpreadWithStaleFigures(t *testing.T) {
	worst, sum, runs := 0, 0, 8
	if os.Getenv("HOTDESK_LONG") != "" {
		runs = 500
	}
	for seed := range runs {
		w := newWorld(t)
		sessions := map[string][]local.Session{}
		for i := range 10 {
			w.step(w.add(fmt.Sprintf("h%d", i), Config{}, fmt.Sprintf("10.0.0.%d", i+1)), Hello{7000})
		}
		w.run(time.Second)
		w.drop = func(_ *host, d Datagram) bool { return group.Kind(d.Data) == group.CmdHost }
		x := uint64(seed)
		for i := range 100 {
			x = x*6364136223846793005 + 1442695040888963407
			token := alp.Token(fmt.Sprintf("card.%d", i))
			got, _ := w.lookup(w.hosts[x>>33%10], token, "10.0.0.50")
			to := w.hosts[slices.IndexFunc(w.hosts, func(h *host) bool { return h.name == got.Host })]
			sessions[to.name] = append(sessions[to.name], w.session(to, alp.SessionID(fmt.Sprintf("%016x", i)), token, 0))
			w.step(to, Report{slices.Clone(sessions[to.name])})
			w.run(300 * time.Millisecond)
		}
		most := 0
		for _, s := range sessions {
			most = max(most, len(s))
		}
		worst, sum = max(worst, most), sum+most
	}
	t.Logf("the fullest of 10 hosts has of 100 sessions: mean %.1f, worst of %d runs %d", float64(sum)/float64(runs), runs, worst)
	if worst > 15 {
		t.Errorf("one host got %d of 100 sessions", worst)
	}
}
