// Package readertest is the conformance suite of card readers: every
// implementation of reader.Source passes it.
//
// Source: the invariants of package reader, whose numbers the tests have.
package readertest

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/reader"
)

// patience is when a test gives up; nothing is decided by it.
const patience = 30 * time.Second

// A Bench is a reader with hands. The cards it pushes in answer SELECT of
// apdu.SimpleAID and GET DATA of apdu.SimpleID.
type Bench struct {
	Open   func(t *testing.T) reader.Source // opens the reader; the suite closes it
	Insert func(t *testing.T)               // pushes a card in
	Remove func(t *testing.T)               // pulls it out
	ID     []byte                           // what the card says it is
	ATR    []byte
}

// Run runs the suite; make makes a fresh bench for each test of it.
func Run(t *testing.T, make func(t *testing.T) Bench) {
	t.Run("1 order of events", func(t *testing.T) { order(t, make(t)) })
	t.Run("2 card in at the start", func(t *testing.T) { inAtStart(t, make(t)) })
	t.Run("3 removed cards", func(t *testing.T) { removed(t, make(t)) })
	t.Run("4 exchanges", func(t *testing.T) { exchanges(t, make(t)) })
	t.Run("close", func(t *testing.T) { closing(t, make(t)) })
}

// open opens the source and takes its first event.
func (b Bench) open(t *testing.T) reader.Source {
	t.Helper()
	s := b.Open(t)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if e := next(t, s); e.Kind != reader.ReaderAdded || e.Reader == "" {
		t.Fatalf("first event %+v", e)
	}
	return s
}

func next(t *testing.T, s reader.Source) reader.Event {
	t.Helper()
	select {
	case e, ok := <-s.Events():
		if !ok {
			t.Fatal("events are closed")
		}
		return e
	case <-time.After(patience):
		t.Fatal("no event")
	}
	return reader.Event{}
}

// push pushes a card in and waits to be told.
func (b Bench) push(t *testing.T, s reader.Source) reader.Card {
	t.Helper()
	b.Insert(t)
	e := next(t, s)
	if e.Kind != reader.Inserted || e.Card == nil {
		t.Fatalf("event %+v", e)
	}
	return e.Card
}

func (b Bench) pull(t *testing.T, s reader.Source, c reader.Card) {
	t.Helper()
	b.Remove(t)
	if e := next(t, s); e.Kind != reader.Removed || e.Card != c {
		t.Fatalf("event %+v", e)
	}
}

func order(t *testing.T, b Bench) {
	s := b.open(t)
	const rounds = 20
	for range rounds { // nobody takes events meanwhile
		b.Insert(t)
		b.Remove(t)
	}
	for i := range rounds {
		in, out := next(t, s), next(t, s)
		if in.Kind != reader.Inserted || out.Kind != reader.Removed || in.Card != out.Card || in.Reader != out.Reader {
			t.Fatalf("round %d: %+v then %+v", i, in, out)
		}
	}
}

func inAtStart(t *testing.T, b Bench) {
	b.Insert(t)
	s := b.open(t)
	if e := next(t, s); e.Kind != reader.Inserted || !bytes.Equal(e.Card.ATR(), b.ATR) {
		t.Errorf("%+v", e)
	}
}

func removed(t *testing.T, b Bench) {
	s := b.open(t)
	first := b.push(t, s)
	b.pull(t, s, first)
	select {
	case <-first.Removed():
	default:
		t.Error("Removed was told, and its channel is open")
	}
	fails := func(when string) {
		t.Helper()
		if r, err := first.Transmit(t.Context(), apdu.Select(apdu.SimpleAID).Append(nil)); !errors.Is(err, reader.ErrRemoved) {
			t.Errorf("%s: %x, %v", when, r, err)
		}
	}
	fails("out")
	second := b.push(t, s)
	if second == first {
		t.Error("a Card was used again")
	}
	fails("with another card in")
	b.ask(t, second)
}

// ask has the card say its id.
func (b Bench) ask(t *testing.T, c reader.Card) {
	t.Helper()
	for _, cmd := range []apdu.Command{apdu.Select(apdu.SimpleAID), apdu.GetData(apdu.SimpleID)} {
		answer, err := c.Transmit(t.Context(), cmd.Append(nil))
		if err != nil {
			t.Error(err)
			return
		}
		r, err := apdu.ParseResponse(answer)
		if err != nil || r.Status != apdu.OK {
			t.Errorf("%x: answer %x, %v", cmd.INS, answer, err)
			return
		}
		if cmd.INS == apdu.InsGetData && !bytes.Equal(r.Data, b.ID) {
			t.Errorf("id %x, want %x", r.Data, b.ID)
		}
	}
}

func exchanges(t *testing.T, b Bench) {
	s := b.open(t)
	c := b.push(t, s)
	if !bytes.Equal(c.ATR(), b.ATR) {
		t.Errorf("ATR %x, want %x", c.ATR(), b.ATR)
	}
	c.ATR()[0] ^= 0xff
	if !bytes.Equal(c.ATR(), b.ATR) {
		t.Error("a caller can change the ATR")
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				b.ask(t, c)
			}
		})
	}
	wg.Wait()
}

func closing(t *testing.T, b Bench) {
	s := b.open(t)
	c := b.push(t, s)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, ok := <-s.Events(); ok {
		t.Error("an event after Close")
	}
	if _, err := c.Transmit(t.Context(), apdu.Select(apdu.SimpleAID).Append(nil)); !errors.Is(err, reader.ErrRemoved) {
		t.Errorf("after Close: %v", err)
	}
}
