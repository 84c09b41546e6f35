package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"hotdesk/dtu/screen"
	"hotdesk/dtu/viewer"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/input"
	"hotdesk/protocol/native"
	"hotdesk/protocol/rpc"
	"hotdesk/server/session/attach"
	"hotdesk/server/session/client"
	"hotdesk/server/session/mediaapi"
	"hotdesk/tools/bench/internal/rfb"
)

// open starts a session of a peer for a workload.
func (b *bench) open(name, work string) (*session, error) {
	x := new(session)
	var err error
	switch name {
	case floor:
		err = b.openNone(x)
	case plainBuild, videoBuild, before:
		pictures := mediaapi.PicturesMotion
		switch work {
		case "pages":
			pictures = mediaapi.PicturesExact
		case "pages-first":
			pictures = mediaapi.PicturesFirst
		}
		err = b.openHotdesk(x, b.builds[name], pictures)
	default:
		err = b.openTigerVNC(x, name == tiger)
	}
	if err != nil {
		x.stop()
		return nil, err
	}
	return x, nil
}

// hotdesk is a terminal without a window, in the place of dtu.
type hotdesk struct {
	view  *viewer.Viewer
	scr   *screen.Screen
	keep  *rpc.Conn
	count atomic.Int64
	when  atomic.Int64
	armed atomic.Bool
	hit   chan time.Time
	quit  chan struct{}
	gen   uint64
	w, h  int
}

const (
	benchTerminal = alp.TerminalID("0200c0a80001")
	patience      = 10 * time.Second
)

// openHotdesk is the keeper's part: an X server, media, and a ticket.
func (b *bench) openHotdesk(x *session, program string, pictures mediaapi.Pictures) error {
	fb, err := os.MkdirTemp(b.dir, "fb-")
	if err != nil {
		return err
	}
	x.dirs = append(x.dirs, fb)
	if err := x.startX("Xvfb", "-screen", "0", fmt.Sprintf("%dx%dx24", b.w, b.h), "-fbdir", fb, "-extension", "GLX", "-noreset"); err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "media"), os.NewFile(uintptr(pair[1]), "keeper")
	defer ours.Close()
	defer theirs.Close()
	control, err := net.FileConn(ours)
	if err != nil {
		return err
	}
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	defer udp.Close()
	socket, err := udp.File()
	if err != nil {
		return err
	}
	defer socket.Close()
	c := exec.Command(program, "media")
	c.ExtraFiles = []*os.File{theirs, socket}
	if err := x.start(c); err != nil {
		return err
	}
	x.counts = append(x.counts, c.Process.Pid)
	h := &hotdesk{hit: make(chan time.Time, 1), quit: make(chan struct{}), w: b.w, h: b.h}
	h.keep = rpc.New(control, func(context.Context, string, json.RawMessage) (any, error) { return nil, nil })
	go h.keep.Serve(context.Background())
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	identity, err := attach.NewIdentity()
	if err != nil {
		return err
	}
	setup := mediaapi.Setup{Display: x.name, FrameBuffer: filepath.Join(fb, "Xvfb_screen0"), MaxWidth: b.w, MaxHeight: b.h,
		Session: "bench", Pictures: pictures, Port: udp.LocalAddr().(*net.UDPAddr).Port}
	if setup.Identity, err = identity.MarshalBinary(); err != nil {
		return err
	}
	if err := h.keep.Call(ctx, mediaapi.OpSetup, setup, nil); err != nil {
		return err
	}
	h.scr = screen.New(b.w, b.h)
	go h.watch()
	if err := h.attach(ctx); err != nil {
		close(h.quit)
		return err
	}
	x.peer = h
	select {
	case <-h.view.Drawn():
		return nil
	case <-time.After(patience):
		return errors.New("no picture came")
	}
}

// attach gets a ticket and connects with it.
func (h *hotdesk) attach(ctx context.Context) error {
	h.gen++
	local := netip.MustParseAddr("127.0.0.1")
	offer := mediaapi.Offer{Gen: h.gen, Attach: client.Attach{Terminal: benchTerminal, Addr: local, Width: h.w, Height: h.h}}
	var o client.Offer
	if err := h.keep.Call(ctx, mediaapi.OpOffer, offer, &o); err != nil {
		return err
	}
	var err error
	h.view, err = viewer.Dial(ctx, viewer.Config{
		Addr: netip.AddrPortFrom(local, uint16(o.Port)), Cert: [32]byte(o.Cert), Decoder: h.scr.Attach(),
		Hello: native.Hello{Ticket: [alp.TicketSize]byte(o.Ticket), Gen: h.gen, Terminal: benchTerminal, Width: h.w, Height: h.h},
	})
	return err
}

// again attaches anew when the card has come, and returns how long that took
// until the whole picture was there, exact.
func (h *hotdesk) again() (time.Duration, error) {
	before := h.image()
	h.view.Close("the benchmark attaches again")
	<-h.view.Done()
	h.scr.Blank(nil)
	time.Sleep(onItsWay)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	start := time.Now()
	if err := h.attach(ctx); err != nil {
		return 0, err
	}
	<-h.view.Drawn()
	took := time.Since(start)
	if !same(h.image(), before) {
		return 0, errors.New("the first picture is not exact")
	}
	return took, nil
}

