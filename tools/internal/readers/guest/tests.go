//go:build linux

package main

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/identity"
	"hotdesk/smartcard/reader"
	"hotdesk/smartcard/reader/readertest"
	"hotdesk/smartcard/reader/usbtest"
)

const patience = 20 * time.Second

// kinds are the readers that the hands have, with their cards' protocol.
var kinds = []struct {
	name     string
	protocol int
}{
	{"extended", 1}, {"short", 1}, {"tpdu-t1", 1}, {"tpdu-t0", 0}, {"qemu", 0},
}

func tests() []testing.InternalTest {
	var list []testing.InternalTest
	for _, k := range kinds {
		list = append(list, testing.InternalTest{Name: "Suite/" + k.name, F: func(t *testing.T) { suite(t, k.name, k.protocol) }})
	}
	return append(list,
		testing.InternalTest{Name: "CardPulledInTheMiddle", F: cardPulled},
		testing.InternalTest{Name: "ReaderPulledInTheMiddle", F: readerPulled},
		testing.InternalTest{Name: "TwoReaders", F: twoReaders},
		testing.InternalTest{Name: "PIV", F: pivCard},
		testing.InternalTest{Name: "Lengths", F: lengths},
		testing.InternalTest{Name: "HowLong", F: howLong},
	)
}

func suite(t *testing.T, kind string, protocol int) {
	readertest.Run(t, func(t *testing.T) readertest.Bench {
		hands.do(t, "kind "+kind)
		b := readertest.Bench{
			Open: func(t *testing.T) reader.Source {
				s := source(t)
				hands.do(t, "heard")
				return s
			},
			Insert: func(t *testing.T) { hands.do(t, "insert") },
			Remove: func(t *testing.T) { hands.do(t, "remove") },
			ID:     []byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef},
			ATR:    usbtest.ATR(protocol, 0, "HOTDESK1"),
		}
		if kind == "qemu" { // it forgets what nobody asked for in time
			var w *watched
			b.Open = func(t *testing.T) reader.Source {
				w = watch(source(t))
				return w
			}
			b.Insert = func(t *testing.T) { hands.do(t, "insert"); w.wait(t, reader.Inserted) }
			b.Remove = func(t *testing.T) { hands.do(t, "remove"); w.wait(t, reader.Removed) }
		}
		return b
	})
}

// watched is a Source whose hands see what it has told.
type watched struct {
	reader.Source
	events chan reader.Event
	mu     sync.Mutex
	last   reader.Kind
	told   chan struct{}
}

func watch(s reader.Source) *watched {
	w := &watched{Source: s, events: make(chan reader.Event, 1000), told: make(chan struct{}, 1000)}
	go func() {
		defer close(w.events)
		for e := range s.Events() {
			w.events <- e
			w.mu.Lock()
			w.last = e.Kind
			w.mu.Unlock()
			w.told <- struct{}{}
		}
	}()
	return w
}

func (w *watched) Events() <-chan reader.Event { return w.events }

func (w *watched) wait(t *testing.T, kind reader.Kind) {
	if w == nil {
		return // nothing is open yet
	}
	limit := time.After(patience)
	for {
		w.mu.Lock()
		last := w.last
		w.mu.Unlock()
		if last == kind {
			return
		}
		select {
		case <-w.told:
		case <-limit:
			t.Fatal("the source does not tell")
		}
	}
}

// desk is an open source with a reader.
type desk struct {
	*testing.T
	s reader.Source
}

func newDesk(t *testing.T, kind string) *desk {
	hands.do(t, "kind "+kind)
	d := &desk{t, source(t)}
	t.Cleanup(func() { d.s.Close() })
	d.next(reader.ReaderAdded)
	hands.do(t, "heard")
	return d
}

func (d *desk) next(kind reader.Kind) reader.Event {
	d.Helper()
	select {
	case e := <-d.s.Events():
		if e.Kind != kind {
			d.Fatalf("%+v, want kind %d", e, kind)
		}
		return e
	case <-time.After(patience):
		d.Fatalf("no event of kind %d", kind)
	}
	return reader.Event{}
}

// begin has an exchange that does not end by itself.
func (d *desk) begin(c reader.Card) <-chan error {
	result := make(chan error, 1)
	go func() {
		_, err := c.Transmit(d.Context(), []byte{0, 0x10, 0, 0})
		result <- err
	}()
	hands.do(d, "hung")
	return result
}

func (d *desk) echoes(c reader.Card) {
	d.Helper()
	cmd := apdu.Command{INS: 0x10, Data: []byte{1, 2, 3}}.Append(nil)
	if b, err := c.Transmit(d.Context(), cmd); err != nil || !bytes.Equal(b, append(cmd, 0x90, 0)) {
		d.Errorf("%x, %v", b, err)
	}
}

