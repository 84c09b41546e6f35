// Package lookup asks the group for the sessions of one token.
//
// Source: seed 004 figures 9b (steps 916 to 920) and 9c; design section 4,
// "Lookup".
//
//	asking --all that count have answered, or Settle is over--> settled
//	   |  a host asks for the same token and goes first      ^
//	   +--> waiting for what it decides, at most Patience ---+
//
// Invariants:
//  1. Every host is asked, again after Again[i] until it answers. A suspect host
//     is asked and not waited for, nor is one that was given up.
//  2. Of the sessions found the one with the latest connection wins; one that
//     is only promised yields to one that exists. Equal ones, and promises, are
//     told apart by host name and id, so that everybody who asks decides alike.
//  3. A host that goes first is asked again until it has decided, so that two
//     do not both make a session.
//  4. Settled stays settled: later answers change nothing.
//  5. Where hosts were waited for in vain, those that had no session are asked
//     once more, for at most Confirm: what they said is old by then.
//
// Each host is asked by a message to itself: tokens are for TRUSTED hosts alone
// (seed 004), and a broadcast would tell every machine of the network, and wake
// every terminal. 300 cards within five minutes cost each of 1,000 hosts
// 4.4 kbit/s (package engine, TestTraffic).
//
// The package does no I/O and reads no clock; callers pass the time. A Lookup
// is not safe for concurrent use.
package lookup

import (
	"maps"
	"slices"
	"strings"
	"time"

	"hotdesk/protocol/group"
)

// Settle is when a lookup ends though hosts have not answered.
const Settle = 150 * time.Millisecond

// Patience is when a lookup ends though a host that goes first has not decided.
const Patience = 500 * time.Millisecond

// StartPatience is the same for a host that is just starting and knows nothing
// yet. It is shorter: those who wait for us to decide must not give up with us.
const StartPatience = Patience / 2

// Confirm is how much longer a lookup takes at most that was settled without
// some hosts, none of them going first, and found nothing.
const Confirm = 40 * time.Millisecond

// poll is the time between two questions to a host that goes first.
const poll = 25 * time.Millisecond

// again is when those that have not answered are asked, after the start.
var again = []time.Duration{0, 20 * time.Millisecond, 60 * time.Millisecond}

// Ask is one host to ask.
type Ask struct {
	Host    string
	Suspect bool
}

// Candidate is a session that was found.
type Candidate struct {
	Host    string
	Session group.Found
	Last    time.Time // of its last connection, by our clock
}

// Lookup is the machine.
type Lookup struct {
	start   time.Time
	open    map[string]bool // hosts that have not answered; true: waited for
	first   map[string]bool // those of open that go first, or are starting
	starts  map[string]bool // those of first that are starting
	sent    int             // how many of again are over
	polled  time.Time       // when those that go first were asked last
	ticked  time.Time       // the last Tick
	settled bool
	none    []string        // hosts that answered that they have none
	confirm bool            // they are to be asked once more
	asked   time.Time       // when they were; zero: not yet
	twice   map[string]bool // those of them that have not answered again
	found   []Candidate
	placed  string
}

// New starts a lookup. own are the sessions of this host, named self.
func New(now time.Time, self string, own []group.Found, ask []Ask) *Lookup {
	l := &Lookup{start: now, open: map[string]bool{}, first: map[string]bool{}, starts: map[string]bool{}, twice: map[string]bool{}}
	for _, a := range ask {
		l.open[a.Host] = !a.Suspect
	}
	l.add(now, self, own)
	l.settle(now)
	return l
}

func (l *Lookup) add(now time.Time, host string, found []group.Found) {
	for _, s := range found {
		l.found = append(l.found, Candidate{host, s, now.Add(-s.Ago)})
	}
}

// Own replaces what this host has of the token: a session may have been made
// or promised here since the lookup began.
func (l *Lookup) Own(now time.Time, self string, own []group.Found) {
	l.found = slices.DeleteFunc(l.found, func(c Candidate) bool { return c.Host == self })
	l.add(now, self, own)
}

func (l *Lookup) settle(now time.Time) {
	for host, waited := range l.open {
		limit := Settle
		switch {
		case l.twice[host]:
			if now.Before(l.asked.Add(Confirm)) {
				return
			}
			continue
		case l.starts[host]:
			limit = StartPatience
		case l.first[host]:
			limit = Patience
		}
		if waited && now.Before(l.start.Add(limit)) {
			return
		}
	}
	if l.old(now) {
		l.confirm = true
		return
	}
	l.settled = true
}

// old reports whether there is reason to ask once more.
func (l *Lookup) old(now time.Time) bool {
	return l.asked.IsZero() && len(l.none) > 0 && len(l.first) == 0 && len(l.found) == 0 && l.placed == "" && !now.Before(l.start.Add(Settle))
}

// Settled reports whether the result stands.
func (l *Lookup) Settled() bool { return l.settled }

