//go:build linux

package usbfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"hotdesk/smartcard/ccid"
	"hotdesk/smartcard/reader/driver"
)

// Types of transfers (struct usbdevfs_urb).
const (
	urbInterrupt = 1
	urbControl   = 2
	urbBulk      = 3
)

// urb is struct usbdevfs_urb, without the list of isochronous packets.
type urb struct {
	kind, endpoint byte
	status         int32
	flags          uint32
	buffer         *byte
	length, actual int32
	_              int32 // start_frame
	_              int32 // number_of_packets
	_              int32 // error_count
	_              uint32
	context        uintptr
}

// Requests (usbdevice_fs.h), for a machine of this word size.
var (
	ioRelease    = read_(16, 4)
	ioSubmit     = read_(10, unsafe.Sizeof(urb{}))
	ioDiscard    = none(11)
	ioReapNow    = write(13, unsafe.Sizeof(uintptr(0)))
	ioReset      = none(20)
	ioClearHalt  = read_(21, 4)
	ioDisconnect = read_(27, unsafe.Sizeof(disconnect{})) // USBDEVFS_DISCONNECT_CLAIM
)

func none(n uintptr) uintptr        { return 'U'<<8 | n }
func write(n, size uintptr) uintptr { return 1<<30 | size<<16 | 'U'<<8 | n }
func read_(n, size uintptr) uintptr { return 2<<30 | size<<16 | 'U'<<8 | n }
func ioctl(fd, request uintptr, p unsafe.Pointer) error {
	_, _, e := unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(p))
	if e != 0 {
		return e
	}
	return nil
}

// disconnect is struct usbdevfs_disconnect_claim.
type disconnect struct {
	number, flags uint32
	driver        [256]byte
}

// device is one claimed interface.
type device struct {
	f    *os.File
	conn syscall.RawConn
	i    ccid.Interface

	mu   sync.Mutex
	out  map[*urb]*transfer // that the kernel has
	gone bool
	done chan struct{} // closed when nothing is reaped any more
}

// transfer is a urb with its buffer; the kernel has the addresses of both
// until it is reaped.
type transfer struct {
	urb   urb
	b     []byte
	pin   runtime.Pinner
	ended chan struct{}
}

func openDevice(path string, i ccid.Interface) (*device, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	d := &device{f: os.NewFile(uintptr(fd), path), i: i, out: map[*urb]*transfer{}, done: make(chan struct{})}
	if d.conn, err = d.f.SyscallConn(); err != nil {
		return nil, errors.Join(err, d.f.Close())
	}
	claim := disconnect{number: uint32(i.Number), flags: 2} // but not from another program of this kind
	copy(claim.driver[:], "usbfs")
	if err := d.control(ioDisconnect, unsafe.Pointer(&claim)); err != nil {
		if errors.Is(err, unix.EBUSY) {
			err = fmt.Errorf("another program holds the reader: %w", err)
		}
		return nil, errors.Join(err, d.f.Close())
	}
	go d.reap()
	return d, nil
}

// control makes a request that the kernel answers at once.
func (d *device) control(request uintptr, p unsafe.Pointer) error {
	var err error
	if e := d.conn.Control(func(fd uintptr) { err = ioctl(fd, request, p) }); e != nil {
		return e
	}
	return err
}

// reap takes ended transfers back until the device is gone or closed. The
// kernel says "writable" when one has ended.
func (d *device) reap() {
	defer close(d.done)
	for {
		var p *urb
		var err error
		if e := d.conn.Write(func(fd uintptr) bool {
			err = ioctl(fd, ioReapNow, unsafe.Pointer(&p))
			return !errors.Is(err, unix.EAGAIN)
		}); e != nil {
			err = e
		}
		d.mu.Lock()
		if err != nil && !errors.Is(err, unix.EINTR) {
			// Unplugged, or closed: the kernel has given all buffers up.
			d.gone = true
			for u, t := range d.out {
				u.status = -int32(unix.ENODEV)
				d.end(u, t)
			}
			d.mu.Unlock()
			return
		}
		if t := d.out[p]; t != nil {
			d.end(p, t)
		}
		d.mu.Unlock()
	}
}

