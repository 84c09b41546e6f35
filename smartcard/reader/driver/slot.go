package driver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"hotdesk/smartcard/ccid"
	"hotdesk/smartcard/reader"
)

// slot is one slot of a reader. Its goroutine alone touches what is below
// changes.
type slot struct {
	l       *link
	tell    func(reader.Event)
	name    string
	number  byte
	changes chan ccid.Change

	card    *Card
	pending []ccid.Change // taken from changes, not yet followed
	heard   bool          // the interrupt pipe spoke of it
}

// run follows the slot's cards until the reader is gone or closed.
func (s *slot) run(present bool) {
	defer s.pull()
	if present {
		s.push()
	}
	for {
		for len(s.pending) > 0 {
			c := s.pending[0]
			s.pending = s.pending[1:]
			s.change(c)
		}
		var lost <-chan struct{}
		if s.card != nil {
			lost = s.card.lost
		}
		select {
		case <-s.l.ctx.Done():
			return
		case c := <-s.changes:
			s.change(c)
		case <-lost: // without power: see the driver's invariant 3
			s.change(ccid.Change{Present: true, Changed: true})
		}
	}
}

// change follows one message about the slot. The first of a reader that was
// just opened may tell what its status told already.
func (s *slot) change(c ccid.Change) {
	again := c.Changed && s.heard
	s.heard = true
	switch in := s.card != nil; {
	case c.Present && in && again:
		s.pull()
		s.push()
	case c.Present && !in:
		s.push()
	case !c.Present && in:
		s.pull()
	case !c.Present && again: // came and went between two messages
		s.card = newCard(s.l, nil, reader.ErrRemoved)
		s.tell(reader.Event{Kind: reader.Inserted, Reader: s.name, Card: s.card})
		s.pull()
	}
}

func (s *slot) push() {
	k, err := s.power()
	if s.l.ctx.Err() != nil {
		return
	}
	s.card = newCard(s.l, k, err)
	s.tell(reader.Event{Kind: reader.Inserted, Reader: s.name, Card: s.card})
}

func (s *slot) power() (*contact, error) {
	if err := s.l.begin(s.l.ctx); err != nil {
		return nil, err
	}
	defer s.l.done()
	ctx, cancel := context.WithCancel(s.l.ctx)
	defer cancel()
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { s.watch(stop, cancel) })
	k, err := powerOn(ctx, s.l, s.number)
	close(stop)
	watch.Wait()
	switch {
	case err != nil:
		return nil, explain(err)
	case s.changed(): // it may be another card's ATR
		return nil, reader.ErrRemoved
	case k.warn != nil:
		s.l.log.Warn("card cannot be spoken with; pull it out, clean it and push it in again", "slot", s.number, "err", k.warn)
	}
	return k, nil
}

// watch gives what is done with the card some time to end once the card has gone,
// as pull does. Nobody else touches the slot meanwhile.
func (s *slot) watch(stop <-chan struct{}, cancel func()) {
	for {
		select {
		case <-stop:
			return
		case c := <-s.changes:
			if s.later(c) {
				time.AfterFunc(grace, cancel)
				return
			}
		}
	}
}

// changed reports whether the card went, and perhaps another one came, since
// the change that is followed.
func (s *slot) changed() bool {
	for len(s.changes) > 0 {
		s.later(<-s.changes)
	}
	return len(s.pending) > 0
}

// later keeps a change until the one that is followed has been, and reports
// whether there is something to keep.
func (s *slot) later(c ccid.Change) bool {
	if !s.heard && c.Present {
		s.heard = true // what the status told already
		return false
	}
	s.pending = append(s.pending, c)
	return true
}

func (s *slot) pull() {
	c := s.card
	if c == nil {
		return
	}
	s.card = nil
	c.pull()
	s.tell(reader.Event{Kind: reader.Removed, Reader: s.name, Card: c})
}

// explain maps what a link says to what package reader says.
func explain(err error) error {
	var refused *ccid.SlotError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused) && refused.Icc == ccid.IccAbsent, errors.Is(err, ErrGone), errors.Is(err, context.Canceled):
		return fmt.Errorf("%w (%w)", reader.ErrRemoved, err)
	}
	return fmt.Errorf("%w (%w)", reader.ErrMute, err)
}

