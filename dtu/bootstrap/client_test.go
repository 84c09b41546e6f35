package bootstrap

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hotdesk/protocol/vendoropt"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// words are actions in a few words.
func words(out []Action) string {
	var all []string
	for _, a := range out {
		switch a := a.(type) {
		case Say:
			w := "say " + a.Query.Kind.String()
			if a.Query.To.IsValid() {
				w += " to " + a.Query.To.String()
			}
			all = append(all, w)
		case Bound:
			all = append(all, "bound "+a.Lease.Addr.String())
		case Unbound:
			all = append(all, "unbound "+a.Lease.Addr.String())
		case Settled:
			all = append(all, "settled "+a.Lease.Letter())
		case Silent:
			all = append(all, "silent")
		case Probe:
			all = append(all, "probe "+a.Addr.String())
		case Refused:
			all = append(all, "refused "+a.Addr.String())
		}
	}
	return strings.Join(all, ", ")
}

// A talk is a client with a server that a test speaks for.
type talk struct {
	t   *testing.T
	c   *Client
	now time.Time
	id  uint32 // of what was said last
}

func newTalk(t *testing.T, configures bool) *talk {
	return &talk{t: t, c: NewClient(configures, 1), now: start}
}

func (k *talk) note(out []Action) string {
	for _, a := range out {
		if s, ok := a.(Say); ok {
			k.id = s.Query.ID
		}
	}
	return words(out)
}

func (k *talk) expect(what, got, want string) {
	k.t.Helper()
	if got != want {
		k.t.Fatalf("%s: %q, want %q", what, got, want)
	}
}

// pass lets time pass; each thing done comes with when.
func (k *talk) pass(d time.Duration) string {
	var all []string
	end := k.now.Add(d)
	for next := k.c.Next(); !next.IsZero() && !next.After(end); next = k.c.Next() {
		k.now = next
		if w := k.note(k.c.Tick(next)); w != "" {
			all = append(all, fmt.Sprintf("%v: %s", next.Sub(end.Add(-d)).Truncate(time.Second), w))
		}
	}
	k.now = end
	return strings.Join(all, "; ")
}

var authVendor = vendoropt.Set{AuthSrvr: netip.AddrFrom4([4]byte{10, 0, 0, 5}), Levels: vendoropt.NoLevels}.Append(nil)

// reply is a good one.
func (k *talk) reply(kind Kind, change ...func(*Reply)) string {
	r := Reply{Kind: kind, ID: k.id, Server: addr("10.0.0.1"), Addr: addr("10.0.0.100"), Bits: 24, Lease: 100 * time.Second,
		Routers: []netip.Addr{addr("10.0.0.1")}, Vendor: authVendor}
	for _, c := range change {
		c(&r)
	}
	return k.note(k.c.Answer(k.now, r))
}

func bare(r *Reply) { r.Vendor = nil }

// bound is a talk with a lease of 100 s.
func bound(t *testing.T, configures bool) *talk {
	t.Helper()
	k := newTalk(t, configures)
	k.expect("link", k.note(k.c.Link(k.now, true, netip.Addr{})), "say DISCOVER")
	k.expect("offer", k.reply(Offer), "say REQUEST")
	if configures {
		k.free("ack", k.reply(Ack), "10.0.0.100", "bound 10.0.0.100, settled D")
	} else {
		k.expect("ack", k.reply(Ack), "bound 10.0.0.100, settled D")
	}
	return k
}

// free checks that an address is probed for, and what comes when nobody has it.
func (k *talk) free(what, got, address, want string) {
	k.t.Helper()
	k.expect(what, got, "probe "+address)
	k.expect(what+", nobody has it", k.pass(Probes*ProbeEvery), strings.Repeat("0s: probe "+address+"; ", Probes-1)+"0s: "+want)
}