// Next is when Tick has something to do; the zero time when settled.
func (l *Lookup) Next() time.Time {
	switch {
	case l.settled:
		return time.Time{}
	case l.confirm:
		return l.start // at once
	case l.sent < len(again):
		return l.start.Add(again[l.sent])
	case len(l.first) == 0 && l.asked.IsZero():
		return l.start.Add(Settle)
	case len(l.first) == 0:
		return l.asked.Add(Confirm)
	}
	next := l.polled.Add(poll)
	for _, at := range []time.Time{l.start.Add(Settle), l.start.Add(StartPatience), l.start.Add(Patience), l.asked.Add(Confirm)} {
		if at.After(l.ticked) && at.Before(next) {
			next = at
		}
	}
	return next
}

// Tick returns the hosts that are to be asked now, by name.
func (l *Lookup) Tick(now time.Time) []string {
	l.ticked = now
	if l.sent < len(again) && !now.Before(l.start.Add(again[l.sent])) && (!l.settled || l.sent == 0) {
		for l.sent < len(again) && !now.Before(l.start.Add(again[l.sent])) {
			l.sent++
		}
		var hosts []string
		for h := range l.open {
			hosts = append(hosts, h)
		}
		slices.Sort(hosts)
		l.polled = now
		l.settle(now)
		return hosts
	}
	l.settle(now)
	if l.confirm {
		l.confirm, l.asked = false, now
		for _, h := range l.none {
			l.open[h], l.twice[h] = true, true
		}
		slices.Sort(l.none)
		return l.none
	}
	if l.settled || len(l.first) == 0 || now.Before(l.polled.Add(poll)) {
		return nil
	}
	l.polled = now
	return slices.Sorted(maps.Keys(l.first))
}

// Answer takes a host's sessions of the token; only the first answer of a
// host that was asked counts. With goesFirst it counts as none yet. placed is
// the host to which it has just sent a new session, if any.
func (l *Lookup) Answer(now time.Time, host string, found []group.Found, goesFirst bool, placed string) {
	if _, asked := l.open[host]; !asked || l.settled {
		return
	}
	delete(l.starts, host)
	delete(l.twice, host)
	if goesFirst && len(found) == 0 {
		l.open[host], l.first[host] = true, true
		return
	}
	delete(l.open, host)
	delete(l.first, host)
	l.add(now, host, found)
	if len(found) == 0 && l.asked.IsZero() {
		l.none = append(l.none, host)
	}
	if placed != "" && (l.placed == "" || placed < l.placed) {
		l.placed = placed
	}
	l.settle(now)
}

// GiveUp stops waiting for a host of which nothing listens any more. It may
// still answer.
func (l *Lookup) GiveUp(now time.Time, host string) {
	if l.open[host] && !l.first[host] && !l.settled {
		l.open[host] = false
		l.settle(now)
	}
}

// Starts takes the word of a host that it knows of no sessions yet.
func (l *Lookup) Starts(now time.Time, host string) {
	if _, asked := l.open[host]; asked && !l.settled {
		l.open[host], l.first[host], l.starts[host] = true, true, true
		l.settle(now)
	}
}

// Placed is the host that some host has just sent a new session to, or empty.
func (l *Lookup) Placed() string { return l.placed }

// Best is the session that wins, if any was found.
func (l *Lookup) Best() (Candidate, bool) {
	if len(l.found) == 0 {
		return Candidate{}, false
	}
	return slices.MaxFunc(l.found, compare), true
}

// All is every session that was found, the one that wins first, without those
// that are only promised.
func (l *Lookup) All() []Candidate {
	all := slices.DeleteFunc(slices.Clone(l.found), func(c Candidate) bool { return c.Session.ID == "" })
	slices.SortFunc(all, func(a, b Candidate) int { return compare(b, a) })
	return all
}

func compare(a, b Candidate) int {
	if x, y := a.Session.State == group.Starting, b.Session.State == group.Starting; x != y {
		if x {
			return -1
		}
		return 1
	} else if x { // two promises: their ages are too close to tell
		return strings.Compare(b.Host, a.Host)
	}
	if c := a.Last.Compare(b.Last); c != 0 {
		return c
	}
	if c := strings.Compare(a.Host, b.Host); c != 0 {
		return c
	}
	return strings.Compare(string(a.Session.ID), string(b.Session.ID))
}

// Undecided is the hosts that have answered, but of which a later answer was
// waited for in vain, by name.
func (l *Lookup) Undecided() []string {
	all := maps.Clone(l.first)
	maps.Copy(all, l.twice)
	return slices.Sorted(maps.Keys(all))
}

// Missing is the hosts that were waited for in vain, by name.
func (l *Lookup) Missing() []string {
	var hosts []string
	for h, waited := range l.open {
		if waited && !l.first[h] && !l.twice[h] {
			hosts = append(hosts, h)
		}
	}
	slices.Sort(hosts)
	return hosts
}
