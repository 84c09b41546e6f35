package rawsock

import (
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An Alarm calls a function at a time, as a timer of package time does, and costs
// less where the process sleeps till then: it is a timer of the kernel's that the
// poller waits for. One of Go's also wakes the scheduler's monitor, which then
// looks about for 10 ms, and the poller up to a millisecond early.
type Alarm struct {
	file *os.File
	rc   syscall.RawConn
	rang func()
}

// NewAlarm returns one that has no time yet.
func NewAlarm(f func()) (*Alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("rawsock: %w", os.NewSyscallError("timerfd_create", err))
	}
	a := &Alarm{file: os.NewFile(uintptr(fd), "alarm"), rang: f}
	if a.rc, err = a.file.SyscallConn(); err != nil {
		a.file.Close()
		return nil, fmt.Errorf("rawsock: %w", err)
	}
	go a.run()
	return a, nil
}

func (a *Alarm) run() {
	var b [8]byte // how often the time came
	errno := unix.Errno(0)
	read := func(fd uintptr) bool {
		_, errno = raw(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&b)), uintptr(len(b)))
		return errno != unix.EAGAIN
	}
	for {
		if a.rc.Read(read) != nil || errno != 0 {
			return
		}
		a.rang()
	}
}

// Reset sets the time, d from now. It does not take back what has begun.
func (a *Alarm) Reset(d time.Duration) {
	t := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(max(d, 1)))}
	_ = a.rc.Control(func(fd uintptr) { // fails after Stop alone
		unix.RawSyscall6(unix.SYS_TIMERFD_SETTIME, fd, 0, uintptr(unsafe.Pointer(&t)), 0, 0, 0)
	})
}

// Stop ends the Alarm. The function may be called once more.
func (a *Alarm) Stop() { a.file.Close() }
