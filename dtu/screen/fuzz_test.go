package screen

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"hotdesk/protocol/draw"
)

// small is a picture that fuzzing may copy and compare, in pixels.
const small = 1 << 16

// FuzzDecode: whatever comes, a frame that is refused draws nothing, and what
// was read says so. Seeds are streams that the encoder made.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.stream"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no recorded streams (%v)", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := New(50, 40)
		d := s.Attach()
		defer d.Close()
		r := bufio.NewReader(bytes.NewReader(b))
		for {
			before := s.Snapshot()
			_, err := d.Decode(r)
			if err == nil {
				continue
			}
			if err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrFrame) {
				t.Fatal(err)
			}
			if !bytes.Equal(s.Snapshot().Pix, before.Pix) {
				t.Fatalf("it drew, and said %v", err)
			}
			return
		}
	})
}

// The recorded streams are accepted to their ends.
func TestRecordedStreams(t *testing.T) {
	for name, frames := range map[string]uint32{"desktop": 4, "photo": 1, "black": 2} {
		b, err := os.ReadFile(filepath.Join("testdata", name+".stream"))
		if err != nil {
			t.Fatal(err)
		}
		d, r := New(320, 200).Attach(), in(b)
		for want := range frames {
			if seq, err := d.Decode(r); seq != want+1 || err != nil {
				t.Fatal(name, seq, err)
			}
		}
		if _, err := d.Decode(r); err != io.EOF {
			t.Error(name, err)
		}
	}
}

// FuzzOperations packs operations as a peer would; those that fit are drawn as
// a slow and obvious terminal draws them.
func FuzzOperations(f *testing.F) {
	for _, ops := range [][]draw.Op{
		{fillOp(1, 2, 3, 4, 5)},
		{{Code: draw.Copy, X: 1, Y: 2, W: 3, H: 4, SrcX: 2, SrcY: 1}, {Code: draw.Copy, X: 2, Y: 1, W: 3, H: 4, SrcX: 2, SrcY: 2}},
		{{Code: draw.Set, X: 1, Y: 1, W: 1, H: 2, Pix: []byte{1, 2, 3, 4, 5, 6}}, size(6, 6), {Code: draw.Warp, X: 5}},
		{{Code: draw.Cursor, W: 1, H: 1, Pix: []byte{1, 2, 3, 4}}, fillOp(0, 0, 16, 12, 9)},
	} {
		var b []byte
		for _, op := range ops {
			b = op.Append(b)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := New(16, 12)
		d := s.Attach()
		st := newStream(t, draw.Window)
		pix := make([]byte, 16*12*3)
		for i := range pix {
			pix[i] = byte(i)
		}
		first := []draw.Op{size(16, 12), {Code: draw.Set, W: 16, H: 12, Pix: pix}}
		decode(t, d, st.frame(first...))
		want := obvious{}
		for _, op := range first {
			want.apply(op)
		}
		fits := true
		for raw := b; len(raw) > 0 && fits; {
			op, rest, err := draw.Next(raw)
			if err != nil || op.Code == draw.Size && op.W*op.H > small {
				fits = false
				break
			}
			fits = want.apply(op)
			raw = rest
		}
		_, err := d.Decode(in(st.raw(b)))
		if fits && err != nil {
			t.Fatal(err)
		}
		if !fits {
			return // FuzzDecode's
		}
		got := s.pic
		if got.W != want.w || got.H != want.h {
			t.Fatalf("%dx%d, want %dx%d", got.W, got.H, want.w, want.h)
		}
		for i, w := range want.pix {
			if g := [3]byte(got.Pix[i*4:]); g != w {
				t.Fatalf("pixel %d is %v, want %v", i, g, w)
			}
		}
	})
}

type obvious struct {
	w, h int
	pix  [][3]byte
}

// apply performs op if it fits.
func (o *obvious) apply(op draw.Op) bool {
	fits := func(x, y int) bool { return x+op.W <= o.w && y+op.H <= o.h }
	was := append([][3]byte(nil), o.pix...)
	each := func(colour func(x, y int) [3]byte) bool {
		if !fits(op.X, op.Y) {
			return false
		}
		for y := range op.H {
			for x := range op.W {
				o.pix[(op.Y+y)*o.w+op.X+x] = colour(x, y)
			}
		}
		return true
	}
	switch op.Code {
	case draw.Size:
		o.w, o.h, o.pix = op.W, op.H, make([][3]byte, op.W*op.H)
	case draw.Fill:
		return each(func(x, y int) [3]byte { return [3]byte{op.B, op.G, op.R} })
	case draw.Set:
		return each(func(x, y int) [3]byte { return [3]byte(op.Pix[(y*op.W+x)*3:]) })
	case draw.Copy:
		return fits(op.SrcX, op.SrcY) && each(func(x, y int) [3]byte { return was[(op.SrcY+y)*o.w+op.SrcX+x] })
	case draw.Warp:
		return op.X < o.w && op.Y < o.h
	}
	return true
}
