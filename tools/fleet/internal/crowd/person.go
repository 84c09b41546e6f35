package crowd

import (
	"context"
	"math"
	"math/rand/v2"
	"time"

	"hotdesk/tools/fleet/internal/badge"
	"hotdesk/tools/fleet/internal/figures"
	"hotdesk/tools/fleet/internal/scenario"
)

// USB HID usages.
const (
	usageA      = 0x04
	usage1      = 0x1e // then 2 to 9, and 0
	usageReturn = 0x28
	usageF8     = 0x41
	usageF9     = 0x42
	usageF10    = 0x43
)

func digit(d byte) uint16 { return usage1 + uint16(d+9)%10 }

const (
	// echoWithin is how long a key may take to be seen.
	echoWithin = 5 * time.Second
	// rhythm is how much the time between two keys of a person varies
	// (standard deviation of its logarithm).
	rhythm = 0.5
)

// A person has one card.
type person struct {
	crowd *Crowd
	card  uint16
	at    *seat
	group scenario.Group
	rng   *rand.Rand
}

func newPerson(c *Crowd, n int) *person {
	p := &person{crowd: c, card: uint16(n + 1), at: c.seats[n], rng: c.rng(ofPerson, uint64(n))}
	share := n * 100 / max(1, c.People)
	for _, g := range c.Scenario.Groups {
		p.group = g
		if share -= g.Share; share < 0 {
			break
		}
	}
	return p
}

// work does what the scenario says till ctx ends.
func (p *person) work(ctx context.Context) {
	for first := true; ctx.Err() == nil; first = false {
		for _, st := range p.group.Steps {
			if ctx.Err() != nil {
				return
			}
			if st.Verb == scenario.WaitOnce && !first || st.Verb == scenario.Insert && p.at.cardIn() == p.card {
				continue
			}
			p.do(ctx, st)
		}
	}
}

func (p *person) do(ctx context.Context, st scenario.Step) {
	c := p.crowd
	switch st.Verb {
	case scenario.Wait, scenario.WaitOnce:
		pause(ctx, c.scaled(st.From)+time.Duration(p.rng.Float64()*float64(c.scaled(st.To-st.From))))
	case scenario.Insert:
		p.at.insert(p.card)
	case scenario.Remove:
		p.at.remove()
	case scenario.Go:
		p.at.remove()
		select {
		case next := <-c.free:
			c.free <- p.at
			p.at = next
		default: // all are taken
		}
	case scenario.Fiddle:
		for range st.Times {
			p.at.insert(p.card)
			pause(ctx, time.Duration(10+p.rng.IntN(300))*time.Millisecond)
			p.at.remove()
			if !pause(ctx, time.Duration(10+p.rng.IntN(200))*time.Millisecond) {
				return
			}
		}
	case scenario.Type:
		ctx, cancel := context.WithTimeout(ctx, c.scaled(st.From))
		defer cancel()
		p.write(ctx, st.Rate)
	case scenario.Watch:
		ctx, cancel := context.WithTimeout(ctx, c.scaled(st.From))
		defer cancel()
		p.film(ctx, true)
		<-ctx.Done()
		p.film(context.WithoutCancel(ctx), false)
	}
}

// film has the session begin or end its moving picture.
func (p *person) film(ctx context.Context, on bool) {
	ctx, cancel := context.WithTimeout(ctx, echoWithin)
	defer cancel()
	for range 2 { // a key is lost where the session was just lost
		now, ok := p.at.owned(ctx, p.card)
		if !ok || now.badge.Flags&badge.Playing != 0 == on {
			return
		}
		p.at.keys(p.card, now.times, usageF8)
		if !pause(ctx, time.Second) {
			return
		}
	}
}

// A stroke is a key on its way.
type stroke struct {
	typed uint32 // the session's count when it is there
	at    time.Duration
	times int // the insertion of the card that it was typed in
}

// write types at the rhythm of people: a logarithmic normal distribution of
// the times between keys.
func (p *person) write(ctx context.Context, rate float64) {
	c := p.crowd
	var way []stroke
	defer func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		for len(way) > 0 && p.arrived(late, &way) {
		}
	}()
	now, ok := p.at.owned(ctx, p.card)
	next := now.badge.Typed
	nonce := now.badge.Nonce
	for ok && ctx.Err() == nil {
		gap := math.Exp(rhythm*p.rng.NormFloat64()-rhythm*rhythm/2) / rate
		then, cancel := context.WithTimeout(ctx, time.Duration(gap*float64(time.Second)))
		for p.arrived(then, &way) {
		}
		cancel()
		if now, ok = p.at.owned(ctx, p.card); !ok {
			return
		}
		if nonce != now.badge.Nonce || len(way) > 0 && c.At()-way[0].at > echoWithin {
			for range way {
				c.Book.Count("keys never seen", c.At())
			}
			way, nonce = nil, now.badge.Nonce
		}
		if len(way) > 0 && way[0].times != now.times {
			way = nil // the power was off, which is no echo
		}
		if len(way) == 0 {
			next = now.badge.Typed
		}
		at := c.At()
		if p.at.keys(p.card, now.times, usageA+uint16(p.rng.IntN(26))) {
			next++
			way = append(way, stroke{next, at, now.times})
			c.Book.Count(figures.Keys, at)
		}
	}
}

// arrived waits till there is another look at the session, takes note of the
// keys that it shows, and says whether ctx lasts.
func (p *person) arrived(ctx context.Context, way *[]stroke) bool {
	s := p.at
	s.mu.Lock()
	now, wake := s.seen, s.wake
	s.mu.Unlock()
	for len(*way) > 0 && now.owned && now.times == (*way)[0].times && now.badge.Typed >= (*way)[0].typed {
		p.crowd.Book.Add(figures.Echo, (*way)[0].at, now.echo-(*way)[0].at)
		*way = (*way)[1:]
	}
	select {
	case <-wake:
		return true
	case <-ctx.Done():
		return false
	}
}
