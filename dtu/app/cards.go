package app

import (
	"context"
	"errors"
	"sync"
	"time"

	"hotdesk/dtu/viewer"
	"hotdesk/protocol/native"
	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/piv"
	"hotdesk/smartcard/reader"
)

// A cardLock keeps dialogues with one card apart: those of a proof on the
// control connection and of naming, which are the terminal's, and those of a
// session's programs. One exchange or dialogue is under way at a time. A
// session's transaction keeps other sessions off, and not the terminal: a
// program may hold one for ever. What the session had of the card, a verified
// PIN above all, is gone before anybody else has it, and the session is told.
type cardLock struct {
	mu     sync.Mutex
	change chan struct{} // closed and replaced when something below is let go
	busy   bool          // a dialogue is under way
	proof  bool          // and more of the terminal's will follow
	holder *sessionCard  // whose transaction it is
	user   *sessionCard  // who has used its card since that was reset
}

// resetWithin is how long a card may take for a reset.
const resetWithin = 5 * time.Second

func newCardLock() *cardLock {
	return &cardLock{change: make(chan struct{})}
}

// until waits until may, which is called with mu held, has taken what it wants.
func (l *cardLock) until(ctx context.Context, may func() bool) error {
	for {
		l.mu.Lock()
		ok, change := may(), l.change
		l.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// let changes something and wakes whoever waits.
func (l *cardLock) let(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.change)
	l.change = make(chan struct{})
}

// take begins a dialogue of the terminal's; give must follow where there is no
// error.
func (l *cardLock) take(ctx context.Context) error {
	err := l.until(ctx, func() bool {
		if l.busy {
			return false
		}
		l.busy = true
		return true
	})
	if err == nil {
		l.clean(ctx, nil)
	}
	return err
}

// give ends a dialogue.
func (l *cardLock) give() { l.let(func() { l.busy = false }) }

// reserve keeps sessions off between the dialogues of a proof, till free.
func (l *cardLock) reserve() { l.let(func() { l.proof = true }) }

// free ends a proof.
func (l *cardLock) free() { l.let(func() { l.proof = false }) }

// clean resets the card of a session that is not next, before next has a
// dialogue. The caller's dialogue is under way.
func (l *cardLock) clean(ctx context.Context, next *sessionCard) {
	l.mu.Lock()
	was := l.user
	if l.user = next; was == next {
		was = nil
	}
	if was != nil {
		was.number++
		if l.holder == was {
			l.holder = nil
		}
	}
	l.mu.Unlock()
	if was == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resetWithin)
	defer cancel()
	_ = was.reset(ctx) // a card that is out, or mute, has nothing left to give
	select {
	case was.again <- struct{}{}:
	default:
	}
}

// sessionCard is the card of one attachment, as the programs of its session
// reach it. Package viewer calls it from one goroutine.
type sessionCard struct {
	card   reader.Card
	lock   *cardLock
	again  chan struct{} // capacity 1
	number uint32        // lock.mu; of resets by others
}

var _ viewer.Card = (*sessionCard)(nil)

func newSessionCard(c reader.Card, l *cardLock) *sessionCard {
	return &sessionCard{card: c, lock: l, again: make(chan struct{}, 1)}
}

// cardFor is the card number n for a session's media connection, or nil.
func (s *shell) cardFor(n int) viewer.Card {
	for _, c := range s.in {
		if n != 0 && c.n == n {
			return newSessionCard(c.card, c.lock)
		}
	}
	return nil
}

// lockOf is the lock of the card of that number; of one that is out, a lock that
// nobody else has.
func (s *shell) lockOf(n int) *cardLock {
	for _, c := range s.in {
		if c.n == n {
			return c.lock
		}
	}
	return newCardLock()
}

// Number counts how often others have put the card back to its start.
func (c *sessionCard) Number() uint32 {
	c.lock.mu.Lock()
	defer c.lock.mu.Unlock()
	return c.number
}

func (c *sessionCard) ATR() []byte { return c.card.ATR() }

// Protocol is how the reader speaks with the card.
func (c *sessionCard) Protocol() native.CardProtocol {
	switch t, ok := reader.Protocol(c.card); {
	case ok && t == 0:
		return native.CardT0
	case ok && t == 1:
		return native.CardT1
	}
	return native.CardUnsaid
}

func (c *sessionCard) Removed() <-chan struct{} { return c.card.Removed() }

// Again has something to receive when Number has changed.
func (c *sessionCard) Again() <-chan struct{} { return c.again }

// Hold keeps other sessions off the card till Release.
func (c *sessionCard) Hold(ctx context.Context, number uint32) error {
	return c.lock.until(ctx, func() bool {
		if c.number != number {
			return true // it was of what is lost
		}
		if c.lock.holder != nil && c.lock.holder != c {
			return false
		}
		c.lock.holder = c
		return true
	})
}

// Release lets others use the card.
func (c *sessionCard) Release() {
	c.lock.let(func() {
		if c.lock.holder == c {
			c.lock.holder = nil
		}
	})
}

// once does f when nobody else has a dialogue with a card, unless the card was
// put back to its start since it had number.
func (c *sessionCard) once(ctx context.Context, number uint32, f func() error) error {
	l, lost := c.lock, false
	err := l.until(ctx, func() bool {
		if lost = c.number != number; lost {
			return true
		}
		if l.busy || l.proof || l.holder != nil && l.holder != c {
			return false
		}
		l.busy = true
		return true
	})
	if err != nil {
		return err
	}
	if lost {
		return reader.ErrRemoved
	}
	defer l.give()
	l.clean(ctx, c)
	return f()
}

// Transmit has one exchange.
func (c *sessionCard) Transmit(ctx context.Context, number uint32, command []byte) (answer []byte, err error) {
	err = c.once(ctx, number, func() error {
		answer, err = c.card.Transmit(ctx, command)
		return err
	})
	return answer, err
}

// Reset puts the card back to its start.
func (c *sessionCard) Reset(ctx context.Context, number uint32) error {
	return c.once(ctx, number, func() error { return c.reset(ctx) })
}

// reset is Reset without the lock. Where the reader cannot reset, PIV is asked
// to forget what was verified; a card that has no PIV stays as it is.
func (c *sessionCard) reset(ctx context.Context) error {
	err := reader.Reset(ctx, c.card)
	if !errors.Is(err, reader.ErrNoReset) {
		return err
	}
	for _, cmd := range []apdu.Command{piv.Select(), piv.Forget()} {
		if _, err := c.card.Transmit(ctx, cmd.Append(nil)); err != nil {
			return err
		}
	}
	return nil
}