// each runs a test with readers of several kinds.
func each(t *testing.T, f func(t *testing.T, kind string), kinds ...string) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) { f(t, kind) })
	}
}

func cardPulled(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		d := newDesk(t, kind)
		for range 3 {
			hands.do(t, "insert hang")
			c := d.next(reader.Inserted).Card
			result := d.begin(c)
			hands.do(t, "remove")
			if err := <-result; !errors.Is(err, reader.ErrRemoved) {
				t.Errorf("%v", err)
			}
			d.next(reader.Removed)
			hands.do(t, "insert echo")
			d.echoes(d.next(reader.Inserted).Card)
			hands.do(t, "remove")
			d.next(reader.Removed)
		}
	}, "extended", "tpdu-t1")
}

func readerPulled(t *testing.T) {
	d := newDesk(t, "extended")
	for range 3 {
		hands.do(t, "insert hang")
		result := d.begin(d.next(reader.Inserted).Card)
		hands.do(t, "unplug")
		if err := <-result; !errors.Is(err, reader.ErrRemoved) {
			t.Errorf("%v", err)
		}
		d.next(reader.Removed)
		d.next(reader.ReaderRemoved)
		hands.do(t, "remove")
		hands.do(t, "insert echo")
		hands.do(t, "plug")
		d.next(reader.ReaderAdded)
		d.echoes(d.next(reader.Inserted).Card)
		hands.do(t, "remove")
		d.next(reader.Removed)
	}
}

func twoReaders(t *testing.T) {
	d := newDesk(t, "extended")
	hands.do(t, "insert echo")
	one := d.next(reader.Inserted)
	hands.do(t, "second")
	if e := d.next(reader.ReaderAdded); e.Reader == one.Reader {
		t.Errorf("both are called %s", e.Reader)
	}
	two := d.next(reader.Inserted)
	var wg sync.WaitGroup
	for _, c := range []reader.Card{one.Card, two.Card} {
		wg.Go(func() {
			for range 20 {
				d.echoes(c)
			}
		})
	}
	wg.Wait()
	hands.do(t, "no second")
	if e := d.next(reader.Removed); e.Card != two.Card {
		t.Errorf("%+v", e)
	}
	d.next(reader.ReaderRemoved)
	d.echoes(one.Card)
}

func pivCard(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		d := newDesk(t, kind)
		hands.do(t, "insert piv")
		c := d.next(reader.Inserted).Card
		tok, err := identity.Identify(t.Context(), c, identity.Rules())
		if err != nil || tok.Type != "piv" {
			t.Errorf("%+v, %v", tok, err)
		}
	}, "extended", "tpdu-t1")
}

func lengths(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		most := map[string]int{"extended": 65000, "tpdu-t1": 3000, "short": 255}[kind]
		d := newDesk(t, kind)
		hands.do(t, "insert echo")
		c := d.next(reader.Inserted).Card
		for _, n := range []int{1, 48, 49, 64, 243, 244, 255, 256, 500, 3000, 65000} {
			if n > most {
				continue
			}
			cmd := apdu.Command{INS: 0x10, Data: bytes.Repeat([]byte{byte(n)}, n)}.Append(nil)
			if b, err := c.Transmit(t.Context(), cmd); err != nil || !bytes.Equal(b, append(cmd, 0x90, 0)) {
				t.Errorf("%d bytes: %d came, %v", n, len(b), err)
			}
		}
	}, "extended", "tpdu-t1", "short")
}

// howLong tells how long it takes from the card's being pushed in until the
// program has its ATR.
func howLong(t *testing.T) {
	const rounds = 30
	d := newDesk(t, "extended")
	var words, cards, apdus []time.Duration
	for range rounds {
		began := time.Now()
		hands.do(t, "heard")
		words = append(words, time.Since(began))
		began = time.Now()
		hands.do(t, "later insert echo") // it says ok, then pushes
		d.next(reader.Inserted)
		cards = append(cards, time.Since(began))
		hands.do(t, "remove")
		d.next(reader.Removed)
	}
	hands.do(t, "insert echo")
	c := d.next(reader.Inserted).Card
	for range rounds {
		began := time.Now()
		d.echoes(c)
		apdus = append(apdus, time.Since(began))
	}
	for _, f := range []struct {
		what string
		list []time.Duration
	}{{"a word to the hands and back", words}, {"a word to the hands, card in, Inserted with ATR", cards}, {"APDU to the card and back", apdus}} {
		slices.Sort(f.list)
		t.Logf("figure: %s: median %v, p90 %v, worst %v", f.what, f.list[rounds/2], f.list[rounds*9/10], f.list[rounds-1])
	}
}
