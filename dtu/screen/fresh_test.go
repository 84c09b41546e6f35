package screen

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"hotdesk/protocol/draw"
)

// part makes a part of the first frame, which frame ends.
func (s *stream) part(ops ...draw.Op) []byte {
	b := s.frame(ops...)
	s.seq--
	_, rest, err := draw.ParseHeader(b)
	if err != nil {
		s.t.Fatal(err)
	}
	raw := 0
	for _, op := range ops {
		raw += len(op.Append(nil))
	}
	return append(draw.Header{Packed: len(rest), Raw: raw}.Append(nil), rest...)
}

// patch is a photo whose planes say where it is.
func patch(x, y, w, h int, flags byte) draw.Op {
	op := draw.Op{Code: draw.Photo, X: x, Y: y, W: w, H: h}
	for k := range byte(3) {
		op.Pix = append(op.Pix, flags|draw.PlaneRaw)
		for i := range w * h {
			op.Pix = append(op.Pix, byte(i*i>>3)+k*byte(x))
		}
	}
	return op
}

// A first frame is drawn while it comes, in whatever parts, and shown when all of it
// is there: the same as if each operation waited for the one before.
func TestFirstFrameInParts(t *testing.T) {
	const w, h = 120, 90
	ops := []draw.Op{
		{Code: draw.Cursor, X: 1, W: 2, H: 2, Pix: make([]byte, 16)},
		size(w, h), fillOp(0, 0, w, h, 9),
		size(w, h), fillOp(3, 3, 50, 50, 7),
		patch(0, 0, 100, 60, 0), patch(50, 50, 70, 40, draw.PlaneMean), // one over the other,
		{Code: draw.Copy, X: 60, Y: 2, W: 40, H: 30, SrcX: 55, SrcY: 45}, // copied,
		fillOp(70, 60, 20, 9, 1), // painted on,
		{Code: draw.Keep, X: 20, Y: 20, W: 50, H: 50},
		patch(20, 20, 50, 50, 0),
		{Code: draw.Lossy, X: 40, Y: 2, W: 11, H: 9, Step: 9, Pix: blocks()},
		{Code: draw.Swap, X: 30, Y: 20, W: 30, H: 30}, // and exchanged with what was put by
		{Code: draw.Warp, X: 40, Y: 30},
	}
	want := obvious{}
	for i, op := range ops {
		if !want.apply(op) {
			t.Fatalf("operation %d does not fit", i)
		}
	}
	for cut := 0; cut <= len(ops); cut++ {
		for name, slowly := range map[string]func(io.Reader) io.Reader{
			"at once": func(r io.Reader) io.Reader { return r }, "by bytes": iotest.OneByteReader,
		} {
			st := newStream(t, draw.Window)
			all := append(st.part(ops[:cut]...), st.part(ops[cut:]...)...)
			all = append(all, st.frame()...)
			s := New(w, h)
			s.Blank(&Words{})
			if n, err := s.Attach().Decode(bufio.NewReader(slowly(bytes.NewReader(all)))); n != 1 || err != nil {
				t.Fatalf("%s, cut at %d: frame %d, %v", name, cut, n, err)
			}
			for i, c := range want.pix {
				if got := [3]byte(s.pic.Pix[i*4:]); got != c {
					t.Fatalf("%s, cut at %d: %v at %d,%d, want %v", name, cut, got, i%w, i/w, c)
				}
			}
			if s.pointer.X != 40 || s.pointer.Y != 30 || s.shape.size.X != 2 {
				t.Errorf("the pointer is at %v, of %v", s.pointer, s.shape.size)
			}
			var c Counter
			if n, err := c.Decode(in(all)); n != 1 || err != nil {
				t.Errorf("counted %d, %v", n, err)
			}
		}
	}
}

