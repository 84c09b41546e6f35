//go:build linux

// Package uevent hears from the Linux kernel that USB devices come and go.
//
// Source: Linux, Documentation/core-api/kobject and lib/kobject_uevent.c: a
// datagram is "action@path", a zero byte, and "KEY=value" ended by zero bytes.
//
// A Watch has one goroutine. It says only that something changed: whoever hears
// it looks again, so that nothing rests on what a message says. Limit: one
// notice waits, however many messages came. Messages reach the network
// namespace of the system's start only, and others as the kernel allows.
package uevent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// maxMessage bounds a message; the kernel's own bound is 2048 bytes.
const maxMessage = 8192

// A Watch is a socket of the kernel's.
type Watch struct {
	f       *os.File
	changes chan struct{}
	done    sync.WaitGroup
}

// Open begins to hear.
func Open() (*Watch, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("uevent: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return nil, errors.Join(fmt.Errorf("uevent: %w", err), unix.Close(fd))
	}
	w := &Watch{f: os.NewFile(uintptr(fd), "uevent"), changes: make(chan struct{}, 1)}
	w.done.Go(w.hear)
	return w, nil
}

// Changes has something when USB devices came or went, or may have.
func (w *Watch) Changes() <-chan struct{} { return w.changes }

// Close ends it.
func (w *Watch) Close() error {
	err := w.f.Close()
	w.done.Wait()
	return err
}

func (w *Watch) hear() {
	b := make([]byte, maxMessage)
	for {
		n, err := w.f.Read(b)
		switch {
		case errors.Is(err, unix.ENOBUFS): // some were lost
		case err != nil:
			return
		case !ofUSB(b[:n]):
			continue
		}
		select {
		case w.changes <- struct{}{}:
		default:
		}
	}
}

// ofUSB reports whether a message is about a USB device or interface.
func ofUSB(b []byte) bool { return bytes.Contains(b, []byte("\x00SUBSYSTEM=usb\x00")) }
