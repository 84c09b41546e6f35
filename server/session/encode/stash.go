package encode

import (
	"bytes"
	"image"

	"hotdesk/protocol/draw"
)

// A stash is a picture, black at first, of which much has never been written or
// has one colour, as what windows cover mostly has: it is in tiles as those that
// are compared, which need memory only where they have several. The zero value
// has no size.
type stash struct {
	bounds image.Rectangle
	across int // tiles in a row of them
	tiles  []stashed
	free   [][]byte // at most maxFree
}

// A stashed is a tile: its rows, or one pixel that all are like.
type stashed struct {
	pix  []byte // nil: there is
	one  [4]byte
	near bool // what was put by is only near to it
}

const (
	stride  = tileW * 4
	maxFree = 64
)

func newStash(w, h int) stash {
	across, down := (w+tileW-1)/tileW, (h+tileH-1)/tileH
	return stash{bounds: image.Rect(0, 0, w, h), across: across, tiles: make([]stashed, across*down)}
}

// each calls f with the tiles that r, which is inside, touches, with where they
// are and the part of r there.
func (s *stash) each(r image.Rectangle, f func(t *stashed, at image.Point, part image.Rectangle)) {
	for ty := r.Min.Y / tileH; ty*tileH < r.Max.Y; ty++ {
		for tx := r.Min.X / tileW; tx*tileW < r.Max.X; tx++ {
			at := image.Pt(tx*tileW, ty*tileH)
			f(&s.tiles[ty*s.across+tx], at, r.Intersect(image.Rect(at.X, at.Y, at.X+tileW, at.Y+tileH)))
		}
	}
}

// colour is a pixel that all of p are like in part of the tile t, which is at at,
// nil if there is none, or it does not matter: where t has rows, unless part is
// the whole of it.
func (s *stash) colour(p *draw.Pixmap, t *stashed, at image.Point, part image.Rectangle) (one []byte, whole bool) {
	whole = part == s.bounds.Intersect(image.Rect(at.X, at.Y, at.X+tileW, at.Y+tileH))
	if (whole || t.pix == nil) && uniform(p, area{x0: part.Min.X, y0: part.Min.Y, x1: part.Max.X, y1: part.Max.Y}) {
		one = p.Row(part.Min.Y, part.Min.X, part.Min.X+1)
	}
	return one, whole
}

// row is the part of row y of a tile at at, which has rows.
func (t *stashed) row(at image.Point, y, x0, x1 int) []byte {
	return t.pix[(y-at.Y)*stride+(x0-at.X)*4 : (y-at.Y)*stride+(x1-at.X)*4]
}

// spoil notes that in r something else was put by, near to what is there.
func (s *stash) spoil(r image.Rectangle) {
	s.each(r, func(t *stashed, _ image.Point, _ image.Rectangle) { t.near = true })
}

// fill gives a tile its rows.
func (s *stash) fill(t *stashed) {
	if t.pix != nil {
		return
	}
	if n := len(s.free); n > 0 {
		t.pix, s.free = s.free[n-1], s.free[:n-1]
	} else {
		t.pix = make([]byte, stride*tileH)
	}
	for n := copy(t.pix, t.one[:]); n < len(t.pix); n *= 2 {
		copy(t.pix[n:], t.pix[:n])
	}
}

// become makes a tile have one colour.
func (s *stash) become(t *stashed, one []byte) {
	copy(t.one[:], one)
	if t.pix != nil && len(s.free) < maxFree {
		s.free = append(s.free, t.pix)
	}
	t.pix = nil
}

// copyFrom copies r, which is inside both, from p.
func (s *stash) copyFrom(p *draw.Pixmap, r image.Rectangle) {
	s.each(r, func(t *stashed, at image.Point, part image.Rectangle) {
		one, whole := s.colour(p, t, at, part)
		t.near = t.near && !whole
		if one != nil {
			if whole {
				s.become(t, one)
				return
			}
			if same(t.one[:], one) {
				return
			}
		}
		s.fill(t)
		for y := part.Min.Y; y < part.Max.Y; y++ {
			copy(t.row(at, y, part.Min.X, part.Max.X), p.Row(y, part.Min.X, part.Max.X))
		}
	})
}

// swapWith exchanges r, which is inside both, with p.
func (s *stash) swapWith(p *draw.Pixmap, r image.Rectangle) {
	s.each(r, func(t *stashed, at image.Point, part image.Rectangle) {
		var room [stride]byte
		var pixel [4]byte
		one, whole := s.colour(p, t, at, part)
		t.near = t.near && !whole
		if copy(pixel[:], one); one != nil && t.pix == nil && same(t.one[:], one) {
			return
		}
		s.fill(t)
		for y := part.Min.Y; y < part.Max.Y; y++ {
			a, b := t.row(at, y, part.Min.X, part.Max.X), p.Row(y, part.Min.X, part.Max.X)
			n := copy(room[:], a)
			copy(a, b)
			copy(b, room[:n])
		}
		if one != nil && whole {
			s.become(t, pixel[:])
		}
	})
}

// sameRow reports whether p has the pixels x0..x1 of row y too.
func (s *stash) sameRow(p *draw.Pixmap, y, x0, x1 int) bool {
	for tx := x0 / tileW; x0 < x1 && tx*tileW < x1; tx++ {
		at := image.Pt(tx*tileW, y/tileH*tileH)
		from, to := max(x0, at.X), min(x1, at.X+tileW)
		t, b := &s.tiles[y/tileH*s.across+tx], p.Row(y, from, to)
		switch {
		case t.near:
			return false
		case t.pix != nil:
			if !sameRow(b, t.row(at, y, from, to)) {
				return false
			}
		case !same(b, t.one[:]):
			return false
		case bytes.Equal(b[4:], b[:len(b)-4]):
		default:
			for i := 0; i < len(b); i += 4 {
				if !same(b[i:], t.one[:]) {
					return false
				}
			}
		}
	}
	return true
}
