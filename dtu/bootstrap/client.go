package bootstrap

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"hotdesk/protocol/vendoropt"
)

// Actions of a Client.
type (
	// Say sends a message.
	Say struct{ Query Query }
	// Bound: the terminal has this lease now, new or as it was before, with
	// what it holds. The options may be missing: it waits for them still.
	Bound struct{ Lease Lease }
	// Unbound: the address is not the terminal's any longer.
	Unbound struct{ Lease Lease }
	// Settled: the lease is as good as it will get; servers may be taken
	// from it.
	Settled struct{ Lease Lease }
	// Silent: no DHCP server has answered for a good while. The client goes on
	// asking.
	Silent struct{}
	// Probe asks the network who has the address (RFC 5227). Whoever answers is
	// told to Taken.
	Probe struct{ Addr netip.Addr }
	// Refused: the address that a server gave is used by another machine.
	Refused struct{ Addr netip.Addr }
)

func (Say) action()     {}
func (Probe) action()   {}
func (Refused) action() {}
func (Bound) action()   {}
func (Unbound) action() {}
func (Settled) action() {}
func (Silent) action()  {}

// Phase is where a Client stands (RFC 2131 figure 5).
//
//	down --link--> selecting --offer--> requesting --ack--> probing ------> bound
//	                  ^  ^                  |  nak        |  taken          |  T1
//	                  |  +------------------+-- declined<-+             renewing --ack--> bound
//	                  |                                       |  T2
//	                  +--- expired, nak ---------------- rebinding --ack--> bound
//
//	down --link, and there was a lease--> rebooting --ack--> bound
//	                                          +--- nak, silence ---> selecting
//
//	probing is passed over where the address is not to be used.
//
//	bound without vendor options: informing besides, up to Tries times.
type Phase string

const (
	Down       Phase = "down"
	Selecting  Phase = "selecting"
	Requesting Phase = "requesting"
	Probing    Phase = "probing"  // is the address free?
	Declined   Phase = "declined" // it was not: a pause before the next
	Rebooting  Phase = "rebooting"
	Holding    Phase = "bound"
	Renewing   Phase = "renewing"
	Rebinding  Phase = "rebinding"
)

// A Client is the DHCP client of one interface. Invariants:
//  4. A reply counts only in the phase that waits for it, by its transaction,
//     from the server that was asked where one was; a lease must be usable.
//  5. Between two messages of one kind at least FirstTry passes, whatever comes.
//  6. A new address that is to be used is probed for first, Probes times; one
//     that another machine uses is declined, and after DeclineWait another is
//     asked for. Released, the client is down and says nothing more.
//  7. Each Bound with a new address is followed by an Unbound before another
//     address is bound; after the lease's end nothing is bound.
type Client struct {
	configures bool
	rand       *rand.Rand

	phase   Phase
	own     netip.Addr // the interface's address where the client does not set it
	id      uint32
	began   time.Time // of asking
	next    time.Time // when what was said is said again, or the phase changes
	tries   int
	last    map[Kind]time.Time // when a message of that kind was sent
	offer   *Reply             // the best so far
	given   Reply              // the ack whose address is probed for
	takeAt  time.Time          // when offer is taken
	silent  bool               // was said
	settled bool               // was said of this lease

	lease     Lease // zero: none
	renewAt   time.Time
	rebindAt  time.Time
	expireAt  time.Time // zero: never, or no lease
	informID  uint32
	informAt  time.Time // zero: not informing
	informing int       // tries
}

// NewClient makes a client whose link is down. It configures where the caller
// gives the interface the lease's address; otherwise the lease is only a way to
// learn, and renewals are asked for as after a restart, which needs no address.
func NewClient(configures bool, seed uint64) *Client {
	return &Client{configures: configures, rand: rand.New(rand.NewPCG(seed, 1)), phase: Down, last: map[Kind]time.Time{}}
}

// Phase is where the client stands.
func (c *Client) Phase() Phase { return c.phase }

// Lease is what the terminal has; Addr is invalid where it has none.
func (c *Client) Lease() Lease { return c.lease }

// Link tells whether the interface has a link, and which address it has where
// the client does not configure it.
func (c *Client) Link(now time.Time, up bool, own netip.Addr) []Action {
	c.own = own
	switch {
	case !up && c.phase != Down:
		// The lease stays: a plug that comes back finds its address.
		c.phase, c.next, c.takeAt, c.informAt, c.offer = Down, time.Time{}, time.Time{}, time.Time{}, nil
	case up && c.phase == Down && c.lease.Addr.IsValid():
		c.phase, c.tries = Rebooting, 0
		return c.again(now)
	case up && c.phase == Down:
		return c.selecting(now)
	}
	return nil
}

