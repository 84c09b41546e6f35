// Package window is a terminal's display as a window on an X11 desktop.
//
// Source: X11 core protocol; MIT-SHM extension; ICCCM 4.1 and 4.2.8 (names,
// sizes, WM_DELETE_WINDOW).
//
// Invariants:
//  1. Nothing stale is queued: what the next update shows is read from the
//     picture when the X server has drawn the last one.
//  2. Hands hear of real key presses only, and not of the X server's repeats.
//  3. No key or button stays down after the focus has gone.
//
// A Window belongs to one Run. Limits: a local or remote X server with 24 bit
// true colour, least significant byte first; one Window per process, because
// xgb keeps its extension tables in globals, and its goroutines never end.
package window

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"log"
	"os"
	"sync"
	"time"

	"github.com/BurntSushi/xgb"
	"github.com/BurntSushi/xgb/xproto"

	"hotdesk/dtu/backend"
	"hotdesk/dtu/backend/dirty"
	"hotdesk/protocol/alp"
)

// resizeQuiet is how long the window must keep a size before the terminal
// takes it: dragging an edge makes a size at every pixel.
const resizeQuiet = 200 * time.Millisecond

// Config says where and how large the window is.
type Config struct {
	Display string // an X display, "" for $DISPLAY
	W, H    int    // its first size
	Title   string
}

// A Window is on the screen from New until its Run ends.
type Window struct {
	x      *xgb.Conn
	link   *link
	id     xproto.Window
	gc     xproto.Gcontext
	depth  byte
	delete xproto.Atom // the window manager's request to close
	marks  xproto.Atom // what keyboard sends through the X server
	w, h   int         // as the X server last told
	paint  painter

	keys keyboard
	down byte // buttons of protocol/input
}

// New opens the window.
func New(cfg Config) (*Window, error) {
	w, err := open(cfg)
	if err != nil {
		return nil, fmt.Errorf("window: %w; is DISPLAY right, and does it let you in?", err)
	}
	return w, nil
}

func open(cfg Config) (*Window, error) {
	if cfg.Display == "" {
		cfg.Display = os.Getenv("DISPLAY")
	}
	l, err := dial(cfg.Display)
	if err != nil {
		return nil, err
	}
	xgb.Logger = log.New(io.Discard, "", 0) // errors come back from calls
	x, err := xgb.NewConnNet(l)
	if err != nil {
		l.Conn.Close()
		return nil, err
	}
	w := &Window{x: x, link: l, w: cfg.W, h: cfg.H}
	w.keys.mark = w.mark
	if err := w.create(cfg); err != nil {
		l.Conn.Close()
		return nil, err
	}
	return w, nil
}

func (w *Window) create(cfg Config) error {
	setup := xproto.Setup(w.x)
	screen := setup.DefaultScreen(w.x)
	w.depth = screen.RootDepth
	if !trueColour(setup, screen) {
		return errors.New("the X server's default visual is not 24 bit true colour")
	}
	w.paint = newPainter(w.x, setup)

	var err error
	if w.id, err = xproto.NewWindowId(w.x); err != nil {
		return err
	}
	blank, err := w.blankCursor(screen.Root)
	if err != nil {
		return err
	}
	// Values are in the order of their mask bits.
	err = xproto.CreateWindowChecked(w.x, w.depth, w.id, screen.Root, 0, 0, uint16(w.w), uint16(w.h), 0,
		xproto.WindowClassInputOutput, screen.RootVisual,
		xproto.CwBackPixel|xproto.CwBitGravity|xproto.CwEventMask|xproto.CwCursor,
		[]uint32{
			screen.BlackPixel, xproto.GravityNorthWest,
			xproto.EventMaskKeyPress | xproto.EventMaskKeyRelease | xproto.EventMaskButtonPress | xproto.EventMaskButtonRelease |
				xproto.EventMaskPointerMotion | xproto.EventMaskExposure | xproto.EventMaskStructureNotify | xproto.EventMaskFocusChange,
			uint32(blank),
		}).Check()
	if err != nil {
		return err
	}
	if w.gc, err = xproto.NewGcontextId(w.x); err != nil {
		return err
	}
	if err := xproto.CreateGCChecked(w.x, w.gc, xproto.Drawable(w.id), xproto.GcGraphicsExposures, []uint32{0}).Check(); err != nil {
		return err
	}
	if err := w.describe(cfg.Title); err != nil {
		return err
	}
	return xproto.MapWindowChecked(w.x, w.id).Check()
}

