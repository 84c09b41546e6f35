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
	if d.seq == 0 {
		s.setShape(shape{}) // the last session's
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

// apply performs one operation.
func (s *Screen) apply(op draw.Op) {
	p := s.pic
	switch op.Code {
	case draw.Size:
		s.pic, s.kept, s.spare, s.saying = blank(p, s.spare, op.W, op.H), nil, nil, false
	case draw.Fill:
		fill(p, op.X, op.Y, op.W, op.H, op.B, op.G, op.R)
	case draw.Copy:
		move(p, op.X, op.Y, op.W, op.H, op.SrcX, op.SrcY)
	case draw.Set:
		for y := range op.H {
			unpack(p.Row(op.Y+y, op.X, op.X+op.W), op.Pix[y*op.W*3:(y+1)*op.W*3])
		}
	case draw.Palette:
		paint(p, op)
	case draw.Keep, draw.Swap:
		if s.kept == nil {
			s.kept = draw.NewPixmap(p.W, p.H)
		}
		if op.Code == draw.Keep {
			s.kept.CopyFrom(p, op.Rect())
		} else {
			s.kept.SwapWith(p, op.Rect())
		}
	case draw.Cursor:
		s.setShape(shape{
			size: image.Pt(op.W, op.H),
			hot:  image.Pt(op.X, op.Y),
			pix:  append([]byte(nil), op.Pix...),
		})
	case draw.Warp:
		at := s.picRect().Min
		s.movePointer(at.X+op.X, at.Y+op.Y)
	}
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
