package screen

import (
	"bufio"
	"bytes"
	"image"
	"image/color"
	"sync"
	"testing"

	"hotdesk/protocol/draw"
)

func uniform(w, h int, c color.Color) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.Set(x, y, c)
		}
	}
	return m
}

func wantGrey(t *testing.T, what string, p *draw.Pixmap, want string) {
	t.Helper()
	if got := grey(p); got != want {
		t.Errorf("%s: screen shows\n%swant\n%s", what, got, want)
	}
}

// shown returns a screen of w by h with a session's picture, and its stream.
func shown(t testing.TB, w, h int, ops ...draw.Op) (*Screen, *Decoder, *stream) {
	s := New(w, h)
	d := s.Attach()
	st := newStream(t, draw.Window)
	decode(t, d, st.frame(ops...))
	return s, d, st
}

// Invariants 1 and 2: after Blank, and after the next decoder's first frame,
// the one before draws nothing.
func TestDetached(t *testing.T) {
	s, d, st := shown(t, 2, 1, size(2, 1), fillOp(0, 0, 2, 1, 0x10))
	s.Blank(nil)
	if _, err := d.Decode(in(st.frame(fillOp(0, 0, 2, 1, 0x20)))); err != ErrDetached {
		t.Error(err)
	}
	wantGrey(t, "blank", s.Snapshot(), "00\n")

	s, d, st = shown(t, 2, 1, size(2, 1), fillOp(0, 0, 2, 1, 0x10))
	next, nextStream := s.Attach(), newStream(t, draw.Window)
	if _, err := d.Decode(in(st.frame(fillOp(0, 0, 2, 1, 0x20)))); err != ErrDetached {
		t.Error(err)
	}
	wantGrey(t, "another attached", s.Snapshot(), "11\n")
	decode(t, next, nextStream.frame(size(2, 1), fillOp(0, 0, 1, 1, 0x30)))
	wantGrey(t, "its first frame", s.Snapshot(), "30\n")
	d.Close() // does not end the next one
	decode(t, next, nextStream.frame(fillOp(0, 0, 2, 1, 0x40)))
	next.Close()
	next.Close()
	if _, err := next.Decode(in(nextStream.frame())); err != ErrDetached {
		t.Error(err)
	}
	wantGrey(t, "closed", s.Snapshot(), "44\n")
}

// A picture in the memory of one before it begins black.
func TestBlankTwice(t *testing.T) {
	s := New(8, 8)
	for range 3 {
		d := s.Attach()
		st := newStream(t, draw.Window)
		decode(t, d, st.frame(size(8, 8), fillOp(2, 2, 3, 3, 0x50)))
		if p := s.Snapshot(); p.Row(2, 2, 3)[0] != 0x50 || p.Row(0, 0, 1)[0] != 0 || p.Row(6, 6, 7)[0] != 0 {
			t.Errorf("shown is\n%s", grey(p))
		}
		decode(t, d, st.frame(fillOp(0, 0, 8, 8, 0x70)))
		s.Blank(nil)
		s.Blank(&Words{Card: uniform(3, 1, color.Gray{0x20})})
		d.Close()
	}
}

// The same while a decoder draws as fast as it can, for the race detector.
func TestBlankWhileDrawing(t *testing.T) {
	s := New(64, 64)
	for range 20 {
		d := s.Attach()
		w := s.Watch()
		var ended error
		var wg sync.WaitGroup
		wg.Go(func() {
			for r := bufio.NewReader(&endless{st: newStream(t, draw.Window)}); ended == nil; {
				_, ended = d.Decode(r)
			}
		})
		wg.Go(func() {
			for range 20 {
				s.MovePointer(3, 4)
				buf := make([]byte, 64*64*4)
				for _, r := range w.Take() {
					s.Read(r, buf, 64*4)
				}
				// Black or white as a whole, never half of a frame.
				if p := s.Snapshot(); !bytes.Equal(p.Pix, bytes.Repeat(p.Pix[:4], 64*64)) {
					t.Error("half a frame")
				}
			}
			s.Blank(nil)
			if p := s.Snapshot(); !bytes.Equal(p.Pix, make([]byte, len(p.Pix))) {
				t.Error("not blank after Blank")
			}
			d.Close()
		})
		wg.Wait()
		w.Close()
		if ended != ErrDetached {
			t.Errorf("decoder ended with %v", ended)
		}
		if p := s.Snapshot(); !bytes.Equal(p.Pix, make([]byte, len(p.Pix))) {
			t.Error("something drew after Blank")
		}
	}
}

