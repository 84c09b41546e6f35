package screen

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/huff0"

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
	for name, frames := range map[string]uint32{"desktop": 4, "photo": 1, "lossy": 6, "black": 2} {
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
		{{Code: draw.Palette, X: 1, Y: 1, W: 2, H: 9, Colours: []byte{1, 2, 3, 4, 5, 6}, Pix: []byte{0xa5, 0x80, 0x0f, 0}}},
		{{Code: draw.Palette, W: 1, H: 3, Colours: make([]byte, 9), Pix: []byte{0xe4}}, {Code: draw.Palette, W: 1, H: 3, Colours: make([]byte, 15), Pix: []byte{0x01, 0xf0}}},
		{{Code: draw.Photo, X: 2, Y: 3, W: 2, H: 2, Pix: []byte{draw.PlaneRaw, 1, 2, 250, 4, draw.PlaneFlat, 128, draw.PlaneFlat, 3}}},
		{{Code: draw.Photo, W: 16, H: 12, Pix: huffed()}, fillOp(1, 1, 2, 2, 2)},
		{{Code: draw.Lossy, X: 3, Y: 2, W: 11, H: 9, Step: 9, Pix: blocks()}, fillOp(1, 1, 2, 2, 2)},
		{{Code: draw.Lossy, W: 16, H: 8, Step: 200, Pix: []byte{draw.PlaneFlat, 0, 0, 2, draw.Inter, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}},
		{{Code: draw.Keep, X: 1, Y: 2, W: 5, H: 4}, fillOp(2, 3, 6, 6, 1), {Code: draw.Swap, X: 3, Y: 3, W: 4, H: 4}, {Code: draw.Swap, X: 3, Y: 3, W: 2, H: 9}},
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

// huffed is a photo of 16x12 pixels with a plane of each kind.
func huffed() []byte {
	plane := make([]byte, 16*12)
	for i := range plane {
		plane[i] = byte(i * i % 7)
	}
	out, _, err := huff0.Compress4X(plane, new(huff0.Scratch))
	if err != nil {
		panic(err)
	}
	b := append([]byte{draw.PlaneHuff, 0, 0, byte(len(out))}, out...)
	b = append(append(b, draw.PlaneRaw|draw.PlaneMean), plane...)
	return append(b, draw.PlaneFlat|draw.PlaneAlone|draw.PlaneMean, 5)
}

// blocks is a Lossy of four blocks: one intra, one inter, one that stays, one
// with a large value.
func blocks() (b []byte) {
	for _, f := range [][]byte{
		{draw.HasDC | draw.HasAC | draw.HasAC<<1, draw.Inter | draw.HasDC<<2, draw.Inter, draw.HasAC},
		{20, 7}, {1, 12, draw.TokenEnd, draw.Classes, draw.TokenEnd}, {draw.TokenZeros, 3, draw.TokenEnd}, {255, 1, 0},
	} {
		b = append(append(b, draw.PlaneRaw, 0, 0, byte(len(f))), f...)
	}
	return b
}

type obvious struct {
	w, h      int
	pix, kept [][3]byte
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
		o.w, o.h, o.pix, o.kept = op.W, op.H, make([][3]byte, op.W*op.H), make([][3]byte, op.W*op.H)
	case draw.Fill:
		return each(func(x, y int) [3]byte { return [3]byte{op.B, op.G, op.R} })
	case draw.Set:
		return each(func(x, y int) [3]byte { return [3]byte(op.Pix[(y*op.W+x)*3:]) })
	case draw.Copy:
		return fits(op.SrcX, op.SrcY) && each(func(x, y int) [3]byte { return was[(op.SrcY+y)*o.w+op.SrcX+x] })
	case draw.Keep, draw.Swap:
		kept := append([][3]byte(nil), o.kept...)
		return each(func(x, y int) [3]byte {
			i := (op.Y+y)*o.w + op.X + x
			o.kept[i] = was[i]
			if op.Code == draw.Swap {
				return kept[i]
			}
			return was[i]
		})
	case draw.Palette:
		n := len(op.Colours) / 3
		return each(func(x, y int) (c [3]byte) {
			perByte := 8 / draw.IndexBits(n)
			b := op.Pix[x*((op.H+perByte-1)/perByte)+y/perByte]
			i := int(b) >> ((perByte - 1 - y%perByte) * 8 / perByte) % (1 << draw.IndexBits(n))
			if i < n {
				c = [3]byte(op.Colours[3*i:])
			}
			return c
		})
	case draw.Photo:
		var planes [3][]byte
		var flags [3]byte
		for k := range planes {
			if len(op.Pix) == 0 {
				return false
			}
			flags[k] = op.Pix[0] & (draw.PlaneAlone | draw.PlaneMean)
			op.Pix = append([]byte{op.Pix[0] &^ flags[k]}, op.Pix[1:]...)
			if planes[k], op.Pix = residues(op.Pix, op.W*op.H); planes[k] == nil {
				return false
			}
			for i, r := range planes[k] {
				v := planes[k]
				switch {
				case i >= op.W && i%op.W > 0 && flags[k]&draw.PlaneMean != 0:
					v[i] = r + byte((int(v[i-1])+int(v[i-op.W]))/2)
				case i >= op.W && i%op.W > 0:
					three := []int{int(v[i-1]), int(v[i-op.W]), int(v[i-1]) + int(v[i-op.W]) - int(v[i-op.W-1])}
					slices.Sort(three)
					v[i] = r + byte(three[1])
				case i >= op.W:
					v[i] = r + v[i-op.W]
				case i > 0:
					v[i] = r + v[i-1]
				}
			}
		}
		return len(op.Pix) == 0 && flags[0]&draw.PlaneAlone == 0 && each(func(x, y int) [3]byte {
			i := y*op.W + x
			c := [3]byte{planes[1][i], planes[0][i], planes[2][i]}
			for k := 1; k < 3; k++ {
				if flags[k]&draw.PlaneAlone == 0 {
					c[k/2*2] += c[1] + 128
				}
			}
			return c
		})
	case draw.Lossy:
		return fits(op.X, op.Y) && o.blocks(op)
	case draw.Warp:
		return op.X < o.w && op.Y < o.h
	}
	return true
}

// blocks unpacks the fields of a Lossy; what they mean package draw tests.
func (o *obvious) blocks(op draw.Op) bool {
	var f [5][]byte
	b := op.Pix
	for k := range f {
		if len(b) < 4 {
			return false
		}
		n := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
		if n > draw.MaxBlockBytes*draw.BlocksOf(op.W, op.H) {
			return false
		}
		if f[k], b = residues(append([]byte{b[0]}, b[4:]...), n); b == nil {
			return false
		}
	}
	blocks := draw.Blocks{Shape: f[0], DC: f[1], AC: f[2], Chroma: f[3], Big: f[4]}
	if len(b) > 0 || blocks.Check(draw.BlocksOf(op.W, op.H)) != nil {
		return false
	}
	p := draw.NewPixmap(o.w, o.h)
	for i, c := range o.pix {
		copy(p.Pix[i*4:], c[:])
	}
	blocks.Draw(p, op.Rect(), op.Step)
	for i := range o.pix {
		o.pix[i] = [3]byte(p.Pix[i*4:])
	}
	return true
}

// residues unpacks one plane, nil if that cannot be done.
func residues(b []byte, n int) (plane, rest []byte) {
	switch {
	case len(b) >= 1+n && b[0] == draw.PlaneRaw:
		return bytes.Clone(b[1 : 1+n]), b[1+n:]
	case len(b) >= 2 && b[0] == draw.PlaneFlat:
		return bytes.Repeat(b[1:2], n), b[2:]
	case len(b) >= 4 && b[0] == draw.PlaneHuff:
		size := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
		if b = b[4:]; size > len(b) {
			return nil, nil
		}
		s, streams, err := huff0.ReadTable(b[:size], nil)
		if err != nil {
			return nil, nil
		}
		out, err := s.Decoder().Decompress4X(make([]byte, 0, n), streams)
		if err != nil || len(out) != n {
			return nil, nil
		}
		return out, b[size:]
	}
	return nil, nil
}
