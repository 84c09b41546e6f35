package encode

import (
	"bytes"
	"encoding/binary"
	"image"
	"runtime"
	"sync"

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
	looks          looks
}

// looks is what a tile looks like. Where a photo is beside text, both are coded
// better alone.
type looks byte

const (
	either looks = iota // goes with any
	drawn               // mostly as the pixel before, as text and drawings are
	rough               // hardly ever, as photos are
)

// with reports whether areas of two looks may be one, and of which.
func (l looks) with(other looks) (joined looks, ok bool) {
	return max(l, other), l == other || l == either || other == either
}

// leastLooks is the smallest part of a tile, in pixels, whose looks count, and
// looksRows is how far apart the rows are that are looked at.
const (
	leastLooks = 256
	looksRows  = 4
)

// looksOf looks at some rows of a.
func looksOf(p *draw.Pixmap, a area) looks {
	if a.pixels() < leastLooks {
		return either
	}
	looked, equal := 0, 0
	for y := a.y0 + looksRows/2; y < a.y1; y += looksRows {
		row := p.Row(y, a.x0, a.x1)
		for x := 4; x < len(row); x += 4 {
			if same(row[x:], row[x-4:]) {
				equal++
			}
		}
		looked += len(row)/4 - 1
	}
	switch {
	case equal*2 > looked:
		return drawn
	case equal*4 < looked:
		return rough
	}
	return either
}

// with is the smallest area that holds a and r.
func (a area) with(r image.Rectangle) area {
	r = r.Union(image.Rect(a.x0, a.y0, a.x1, a.y1))
	return area{x0: r.Min.X, y0: r.Min.Y, x1: r.Max.X, y1: r.Max.Y}
}

func (a area) pixels() int { return (a.x1 - a.x0) * (a.y1 - a.y0) }

// pixel is the part of a pixel that counts.
func pixel(b []byte) uint32 { return binary.LittleEndian.Uint32(b) & 0xffffff }

// muchToCompare is how many pixels are worth being compared on more than one
// core.
const muchToCompare = 1 << 18

// A comparer finds what differs.
type comparer struct {
	areas []area                  // to be sent
	now   [tileW * tileH * 4]byte // the tile being compared, as it was when it was read
	last  int                     // where the last band's areas begin
	first bool                    // the terminal's picture is black, whatever the shadow has
	owing *cells                  // what they owe differs, whatever the shadow has; nil: nothing
}

// A helper compares a part of large damage. What it runs is made once, so that
// a frame allocates nothing.
type helper struct {
	comparer
	p, shadow *draw.Pixmap
	part      image.Rectangle
	run       func()
	done      chan struct{} // capacity 1
}

var helpers = sync.Pool{New: func() any {
	h := &helper{done: make(chan struct{}, 1)}
	h.run = func() {
		h.compare(h.p, h.shadow, h.part)
		h.done <- struct{}{}
	}
	return h
}}

// compare adds to e.areas what differs in r between p and the shadow, and
// makes the shadow equal there. r is inside both.
func (e *Encoder) compare(p *draw.Pixmap, r image.Rectangle) {
	parts := min(runtime.GOMAXPROCS(0), maxCores, r.Dy()/tileH)
	if parts < 2 || r.Dx()*r.Dy() < muchToCompare {
		e.comparer.compare(p, &e.shadow, r)
		return
	}
	cut := func(k int) int { return r.Min.Y + r.Dy()/tileH*k/parts*tileH }
	var others [maxCores]*helper
	for k := 1; k < parts; k++ {
		h := helpers.Get().(*helper)
		h.first, h.owing = e.first, e.owing
		h.p, h.shadow, h.part = p, &e.shadow, image.Rect(r.Min.X, cut(k), r.Max.X, cut(k+1))
		if k == parts-1 {
			h.part.Max.Y = r.Max.Y
		}
		others[k] = h
		go h.run()
	}
	e.comparer.compare(p, &e.shadow, image.Rect(r.Min.X, r.Min.Y, r.Max.X, cut(1)))
	for _, h := range others[1:parts] {
		<-h.done
		here := len(e.areas)
		e.areas = append(e.areas, h.areas...)
		e.stack(e.last, here) // as if there were no cut
		e.last = here + h.last
		h.p, h.shadow, h.owing = nil, nil, nil
		if h.areas = h.areas[:0]; cap(h.areas) <= keepAreas {
			helpers.Put(h)
		}
	}
}

// maxCores bounds the cores that compare, and those that code: they wait for
// memory before long, and what they need is kept.
const maxCores = 8

// compare is Encoder.compare with a shadow, alone.
func (c *comparer) compare(p, shadow *draw.Pixmap, r image.Rectangle) {
	above := len(c.areas)
	for y := r.Min.Y; y < r.Max.Y; {
		if !c.first && bytes.Equal(p.Row(y, r.Min.X, r.Max.X), shadow.Row(y, r.Min.X, r.Max.X)) &&
			(c.owing == nil || c.owing.owing(image.Rect(r.Min.X, y, r.Max.X, y+1)).Empty()) {
			y++
			continue
		}
		y1 := min(y+tileH, r.Max.Y)
		here := len(c.areas)
		for x := r.Min.X; x < r.Max.X; x += tileW {
			c.tile(p, shadow, area{x0: x, y0: y, x1: min(x+tileW, r.Max.X), y1: y1}, here)
		}
		c.stack(above, here)
		above, y = here, y1
	}
	c.last = above
}

