// Package crowd is the terminals of a fleet and the people at them.
//
// Source: package scenario for what people do; design sections 2 and 3.
//
// Each terminal is dtu/app's, with the machine, the bootstrap, the emulated
// reader and the decoder of a real one; only its display is of this package,
// which looks at every picture and hands what it sees to the judge.
//
// Invariants:
//  1. A picture is judged only where the terminal's status was the same before
//     and after the look; otherwise it is looked at again.
//  2. What a hand types goes into a session whose badge was seen at this
//     terminal since the card came.
//  3. Run returns when every terminal it started has ended.
//
// Limits: scenario.MaxPeople; maxRects of a look.
package crowd

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"hotdesk/dtu/app"
	"hotdesk/protocol/alp"
	"hotdesk/tools/fleet/internal/figures"
	"hotdesk/tools/fleet/internal/oracle"
	"hotdesk/tools/fleet/internal/scenario"
)

// Config says what to run.
type Config struct {
	Scenario  *scenario.Scenario
	People    int
	Resting   int
	Lasts     time.Duration
	Own       bool // the scenario's own times, however long the run is
	Seed      uint64
	Servers   []netip.AddrPort
	Authority string
	GroupPort int
	Cards     string // folder; Card names its files
	Width     int
	Height    int
	Wire      app.Wire      // nil: none
	Nets      []app.Network // of the first terminals: what tells them of servers, in place of Servers
	Judge     *oracle.Judge
	Book      *figures.Book
	Over      <-chan struct{} // ends the work before its time
	Evening   func()          // when nobody works any longer, and every terminal is still there
	Log       *slog.Logger
}

// Card is the name of the card with that number.
func Card(n uint16) string { return fmt.Sprintf("card%04d", n) }

// A Crowd is one run.
type Crowd struct {
	Config
	start time.Time
	scale float64
	seats []*seat
	free  chan *seat
	wg    sync.WaitGroup
}

// New prepares a crowd.
func New(cfg Config) *Crowd {
	c := &Crowd{Config: cfg, start: time.Now(), scale: float64(cfg.Lasts) / float64(cfg.Scenario.Lasts)}
	if cfg.Own {
		c.scale = 1
	}
	total := max(cfg.People, cfg.People*cfg.Scenario.Terminals/100)
	c.free = make(chan *seat, total)
	for n := range total + cfg.Resting {
		s := newSeat(c, n)
		c.seats = append(c.seats, s)
		if n >= cfg.People && n < total {
			c.free <- s
		}
	}
	return c
}

// Power switches a terminal on or off.
func (c *Crowd) Power(n int, on bool) { c.seats[n].power(on) }

// Terminals is how many there are.
func (c *Crowd) Terminals() int { return len(c.seats) }

// At is how long the run has lasted.
func (c *Crowd) At() time.Duration { return time.Since(c.start) }

// rng is the randomness of one thing, the same in every run with the seed.
func (c *Crowd) rng(what, n uint64) *rand.Rand { return rand.New(rand.NewPCG(c.Seed, what<<32|n)) }

// What draws random numbers.
const (
	ofSeat = iota + 1
	ofPerson
	ofEvents
)

// mac names a terminal.
func (c *Crowd) mac(n int) alp.TerminalID {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	return alp.TerminalID(fmt.Sprintf("02f1ee%x", b[5:]))
}

// Run runs everything till the time is over or ctx ends.
func (c *Crowd) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var people sync.WaitGroup
	for _, s := range c.seats {
		c.wg.Go(func() { s.life(ctx) })
	}
	working, stop := context.WithTimeout(ctx, c.Lasts)
	defer stop()
	for n := range c.People {
		people.Go(func() { newPerson(c, n).work(working) })
	}
	people.Go(func() { c.happen(working) })
	select {
	case <-working.Done():
	case <-c.Over:
		stop()
	}
	people.Wait()
	if ctx.Err() == nil && c.Evening != nil {
		c.Evening()
	}
	cancel()
	c.wg.Wait()
}

// happen lets the scenario's events come about.
func (c *Crowd) happen(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	r := c.rng(ofEvents, 0)
	for _, e := range c.Scenario.Events {
		var hit []*seat
		for _, s := range c.seats {
			if e.Power > 0 && r.IntN(100) < e.Power {
				hit = append(hit, s)
			}
		}
		wg.Go(func() {
			if !pause(ctx, c.scaled(e.At)-c.At()) {
				return
			}
			for _, s := range hit {
				s.power(false)
			}
			if w, ok := c.Wire.(interface{ Weather(scenario.Weather) }); ok && e.Power == 0 {
				w.Weather(e.Weather)
				defer w.Weather(c.Scenario.Weather)
			}
			pause(ctx, c.scaled(e.For))
			for _, s := range hit {
				s.power(true)
			}
		})
	}
}

// scaled is a time of the scenario in this run.
func (c *Crowd) scaled(d time.Duration) time.Duration { return time.Duration(float64(d) * c.scale) }

// pause waits, and says whether the time has passed.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// A State is what a terminal is at, for who watches the run.
type State struct {
	Terminal string
	Card     uint16
	Code     int
	Title    string
	Server   netip.AddrPort
	Control  bool // it has a server
	Token    string
	Session  string
	Picture  bool          // the card's own session
	Age      time.Duration // since that was seen last
	In       time.Duration // since the card came
}

// States are all of them.
func (c *Crowd) States() []State {
	all := make([]State, 0, len(c.seats))
	for _, s := range c.seats {
		all = append(all, s.state())
	}
	return all
}

// Waiting are the terminals in which a card is and that do not show its session
// alive: none newer than within.
func (c *Crowd) Waiting(within time.Duration) (waiting []State) {
	for _, s := range c.seats {
		if st := s.state(); st.Card != 0 && st.In > within && (!st.Picture || st.Age > within) {
			waiting = append(waiting, st)
		}
	}
	return waiting
}