// trueColour says whether pixels are B G R X bytes.
func trueColour(setup *xproto.SetupInfo, screen *xproto.ScreenInfo) bool {
	if setup.ImageByteOrder != xproto.ImageOrderLSBFirst {
		return false
	}
	for _, f := range setup.PixmapFormats {
		if f.Depth == screen.RootDepth && f.BitsPerPixel != 32 {
			return false
		}
	}
	for _, d := range screen.AllowedDepths {
		for _, v := range d.Visuals {
			if v.VisualId == screen.RootVisual {
				return v.RedMask == 0xff0000 && v.GreenMask == 0xff00 && v.BlueMask == 0xff
			}
		}
	}
	return false
}

// blankCursor hides the pointer: the picture has the terminal's drawn in.
func (w *Window) blankCursor(root xproto.Window) (xproto.Cursor, error) {
	pix, err := xproto.NewPixmapId(w.x)
	if err != nil {
		return 0, err
	}
	if err := xproto.CreatePixmapChecked(w.x, 1, pix, xproto.Drawable(root), 1, 1).Check(); err != nil {
		return 0, err
	}
	defer xproto.FreePixmap(w.x, pix)
	gc, err := xproto.NewGcontextId(w.x)
	if err != nil {
		return 0, err
	}
	xproto.CreateGC(w.x, gc, xproto.Drawable(pix), xproto.GcForeground, []uint32{0})
	defer xproto.FreeGC(w.x, gc)
	xproto.PolyFillRectangle(w.x, xproto.Drawable(pix), gc, []xproto.Rectangle{{Width: 1, Height: 1}})
	cursor, err := xproto.NewCursorId(w.x)
	if err != nil {
		return 0, err
	}
	return cursor, xproto.CreateCursorChecked(w.x, cursor, pix, pix, 0, 0, 0, 0, 0, 0, 0, 0).Check()
}

// describe sets what the window manager wants to know.
func (w *Window) describe(title string) error {
	atom := func(name string) (xproto.Atom, error) {
		r, err := xproto.InternAtom(w.x, false, uint16(len(name)), name).Reply()
		if err != nil {
			return 0, err
		}
		return r.Atom, nil
	}
	var atoms [5]xproto.Atom
	for i, name := range []string{"WM_PROTOCOLS", "WM_DELETE_WINDOW", "_NET_WM_NAME", "UTF8_STRING", "_HOTDESK_MARK"} {
		var err error
		if atoms[i], err = atom(name); err != nil {
			return err
		}
	}
	w.delete, w.marks = atoms[1], atoms[4]
	set := func(property, kind xproto.Atom, format byte, data []byte) {
		xproto.ChangeProperty(w.x, xproto.PropModeReplace, w.id, property, kind, format, uint32(len(data)*8/int(format)), data)
	}
	le := binary.LittleEndian
	set(atoms[0], xproto.AtomAtom, 32, le.AppendUint32(nil, uint32(w.delete)))
	set(atoms[2], atoms[3], 8, []byte(title))
	set(xproto.AtomWmName, xproto.AtomString, 8, []byte(title))
	set(xproto.AtomWmClass, xproto.AtomString, 8, bytes.Join([][]byte{[]byte("dtu"), []byte("Hotdesk"), nil}, []byte{0}))
	// WM_SIZE_HINTS: flags PMinSize, four obsolete fields, least width and
	// height, eleven more.
	hints := make([]byte, 18*4)
	le.PutUint32(hints, 1<<4)
	le.PutUint32(hints[5*4:], alp.MinSide)
	le.PutUint32(hints[6*4:], alp.MinSide)
	set(xproto.AtomWmNormalHints, xproto.AtomWmSizeHints, 32, hints)
	return nil
}

// mark sends a message to our own window, which comes after the events that
// the X server has made so far.
func (w *Window) mark(serial uint32) {
	e := xproto.ClientMessageEvent{Format: 32, Window: w.id, Type: w.marks,
		Data: xproto.ClientMessageDataUnionData32New([]uint32{serial, 0, 0, 0, 0})}
	// With no event mask it goes to the client that made the window.
	xproto.SendEvent(w.x, false, w.id, xproto.EventMaskNoEvent, string(e.Bytes()))
}

