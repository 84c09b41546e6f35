package rawsock

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// directly is how long a Direct sleeps in the kernel while it keeps others from
// running: many times what an answer takes of a program that has nothing else to
// do.
const directly = 4 * time.Millisecond

// A Direct is a connected stream socket to a program that answers at once. Who
// reads sleeps in the kernel till the answer is there, and where the process has
// one core nobody else runs meanwhile: one call in the place of two ways through
// the scheduler and its poller. What is not there after a moment is waited for
// while others run.
//
// Read and Write may be called at the same time, and Close at any.
type Direct struct {
	mu     sync.Mutex
	fd     int
	users  int // calls that use fd
	closed bool
}

// NewDirect makes one of c, which it closes.
func NewDirect(c net.Conn) (*Direct, error) {
	defer c.Close()
	rc := rawConn(c)
	if rc == nil {
		return nil, fmt.Errorf("rawsock: a %T is no socket", c)
	}
	d := new(Direct)
	var err error
	if cerr := rc.Control(func(fd uintptr) {
		d.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) // which the poller does not know
	}); cerr != nil {
		return nil, fmt.Errorf("rawsock: %w", cerr)
	}
	if err != nil {
		return nil, fmt.Errorf("rawsock: %w", os.NewSyscallError("fcntl", err))
	}
	if err := d.setUp(); err != nil {
		d.Close()
		return nil, fmt.Errorf("rawsock: %w", err)
	}
	return d, nil
}

func (d *Direct) setUp() error {
	if err := unix.SetNonblock(d.fd, false); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	t := unix.NsecToTimeval(int64(directly))
	for _, which := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(d.fd, unix.SOL_SOCKET, which, &t); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

// Read waits for something to read.
func (d *Direct) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, err := d.call("read", unix.SYS_READ, unix.POLLIN, b)
	read()
	if err == nil && n == 0 {
		err = io.EOF
	}
	return n, err
}

// Write writes all of b.
func (d *Direct) Write(b []byte) (done int, err error) {
	written()
	for done < len(b) {
		n, err := d.call("write", unix.SYS_WRITE, unix.POLLOUT, b[done:])
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

// call reads or writes once.
func (d *Direct) call(name string, call uintptr, event int16, b []byte) (int, error) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return 0, net.ErrClosed
	}
	d.users++
	d.mu.Unlock()
	defer d.leave()
	for {
		n, _, errno := unix.RawSyscall(call, uintptr(d.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EAGAIN, unix.EINTR:
			// It takes its time, or the runtime wants to stop this thread, as for the
			// garbage collector, and may have stopped all others: now it is told.
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(d.fd), Events: event}}, -1); err != nil && err != unix.EINTR {
				return 0, os.NewSyscallError("poll", err)
			}
		default:
			return 0, os.NewSyscallError(name, errno)
		}
	}
}

func (d *Direct) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.users--; d.closed && d.users == 0 {
		unix.Close(d.fd)
	}
}

// Close ends the connection, and calls that are under way.
func (d *Direct) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return net.ErrClosed
	}
	d.closed = true
	unix.Shutdown(d.fd, unix.SHUT_RDWR) // wakes them
	if d.users == 0 {
		unix.Close(d.fd)
	}
	return nil
}
