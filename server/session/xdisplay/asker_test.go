package xdisplay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"io"
	"net"
	"path/filepath"
	"reflect"
	"testing"

	"hotdesk/server/session/encode"
)

// message is one of the X server's: n bytes, of the kind and the sequence.
func message(kind byte, seq uint16, n int) []byte {
	m := make([]byte, n)
	m[0] = kind
	binary.LittleEndian.PutUint16(m[2:], seq)
	if kind == 1 || kind&0x7f == genericEvent {
		binary.LittleEndian.PutUint32(m[4:], uint32(n-32)/4)
	}
	return m
}

// accepted is what the X server says to a new client, which asks two versions.
func accepted() []byte {
	b := append([]byte{1, 0, 11, 0, 0, 0, 1, 0}, make([]byte, 4)...)
	b = append(b, message(1, 1, 32)...)
	return append(b, message(1, 2, 32)...)
}

// scripted is an X server that says things whatever it is asked, and in pieces of
// size bytes, and then ends.
func scripted(tb testing.TB, says []byte, size int) net.Conn {
	tb.Helper()
	ln, err := net.Listen("unix", filepath.Join(tb.TempDir(), "X"))
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	peer, err := ln.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { peer.Close() })
	go func() {
		for ; len(says) > 0; says = says[min(size, len(says)):] {
			if _, err := peer.Write(says[:min(size, len(says))]); err != nil {
				return
			}
		}
		peer.(*net.UnixConn).CloseWrite()
		io.Copy(io.Discard, peer)
	}()
	return c
}

// asked asks one thing of what says has, after it was accepted.
func asked(tb testing.TB, says []byte, size int) (a *asker, answer []byte, err error) {
	tb.Helper()
	if a, err = newAsker(scripted(tb, append(accepted(), says...), size), nil, opcodes{}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { a.conn.Close() })
	a.ask.Lock()
	defer a.ask.Unlock()
	a.mu.Lock()
	seq := a.request(opGetInputFocus, 0)
	err = a.flush()
	a.mu.Unlock()
	if err != nil {
		tb.Fatal(err)
	}
	answer, err = a.answer(seq)
	return a, answer, err
}

func TestAsker(t *testing.T) {
	long, tooLong := message(1, 3, 32+1<<20), message(1, 3, 32)
	binary.LittleEndian.PutUint32(tooLong[4:], 1<<30)
	for _, c := range []struct {
		name string
		says []byte
		want error // nil: the last 32 bytes or more are the answer
		n    int
	}{
		{"an answer", message(1, 3, 32), nil, 32},
		{"a long one", long, nil, len(long)},
		{"after events and old errors", bytes.Join([][]byte{message(34, 2, 32), message(genericEvent, 2, 64),
			message(genericEvent|0x80, 2, 40), message(0, 2, 32), message(1, 2, 48), message(1, 3, 40)}, nil), nil, 40},
		{"an error", append(message(0, 3, 32), message(1, 3, 32)...), xError(0), 0},
		{"an answer to what was not asked", message(1, 4, 32), errAnswer, 0},
		{"an answer that is too long", tooLong, errAnswer, 0},
		{"half an answer", message(1, 3, 64)[:40], io.EOF, 0},
		{"nothing", nil, io.EOF, 0},
	} {
		for _, size := range []int{1 << 20, 7} {
			if len(c.says) > 1000 && size < 1000 {
				continue
			}
			_, m, err := asked(t, c.says, size)
			if !errors.Is(err, c.want) || len(m) != c.n || c.n > 0 && !bytes.Equal(m, c.says[len(c.says)-c.n:]) {
				t.Errorf("%s, in pieces of %d: %d bytes, %v; want %d, %v", c.name, size, len(m), err, c.n, c.want)
			}
		}
	}
}

