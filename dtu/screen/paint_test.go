package screen

import (
	"math/rand/v2"
	"testing"

	"hotdesk/protocol/draw"
)

// Text of every small size is drawn as the slow and obvious terminal draws it.
func TestPaintText(t *testing.T) {
	const w, h = 40, 30
	random := rand.New(rand.NewPCG(3, 4))
	s, slow := New(w, h), obvious{}
	d, st := s.Attach(), newStream(t, draw.Window)
	ops := []draw.Op{size(w, h)}
	for range 500 {
		op := draw.Op{Code: draw.Palette, W: 1 + random.IntN(w), H: 1 + random.IntN(h), Colours: make([]byte, 3+3*random.IntN(2))}
		op.X, op.Y = random.IntN(w-op.W+1), random.IntN(h-op.H+1)
		op.Pix = make([]byte, op.W*((op.H+7)/8))
		for _, b := range [][]byte{op.Colours, op.Pix} {
			for i := range b {
				b[i] = byte(random.Uint32())
			}
		}
		ops = append(ops, fillOp(0, 0, w, h, 9), op)
		decode(t, d, st.frame(ops...))
		for _, op := range ops {
			slow.apply(op)
		}
		ops = ops[:0]
		got := s.SnapshotBare()
		for i, want := range slow.pix {
			if x := got.Pix[i*4:]; [3]byte(x[:3]) != want {
				t.Fatalf("%dx%d at %d,%d: %v at %d,%d, want %v", op.W, op.H, op.X, op.Y, x[:3], i%w, i/w, want)
			}
		}
	}
}

// BenchmarkPaint draws a screen of text.
func BenchmarkPaint(b *testing.B) {
	const w, h, strip = 1920, 1080, 64
	p := draw.NewPixmap(w, h)
	op := draw.Op{Code: draw.Palette, W: w, H: strip, Colours: []byte{255, 255, 255, 0, 0, 0}, Pix: make([]byte, w*strip/8)}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range op.Pix {
		op.Pix[i] = byte(random.Uint32() & random.Uint32() & random.Uint32())
	}
	b.SetBytes(w * h * 4)
	for b.Loop() {
		for op.Y = 0; op.Y+strip <= h; op.Y += strip {
			paint(p, op)
		}
	}
}
