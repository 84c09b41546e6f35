package member

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"hotdesk/protocol/group"
)

var start = time.Unix(1700000000, 0)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func newTable() *Table {
	t := New(start, Config{Host: "self", Boot: 1, Period: 20 * time.Second, Down: 60 * time.Second, MaxSkew: 5 * time.Minute})
	t.Describe(start, group.Host{Addr: ip("10.0.0.1"), Interfaces: []group.Interface{{Name: "eth0", IP: ip("10.0.0.1"), Mask: ip("255.255.255.0"), Bcast: ip("10.0.0.255")}}})
	return t
}

// say is a host message of b said at a time by a clock that is off.
func say(name string, boot, counter uint64, at time.Time) Heard {
	return Heard{From: ip("10.0.0.2"), Host: group.Host{
		Name: name, Addr: ip("10.0.0.2"), Time: at.Unix(), State: group.Online, Boot: boot, Counter: counter,
		Interfaces: []group.Interface{
			{Name: "eth0", IP: ip("10.0.0.2"), Mask: ip("255.255.255.0"), Bcast: ip("10.0.0.255")},
			{Name: "eth1", IP: ip("10.0.1.2"), Mask: ip("255.255.255.0"), Bcast: ip("10.0.1.255")}}}}
}

func unsigned(h Heard) Heard { h.Signed = group.ErrUnsigned; return h }

func kinds(out Output) string {
	var k []string
	for _, n := range out.Notices {
		k = append(k, string(n.Kind))
	}
	return strings.Join(k, ", ")
}

