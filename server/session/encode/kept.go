package encode

import (
	"bytes"
	"image"

	"hotdesk/protocol/draw"
)

// The smallest pieces, in pixels, that are worth a SWAP or a KEEP.
const (
	leastBared    = 64   // by a move
	leastRecalled = 1024 // by anything else
	leastCovered  = 4096
)

// bareStep is how wide the pieces of a row are that are looked at for
// themselves.
const bareStep = 32

// cover puts by what the move m, which has not been made yet, will cover.
// What scrolls covers only what comes from itself and does not come back: it
// stays in one place, a window that is dragged does not.
func (e *Encoder) cover(m move) {
	if m.to == e.place {
		return
	}
	e.place = m.to
	for _, r := range minus(m.to, m.to.Sub(m.d)) {
		e.keep(r)
	}
}

func (e *Encoder) keep(r image.Rectangle) {
	if r.Empty() {
		return
	}
	if e.kept.tiles == nil {
		e.kept = newStash(e.shadow.W, e.shadow.H)
	}
	e.kept.copyFrom(&e.shadow, r)
	e.kept.spoil(e.cells.owing(r))
	e.early = append(e.early, draw.Op{Code: draw.Keep, X: r.Min.X, Y: r.Min.Y, W: r.Dx(), H: r.Dy()})
}

// bare looks whether what the move m, which has been made, has bared is what
// was put by there. As with moves, p may change meanwhile: what is done to the
// terminal's picture is done to the shadow.
func (e *Encoder) bare(p *draw.Pixmap, m move) {
	if e.kept.tiles == nil {
		return
	}
	for _, r := range minus(m.to.Sub(m.d), m.to) {
		e.swapSame(p, r)
	}
}

// recall looks in what is damaged for what was put by there, and puts by what is
// about to be drawn over: what covers it may go again, as menus do.
func (e *Encoder) recall(p *draw.Pixmap, damage []image.Rectangle) {
	if len(e.moved) > 0 {
		return // cover and bare have done it
	}
	for _, r := range damage {
		if r = e.rowsThatDiffer(p, r.Intersect(e.shadow.Bounds())); r.Dx()*r.Dy() < leastCovered {
			continue
		}
		// A window that has just come is drawn bit by bit, and video for ever:
		// what counts is what was there before the first of it.
		first := !r.In(e.covered) || e.unused > maxRestraint
		if e.unused++; first {
			e.covered, e.unused = r, 0
		}
		from := r.Min.Y
		for y := r.Min.Y; y < r.Max.Y && e.kept.tiles != nil; y++ {
			start, news := y, false
			for y < r.Max.Y && e.sameAsKept(p, image.Rect(r.Min.X, y, r.Max.X, y+1)) {
				news = news || !sameRow(p.Row(y, r.Min.X, r.Max.X), e.shadow.Row(y, r.Min.X, r.Max.X))
				y++
			}
			if run := image.Rect(r.Min.X, start, r.Max.X, y); news && run.Dx()*run.Dy() >= leastRecalled {
				if first {
					e.keep(image.Rect(r.Min.X, from, r.Max.X, start))
				}
				e.swap(run)
				from, first = y, true
			}
		}
		if first {
			e.keep(image.Rect(r.Min.X, from, r.Max.X, r.Max.Y))
		}
	}
}

// rowsThatDiffer is r without the rows at its top and bottom that are as they
// were.
func (e *Encoder) rowsThatDiffer(p *draw.Pixmap, r image.Rectangle) image.Rectangle {
	same := func(y int) bool {
		return sameRow(p.Row(y, r.Min.X, r.Max.X), e.shadow.Row(y, r.Min.X, r.Max.X))
	}
	for r.Min.Y < r.Max.Y && same(r.Min.Y) {
		r.Min.Y++
	}
	for r.Min.Y < r.Max.Y && same(r.Max.Y-1) {
		r.Max.Y--
	}
	return r
}

// swapSame sends the pieces of r that p has as they were put by.
func (e *Encoder) swapSame(p *draw.Pixmap, r image.Rectangle) {
	if r.Dx() <= 2*bareStep { // upright: row by row
		for y := r.Min.Y; y < r.Max.Y; {
			from := y
			for y < r.Max.Y && e.sameAsKept(p, image.Rect(r.Min.X, y, r.Max.X, y+1)) {
				y++
			}
			e.swap(image.Rect(r.Min.X, from, r.Max.X, y))
			y++
		}
		return
	}
	for x := r.Min.X; x < r.Max.X; { // lying: piece by piece
		from := x
		for x < r.Max.X && e.sameAsKept(p, image.Rect(x, r.Min.Y, min(x+bareStep, r.Max.X), r.Max.Y)) {
			x += bareStep
		}
		x = min(x, r.Max.X)
		e.swap(image.Rect(from, r.Min.Y, x, r.Max.Y))
		x += bareStep
	}
}

func (e *Encoder) sameAsKept(p *draw.Pixmap, r image.Rectangle) bool {
	for y := r.Min.Y; y < r.Max.Y; y++ {
		if !e.kept.sameRow(p, y, r.Min.X, r.Max.X) {
			return false
		}
	}
	return true
}

func (e *Encoder) swap(r image.Rectangle) {
	if r.Dx()*r.Dy() < leastBared {
		return
	}
	e.kept.swapWith(&e.shadow, r)
	e.kept.spoil(e.cells.owing(r))
	e.cells.pay(r)
	e.early = append(e.early, draw.Op{Code: draw.Swap, X: r.Min.X, Y: r.Min.Y, W: r.Dx(), H: r.Dy()})
}

// sameRow compares the bytes that count.
func sameRow(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	for i := 0; i < len(a); i += 4 {
		if !same(a[i:], b[i:]) {
			return false
		}
	}
	return true
}

// minus is a without b, in up to four pieces: above and below b, then beside it.
func minus(a, b image.Rectangle) [4]image.Rectangle {
	b = b.Intersect(a)
	if b.Empty() {
		return [4]image.Rectangle{a}
	}
	return [4]image.Rectangle{
		image.Rect(a.Min.X, a.Min.Y, a.Max.X, b.Min.Y),
		image.Rect(a.Min.X, b.Max.Y, a.Max.X, a.Max.Y),
		image.Rect(a.Min.X, b.Min.Y, b.Min.X, b.Max.Y),
		image.Rect(b.Max.X, b.Min.Y, a.Max.X, b.Max.Y),
	}
}