func (c *Client) selecting(now time.Time) []Action {
	c.phase, c.tries, c.offer, c.takeAt, c.id, c.began = Selecting, 0, nil, time.Time{}, c.rand.Uint32(), now
	return c.again(now)
}

// pause is how long the n-th message waits for an answer, spread by a tenth.
func (c *Client) pause(n int) time.Duration {
	d := min(FirstTry<<min(n, 5), LastTry)
	return d + time.Duration(c.rand.Int64N(int64(d/10)))
}

// say sends q, not sooner than FirstTry after one of its kind: then it returns
// nothing and when to come again.
func (c *Client) say(now time.Time, q Query) (out []Action, at time.Time) {
	if last, ok := c.last[q.Kind]; ok && now.Sub(last) < FirstTry {
		return nil, last.Add(FirstTry)
	}
	c.last[q.Kind] = now
	q.Since = max(0, now.Sub(c.began))
	return []Action{Say{q}}, time.Time{}
}

// again says what the phase wants said, and when next.
func (c *Client) again(now time.Time) []Action {
	var q Query
	var until time.Duration // the next try
	switch c.phase {
	case Selecting:
		q = Query{Kind: Discover, ID: c.id}
		until = c.pause(c.tries)
	case Requesting:
		q = Query{Kind: Request, ID: c.id, Requested: c.offer.Addr, Server: c.offer.Server}
		until = c.pause(c.tries)
	case Rebooting:
		if c.tries == 0 {
			c.id, c.began = c.rand.Uint32(), now
		}
		q = Query{Kind: Request, ID: c.id, Requested: c.lease.Addr}
		until = c.pause(c.tries)
	case Renewing, Rebinding:
		if c.tries == 0 {
			c.id, c.began = c.rand.Uint32(), now
		}
		q = Query{Kind: Request, ID: c.id, Client: c.lease.Addr}
		end := c.expireAt
		if c.phase == Renewing {
			q.To, end = c.lease.Server, c.rebindAt
		}
		if !c.configures {
			q.Client, q.To, q.Requested = netip.Addr{}, netip.Addr{}, c.lease.Addr
		}
		// RFC 2131 section 4.4.5: half of what is left, at least 60 s; less for
		// short leases.
		least := min(time.Minute, max(FirstTry, c.lease.Lease/20))
		until = max(least, end.Sub(now)/2)
	}
	out, at := c.say(now, q)
	if out == nil {
		c.next = at
		return nil
	}
	c.tries++
	c.next = now.Add(until)
	return out
}

// Answer takes in what a server sent.
func (c *Client) Answer(now time.Time, r Reply) []Action {
	switch {
	case c.informing > 0 && !c.informAt.IsZero() && r.Kind == Ack && r.ID == c.informID:
		return c.informed(r)
	case r.ID != c.id || r.Server.IsValid() && !usable(r.Server):
		return nil
	case c.phase == Selecting && r.Kind == Offer:
		return c.offered(now, r)
	case c.phase == Requesting && r.Server != c.offer.Server:
		return nil // one that was not asked
	case c.phase != Requesting && c.phase != Rebooting && c.phase != Renewing && c.phase != Rebinding:
		return nil
	case r.Kind == Nak:
		return c.refused(now)
	case r.Kind == Ack:
		return c.acked(now, r)
	}
	return nil
}

// acceptable reports whether r can be a lease.
func acceptable(r Reply) bool {
	if !usable(r.Addr) || !usable(r.Server) || r.Lease < MinLease || r.Bits < 0 || r.Bits > 32 {
		return false
	}
	if r.Bits == 0 || r.Bits > 30 {
		return true
	}
	// Neither the network itself nor its broadcast address.
	net := netip.PrefixFrom(r.Addr, r.Bits).Masked()
	host := [4]byte(r.Addr.AsSlice())
	ones := true
	for i := r.Bits; i < 32; i++ {
		ones = ones && host[i/8]&(0x80>>(i%8)) != 0
	}
	return r.Addr != net.Addr() && !ones
}

