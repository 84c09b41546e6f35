// Package boot is what a terminal's program does when it is all the software
// that there is: process 1 of a machine that has just been switched on.
//
// Source: Linux's Documentation/filesystems/ramfs-rootfs-initramfs.rst, mount(2),
// finit_module(2), reboot(2), wait(2), console_ioctl(4). The initramfs has the
// folder Modules with kernel modules and the file Order with their names, one a
// line, in the order in which they can be loaded. The program's flags stand
// after two dashes at the end of the kernel's command line:
//
//	console=tty0 -- -display fb -readers usbfs -dhcp eth0 -dhcp-configure
//	-authority /etc/authority.pem
//
// Invariants:
//  1. A module that cannot be loaded is told and passed over: a terminal
//     without its sound card is better than none.
//  2. Every child is reaped, as those that lose their parent become ours: the
//     program must not start processes of its own whose end it waits for.
//  3. The clock only ever moves forward, to when the program was made. What
//     keeps better time is not asked for it.
//
// Limits: maxOrder bytes of the file Order.
package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// Modules is the folder with the kernel's modules.
	Modules = "/modules"
	// Order is the file with their names.
	Order = Modules + "/order"

	maxOrder = 64 << 10
)

// mounts are what programs expect to find.
var mounts = []struct {
	kind, at, data string
	flags          uintptr
}{
	{"proc", "/proc", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"sysfs", "/sys", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"devtmpfs", "/dev", "mode=0755", unix.MS_NOSUID},
	{"tmpfs", "/run", "mode=0755", unix.MS_NOSUID | unix.MS_NODEV},
	{"tmpfs", "/tmp", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV},
}

// Mount mounts the kernel's file systems and empty ones for /run and /tmp. What
// is mounted already stays as it is.
func Mount() error {
	var errs []error
	for _, m := range mounts {
		err := os.MkdirAll(m.at, 0o755)
		if err == nil {
			err = unix.Mount(m.kind, m.at, m.kind, m.flags, m.data)
		}
		if err != nil && !errors.Is(err, unix.EBUSY) {
			errs = append(errs, fmt.Errorf("boot: mount %s: %w", m.at, err))
		}
	}
	return errors.Join(errs...)
}

// LoadModules loads what stands in Order and returns how many were loaded; the
// error joins those of the rest. No such file is no error.
func LoadModules() (int, error) {
	return loadModules(Modules, Order, func(f *os.File) error { return unix.FinitModule(int(f.Fd()), "", 0) })
}

func loadModules(dir, order string, load func(*os.File) error) (n int, err error) {
	names, err := readOrder(order)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, name := range names {
		f, err := os.Open(filepath.Join(dir, name))
		if err == nil {
			err = load(f)
			f.Close()
		}
		switch {
		case errors.Is(err, unix.EEXIST): // it was there before
		case err != nil:
			errs = append(errs, fmt.Errorf("boot: module %s: %w", name, err))
		default:
			n++
		}
	}
	return n, errors.Join(errs...)
}

func readOrder(file string) ([]string, error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("boot: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxOrder+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("boot: %w", err)
	case len(text) > maxOrder:
		return nil, fmt.Errorf("boot: %s: more than %d bytes", file, maxOrder)
	}
	names := strings.Fields(string(bytes.TrimSpace(text)))
	for _, n := range names {
		if n != filepath.Base(n) {
			return nil, fmt.Errorf("boot: %s: %q is not the name of a file", file, n)
		}
	}
	return names, nil
}