// endless is a stream of white pictures.
type endless struct {
	st   *stream
	left []byte
}

func (e *endless) Read(b []byte) (int, error) {
	if len(e.left) == 0 {
		e.left = e.st.frame(size(64, 64), fillOp(0, 0, 64, 64, 0xff))
	}
	n := copy(b, e.left)
	e.left = e.left[n:]
	return n, nil
}

func TestPlace(t *testing.T) {
	s, d, st := shown(t, 5, 4, size(2, 2), fillOp(0, 0, 2, 2, 0x50))
	wantGrey(t, "smaller", s.Snapshot(), "00000\n05500\n05500\n00000\n")
	for _, c := range [][4]int{{0, 0, 0, 0}, {1, 1, 0, 0}, {2, 2, 1, 1}, {4, 3, 1, 1}, {-5, 9, 0, 1}} {
		if x, y := s.Map(c[0], c[1]); x != c[2] || y != c[3] {
			t.Errorf("%d,%d is the session's %d,%d, want %d,%d", c[0], c[1], x, y, c[2], c[3])
		}
	}
	decode(t, d, st.frame(size(6, 5), fillOp(0, 0, 6, 5, 0x50), fillOp(5, 0, 1, 5, 0xf0), fillOp(0, 4, 6, 1, 0xf0)))
	wantGrey(t, "larger", s.Snapshot(), "55555\n55555\n55555\n55555\n")
	if x, y := s.Map(4, 3); x != 4 || y != 3 {
		t.Errorf("mapped to %d,%d", x, y)
	}
	s.Resize(7, 5)
	wantGrey(t, "resized", s.Snapshot(), "55555f0\n55555f0\n55555f0\n55555f0\nffffff0\n")
	if w, h := s.Size(); w != 7 || h != 5 {
		t.Errorf("size %dx%d", w, h)
	}
	s.Resize(0, 1<<20)
	if w, h := s.Size(); w != 1 || h != draw.MaxSide {
		t.Errorf("size %dx%d", w, h)
	}
	s = New(3, 2)
	if x, y := s.Map(9, -9); x != 2 || y != 0 {
		t.Errorf("without a picture mapped to %d,%d", x, y)
	}
}

func TestPointer(t *testing.T) {
	arrow := draw.Op{Code: draw.Cursor, X: 1, Y: 1, W: 2, H: 2, Pix: []byte{
		0xf0, 0xf0, 0xf0, 0xff, 0, 0, 0, 0, // opaque, clear
		0x40, 0x40, 0x40, 0x80, 0xff, 0xff, 0xff, 0, // half, and more colour than alpha allows
	}}
	s, d, st := shown(t, 4, 3, size(4, 3), fillOp(0, 0, 4, 3, 0x40), arrow)
	wantGrey(t, "at the corner", s.Snapshot(), "f444\n4444\n4444\n")
	s.MovePointer(2, 1)
	wantGrey(t, "moved", s.Snapshot(), "4f44\n46f4\n4444\n")
	wantGrey(t, "bare", s.SnapshotBare(), "4444\n4444\n4444\n")
	decode(t, d, st.frame(draw.Op{Code: draw.Warp, X: 3, Y: 2}))
	wantGrey(t, "warped", s.Snapshot(), "4444\n44f4\n446f\n")
	s.MovePointer(100, 100)
	wantGrey(t, "outside", s.Snapshot(), "4444\n44f4\n446f\n")

	// The next session begins without a shape; Blank hides it, too.
	next := s.Attach()
	decode(t, next, newStream(t, draw.Window).frame(size(4, 3), fillOp(0, 0, 4, 3, 0x20)))
	wantGrey(t, "the next session", s.Snapshot(), "2222\n2222\n2222\n")
	s, _, _ = shown(t, 2, 2, size(2, 2), arrow)
	s.MovePointer(1, 1)
	s.Blank(nil)
	wantGrey(t, "blank", s.Snapshot(), "00\n00\n")

	// In a picture that is not at the screen's corner, a warp is the picture's.
	s, _, _ = shown(t, 4, 1, size(2, 1), draw.Op{Code: draw.Cursor, W: 1, H: 1, Pix: []byte{0xf0, 0, 0, 0xff}}, draw.Op{Code: draw.Warp, X: 1})
	wantGrey(t, "warped in the middle", s.Snapshot(), "00f0\n")
}

