package app

import (
	"context"
	"errors"

	"hotdesk/dtu/viewer"
	"hotdesk/smartcard/reader"
)

// A cardLock keeps whole dialogues with a card apart: those of a proof on the
// control connection, of naming, and of the session's programs. It has one
// holder at a time, for as long as that one's dialogue takes.
type cardLock struct{ held chan struct{} } // of capacity 1

func newCardLock() *cardLock { return &cardLock{make(chan struct{}, 1)} }

// take waits for the lock; give must follow where there is no error.
func (l *cardLock) take(ctx context.Context) error {
	select {
	case l.held <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *cardLock) give() { <-l.held }

// sessionCard is the card of one attachment, as the programs of its session
// reach it. Package viewer calls it from one goroutine.
type sessionCard struct {
	card reader.Card
	n    int
	lock *cardLock
	held bool // by the session's transaction
}

var _ viewer.Card = (*sessionCard)(nil)

// cardFor is the card number n for a session's media connection, or nil.
func (s *shell) cardFor(n int) viewer.Card {
	for _, c := range s.in {
		if n != 0 && c.n == n {
			return &sessionCard{card: c.card, n: n, lock: s.cardLock}
		}
	}
	return nil
}

func (c *sessionCard) Number() uint32           { return uint32(c.n) }
func (c *sessionCard) ATR() []byte              { return c.card.ATR() }
func (c *sessionCard) Removed() <-chan struct{} { return c.card.Removed() }

// Hold keeps others off the card till Release.
func (c *sessionCard) Hold(ctx context.Context) error {
	if c.held {
		return nil
	}
	err := c.lock.take(ctx)
	c.held = err == nil
	return err
}

// Release lets others use the card.
func (c *sessionCard) Release() {
	if c.held {
		c.held = false
		c.lock.give()
	}
}

// once does f when nobody else has a dialogue with the card.
func (c *sessionCard) once(ctx context.Context, f func() error) error {
	if !c.held {
		if err := c.lock.take(ctx); err != nil {
			return err
		}
		defer c.lock.give()
	}
	return f()
}

// Transmit has one exchange.
func (c *sessionCard) Transmit(ctx context.Context, command []byte) (answer []byte, err error) {
	err = c.once(ctx, func() error {
		answer, err = c.card.Transmit(ctx, command)
		return err
	})
	return answer, err
}

// Reset puts the card back to its start. Where the reader cannot, the session
// goes on as if: its programs then verify a PIN that may still be verified.
func (c *sessionCard) Reset(ctx context.Context) error {
	err := c.once(ctx, func() error { return reader.Reset(ctx, c.card) })
	if errors.Is(err, reader.ErrNoReset) {
		return nil
	}
	return err
}
