// Package xdisplay is a session's screen, keyboard and pointer as its media
// process has them: a client of the session's X server, by package xgb for what
// happens seldom and tells of changes, and by a connection of its own (an asker)
// for what each frame and each key takes.
//
// Source: design section 2; the X protocol and its extensions DAMAGE, XFIXES,
// XTEST, RANDR and MIT-SHM.
//
// Invariants:
//  1. Pixels are read after the X server has told what changed and forgotten
//     it, so what changes while they are read is told again: nothing is lost.
//  2. The cursor is never in the pixels.
//  3. A key or button that was pressed here is let go by Release; one that
//     was not is left alone. Open lets go of what it finds down.
//  4. No rows of the frame buffer that are on the screen are given back.
//
// A Display is safe for concurrent use. There can be one in a
// process at a time, because the extension tables of package xgb are global.
//
// Limits: screens from alp.MinSide up to the X server's initial size, cursors
// of draw.MaxCursor, MaxDamage rectangles a View. A program that moves the
// pointer is noticed at the next View, for the X protocol tells only the
// windows below it: one that draws nothing and has no other cursor there is
// noticed late.
package xdisplay

import (
	"errors"
	"fmt"
	"image"
	"io"
	"log"
	"log/slog"
	"sync"

	"github.com/BurntSushi/xgb"
	"github.com/BurntSushi/xgb/damage"
	"github.com/BurntSushi/xgb/randr"
	"github.com/BurntSushi/xgb/shm"
	"github.com/BurntSushi/xgb/xfixes"
	"github.com/BurntSushi/xgb/xproto"
	"github.com/BurntSushi/xgb/xtest"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/encode"
	"hotdesk/server/session/rawsock"
)

const (
	minSide = alp.MinSide
	maxSide = alp.MaxSide
)

// Config says which X server.
type Config struct {
	Display     string       // ":7"
	Authority   string       // file with its cookie, empty when there is none
	FrameBuffer string       // file that it draws in; empty: pixels by MIT-SHM
	Max         image.Point  // largest screen asked of it, 0x0: as large as it can
	Log         *slog.Logger // nil: silent
}

// A Display is an open connection to an X server.
type Display struct {
	conf   Config
	log    *slog.Logger
	cookie []byte // of the X server; nil: it wants none
	wire   *wire
	conn   *xgb.Conn
	root   xproto.Window

	asker *asker // nil: not opened yet

	changed chan struct{}
	damage  damage.Damage
	region  xfixes.Region
	ended   chan struct{} // the event loop has ended,

	watching bool // which was started

	screen  screen
	windows windows
	hands   hands
	layout  sync.Mutex  // held while the keyboard map is changed
	rules   xproto.Atom // of the property that names it; 0: not known yet
}

// screen is what View shows.
type screen struct {
	sync.Mutex
	frame       frame
	max         image.Point
	size        image.Point
	resized     bool // size may not be the X server's any more
	whole       bool // everything has changed
	cursor      *encode.Cursor
	freshCursor bool          // cursor is not the X server's any more
	moved       []image.Point // that the View under way shows
}

// Open connects to an X server and begins to watch it.
func Open(conf Config) (*Display, error) {
	d := &Display{conf: conf, log: conf.Log, changed: make(chan struct{}, 1), ended: make(chan struct{})}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if err := d.open(); err != nil {
		d.Close()
		return nil, fmt.Errorf("xdisplay: X server %s: %w", conf.Display, err)
	}
	return d, nil
}