// tile adds what differs in t, joined to what lies left of it in e.areas[row:]
// where that is as good as two operations.
func (c *comparer) tile(p, shadow *draw.Pixmap, t area, row int) {
	// The X server may be drawing in p meanwhile: p is read once, and what is
	// sent comes from the shadow.
	a := t
	if c.first {
		for y := t.y0; y < t.y1; y++ {
			copy(shadow.Row(y, t.x0, t.x1), p.Row(y, t.x0, t.x1))
		}
	} else {
		for y := t.y0; y < t.y1; y++ {
			copy(c.tileRow(t, y), p.Row(y, t.x0, t.x1))
		}
		if a = c.narrow(shadow, t); c.owing != nil {
			a = a.with(c.owing.owing(image.Rect(t.x0, t.y0, t.x1, t.y1)))
		}
		if a.pixels() == 0 {
			return
		}
		for y := a.y0; y < a.y1; y++ {
			copy(shadow.Row(y, t.x0, t.x1), c.tileRow(t, y))
		}
	}
	// A tile of one colour goes as a whole, so that it fits its neighbours.
	if uniform(shadow, t) {
		a = t
		a.one = true
	} else {
		a.one = uniform(shadow, a)
	}
	if a.one {
		a.colour = pixel(shadow.Row(a.y0, a.x0, a.x0+1))
		if c.first && a.colour == 0 {
			return
		}
	} else {
		a.looks = looksOf(shadow, a)
	}
	if len(c.areas) > row {
		if l := &c.areas[len(c.areas)-1]; l.joins(a) {
			l.x1, l.y0, l.y1 = a.x1, min(l.y0, a.y0), max(l.y1, a.y1)
			l.looks = max(l.looks, a.looks)
			return
		}
	}
	c.areas = append(c.areas, a)
}

// joins reports whether one operation for l and a, which is right of it, is
// better than two.
func (l area) joins(a area) bool {
	if l.one || a.one {
		return l.one && a.one && l.colour == a.colour && l.x1 == a.x0 && l.y0 == a.y0 && l.y1 == a.y1
	}
	if _, ok := l.looks.with(a.looks); !ok {
		return false
	}
	// What has not changed compresses well, but not to nothing.
	both := l.pixels() + a.pixels()
	return (a.x1-l.x0)*(max(l.y1, a.y1)-min(l.y0, a.y0)) <= both+both/4+tileW
}

// stack joins the areas of a band, from here on, to those of the band above it
// that they continue. The joined ones stay among the band's own.
func (c *comparer) stack(above, here int) {
	for i := here; i < len(c.areas); i++ {
		a := &c.areas[i]
		for j := above; j < here; j++ {
			u := &c.areas[j]
			both, ok := u.looks.with(a.looks)
			if u.x0 == a.x0 && u.x1 == a.x1 && u.y1 == a.y0 && u.one == a.one && u.colour == a.colour &&
				(u.one || ok && u.pixels()+a.pixels() <= maxArea) {
				a.y0, a.looks = u.y0, both
				*u = area{}
				break
			}
		}
	}
}

// tileRow is row y of the tile t that was read.
func (c *comparer) tileRow(t area, y int) []byte {
	return c.now[(y-t.y0)*tileW*4:][:(t.x1-t.x0)*4]
}

// narrow is an area that holds all that differs in the tile t, and hardly more;
// an empty one where nothing does.
func (c *comparer) narrow(shadow *draw.Pixmap, t area) area {
	a := area{x0: t.x1, y0: t.y1, x1: t.x0, y1: t.y0}
	for y := t.y0; y < t.y1; y++ {
		b, s := c.tileRow(t, y), shadow.Row(y, t.x0, t.x1)
		if bytes.Equal(b, s) {
			continue
		}
		if a.x0 < a.x1 { // the row counts; what matters is what is beside the others
			l, r := 0, len(b)
			for left := (a.x0 - t.x0) * 4; l < left && pixel(b[l:]) == pixel(s[l:]); {
				l += 4
			}
			for right := (a.x1 - t.x0) * 4; r > right && pixel(b[r-4:]) == pixel(s[r-4:]); {
				r -= 4
			}
			a.x0, a.x1, a.y1 = t.x0+l/4, t.x0+r/4, y+1
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
		a.x0, a.x1, a.y0, a.y1 = t.x0+l/4, t.x0+r/4, y, y+1
	}
	if a.x0 >= a.x1 {
		return area{}
	}
	return a
}

// uniform reports whether a has one colour in p.
func uniform(p *draw.Pixmap, a area) bool {
	first := p.Row(a.y0, a.x0, a.x1)
	c := pixel(first)
	for y := a.y0; y < a.y1; y++ {
		b := p.Row(y, a.x0, a.x1)
		// Many bytes at once, where also those that do not count are the same.
		if y == a.y0 && bytes.Equal(b[4:], b[:len(b)-4]) || y > a.y0 && bytes.Equal(b, first) {
			continue
		}
		for i := 0; i < len(b); i += 4 {
			if pixel(b[i:]) != c {
				return false
			}
		}
	}
	return true
}
