// Package lookup asks the group for the sessions of one token.
//
// Source: seed 004 figures 9b (steps 916 to 920) and 9c; design section 4,
// "Lookup".
//
//	asking --all that count have answered, or Settle is over--> settled
//
// Invariants:
//  1. Every host is asked, again after Again[i] until it answers. A suspect host
//     is asked and not waited for.
//  2. Of the sessions found the one with the latest connection wins; one that
//     is only promised yields to one that exists. Equal ones are told apart by
//     host name and id, so that everybody who asks decides alike.
//  3. Settled stays settled: later answers change nothing.
//
// The package does no I/O and reads no clock; callers pass the time. A Lookup
// is not safe for concurrent use.
package lookup

import (
	"slices"
	"strings"
	"time"

	"hotdesk/protocol/group"
)

// Settle is when a lookup ends though hosts have not answered.
const Settle = 150 * time.Millisecond

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
	sent    int             // how many of again are over
	settled bool
	found   []Candidate
}

// New starts a lookup. own are the sessions of this host, named self.
func New(now time.Time, self string, own []group.Found, ask []Ask) *Lookup {
	l := &Lookup{start: now, open: map[string]bool{}}
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

func (l *Lookup) settle(now time.Time) {
	for _, waited := range l.open {
		if waited && now.Before(l.start.Add(Settle)) {
			return
		}
	}
	l.settled = true
}

// Settled reports whether the result stands.
func (l *Lookup) Settled() bool { return l.settled }

// Next is when Tick has something to do; the zero time when settled.
func (l *Lookup) Next() time.Time {
	switch {
	case l.settled:
		return time.Time{}
	case l.sent < len(again):
		return l.start.Add(again[l.sent])
	}
	return l.start.Add(Settle)
}

// Tick returns the hosts that are to be asked now, by name.
func (l *Lookup) Tick(now time.Time) []string {
	if l.sent < len(again) && !now.Before(l.start.Add(again[l.sent])) && (!l.settled || l.sent == 0) {
		for l.sent < len(again) && !now.Before(l.start.Add(again[l.sent])) {
			l.sent++
		}
		var hosts []string
		for h := range l.open {
			hosts = append(hosts, h)
		}
		slices.Sort(hosts)
		l.settle(now)
		return hosts
	}
	l.settle(now)
	return nil
}

// Answer takes a host's sessions of the token; only the first answer of a
// host that was asked counts.
func (l *Lookup) Answer(now time.Time, host string, found []group.Found) {
	if _, asked := l.open[host]; !asked || l.settled {
		return
	}
	delete(l.open, host)
	l.add(now, host, found)
	l.settle(now)
}

// Best is the session that wins, if any was found.
func (l *Lookup) Best() (Candidate, bool) {
	if len(l.found) == 0 {
		return Candidate{}, false
	}
	return slices.MaxFunc(l.found, compare), true
}

func compare(a, b Candidate) int {
	if x, y := a.Session.State == group.Starting, b.Session.State == group.Starting; x != y {
		if x {
			return -1
		}
		return 1
	}
	if c := a.Last.Compare(b.Last); c != 0 {
		return c
	}
	if c := strings.Compare(a.Host, b.Host); c != 0 {
		return c
	}
	return strings.Compare(string(a.Session.ID), string(b.Session.ID))
}

// Missing is the hosts that were waited for in vain, by name.
func (l *Lookup) Missing() []string {
	var hosts []string
	for h, waited := range l.open {
		if waited {
			hosts = append(hosts, h)
		}
	}
	slices.Sort(hosts)
	return hosts
}