// errGone is why Run ends when the X server does.
var errGone = errors.New("window: the X server has ended the connection")

// Run shows p until ctx ends, the window is closed (both nil) or the X server
// goes away.
func (w *Window) Run(ctx context.Context, p backend.Picture, h backend.Hands) error {
	events := make(chan xgb.Event)
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() { w.read(events, stop) })
	err := w.show(ctx, p, h, events)
	h.Release()
	close(stop)
	w.paint.close()
	w.sync() // what was asked for is done
	w.link.Conn.Close()
	reader.Wait()
	return err
}

// read passes the X server's events on, in order, until the connection has
// ended.
func (w *Window) read(events chan<- xgb.Event, stop <-chan struct{}) {
	for {
		e, _ := w.x.WaitForEvent()
		select {
		case <-w.link.gone:
			return
		default:
		}
		if e == nil {
			continue // an error of an unchecked request: the window is going away
		}
		select {
		case events <- e:
		case <-stop:
		}
	}
}

func (w *Window) show(ctx context.Context, p backend.Picture, h backend.Hands, events <-chan xgb.Event) error {
	watch := p.Watch()
	defer watch.Close()
	resize := time.NewTimer(0)
	resize.Stop()
	defer resize.Stop()
	var pw, ph int
	var exposed []image.Rectangle
	for {
		changed := watch.Changed()
		if len(exposed) > 0 {
			now := make(chan struct{})
			close(now)
			changed = now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.link.gone:
			return errGone
		case <-resize.C:
			h.Resize(min(max(w.w, alp.MinSide), alp.MaxSide), min(max(w.h, alp.MinSide), alp.MaxSide))
		case <-changed:
			rects := append(watch.Take(), exposed...)
			exposed = exposed[:0]
			nw, nh := p.Size()
			if nw != pw || nh != ph {
				pw, ph = nw, nh
				xproto.ClearArea(w.x, false, w.id, 0, 0, 0, 0)
				rects = []image.Rectangle{image.Rect(0, 0, pw, ph)}
			}
			if !w.draw(p, pw, ph, rects) {
				return errGone
			}
		case e := <-events:
			switch e := e.(type) {
			case xproto.ExposeEvent:
				r := image.Rect(int(e.X), int(e.Y), int(e.X)+int(e.Width), int(e.Y)+int(e.Height))
				exposed = append(exposed, r.Sub(w.origin(pw, ph)))
			case xproto.ConfigureNotifyEvent:
				if int(e.Width) == w.w && int(e.Height) == w.h {
					break
				}
				before := w.origin(pw, ph)
				w.w, w.h = int(e.Width), int(e.Height)
				if w.origin(pw, ph) != before {
					xproto.ClearArea(w.x, false, w.id, 0, 0, 0, 0)
					exposed = append(exposed, image.Rect(0, 0, pw, ph))
				}
				resize.Reset(resizeQuiet)
			case xproto.DestroyNotifyEvent:
				return nil
			case xproto.ClientMessageEvent:
				switch {
				case e.Format != 32:
				case e.Type == w.marks:
					w.keys.marked(e.Data.Data32[0], h)
				case xproto.Atom(e.Data.Data32[0]) == w.delete:
					return nil
				}
			default:
				w.input(e, h, w.origin(pw, ph))
			}
		}
	}
}

// origin is where the picture's top left corner is in the window: in the
// middle while the window is larger.
func (w *Window) origin(pw, ph int) image.Point {
	return image.Pt(max(0, (w.w-pw)/2), max(0, (w.h-ph)/2))
}

// draw puts rects of the picture on the window and waits until the X server
// has them; false when it has gone.
func (w *Window) draw(p backend.Picture, pw, ph int, rects []image.Rectangle) bool {
	o := w.origin(pw, ph)
	visible := image.Rect(0, 0, min(pw, w.w), min(ph, w.h))
	for _, r := range dirty.Merge(rects, visible) {
		if !w.paint.put(w, p, r, o) {
			return false
		}
	}
	return true
}

// wait runs f, which waits for the X server's answer; false when the server
// has gone.
func (w *Window) wait(f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
		return true
	case <-w.link.gone:
		return false
	}
}

// sync waits until the X server has done all requests.
func (w *Window) sync() bool {
	return w.wait(func() { xproto.GetInputFocus(w.x).Reply() })
}
