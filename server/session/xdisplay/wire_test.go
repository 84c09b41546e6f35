package xdisplay

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"
)

// recorded is a net.Conn whose peer has said all it will say.
type recorded struct{ r io.Reader }

func (c recorded) Read(b []byte) (int, error)     { return c.r.Read(b) }
func (recorded) Write(b []byte) (int, error)      { return len(b), nil }
func (recorded) Close() error                     { return nil }
func (recorded) LocalAddr() net.Addr              { return nil }
func (recorded) RemoteAddr() net.Addr             { return nil }
func (recorded) SetDeadline(time.Time) error      { return nil }
func (recorded) SetReadDeadline(time.Time) error  { return nil }
func (recorded) SetWriteDeadline(time.Time) error { return nil }

// realMessages are what an X server says to a client that asks three things,
// one of them wrong.
func realMessages(tb testing.TB) []byte {
	tb.Helper()
	s := startServer(tb, "64x64")
	c, err := dial(s.display)
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	ask := setupRequest(nil)
	ask = append(ask, 43, 0, 1, 0)  // GetInputFocus
	ask = append(ask, 255, 0, 1, 0) // no such request
	ask = append(ask, 52, 0, 1, 0)  // GetFontPath
	if _, err := c.Write(ask); err != nil {
		tb.Fatal(err)
	}
	read := func(b []byte, n int) []byte {
		b = append(b, make([]byte, n)...)
		if _, err := io.ReadFull(c, b[len(b)-n:]); err != nil {
			tb.Fatal(err)
		}
		return b
	}
	b := read(nil, 8)
	b = read(b, 4*int(binary.LittleEndian.Uint16(b[6:])))
	b = read(b, 3*32)
	return read(b, 4*int(binary.LittleEndian.Uint32(b[len(b)-28:])))
}

// Whatever an X server says and wherever it stops, the other side sees whole
// messages, no error, the end, and an answer to every request.
func FuzzWire(f *testing.F) {
	real := realMessages(f)
	f.Add(real, uint8(3))
	f.Add(real[:len(real)-5], uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, requests uint8) {
		w := newWire(recorded{bytes.NewReader(b)}, nil)
		w.release(func([]byte) bool { return false })
		if _, err := w.Write([]byte("setup")); err != nil {
			t.Fatal(err)
		}
		head := make([]byte, 8)
		if _, err := io.ReadFull(w, head); err != nil {
			return // refused: xgb sees it
		}
		if _, err := io.ReadFull(w, make([]byte, 4*int(binary.LittleEndian.Uint16(head[6:])))); err != nil {
			t.Fatal(err)
		}
		for range requests {
			if _, err := w.Write(make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
		}
		for {
			m := make([]byte, 32)
			if _, err := io.ReadFull(w, m); err != nil {
				t.Fatal(err)
			}
			if m[0] == 1 {
				if _, err := io.CopyN(io.Discard, w, 4*int64(binary.LittleEndian.Uint32(m[4:]))); err != nil {
					t.Fatal(err)
				}
			}
			if w.woken {
				break
			}
		}
		if w.why() == nil || w.answered != w.written {
			t.Fatalf("ended by %v, %d answered of %d", w.why(), w.answered, w.written)
		}
	})
}
