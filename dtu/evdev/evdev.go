//go:build linux

// Package evdev hears keyboards, mice, tablets and touch screens of a Linux
// machine, those that are plugged in later too.
//
// Source: Linux's Documentation/input/event-codes.rst and input.rst,
// include/uapi/linux/input.h; inotify(7); USB HID Usage Tables 1.12 section 10
// for keys.
//
// Invariants:
//  1. A key that was told down is told up when it is let go, when its keyboard
//     is unplugged, or when events were lost meanwhile.
//  2. Repeated keys are not told; a key that two keyboards hold is told once.
//  3. Devices are taken for this program alone (EVIOCGRAB), so that the kernel's
//     own terminal does not read along.
//
// Seat is pure and for one goroutine; Run is a shell round it. Limits:
// maxDevices, maxEvents a read.
package evdev

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// Folder is where the kernel's devices are.
	Folder     = "/dev/input"
	maxDevices = 64
	maxEvents  = 64
	// sizeEvent is of struct input_event: the time and eight bytes.
	sizeEvent = int(unsafe.Sizeof(unix.Timeval{})) + 8
	// maxCode is KEY_MAX.
	maxCode = 0x2ff
)

// An opened device.
type opened struct {
	id   string
	f    *os.File
	info Info
	led  bool
}

type news struct {
	from   *opened
	events []Event
	gone   bool
}

// A Config says where to look and whom to tell.
type Config struct {
	Folder string // empty: Folder
	Log    *slog.Logger
	Seat   Seat

	open func(name string) (*opened, error) // nil: openDevice
}

// Run tells the seat what happens at the machine's devices until ctx ends. At
// its end every key and button is let go.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Folder == "" {
		cfg.Folder = Folder
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.open == nil {
		cfg.open = openDevice
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("evdev: inotify: %w", err)
	}
	changes := os.NewFile(uintptr(fd), "inotify")
	defer changes.Close()
	if err := os.MkdirAll(cfg.Folder, 0o755); err != nil { // the first device makes it, later
		return fmt.Errorf("evdev: %w", err)
	}
	// Attributes too: udev, where there is one, makes a node usable afterwards.
	if _, err := unix.InotifyAddWatch(fd, cfg.Folder, unix.IN_CREATE|unix.IN_ATTRIB); err != nil {
		return fmt.Errorf("evdev: watch %s: %w", cfg.Folder, err)
	}
	r := &run{cfg: cfg, news: make(chan news), open: map[string]*opened{}}
	r.cfg.Seat.Lights = r.lights
	ctx, cancel := context.WithCancel(ctx)
	defer r.wg.Wait()
	defer r.close()
	defer cancel()
	r.ctx = ctx

	look := make(chan struct{}, 1)
	look <- struct{}{}
	r.wg.Go(func() {
		for b := make([]byte, 4096); ; {
			if _, err := changes.Read(b); err != nil {
				return
			}
			select {
			case look <- struct{}{}:
			default:
			}
		}
	})
	defer changes.Close() // before the wait
	for {
		select {
		case <-look:
			r.look()
		case n := <-r.news:
			r.take(n)
		case <-ctx.Done():
			return nil
		}
	}
}

type run struct {
	cfg  Config
	ctx  context.Context
	wg   sync.WaitGroup
	news chan news
	open map[string]*opened
}

// look opens what is new.
func (r *run) look() {
	names, _ := filepath.Glob(filepath.Join(r.cfg.Folder, "event*")) // the pattern is good
	for _, name := range names {
		if r.open[name] != nil || len(r.open) == maxDevices {
			continue
		}
		d, err := r.cfg.open(name)
		if errors.Is(err, errUseless) || errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
			continue // it may become one: its attributes change then
		}
		if err != nil {
			r.cfg.Log.Warn("input device not used", "device", name, "reason", err.Error())
			continue
		}
		r.cfg.Log.Info("input device", "device", name, "name", d.info.Name)
		r.open[name] = d
		r.cfg.Seat.Add(name, d.info)
		r.wg.Go(func() { r.read(d) })
	}
	r.lights(r.cfg.Seat.lights)
}