// end hands a transfer back. d.mu is held.
func (d *device) end(u *urb, t *transfer) {
	delete(d.out, u)
	t.pin.Unpin()
	close(t.ended)
}

// transfer has one transfer. When ctx ends it is taken back; what came before
// is lost.
func (d *device) transfer(ctx context.Context, kind, endpoint byte, b []byte) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	t := &transfer{b: b, ended: make(chan struct{})}
	t.urb = urb{kind: kind, endpoint: endpoint, length: int32(len(b))}
	t.urb.buffer = unsafe.SliceData(b)
	t.pin.Pin(&t.urb)
	t.pin.Pin(t.urb.buffer)
	d.mu.Lock()
	err := error(unix.ENODEV)
	if !d.gone {
		d.out[&t.urb] = t
		if err = d.control(ioSubmit, unsafe.Pointer(&t.urb)); err != nil {
			delete(d.out, &t.urb)
		}
	}
	d.mu.Unlock()
	if err != nil {
		t.pin.Unpin()
		return 0, explain(err)
	}
	select {
	case <-t.ended:
	case <-ctx.Done():
		// It may have ended meanwhile; then there is nothing to take back.
		_ = d.control(ioDiscard, unsafe.Pointer(&t.urb))
		<-t.ended
		if t.urb.status != 0 {
			return 0, ctx.Err()
		}
	}
	if t.urb.status != 0 {
		return 0, explain(unix.Errno(-t.urb.status))
	}
	return int(t.urb.actual), nil
}

// explain maps the kernel's errors to those of driver.Pipes.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPIPE):
		return driver.ErrStall
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ESHUTDOWN), errors.Is(err, os.ErrClosed),
		errors.Is(err, unix.EPROTO), errors.Is(err, unix.EILSEQ), errors.Is(err, unix.ETIME),
		errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNRESET):
		// From the second line on it is what transfers get between the pull and its
		// discovery: the first of it from EHCI and xHCI, the others from UHCI and OHCI
		// (Linux, Documentation/driver-api/usb/error-codes.rst).
		return fmt.Errorf("%w (%w)", driver.ErrGone, err)
	}
	return fmt.Errorf("usbfs: %w", err)
}

// Out implements driver.Pipes.
func (d *device) Out(ctx context.Context, b []byte) error {
	n, err := d.transfer(ctx, urbBulk, d.i.Out.Address, b)
	if err == nil && n != len(b) {
		err = fmt.Errorf("usbfs: %d of %d bytes sent", n, len(b))
	}
	return err
}

// In implements driver.Pipes.
func (d *device) In(ctx context.Context, b []byte) (int, error) {
	return d.transfer(ctx, urbBulk, d.i.In.Address, b)
}

// Notify implements driver.Pipes.
func (d *device) Notify(ctx context.Context, b []byte) (int, error) {
	return d.transfer(ctx, urbInterrupt, d.i.Notify.Address, b)
}

// Control implements driver.Pipes.
func (d *device) Control(ctx context.Context, request byte, value uint16) error {
	const toInterface = 0x21 // class request, out
	_, err := d.transfer(ctx, urbControl, 0, []byte{toInterface, request, byte(value), byte(value >> 8), d.i.Number, 0, 0, 0})
	return err
}

// ClearHalt implements driver.Pipes.
func (d *device) ClearHalt() error {
	for _, e := range []byte{d.i.In.Address, d.i.Out.Address} {
		n := uint32(e)
		if err := d.control(ioClearHalt, unsafe.Pointer(&n)); err != nil {
			return explain(err)
		}
	}
	return nil
}

// Reset implements driver.Pipes.
func (d *device) Reset() error {
	if err := d.control(ioReset, nil); err != nil {
		return explain(err)
	}
	return nil
}

// Close lets the interface go. Transfers that run end.
func (d *device) Close() error {
	n := uint32(d.i.Number)
	err := d.control(ioRelease, unsafe.Pointer(&n))
	if errors.Is(err, unix.ENODEV) {
		err = nil // it is unplugged
	}
	// The file's own deadline ends the reaper: a close would wait for it.
	err = errors.Join(err, d.f.SetDeadline(time.Unix(1, 0)))
	<-d.done
	return errors.Join(err, d.f.Close())
}