func TestOSD(t *testing.T) {
	s, _, _ := shown(t, 5, 3, size(5, 3), fillOp(0, 0, 5, 3, 0x90))
	s.Blank(&Words{Card: uniform(3, 1, color.Gray{0x20})})
	wantGrey(t, "small", s.Snapshot(), "00000\n02220\n00000\n")
	s.Blank(&Words{Card: uniform(9, 9, color.Gray{0x30})})
	wantGrey(t, "large", s.Snapshot(), "33333\n33333\n33333\n")
	g := image.NewGray(image.Rect(10, 10, 12, 11)) // not RGBA, not at the origin
	g.SetGray(11, 10, color.Gray{0x70})
	s.Blank(&Words{Card: g})
	wantGrey(t, "grey", s.Snapshot(), "00000\n00700\n00000\n")
	// What a new session's first frame does not cover is black.
	decode(t, s.Attach(), newStream(t, draw.Window).frame(size(5, 3), fillOp(0, 0, 1, 1, 0x10)))
	wantGrey(t, "session", s.Snapshot(), "10000\n00000\n00000\n")
	m := image.NewRGBA(image.Rect(0, 0, 1, 1))
	m.SetRGBA(0, 0, color.RGBA{1, 2, 3, 255})
	s.Blank(&Words{Card: m})
	if p := s.Snapshot().Row(1, 2, 3); p[0] != 3 || p[1] != 2 || p[2] != 1 {
		t.Errorf("colours are % x", p)
	}
	// On a colour, other words after it, no card, and another size of the screen.
	s.Blank(&Words{uniform(3, 3, color.Gray{0x20}), color.RGBA{0x50, 0x50, 0x50, 0xff}})
	wantGrey(t, "on a colour", s.Snapshot(), "52225\n52225\n52225\n")
	w := s.Watch()
	defer w.Close()
	w.Take()
	s.Blank(&Words{uniform(1, 1, color.Gray{0x30}), color.RGBA{0x50, 0x50, 0x50, 0xff}})
	wantGrey(t, "other words", s.Snapshot(), "55555\n55355\n55555\n")
	for _, r := range w.Take() {
		if !r.In(image.Rect(1, 0, 4, 3)) {
			t.Errorf("other words change %v", r)
		}
	}
	s.Blank(&Words{Ground: color.RGBA{0x60, 0x60, 0x60, 0xff}})
	wantGrey(t, "no card", s.Snapshot(), "66666\n66666\n66666\n")
	s.Blank(&Words{uniform(1, 1, color.Gray{0x30}), color.RGBA{0x60, 0x60, 0x60, 0xff}})
	s.Resize(3, 1)
	s.Blank(&Words{uniform(1, 1, color.Gray{0x40}), color.RGBA{0x60, 0x60, 0x60, 0xff}})
	wantGrey(t, "another size", s.Snapshot(), "646\n")
	// A session that has the words' size begins black.
	decode(t, s.Attach(), newStream(t, draw.Window).frame(size(3, 1), fillOp(0, 0, 1, 1, 0x10)))
	s.Resize(5, 3)
	wantGrey(t, "the session after words", s.Snapshot(), "00000\n01000\n00000\n")
	s.Blank(&Words{Ground: color.RGBA{0x60, 0x60, 0x60, 0xff}})
	wantGrey(t, "words after it", s.Snapshot(), "66666\n66666\n66666\n")
}

func TestNotice(t *testing.T) {
	const w, h = 40, 36
	s, d, st := shown(t, w, h, size(w, h), fillOp(0, 0, w, h, 0x40))
	bare := grey(s.Snapshot())
	half := uniform(4, 2, color.RGBA{0x40, 0x40, 0x40, 0x80})
	s.Notice(half)
	p := s.Snapshot()
	for _, c := range []struct {
		x, y int
		want byte
	}{{19, 18, 0x40}, {20, 18, 0x60}, {23, 19, 0x60}, {24, 19, 0x40}, {23, 20, 0x40}} {
		if got := p.Row(c.y, c.x, c.x+1)[0]; got != c.want {
			t.Errorf("%d,%d is %#x, want %#x", c.x, c.y, got, c.want)
		}
	}
	wantGrey(t, "without it", s.SnapshotBare(), bare)
	q := draw.NewPixmap(w, h)
	if !s.ReadBare(image.Rect(0, 0, w, h), q.Pix, q.Stride) || s.ReadBare(image.Rect(0, 0, w+1, h), q.Pix, q.Stride) {
		t.Error("ReadBare reads what is on the screen, and nothing else")
	}
	wantGrey(t, "read without it", q, bare)
	decode(t, d, st.frame(fillOp(0, 0, w, h, 0x40)))
	if !bytes.Equal(s.Snapshot().Pix, p.Pix) {
		t.Error("a frame drew over the notice")
	}
	s.Notice(nil)
	wantGrey(t, "taken away", s.Snapshot(), bare)
	s.Notice(half)
	s.Blank(nil)
	if p := s.Snapshot(); !bytes.Equal(p.Pix, make([]byte, len(p.Pix))) {
		t.Error("it stays when the screen is blanked")
	}
	s.Resize(2, 1)
	s.Notice(half) // larger than the screen
	wantGrey(t, "on a small screen", s.Snapshot(), "44\n")
}

