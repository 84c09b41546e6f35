package encode

import (
	"bytes"
	"encoding/binary"
	"image"

	"hotdesk/protocol/draw"
)

// Damage is compared in tiles of this size, so that two small changes far
// apart in one rectangle do not send everything between them.
const (
	tileW = 64
	tileH = 16
)

// An area is a rectangle to be sent. An empty one has become part of another.
type area struct {
	x0, y0, x1, y1 int
	one            bool   // it has one colour,
	colour         uint32 // this one
}

func (a area) pixels() int { return (a.x1 - a.x0) * (a.y1 - a.y0) }

// pixel is the part of a pixel that counts.
func pixel(b []byte) uint32 { return binary.LittleEndian.Uint32(b) & 0xffffff }

// compare adds to e.areas what differs in r between p and the shadow, and
// makes the shadow equal there. r is inside both.
func (e *Encoder) compare(p *draw.Pixmap, r image.Rectangle) {
	above := len(e.areas)
	for y := r.Min.Y; y < r.Max.Y; {
		if bytes.Equal(p.Row(y, r.Min.X, r.Max.X), e.shadow.Row(y, r.Min.X, r.Max.X)) {
			y++
			continue
		}
		y1 := min(y+tileH, r.Max.Y)
		here := len(e.areas)
		for x := r.Min.X; x < r.Max.X; x += tileW {
			e.tile(p, area{x0: x, y0: y, x1: min(x+tileW, r.Max.X), y1: y1}, here)
		}
		e.stack(above, here)
		above, y = here, y1
	}
}

// tile adds what differs in t, joined to what lies left of it in e.areas[row:]
// where that is as good as two operations.
func (e *Encoder) tile(p *draw.Pixmap, t area, row int) {
	// The X server may be drawing in p meanwhile: p is read once, and what is
	// sent comes from the shadow.
	for y := t.y0; y < t.y1; y++ {
		copy(e.tileRow(t, y), p.Row(y, t.x0, t.x1))
	}
	a := e.narrow(t)
	if a.pixels() == 0 {
		return
	}
	for y := a.y0; y < a.y1; y++ {
		copy(e.shadow.Row(y, t.x0, t.x1), e.tileRow(t, y))
	}
	// A tile of one colour goes as a whole, so that it fits its neighbours.
	if uniform(&e.shadow, t) {
		a = t
		a.one = true
	} else {
		a.one = uniform(&e.shadow, a)
	}
	if a.one {
		a.colour = pixel(e.shadow.Row(a.y0, a.x0, a.x0+1))
	}
	if len(e.areas) > row {
		if l := &e.areas[len(e.areas)-1]; l.joins(a) {
			l.x1, l.y0, l.y1 = a.x1, min(l.y0, a.y0), max(l.y1, a.y1)
			return
		}
	}
	e.areas = append(e.areas, a)
}

// joins reports whether one operation for l and a, which is right of it, is
// better than two.
func (l area) joins(a area) bool {
	if l.one || a.one {
		return l.one && a.one && l.colour == a.colour && l.x1 == a.x0 && l.y0 == a.y0 && l.y1 == a.y1
	}
	// What has not changed compresses well, but not to nothing.
	both := l.pixels() + a.pixels()
	return (a.x1-l.x0)*(max(l.y1, a.y1)-min(l.y0, a.y0)) <= both+both/4+tileW
}

// stack joins the areas of a band, from here on, to those of the band above it
// that they continue. The joined ones stay among the band's own.
func (e *Encoder) stack(above, here int) {
	for i := here; i < len(e.areas); i++ {
		a := &e.areas[i]
		for j := above; j < here; j++ {
			u := &e.areas[j]
			if u.x0 == a.x0 && u.x1 == a.x1 && u.y1 == a.y0 && u.one == a.one && u.colour == a.colour &&
				(u.one || u.pixels()+a.pixels() <= maxArea) {
				a.y0 = u.y0
				*u = area{}
				break
			}
		}
	}
}

// tileRow is row y of the tile t that was read.
func (e *Encoder) tileRow(t area, y int) []byte {
	return e.now[(y-t.y0)*tileW*4:][:(t.x1-t.x0)*4]
}

// narrow is the smallest area that holds all that differs in the tile t.
func (e *Encoder) narrow(t area) area {
	a := area{x0: t.x1, y0: t.y1, x1: t.x0, y1: t.y0}
	for y := t.y0; y < t.y1; y++ {
		b, s := e.tileRow(t, y), e.shadow.Row(y, t.x0, t.x1)
		if bytes.Equal(b, s) {
			continue
		}
		l, r := 0, len(b)
		for l < r && pixel(b[l:]) == pixel(s[l:]) {
			l += 4
		}
		if l == r {
			continue // only bytes that do not count
		}
		for pixel(b[r-4:]) == pixel(s[r-4:]) {
			r -= 4
		}
		a.x0, a.x1 = min(a.x0, t.x0+l/4), max(a.x1, t.x0+r/4)
		a.y0, a.y1 = min(a.y0, y), y+1
	}
	if a.x0 >= a.x1 {
		return area{}
	}
	return a
}

// uniform reports whether a has one colour in p.
func uniform(p *draw.Pixmap, a area) bool {
	c := pixel(p.Row(a.y0, a.x0, a.x0+1))
	for y := a.y0; y < a.y1; y++ {
		b := p.Row(y, a.x0, a.x1)
		for i := 0; i < len(b); i += 4 {
			if pixel(b[i:]) != c {
				return false
			}
		}
	}
	return true
}
