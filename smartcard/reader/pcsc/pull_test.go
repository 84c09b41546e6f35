//go:build pcsc

package pcsc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/reader"
	"hotdesk/smartcard/reader/emulated"
	"hotdesk/smartcard/reader/vpcd"
)

// hung is a card that takes a command and does not answer.
type hung struct {
	vpcd.Card
	began chan struct{}
	armed bool
}

func (h *hung) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if !h.armed || len(command) < 2 || command[1] != 0x10 {
		return h.Card.Transmit(ctx, command)
	}
	close(h.began)
	<-ctx.Done()
	return nil, reader.ErrRemoved
}

// push puts a card into the driver's slot on port; the function pulls it.
func push(t *testing.T, port int, c vpcd.Card) (pull func()) {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- vpcd.Serve(ctx, conn, c) }()
	done := false
	pull = func() {
		if done {
			return
		}
		done = true
		conn.Close()
		cancel()
		<-served // an error by design, if it was in the middle of something
	}
	t.Cleanup(pull)
	return pull
}

func plastic(t *testing.T) *emulated.Card {
	t.Helper()
	r := emulated.New(fstest.MapFS{"a.card": {Data: []byte(simpleCard)}})
	t.Cleanup(func() { r.Close() })
	c, err := r.Insert("a")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestPulledInTheMiddle: an exchange that runs when its card is pulled ends
// with ErrRemoved, and the next card answers.
func TestPulledInTheMiddle(t *testing.T) {
	startDaemon(t)
	until(t, "the service", serves)
	s := openFirst(t)
	defer s.Close()
	next(t, s, reader.ReaderAdded)
	for range 3 {
		card := &hung{Card: plastic(t), began: make(chan struct{}), armed: true}
		pull := push(t, vpcd.Port, card)
		c := next(t, s, reader.Inserted).Card
		result := make(chan error, 1)
		go func() {
			b, err := c.Transmit(t.Context(), []byte{0, 0x10, 0, 0, 0})
			if err == nil {
				err = fmt.Errorf("answered %x", b)
			}
			result <- err
		}()
		<-card.began
		pull()
		if err := <-result; !errors.Is(err, reader.ErrRemoved) {
			t.Errorf("%v", err)
		}
		if e := next(t, s, reader.Removed); e.Card != c {
			t.Errorf("%+v", e)
		}
		pull = push(t, vpcd.Port, plastic(t))
		c = next(t, s, reader.Inserted).Card
		status(t, c, apdu.Select(apdu.SimpleAID), apdu.OK)
		pull()
		next(t, s, reader.Removed)
	}
}

// TestTwoReaders: cards in both of the driver's readers at once.
func TestTwoReaders(t *testing.T) {
	startDaemon(t)
	until(t, "the service", serves)
	s, err := Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	next(t, s, reader.ReaderAdded)
	next(t, s, reader.ReaderAdded)
	pull := push(t, vpcd.Port, plastic(t))
	one := next(t, s, reader.Inserted)
	push(t, vpcd.Port+1, plastic(t))
	two := next(t, s, reader.Inserted)
	if one.Reader == two.Reader {
		t.Errorf("both in %s", one.Reader)
	}
	for range 20 {
		status(t, one.Card, apdu.Select(apdu.SimpleAID), apdu.OK)
		status(t, two.Card, apdu.Select(apdu.SimpleAID), apdu.OK)
	}
	pull()
	if e := next(t, s, reader.Removed); e.Card != one.Card {
		t.Errorf("%+v", e)
	}
	status(t, two.Card, apdu.GetData(apdu.SimpleID), apdu.OK)
}

// TestHowLong tells how long it takes from the card's being pushed in until
// the program has its ATR.
func TestHowLong(t *testing.T) {
	startDaemon(t)
	until(t, "the service", serves)
	s := openFirst(t)
	defer s.Close()
	next(t, s, reader.ReaderAdded)
	const rounds = 10
	var list []time.Duration
	for range rounds {
		c := plastic(t)
		began := time.Now()
		pull := push(t, vpcd.Port, c)
		if e := next(t, s, reader.Inserted); len(e.Card.ATR()) == 0 {
			t.Error("no ATR")
		}
		list = append(list, time.Since(began))
		pull()
		next(t, s, reader.Removed)
	}
	slices.Sort(list)
	t.Logf("figure: card in, Inserted with ATR: median %v, p90 %v, worst %v", list[rounds/2], list[rounds*9/10], list[rounds-1])
}

// TestOtherReaderGoesOn: while one card is at a long exchange, cards of another
// reader come and go as if it were not there: a terminal blanks when a card is
// pulled, at once.
func TestOtherReaderGoesOn(t *testing.T) {
	startDaemon(t)
	until(t, "the service", serves)
	s, err := Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	next(t, s, reader.ReaderAdded)
	next(t, s, reader.ReaderAdded)
	long := &hung{Card: plastic(t), began: make(chan struct{}), armed: true}
	pull := push(t, vpcd.Port, long)
	c := next(t, s, reader.Inserted).Card
	ended := make(chan error, 1)
	go func() {
		_, err := c.Transmit(t.Context(), []byte{0, 0x10, 0, 0, 0})
		ended <- err
	}()
	<-long.began
	for range 2 {
		pullOther := push(t, vpcd.Port+1, plastic(t))
		other := next(t, s, reader.Inserted)
		if b, err := other.Card.Transmit(t.Context(), []byte{0, 0xa4, 4, 0, 0}); err != nil || len(b) < 2 {
			t.Errorf("% x, %v", b, err)
		}
		pullOther()
		if gone := next(t, s, reader.Removed); gone.Card != other.Card {
			t.Errorf("%+v, want %+v", gone, other)
		}
	}
	select {
	case err := <-ended:
		t.Errorf("the exchange has ended: %v", err)
	default:
	}
	pull()
	if gone := next(t, s, reader.Removed); gone.Card != c {
		t.Errorf("%+v", gone)
	}
	if err := <-ended; !errors.Is(err, reader.ErrRemoved) {
		t.Errorf("the exchange: %v", err)
	}
}
