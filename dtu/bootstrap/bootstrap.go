// Package bootstrap is how a terminal finds its way: to an address (Client, the
// DHCP client) and to a server (Machine). Both are pure machines; package
// network speaks for the one, package app broadcasts the questions of the other.
//
// Source: seed 004, "The Self Discovery Protocol" and figure 9a; design section
// 4, "Finding a server"; reference/alp.md section 10; RFC 2131 and 2132.
//
// Servers come from sources, in this order unless another is configured:
// configured ones, then the last list, which is what was found or took us
// before, then those that DHCP named, then those that DNS knows, then a
// broadcast serverQ, again and again with growing pauses. A source that gave
// servers which did not answer is passed over for the next; while nobody
// answers the broadcast the other sources have their turn between the
// questions. While there is no network nothing is looked for.
//
// Invariants:
//  1. Every Locate is answered by at most one Found, and by one sooner or later
//     where any source has a server and there is a network.
//  2. Answers count only while a question is out, by its id and for this
//     terminal. They are hints whom to try: whoever is tried must prove itself.
//  3. Between two questions at least MinPause passes.
//
// Those of DHCP are beside Client. The package does no I/O and reads no clock.
// A Machine and a Client are not safe for concurrent use. Limits: MaxServers,
// MaxPause, LearnWait, ResolveWait.
package bootstrap

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"hotdesk/protocol/group"
)

const (
	// MaxServers bounds each list of servers; further ones are dropped.
	MaxServers = 16
	// Gather is how long further answers are waited for after the first.
	Gather = 60 * time.Millisecond
	// MinPause and MaxPause bound the time between two questions; it doubles.
	MinPause = 500 * time.Millisecond
	MaxPause = 4 * time.Second
	// LearnWait is how long what DHCP says is waited for, once it has its turn.
	LearnWait = 10 * time.Second
	// ResolveWait is how long DNS may take.
	ResolveWait = 3 * time.Second
)

// A Source is where servers come from.
type Source string

const (
	Configured Source = "configured"
	LastList   Source = "last"
	DHCP       Source = "dhcp"
	DNS        Source = "dns"
	Broadcast  Source = "broadcast"
)

// Order is the usual one (design section 4).
var Order = []Source{Configured, LastList, DHCP, DNS, Broadcast}

// Config says where to look.
type Config struct {
	Servers   []netip.AddrPort // configured
	Broadcast bool             // ask the network
	Learns    bool             // there is a DHCP client: Learn and Resolved will be called
	Order     []Source         // nil: as Order
	Question  group.ServerQ    // its ID is replaced for every question
	Seed      uint64           // of the question ids and of the spread of pauses
}

// An Action is something to be done.
type Action interface{ action() }

type (
	// Ask broadcasts a question.
	Ask struct{ Question group.ServerQ }
	// Found tells whom to try, in that order; at least one.
	Found struct{ Servers []netip.AddrPort }
	// Resolve asks DNS for the servers. Answered by Resolved.
	Resolve struct{}
)

func (Ask) action()     {}
func (Found) action()   {}
func (Resolve) action() {}

// Machine finds servers.
type Machine struct {
	cfg  Config
	rand *rand.Rand

	last    []netip.AddrPort            // newest first
	rumours []netip.AddrPort            // see Heard
	learned map[Source][]netip.AddrPort // DHCP, DNS; with a key once they were heard of
	down    bool                        // there is no network
	looking bool
	at      int              // in cfg.Order, of what was tried last; past its end: all were
	tried   []netip.AddrPort // in this round
	waitAt  time.Time        // zero: neither DHCP nor DNS is waited for
	pause   time.Duration
	asked   time.Time        // when the newest question was sent
	id      uint64           // of it, 0: none is out
	answers []netip.AddrPort // to it
	askAt   time.Time        // zero: no question is planned
	doneAt  time.Time        // zero: no answer yet
	unheard int              // questions in a row that nobody answered
}

// New makes a machine that looks for nothing yet.
func New(cfg Config) *Machine {
	cfg.Servers = cfg.Servers[:min(len(cfg.Servers), MaxServers)]
	if cfg.Order == nil {
		cfg.Order = Order
	}
	cfg.Broadcast = cfg.Broadcast && slices.Contains(cfg.Order, Broadcast)
	return &Machine{cfg: cfg, rand: rand.New(rand.NewPCG(cfg.Seed, 0)), learned: map[Source][]netip.AddrPort{}}
}

