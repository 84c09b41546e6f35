// Package driver makes a reader.Source of USB smart card readers, whatever
// carries their pipes.
//
// Source: package reader (the contract); USB-IF CCID revision 1.1, section 5
// (descriptors, abort), 6 (messages), section 3.2 (levels of exchange); ISO
// 7816-3 section 9 (PPS), 12.2 (APDUs over T=0).
//
// Invariants: those of package reader, and
//  1. Slots are never polled where the reader has an interrupt pipe, except
//     once when it is opened.
//  2. A message's answer is the one with its slot and sequence number; others
//     are passed over, a few.
//  3. A card that the reader says has lost its power is another insertion.
//  4. Whatever a reader does, its own cards suffer and no other reader's.
//
// A Source has one goroutine that looks for readers, and for each reader one
// for the interrupt pipe and one for each slot; a reader's bulk pipes are used
// by one dialogue at a time, whatever bMaxCCIDBusySlots allows. Limits:
// MaxReaders, MaxSlots, reader.MaxQueued; a reader that fails is reset and tried
// again after a second, after MaxFailures in a row every ten seconds.
package driver

import (
	"context"
	"errors"
	"time"

	"hotdesk/smartcard/ccid"
)

const (
	// MaxReaders bounds the readers of a Source.
	MaxReaders = 16
	// MaxSlots bounds the slots of a reader that are used.
	MaxSlots = 8
	// MaxFailures is how often in a row a reader is tried at once.
	MaxFailures = 3

	patience     = 5 * time.Second        // how long a reader may take to answer
	grace        = time.Second            // how long an exchange goes on after its card is out
	pollInterval = 200 * time.Millisecond // of readers without an interrupt pipe
	retry        = time.Second            // until a reader that failed is tried again
	slowRetry    = 10 * time.Second       // the same, after MaxFailures
	settled      = time.Minute            // after which a failure is not in a row with the last
)

// Errors of Pipes.
var (
	// ErrStall means that the device halted the pipe.
	ErrStall = errors.New("driver: pipe halted")
	// ErrGone means that the device is unplugged.
	ErrGone = errors.New("driver: reader unplugged")
)

// Pipes are the ways to one reader. The bulk pipes and the interrupt pipe are
// used at the same time, each of them by one goroutine at a time; every call
// ends when its context does.
type Pipes interface {
	// Out sends a whole message.
	Out(ctx context.Context, b []byte) error
	// In takes one transfer. len(b) is a multiple of the pipe's packet size.
	In(ctx context.Context, b []byte) (int, error)
	// Notify takes a message of the interrupt pipe.
	Notify(ctx context.Context, b []byte) (int, error)
	// Control makes the class request without data to the interface.
	Control(ctx context.Context, request byte, value uint16) error
	// ClearHalt ends the halt of both bulk pipes.
	ClearHalt() error
	// Reset puts the device back to its start. The Pipes may be dead afterwards.
	Reset() error
	Close() error
}

// A Found is a reader that a Bus has found.
type Found struct {
	// Key is another one each time that the reader is plugged in.
	Key string
	// Name is what people call it, with the place where it is plugged in.
	Name string
}

// A Bus finds readers.
type Bus interface {
	Scan() ([]Found, error)
	// Changes has something when it is worth to scan again.
	Changes() <-chan struct{}
	Open(ctx context.Context, f Found) (Pipes, ccid.Interface, error)
	Close() error
}
