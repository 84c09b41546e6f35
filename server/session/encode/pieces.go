package encode

import (
	"image"
	"runtime"
	"sync"

	"hotdesk/protocol/draw"
)

const (
	// muchToSend is how many damaged pixels may go out in pieces: a page of a
	// browser, or a whole new screen. Who watches sees it change from the top to
	// the bottom, all of it no later than it would change at once. All else is
	// one frame.
	muchToSend = 1 << 20
	// bandPixels is about how many of them are compared before they are coded.
	bandPixels = 1 << 18
	// A piece is so many pixels at least, or so many bytes before they are packed:
	// some milliseconds of work for who draws it.
	piecePixels = 1 << 18
	pieceBytes  = 1 << 17
)

// inPieces reports whether damage is worth it. On one core nothing goes out
// before all is coded.
func inPieces(damage []image.Rectangle) bool {
	pixels := 0
	for _, r := range damage {
		pixels += r.Dx() * r.Dy()
	}
	return pixels >= muchToSend && runtime.GOMAXPROCS(0) > 1
}

// A scout compares damage from the top to the bottom, a band of rows at a time,
// while the bands before are coded: two that each go on alone, for on a few
// cores every wait for another costs about as much as a band.
type scout struct {
	comparer
	p, shadow *draw.Pixmap
	r, sure   image.Rectangle // what to compare, and what not
	found     chan []area     // of each band
	run       func()
}

// maxAheadOf is how many bands a scout may be ahead.
const maxAheadOf = 16

var scouts = sync.Pool{New: func() any {
	s := &scout{found: make(chan []area, maxAheadOf)}
	s.run = s.scout
	return s
}}

func (s *scout) rows() int { return (bandPixels/s.r.Dx() + stripRows - 1) / stripRows * stripRows }

func (s *scout) scout() {
	r, rows := s.r, s.rows() // after the last band s is another's
	for y := r.Min.Y; y < r.Max.Y; y += rows {
		from := len(s.areas)
		for _, part := range unsure(image.Rect(r.Min.X, y, r.Max.X, min(y+rows, r.Max.Y)), s.sure) {
			s.compare(s.p, s.shadow, part)
		}
		s.found <- s.areas[from:len(s.areas):len(s.areas)]
	}
}

// bands codes damage, and sends it as far as it makes pieces, while it is
// compared.
func (e *Encoder) bands(p *draw.Pixmap, damage []image.Rectangle) {
	s := scouts.Get().(*scout)
	s.p, s.shadow, s.sure = p, &e.shadow, e.sure()
	mine := e.areas
	for _, r := range damage {
		if s.r = r.Intersect(e.shadow.Bounds()); s.r.Empty() {
			continue
		}
		s.areas = s.areas[:0]
		go s.run()
		for range (s.r.Dy() + s.rows() - 1) / s.rows() {
			e.areas = <-s.found
			e.finer = len(e.areas)
			e.ask()
			e.code()
		}
		e.drain() // rectangles may overlap: nothing is compared while it is coded
	}
	e.areas = mine[:0]
	s.p, s.shadow = nil, nil
	if s.areas = s.areas[:0]; cap(s.areas) <= keepAreas {
		scouts.Put(s)
	}
}

// cut sends the frame in the making if it is a piece, and begins another.
func (e *Encoder) cut() {
	if e.send == nil || e.drawn < piecePixels && e.raw < pieceBytes {
		return
	}
	e.end()
	e.begin(e.send(e.out.b))
}