// From says where a search begins.
type From int

const (
	FromKnown   From = iota // at the first source
	FromNext                // what was found did not answer: at the next source
	FromNetwork             // at the broadcast: what was known is dead
	FromAll                 // everything that is known or was heard of, at once; else the broadcast
)

// Locate begins a search; one that is under way ends.
func (m *Machine) Locate(now time.Time, from From) []Action {
	m.stop()
	m.looking = true
	switch from {
	case FromKnown:
		m.round(0)
	case FromNext:
		m.at = min(m.at+1, len(m.cfg.Order))
	case FromNetwork, FromAll:
		m.round(slices.Index(m.cfg.Order, Broadcast))
		if m.at < 0 {
			m.at = len(m.cfg.Order)
		}
	}
	if all := m.Known(); from == FromAll && len(all) > 0 && !m.down {
		return m.found(all)
	}
	return m.use(now)
}

// Heard replaces what was heard of the group's hosts: hints, tried after what
// is known.
func (m *Machine) Heard(servers []netip.AddrPort) {
	m.rumours = servers[:min(len(servers), MaxServers)]
}

// round begins at a source as if nothing had been tried.
func (m *Machine) round(at int) {
	m.at, m.pause, m.unheard, m.tried = at, 0, 0, nil
	delete(m.learned, DNS) // it may know better now
}

// stop ends whatever is under way.
func (m *Machine) stop() {
	m.looking, m.id, m.answers = false, 0, nil
	m.doneAt, m.askAt, m.waitAt = time.Time{}, time.Time{}, time.Time{}
}

// Network tells whether there is a network. There is one until it is told
// otherwise; when it comes back a search begins anew.
func (m *Machine) Network(now time.Time, up bool) []Action {
	was := !m.down
	m.down = !up
	if up == was || !m.looking {
		return nil
	}
	m.stop()
	m.looking = true
	if !up {
		return nil
	}
	m.round(0)
	return m.use(now)
}

// Learn takes in the servers that DHCP names, or that it names none.
func (m *Machine) Learn(now time.Time, servers []netip.AddrPort) []Action {
	return m.heard(now, DHCP, servers)
}

// Resolved takes in the servers that DNS knows.
func (m *Machine) Resolved(now time.Time, servers []netip.AddrPort) []Action {
	return m.heard(now, DNS, servers)
}

func (m *Machine) heard(now time.Time, from Source, servers []netip.AddrPort) []Action {
	m.learned[from] = slices.Clone(servers[:min(len(servers), MaxServers)])
	turn := slices.Index(m.cfg.Order, from)
	switch {
	case !m.looking || m.down || turn < 0:
		return nil
	case !m.waitAt.IsZero() && m.at == turn:
		m.waitAt = time.Time{}
		return m.use(now)
	case m.at > turn: // it comes late, and whoever comes before did not answer
		if rest := without(servers, m.tried); len(rest) > 0 {
			m.tried = append(m.tried, rest...)
			return m.found(rest)
		}
	}
	return nil
}

// Took remembers a server that took us, the first of the last list, and ends
// the search.
func (m *Machine) Took(s netip.AddrPort) {
	m.stop()
	m.remember(s)
}

func (m *Machine) remember(s netip.AddrPort) {
	m.last = slices.DeleteFunc(m.last, func(o netip.AddrPort) bool { return o == s })
	m.last = slices.Insert(m.last, 0, s)
	m.last = m.last[:min(len(m.last), MaxServers)]
}

// use gives what the current source has, or goes on to the next.
func (m *Machine) use(now time.Time) []Action {
	if m.down {
		return nil // Network begins anew
	}
	for ; m.at < len(m.cfg.Order); m.at++ {
		from := m.cfg.Order[m.at]
		if from == Broadcast {
			return m.plan(now)
		}
		if _, heard := m.learned[from]; m.cfg.Learns && !heard {
			switch from {
			case DHCP:
				m.waitAt = now.Add(LearnWait)
				return nil
			case DNS:
				m.waitAt = now.Add(ResolveWait)
				return []Action{Resolve{}}
			}
		}
		if rest := without(m.list(from), m.tried); len(rest) > 0 {
			m.tried = append(m.tried, rest...)
			return m.found(rest)
		}
	}
	return m.plan(now)
}