// offered keeps the best offer: the first with vendor options is taken at once.
func (c *Client) offered(now time.Time, r Reply) []Action {
	if !acceptable(r) {
		return nil
	}
	_, given := vendor(r)
	if given {
		c.offer = &r
		return c.request(now)
	}
	if c.offer == nil {
		c.offer, c.takeAt = &r, now.Add(OfferWait)
	}
	return nil
}

func (c *Client) request(now time.Time) []Action {
	c.phase, c.tries, c.takeAt = Requesting, 0, time.Time{}
	return c.again(now)
}

// vendor reads the vendor options; given is whether there are any that can be
// read.
func vendor(r Reply) (s vendoropt.Set, given bool) {
	if len(r.Vendor) == 0 {
		return vendoropt.New(), false
	}
	s, err := vendoropt.Parse(r.Vendor)
	if err != nil {
		return vendoropt.New(), false
	}
	bad := s.Bad
	s.Bad = nil
	given = len(s.Append(nil)) > 0
	s.Bad = bad
	return s, given
}

// refused: the address cannot be used.
func (c *Client) refused(now time.Time) []Action {
	out := c.lose()
	return append(out, c.selecting(now)...)
}

// lose gives the lease up.
func (c *Client) lose() []Action {
	if !c.lease.Addr.IsValid() {
		return nil
	}
	l := c.lease
	c.lease, c.settled = Lease{}, false
	c.renewAt, c.rebindAt, c.expireAt, c.informAt, c.informing = time.Time{}, time.Time{}, time.Time{}, time.Time{}, 0
	return []Action{Unbound{l}}
}

// acked: the terminal has an address.
func (c *Client) acked(now time.Time, r Reply) []Action {
	if !acceptable(r) || c.phase == Requesting && r.Addr != c.offer.Addr {
		return nil // the next try, or the next server, may do better
	}
	if c.configures && r.Addr != c.lease.Addr {
		out := c.lose()
		c.phase, c.tries, c.given, c.offer = Probing, 0, r, nil
		return append(out, c.probe(now)...)
	}
	return c.bind(now, r)
}

// probe asks once more who has the address, or takes it.
func (c *Client) probe(now time.Time) []Action {
	if c.tries == Probes {
		return c.bind(now, c.given)
	}
	c.tries++
	c.next = now.Add(ProbeEvery)
	return []Action{Probe{c.given.Addr}}
}

// Taken tells that another machine has an address, or wants it too.
func (c *Client) Taken(now time.Time, a netip.Addr) []Action {
	if c.phase != Probing || a != c.given.Addr {
		return nil
	}
	q := Query{Kind: Decline, ID: c.rand.Uint32(), Requested: a, Server: c.given.Server}
	c.phase, c.tries, c.next = Declined, 0, now.Add(DeclineWait)
	out, _ := c.say(now, q)
	return append(out, Refused{a})
}

// Release gives the lease back: the terminal is about to be switched off.
func (c *Client) Release(now time.Time) []Action {
	l := c.lease
	if c.phase == Down || !l.Addr.IsValid() {
		return nil
	}
	out, _ := c.say(now, Query{Kind: Release, ID: c.rand.Uint32(), Client: l.Addr, Server: l.Server})
	c.phase, c.next, c.takeAt = Down, time.Time{}, time.Time{}
	return append(out, c.lose()...)
}

// bind takes an address.
func (c *Client) bind(now time.Time, r Reply) []Action {
	var out []Action
	if c.lease.Addr.IsValid() && c.lease.Addr != r.Addr {
		out = c.lose()
	}
	l := Lease{Reply: tidy(r)}
	l.Options, l.Given = vendor(r)
	if had := c.lease; !l.Given && had.Given && had.Server == l.Server {
		l.Options, l.Given = had.Options, true // they came by an inform
	}
	c.lease, c.phase, c.offer, c.silent = l, Holding, nil, false
	c.renewAt, c.rebindAt, c.expireAt = time.Time{}, time.Time{}, time.Time{}
	if r.Lease < forever {
		t1, t2 := r.Renew, r.Rebind
		if t2 <= 0 || t2 >= r.Lease {
			t2 = r.Lease * 7 / 8
		}
		if t1 <= 0 || t1 >= t2 {
			t1 = min(r.Lease/2, t2)
		}
		c.renewAt, c.rebindAt, c.expireAt = now.Add(t1), now.Add(t2), now.Add(r.Lease)
	}
	c.next = time.Time{}
	out = append(out, Bound{l})
	if l.Given || c.settled || !c.informable() {
		c.settled = true
		return append(out, Settled{l})
	}
	c.informing, c.informAt, c.informID = 0, now, c.rand.Uint32()
	return append(out, c.inform(now)...)
}