// TestTaken: an address that another machine has is declined, and not bound.
func TestTaken(t *testing.T) {
	k := newTalk(t, true)
	k.c.Link(k.now, true, netip.Addr{})
	k.id = k.c.id
	k.reply(Offer)
	k.expect("ack", k.reply(Ack), "probe 10.0.0.100")
	k.expect("somebody has another", k.note(k.c.Taken(k.now, addr("10.0.0.101"))), "")
	k.pass(ProbeEvery)
	var q Query
	for _, a := range k.c.Taken(k.now, addr("10.0.0.100")) {
		if s, ok := a.(Say); ok {
			q = s.Query
		}
	}
	if q.Kind != Decline || q.Requested != addr("10.0.0.100") || q.Server != addr("10.0.0.1") || q.Client.IsValid() || q.To.IsValid() {
		t.Errorf("said %+v", q)
	}
	if k.c.Phase() != Declined || k.c.Lease().Addr.IsValid() {
		t.Errorf("%s, %+v", k.c.Phase(), k.c.Lease())
	}
	k.expect("somebody still has it", k.note(k.c.Taken(k.now, addr("10.0.0.100"))), "")
	k.expect("an ack that nobody waits for", k.reply(Ack), "")
	k.expect("a pause, then another try", k.pass(DeclineWait), "10s: say DISCOVER")
	k.reply(Offer)
	k.reply(Ack)
	k.expect("the plug is pulled while it is probed for", k.note(k.c.Link(k.now, false, netip.Addr{})), "")
	k.expect("nothing comes of it", k.pass(time.Minute), "")
	k.expect("and is put in", k.note(k.c.Link(k.now, true, netip.Addr{})), "say DISCOVER")
}

func TestRelease(t *testing.T) {
	k := bound(t, true)
	out := k.c.Release(k.now)
	k.expect("switched off", k.note(out), "say RELEASE, unbound 10.0.0.100")
	if q := out[0].(Say).Query; q.Client != addr("10.0.0.100") || q.Server != addr("10.0.0.1") || q.Requested.IsValid() {
		t.Errorf("said %+v", q)
	}
	k.expect("then quiet", k.pass(time.Hour), "")
	k.expect("once", k.note(k.c.Release(k.now)), "")
	k = newTalk(t, true)
	k.c.Link(k.now, true, netip.Addr{})
	k.expect("nothing to give back", k.note(k.c.Release(k.now)), "")
}

func TestLeaseLives(t *testing.T) {
	k := bound(t, true)
	k.expect("until T1", k.pass(49*time.Second), "")
	k.expect("T1", k.pass(2*time.Second), "1s: say REQUEST to 10.0.0.1")
	k.expect("renewed", k.reply(Ack), "bound 10.0.0.100, settled D")
	// No answer: half of what is left each time, then everybody is asked, then
	// it is over.
	k.expect("nobody", k.pass(51*time.Second), "50s: say REQUEST to 10.0.0.1")
	got := k.pass(49 * time.Second)
	if !strings.Contains(got, "say REQUEST to 10.0.0.1; ") || !strings.Contains(got, "36s: say REQUEST; ") || !strings.HasSuffix(got, "49s: unbound 10.0.0.100, say DISCOVER") {
		t.Errorf("to the end: %s", got)
	}
	if n := strings.Count(got, "REQUEST"); n > 12 {
		t.Errorf("%d requests: %s", n, got)
	}
	if k.c.Phase() != Selecting || k.c.Lease().Addr.IsValid() {
		t.Errorf("%s %+v", k.c.Phase(), k.c.Lease())
	}
}

func TestRebinding(t *testing.T) {
	k := bound(t, true)
	k.pass(90 * time.Second)
	if k.c.Phase() != Rebinding {
		t.Fatal(k.c.Phase())
	}
	k.expect("another server", k.reply(Ack, func(r *Reply) { r.Server = addr("10.0.0.2") }), "bound 10.0.0.100, settled D")
	k.pass(90 * time.Second)
	k.expect("another address", k.reply(Ack, func(r *Reply) { r.Addr = addr("10.0.0.101") }), "unbound 10.0.0.100, probe 10.0.0.101")
	k.pass(Probes * ProbeEvery)
	k.pass(60 * time.Second)
	k.expect("refused", k.reply(Nak), "unbound 10.0.0.101, say DISCOVER")
}

// TestLearnsOnly: without the address nobody is talked to from it.
func TestLearnsOnly(t *testing.T) {
	k := bound(t, false)
	k.expect("T1", k.pass(51*time.Second), "50s: say REQUEST")
	k.expect("T2", k.pass(40*time.Second), "17s: say REQUEST; 27s: say REQUEST; 32s: say REQUEST; 36s: say REQUEST")
}