// Steps of one table: what comes when, and what is said about it.
func TestReplay(t *testing.T) {
	type step struct {
		after  time.Duration // since the start
		boot   uint64
		count  uint64
		said   time.Duration // by the sender's clock, since the start
		notice string
		seen   bool // the row's lastseen is now
	}
	const ok, again = "host trusted", "host message refused"
	for name, steps := range map[string][]step{
		"in order":             {{0, 7, 1, 0, ok, true}, {20 * time.Second, 7, 2, 20 * time.Second, "", true}},
		"repeated":             {{0, 7, 5, 0, ok, true}, {time.Second, 7, 5, 0, "", false}},
		"reordered":            {{0, 7, 5, 0, ok, true}, {time.Second, 7, 3, 0, "", true}, {2 * time.Second, 7, 3, 0, "", false}, {2 * time.Second, 7, 4, 0, "", true}},
		"out of the window":    {{0, 7, 2000, 0, ok, true}, {time.Second, 7, 976, 0, again, false}, {time.Second, 7, 977, 0, "", true}, {2 * time.Second, 7, 977, 0, "", false}},
		"round the ring":       {{0, 7, 1000, 0, ok, true}, {time.Second, 7, 1030, 0, "", true}, {2 * time.Second, 7, 1020, 0, "", true}, {3 * time.Second, 7, 1000, 0, "", false}, {4 * time.Second, 7, 2024, 0, "", true}, {5 * time.Second, 7, 1030, 0, "", false}, {6 * time.Second, 7, 1023, 0, "", true}},
		"far ahead":            {{0, 7, 1, 0, ok, true}, {time.Second, 7, 5000, time.Second, "", true}, {time.Second, 7, 4999, time.Second, "", true}, {2 * time.Second, 7, 3900, time.Second, again, false}},
		"withheld":             {{0, 7, 1, 0, ok, true}, {6 * time.Minute, 7, 2, 20 * time.Second, again, false}},
		"clock steps forward":  {{0, 7, 1, 0, ok, true}, {20 * time.Second, 7, 2, 5 * time.Minute, "", true}, {40 * time.Second, 7, 3, 5*time.Minute + 20*time.Second, "", true}},
		"clock set far ahead":  {{0, 7, 1, 0, ok, true}, {20 * time.Second, 7, 2, time.Hour, again, false}, {40 * time.Second, 7, 3, 40 * time.Second, "", true}},
		"clock set right":      {{0, 7, 1, -4 * time.Minute, ok, true}, {20 * time.Second, 7, 2, 4 * time.Minute, "", true}, {40 * time.Second, 7, 3, 4*time.Minute + 20*time.Second, "", true}},
		"clock steps back":     {{0, 7, 1, 0, ok, true}, {20 * time.Second, 7, 2, -2 * time.Minute, "", true}, {40 * time.Second, 7, 3, -100 * time.Second, "", true}},
		"clock set far back":   {{0, 7, 1, 0, ok, true}, {20 * time.Second, 7, 2, -time.Hour, again, false}, {61 * time.Second, 7, 3, 30*time.Second - 5*time.Minute, again, false}, {70 * time.Second, 7, 4, -3 * time.Minute, ok, true}},
		"clock ahead":          {{0, 7, 1, 4 * time.Minute, ok, true}, {20 * time.Second, 7, 2, 4*time.Minute + 20*time.Second, "", true}},
		"restart":              {{0, 7, 90, 0, ok, true}, {20 * time.Second, 8, 1, 20 * time.Second, ok, true}, {21 * time.Second, 8, 2, 21 * time.Second, "", true}},
		"earlier life":         {{0, 8, 1, 0, ok, true}, {20 * time.Second, 7, 90, -time.Second, again, false}, {20 * time.Second, 8, 2, 20 * time.Second, "", true}},
		"restart, set right":   {{0, 7, 1, 4 * time.Minute, ok, true}, {20 * time.Second, 7, 2, 4*time.Minute + 20*time.Second, "", true}, {30 * time.Second, 8, 1, 30 * time.Second, ok, true}, {31 * time.Second, 8, 2, 31 * time.Second, "", true}},
		"earlier, was ahead":   {{0, 7, 1, 4 * time.Minute, ok, true}, {20 * time.Second, 7, 2, 4*time.Minute + 20*time.Second, "", true}, {30 * time.Second, 6, 90, 19 * time.Second, again, false}, {31 * time.Second, 7, 3, 4*time.Minute + 31*time.Second, "", true}},
		"life known, replayed": {{0, 7, 90, 0, ok, true}, {time.Second, 8, 1, time.Second, ok, true}, {2 * time.Second, 7, 90, 0, "", false}, {2 * time.Second, 8, 2, 2 * time.Second, "", true}},
		"no boot":              {{0, 7, 1, 0, ok, true}, {time.Second, 0, 0, time.Second, again, false}},
	} {
		t.Run(name, func(t *testing.T) {
			table := newTable()
			down := false
			for i, s := range steps {
				now := start.Add(s.after)
				table.Tick(now)
				row, _ := table.Find("b")
				down = row.Down
				out := table.Step(now, say("b", s.boot, s.count, start.Add(s.said)))
				row, _ = table.Find("b")
				if kinds(out) != s.notice || row.LastSeen.Equal(now) != s.seen && !down {
					t.Fatalf("step %d: %s, lastseen %v ago: %+v", i, kinds(out), now.Sub(row.LastSeen), out)
				}
			}
		})
	}
}

// A recording of a host that is down brings it back only while it is young,
// and never keeps the living host out.
func TestReplayOfADeadHost(t *testing.T) {
	table := newTable()
	table.Step(start, say("b", 7, 1, start))
	recorded := say("b", 7, 2, start.Add(20*time.Second))
	now := start.Add(20 * time.Second)
	table.Step(now, recorded)
	now = now.Add(61 * time.Second)
	if out := table.Tick(now); kinds(out) != "host down" {
		t.Fatalf("got %+v", out)
	}
	if out := table.Step(now, recorded); len(out.Announce) > 0 {
		t.Fatalf("got %+v", out)
	}
	if row, _ := table.Find("b"); !row.Down {
		t.Fatal("a message that came before brought it back")
	}
	// One of an earlier life, not known here: young enough, and the host is down.
	table.Step(now, say("b", 6, 9, start.Add(-time.Minute)))
	if out := table.Step(now, say("b", 7, 3, now)); kinds(out) != "" {
		t.Fatalf("the living one: %+v", out)
	}
	row, _ := table.Find("b")
	if row.Down || row.Host.Counter != 3 || row.Host.Boot != 7 {
		t.Fatalf("got %+v", row)
	}
	// First contact: what is older than MaxSkew is not trusted.
	if out := table.Step(now, say("c", 7, 1, now.Add(-6*time.Minute))); kinds(out) != "host found, host not trusted" {
		t.Fatalf("got %+v", out)
	}
	if _, ok := table.Find("c"); ok {
		t.Fatal("trusted by a recording")
	}
}

