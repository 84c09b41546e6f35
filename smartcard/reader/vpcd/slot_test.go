package vpcd

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/reader"
	"hotdesk/smartcard/reader/emulated"
	"hotdesk/smartcard/reader/readertest"
)

var _ reader.Source = (*Slot)(nil)

// spoken is a connection that tells when something was written to it.
type spoken struct {
	net.Conn
	wrote chan struct{}
	once  sync.Once
}

func (c *spoken) Write(b []byte) (int, error) {
	defer c.once.Do(func() { close(c.wrote) })
	return c.Conn.Write(b)
}

// TestConformance: a Slot, with cards put into it by Serve, is a reader.
func TestConformance(t *testing.T) {
	readertest.Run(t, func(t *testing.T) readertest.Bench {
		cards := emulated.New(fstest.MapFS{"a.card": {Data: []byte("atr = 3b0400112233\ntype = simple\nid = 0123456789abcdef\nsecret = 00112233445566778899aabbccddeeff\n")}})
		t.Cleanup(func() { cards.Close() })
		l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		var in *spoken
		var serving sync.WaitGroup
		t.Cleanup(func() {
			if in != nil {
				in.Close()
			}
			serving.Wait()
		})
		return readertest.Bench{
			Open: func(*testing.T) reader.Source { return Listen(l, nil) },
			Insert: func(t *testing.T) {
				c, err := cards.Insert("a")
				if err != nil {
					t.Error(err)
					return
				}
				conn, err := net.Dial("unix", l.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				in = &spoken{Conn: conn, wrote: make(chan struct{})}
				conn = in
				serving.Go(func() { _ = Serve(context.Background(), conn, c) }) // pulled in the middle
			},
			Remove: func(t *testing.T) {
				<-in.wrote // its ATR: a card that nobody saw come does not go
				in.Close()
				serving.Wait()
			},
			ID:  []byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef},
			ATR: []byte{0x3b, 0x04, 0x00, 0x11, 0x22, 0x33},
		}
	})
}

// pipes is a listener in memory.
type pipes struct {
	conns chan net.Conn
	ended chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), ended: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.ended) }); return nil }
func (p *pipes) Addr() net.Addr { return nil }

// A program at the slot, by hand.
type program struct {
	t    *testing.T
	conn net.Conn
}

func (p program) hears(want string) {
	p.t.Helper()
	got := make([]byte, len(want)/2)
	if _, err := io.ReadFull(p.conn, got); err != nil || hex.EncodeToString(got) != want {
		p.t.Errorf("heard %x, %v, want %s", got, err, want)
	}
}

func (p program) says(s string) {
	b, _ := hex.DecodeString(s)
	_, _ = p.conn.Write(b) // to a slot that has hung up, perhaps
}

// connect connects a program and takes its ATR.
func connect(t *testing.T, l *pipes, atr string) program {
	near, far := net.Pipe()
	l.conns <- far
	p := program{t, near}
	p.hears("000101000104")
	p.says(fmt.Sprintf("%04x", len(atr)/2) + atr)
	return p
}

func taken(t *testing.T, s *Slot, want reader.Kind) reader.Event {
	t.Helper()
	e := <-s.Events()
	if e.Kind != want {
		t.Fatalf("event %+v, want kind %d", e, want)
	}
	return e
}

// inSlot runs f with a slot, on a clock of its own.
func inSlot(t *testing.T, f func(t *testing.T, l *pipes, s *Slot)) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		s := Listen(l, nil)
		taken(t, s, reader.ReaderAdded)
		f(t, l, s)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestSlotBytes: what goes over the wire, and what becomes of a caller that