func TestPlug(t *testing.T) {
	k := bound(t, true)
	k.expect("out", k.note(k.c.Link(k.now, false, netip.Addr{})), "")
	k.expect("time", k.pass(30*time.Second), "")
	k.expect("in", k.note(k.c.Link(k.now, true, netip.Addr{})), "say REQUEST")
	k.expect("confirmed", k.reply(Ack), "bound 10.0.0.100, settled D")
	k.c.Link(k.now, false, netip.Addr{})
	k.expect("out for long", k.pass(200*time.Second), "1m40s: unbound 10.0.0.100")
	k.expect("in again", k.note(k.c.Link(k.now, true, netip.Addr{})), "say DISCOVER")

	k = bound(t, true)
	k.c.Link(k.now, false, netip.Addr{})
	k.now = k.now.Add(10 * time.Second)
	k.note(k.c.Link(k.now, true, netip.Addr{}))
	k.expect("in elsewhere", k.reply(Nak), "unbound 10.0.0.100, say DISCOVER")

	k = bound(t, true)
	k.c.Link(k.now, false, netip.Addr{})
	k.now = k.now.Add(10 * time.Second)
	k.note(k.c.Link(k.now, true, netip.Addr{}))
	k.expect("in where nobody is", k.pass(8*time.Second), "1s: say REQUEST; 3s: say REQUEST; 7s: unbound 10.0.0.100, say DISCOVER")
}

// TestInform: missing vendor options are asked for a few times.
func TestInform(t *testing.T) {
	k := newTalk(t, true)
	k.c.Link(k.now, true, netip.Addr{})
	k.id = k.c.id
	k.expect("a bare offer waits", k.reply(Offer, bare), "")
	k.expect("then is taken", k.pass(OfferWait), "1s: say REQUEST")
	k.free("a bare lease", k.reply(Ack, bare), "10.0.0.100", "bound 10.0.0.100, say INFORM")
	k.expect("an answer without", k.reply(Ack, bare), "")
	k.expect("tries", k.pass(10*time.Second), "1s: say INFORM; 3s: say INFORM; 7s: settled B")

	k = newTalk(t, true)
	k.c.Link(k.now, true, netip.Addr{})
	k.id = k.c.id
	k.reply(Offer, bare)
	k.pass(OfferWait)
	k.reply(Ack, bare)
	k.pass(Probes * ProbeEvery)
	k.expect("an answer", k.reply(Ack, func(r *Reply) { r.Addr = netip.Addr{} }), "settled D")
	k.expect("then quiet", k.pass(40*time.Second), "")
	k.pass(11 * time.Second)
	k.expect("kept when renewed", k.reply(Ack, bare), "bound 10.0.0.100, settled D")

	k = newTalk(t, false)
	k.c.Link(k.now, true, netip.Addr{})
	k.id = k.c.id
	k.reply(Offer, bare)
	k.pass(OfferWait)
	k.expect("no address to ask from", k.reply(Ack, bare), "bound 10.0.0.100, settled B")
}

func TestSilence(t *testing.T) {
	k := newTalk(t, true)
	k.c.Link(k.now, true, netip.Addr{})
	got := k.pass(2 * time.Minute)
	if !strings.HasPrefix(got, "1s: say DISCOVER; 3s: say DISCOVER; 7s: silent, say DISCOVER; ") || strings.Count(got, "silent") != 1 {
		t.Error(got)
	}
	if n := strings.Count(got, "DISCOVER"); n < 7 || n > 12 {
		t.Errorf("%d times in two minutes", n)
	}
}

// TestLetters is what the screen shows (alp.md section 10).
func TestLetters(t *testing.T) {
	router := []netip.Addr{addr("10.0.0.1")}
	for _, c := range []struct {
		l    Lease
		want string
	}{
		{Lease{}, ""},
		{Lease{Reply: Reply{Addr: addr("10.0.0.9")}}, "A"},
		{Lease{Reply: Reply{Addr: addr("10.0.0.9"), Bits: 24}}, "A"},
		{Lease{Reply: Reply{Addr: addr("10.0.0.9"), Bits: 24, Routers: router}}, "B"},
		{Lease{Reply: Reply{Addr: addr("10.0.0.9")}, Given: true}, "C"},
		{Lease{Reply: Reply{Addr: addr("10.0.0.9"), Bits: 24}, Given: true}, "C"},
		{Lease{Reply: Reply{Addr: addr("10.0.0.9"), Bits: 24, Routers: router}, Given: true}, "D"},
	} {
		if got := c.l.Letter(); got != c.want {
			t.Errorf("%+v: %q", c.l, got)
		}
	}
}

