package crowd

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"hotdesk/dtu/app"
	"hotdesk/dtu/backend"
	"hotdesk/dtu/bootstrap"
	"hotdesk/tools/fleet/internal/badge"
	"hotdesk/tools/fleet/internal/figures"
)

// A seat is one terminal, and the display of it.
type seat struct {
	crowd *Crowd
	n     int
	name  string
	rng   *rand.Rand // of life

	st   atomic.Pointer[app.Status]
	poke chan struct{} // something is to be looked at

	// hand is held while somebody's hands do something.
	hand  sync.Mutex
	hands backend.Hands   // nil: no power
	pic   backend.Picture // nil: no power
	card  uint16          // that the person has put in; 0: none
	since time.Duration   // when
	times int             // insertions

	mu       sync.Mutex // of what was seen
	seen     seen
	wake     chan struct{} // closed when seen changes
	off      bool          // no power
	switched chan struct{} // closed when off changes
	end      context.CancelFunc
}

// seen is what was seen last of the session whose card is in.
type seen struct {
	times int // the insertion that it is of
	badge badge.Badge
	at    time.Duration // its clock was seen to move
	echo  time.Duration // it was looked at
	owned bool
}

func newSeat(c *Crowd, n int) *seat {
	s := &seat{crowd: c, n: n, name: string(c.mac(n)), rng: c.rng(ofSeat, uint64(n)),
		poke: make(chan struct{}, 1), wake: make(chan struct{}), switched: make(chan struct{})}
	s.st.Store(&app.Status{})
	return s
}

func (s *seat) status() *app.Status { return s.st.Load() }

// cardIn is the card that the person has put in.
func (s *seat) cardIn() uint16 {
	s.hand.Lock()
	defer s.hand.Unlock()
	return s.card
}

func (s *seat) state() State {
	st := s.status()
	s.hand.Lock()
	card, times, since := s.card, s.times, s.since
	s.hand.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return State{Terminal: s.name, Card: card, Code: st.Code, Title: st.Title, Server: st.Server, Token: string(st.Token), Session: string(st.Session), Control: st.Control,
		Picture: s.seen.times == times && s.seen.at > 0 && st.Code == 0 && st.Session != "", Age: s.crowd.At() - s.seen.at, In: s.crowd.At() - since}
}

// power switches the terminal on or off.
func (s *seat) power(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.off == on {
		s.off = !on
		close(s.switched)
		s.switched = make(chan struct{})
	}
	if !on && s.end != nil {
		s.end()
	}
}

// powered waits for power.
func (s *seat) powered(ctx context.Context) (context.Context, bool) {
	for {
		s.mu.Lock()
		off, change := s.off, s.switched
		if !off {
			ctx, s.end = context.WithCancel(ctx)
			s.mu.Unlock()
			return ctx, true
		}
		s.mu.Unlock()
		select {
		case <-change:
		case <-ctx.Done():
			return ctx, false
		}
	}
}

