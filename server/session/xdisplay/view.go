package xdisplay

import (
	"encoding/binary"
	"errors"
	"image"

	"github.com/BurntSushi/xgb/xproto"

	"hotdesk/protocol/draw"
	"hotdesk/server/session/encode"
)

// MaxDamage bounds the rectangles of a View.
const MaxDamage = 64

var _ encode.Source = (*Display)(nil)

// Changed has something to receive after the screen or the cursor changed.
func (d *Display) Changed() <-chan struct{} { return d.changed }

// View calls f with the screen as it is now. The pixels are the X server's
// own where it draws in a file: they may change during the call, and what does
// is damage of the next View. f is not called once the X server is gone.
func (d *Display) View(f func(encode.View)) {
	s := &d.screen
	s.Lock()
	defer s.Unlock()
	if s.frame == nil {
		return
	}
	if s.resized {
		if err := d.adoptSize(); err != nil {
			d.log.Warn("the screen has a size that cannot be shown", "err", err)
		}
	}
	a := d.asker
	a.ask.Lock()
	defer a.ask.Unlock()
	s.moved = d.windows.since(s.moved[:0])
	moved := s.moved
	region, warp, ok := d.ask(len(moved) > 0)
	if len(moved) > 0 {
		defer d.letGo()
	}
	if !ok || d.wire.why() != nil {
		return
	}
	v := encode.View{Picture: s.frame.picture(), Cursor: s.cursor, Warp: warp, Moved: moved}
	if s.whole {
		s.whole = false
		v.Damage = []image.Rectangle{image.Rectangle{Max: s.size}}
	} else {
		v.Damage = bound(region, image.Rectangle{Max: s.size})
	}
	if len(v.Damage) > 0 {
		if err := s.frame.refresh(v.Damage); err != nil {
			d.log.Warn("the screen cannot be read", "err", err)
			s.whole = true
			return
		}
	}
	f(v)
	d.windows.shown(len(moved))
}

// ask asks all that a View wants to know in one write, and waits for the answers:
// what has changed, where a program has moved the pointer, and what the cursor is
// if that is not known. The X server is held if hold is true, whatever is returned:
// a picture that changes between two of its rows while a window is dragged would be
// sent whole, and the next one too. screen and the asker's ask are locked.
func (d *Display) ask(hold bool) (region []xproto.Rectangle, warp *image.Point, ok bool) {
	a, s := d.asker, &d.screen
	d.hands.Lock()
	a.mu.Lock()
	if hold {
		a.request(opGrabServer, 0)
	}
	a.request(a.ops.damage, damageSubtract, uint32(d.damage), 0, uint32(d.region))
	rects := a.request(a.ops.xfixes, fixesFetchRegion, uint32(d.region))
	where := d.askPointer()
	shape, fresh := uint16(0), s.freshCursor
	if fresh {
		s.freshCursor = false
		shape = a.request(a.ops.xfixes, fixesCursorImage)
	}
	err := a.flush()
	a.mu.Unlock()
	d.hands.Unlock()
	if d.failed(err) {
		return nil, nil, false
	}
	m, err := a.answer(rects)
	if err == nil {
		region = a.rectangles(m)
	}
	if d.failed(err) {
		return nil, nil, false
	}
	ok = err == nil
	if m, err = a.answer(where.seq); err == nil {
		warp = d.movedPointer(where, m)
	}
	if d.failed(err) {
		return nil, nil, false
	}
	if fresh {
		m, err = a.answer(shape)
		if d.failed(err) {
			return nil, nil, false
		}
		s.cursor = cursor(m, err)
	}
	return region, warp, ok
}

// letGo ends the holding of the X server.
func (d *Display) letGo() {
	a := d.asker
	a.mu.Lock()
	defer a.mu.Unlock()
	a.request(opUngrabServer, 0)
	d.failed(a.flush())
}

// failed ends the connection where err is one that is its end.
func (d *Display) failed(err error) bool {
	if _, refused := errors.AsType[xError](err); err == nil || refused {
		return false
	}
	d.wire.end(err)
	return true
}

// bound clips a region to the screen and makes at most MaxDamage rectangles of
// it. A region's rectangles come in rows from the top, so neighbours in the
// list are neighbours on the screen.
func bound(region []xproto.Rectangle, screen image.Rectangle) []image.Rectangle {
	run := (len(region) + MaxDamage - 1) / MaxDamage
	var out []image.Rectangle
	for i := 0; i < len(region); i += run {
		var box image.Rectangle
		for _, r := range region[i:min(i+run, len(region))] {
			x, y := int(r.X), int(r.Y)
			box = box.Union(image.Rect(x, y, x+int(r.Width), y+int(r.Height)).Intersect(screen))
		}
		if !box.Empty() {
			out = append(out, box)
		}
	}
	return out
}

// cursor makes ours of the answer to GetCursorImage, which is BadCursor for none.
func cursor(m []byte, err error) *encode.Cursor {
	if err != nil {
		return &encode.Cursor{}
	}
	at := func(i int) int { return int(binary.LittleEndian.Uint16(m[i:])) }
	w, h := at(12), at(14)
	hot := image.Pt(at(16), at(18))
	serial := binary.LittleEndian.Uint32(m[20:])
	pix := m[32:]
	if w == 0 || h == 0 || len(pix) < w*h*4 {
		return &encode.Cursor{Serial: serial}
	}
	x0, cw := window(w, hot.X)
	y0, ch := window(h, hot.Y)
	c := &encode.Cursor{Serial: serial, HotX: hot.X - x0, HotY: hot.Y - y0, W: cw, H: ch}
	c.Pix = make([]byte, 0, cw*ch*4)
	for y := y0; y < y0+ch; y++ {
		c.Pix = append(c.Pix, pix[(y*w+x0)*4:(y*w+x0+cw)*4]...)
	}
	return c
}

// window picks the part of a cursor's side that is shown: all of it, or
// draw.MaxCursor pixels with the hot spot among them.
func window(side, hot int) (from, length int) {
	if side <= draw.MaxCursor {
		return 0, side
	}
	return min(max(hot-draw.MaxCursor/2, 0), side-draw.MaxCursor), draw.MaxCursor
}
