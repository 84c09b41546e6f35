// Package reader is what a terminal knows of its card readers, whatever they
// are made of: cards come and go, and the one that is there answers APDUs.
//
// Source: design sections 3 and 6; the event model of PC/SC part 5 and of CCID
// 1.1 section 6.3 (NotifySlotChange), which the implementations map to it.
//
// Invariants, kept by every implementation (suite in readertest):
//  1. Events of one reader come in the order they happened: ReaderAdded first,
//     Inserted and Removed in turn, ReaderRemoved last (after Removed, if a
//     card was in).
//  2. A card that is in when the Source is opened is reported as Inserted.
//  3. After Removed, every exchange with that card fails with ErrRemoved, also
//     when a new card is in; Card values are never reused.
//  4. Exchanges with one card never interleave.
package reader

import (
	"context"
	"errors"
)

// ErrRemoved is what an exchange gets when its card is out.
var ErrRemoved = errors.New("reader: card removed")

// ErrMute is what an exchange gets when the card does not answer as ISO 7816-3
// demands.
var ErrMute = errors.New("reader: card does not answer")

// MaxAPDU bounds commands and responses: an extended-length APDU, in bytes.
const MaxAPDU = 4 + 3 + 65535 + 3

// Kind says what happened.
type Kind int

const (
	ReaderAdded Kind = iota
	ReaderRemoved
	Inserted
	Removed
)

// An Event is a change at a reader.
type Event struct {
	Kind   Kind
	Reader string // its name, unique among the readers that are there
	Card   Card   // of Inserted and Removed: the card that came or went
}

// A Card is one insertion of a card: the same plastic put in again is another
// Card. Safe for concurrent use.
type Card interface {
	// ATR is what the card said at reset, at most 33 bytes; empty where it did
	// not answer.
	ATR() []byte
	// Transmit sends a command APDU and returns the response with its status
	// word.
	Transmit(ctx context.Context, command []byte) ([]byte, error)
	// Removed is closed when the card is out.
	Removed() <-chan struct{}
}

// A Source is a set of readers of one technology.
type Source interface {
	// Events is closed by Close. It must be read: removal is told through it
	// too, and nothing is dropped.
	Events() <-chan Event
	Close() error
}