func TestLivesAreBounded(t *testing.T) {
	table := newTable()
	for i := range 3 * maxBoots {
		now := start.Add(time.Duration(i) * time.Second)
		if out := table.Step(now, say("b", uint64(i+1), 1, now)); kinds(out) != "host trusted" {
			t.Fatalf("life %d: %+v", i, out)
		}
	}
	if n := len(table.trusted["b"].boots); n != maxBoots {
		t.Fatalf("%d lives remembered", n)
	}
}

func TestTableOfHosts(t *testing.T) {
	table := newTable()
	now := start.Add(5 * time.Second)
	table.Step(now, say("b", 7, 1, now.Add(43*time.Second)))
	rows := table.Rows()
	if len(rows) != 2 || !rows[0].Self || rows[1].TimeOff != 43 || !rows[1].Trusted || rows[1].Down {
		t.Fatalf("got %+v", rows)
	}
	if p := rows[1].LastPkt; !p[0].Equal(now) || !p[1].IsZero() {
		t.Fatalf("lastpkt %v", p)
	}
	// Heard on its other interface, both have their time.
	other := say("b", 7, 2, now)
	other.From = ip("10.0.1.2")
	table.Step(now.Add(time.Second), other)
	row, _ := table.Find("b")
	if !row.LastPkt[0].Equal(now) || !row.LastPkt[1].Equal(now.Add(time.Second)) {
		t.Fatalf("lastpkt %v", row.LastPkt)
	}
	// Our own broadcast counts for our interface, and for nothing else.
	own := table.Message(now)
	table.Step(now, Heard{From: ip("10.0.0.1"), Host: own})
	if rows = table.Rows(); len(rows) != 2 || !rows[0].LastPkt[0].Equal(now) || !rows[0].LastSeen.Equal(now) {
		t.Fatalf("got %+v", rows)
	}
	// An older message that comes late does not put the picture back.
	late := say("b", 7, 4, now)
	late.Host.Control = 1
	table.Step(now, late)
	older := say("b", 7, 3, now)
	older.Host.Control = 2
	table.Step(now, older)
	if row, _ = table.Find("b"); row.Host.Control != 1 {
		t.Fatalf("control %d", row.Host.Control)
	}
	// After a day of silence it is forgotten.
	table.Tick(now.Add(25 * time.Hour))
	if _, ok := table.Find("b"); ok || len(table.Rows()) != 1 {
		t.Fatal("still there")
	}
}

