//go:build pcsc

package pcsc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebfe/scard"

	"hotdesk/smartcard/reader"
)

const (
	// MaxReaders bounds the readers that are watched.
	MaxReaders = 15 // as many as pcsc-lite has room for beside the notification
	// retry is how often a service that is away is looked for.
	retry = time.Second
	// late is how long after a pull the service may tell of it.
	late = time.Second
	// again is how often readers are listed anew while nothing is told: one that
	// comes between the list and the library's own first look is told by nobody.
	again = 2 * time.Second
	// pnp is the reader that tells of readers.
	pnp = `\\?PnP?\Notification`
	// maxMissed bounds the changes that are told for one look.
	maxMissed = 1000
)

// Source is the service's readers.
type Source struct {
	wanted  func(name string) bool
	events  chan reader.Event
	closing chan struct{}
	done    chan struct{}
	once    sync.Once

	mu    sync.Mutex
	watch *scard.Context // to cancel; nil while there is none

	slots map[string]*slot // of the goroutine run
}

// slot is one reader as it was told.
type slot struct {
	hand    *scard.Context  // of this reader alone: it is locked while its card is at an exchange
	state   scard.StateFlag // with the counter of changes in its high half
	card    *Card
	counted bool
}

// open is whether there is a Source: the library keeps the names that it lends
// to C in a map that nothing guards, so only one goroutine may wait at a time.
var open atomic.Bool

// Open watches the readers whose name wanted accepts; nil: all.
func Open(wanted func(name string) bool) (*Source, error) {
	s := &Source{wanted: wanted, events: make(chan reader.Event), closing: make(chan struct{}), done: make(chan struct{}), slots: map[string]*slot{}}
	if open.Swap(true) {
		return nil, errors.New("pcsc: the readers of this process are open already")
	}
	watch, err := scard.EstablishContext()
	if err != nil {
		open.Store(false)
		return nil, fmt.Errorf("pcsc: the PC/SC service does not answer; install pcscd and start it: %w", err)
	}
	s.watch = watch
	go s.run()
	return s, nil
}

// Events tells what happens at the readers.
func (s *Source) Events() <-chan reader.Event { return s.events }

// Close lets the readers go. Events that nobody took are dropped; Events is
// closed when Close returns.
func (s *Source) Close() error {
	s.once.Do(func() { close(s.closing) })
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		// A cancel that comes before the wait begins is lost: hence again.
		s.mu.Lock()
		if s.watch != nil {
			_ = s.watch.Cancel() // fails only where nothing waits
		}
		s.mu.Unlock()
		select {
		case <-s.done:
			return nil
		case <-again.C:
		}
	}
}

func (s *Source) closed() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// run watches until Close, through absences of the service.
func (s *Source) run() {
	defer close(s.done)
	defer open.Store(false)
	defer close(s.events)
	for {
		s.mu.Lock()
		watch := s.watch
		s.mu.Unlock()
		if watch != nil {
			s.follow(watch)
			s.forget()
			s.mu.Lock()
			s.watch = nil
			s.mu.Unlock()
			_ = watch.Release() // of a service that is away it fails
		}
		if s.closed() {
			return
		}
		select {
		case <-s.closing:
			return
		case <-time.After(retry):
		}
		if next, err := scard.EstablishContext(); err == nil {
			s.mu.Lock()
			s.watch = next
			s.mu.Unlock()
		}
	}
}

// follow tells events until Close or until the service is gone.
func (s *Source) follow(watch *scard.Context) {
	for !s.closed() {
		names, err := watch.ListReaders()
		if err != nil && !errors.Is(err, scard.ErrNoReadersAvailable) {
			return
		}
		names = slices.DeleteFunc(names, func(n string) bool { return s.wanted != nil && !s.wanted(n) })
		names = names[:min(len(names), MaxReaders)]
		if err := s.changeReaders(names); err != nil {
			return
		}
		states := []scard.ReaderState{{Reader: pnp}}
		for _, n := range names {
			states = append(states, scard.ReaderState{Reader: n, CurrentState: s.slots[n].state})
		}
		err = watch.GetStatusChange(states, again)
		switch {
		case errors.Is(err, scard.ErrCancelled), errors.Is(err, scard.ErrUnknownReader), errors.Is(err, scard.ErrTimeout):
			continue
		case err != nil:
			return
		}
		for _, st := range states[1:] {
			if st.EventState&(scard.StateUnknown|scard.StateUnavailable) == 0 {
				s.change(watch, st)
			}
		}
	}
}

