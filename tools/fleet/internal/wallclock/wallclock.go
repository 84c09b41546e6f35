// Package wallclock sets the clock that running programs read, and nobody
// else's: what time.Now tells them, while they measure time as before. That is
// what happens on a machine whose clock is set.
//
// Source: vdso(7), proc_pid_mem(5), clock_gettime(2). A Go program reads its
// clock at one place, a function that the kernel maps into every process. Set
// writes another one there, into that process's own copy of the page, so that
// the program is the real one and knows nothing of it.
//
// Invariants:
//  1. Nothing but CLOCK_REALTIME changes, by whole seconds.
//  2. No thread is within what is written over: the process is stopped, and its
//     threads are looked at. What was written stays, with the true time.
//  3. What a process starts has the true clock, until it is set too.
//
// Needs root, or the same user and a process that may be traced. Limits: amd64;
// programs in C have the time of day at other places as well.
package wallclock

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// function is what Go programs read their clock by.
const function = "__vdso_clock_gettime"

const (
	// tries is how often a process is stopped till no thread is within the
	// function: that takes some nanoseconds.
	tries = 50
	// stopWithin is how long a process may take to stop.
	stopWithin = time.Second
)

// place is where in the kernel's page the function is: the same in every
// process.
var place = sync.OnceValues(func() (uint64, error) {
	if runtime.GOARCH != "amd64" {
		return 0, fmt.Errorf("wallclock: not for %s", runtime.GOARCH)
	}
	from, to, err := mapped("self")
	if err != nil {
		return 0, err
	}
	all := make([]byte, to-from)
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		return 0, fmt.Errorf("wallclock: %w", err)
	}
	defer mem.Close()
	if _, err := mem.ReadAt(all, int64(from)); err != nil {
		return 0, fmt.Errorf("wallclock: %w", err)
	}
	file, err := elf.NewFile(bytes.NewReader(all))
	if err != nil {
		return 0, fmt.Errorf("wallclock: the kernel's page: %w", err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return 0, fmt.Errorf("wallclock: the kernel's page: %w", err)
	}
	size := uint64(len(later(0)))
	for _, s := range symbols {
		if s.Name == function && s.Size >= size && s.Value+size <= uint64(len(all)) {
			return s.Value, nil
		}
	}
	return 0, fmt.Errorf("wallclock: this kernel has no %s", function)
})

// later is the function for a clock that is ahead by so many seconds.
func later(seconds int64) []byte {
	code := []byte{
		0xb8, 0xe4, 0, 0, 0, // mov $228, %eax    clock_gettime
		0x0f, 0x05, // syscall
		0x85, 0xff, // test %edi, %edi           CLOCK_REALTIME is 0
		0x75, 13, // jne to ret
		0x48, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0, // mov $seconds, %rcx
		0x48, 0x01, 0x0e, // add %rcx, (%rsi)
		0xc3, // ret
	}
	binary.LittleEndian.PutUint64(code[ahead:], uint64(seconds))
	return code
}

// ahead is where in that the seconds are.
const ahead = 13

// Possible says why clocks cannot be set here, nil if they can.
func Possible() error {
	_, err := place()
	return err
}

// Set sets the clocks of processes to the true time and by. Processes that have
// ended are passed over; it returns how many are set.
func Set(by time.Duration, pids ...int) (set int, err error) {
	in, err := place()
	if err != nil {
		return 0, err
	}
	text := later(int64(by / time.Second))
	var errs []error
	for _, pid := range pids {
		err := write(pid, in, text)
		for range tries {
			if !errors.Is(err, errGone) {
				break
			}
			err = write(pid, in, text)
		}
		switch {
		case err == nil:
			set++
		case !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ESRCH):
			errs = append(errs, fmt.Errorf("wallclock: process %d: %w", pid, err))
		}
	}
	return set, errors.Join(errs...)
}

// errGone is returned where the memory of a process was let go while it was
// looked at: it ended, or is another program now.
var errGone = errors.New("its memory has gone")

// write puts text in the place of the function.
func write(pid int, in uint64, text []byte) (err error) {
	defer func() {
		// proc_pid_mem(5) has no word of it: of memory that is gone nothing is read
		// or written, without an error of the kernel's. EIO is a page that is
		// elsewhere since.
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EIO) {
			err = errGone
		}
	}()
	from, _, err := mapped(strconv.Itoa(pid))
	if err != nil {
		return err
	}
	at := from + in
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	is := make([]byte, len(text))
	if _, err := mem.ReadAt(is, int64(at)); err != nil {
		return err
	}
	// Where it has been set before only the seconds are others, which are one
	// instruction's: no thread is between its bytes.
	again := bytes.Equal(is[:ahead], text[:ahead])
	for range tries {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return err
		}
		free, err := outside(pid, at, at+uint64(len(text)))
		switch {
		case err != nil:
		case again:
			free = true
			_, err = mem.WriteAt(text[ahead:ahead+8], int64(at)+ahead)
		case free:
			_, err = mem.WriteAt(text, int64(at))
		}
		if cont := syscall.Kill(pid, syscall.SIGCONT); err == nil {
			err = cont
		}
		if err != nil || free {
			return err
		}
	}
	return errors.New("it reads its clock all the time")
}

// outside waits till all threads of a process have stopped, and says whether
// none of them is at an address from there to there.
func outside(pid int, from, to uint64) (bool, error) {
	end := time.NewTimer(stopWithin)
	defer end.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
		if err != nil {
			return false, err
		}
		if len(files) == 0 {
			return false, os.ErrNotExist
		}
		running, free := false, true
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				continue // the thread has ended
			}
			words := strings.Fields(string(text))
			if len(words) < 2 { // "running"
				running = true
				continue
			}
			pc, err := strconv.ParseUint(words[len(words)-1], 0, 64)
			if err != nil {
				return false, err
			}
			free = free && (pc < from || pc >= to)
		}
		if !running {
			return free, nil
		}
		select {
		case <-tick.C:
		case <-end.C:
			return false, errors.New("it does not stop")
		}
	}
}

// mapped tells where the kernel's page is in a process.
func mapped(pid string) (from, to uint64, err error) {
	text, err := os.ReadFile("/proc/" + pid + "/maps")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasSuffix(line, "[vdso]\n") {
			_, err := fmt.Sscanf(line, "%x-%x", &from, &to)
			return from, to, err
		}
	}
	return 0, 0, fmt.Errorf("process %s: %w", pid, os.ErrNotExist) // it has ended, and is not waited for yet
}