func TestAskerIsRefused(t *testing.T) {
	for _, says := range [][]byte{
		{0, 5, 11, 0, 0, 0, 1, 0, 'n', 'o', 0, 0},
		{1, 0, 11, 0, 0, 0, 9, 0},
		{1},
		append(accepted()[:12], message(0, 1, 32)...),
		append(accepted()[:12], message(1, 9, 32)...),
	} {
		if a, err := newAsker(scripted(t, says, 1<<20), nil, opcodes{}); err == nil {
			a.conn.Close()
			t.Errorf("%v: no error", says)
		}
	}
}

// A long answer, such as a large cursor's, leaves no memory in use.
func TestAskerGivesMemoryBack(t *testing.T) {
	a, _, err := asked(t, append(message(1, 3, 32+1<<20), message(1, 4, 32)...), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.sync(); err != nil || len(a.in) != keepAnswer {
		t.Errorf("%d bytes are kept: %v", len(a.in), err)
	}
}

func FuzzAsker(f *testing.F) {
	f.Add(message(1, 3, 40))
	f.Add(append(message(genericEvent, 0, 64), message(0, 3, 32)...))
	f.Fuzz(func(t *testing.T, says []byte) {
		_, m, err := asked(t, says, 1<<20)
		if err != nil {
			return
		}
		(&asker{}).rectangles(m)
		cursor(m, nil)
	})
}

// Each of the two connections is the end of the other.
func TestOneConnectionEnds(t *testing.T) {
	for name, end := range map[string]func(d *Display){
		"what xgb has":   func(d *Display) { d.wire.Conn.Close() },
		"what asks":      func(d *Display) { d.asker.conn.Close(); d.View(func(encode.View) { t.Error("a view of nothing") }) },
		"what types":     func(d *Display) { d.asker.conn.Close(); d.Key(keyA, true) },
		"what waits":     func(d *Display) { d.asker.conn.Close(); d.Hold(true); d.Key(keyA, true); d.Hold(false) },
		"before a frame": func(d *Display) { d.wire.end(io.EOF) },
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, startServer(t, "640x480").config(true))
			end(d)
			<-d.Done()
			<-d.ended
			d.View(func(encode.View) { t.Error("a view of nothing") })
			if err := d.asker.sync(); err == nil {
				t.Error("the other connection lives")
			}
		})
	}
}

// A window that moves is a hint, and holds the X server while it is looked at: for
// both connections, and no longer.
func TestMovedWindow(t *testing.T) {
	both(t, func(t *testing.T, s *server, d *Display) {
		c := startClient(t, s)
		c.window(10, 20, 100, 100)
		settle(t, d)
		for i := range 5 {
			c.do("move %d %d", 10+3*(i+1), 20-2*(i+1))
			until(t, d, "the move", func(v encode.View) bool {
				d.Key(keyA, i%2 == 0) // the X server takes it meanwhile
				return reflect.DeepEqual(v.Moved, []image.Point{{X: 3, Y: -2}}) && covers(v.Damage, image.Pt(60, 60))
			})
		}
		d.View(func(v encode.View) {
			if len(v.Moved) != 0 {
				t.Errorf("moved %v, again", v.Moved)
			}
		})
	})
}

// Input that comes together goes out together, and not before.
func TestHeldInput(t *testing.T) {
	d, c := windowed(t)
	d.Pointer(50, 50, 0)
	c.expect("motion 50 50")
	d.Hold(true)
	d.Key(keyA, true)
	d.Key(keyA, false)
	if n := len(d.asker.out); n == 0 {
		t.Error("nothing is held")
	}
	d.Hold(false)
	d.Key(keyShift, true)
	c.expect("key 38 down", "key 38 up", "key 50 down")
	d.Hold(true)
	d.Pointer(60, 60, 0)
	d.View(func(v encode.View) { // whose questions take it along
		if v.Warp != nil {
			t.Errorf("warp to %v", v.Warp)
		}
	})
	c.expect("motion 60 60")
	d.Hold(false)
}
