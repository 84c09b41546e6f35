package xdisplay

import (
	"encoding/binary"
	"image"

	"github.com/BurntSushi/xgb/damage"
	"github.com/BurntSushi/xgb/xfixes"
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
	// All questions go out before the first answer is waited for.
	questions := 3
	if s.freshCursor {
		questions++
	}
	// While a window is dragged the X server is held: a picture that changes
	// between two of its rows would be sent whole, and the next one too.
	hold := len(s.windows.moved) > 0
	if hold {
		questions++
	}
	d.wire.together(questions)
	if hold {
		xproto.GrabServer(d.conn)
		defer xproto.UngrabServer(d.conn)
	}
	damage.Subtract(d.conn, d.damage, 0, d.region)
	rects := xfixes.FetchRegion(d.conn, d.region)
	where := d.askPointer()
	var shape *xfixes.GetCursorImageCookie
	if s.freshCursor {
		s.freshCursor = false
		shape = new(xfixes.GetCursorImage(d.conn))
	}
	region, err := rects.Reply()
	warp := d.movedPointer(where)
	if shape != nil {
		s.cursor = cursor(shape.Reply())
	}
	if err != nil || d.wire.why() != nil {
		return
	}
	v := encode.View{Picture: s.frame.picture(), Cursor: s.cursor, Warp: warp, Moved: s.windows.moved}
	if s.whole {
		s.whole = false
		v.Damage = []image.Rectangle{image.Rectangle{Max: s.size}}
	} else {
		v.Damage = bound(region.Rectangles, image.Rectangle{Max: s.size})
	}
	if len(v.Damage) > 0 {
		if err := s.frame.refresh(v.Damage); err != nil {
			d.log.Warn("the screen cannot be read", "err", err)
			s.whole = true
			return
		}
	}
	f(v)
	s.windows.moved = s.windows.moved[:0]
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

// cursor makes ours of the X server's, which says BadCursor for none.
func cursor(r *xfixes.GetCursorImageReply, err error) *encode.Cursor {
	if err != nil {
		return &encode.Cursor{}
	}
	w, h := int(r.Width), int(r.Height)
	hot := image.Pt(int(r.Xhot), int(r.Yhot))
	if w == 0 || h == 0 || len(r.CursorImage) < w*h {
		return &encode.Cursor{Serial: r.CursorSerial}
	}
	x0, cw := window(w, hot.X)
	y0, ch := window(h, hot.Y)
	c := &encode.Cursor{Serial: r.CursorSerial, HotX: hot.X - x0, HotY: hot.Y - y0, W: cw, H: ch}
	c.Pix = make([]byte, 0, cw*ch*4)
	for y := y0; y < y0+ch; y++ {
		for _, p := range r.CursorImage[y*w+x0 : y*w+x0+cw] {
			c.Pix = binary.LittleEndian.AppendUint32(c.Pix, p)
		}
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