func (d *Display) open() error {
	if d.conf.Authority != "" {
		var err error
		if d.cookie, err = readCookie(d.conf.Authority, d.conf.Display); err != nil {
			return err
		}
	}
	c, err := dial(d.conf.Display)
	if err != nil {
		return err
	}
	d.wire = newWire(rawsock.NewStream(c), d.cookie)
	// What xgb has to say are its own debts: missing cookies in places where
	// there are none, and the end of the connection, which the wire reports.
	xgb.Logger = log.New(io.Discard, "", 0)
	if d.conn, err = xgb.NewConnNet(d.wire); err != nil {
		return err
	}
	d.watching = true
	go d.events()
	if err := d.extensions(); err != nil {
		return err
	}
	s := xproto.Setup(d.conn).DefaultScreen(d.conn)
	d.root = s.Root
	if err := d.checkFormat(s); err != nil {
		return err
	}
	if d.conf.FrameBuffer != "" {
		m, err := openMapped(d.conf.FrameBuffer, d.log)
		if err != nil {
			return err
		}
		d.screen.frame = m
	} else {
		d.screen.frame = newShared(d.conn, d.root, d.asker)
	}
	return d.watch()
}

// extensions makes all of them known to xgb before any event is let through,
// and tells the X server the versions, without which requests fail.
func (d *Display) extensions() error {
	for _, init := range []func(*xgb.Conn) error{damage.Init, xfixes.Init, randr.Init, xtest.Init, shm.Init} {
		if err := init(d.conn); err != nil {
			return err
		}
	}
	fixes := xfixes.QueryVersion(d.conn, 5, 0)
	dam := damage.QueryVersion(d.conn, 1, 1)
	rr := randr.QueryVersion(d.conn, 1, 3)
	if _, err := fixes.Reply(); err != nil {
		return err
	}
	if _, err := dam.Reply(); err != nil {
		return err
	}
	if _, err := rr.Reply(); err != nil {
		return err
	}
	return d.openAsker()
}

// openAsker opens the connection for what is asked and said with each frame and
// each key.
func (d *Display) openAsker() error {
	var questions [4]xproto.QueryExtensionCookie
	names := [len(questions)]string{"DAMAGE", "XFIXES", "XTEST", "MIT-SHM"}
	for i, n := range names {
		questions[i] = xproto.QueryExtension(d.conn, uint16(len(n)), n)
	}
	var ops [len(questions)]byte
	damaged := byte(0)
	for i, q := range questions {
		r, err := q.Reply()
		if err != nil {
			return err
		}
		ops[i] = r.MajorOpcode
		if i == 0 {
			damaged = r.FirstEvent // its only one
		}
	}
	d.wire.release(func(m []byte) bool {
		if m[0] == damaged {
			d.signal()
			return true
		}
		return d.windows.event(m) // what it changes is damage
	})
	c, err := dial(d.conf.Display)
	if err != nil {
		return err
	}
	a, err := newAsker(c, d.cookie, opcodes{damage: ops[0], xfixes: ops[1], xtest: ops[2], shm: ops[3]})
	if err != nil {
		return err
	}
	d.asker = a
	d.wire.join(a.conn)
	return nil
}

// checkFormat refuses what is not B G R X, 32 bits a pixel.
func (d *Display) checkFormat(s *xproto.ScreenInfo) error {
	setup := xproto.Setup(d.conn)
	bits := byte(0)
	for _, f := range setup.PixmapFormats {
		if f.Depth == s.RootDepth {
			bits = f.BitsPerPixel
		}
	}
	if s.RootDepth != 24 || bits != 32 || setup.ImageByteOrder != xproto.ImageOrderLSBFirst {
		return fmt.Errorf("%d bits in %d a pixel: start it with -screen 0 WIDTHxHEIGHTx24", s.RootDepth, bits)
	}
	return nil
}