// list is what a source has.
func (m *Machine) list(from Source) []netip.AddrPort {
	switch from {
	case Configured:
		return m.cfg.Servers
	case LastList:
		return m.last
	}
	return m.learned[from]
}

// without is list without those of others and without repetition.
func without(list, others []netip.AddrPort) []netip.AddrPort {
	var rest []netip.AddrPort
	for _, s := range list {
		if !slices.Contains(others, s) && !slices.Contains(rest, s) {
			rest = append(rest, s)
		}
	}
	return rest
}

// Known is what all sources have, in their order, and what was heard.
func (m *Machine) Known() []netip.AddrPort {
	var all []netip.AddrPort
	for _, from := range m.cfg.Order {
		all = append(all, without(m.list(from), all)...)
	}
	if m.cfg.Broadcast {
		all = append(all, without(m.rumours, all)...)
	}
	return all
}

// plan sets the time of the next question, or of the next turn of the other
// sources where nobody is to be asked.
func (m *Machine) plan(now time.Time) []Action {
	at := m.asked.Add(max(m.pause, MinPause))
	if m.asked.IsZero() || !at.After(now) {
		return m.turn(now)
	}
	m.askAt = at
	return nil
}

// turn is due: ask, or every other time let the known servers be tried again.
func (m *Machine) turn(now time.Time) []Action {
	m.askAt = time.Time{}
	known := m.Known()
	if len(known) > 0 && (!m.cfg.Broadcast || m.unheard >= 2) {
		m.unheard, m.asked, m.pause = 0, now, m.longer()
		m.at = len(m.cfg.Order) // what comes after all of them is the broadcast
		return m.found(known)
	}
	if !m.cfg.Broadcast {
		return nil // nothing is configured and nobody may be asked
	}
	m.unheard++
	for m.id = 0; m.id == 0; {
		m.id = m.rand.Uint64()
	}
	m.asked, m.answers, m.doneAt = now, nil, time.Time{}
	m.pause = m.longer()
	m.askAt = now.Add(m.pause)
	q := m.cfg.Question
	q.ID = m.id
	return []Action{Ask{q}}
}

// longer doubles the pause and spreads it by a fifth, so that terminals that
// were switched on together do not ask together for ever.
func (m *Machine) longer() time.Duration {
	p := min(max(2*m.pause, MinPause), MaxPause)
	return max(MinPause, p-time.Duration(m.rand.Int64N(int64(p/5))))
}

func (m *Machine) found(servers []netip.AddrPort) []Action {
	m.looking, m.id, m.askAt, m.doneAt, m.waitAt = false, 0, time.Time{}, time.Time{}, time.Time{}
	return []Action{Found{slices.Clone(servers)}}
}

// Answer takes in a serverR.
func (m *Machine) Answer(now time.Time, r group.ServerR) []Action {
	s := netip.AddrPortFrom(r.Addr, uint16(r.Port))
	if !m.looking || m.id == 0 || r.ID != m.id || r.Terminal != m.cfg.Question.Terminal ||
		!r.Addr.Is4() || r.Addr.IsUnspecified() || r.Addr.IsMulticast() ||
		len(m.answers) == MaxServers || slices.Contains(m.answers, s) {
		return nil
	}
	if len(m.answers) == 0 {
		m.doneAt, m.askAt = now.Add(Gather), time.Time{}
	}
	m.answers = append(m.answers, s)
	return nil
}

// Next is when Tick must be called, zero: never.
func (m *Machine) Next() time.Time {
	switch {
	case !m.waitAt.IsZero():
		return m.waitAt
	case !m.doneAt.IsZero():
		return m.doneAt
	}
	return m.askAt
}

// Tick does what is due.
func (m *Machine) Tick(now time.Time) []Action {
	switch {
	case !m.looking:
	case !m.waitAt.IsZero():
		if m.waitAt.After(now) {
			return nil
		}
		return m.heard(now, m.cfg.Order[m.at], nil)
	case !m.doneAt.IsZero() && !m.doneAt.After(now):
		m.unheard, m.at = 0, slices.Index(m.cfg.Order, Broadcast)
		for _, s := range slices.Backward(m.answers) {
			m.remember(s)
		}
		return m.found(m.answers)
	case m.doneAt.IsZero() && !m.askAt.IsZero() && !m.askAt.After(now):
		return m.turn(now)
	}
	return nil
}
