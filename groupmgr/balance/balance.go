// Package balance picks the host of a new session.
//
// Source: design section 4, "by power of two choices over free share, own
// recent placements counted at once"; Mitzenmacher, "The Power of Two Choices
// in Randomized Load Balancing", 2001, for why two are enough and the best one
// is wrong: everybody would pick it until its next message.
//
// Invariants:
//  1. A host that is offline, barred, or at its limit, is never picked.
//  2. This host is picked where its share is about as large as the other's, so
//     that an idle group keeps a session where the terminal is: within Near for
//     the figures that flicker, within NearRoom for its room for sessions.
//  3. A placement on another host counts as a session of it until that host has
//     been heard settle later, or expire is over. This host's own figures are
//     exact: the caller counts what it has promised.
//
// The package does no I/O and reads no clock; randomness comes from the caller.
// A Balancer is not safe for concurrent use.
package balance

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"hotdesk/protocol/group"
)

// By how much another host's share, or its room alone, must exceed this host's
// to win.
const (
	Near     = 0.15
	NearRoom = 0.06 // a session of a host with two processors
)

const (
	settle = 2 * time.Second  // until a new session shows in its host's figures
	expire = 30 * time.Second // a promise that nobody took up
)

// What a session is thought to need where its host says nothing better. Both
// are cautious: a busy desktop, not an idle one.
const (
	perCPU     = 10  // sessions that one processor carries
	memSession = 256 // MiB
)

// Candidate is a host that the terminal can reach.
type Candidate struct {
	Name  string
	Self  bool
	CPUs  int
	Load  group.Load
	State group.State
	Heard time.Time // when its figures came
	// Barred: the session's user may have none there.
	Barred bool
}

// Balancer is the machine.
type Balancer struct {
	rnd    *rand.Rand
	placed map[string][]time.Time
}

// New makes a Balancer.
func New(rnd *rand.Rand) *Balancer {
	return &Balancer{rnd: rnd, placed: map[string][]time.Time{}}
}

// Share is how much of a host is free, 0 to 1: the least of room for sessions,
// processors and memory, with extra sessions placed and not yet in its figures.
func Share(c Candidate, extra int) float64 {
	// Up to two runnable programs a processor are felt by nobody.
	share := min(room(c, extra), 1-float64(c.Load.Busy)/100/(2*float64(max(c.CPUs, 1))))
	if c.Load.Memory > 0 {
		share = min(share, float64(c.Load.Free-extra*memSession)/float64(c.Load.Memory))
	}
	return max(share, 0)
}

// room is how much of a host's room for sessions is free.
func room(c Candidate, extra int) float64 {
	room := max(c.CPUs, 1) * perCPU
	if c.Load.Limit > 0 {
		room = min(room, c.Load.Limit)
	}
	return max(1-float64(c.Load.Sessions+extra)/float64(room), 0)
}

// Place picks a host and counts the placement, or says why none takes a
// session.
func (b *Balancer) Place(now time.Time, candidates []Candidate) (host, why string) {
	host, why = b.Pick(now, candidates)
	if i := slices.IndexFunc(candidates, func(c Candidate) bool { return c.Name == host }); i >= 0 && !candidates[i].Self {
		b.placed[host] = append(b.placed[host], now)
	}
	return host, why
}

// Pick is Place for a session that may never be: nothing is counted.
func (b *Balancer) Pick(now time.Time, candidates []Candidate) (host, why string) {
	b.expire(now)
	var open []Candidate
	self := -1
	offline, full, barred := 0, 0, 0
	for _, c := range candidates {
		switch {
		case c.Barred:
			barred++
		case c.State != group.Online:
			offline++
		case c.Load.Limit > 0 && c.Load.Sessions+b.extra(c) >= c.Load.Limit:
			full++
		default:
			if c.Self {
				self = len(open)
			}
			open = append(open, c)
		}
	}
	if len(open) == 0 {
		return "", refusal(offline, full, barred)
	}
	i := b.rnd.IntN(len(open))
	if len(open) > 1 {
		j := b.rnd.IntN(len(open) - 1)
		if j >= i {
			j++
		}
		// What we know best is whom we chose ourselves.
		if cmp.Or(b.better(open[j], open[i]), len(b.placed[open[i].Name])-len(b.placed[open[j].Name])) > 0 {
			i = j
		}
	}
	if self >= 0 && b.better(open[i], open[self]) <= 0 {
		i = self
	}
	return open[i].Name, ""
}

// refusal says why so many hosts take no session.
func refusal(offline, full, barred int) string {
	may := "" // of the hosts, who asks may use some
	if barred > 0 {
		may = " and that you may use"
	}
	switch {
	case offline+full == 0 && barred > 0:
		return "no server that you may use can be reached from here: tell your administrator"
	case offline+full == 0:
		return "no server of the group can be reached from here: tell your administrator"
	case full == 0:
		return "every server that can be reached" + may + " is offline: try again later, or tell your administrator"
	}
	return fmt.Sprintf("the servers that can be reached%s are full (%d full, %d offline): try again later", may, full, offline)
}

// extra is the sessions that are not yet in a host's figures.
func (b *Balancer) extra(c Candidate) (n int) {
	for _, at := range b.placed[c.Name] {
		if c.Heard.Before(at.Add(settle)) {
			n++
		}
	}
	return n
}

func (b *Balancer) share(c Candidate) float64 { return Share(c, b.extra(c)) }

// better compares what two hosts have to give: above 0 x has more. Figures that
// flicker decide where they differ by more than Near, else the room for
// sessions, where it differs by more than NearRoom: smaller differences may
// have gone since the figures were said, and all hosts that believed them would
// send their users to one.
func (b *Balancer) better(x, y Candidate) int {
	if d := b.share(x) - b.share(y); d > Near || d < -Near {
		return cmp.Compare(d, 0)
	}
	if d := room(x, b.extra(x)) - room(y, b.extra(y)); d > NearRoom || d < -NearRoom {
		return cmp.Compare(d, 0)
	}
	return 0
}

// expire forgets old placements.
func (b *Balancer) expire(now time.Time) {
	for name, times := range b.placed {
		times = slices.DeleteFunc(times, func(at time.Time) bool { return now.Sub(at) >= expire })
		if len(times) == 0 {
			delete(b.placed, name)
		} else {
			b.placed[name] = times
		}
	}
}