func TestUntrusted(t *testing.T) {
	table := newTable()
	out := table.Step(start, unsigned(say("b", 7, 1, start)))
	if kinds(out) != "host found, host not trusted" || len(out.Announce) > 0 {
		t.Fatalf("got %+v", out)
	}
	if why := table.Admit(start, ip("10.0.0.2"), group.Stamp{Host: "b", Time: start.Unix(), Boot: 7, Counter: 2}); why == "" {
		t.Fatal("admitted")
	}
	// Once it signs, its untrusted row is gone.
	if out = table.Step(start, say("b", 7, 2, start)); kinds(out) != "host trusted" || len(table.Rows()) != 2 {
		t.Fatalf("got %+v, %+v", out, table.Rows())
	}
	// Somebody who takes its name changes nothing of its row.
	forged := unsigned(say("b", 9, 9, start))
	forged.Host.Control, forged.From = 666, ip("10.0.0.66")
	table.Step(start, forged)
	if row, _ := table.Find("b"); row.Host.Control != 0 || len(table.Rows()) != 3 {
		t.Fatalf("got %+v", table.Rows())
	}
	// At most MaxUntrusted rows, and no trusted one goes for them.
	full := 0
	for i := range 3 * MaxUntrusted {
		out := table.Step(start, unsigned(say(fmt.Sprintf("x%d", i), 1, 1, start)))
		if kinds(out) == string(Full) {
			full++
		}
	}
	if rows := table.Rows(); len(rows) != 2+MaxUntrusted || full != 2*MaxUntrusted+1 || !rows[1].Trusted {
		t.Fatalf("%d rows, %d refused", len(rows), full)
	}
	// A trusted one still finds its place.
	if table.Step(start, say("c", 7, 1, start)); len(table.Rows()) != 3+MaxUntrusted {
		t.Fatal("no place for a trusted host")
	}
	// Silent ones make room.
	table.Tick(start.Add(61 * time.Second))
	if rows := table.Rows(); len(rows) != 3 {
		t.Fatalf("%d rows", len(rows))
	}
}

func TestDuplicates(t *testing.T) {
	table := newTable()
	now := start
	tick := func(d time.Duration) string {
		now = now.Add(d)
		table.Announce(now)
		out := table.Tick(now)
		var text []string
		for _, n := range out.Notices {
			if n.Kind == Duplicate {
				text = append(text, n.Host+": "+n.Why)
			}
		}
		return strings.Join(text, "; ")
	}
	elsewhere := func(h Heard, from, addr string) Heard {
		h.From, h.Host.Addr = ip(from), ip(addr)
		h.Host.Interfaces = slices.Clone(h.Host.Interfaces)
		h.Host.Interfaces[0].IP = ip(from)
		return h
	}
	table.Step(start, say("b", 7, 1, start))
	if got := tick(0); got != "" {
		t.Errorf("without duplicates: %s", got)
	}
	// Another host with our name; what an earlier start of ours said is no such thing.
	if out := table.Step(start, elsewhere(say("self", 8, 1, start), "10.0.0.1", "10.0.0.1")); len(out.Notices) > 0 {
		t.Errorf("ourselves: %+v", out)
	}
	if out := table.Step(start, say("self", 9, 1, start)); !strings.Contains(kinds(out), string(Duplicate)) {
		t.Errorf("our name: %+v", out)
	}
	if row, _ := table.Find("self"); !row.Self || row.Host.Addr != ip("10.0.0.1") {
		t.Errorf("our row: %+v", row)
	}
	if got := tick(time.Second); got != "self: two hosts say this name" {
		t.Error(got)
	}
	now = start.Add(2 * time.Minute)
	table.Step(now, say("b", 7, 2, now))
	// One primary address.
	table.Step(now, elsewhere(say("c", 8, 1, now), "10.0.0.3", "10.0.0.2"))
	if got := tick(time.Second); got != "b: address 10.0.0.2 is also that of c; c: address 10.0.0.2 is also that of b" {
		t.Error(got)
	}
	// One address of an interface that both are heard from; others may be of
	// networks of their own, as the seed's 192.168.128.1.
	table.Step(now, elsewhere(say("c", 8, 2, now), "10.0.0.2", "10.0.0.4"))
	if got := tick(time.Second); !strings.Contains(got, "address 10.0.0.2 is also that of") {
		t.Error(got)
	}
	table.Step(now, elsewhere(say("c", 8, 3, now), "10.0.0.4", "10.0.0.4"))
	if got := tick(time.Second); got != "" {
		t.Errorf("a network of their own: %s", got)
	}
	// One name: a life that another one ended speaks again. Its last words,
	// late, are no such thing.
	table.Step(now, say("b", 9, 1, now))
	now = now.Add(5 * time.Second)
	table.Step(now, say("b", 7, 3, now))
	if got := tick(time.Second); got != "" {
		t.Errorf("last words: %s", got)
	}
	now = now.Add(20 * time.Second)
	table.Step(now, say("b", 9, 2, now))
	table.Step(now, say("b", 7, 4, now))
	if got := tick(time.Second); !strings.HasPrefix(got, "b: two hosts say this name") {
		t.Error(got)
	}
	now = now.Add(30 * time.Second)
	table.Step(now, say("b", 9, 3, now))
	now = now.Add(30 * time.Second)
	table.Step(now, say("b", 9, 4, now))
	if row, _ := table.Find("b"); row.Duplicate != "" && tick(time.Second) != "" {
		t.Error("it is one host again, and still said to be two")
	}
}

