package encode

import (
	"bytes"
	"image"

	"hotdesk/protocol/draw"
)

const (
	// maxAhead bounds a picture that is made in advance, in bytes, and
	// maxAheadPixels in pixels, each four bytes that are kept: 2560x1600.
	maxAhead       = 4 << 20
	maxAheadPixels = 1 << 22
	// staleShare is the part of the picture, one in so many, from which on it is
	// made anew when it has changed: what was made is not worth sending.
	staleShare = 3
)

// An opening is a stream's first frame, not ended.
type opening struct {
	b                 []byte // packed so far; nil: there is none
	raw, drawn, large int    // as of the Encoder's frame in the making
	changed           int    // pixels that were sent again since it was made
	warp              *image.Point
}

// Prepare makes the first frame of a stream in advance, or brings one that was
// made up to v, and keeps it: the next EncodeOn sends it, as one frame with what
// has changed since. It is dropped there, and the whole picture coded as
// without it, where that has another size, too much of it has changed, or the
// terms let photos be near at first. Prepare reports whether there is one now:
// it must be of a reasonable size. It is for an Encoder that has sent nothing.
func (e *Encoder) Prepare(v View) bool {
	if e.seq != 0 || e.tail != nil {
		panic("encode: the stream has begun")
	}
	if w, h := bounded(v.Picture); w*h > maxAheadPixels {
		e.drop()
		return false
	}
	warp := e.ahead.warp // counts when there is a pointer
	if v.Warp != nil {
		warp, v.Warp = v.Warp, nil
	}
	e.ahead.warp = nil
	e.frame(nil, v, Terms{}) // begins one: there is the old one, or none yet
	e.flush()
	b := e.out.b[draw.MaxHeader:]
	e.out.b = nil
	// Half of each limit is left for what changes.
	e.ahead.warp = warp
	if e.seq > 0 || len(b) > maxAhead || e.raw > draw.MaxRaw/2 || e.large > draw.MaxRaw/2 || e.drawn > draw.MaxDrawn/2 {
		e.drop()
		return false
	}
	e.ahead = opening{bytes.Clone(b), e.raw, e.drawn, e.large, e.ahead.changed, warp}
	return true
}

// stale counts what has changed since the picture was made in advance, and
// reports whether that is too much, also for one frame.
func (e *Encoder) stale() bool {
	for _, a := range e.areas {
		e.ahead.changed += a.pixels()
	}
	copied := 0
	for _, op := range e.early {
		copied += op.W * op.H
	}
	return e.ahead.changed > e.shadow.W*e.shadow.H/staleShare || copied > draw.MaxDrawn/4
}

// drop makes the encoder one that has sent nothing and made nothing.
func (e *Encoder) drop() {
	if e.z != nil {
		e.z.Reset(&e.out)
	}
	e.ahead, e.seq = opening{warp: e.ahead.warp}, 0
	e.kept, e.shaped = stash{}, false
	e.early, e.areas, e.moved, e.later = e.early[:0], e.areas[:0], e.moved[:0], e.later[:0]
	e.covered, e.unused, e.place = image.Rectangle{}, 0, image.Rectangle{}
}
