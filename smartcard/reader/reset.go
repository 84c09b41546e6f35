package reader

import (
	"context"
	"errors"
)

// ErrNoReset is what Reset returns where a reader cannot.
var ErrNoReset = errors.New("reader: this reader does not reset cards")

// A Resetter is a Card that can be put back to its start: nothing is selected,
// no PIN is verified.
type Resetter interface {
	Reset(ctx context.Context) error
}

// Reset resets a card, whose reader may be one that cannot.
func Reset(ctx context.Context, c Card) error {
	switch c := c.(type) {
	case Resetter:
		return c.Reset(ctx)
	case interface{ Reset() }:
		select {
		case <-c.(Card).Removed():
			return ErrRemoved
		default:
			c.Reset()
			return nil
		}
	}
	return ErrNoReset
}