// A goodbye counts at once; what was said before it brings nobody back.
func TestGoodbye(t *testing.T) {
	table := newTable()
	table.Step(start, say("b", 7, 1, start))
	bye := say("b", 7, 5, start)
	bye.Host.State = group.Gone
	if out := table.Step(start, bye); kinds(out) != "host stopped" || len(out.Announce) > 0 {
		t.Fatalf("got %+v", out)
	}
	table.Step(start.Add(time.Second), say("b", 7, 4, start))
	if row, _ := table.Find("b"); !row.Down || !row.Trusted || !row.Stopped.Equal(start) {
		t.Fatalf("got %+v", row)
	}
	if why := table.Admit(start, ip("10.0.0.2"), group.Stamp{Host: "b", Time: start.Unix(), Boot: 7, Counter: 3}); why != "it has stopped" {
		t.Fatal(why)
	}
	// The goodbye played again to somebody who knows the next life.
	if out := table.Step(start.Add(2*time.Second), say("b", 8, 1, start.Add(2*time.Second))); kinds(out) != "host trusted" {
		t.Fatalf("got %+v", out)
	}
	table.Step(start.Add(3*time.Second), bye)
	if row, _ := table.Find("b"); row.Down || !row.Stopped.IsZero() {
		t.Fatalf("got %+v", row)
	}
	// The first that is heard of a host is its goodbye.
	bye.Host.Name, bye.Host.Boot = "c", 9
	if out := table.Step(start, bye); kinds(out) != "host stopped" || len(out.Announce) > 0 {
		t.Fatalf("got %+v", out)
	}
}

// Who is heard by unicast from a network that is not ours is answered so.
func TestUnicast(t *testing.T) {
	table := newTable()
	direct := func(name, from string, n uint64) Heard {
		h := say(name, 7, n, start)
		h.From, h.Host.Addr, h.Direct = ip(from), ip(from), true
		return h
	}
	table.Step(start, direct("far", "10.9.0.1", 1))
	table.Step(start, direct("near", "10.0.0.9", 1))
	table.Step(start, direct("routed", "10.8.0.1", 1))
	wide := direct("routed", "10.8.0.1", 2)
	wide.Direct = false // its multicast reaches us, so ours reaches it
	table.Step(start, wide)
	if got := table.Unicast(start, true); !slices.Equal(got, []netip.Addr{ip("10.9.0.1")}) {
		t.Errorf("got %v", got)
	}
	if got := table.Unicast(start, false); !slices.Equal(got, []netip.Addr{ip("10.0.0.9"), ip("10.9.0.1")}) {
		t.Errorf("without broadcasts: %v", got)
	}
	table.Tick(start.Add(time.Minute))
	if got := table.Unicast(start.Add(time.Minute), false); len(got) > 0 {
		t.Errorf("hosts that are down: %v", got)
	}
}