// watch sees what a display would.
func (h *hotdesk) watch() {
	w := h.scr.Watch()
	defer w.Close()
	for {
		select {
		case <-w.Changed():
		case <-h.quit:
			return
		}
		now := time.Now()
		if len(w.Take()) == 0 {
			continue // the frame before told all
		}
		h.count.Add(1)
		h.when.Store(now.UnixNano())
		if h.armed.CompareAndSwap(true, false) {
			h.hit <- now
		}
	}
}

func (h *hotdesk) key(letter int) {
	const a = 4 // HID usage
	h.view.Send(input.Record{Type: input.Key, Usage: uint16(a + letter), Down: true})
	h.view.Send(input.Record{Type: input.Key, Usage: uint16(a + letter)})
}

func (h *hotdesk) pointer(x, y int) { h.view.Send(input.Record{Type: input.Pointer, X: x, Y: y}) }

func (h *hotdesk) bytes() (down, up int64) {
	d, u := h.view.Bytes()
	return int64(d), int64(u)
}

func (h *hotdesk) updates() int64  { return h.count.Load() }
func (h *hotdesk) last() time.Time { return time.Unix(0, h.when.Load()) }
func (h *hotdesk) image() []byte   { return h.scr.SnapshotBare().Pix }
func (h *hotdesk) rows(y0, y1 int, pix []byte) {
	h.scr.ReadBare(image.Rect(0, y0, h.w, y1), pix[y0*h.w*4:], h.w*4)
}

func (h *hotdesk) pids() []int { return nil }
func (h *hotdesk) err() error  { return h.view.Err() }

func (h *hotdesk) arm() {
	select {
	case <-h.hit:
	default:
	}
	h.armed.Store(true)
}

func (h *hotdesk) wait(d time.Duration) (time.Time, bool) { return await(h.hit, d) }

func await(c <-chan time.Time, d time.Duration) (time.Time, bool) {
	select {
	case t := <-c:
		return t, true
	case <-time.After(d):
		return time.Time{}, false
	}
}

func (h *hotdesk) stop() {
	h.view.Close("the benchmark is over")
	<-h.view.Done()
	close(h.quit)
	h.keep.Close()
}

// tigervnc is its server with a viewer without a window.
type tigervnc struct {
	*rfb.Client
	port int
	opt  rfb.Options
}

func (b *bench) openTigerVNC(x *session, jpeg bool) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	port := ln.Addr().(*net.TCPAddr).Port // free, and hardly taken in a moment
	ln.Close()
	if err := x.startX("Xtigervnc", "-geometry", fmt.Sprintf("%dx%d", b.w, b.h), "-depth", "24", "-rfbport", fmt.Sprint(port),
		"-SecurityTypes", "None", "-localhost", "-AlwaysShared"); err != nil {
		return err
	}
	o := rfb.Options{Encodings: []int32{rfb.EncTight, rfb.EncZRLE, rfb.EncHextile, rfb.EncRaw}, Quality: -1, Compress: -1}
	if jpeg {
		o.Quality = 8 // the viewer's default on a LAN
	}
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		c, err := rfb.Dial(fmt.Sprintf("127.0.0.1:%d", port), o)
		if err == nil {
			x.peer = tigervnc{c, port, o}
			return nil
		}
		if time.Since(begin) > patience {
			return err
		}
	}
}

// again connects once more, until the first update, which is the whole screen.
func (v tigervnc) again() (time.Duration, error) {
	time.Sleep(onItsWay)
	start := time.Now()
	c, err := rfb.Dial(fmt.Sprintf("127.0.0.1:%d", v.port), v.opt)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	for c.Updates.Load() == 0 {
		if time.Since(start) > patience {
			return 0, errors.New("no picture came")
		}
		time.Sleep(100 * time.Microsecond)
	}
	return time.Since(start), nil
}

func (v tigervnc) key(letter int) {
	v.Key(uint32('a'+letter), true)
	v.Key(uint32('a'+letter), false)
}
func (v tigervnc) pointer(x, y int)                       { v.Pointer(x, y, 0) }
func (v tigervnc) bytes() (down, up int64)                { return v.Bytes.Load(), v.Sent.Load() }
func (v tigervnc) updates() int64                         { return v.Updates.Load() }
func (v tigervnc) last() time.Time                        { return time.Unix(0, v.Last.Load()) }
func (v tigervnc) image() []byte                          { return v.Image() }
func (v tigervnc) rows(y0, y1 int, pix []byte)            { v.Rows(y0, y1, pix) }
func (v tigervnc) arm()                                   { v.Arm() }
func (v tigervnc) wait(d time.Duration) (time.Time, bool) { return v.WaitChange(d) }
func (v tigervnc) pids() []int                            { return nil }
func (v tigervnc) stop()                                  { v.Close() }
func (v tigervnc) err() error {
	select {
	case <-v.Done:
		return v.Err()
	default:
		return nil
	}
}
