//go:build pcsc

package pcsc

import (
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"testing"

	"hotdesk/smartcard/pcsclite"
	"hotdesk/smartcard/reader"
)

const (
	socket      = "/run/pcscd/pcscd.comm"
	unavailable = 0x80100017 // SCARD_E_READER_UNAVAILABLE
)

// service is what a pcscd tells whose USB reader is unplugged and plugged in, a
// thing that vpcd's driver cannot do.
type service struct {
	t *testing.T

	mu      sync.Mutex
	state   pcsclite.ReaderState
	gone    chan struct{} // closed when the reader is
	waits   map[uint32]net.Conn
	context uint32
	began   chan struct{} // says when an exchange is under way, if not nil
}

func startService(t *testing.T) *service {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, gone: make(chan struct{}), waits: map[uint32]net.Conn{}}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		for _, c := range s.waits {
			c.Close()
		}
		s.mu.Unlock()
		wg.Wait()
		os.Remove(socket)
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				s.serve(c)
			})
		}
	})
	return s
}

func (s *service) serve(c net.Conn) {
	var context uint32
	b, have := make([]byte, pcsclite.MaxRequest), 0
	for {
		n, err := c.Read(b[have:])
		if err != nil {
			return
		}
		for have += n; ; {
			m, rest, err := pcsclite.ParseRequest(b[:have])
			if errors.Is(err, pcsclite.ErrShort) {
				break
			}
			if err != nil {
				s.t.Error(err)
				return
			}
			have = copy(b, rest)
			answer := s.answer(c, &context, m)
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}
}

func (s *service) answer(c net.Conn, context *uint32, m pcsclite.Body) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var data []byte
	switch m := m.(type) {
	case *pcsclite.Establish:
		s.context++
		m.Context, *context = s.context, s.context
	case *pcsclite.ReaderStates:
		return pcsclite.AppendStates(nil, s.state)
	case *pcsclite.Wait:
		s.waits[*context] = c
		return pcsclite.AppendStates(nil, s.state)
	case *pcsclite.StopWaiting:
		if s.waits[*context] == nil {
			return nil // it was signalled
		}
		delete(s.waits, *context)
		return pcsclite.AppendSignal(nil, pcsclite.Success)
	case *pcsclite.Cancel:
		if other := s.waits[m.Context]; other != nil {
			delete(s.waits, m.Context)
			other.Write(pcsclite.AppendSignal(nil, pcsclite.Cancelled))
		}
	case *pcsclite.Connect:
		if m.Card, m.Active = s.context+100, pcsclite.T1; m.Name() != s.state.Name {
			m.RV = pcsclite.UnknownReader
		}
	case *pcsclite.Transmit:
		data = []byte{0x90, 0x00}
		if began, gone := s.began, s.gone; began != nil {
			s.mu.Unlock()
			began <- struct{}{}
			<-gone
			s.mu.Lock()
			m.RV, data = unavailable, nil
		}
		m.ReceiveLength = uint32(len(data))
	}
	return append(pcsclite.AppendBody(nil, m), data...)
}

// signal tells all who wait that something changed. s.mu is held.
func (s *service) signal() {
	for _, c := range s.waits {
		c.Write(pcsclite.AppendSignal(nil, pcsclite.Success))
	}
	clear(s.waits)
}

// plug plugs the reader in, with a card in it.
func (s *service) plug(atr []byte, events uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = pcsclite.ReaderState{
		Name: first, Events: events, State: pcsclite.StatePresent | pcsclite.StatePowered | pcsclite.StateNegotiable, ATR: atr, Protocol: pcsclite.T1,
	}
	s.signal()
}

func (s *service) unplug() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = pcsclite.ReaderState{}
	close(s.gone)
	s.gone, s.began = make(chan struct{}), nil
	s.signal()
}

// TestReaderUnplugged: a reader that is unplugged in the middle of an exchange
// takes its card with it; plugged in again it has another one. So has one that
// was away for less time than anybody looked.
func TestReaderUnplugged(t *testing.T) {
	s := startService(t)
	src, err := Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	one, other := []byte{0x3b, 0x80, 0x01, 0x81}, []byte{0x3b, 0x81, 0x01, 0x07, 0x87}
	for range 3 {
		s.plug(one, 5)
		next(t, src, reader.ReaderAdded)
		c := next(t, src, reader.Inserted).Card
		if b, err := c.Transmit(t.Context(), []byte{0, 0x10, 0, 0}); err != nil || len(b) != 2 {
			t.Fatalf("%x, %v", b, err)
		}
		s.mu.Lock()
		s.began = make(chan struct{})
		began := s.began
		s.mu.Unlock()
		result := make(chan error, 1)
		go func() {
			_, err := c.Transmit(t.Context(), []byte{0, 0x10, 0, 0})
			result <- err
		}()
		<-began
		s.unplug()
		if err := <-result; !errors.Is(err, reader.ErrRemoved) {
			t.Errorf("%v", err)
		}
		if e := next(t, src, reader.Removed); e.Card != c {
			t.Errorf("%+v", e)
		}
		next(t, src, reader.ReaderRemoved)
	}
	s.plug(one, 5)
	next(t, src, reader.ReaderAdded)
	c := next(t, src, reader.Inserted).Card
	s.plug(other, 0) // its count begins anew
	if e := next(t, src, reader.Removed); e.Card != c {
		t.Errorf("%+v", e)
	}
	if c = next(t, src, reader.Inserted).Card; !slices.Equal(c.ATR(), other) {
		t.Errorf("ATR %x", c.ATR())
	}
}
