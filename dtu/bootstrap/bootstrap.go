// Package bootstrap is how a terminal finds a server. It is a pure machine;
// package app broadcasts its questions and hands it the answers.
//
// Source: seed 004, "The Self Discovery Protocol" and figure 9a; design section
// 4, "Finding a server"; reference/alp.md section 10.
//
// Servers come from sources, in this order: configured ones, then the last
// list, which is what was found or took us before, then a broadcast serverQ,
// again and again with growing pauses. A source that gave servers which did
// not answer is passed over for the next; while nobody answers the broadcast
// the earlier sources have their turn between the questions. DHCP and DNS will
// be further sources between the last list and the broadcast.
//
// Invariants:
//  1. Every Locate is answered by at most one Found, and by one sooner or later
//     where any source has a server.
//  2. Answers count only while a question is out, by its id and for this
//     terminal. They are hints whom to try: whoever is tried must prove itself.
//  3. Between two questions at least MinPause passes.
//
// The package does no I/O and reads no clock. A Machine is not safe for
// concurrent use. Limits: MaxServers, MaxPause.
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
)

// Config says where to look.
type Config struct {
	Servers   []netip.AddrPort // configured
	Broadcast bool             // ask the network
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
)

func (Ask) action()   {}
func (Found) action() {}

// source is where the servers that were tried last came from.
type source int

const (
	configured source = iota
	lastList
	broadcast
)

// Machine finds servers.
type Machine struct {
	cfg  Config
	rand *rand.Rand

	last    []netip.AddrPort // newest first
	looking bool
	at      source
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
	return &Machine{cfg: cfg, rand: rand.New(rand.NewPCG(cfg.Seed, 0))}
}

// From says where a search begins.
type From int

const (
	FromKnown   From = iota // at the first source
	FromNext                // what was found did not answer: at the next source
	FromNetwork             // at the broadcast: what was known is dead
)

// Locate begins a search; one that is under way ends.
func (m *Machine) Locate(now time.Time, from From) []Action {
	m.looking, m.id, m.answers, m.doneAt, m.askAt = true, 0, nil, time.Time{}, time.Time{}
	switch from {
	case FromKnown:
		m.at, m.pause, m.unheard = configured, 0, 0
	case FromNext:
		m.at++
	case FromNetwork:
		m.at, m.pause, m.unheard = broadcast, 0, 0
	}
	return m.use(now)
}

// Took remembers a server that took us: the first of the last list.
func (m *Machine) Took(s netip.AddrPort) {
	m.last = slices.DeleteFunc(m.last, func(o netip.AddrPort) bool { return o == s })
	m.last = slices.Insert(m.last, 0, s)
	m.last = m.last[:min(len(m.last), MaxServers)]
}

// use gives what the current source has, or goes on to the next.
func (m *Machine) use(now time.Time) []Action {
	if m.at == configured {
		if len(m.cfg.Servers) > 0 {
			return m.found(m.cfg.Servers)
		}
		m.at++
	}
	if m.at == lastList {
		if rest := m.untried(); len(rest) > 0 {
			return m.found(rest)
		}
		m.at++
	}
	return m.plan(now)
}

// untried is the last list without the configured servers.
func (m *Machine) untried() []netip.AddrPort {
	return slices.DeleteFunc(slices.Clone(m.last), func(s netip.AddrPort) bool { return slices.Contains(m.cfg.Servers, s) })
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
	known := append(slices.Clone(m.cfg.Servers), m.untried()...)
	if len(known) > 0 && (!m.cfg.Broadcast || m.unheard >= 2) {
		m.unheard, m.asked, m.pause = 0, now, m.longer()
		m.at = lastList // what comes after known servers is the broadcast
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
	m.looking, m.id, m.askAt, m.doneAt = false, 0, time.Time{}, time.Time{}
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
	if m.doneAt.IsZero() {
		return m.askAt
	}
	return m.doneAt
}

// Tick does what is due.
func (m *Machine) Tick(now time.Time) []Action {
	switch {
	case !m.looking:
	case !m.doneAt.IsZero() && !m.doneAt.After(now):
		m.unheard, m.at = 0, broadcast
		for _, s := range slices.Backward(m.answers) {
			m.Took(s)
		}
		return m.found(m.answers)
	case m.doneAt.IsZero() && !m.askAt.IsZero() && !m.askAt.After(now):
		return m.turn(now)
	}
	return nil
}
