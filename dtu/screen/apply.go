package screen

import (
	"image"

	"hotdesk/protocol/draw"
)

// detach ends d. What it drew stays.
func (s *Screen) detach(d *Decoder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live == d {
		s.live = nil
	}
}

// mayDraw reports whether d may draw still.
func (s *Screen) mayDraw(d *Decoder) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live == d
}

// draw applies f, which check has accepted, and reports whether d may draw.
func (s *Screen) draw(d *Decoder, f frame) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live != d {
		return false
	}
	unpacked, fields := f.photos.unpacked, f.photos.fields
	for raw := f.raw; len(raw) > 0; {
		op, rest, err := draw.Next(raw)
		if err != nil {
			panic("screen: " + err.Error()) // check accepted it
		}
		switch op.Code {
		case draw.Photo:
			for y := range op.H {
				unpacked = unpacked[copy(s.pic.Row(op.Y+y, op.X, op.X+op.W), unpacked):]
			}
		case draw.Lossy:
			blocksOf(unpacked, fields[0]).Draw(s.pic, op.Rect(), op.Step)
			for _, n := range fields[0] {
				unpacked = unpacked[n:]
			}
			fields = fields[1:]
		default:
			s.apply(op)
		}
		raw = rest
	}
	if f.sized {
		s.changed(s.bounds())
		return true
	}
	at := s.picRect().Min
	for _, r := range f.damage {
		s.changed(r.Add(at))
	}
	return true
}

// show makes d's first picture the one that is shown, and reports whether d may
// draw.
func (s *Screen) show(d *Decoder, f *fresh) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live != d {
		return false
	}
	s.canvas, s.spare, s.saying = f.canvas, nil, false
	s.setShape(shape{}) // the last session's
	if f.warp != nil {
		s.warp(*f.warp)
	}
	if f.shape != nil {
		s.setShape(*f.shape)
	}
	s.changed(s.bounds())
	return true
}

// black is a black picture for d's first frame.
func (s *Screen) black(d *Decoder, w, h int) *draw.Pixmap {
	s.mu.Lock()
	p := s.spare
	if s.live == d && p != nil && p.W == w && p.H == h {
		s.spare = nil
		s.mu.Unlock()
		return p
	}
	s.mu.Unlock()
	if d.ready != nil {
		p, d.ready = <-d.ready, nil
		if p.W == w && p.H == h {
			return p
		}
	}
	return draw.NewPixmap(w, h)
}

// apply performs one operation, but for photos.
func (s *Screen) apply(op draw.Op) {
	switch op.Code {
	case draw.Size:
		s.canvas, s.spare, s.saying = canvas{pic: blank(s.pic, s.spare, op.W, op.H)}, nil, false
	case draw.Cursor:
		s.setShape(*newShape(op))
	case draw.Warp:
		s.warp(image.Pt(op.X, op.Y))
	default:
		s.canvas.apply(op)
	}
}

// warp puts the pointer where a program of the session has.
func (s *Screen) warp(p image.Point) {
	p = p.Add(s.picRect().Min)
	s.movePointer(p.X, p.Y)
}

func (s *Screen) setShape(c shape) {
	s.changed(s.shapeRect())
	s.shape = c
	s.changed(s.shapeRect())
}

// blank returns a black picture, in the memory of p, or of spare which is black,
// where that has the size.
func blank(p, spare *draw.Pixmap, w, h int) *draw.Pixmap {
	switch {
	case p != nil && p.W == w && p.H == h:
		clear(p.Pix)
		return p
	case spare != nil && spare.W == w && spare.H == h:
		return spare
	}
	return draw.NewPixmap(w, h)
}
