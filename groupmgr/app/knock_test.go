package app

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"hotdesk/groupmgr/engine"
)

func TestRefused(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open := netip.MustParseAddrPort(l.Addr().String())
	shut := netip.AddrPortFrom(open.Addr(), bound(t))
	for _, x := range []struct {
		at   []netip.AddrPort
		want bool
	}{
		{[]netip.AddrPort{shut}, true},
		{[]netip.AddrPort{open}, false},
		{[]netip.AddrPort{shut, open}, false},
		{[]netip.AddrPort{shut, shut}, true},
	} {
		if got := refused(t.Context(), engine.Knock{Host: "h", At: x.at}); got != x.want {
			t.Errorf("%v: %v", x.at, got)
		}
	}
	l.Close()
}

// bound is a port that is taken and at which nobody listens.
func bound(t *testing.T) uint16 {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(at.(*unix.SockaddrInet4).Port)
}
