package draw

import (
	"crypto/sha256"
	"fmt"
	"image"
	"math/rand/v2"
	"testing"
)

// someBlocks are blocks that Check accepts, of every form.
func someBlocks(r *rand.Rand, n int) (b Blocks) {
	value := func() int32 {
		if v := int32(r.IntN(300) - 150); v != 0 {
			return v
		}
		return 30000
	}
	for range n {
		shape := byte(r.IntN(128))
		b.Shape = append(b.Shape, shape)
		for k := range 3 {
			if shape&(HasDC<<k) != 0 {
				b.DC = AppendValue(b.DC, value())
			}
			if shape&(HasAC<<k) == 0 {
				continue
			}
			to := &b.AC
			if k > 0 {
				to = &b.Chroma
			}
			at := 0
			for at < 63 && r.IntN(12) > 0 {
				run := r.IntN(min(63-at, 20))
				if 63-at > ZeroRun+20 && r.IntN(8) == 0 {
					*to, at = append(*to, TokenZeros), at+ZeroRun
				}
				class := r.IntN(Classes)
				*to = append(*to, byte(run*Classes+class+1))
				if at += run + 1; class == Classes-1 {
					b.Big = AppendValue(b.Big, value())
				}
			}
			if at < 63 {
				*to = append(*to, TokenEnd)
			}
		}
	}
	return b
}

// All machines draw the same: this one is from an amd64.
func TestBlocksAreTheSameEverywhere(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	p := NewPixmap(100, 90)
	for i := range p.Pix {
		p.Pix[i] = byte(r.Uint32())
	}
	at := image.Rect(3, 5, 96, 84) // not whole blocks
	for step := byte(1); step < 200; step += 40 {
		b := someBlocks(r, BlocksOf(at.Dx(), at.Dy()))
		if err := b.Check(BlocksOf(at.Dx(), at.Dy())); err != nil {
			t.Fatal(err)
		}
		b.Draw(p, at, step)
	}
	const want = "bc29ae74a75e2e3f"
	if got := fmt.Sprintf("%x", sha256.Sum256(p.Pix))[:16]; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// A value is what it was written as.
func TestValues(t *testing.T) {
	for v := int32(-40); v < 40; v++ {
		for _, v := range []int32{v, v * 10, v * 800} {
			b := AppendValue(nil, v)
			r := reader{}
			if got := r.value(&b); got != v || r.bad || len(b) > 0 {
				t.Errorf("%d is %d, %v", v, got, r.bad)
			}
		}
	}
}

// FuzzBlocks: what Check accepts is drawn without a panic and inside its
// rectangle.
func FuzzBlocks(f *testing.F) {
	for i := range 20 {
		b := someBlocks(rand.New(rand.NewPCG(5, uint64(i))), 1+i)
		f.Add(b.Shape, b.DC, b.AC, b.Chroma, b.Big, byte(10*i+1))
	}
	f.Fuzz(func(t *testing.T, shape, dc, ac, chroma, big []byte, step byte) {
		b := Blocks{shape, dc, ac, chroma, big}
		n := len(shape)
		if n == 0 || n > 64 || b.Check(n) != nil {
			return
		}
		p := NewPixmap(8*n+2, 10)
		at := image.Rect(1, 1, 8*n, 7)
		b.Draw(p, at, step)
		for y := range p.H {
			for x := range p.W {
				if px := p.Row(y, x, x+1); !image.Pt(x, y).In(at) && px[0]|px[1]|px[2] != 0 {
					t.Fatalf("drew at %d,%d", x, y)
				}
			}
		}
	})
}

func TestCheckRefuses(t *testing.T) {
	for name, b := range map[string]Blocks{
		"another number":   {Shape: []byte{Inter, Inter}},
		"unknown shape":    {Shape: []byte{128}},
		"no DC":            {Shape: []byte{HasDC}},
		"cut value":        {Shape: []byte{HasDC}, DC: []byte{255, 1}},
		"no AC":            {Shape: []byte{HasAC}},
		"no end":           {Shape: []byte{HasAC}, AC: []byte{1}},
		"unknown token":    {Shape: []byte{HasAC}, AC: []byte{254}},
		"too many zeros":   {Shape: []byte{HasAC}, AC: []byte{TokenZeros, TokenZeros}},
		"too far":          {Shape: []byte{HasAC}, AC: []byte{TokenZeros, 1 + 30*Classes}},
		"no big value":     {Shape: []byte{HasAC << 1}, Chroma: []byte{Classes, 0}},
		"bytes left":       {Shape: []byte{Inter}, DC: []byte{1}},
		"big left":         {Shape: []byte{Inter}, Big: []byte{1}},
		"wrong component":  {Shape: []byte{HasAC << 2}, AC: []byte{0}},
		"value after none": {Shape: []byte{0}, DC: []byte{3}},
	} {
		if b.Check(1) == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if err := (Blocks{Shape: []byte{HasAC}, AC: []byte{TokenZeros, 1 + 26*Classes}}).Check(1); err != nil {
		t.Errorf("the 63rd value: %v", err)
	}
}
