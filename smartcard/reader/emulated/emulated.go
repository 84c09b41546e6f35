// Package emulated is a card reader without hardware: cards are small text
// files, put in and pulled out by name.
//
// A simple card has an application, apdu.SimpleAID, with an id of 64 bits, which
// GET DATA tells, and a secret of 128 bits, with which it answers INTERNAL
// AUTHENTICATE: HMAC-SHA-256 of apdu.SimpleLabel and the challenge. A PIV card
// answers SELECT, GET DATA, VERIFY and GENERAL AUTHENTICATE.
//
// Source: package reader (the contract); ISO 7816-4 for the simple card's
// answers; NIST SP 800-73-4 for the PIV card's; the file format is this
// project's, see Parse.
//
// Invariants: those of package reader. A file is read when its card is put in,
// so that an edited file is another card the next time; wrong PINs count as
// long as the Reader lives.
//
// A Reader is safe for concurrent use; Insert and Remove never wait for the
// reader of Events. Limits: MaxFile, MaxCards.
package emulated

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/reader"
)

// Name is what the reader calls itself.
const Name = "emulated"

// Suffix ends the names of card files.
const Suffix = ".card"

// ErrNoCard means that there is no card of that name, or none in the reader.
var ErrNoCard = errors.New("emulated: no such card")

// Reader is one reader with a folder of cards beside it.
type Reader struct {
	cards  fs.FS
	events chan reader.Event
	done   chan struct{} // closed when events is

	mu     sync.Mutex
	queue  []reader.Event           // told, not yet taken
	wake   chan struct{}            // has something when queue or closed changed
	in     *Card                    // the card that is in
	wrong  map[string]*atomic.Int32 // by card: PINs in a row
	closed bool
}

// New makes a reader. The files of cards with Suffix are the cards that can be
// put in.
func New(cards fs.FS) *Reader {
	r := &Reader{cards: cards, events: make(chan reader.Event), done: make(chan struct{}), wake: make(chan struct{}, 1), wrong: map[string]*atomic.Int32{}}
	r.tell(reader.Event{Kind: reader.ReaderAdded, Reader: Name})
	go r.deliver()
	return r
}

// Events tells what happens at the reader.
func (r *Reader) Events() <-chan reader.Event { return r.events }

// Close pulls the card and unplugs the reader. Events that nobody took are
// dropped; Events is closed when Close returns.
func (r *Reader) Close() error {
	r.mu.Lock()
	if !r.closed {
		r.pull()
		r.closed = true
		r.signal()
	}
	r.mu.Unlock()
	<-r.done
	return nil
}

// Names lists the cards, sorted.
func (r *Reader) Names() ([]string, error) {
	files, err := fs.Glob(r.cards, "*"+Suffix)
	if err != nil {
		return nil, fmt.Errorf("emulated: %w", err)
	}
	names := make([]string, 0, min(len(files), MaxCards))
	for _, f := range files[:min(len(files), MaxCards)] {
		names = append(names, strings.TrimSuffix(f, Suffix))
	}
	slices.Sort(names)
	return names, nil
}

// Insert puts a card in; one that is in comes out first.
func (r *Reader) Insert(name string) (*Card, error) {
	p, err := r.load(name)
	if err != nil {
		return nil, err
	}
	c := &Card{name: name, chip: chip{Plastic: p}, removed: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errors.New("emulated: reader closed")
	}
	r.pull()
	if r.wrong[name] == nil {
		r.wrong[name] = new(atomic.Int32)
	}
	c.chip.piv.wrong = r.wrong[name]
	r.in = c
	r.tell(reader.Event{Kind: reader.Inserted, Reader: Name, Card: c})
	return c, nil
}

// Remove pulls the card out and returns it.
func (r *Reader) Remove() (*Card, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.in == nil {
		return nil, fmt.Errorf("%w: none is in the reader", ErrNoCard)
	}
	c := r.in
	r.pull()
	return c, nil
}

// Inserted returns the card that is in, or nil.
func (r *Reader) Inserted() *Card {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.in
}

func (r *Reader) load(name string) (Plastic, error) {
	if !fs.ValidPath(name+Suffix) || strings.Contains(name, "/") {
		return Plastic{}, fmt.Errorf("%w: bad name %q", ErrNoCard, name)
	}
	f, err := r.cards.Open(name + Suffix)
	if errors.Is(err, fs.ErrNotExist) {
		names, _ := r.Names() // a failure shows as an empty list
		return Plastic{}, fmt.Errorf("%w: %q; there are: %s", ErrNoCard, name, strings.Join(names, " "))
	}
	if err != nil {
		return Plastic{}, fmt.Errorf("emulated: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return Plastic{}, fmt.Errorf("emulated: %w", err)
	}
	p, err := Parse(string(text))
	if err == nil {
		err = p.loadKeys(r.cards)
	}
	if err != nil {
		return Plastic{}, fmt.Errorf("%s: %w", name+Suffix, err)
	}
	return p, nil
}

// pull takes the card out, if one is in. r.mu is held.
func (r *Reader) pull() {
	if r.in == nil {
		return
	}
	close(r.in.removed)
	r.tell(reader.Event{Kind: reader.Removed, Reader: Name, Card: r.in})
	r.in = nil
}

// tell queues an event. r.mu is held, or r is not shared yet.
func (r *Reader) tell(e reader.Event) {
	r.queue = append(r.queue, e)
	r.signal()
}

func (r *Reader) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// deliver hands the queue to whoever reads Events.
func (r *Reader) deliver() {
	defer close(r.done)
	defer close(r.events)
	for {
		r.mu.Lock()
		var events chan<- reader.Event
		var next reader.Event
		if len(r.queue) > 0 {
			events, next = r.events, r.queue[0]
		}
		closed := r.closed
		r.mu.Unlock()
		if closed {
			return
		}
		select {
		case events <- next: // never, while the queue is empty
			r.mu.Lock()
			r.queue = r.queue[1:]
			r.mu.Unlock()
		case <-r.wake:
		}
	}
}

// Card is one insertion.
type Card struct {
	name    string
	removed chan struct{}

	mu   sync.Mutex // held for an exchange
	chip chip
}

// Name is the card's name, that of its file.
func (c *Card) Name() string { return c.name }

// ATR is what the file says.
func (c *Card) ATR() []byte { return slices.Clone(c.chip.ATR) }

// Removed is closed when the card is out.
func (c *Card) Removed() <-chan struct{} { return c.removed }

// Reset puts the card's program back to its start, as a reader does that
// takes the power away: nothing is selected, no PIN is verified. Tries of the
// PIN stay counted.
func (c *Card) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.chip.reset()
}

// Transmit lets the card answer. A card without an ATR does not.
func (c *Card) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.removed:
		return nil, reader.ErrRemoved
	default:
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(c.chip.ATR) == 0 {
		return nil, reader.ErrMute
	}
	cmd, err := apdu.ParseCommand(command)
	if err != nil {
		return apdu.Response{Status: apdu.WrongLength}.Append(nil), nil
	}
	return c.chip.exchange(cmd).Append(nil), nil
}