// tidy bounds the lists and takes out what cannot be meant.
func tidy(r Reply) Reply {
	keep := func(list []netip.Addr, ok func(netip.Addr) bool) []netip.Addr {
		var all []netip.Addr
		for _, a := range list {
			if usable(a) && ok(a) && len(all) < MaxServers {
				all = append(all, a)
			}
		}
		return all
	}
	any := func(netip.Addr) bool { return true }
	r.DNS, r.Displays = keep(r.DNS, any), keep(r.Displays, any)
	r.Routers = keep(r.Routers, func(a netip.Addr) bool {
		return r.Bits > 0 && a != r.Addr && netip.PrefixFrom(r.Addr, r.Bits).Contains(a)
	})
	return r
}

// informable reports whether there is an address to ask from.
func (c *Client) informable() bool { return c.informFrom().IsValid() }

func (c *Client) informFrom() netip.Addr {
	if c.configures {
		return c.lease.Addr
	}
	return c.own
}

// inform asks for the vendor options, or ends asking.
func (c *Client) inform(now time.Time) []Action {
	if c.informing == Tries {
		c.informAt, c.settled = time.Time{}, true
		return []Action{Settled{c.lease}}
	}
	out, at := c.say(now, Query{Kind: Inform, ID: c.informID, Client: c.informFrom()})
	if out == nil {
		c.informAt = at
		return nil
	}
	c.informing++
	c.informAt = now.Add(c.pause(c.informing - 1))
	return out
}

// informed takes in the answer to an inform: only what the lease lacks.
func (c *Client) informed(r Reply) []Action {
	options, given := vendor(r)
	if !given {
		return nil // another server may know more
	}
	l := &c.lease
	l.Options, l.Given, l.Vendor = options, true, r.Vendor
	more := tidy(Reply{Displays: r.Displays, DNS: r.DNS})
	if len(l.Displays) == 0 {
		l.Displays = more.Displays
	}
	if len(l.DNS) == 0 {
		l.DNS = more.DNS
	}
	if l.Domain == "" {
		l.Domain = r.Domain
	}
	if l.Firmware == "" {
		l.Firmware = r.Firmware
	}
	c.informAt, c.settled = time.Time{}, true
	return []Action{Settled{*l}}
}

// Next is when Tick must be called, zero: never.
func (c *Client) Next() time.Time {
	var next time.Time
	for _, t := range []time.Time{c.next, c.takeAt, c.informAt, c.timer()} {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	return next
}

// timer is the lease's next time.
func (c *Client) timer() time.Time {
	switch c.phase {
	case Holding:
		return c.renewAt
	case Renewing:
		return c.rebindAt
	}
	return c.expireAt
}

// Tick does what is due.
func (c *Client) Tick(now time.Time) []Action {
	due := func(t time.Time) bool { return !t.IsZero() && !t.After(now) }
	switch {
	case due(c.expireAt):
		out := c.lose()
		if c.phase == Down {
			return out
		}
		return append(out, c.selecting(now)...)
	case due(c.takeAt):
		return c.request(now)
	case due(c.rebindAt) && (c.phase == Holding || c.phase == Renewing):
		c.phase, c.tries = Rebinding, 0
		return c.again(now)
	case due(c.renewAt) && c.phase == Holding:
		c.phase, c.tries = Renewing, 0
		return c.again(now)
	case due(c.informAt):
		return c.inform(now)
	case due(c.next):
		return c.unanswered(now)
	}
	return nil
}

// unanswered: nobody has answered what was said.
func (c *Client) unanswered(now time.Time) []Action {
	switch {
	case c.phase == Probing:
		return c.probe(now)
	case c.phase == Declined:
		return c.selecting(now)
	case (c.phase == Requesting || c.phase == Rebooting) && c.tries >= Tries:
		// A lease that nobody confirmed may be used to its end (RFC 2131 section
		// 3.2), but where the plug was moved to it is of no use.
		out := c.lose()
		return append(out, c.selecting(now)...)
	case c.phase == Selecting && c.tries == Tries && !c.silent:
		c.silent = true
		return append([]Action{Silent{}}, c.again(now)...)
	}
	return c.again(now)
}