// tell hands an event on, or gives up when the Source is closed.
func (s *Source) tell(e reader.Event) {
	select {
	case s.events <- e:
	case <-s.closing:
	}
}

// changeReaders tells which readers came and went. It fails where the service gives
// no context for one: then it is as if it were away.
func (s *Source) changeReaders(names []string) error {
	for name, slot := range s.slots {
		if !slices.Contains(names, name) {
			s.pull(name, slot, scard.LeaveCard)
			delete(s.slots, name)
			_ = slot.hand.Release() // of a service that is away it fails
			s.tell(reader.Event{Kind: reader.ReaderRemoved, Reader: name})
		}
	}
	for _, name := range names {
		if s.slots[name] == nil {
			hand, err := scard.EstablishContext()
			if err != nil {
				return err
			}
			s.slots[name] = &slot{hand: hand, state: scard.StateUnaware}
			s.tell(reader.Event{Kind: reader.ReaderAdded, Reader: name})
		}
	}
	return nil
}

// forget tells every reader as removed. The service resets the cards, so that a
// verified PIN is none for who comes next.
func (s *Source) forget() {
	for name, slot := range s.slots {
		s.pull(name, slot, scard.ResetCard)
	}
	_ = s.changeReaders(nil) // none comes
}

func count(state scard.StateFlag) uint16 { return uint16(uint32(state) >> 16) }

// change tells what happened at one reader since it was looked at last.
func (s *Source) change(watch *scard.Context, st scard.ReaderState) {
	sl := s.slots[st.Reader]
	present := st.EventState&scard.StatePresent != 0
	missed := 0
	if sl.counted {
		missed = int(count(st.EventState) - count(sl.state)) // modulo 2^16
	}
	sl.counted = true
	sl.state = st.EventState &^ scard.StateChanged
	if (missed%2 != 0) != (present != (sl.card != nil)) || missed > maxMissed {
		// The counter counts otherwise here, or anew since the reader was plugged
		// in again: believe the state, but of a card that it is another one.
		if present && missed != 0 {
			s.pull(st.Reader, sl, scard.LeaveCard)
		}
		missed = 0
	}
	for range missed - 1 { // cards that came and went, and the one that was in
		if sl.card != nil {
			s.pull(st.Reader, sl, scard.LeaveCard)
		} else {
			s.push(st.Reader, sl, gone())
		}
	}
	switch {
	case present && sl.card == nil:
		s.push(st.Reader, sl, connect(watch, sl.hand, st))
	case !present && sl.card != nil:
		s.pull(st.Reader, sl, scard.LeaveCard)
	}
}

func (s *Source) push(name string, sl *slot, c *Card) {
	sl.card = c
	s.tell(reader.Event{Kind: reader.Inserted, Reader: name, Card: c})
}

func (s *Source) pull(name string, sl *slot, how scard.Disposition) {
	c := sl.card
	if c == nil {
		return
	}
	sl.card = nil
	close(c.removed)
	s.tell(reader.Event{Kind: reader.Removed, Reader: name, Card: c})
	c.release(how)
}

// Card is one insertion.
type Card struct {
	atr     []byte
	removed chan struct{}
	turn    chan struct{} // holds a value while nobody has an exchange
	handle  *scard.Card   // nil: the card is mute, or was gone too soon
	speaks  scard.Protocol
}

func gone() *Card {
	c := &Card{removed: make(chan struct{}), turn: make(chan struct{}, 1)}
	c.turn <- struct{}{}
	return c
}

