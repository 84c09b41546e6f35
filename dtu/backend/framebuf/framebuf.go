//go:build linux

// Package framebuf is the display of a terminal that has no window system: the
// Linux frame buffer, with the machine's own keyboards and mice.
//
// Source: Linux's Documentation/fb/framebuffer.rst and include/uapi/linux/fb.h;
// console_ioctl(4); package evdev for the hands.
//
// Invariants:
//  1. While Run runs, the kernel's text console writes nothing on the screen
//     (KD_GRAPHICS); afterwards the screen is black and the console as before.
//  2. Memory is written whole rectangles at a time from a copy: what is on the
//     screen was the picture's.
//
// A Display is for one Run. Limits: maxSide, maxStride; packed pixels of 16, 24
// or 32 bits. The screen keeps the mode that it has.
package framebuf

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"log/slog"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"hotdesk/dtu/backend"
	"hotdesk/dtu/backend/dirty"
	"hotdesk/dtu/evdev"
)

// A Config says what the display is made of.
type Config struct {
	Device  string // frame buffer; empty: /dev/fb0
	Console string // virtual terminal that shows it; empty: /dev/tty0
	Input   string // folder of input devices; empty: evdev.Folder
	// Hot is evdev.Seat's.
	Hot func(code uint16, down func(code uint16) bool) bool
	Log *slog.Logger // nil: silent
}

// A Display is a frame buffer that is open.
type Display struct {
	cfg     Config
	f       *os.File
	mem     []byte
	format  format
	console *os.File // nil: there is none
	mode    int      // of the console before
}

// New opens the frame buffer. It still shows what it did.
func New(cfg Config) (*Display, error) {
	if cfg.Device == "" {
		cfg.Device = "/dev/fb0"
	}
	if cfg.Console == "" {
		cfg.Console = "/dev/tty0"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	f, err := os.OpenFile(cfg.Device, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("framebuf: %w; is the module of the graphics card loaded?", err)
	}
	d := &Display{cfg: cfg, f: f}
	size := 0
	if d.format, size, err = ask(f); err == nil {
		err = d.format.check(size)
	}
	if err == nil {
		d.mem, err = unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("framebuf: %s: %w", cfg.Device, err)
	}
	return d, nil
}

// ask reads how the frame buffer is laid out, and its size in bytes.
func ask(f *os.File) (format, int, error) {
	const (
		getVariable, sizeVariable = 0x4600, 160
		getFixed, sizeFixed       = 0x4602, 80
	)
	v, x := make([]byte, sizeVariable), make([]byte, sizeFixed)
	if err := ioctl(f, getVariable, v); err != nil {
		return format{}, 0, fmt.Errorf("FBIOGET_VSCREENINFO: %w", err)
	}
	if err := ioctl(f, getFixed, x); err != nil {
		return format{}, 0, fmt.Errorf("FBIOGET_FSCREENINFO: %w", err)
	}
	return layout(v, x, int(unsafe.Sizeof(uintptr(0))))
}

// layout reads struct fb_var_screeninfo and fb_fix_screeninfo, whose first
// address has that many bytes.
func layout(v, x []byte, word int) (format, int, error) {
	u := func(b []byte, at int) int { return int(binary.NativeEndian.Uint32(b[at:])) }
	colour := func(at int) field { return field{uint32(u(v, at)), uint32(u(v, at+4))} }
	size, kind, stride := u(x, 16+word), u(x, 20+word), u(x, 40+word)
	bits := u(v, 24)
	f := format{w: u(v, 0), h: u(v, 4), stride: stride, bytes: (bits + 7) / 8, red: colour(32), green: colour(44), blue: colour(56)}
	if kind != 0 {
		return format{}, 0, fmt.Errorf("%w: its pixels are not packed (type %d)", errFormat, kind)
	}
	dx, dy := u(v, 16), u(v, 20)
	if dx > maxSide || dy > maxSide || stride > maxStride {
		return format{}, 0, fmt.Errorf("%w: shown from %d,%d, rows of %d bytes", errFormat, dx, dy, stride)
	}
	f.start = dy*stride + dx*f.bytes
	return f, size, nil
}

// Size is the screen's size in pixels.
func (d *Display) Size() (w, h int) { return d.format.w, d.format.h }

// Run shows p until ctx ends.
func (d *Display) Run(ctx context.Context, p backend.Picture, h backend.Hands) error {
	defer d.f.Close()
	defer unix.Munmap(d.mem)
	d.graphics()
	defer d.text()
	h.Resize(d.format.w, d.format.h)
	var wg sync.WaitGroup
	var heard error
	ctx, cancel := context.WithCancel(ctx)
	wg.Go(func() {
		defer cancel()
		heard = evdev.Run(ctx, evdev.Config{Folder: d.cfg.Input, Log: d.cfg.Log, Seat: evdev.Seat{Hands: h, Size: p.Size, Hot: d.cfg.Hot}})
	})
	d.show(ctx, p)
	cancel()
	wg.Wait()
	return heard
}

// show copies what changes to the screen, and leaves it black.
func (d *Display) show(ctx context.Context, p backend.Picture) {
	all := image.Rect(0, 0, d.format.w, d.format.h)
	buf := make([]byte, 4*d.format.w*d.format.h)
	defer func() {
		clear(buf)
		d.format.put(d.mem, all, buf, 4*d.format.w)
	}()
	watch := p.Watch()
	defer watch.Close()
	var w, h int
	for {
		select {
		case <-watch.Changed():
		case <-ctx.Done():
			return
		}
		rects := watch.Take()
		if nw, nh := p.Size(); nw != w || nh != h {
			w, h, rects = nw, nh, append(rects, all) // what is beyond the picture is black
		}
		for _, r := range dirty.Merge(rects, all) {
			stride := 4 * r.Dx()
			if !r.In(image.Rect(0, 0, w, h)) {
				clear(buf[:stride*r.Dy()])
			}
			p.Read(r, buf, stride)
			d.format.put(d.mem, r, buf, stride)
		}
	}
}

// Requests and modes of the virtual terminal.
const (
	setMode  = 0x4B3A // KDSETMODE
	getMode  = 0x4B3B // KDGETMODE
	graphics = 1      // KD_GRAPHICS
)

// graphics takes the screen from the kernel's console.
func (d *Display) graphics() {
	f, err := os.OpenFile(d.cfg.Console, os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err == nil {
		if d.mode, err = unix.IoctlGetInt(int(f.Fd()), getMode); err == nil {
			err = unix.IoctlSetInt(int(f.Fd()), setMode, graphics)
		}
		if err != nil {
			f.Close()
		}
	}
	if err != nil {
		d.cfg.Log.Info("the kernel's text console may write on the screen", "console", d.cfg.Console, "reason", err.Error())
		return
	}
	d.console = f
}

// text gives it back.
func (d *Display) text() {
	if d.console == nil {
		return
	}
	err := unix.IoctlSetInt(int(d.console.Fd()), setMode, d.mode)
	if err = errors.Join(err, d.console.Close()); err != nil {
		d.cfg.Log.Warn("the kernel's text console does not come back", "reason", err.Error())
	}
}

func ioctl(f *os.File, request uintptr, b []byte) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(&b[0]))); e != 0 {
		return e
	}
	return nil
}