// watch selects events and hides the X server's own cursor.
func (d *Display) watch() error {
	var err error
	if d.damage, err = damage.NewDamageId(d.conn); err != nil {
		return err
	}
	if d.region, err = xfixes.NewRegionId(d.conn); err != nil {
		return err
	}
	root := d.root
	// One event when the first change comes; what changes until View asks is
	// collected by the X server, however much that is.
	create := damage.CreateChecked(d.conn, d.damage, xproto.Drawable(root), damage.ReportLevelNonEmpty)
	checks := []interface{ Check() error }{
		create,
		xfixes.CreateRegionChecked(d.conn, d.region, nil),
		xfixes.HideCursorChecked(d.conn, root),
		xfixes.SelectCursorInputChecked(d.conn, root, xfixes.CursorNotifyMaskDisplayCursor),
		randr.SelectInputChecked(d.conn, root, randr.NotifyMaskScreenChange),
		xproto.ChangeWindowAttributesChecked(d.conn, root, xproto.CwEventMask, []uint32{xproto.EventMaskSubstructureNotify}),
	}
	for _, c := range checks {
		if err := c.Check(); err != nil {
			return err
		}
	}
	if err := d.releaseLeft(); err != nil {
		return err
	}
	d.screen.Lock() // events come already
	defer d.screen.Unlock()
	if err := d.sizes(); err != nil {
		return err
	}
	d.screen.whole, d.screen.freshCursor = true, true
	d.signal()
	return nil
}

// sizes learns how large the screen is and may become.
func (d *Display) sizes() error {
	r, err := randr.GetScreenSizeRange(d.conn, d.root).Reply()
	if err != nil {
		return err
	}
	d.screen.max = image.Pt(min(int(r.MaxWidth), maxSide), min(int(r.MaxHeight), maxSide))
	for _, m := range []image.Point{d.screen.frame.max(), d.conf.Max} {
		if m.X > 0 && m.Y > 0 {
			d.screen.max = image.Pt(min(d.screen.max.X, m.X), min(d.screen.max.Y, m.Y))
		}
	}
	return d.adoptSize()
}

// adoptSize makes the frame fit the screen as the X server has it now. The
// X server is held meanwhile, so that no program makes it larger.
func (d *Display) adoptSize() error {
	d.screen.resized = false
	xproto.GrabServer(d.conn)
	defer xproto.UngrabServer(d.conn)
	g, err := xproto.GetGeometry(d.conn, xproto.Drawable(d.root)).Reply()
	if err != nil {
		return err
	}
	size := image.Pt(int(g.Width), int(g.Height))
	if size == d.screen.size {
		return nil
	}
	if err := d.screen.frame.resize(size.X, size.Y); err != nil {
		return err
	}
	d.screen.size, d.screen.whole = size, true
	return nil
}

// events takes what the X server tells until the connection ends. It asks
// nothing itself, so that it is never behind.
func (d *Display) events() {
	defer close(d.ended)
	for {
		ev, xerr := d.conn.WaitForEvent()
		if xerr != nil {
			d.log.Debug("X error", "err", xerr)
			continue
		}
		switch ev.(type) {
		case xproto.KeymapNotifyEvent: // made up by the wire
			d.signal()
			return
		case xfixes.CursorNotifyEvent:
			d.screen.Lock()
			d.screen.freshCursor = true
			d.screen.Unlock()
		case randr.ScreenChangeNotifyEvent:
			d.screen.Lock()
			d.screen.resized = true
			d.screen.Unlock()
		default:
			continue
		}
		d.signal()
	}
}

func (d *Display) signal() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// Done is closed when the X server is gone, or the Display closed.
func (d *Display) Done() <-chan struct{} { return d.wire.lost }

// Err says why Done is closed.
func (d *Display) Err() error {
	if err := d.wire.why(); err != nil {
		return fmt.Errorf("xdisplay: X server %s is gone: %w", d.conf.Display, err)
	}
	return nil
}

var errClosed = errors.New("closed here")

// Close lets go of what is pressed and ends the connection.
func (d *Display) Close() {
	if d.wire == nil {
		return
	}
	if d.asker != nil && d.root != 0 {
		d.Release()
	}
	d.wire.end(errClosed)
	if d.watching {
		<-d.ended
	}
	d.screen.Lock()
	defer d.screen.Unlock()
	if d.screen.frame != nil {
		d.screen.frame.close()
		d.screen.frame = nil
	}
}
