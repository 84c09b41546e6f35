package netlab

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Tap plugs a cable into a subnet, 1 the first, whose other end is the file: a
// TAP device for a virtual computer. The cable is gone when the file, and every
// copy of it, is closed.
func (n *Net) Tap(ctx context.Context, subnet int, name string) (*os.File, error) {
	plug := "t-" + name
	if name == "" || len(plug) > unix.IFNAMSIZ-1 {
		return nil, fmt.Errorf("netlab: %q cannot be a cable's name", name)
	}
	var f *os.File
	err := within(n.router, func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("netlab: /dev/net/tun: %w", err)
		}
		f = os.NewFile(uintptr(fd), plug)
		ifr, err := unix.NewIfreq(plug)
		if err != nil {
			return err
		}
		ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	})
	if err == nil {
		err = batch(ctx, n.router, fmt.Sprintf("link set %s master br%d\nlink set %s up\n", plug, subnet, plug))
	}
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, fmt.Errorf("netlab: cable %s: %w", name, err)
	}
	return f, nil
}
