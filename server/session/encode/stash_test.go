package encode

import (
	"bytes"
	"image"
	"math/rand/v2"
	"testing"

	"hotdesk/protocol/draw"
)

// A stash is as a picture of which all is in memory.
func TestStash(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		w, h := 1+random.IntN(300), 1+random.IntN(100)
		s, model := newStash(w, h), draw.NewPixmap(w, h)
		p, q := draw.NewPixmap(w, h), draw.NewPixmap(w, h)
		for i := range 300 {
			x, y := random.IntN(w), random.IntN(h)
			r := image.Rect(x, y, x+1+random.IntN(w-x), y+1+random.IntN(h-y))
			if random.IntN(8) == 0 {
				r = p.Bounds()
			}
			switch random.IntN(4) {
			case 0: // a colour, also in the bytes that do not count
				c := [4]byte{byte(random.IntN(2)), 7, 7, byte(random.IntN(2))}
				for y := r.Min.Y; y < r.Max.Y; y++ {
					for b := range bytes.Count(p.Row(y, r.Min.X, r.Max.X), nil) / 4 {
						copy(p.Row(y, r.Min.X, r.Max.X)[b*4:], c[:])
					}
				}
				q.CopyFrom(p, r)
			case 1:
				noise(p, r, seed*1000+uint64(i))
				q.CopyFrom(p, r)
			case 2:
				s.copyFrom(p, r)
				model.CopyFrom(q, r)
			case 3:
				s.swapWith(p, r)
				model.SwapWith(q, r)
				if !sameRow(p.Pix, q.Pix) {
					t.Fatalf("seed %d, step %d: %v swapped is another", seed, i, r)
				}
			}
			for y := r.Min.Y; y < r.Max.Y; y++ {
				want := sameRow(p.Row(y, r.Min.X, r.Max.X), model.Row(y, r.Min.X, r.Max.X))
				if got := s.sameRow(p, y, r.Min.X, r.Max.X); got != want {
					t.Fatalf("seed %d, step %d: row %d of %v is the same: %v", seed, i, y, r, got)
				}
			}
		}
	}
}

// What has one colour needs no memory, whatever was there before.
func TestStashOfOneColour(t *testing.T) {
	p := draw.NewPixmap(1920, 1080)
	s := newStash(p.W, p.H)
	held := func() (n int) {
		for _, t := range s.tiles {
			n += len(t.pix)
		}
		for _, b := range s.free {
			n += len(b)
		}
		return n
	}
	noise(p, p.Bounds(), 1)
	s.copyFrom(p, p.Bounds())
	if n := held(); n < len(p.Pix) {
		t.Errorf("%d bytes for noise", n)
	}
	clear(p.Pix)
	s.copyFrom(p, p.Bounds())
	if n := held(); n > maxFree*stride*tileH {
		t.Errorf("%d bytes for one colour", n)
	}
	s.swapWith(p, image.Rect(100, 100, 1000, 800))
	if n := held(); n > maxFree*stride*tileH {
		t.Errorf("%d bytes after a swap with the same", n)
	}
	allocs := testing.AllocsPerRun(100, func() { s.swapWith(p, image.Rect(100, 100, 300, 200)) })
	if allocs != 0 {
		t.Errorf("a swap allocates %v times", allocs)
	}
}

// BenchmarkFill is a tile of one colour that gets rows.
func BenchmarkFill(b *testing.B) {
	s := newStash(1280, 1024)
	for b.Loop() {
		t := &s.tiles[5]
		s.fill(t)
		s.become(t, []byte{1, 2, 3, 4})
	}
}