// Nothing of a first frame is shown that is cut short, refused, or comes when it
// may not be drawn any more.
func TestFirstFrameRefused(t *testing.T) {
	const w, h = 80, 60
	good := []draw.Op{size(w, h), fillOp(0, 0, w, h, 9), patch(0, 0, 60, 60, 0)}
	bad := patch(5, 5, 60, 50, 0)
	bad.Pix = append([]byte{77}, bad.Pix[1:]...)
	decodes := func(s *Screen, b []byte) error {
		_, err := s.Attach().Decode(in(b))
		return err
	}
	for name, c := range map[string]struct {
		make func(st *stream) []byte
		want error
	}{
		"no last part": {func(st *stream) []byte { return st.part(good...) }, io.ErrUnexpectedEOF},
		"a part cut short": {func(st *stream) []byte {
			b := append(st.part(good...), st.part(fillOp(0, 0, 9, 9, 1))...)
			return b[:len(b)-1]
		}, io.ErrUnexpectedEOF},
		"a bad photo":       {func(st *stream) []byte { return append(st.part(append(good, bad)...), st.frame()...) }, ErrFrame},
		"a bad last photo":  {func(st *stream) []byte { return append(st.part(good...), st.frame(bad)...) }, ErrFrame},
		"a bad photo below": {func(st *stream) []byte { return st.frame(append(good, bad, fillOp(0, 0, w, h, 1))...) }, ErrFrame},
		"what does not fit": {func(st *stream) []byte { return append(st.part(good...), st.frame(fillOp(0, 0, w+1, h, 1))...) }, ErrFrame},
		"no size":           {func(st *stream) []byte { return append(st.part(), st.frame(draw.Op{Code: draw.Warp})...) }, ErrFrame},
		"half an operation": {func(st *stream) []byte {
			return append(st.part(good...), st.raw(fillOp(0, 0, w, h, 1).Append(nil)[:5])...)
		}, ErrFrame},
		"too much in all": {func(st *stream) []byte {
			b := st.part(good...)
			p := st.pack([]byte{1})
			return append(append(b, draw.Header{Seq: 1, Packed: len(p), Raw: draw.MaxRaw}.Append(nil)...), p...)
		}, ErrFrame},
	} {
		t.Run(name, func(t *testing.T) {
			s, _, _ := shown(t, w, h, size(w, h), fillOp(0, 0, w, h, 0x55))
			before := s.Snapshot()
			if err := decodes(s, c.make(newStream(t, draw.Window))); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if !bytes.Equal(s.Snapshot().Pix, before.Pix) {
				t.Error("it drew")
			}
			s.Blank(nil) // and what is drawn next begins black
			if err := decodes(s, newStream(t, draw.Window).frame(size(w, h), fillOp(0, 0, 1, 1, 0))); err != nil {
				t.Fatal(err)
			}
			if p := s.Snapshot(); !bytes.Equal(p.Pix, make([]byte, len(p.Pix))) {
				t.Error("something of it is left")
			}
		})
	}
	// A later frame has no parts.
	_, d, st := shown(t, w, h, good...)
	if _, err := d.Decode(in(append(st.part(fillOp(0, 0, 1, 1, 1)), st.frame()...))); !errors.Is(err, ErrFrame) {
		t.Errorf("a part of the second: %v", err)
	}
	// Blanked between two parts.
	s := New(w, h)
	d, st = s.Attach(), newStream(t, draw.Window)
	between := blanking{s: s}
	r := bufio.NewReader(io.MultiReader(bytes.NewReader(st.part(good...)), between, bytes.NewReader(st.frame())))
	if _, err := d.Decode(r); err != ErrDetached {
		t.Errorf("blanked meanwhile: %v", err)
	}
	if p := s.Snapshot(); !bytes.Equal(p.Pix, make([]byte, len(p.Pix))) {
		t.Error("it is shown after Blank")
	}
}

// A blanking is nothing to read, and blanks a screen.
type blanking struct{ s *Screen }

func (b blanking) Read([]byte) (int, error) {
	b.s.Blank(nil)
	return 0, io.EOF
}