// Card is one insertion.
type Card struct {
	l       *link
	atr     []byte
	speaks  int   // 0 or 1: its protocol; -1: not known
	err     error // why it cannot be spoken with
	removed chan struct{}
	lost    chan struct{} // closed when it has no power
	once    sync.Once
	ctx     context.Context // of exchanges
	cancel  context.CancelFunc

	contact *contact // of who has the link's turn
}

func newCard(l *link, k *contact, err error) *Card {
	c := &Card{l: l, contact: k, speaks: -1, err: err, removed: make(chan struct{}), lost: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(l.ctx)
	if k != nil {
		c.atr = k.atr
		if k.agreed && k.warn == nil {
			c.speaks = int(k.choice.Protocol)
		}
	}
	return c
}

// pull ends the card. An exchange that runs has some time to end by itself, as
// a reader that sees the card go answers at once.
func (c *Card) pull() {
	close(c.removed)
	time.AfterFunc(grace, c.cancel)
}

// ATR is what the card said.
func (c *Card) ATR() []byte { return slices.Clone(c.atr) }

// Removed is closed when the card is out.
func (c *Card) Removed() <-chan struct{} { return c.removed }

// Protocol is what the reader was told to speak with the card, or told that it
// does; a reset comes to the same. It is not known of a card whose ATR only the
// reader understands.
func (c *Card) Protocol() (t int, ok bool) { return c.speaks, c.speaks >= 0 }

func (c *Card) out() bool {
	select {
	case <-c.removed:
		return true
	default:
		return false
	}
}

// Transmit has an exchange with the card. One that the context ends goes on
// at the reader; the next one waits for it.
func (c *Card) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	command = slices.Clone(command)
	return c.alone(ctx, func() ([]byte, error) { return c.exchange(command) })
}

// Reset takes the card's power away and gives it back: nothing is selected
// then, and no PIN is verified.
func (c *Card) Reset(ctx context.Context) error {
	_, err := c.alone(ctx, func() ([]byte, error) {
		if c.out() {
			return nil, reader.ErrRemoved
		}
		k, err := powerOn(c.ctx, c.l, c.contact.slot)
		if err != nil {
			return nil, explain(err)
		}
		c.contact = k
		if k.warn == nil && !bytes.Equal(k.atr, c.atr) {
			k.warn = errors.New("driver: another ATR than before the reset")
		}
		if k.warn != nil {
			return nil, fmt.Errorf("%w (%w)", reader.ErrMute, k.warn)
		}
		return nil, nil
	})
	return err
}

// alone does f with the card when it is its turn.
func (c *Card) alone(ctx context.Context, f func() ([]byte, error)) ([]byte, error) {
	switch {
	case c.out():
		return nil, reader.ErrRemoved
	case c.err != nil:
		return nil, c.err
	}
	if err := c.l.begin(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, reader.ErrRemoved
	}
	type result struct {
		answer []byte
		err    error
	}
	ended := make(chan result, 1)
	go func() {
		defer c.l.done()
		b, err := f()
		ended <- result{b, err}
	}()
	select {
	case r := <-ended:
		if c.out() {
			return nil, reader.ErrRemoved
		}
		return r.answer, r.err
	case <-c.removed:
		return nil, reader.ErrRemoved
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// exchange is called by who has the turn.
func (c *Card) exchange(command []byte) ([]byte, error) {
	if c.out() {
		return nil, reader.ErrRemoved
	}
	if c.contact.warn != nil {
		return nil, fmt.Errorf("%w (%w)", reader.ErrMute, c.contact.warn)
	}
	b, err := c.contact.exchange(c.ctx, command)
	var refused *ccid.SlotError
	if errors.As(err, &refused) && refused.Icc == ccid.IccInactive {
		c.once.Do(func() { close(c.lost) })
		return nil, fmt.Errorf("%w (%w)", reader.ErrRemoved, err)
	}
	return b, explain(err)
}