func TestRead(t *testing.T) {
	s, _, _ := shown(t, 3, 2, size(3, 2), fillOp(0, 0, 3, 2, 0x10), fillOp(1, 1, 1, 1, 0x20))
	buf := bytes.Repeat([]byte{7}, 5*4*4)
	s.Read(image.Rect(-1, -1, 4, 3), buf, 5*4)
	got := grey(&draw.Pixmap{Pix: buf, Stride: 20, W: 5, H: 4})
	if want := "00000\n01110\n01210\n00000\n"; got != want { // 7 is the 0 that was there
		t.Errorf("read\n%swant\n%s", got, want)
	}
	if buf[0] != 7 || buf[4*4] != 7 || buf[3*20+4] != 7 {
		t.Error("it wrote outside of the screen")
	}
	s.Read(image.Rect(5, 5, 6, 6), nil, 0)
	one := make([]byte, 4)
	s.Read(image.Rect(1, 1, 2, 2), one, 4)
	if one[0] != 0x20 {
		t.Errorf("% x", one)
	}
}

func TestWatch(t *testing.T) {
	s, d, st := shown(t, 100, 100, size(90, 90))
	w, other := s.Watch(), s.Watch()
	defer other.Close()
	take := func(want ...image.Rectangle) {
		t.Helper()
		select {
		case <-w.Changed():
			if len(want) == 0 {
				t.Error("it says changed")
			}
		default:
			if len(want) > 0 {
				t.Error("it does not say changed")
			}
		}
		got := w.Take()
		if len(got) != len(want) {
			t.Fatalf("changed %v, want %v", got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("changed %v, want %v", got, want)
			}
		}
	}
	take(image.Rect(0, 0, 100, 100))
	take()
	decode(t, d, st.frame(fillOp(0, 0, 3, 3, 1), fillOp(80, 80, 2, 2, 1)))
	take(image.Rect(5, 5, 8, 8), image.Rect(85, 85, 87, 87))
	decode(t, d, st.frame(fillOp(0, 0, 3, 3, 1)))
	decode(t, d, st.frame(fillOp(1, 1, 2, 2, 1)))
	decode(t, d, st.frame(fillOp(3, 0, 3, 3, 1)))
	take(image.Rect(5, 5, 11, 8))
	s.MovePointer(7, 7)
	take() // it has no shape
	decode(t, d, st.frame(draw.Op{Code: draw.Cursor, W: 2, H: 2, Pix: make([]byte, 16)}))
	take(image.Rect(7, 7, 9, 9))
	s.MovePointer(50, 50)
	take(image.Rect(7, 7, 9, 9), image.Rect(50, 50, 52, 52))
	s.Notice(uniform(2, 2, color.White))
	take(image.Rect(82, 82, 84, 84))
	s.Notice(nil)
	take(image.Rect(82, 82, 84, 84))
	s.Resize(40, 30)
	take(image.Rect(0, 0, 40, 30))
	var ops []draw.Op
	for i := range 40 {
		ops = append(ops, fillOp(i, (i*7)%30, 1, 1, 1))
	}
	decode(t, d, st.frame(ops...))
	if got := w.Take(); len(got) > maxRects {
		t.Errorf("%d rectangles", len(got))
	} else {
		for _, op := range ops {
			covered := false
			for _, r := range got {
				covered = covered || image.Pt(op.X, op.Y).In(r)
			}
			if !covered {
				t.Errorf("%d,%d is not among what changed", op.X, op.Y)
			}
		}
	}
	<-w.Changed()
	s.Blank(nil)
	take(image.Rect(0, 0, 40, 30))
	w.Close()
	s.Blank(nil)
	take()
}