// does not wait for its answer.
func TestSlotBytes(t *testing.T) {
	inSlot(t, func(t *testing.T, l *pipes, s *Slot) {
		p := connect(t, l, "3b0400112233")
		c := taken(t, s, reader.Inserted).Card
		done := make(chan error)
		send := func(ctx context.Context, want string) {
			answer, err := c.Transmit(ctx, apdu.GetData(apdu.SimpleID).Append(nil))
			if err == nil && hex.EncodeToString(answer) != want {
				err = fmt.Errorf("answer %x", answer)
			}
			done <- err
		}
		go send(t.Context(), "9000")
		p.hears("000500ca010100")
		p.says("00029000")
		if err := <-done; err != nil {
			t.Error(err)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go send(ctx, "")
		p.hears("000500ca010100")
		if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		go send(t.Context(), "6a88")
		synctest.Wait()
		p.says("00029000") // of the one before
		p.hears("000500ca010100")
		p.says("00026a88")
		if err := <-done; err != nil {
			t.Error(err)
		}

		go func() { done <- reader.Reset(t.Context(), c) }()
		p.hears("000102000104")
		p.says("00063b0400112233")
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, n := range []int{1, 3, maxBody + 1} {
			if _, err := c.Transmit(t.Context(), make([]byte, n)); err == nil {
				t.Errorf("a command of %d bytes was sent", n)
			}
		}

		// Pulled in the middle of an exchange.
		go send(t.Context(), "")
		p.hears("000500ca010100")
		p.conn.Close()
		if err := <-done; !errors.Is(err, reader.ErrRemoved) {
			t.Error(err)
		}
		taken(t, s, reader.Removed)
		if err := reader.Reset(t.Context(), c); !errors.Is(err, reader.ErrRemoved) {
			t.Error(err)
		}
	})
}

// TestHostilePrograms: whoever breaks the protocol is dropped, and the next one
// is a card like any other.
func TestHostilePrograms(t *testing.T) {
	inSlot(t, func(t *testing.T, l *pipes, s *Slot) {
		next := func() {
			t.Helper()
			p := connect(t, l, "3b00")
			taken(t, s, reader.Inserted)
			p.conn.Close()
			taken(t, s, reader.Removed)
		}

		long := connect(t, l, hex.EncodeToString(make([]byte, 34)))
		defer long.conn.Close()
		next()
		near, far := net.Pipe() // says nothing
		l.conns <- far
		go io.Copy(io.Discard, near)
		next()
		near, far = net.Pipe() // does not even listen
		l.conns <- far
		defer near.Close()
		next()

		p := connect(t, l, "3b00")
		taken(t, s, reader.Inserted)
		p.says("ffff") // unasked
		taken(t, s, reader.Removed)
		next()

		p = connect(t, l, "3b00")
		c := taken(t, s, reader.Inserted).Card
		go io.Copy(io.Discard, p.conn) // takes a command, and never answers
		if _, err := c.Transmit(t.Context(), make([]byte, 5)); !errors.Is(err, reader.ErrRemoved) {
			t.Error(err)
		}
		taken(t, s, reader.Removed)
		next()

		p = connect(t, l, "") // a mute card
		c = taken(t, s, reader.Inserted).Card
		if _, err := c.Transmit(t.Context(), make([]byte, 5)); !errors.Is(err, reader.ErrMute) {
			t.Error(err)
		}
		p.conn.Close()
		taken(t, s, reader.Removed)
		if _, err := c.Transmit(t.Context(), make([]byte, 5)); !errors.Is(err, reader.ErrRemoved) {
			t.Error(err)
		}

		p = connect(t, l, "3b00") // answers without a status
		c = taken(t, s, reader.Inserted).Card
		go func() { p.hears("00050000000000"); p.says("000190") }()
		if _, err := c.Transmit(t.Context(), make([]byte, 5)); !errors.Is(err, reader.ErrMute) {
			t.Error(err)
		}
	})
}

// script is a connection that says what it was given, and ends.
type script struct {
	net.Conn
	text *bytes.Reader
}

func (s script) Read(b []byte) (int, error)    { return s.text.Read(b) }
func (s script) Write(b []byte) (int, error)   { return len(b), nil }
func (s script) Close() error                  { return nil }
func (s script) SetDeadline(t time.Time) error { return nil }

// FuzzMessages: a message is what it was made of, and whatever a program says
// is an ATR within its bound or its end.
func FuzzMessages(f *testing.F) {
	for _, s := range []string{"00063b0400112233", "00063b04001122330002900000", "0000", "ffff00", "00", ""} {
		b, _ := hex.DecodeString(s)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if body, err := receive(script{text: bytes.NewReader(b)}); err == nil {
			if m := appendMessage(nil, body); !bytes.HasPrefix(b, m) {
				t.Errorf("%x from %x", m, b)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		s := &Slot{ctx: ctx, events: reader.NewQueue(ctx)}
		_ = s.hold(script{text: bytes.NewReader(b)}) // how it ends is its own affair
		s.events.Tell(reader.Event{Kind: reader.ReaderRemoved})
		for e := range s.Events() {
			if e.Kind == reader.ReaderRemoved {
				break
			}
			if n := len(e.Card.ATR()); n > 33 {
				t.Errorf("ATR of %d bytes", n)
			}
			select {
			case <-e.Card.Removed():
			default:
				t.Error("a card of a connection that has ended is in")
			}
		}
		cancel()
		s.events.Wait()
	})
}
