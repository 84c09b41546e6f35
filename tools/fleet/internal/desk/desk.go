// Package desk is the program that runs in a session of the fleet: it paints
// the whole screen in the session's colour and a badge on it, counts the keys
// that are typed, and shows a moving picture when asked to.
//
// Source: package badge; the X protocol through xgb.
//
// Invariants: the badge is sent in one request, so that no order of drawing
// shows half of it; what a key changed is drawn before the next key is read.
//
// Run is a process's life. It takes the display from the environment.
package desk

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/BurntSushi/xgb"
	"github.com/BurntSushi/xgb/xproto"

	"hotdesk/tools/fleet/internal/badge"
)

const (
	// beat is how often the clock of a badge is drawn anew.
	beat = time.Second
	// frame is the time between two of a moving picture.
	frame = 40 * time.Millisecond
	// strip is how many rows of a picture go into one request: less than the
	// 256 KiB that every X server takes.
	strip = 120
)

type desk struct {
	x     *xgb.Conn
	root  xproto.Window
	gc    xproto.Gcontext
	depth byte
	start time.Time
	name  badge.Name
	b     badge.Badge
	step  int // of the moving picture
}

// Run shows the desk until ctx ends or the X server does.
func Run(ctx context.Context) error {
	x, err := xgb.NewConn()
	if err != nil {
		return fmt.Errorf("desk: %w", err)
	}
	// It is not closed: xgb falls over when that comes beside the X server's end.
	d, err := newDesk(x)
	if err != nil {
		return fmt.Errorf("desk: %w", err)
	}
	events := make(chan xgb.Event)
	go func() {
		defer close(events)
		for {
			ev, err := x.WaitForEvent()
			if ev == nil && err == nil {
				return
			}
			if ev == nil {
				continue // of a request that a change of size made void
			}
			select {
			case events <- ev:
			case <-ctx.Done():
				return
			}
		}
	}()
	d.draw()
	clock := time.NewTicker(beat)
	defer clock.Stop()
	film := time.NewTicker(frame)
	film.Stop()
	defer film.Stop()
	for {
		select {
		case ev, ok := <-events:
			if !ok {
				return nil // the X server has ended
			}
			switch ev := ev.(type) {
			case xproto.KeyPressEvent:
				was := d.b.Flags
				d.key(byte(ev.Detail))
				if (was^d.b.Flags)&badge.Playing != 0 {
					d.film(film)
				}
				d.draw()
			case xproto.ExposeEvent, xproto.ConfigureNotifyEvent:
				d.draw()
			}
		case <-clock.C:
			d.draw()
		case <-film.C:
			d.play()
		case <-ctx.Done():
			return nil
		}
	}
}

func newDesk(x *xgb.Conn) (*desk, error) {
	screen := xproto.Setup(x).DefaultScreen(x)
	d := &desk{x: x, root: screen.Root, depth: screen.RootDepth, start: time.Now()}
	var seed [4]byte
	rand.Read(seed[:])
	d.b.Nonce = max(1, binary.BigEndian.Uint32(seed[:]))
	var err error
	if d.gc, err = xproto.NewGcontextId(x); err != nil {
		return nil, err
	}
	if err := xproto.CreateGCChecked(x, d.gc, xproto.Drawable(d.root), 0, nil).Check(); err != nil {
		return nil, err
	}
	// A pointer that is not seen: the pixels below it are looked at.
	dot, err := xproto.NewPixmapId(x)
	if err != nil {
		return nil, err
	}
	none, err := xproto.NewCursorId(x)
	if err != nil {
		return nil, err
	}
	xproto.CreatePixmap(x, 1, dot, xproto.Drawable(d.root), 1, 1)
	clear, err := xproto.NewGcontextId(x)
	if err != nil {
		return nil, err
	}
	xproto.CreateGC(x, clear, xproto.Drawable(dot), xproto.GcForeground, []uint32{0})
	xproto.PolyFillRectangle(x, xproto.Drawable(dot), clear, []xproto.Rectangle{{Width: 1, Height: 1}})
	xproto.CreateCursor(x, none, dot, dot, 0, 0, 0, 0, 0, 0, 0, 0)
	const mask = xproto.EventMaskKeyPress | xproto.EventMaskExposure | xproto.EventMaskStructureNotify
	err = xproto.ChangeWindowAttributesChecked(x, d.root, xproto.CwBackPixel|xproto.CwEventMask|xproto.CwCursor,
		[]uint32{badge.Colour(d.b.Nonce), mask, uint32(none)}).Check()
	if err != nil {
		return nil, err
	}
	return d, xproto.ClearAreaChecked(x, false, d.root, 0, 0, 0, 0).Check()
}

func (d *desk) key(code byte) {
	owner, used := d.name.Key(code)
	switch {
	case owner != 0 && d.b.Owner == 0:
		d.b.Owner = owner
	case owner != 0 && d.b.Owner != owner:
		d.b.Flags |= badge.Conflict
	case used:
	case code == badge.Play:
		d.b.Flags ^= badge.Playing
	default:
		d.b.Typed++
		d.b.Last = code
	}
}

func (d *desk) draw() {
	d.b.Count = uint32(time.Since(d.start) / (100 * time.Millisecond))
	d.put(d.b.Pixels(), badge.X, badge.Y, badge.Width, badge.Height)
}

func (d *desk) put(pix []byte, x, y, w, h int) {
	xproto.PutImage(d.x, xproto.ImageFormatZPixmap, xproto.Drawable(d.root), d.gc, uint16(w), uint16(h), int16(x), int16(y), 0, d.depth, pix)
}

// film begins or ends the moving picture.
func (d *desk) film(t *time.Ticker) {
	if d.b.Flags&badge.Playing != 0 {
		t.Reset(frame)
		return
	}
	t.Stop()
	v := badge.Video
	xproto.ClearArea(d.x, false, d.root, int16(v.Min.X), int16(v.Min.Y), uint16(v.Dx()), uint16(v.Dy()))
}

// play draws the next picture: waves that move, with a grain, as films have.
func (d *desk) play() {
	d.step++
	v := badge.Video
	pix := make([]byte, v.Dx()*strip*4)
	grain := uint32(d.step)
	for top := 0; top < v.Dy(); top += strip {
		h := min(strip, v.Dy()-top)
		for y := range h {
			for x := range v.Dx() {
				grain = grain*1664525 + 1013904223
				p := pix[(y*v.Dx()+x)*4:]
				g := byte(grain >> 29)
				p[0], p[1], p[2] = byte(x+3*d.step)+g, byte(y+top+2*d.step)+g, byte(x+y+top-d.step)+g
			}
		}
		d.put(pix[:v.Dx()*h*4], v.Min.X, v.Min.Y+top, v.Dx(), h)
	}
}