// read passes on what a device tells until it is unplugged or closed.
func (r *run) read(d *opened) {
	b := make([]byte, maxEvents*sizeEvent)
	for {
		n, err := d.f.Read(b)
		v := news{from: d, events: parse(b[:max(n, 0)]), gone: err != nil}
		select {
		case r.news <- v:
		case <-r.ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// parse reads struct input_event, in the machine's byte order.
func parse(b []byte) []Event {
	var events []Event
	for ; len(b) >= sizeEvent; b = b[sizeEvent:] {
		e := b[sizeEvent-8:]
		events = append(events, Event{
			binary.NativeEndian.Uint16(e), binary.NativeEndian.Uint16(e[2:]), int32(binary.NativeEndian.Uint32(e[4:])),
		})
	}
	return events
}

func (r *run) take(n news) {
	if r.cfg.Seat.Take(n.from.id, n.events) {
		if down, err := held(n.from.f); err == nil {
			r.cfg.Seat.Held(n.from.id, down)
		}
	}
	if n.gone {
		r.cfg.Log.Info("input device gone", "device", n.from.id)
		n.from.f.Close()
		delete(r.open, n.from.id)
		r.cfg.Seat.Remove(n.from.id)
	}
}

func (r *run) close() {
	for id, d := range r.open {
		d.f.Close()
		r.cfg.Seat.Remove(id)
	}
}

// lights sets the lights of every keyboard that has some.
func (r *run) lights(bits byte) {
	var b []byte
	for i := range uint16(3) {
		b = append(b, make([]byte, sizeEvent-8)...)
		b = binary.NativeEndian.AppendUint16(b, evLED)
		b = binary.NativeEndian.AppendUint16(b, i)
		b = binary.NativeEndian.AppendUint32(b, uint32(bits>>i&1))
	}
	b = append(b, make([]byte, sizeEvent)...) // the report's end: all zero
	for _, d := range r.open {
		if d.led {
			_, _ = d.f.Write(b) // one that is being unplugged has no lights
		}
	}
}

// errUseless is a device that nobody types or points with.
var errUseless = errors.New("evdev: neither keys nor a pointer")

// openDevice opens a device and takes it for us.
func openDevice(name string) (*opened, error) {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	d := &opened{id: name, f: f}
	if err := d.ask(); err != nil {
		f.Close()
		return nil, err
	}
	return d, nil
}

// ask asks a device what it is.
func (d *opened) ask() error {
	kinds, err := bits(d.f, 0x20, 4) // EVIOCGBIT(0)
	if err != nil {
		return fmt.Errorf("evdev: what is it: %w", err)
	}
	if !kinds(evKey) && !kinds(evRel) && !kinds(evAbs) {
		return errUseless
	}
	d.led = kinds(evLED)
	name := make([]byte, 256)
	if err := ioctl(d.f, 0x06, name); err == nil { // EVIOCGNAME
		d.info.Name, _, _ = strings.Cut(string(name), "\x00")
	}
	if kinds(evAbs) {
		for axis, to := range []*Range{&d.info.X, &d.info.Y} {
			b := make([]byte, 24) // struct input_absinfo: value, minimum, maximum, ...
			if err := ioctl(d.f, 0x40+uintptr(axis), b); err == nil {
				*to = Range{int32(binary.NativeEndian.Uint32(b[4:])), int32(binary.NativeEndian.Uint32(b[8:]))}
			}
		}
	}
	return d.grab()
}

// grab is EVIOCGRAB: the number 1 itself is the argument.
func (d *opened) grab() error {
	return control(d.f, func(fd uintptr) error {
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, fd, 0x40044590, 1); e != 0 {
			return fmt.Errorf("evdev: take it for us alone: %w", e)
		}
		return nil
	})
}

// held asks which keys are down (EVIOCGKEY).
func held(f *os.File) (func(uint16) bool, error) { return bits(f, 0x18, maxCode/8+1) }

// bits asks for a set of n bytes.
func bits(f *os.File, nr uintptr, n int) (func(uint16) bool, error) {
	b := make([]byte, n)
	if err := ioctl(f, nr, b); err != nil {
		return nil, err
	}
	// Sets are of the machine's words; with the lowest byte first a word's bytes
	// stand in the order of its bits.
	return func(bit uint16) bool { return int(bit)/8 < len(b) && b[bit/8]>>(bit%8)&1 != 0 }, nil
}

// ioctl reads b by the device's own request of that number.
func ioctl(f *os.File, nr uintptr, b []byte) error {
	const read, kind = 2 << 30, 'E' << 8
	return control(f, func(fd uintptr) error {
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, fd, read|uintptr(len(b))<<16|kind|nr, uintptr(unsafe.Pointer(&b[0]))); e != 0 {
			return e
		}
		return nil
	})
}

func control(f *os.File, do func(fd uintptr) error) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	if err := c.Control(func(fd uintptr) { result = do(fd) }); err != nil {
		return err
	}
	return result
}