func TestAdmit(t *testing.T) {
	table := newTable()
	table.Step(start, say("b", 7, 1, start))
	for name, tc := range map[string]struct {
		from, host    string
		boot, counter uint64
		want          string
	}{
		"good":           {"10.0.0.2", "b", 7, 2, ""},
		"again":          {"10.0.0.2", "b", 7, 1, "seen before"},
		"its other side": {"10.0.1.2", "b", 7, 3, ""},
		"elsewhere":      {"10.0.0.3", "b", 7, 4, "not from an address"},
		"unknown host":   {"10.0.0.2", "c", 7, 2, "not a trusted host"},
		"unknown life":   {"10.0.0.2", "b", 8, 2, "has not been heard since it started"},
		"ourselves":      {"10.0.0.1", "self", 1, 2, "not a trusted host"},
	} {
		got := table.Admit(start, ip(tc.from), group.Stamp{Host: tc.host, Time: start.Unix(), Boot: tc.boot, Counter: tc.counter})
		if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
	table.Suspect("b")
	table.Suspect("nobody")
	if row, _ := table.Find("b"); !row.Suspect {
		t.Error("not suspect")
	}
	table.Step(start, say("b", 7, 9, start))
	if row, _ := table.Find("b"); row.Suspect {
		t.Error("heard, and yet suspect")
	}
}

// The times of our own messages: three at the start, then every period, sooner
// when something changed.
func TestAnnounce(t *testing.T) {
	table := newTable()
	var said []time.Duration
	now := start
	until := func(end time.Duration) {
		for {
			next := table.Next()
			if next.After(start.Add(end)) {
				now = start.Add(end)
				return
			}
			now = next
			for range table.Tick(now).Announce {
				said = append(said, now.Sub(start))
			}
		}
	}
	h := table.self.Host
	until(41 * time.Second)
	h.Control = 7443
	table.Describe(now, h) // at once
	until(42 * time.Second)
	h.Load.Busy = 300
	table.Describe(now, h) // not for this
	until(43 * time.Second)
	for range 10 { // bursts are held back
		h.Load.Sessions++
		table.Describe(now, h)
		until(now.Sub(start) + 10*time.Millisecond)
	}
	until(50 * time.Second)
	h.State = group.Offline
	table.Describe(now, h)
	h.Control = 0
	until(50*time.Second + 10*time.Millisecond)
	table.Describe(now, h)
	until(75 * time.Second)
	want := []time.Duration{0, 100 * time.Millisecond, 300 * time.Millisecond, 20300 * time.Millisecond, 40300 * time.Millisecond,
		41 * time.Second, 43 * time.Second, 44 * time.Second, 50 * time.Second, 50100 * time.Millisecond, 70100 * time.Millisecond}
	if !slices.Equal(said, want) {
		t.Errorf("got  %v\nwant %v", said, want)
	}
	if m := table.Message(now); m.Control != 0 || m.State != group.Offline || m.Load.Sessions != 10 || m.Name != "self" || m.Boot != 1 || m.Counter != 1 || m.Time != now.Unix() || m.Flags != group.FlagsSent {
		t.Errorf("got %+v", m)
	}
	if table.Message(now).Counter != 2 {
		t.Error("the counter stands")
	}
	// A newcomer is told at once, alone.
	out := table.Step(now, say("b", 7, 1, now))
	if !slices.Equal(out.Announce, []Announce{{ip("10.0.0.2")}}) {
		t.Errorf("got %+v", out)
	}
	if out = table.Step(now, say("b", 7, 2, now)); len(out.Announce) > 0 {
		t.Errorf("got %+v", out)
	}
}

func BenchmarkStep1000Hosts(b *testing.B) {
	table := newTable()
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprintf("h%d", i)
		table.Step(start, say(names[i], 1, 1, start))
	}
	n := uint64(1)
	for b.Loop() {
		n++
		table.Step(start, say(names[n%1000], 1, n, start))
		table.Next()
	}
}

// The goodbye of an earlier life, recorded and not heard then, ends nothing.
func TestGoodbyeOfAnEarlierLife(t *testing.T) {
	table := newTable()
	table.Step(start, say("b", 7, 1, start))
	bye := say("b", 7, 2, start.Add(time.Second))
	bye.Host.State = group.Gone
	now := start.Add(2 * time.Second)
	table.Step(now, say("b", 8, 1, now))
	if out := table.Step(now.Add(time.Second), bye); kinds(out) != "" {
		t.Fatalf("got %+v", out)
	}
	if row, _ := table.Find("b"); row.Down || !row.Stopped.IsZero() || row.Host.State == group.Gone {
		t.Fatalf("got %+v", row)
	}
}