// connect takes the card that st tells of. If another is in by now, the handle
// is given back: it would be the other card's.
func connect(watch, hand *scard.Context, st scard.ReaderState) *Card {
	c := gone()
	c.atr = slices.Clone(st.Atr)
	handle, err := hand.Connect(st.Reader, scard.ShareExclusive, scard.ProtocolAny)
	if err != nil {
		return c
	}
	now := []scard.ReaderState{{Reader: st.Reader}}
	if err := watch.GetStatusChange(now, 0); err != nil || count(now[0].EventState) != count(st.EventState) {
		_ = handle.Disconnect(scard.LeaveCard) // of a card that is out it fails
		return c
	}
	c.handle, c.speaks = handle, handle.ActiveProtocol()
	return c
}

// release lets the handle go once the exchange that runs has ended: before the
// next card is connected, as the service would take it for that one's.
func (c *Card) release(how scard.Disposition) {
	if c.handle == nil {
		return
	}
	<-c.turn
	_ = c.handle.Disconnect(how) // of a card that is out it fails
	c.turn <- struct{}{}
}

// ATR is what the service says.
func (c *Card) ATR() []byte { return slices.Clone(c.atr) }

// Protocol is what the service settled on with the card.
func (c *Card) Protocol() (t int, ok bool) {
	switch c.speaks {
	case scard.ProtocolT0:
		return 0, true
	case scard.ProtocolT1:
		return 1, true
	}
	return 0, false
}

// Removed is closed when the card is out.
func (c *Card) Removed() <-chan struct{} { return c.removed }

// Transmit has an exchange with the card. One that the context ends goes on
// at the reader; the next one waits for it.
func (c *Card) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	return c.alone(ctx, func() ([]byte, error) {
		b, err := c.handle.Transmit(command)
		if err == nil && len(b) < 2 {
			err = errors.New("pcsc: an answer without a status word")
		}
		if err != nil {
			return nil, c.why(err)
		}
		return b, nil
	})
}

// Reset has the service reset the card.
func (c *Card) Reset(ctx context.Context) error {
	_, err := c.alone(ctx, func() ([]byte, error) {
		return nil, c.handle.Reconnect(scard.ShareExclusive, scard.ProtocolAny, scard.ResetCard)
	})
	return err
}

// alone does f with the card when it is its turn.
func (c *Card) alone(ctx context.Context, f func() ([]byte, error)) ([]byte, error) {
	select {
	case <-c.removed:
		return nil, reader.ErrRemoved
	default:
	}
	if c.handle == nil {
		return nil, reader.ErrMute
	}
	select {
	case <-c.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	type result struct {
		answer []byte
		err    error
	}
	ended := make(chan result, 1)
	go func() {
		defer func() { c.turn <- struct{}{} }()
		select {
		case <-c.removed:
			ended <- result{nil, reader.ErrRemoved}
		default:
			b, err := f()
			ended <- result{b, err}
		}
	}()
	select {
	case r := <-ended:
		if err := c.explain(r.err); err != nil {
			return nil, err
		}
		return r.answer, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// why waits a moment for the removal that may be the reason of err: exchanges
// fail at once when the card is pulled, the service looks for it now and then.
func (c *Card) why(err error) error {
	select {
	case <-c.removed:
		return reader.ErrRemoved
	case <-time.After(late):
		return err
	}
}

func (c *Card) explain(err error) error {
	select {
	case <-c.removed:
		return reader.ErrRemoved
	default:
	}
	switch {
	case err == nil, errors.Is(err, reader.ErrRemoved):
		return err
	case errors.Is(err, scard.ErrRemovedCard), errors.Is(err, scard.ErrNoSmartcard), errors.Is(err, scard.ErrReaderUnavailable),
		errors.Is(err, scard.ErrUnknownReader), errors.Is(err, scard.ErrInvalidHandle):
		return fmt.Errorf("%w (%w)", reader.ErrRemoved, err)
	}
	return fmt.Errorf("%w (%w)", reader.ErrMute, err)
}
