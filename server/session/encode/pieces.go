package encode

import (
	"image"
	"runtime"

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

// bands compares damage from the top to the bottom, some rows at a time, which
// are coded, and sent as far as they make a piece, while the next are compared.
func (e *Encoder) bands(p *draw.Pixmap, damage []image.Rectangle) {
	for _, r := range damage {
		r = r.Intersect(e.shadow.Bounds())
		if r.Empty() {
			continue
		}
		rows := (bandPixels/r.Dx() + stripRows - 1) / stripRows * stripRows
		for y := r.Min.Y; y < r.Max.Y; y += rows {
			e.compareDamage(p, image.Rect(r.Min.X, y, r.Max.X, min(y+rows, r.Max.Y)))
			e.finer = len(e.areas)
			e.ask()
			e.code()
			e.areas = e.areas[:0]
		}
		e.drain() // rectangles may overlap: nothing is compared while it is coded
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
