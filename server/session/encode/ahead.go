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
	restless          bool // it was made anew for having changed too much
	open              bool // b was sent, as a part of the frame
}

// begun reports whether there is one.
func (o *opening) begun() bool { return o.b != nil || o.open }

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
	e.ahead.warp, e.ahead.restless = nil, false
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
	e.ahead = opening{b: bytes.Clone(b), raw: e.raw, drawn: e.drawn, large: e.large,
		changed: e.ahead.changed, warp: warp, restless: e.ahead.restless}
	return true
}

// maxOpen bounds what is sent of a picture before it is known to be right, in
// bytes.
const maxOpen = 512 << 10

// Open appends what Prepare made to dst, as a part of the first frame, which the
// next EncodeOn or EncodePieces completes: with what has changed or, where that is
// too much, with the whole picture. It does so for a picture of that size, w by h,
// that is not large, was not too different when Prepare looked last, and is good on
// the terms t.
func (e *Encoder) Open(dst []byte, w, h int, t Terms) []byte {
	o := &e.ahead
	if o.b == nil || t.first() || o.restless || len(o.b) > maxOpen || w != e.shadow.W || h != e.shadow.H {
		return dst
	}
	dst = draw.Header{Packed: len(o.b), Raw: o.raw}.Append(dst)
	dst = append(dst, o.b...)
	o.b, o.open = nil, true
	return dst
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

// drop makes the encoder one that has sent nothing and made nothing, but for what
// Open has sent.
func (e *Encoder) drop() {
	o := &e.ahead
	if o.open {
		o.changed = 0
	} else {
		if e.z != nil {
			e.z.Reset(&e.out)
		}
		e.ahead = opening{warp: o.warp, restless: o.b != nil}
	}
	e.seq = 0
	e.kept, e.shaped = stash{}, false
	e.early, e.areas, e.moved, e.later = e.early[:0], e.areas[:0], e.moved[:0], e.later[:0]
	e.covered, e.unused, e.place = image.Rectangle{}, 0, image.Rectangle{}
}
