package draw

import (
	"bytes"
	"encoding/hex"
	"errors"
	"image"
	"image/color"
	"reflect"
	"strings"
	"testing"
)

// ops are one of each operation, and the bytes that they are.
var ops = []struct {
	name string
	op   Op
	hex  string
}{
	{"fill", Op{Code: Fill, X: 1, Y: 2, W: 3, H: 4, B: 5, G: 6, R: 7}, "a2 0001 0002 0003 0004 05 06 07"},
	{"fill at the far corner", Op{Code: Fill, X: 8191, Y: 8191, W: 8192, H: 8192, R: 255}, "a2 1fff 1fff 2000 2000 00 00 ff"},
	{"copy", Op{Code: Copy, X: 256, Y: 2, W: 3, H: 4, SrcX: 5, SrcY: 600}, "a4 0100 0002 0003 0004 0005 0258"},
	{"set", Op{Code: Set, X: 9, Y: 8, W: 2, H: 1, Pix: []byte{1, 2, 3, 4, 5, 6}}, "a6 0009 0008 0002 0001 010203 040506"},
	{"size", Op{Code: Size, W: 1280, H: 1024}, "a8 0500 0400"},
	{"largest size", Op{Code: Size, W: 8192, H: 4096}, "a8 2000 1000"},
	{"cursor", Op{Code: Cursor, X: 1, Y: 0, W: 2, H: 1, Pix: []byte{1, 2, 3, 255, 0, 0, 0, 0}}, "a9 0001 0000 0002 0001 010203ff 00000000"},
	{"no cursor", Op{Code: Cursor}, "a9 0000 0000 0000 0000"},
	{"keep", Op{Code: Keep, X: 1, Y: 2, W: 3, H: 4}, "ad 0001 0002 0003 0004"},
	{"swap", Op{Code: Swap, X: 0x1fff, Y: 2, W: 3, H: 0x2000}, "ae 1fff 0002 0003 2000"},
	{"palette of one", Op{Code: Palette, X: 1, Y: 2, W: 2, H: 1, Colours: []byte{1, 2, 3}, Pix: []byte{0, 0}}, "ab 0001 0002 0002 0001 00 010203 00 00"},
	{"palette", Op{Code: Palette, X: 1, Y: 2, W: 1, H: 9, Colours: []byte{1, 2, 3, 4, 5, 6}, Pix: []byte{0xf0, 0x80}}, "ab 0001 0002 0001 0009 01 010203 040506 f0 80"},
	{"palette of three", Op{Code: Palette, W: 1, H: 5, Colours: []byte{1, 1, 1, 2, 2, 2, 3, 3, 3}, Pix: []byte{0x1b, 0x40}}, "ab 0000 0000 0001 0005 02 010101 020202 030303 1b 40"},
	{"photo", Op{Code: Photo, X: 3, Y: 4, W: 2, H: 1, Pix: []byte{PlaneRaw, 1, 2, PlaneFlat, 7, PlaneFlat, 8}}, "ac 0003 0004 0002 0001 00000007 00 01 02 01 07 01 08"},
	{"photo of nothing known", Op{Code: Photo, W: 1, H: 1, Pix: []byte{9}}, "ac 0000 0000 0001 0001 00000001 09"},
	{"lossy", Op{Code: Lossy, X: 3, Y: 4, W: 8, H: 9, Step: 6, Pix: []byte{PlaneFlat, 0, 0, 2, 1}}, "af 0003 0004 0008 0009 06 00000005 01 000002 01"},
	{"warp", Op{Code: Warp, X: 640, Y: 480}, "aa 0280 01e0"},
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Invariant 1, and that Append appends and Next leaves the rest.
func TestOps(t *testing.T) {
	for _, c := range ops {
		t.Run(c.name, func(t *testing.T) {
			want := unhex(t, c.hex)
			if got := c.op.Append([]byte("prefix")); !bytes.Equal(got, append([]byte("prefix"), want...)) {
				t.Errorf("Append: % x, want % x", got, want)
			}
			op, rest, err := Next(append(bytes.Clone(want), "rest"...))
			if err != nil || string(rest) != "rest" || !reflect.DeepEqual(op, c.op) {
				t.Errorf("Next: %+v, %q, %v", op, rest, err)
			}
			for n := range want {
				if op, rest, err := Next(want[:n:n]); !errors.Is(err, ErrOp) || errors.Is(err, ErrShort) != (n > 0) || rest != nil || !reflect.DeepEqual(op, Op{}) {
					t.Errorf("the first %d bytes: %+v, %q, %v", n, op, rest, err)
				}
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct{ name, hex string }{
		{"unknown opcode", "a3 0001 0002 0003 0004 05 06 07"},
		{"fill without width", "a2 0001 0002 0000 0004 05 06 07"},
		{"fill without height", "a2 0001 0002 0003 0000 05 06 07"},
		{"fill too wide", "a2 0001 0002 2001 0004 05 06 07"},
		{"fill too far right", "a2 2000 0002 0003 0004 05 06 07"},
		{"fill too far down", "a2 0001 2000 0003 0004 05 06 07"},
		{"copy from too far right", "a4 0100 0002 0003 0004 2000 0000"},
		{"copy from too far down", "a4 0100 0002 0003 0004 0000 2000"},
		{"set of more than a frame", "a6 0000 0000 2000 2000"},
		{"set without its last byte", "a6 0000 0000 0001 0001 0102"},
		{"size of nothing", "a8 0000 0001"},
		{"size too large", "a8 0001 2001"},
		{"size of too many pixels", "a8 2000 1001"},
		{"cursor too wide", "a9 0000 0000 0101 0001"},
		{"cursor of one side", "a9 0000 0000 0001 0000"},
		{"hot spot outside", "a9 0001 0000 0001 0001 00000000"},
		{"hot spot of no cursor", "a9 0001 0000 0000 0000"},
		{"palette without its last byte", "ab 0000 0000 0002 0001 00 010203 00"},
		{"palette without colours", "ab 0000 0000 0002 0001 05 010203 00"},
		{"palette without width", "ab 0000 0000 0000 0001 00 010203"},
		{"photo too large", "ac 0000 0000 0200 0101 00000000"},
		{"photo longer than raw", "ac 0000 0000 0001 0001 00000007 00000000000000"},
		{"photo longer than any", "ac 0000 0000 0001 0001 ffffffff 00"},
		{"photo cut short", "ac 0000 0000 0001 0001 00000002 00"},
		{"warp too far", "aa 2000 0000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if op, rest, err := Next(unhex(t, c.hex)); !errors.Is(err, ErrOp) || rest != nil || !reflect.DeepEqual(op, Op{}) {
				t.Errorf("%+v, %q, %v", op, rest, err)
			}
		})
	}
}

// Append panics on what Next refuses.
func TestAppendPanics(t *testing.T) {
	for name, op := range map[string]Op{
		"no code":         {},
		"unknown code":    {Code: 0xa3, W: 1, H: 1},
		"no side":         {Code: Fill, W: 1},
		"negative":        {Code: Fill, X: -1, W: 1, H: 1},
		"too few pixels":  {Code: Set, W: 2, H: 2, Pix: make([]byte, 11)},
		"too many pixels": {Code: Cursor, W: 1, H: 1, Pix: make([]byte, 5)},
		"no colours":      {Code: Palette, W: 1, H: 1, Pix: []byte{0}},
		"half a colour":   {Code: Palette, W: 1, H: 1, Colours: make([]byte, 4), Pix: []byte{0}},
		"large photo":     {Code: Photo, W: 1024, H: 129},
		"pixels of size":  {Code: Size, W: 8192, H: 8192},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			op.Append(nil)
		})
	}
}

var headers = []struct {
	h   Header
	hex string
}{
	{Header{1, 0, 0}, "01 00 00"},
	{Header{1, 127, 128}, "01 7f 8001"},
	{Header{1<<32 - 1, MaxPacked, MaxRaw}, "ffffffff0f 8080a010 80808010"},
}

func TestHeader(t *testing.T) {
	for _, c := range headers {
		want := unhex(t, c.hex)
		if got := c.h.Append([]byte("prefix")); !bytes.Equal(got, append([]byte("prefix"), want...)) {
			t.Errorf("Append(%+v): % x, want % x", c.h, got, want)
		}
		if len(want) > MaxHeader {
			t.Errorf("%+v: %d bytes", c.h, len(want))
		}
		h, rest, err := ParseHeader(append(bytes.Clone(want), "rest"...))
		if err != nil || string(rest) != "rest" || h != c.h {
			t.Errorf("ParseHeader(% x): %+v, %q, %v", want, h, rest, err)
		}
		for n := range want {
			if h, rest, err := ParseHeader(want[:n:n]); err != ErrShort || rest != nil || h != (Header{}) {
				t.Errorf("ParseHeader(% x): %+v, %q, %v", want[:n], h, rest, err)
			}
		}
	}
	for _, bad := range []string{
		"8080808010 00 00",         // sequence of 33 bits
		"808080808000 00 00",       // six bytes
		"ffffffffffffffffffff7f",   // overflow
		"8100 00 00",               // longer than needed
		"01 8180a010 00",           // packed too many
		"01 00 81808010",           // raw too many
		"01 ffffffffffffffffff01 ", // packed far too many
	} {
		if h, rest, err := ParseHeader(unhex(t, bad)); !errors.Is(err, ErrOp) || rest != nil || h != (Header{}) {
			t.Errorf("ParseHeader(%s): %+v, %q, %v", bad, h, rest, err)
		}
	}
}

func TestPixmap(t *testing.T) {
	p := NewPixmap(3, 2)
	copy(p.Row(1, 1, 2), []byte{10, 20, 30, 99})
	if p.Bounds() != image.Rect(0, 0, 3, 2) || len(p.Pix) != 24 || p.Pix[3*4+4] != 10 {
		t.Errorf("%+v", p)
	}
	m := p.RGBA()
	if m.RGBAAt(1, 1) != (color.RGBA{30, 20, 10, 255}) || m.RGBAAt(0, 0) != (color.RGBA{0, 0, 0, 255}) {
		t.Errorf("%v", m.Pix)
	}
}

// FuzzNext: Append(Next(x)) == x, and what is accepted is within its limits.
func FuzzNext(f *testing.F) {
	for _, c := range ops {
		f.Add(unhex(f, c.hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for in := b; len(in) > 0; {
			op, rest, err := Next(in)
			if err != nil {
				if !errors.Is(err, ErrOp) || rest != nil || !reflect.DeepEqual(op, Op{}) {
					t.Fatalf("%+v, %q, %v", op, rest, err)
				}
				return
			}
			if op.W > MaxSide || op.H > MaxSide || len(op.Pix) != op.bodyLen() {
				t.Fatalf("accepted %+v", op)
			}
			if got := op.Append(nil); !bytes.Equal(got, in[:len(in)-len(rest)]) {
				t.Fatalf("% x, was % x", got, in[:len(in)-len(rest)])
			}
			in = rest
		}
	})
}

// FuzzHeader: Append(ParseHeader(x)) == x.
func FuzzHeader(f *testing.F) {
	for _, c := range headers {
		f.Add(unhex(f, c.hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, rest, err := ParseHeader(b)
		switch {
		case err == ErrShort && len(b) >= MaxHeader:
			t.Fatalf("% x: wants more", b)
		case err != nil && (rest != nil || h != Header{}):
			t.Fatalf("%+v, %q, %v", h, rest, err)
		case err == nil && !bytes.Equal(h.Append(nil), b[:len(b)-len(rest)]):
			t.Fatalf("%+v of % x", h, b)
		}
	})
}