// life is the terminal's, from the first power on to the end of ctx.
func (s *seat) life(ctx context.Context) {
	c := s.crowd
	for {
		on, ok := s.powered(ctx)
		if !ok {
			return
		}
		at := c.At()
		// Not all at the same instant, unless the scenario says so: switches
		// and DHCP take their time.
		if pause(on, time.Duration(s.rng.Float64()*float64(max(c.scaled(c.Scenario.Slow), time.Second)))) {
			s.run(on, at)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// run is the terminal between power on and power off.
func (s *seat) run(ctx context.Context, at time.Duration) {
	c := s.crowd
	cfg := app.Default()
	cfg.Local = true
	cfg.Authority, cfg.GroupPort, cfg.Cards = c.Authority, c.GroupPort, c.Cards
	cfg.Servers = append(append(cfg.Servers, c.Servers[s.n%len(c.Servers):]...), c.Servers[:s.n%len(c.Servers)]...)
	if s.n < len(c.Nets) {
		cfg.Net, cfg.Servers, cfg.Find = c.Nets[s.n], nil, []bootstrap.Source{bootstrap.DHCP, bootstrap.Broadcast}
	}
	cfg.Width, cfg.Height, cfg.MAC = c.Width, c.Height, c.mac(s.n)
	cfg.Wire, cfg.Show, cfg.Count = c.Wire, s, c.Scenario.Counted
	cfg.Log = slog.New(slog.DiscardHandler)
	if c.Log != nil {
		cfg.Log = c.Log
	}
	fresh := true
	cfg.Told = func(st app.Status) {
		was := s.st.Swap(&st)
		if fresh && st.Control && st.Counters.Pictures > 0 {
			fresh = false
			c.Book.Add(figures.PowerOn, at, c.At()-at)
		}
		if st.Code != 0 && st.Code != was.Code && st.Card != "" && was.Session != "" {
			c.Book.Count("screen: "+st.Title, c.At())
		}
		s.again()
	}
	if err := app.Run(ctx, cfg); err != nil {
		c.Book.Count("terminal: "+err.Error(), c.At())
	}
	s.hand.Lock()
	s.hands, s.pic = nil, nil
	s.hand.Unlock()
	s.st.Store(&app.Status{})
}

// again has the picture looked at.
func (s *seat) again() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// Run is the display's.
func (s *seat) Run(ctx context.Context, p backend.Picture, h backend.Hands) error {
	bare, ok := p.(bare)
	s.hand.Lock()
	s.hands, s.pic = h, p
	if s.card != 0 { // it has stayed in the dark terminal
		s.push()
	}
	s.hand.Unlock()
	if s.crowd.Scenario.Counted || !ok {
		<-ctx.Done()
		return nil
	}
	w := p.Watch()
	defer w.Close()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	eyes := &eyes{seat: s, pic: bare}
	for {
		select {
		case <-w.Changed():
		case <-s.poke:
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		eyes.look(w.Take())
	}
}

// push puts s.card in. s.hand is held.
func (s *seat) push() {
	s.times++
	s.since = s.crowd.At()
	if s.hands == nil {
		return
	}
	if err := s.hands.Insert(Card(s.card)); err != nil {
		s.crowd.Book.Count("card: "+err.Error(), s.crowd.At())
	}
}

// insert puts a card in.
func (s *seat) insert(card uint16) {
	s.hand.Lock()
	defer s.hand.Unlock()
	s.card = card
	s.push()
	s.crowd.Book.Count(figures.CardsIn, s.crowd.At())
}

// remove takes the card out.
func (s *seat) remove() {
	s.hand.Lock()
	defer s.hand.Unlock()
	if s.card == 0 {
		return
	}
	s.card = 0
	s.times++
	if s.hands != nil {
		_ = s.hands.Remove() // it is not in where the terminal was just switched on
	}
}

// reseat takes the card out and puts it in again.
func (s *seat) reseat(card uint16, times int) bool {
	s.hand.Lock()
	defer s.hand.Unlock()
	if s.hands == nil || s.card != card || s.times != times {
		return false
	}
	s.push() // one that is in comes out first
	return true
}

// keys types, in the session whose badge was seen since the card came.
func (s *seat) keys(card uint16, times int, usages ...uint16) bool {
	s.hand.Lock()
	defer s.hand.Unlock()
	if s.hands == nil || s.card != card || s.times != times {
		return false
	}
	for _, u := range usages {
		s.hands.Key(u, true)
		s.hands.Key(u, false)
	}
	return true
}

// owned waits till the card's own session is seen.
func (s *seat) owned(ctx context.Context, card uint16) (seen, bool) {
	for {
		s.hand.Lock()
		times, in := s.times, s.card == card
		s.hand.Unlock()
		s.mu.Lock()
		now, wake := s.seen, s.wake
		s.mu.Unlock()
		if in && now.times == times && now.owned {
			return now, true
		}
		select {
		case <-wake:
		case <-time.After(time.Second): // the card may be gone
			if !in {
				return now, false
			}
		case <-ctx.Done():
			return now, false
		}
	}
}

func (s *seat) saw(n seen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = n
	close(s.wake)
	s.wake = make(chan struct{})
}
