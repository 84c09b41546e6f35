package encode

import (
	"image"
	"math/rand/v2"
	"runtime"
	"testing"

	"hotdesk/protocol/draw"
)

// Whoever applies the pieces as they come and what is left has the picture,
// whatever changes, also while it is compared; each piece is whole frames.
func TestPieces(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	const w, h = 1400, 800
	random := rand.New(rand.NewPCG(5, 6))
	e, m, p := newEncoder(t), newModel(t), mixed(w, h, 0)
	step(t, e, m, View{Picture: p})
	sent := 0
	for i := range uint64(6) {
		v := View{Picture: p, Damage: []image.Rectangle{p.Bounds()}}
		switch i {
		case 0:
			p.CopyFrom(page(w, h, i), p.Bounds())
		case 1:
			p.CopyFrom(paper(w, h, i), image.Rect(100, 50, w, h-70))
		case 2: // rectangles that overlap, and one that is small
			p.CopyFrom(mixed(w, h, i), p.Bounds())
			v.Damage = []image.Rectangle{image.Rect(0, 0, w, 500), image.Rect(30, 400, w-30, h), image.Rect(0, 300, w, h), image.Rect(3, 3, 9, 9)}
		case 3: // scrolls
			d := move{to: image.Rect(0, 0, w, h-39), d: image.Pt(0, -39)}
			shift(p, d)
			text(p, image.Rect(0, h-39, w, h), i, 2)
		case 4: // hardly anything
			text(p, image.Rect(700, 20, 760, 40), i, 2)
		case 5:
		}
		terms := []Terms{{}, {Motion: true}, {Motion: true, First: true}}[i%3]
		pieces := 0
		show := func(b []byte) []byte {
			pieces++
			m.show(b)
			if random.IntN(2) == 0 {
				return b[:0] // in the same memory
			}
			return nil
		}
		rest := e.EncodePieces(nil, v, terms, show)
		frames := m.show(rest)
		if m.seq != e.Seq() {
			t.Fatalf("step %d: %d is the last frame's number, Seq is %d", i, m.seq, e.Seq())
		}
		m.believed(e)
		m.show(e.Encode(nil, View{Picture: p})) // exact
		if err := m.differs(p); err != nil {
			t.Fatalf("step %d, %+v: %v", i, terms, err)
		}
		compact(e)
		switch i {
		case 0:
			if pieces < 2 {
				t.Errorf("%d pieces of a new page", pieces)
			}
		case 4, 5:
			if pieces > 0 || frames > 1 {
				t.Errorf("%d pieces and %d frames of a small change", pieces, frames)
			}
		}
		sent += pieces
	}
	if sent < 5 {
		t.Errorf("%d pieces in all", sent)
	}
}

// A change that is not large is one frame, and one core makes no pieces.
func TestOnePiece(t *testing.T) {
	for _, c := range []struct{ w, h, cores int }{{1000, 1000, 3}, {1400, 800, 1}} {
		func() {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(c.cores))
			e, p := newEncoder(t), page(c.w, c.h, 1)
			e.Encode(nil, View{Picture: p})
			p = page(c.w, c.h, 2)
			b := e.EncodePieces(nil, View{Picture: p, Damage: []image.Rectangle{p.Bounds()}}, Terms{}, func(b []byte) []byte {
				t.Errorf("%dx%d on %d cores: a piece of %d bytes", c.w, c.h, c.cores, len(b))
				return nil
			})
			if h, rest, err := draw.ParseHeader(b); err != nil || h.Packed != len(rest) {
				t.Errorf("%+v before %d bytes, %v", h, len(rest), err)
			}
		}()
	}
}