// TestLeaseServers: the order of alp.md section 10, and the ports.
func TestLeaseServers(t *testing.T) {
	for _, c := range []struct {
		set      vendoropt.Set
		displays string
		want     []netip.AddrPort
	}{
		{vendoropt.Set{}, "", nil},
		{vendoropt.Set{AuthSrvr: addr("10.0.0.5"), AuthPort: ClearPort}, "", addrs("10.0.0.5:7443")},
		{vendoropt.Set{AuthSrvr: addr("10.0.0.5"), AuthPort: 8000}, "10.0.0.9", addrs("10.0.0.5:8000", "10.0.0.9:8000")},
		{vendoropt.Set{AuthSrvr: addr("10.0.0.5"), AuthPort: 8000, ControlPort: 9000, AltAuth: []netip.Addr{addr("10.0.0.6"), addr("10.0.0.5")}}, "10.0.0.9", addrs("10.0.0.6:9000", "10.0.0.5:9000")},
		{vendoropt.Set{}, "10.0.0.9", addrs("10.0.0.9:7443")},
		{vendoropt.Set{}, "127.0.0.1", nil},
	} {
		l := Lease{Options: c.set}
		if c.displays != "" {
			l.Displays = []netip.Addr{addr(c.displays)}
		}
		if got := l.Servers(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v %s: %v", c.set, c.displays, got)
		}
	}
}

// TestClientInvariants: whatever servers say, and whenever the plug is pulled.
func TestClientInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := NewClient(rapid.Bool().Draw(t, "configures"), rapid.Uint64().Draw(t, "seed"))
		now := start
		last := map[Kind]time.Time{}
		var id, inform uint32
		var have netip.Addr // bound
		do := func(out []Action) {
			for _, a := range out {
				switch a := a.(type) {
				case Say:
					k := a.Query.Kind
					if at, ok := last[k]; ok && now.Sub(at) < FirstTry {
						t.Fatalf("%v again after %v", k, now.Sub(at))
					}
					last[k] = now
					if k == Inform {
						inform = a.Query.ID
					} else {
						id = a.Query.ID
					}
				case Bound:
					if have.IsValid() && have != a.Lease.Addr || !usable(a.Lease.Addr) {
						t.Fatalf("bound %v, has %v", a.Lease.Addr, have)
					}
					have = a.Lease.Addr
				case Unbound:
					if have != a.Lease.Addr {
						t.Fatalf("unbound %v, has %v", a.Lease.Addr, have)
					}
					have = netip.Addr{}
				case Settled:
					if have != a.Lease.Addr {
						t.Fatalf("settled %v, has %v", a.Lease.Addr, have)
					}
				}
			}
			if c.Lease().Addr != have {
				t.Fatalf("says %v, has %v", c.Lease().Addr, have)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"taken": func(t *rapid.T) {
				do(c.Taken(now, netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(0, 3).Draw(t, "host"))})))
			},
			"switched off": func(t *rapid.T) {
				do(c.Release(now))
				if have.IsValid() && c.Phase() != Down {
					t.Fatalf("keeps %v", have)
				}
				do(c.Link(now, false, netip.Addr{}))
			},
			"plug": func(t *rapid.T) {
				do(c.Link(now, rapid.Bool().Draw(t, "in"), netip.Addr{}))
			},
			"answer": func(t *rapid.T) {
				r := Reply{
					Kind:   rapid.SampledFrom([]Kind{Offer, Ack, Nak}).Draw(t, "kind"),
					ID:     rapid.SampledFrom([]uint32{id, inform, 7}).Draw(t, "id"),
					Server: netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(0, 2).Draw(t, "server"))}),
					Addr:   netip.AddrFrom4([4]byte{byte(rapid.SampledFrom([]int{10, 127, 255, 0}).Draw(t, "net")), 0, 0, byte(rapid.IntRange(0, 3).Draw(t, "host"))}),
					Bits:   rapid.SampledFrom([]int{0, 24, 32}).Draw(t, "bits"),
					Lease:  time.Duration(rapid.IntRange(0, 100).Draw(t, "lease")) * time.Second,
					Renew:  time.Duration(rapid.IntRange(0, 100).Draw(t, "renew")) * time.Second,
					Rebind: time.Duration(rapid.IntRange(0, 100).Draw(t, "rebind")) * time.Second,
				}
				if rapid.Bool().Draw(t, "vendor") {
					r.Vendor = authVendor
				}
				do(c.Answer(now, r))
			},
			"time": func(t *rapid.T) {
				next := c.Next()
				if next.IsZero() {
					if c.Phase() != Down {
						t.Fatalf("asleep while %s", c.Phase())
					}
					return
				}
				if next.After(now) {
					now = next
				}
				do(c.Tick(now))
				if again := c.Next(); !again.IsZero() && !again.After(now) {
					do(c.Tick(now))
					if once := c.Next(); !once.IsZero() && !once.After(now) {
						do(c.Tick(now))
						if at := c.Next(); !at.IsZero() && !at.After(now) {
							t.Fatalf("%s does not let time pass", c.Phase())
						}
					}
				}
			},
		})
	})
}
