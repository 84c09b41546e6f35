package app

import (
	"net"
	"net/netip"
	"os"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// A choir is the socket at which host messages to the group's multicast address
// are heard: of this network's hosts, and of routed networks where routers
// carry them.
type choir struct {
	conn *net.UDPConn
	at   *ipv4.PacketConn
	to   *net.UDPAddr
}

func newChoir(group netip.AddrPort) (*choir, error) {
	// Package net would bind to every address, and take away from a group
	// manager on this machine what is said to that alone.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "multicast")
	defer file.Close() // conn has its own
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(group.Port()), Addr: group.Addr().As4()}); err != nil {
		return nil, err
	}
	conn, err := net.FilePacketConn(file)
	if err != nil {
		return nil, err
	}
	return &choir{conn.(*net.UDPConn), ipv4.NewPacketConn(conn), net.UDPAddrFromAddrPort(group)}, nil
}

// join hears the address on every interface that there is now. Where it is
// heard already nothing changes, and one that cannot is passed over: there are
// other ways to hear of hosts.
func (c *choir) join(local bool) {
	all, err := net.Interfaces()
	if err != nil {
		return
	}
	joined := 0
	for _, i := range all {
		if joined == maxEars {
			return
		}
		if i.Flags&net.FlagUp != 0 && (i.Flags&net.FlagLoopback != 0) == local {
			_ = c.at.JoinGroup(&i, c.to)
			joined++
		}
	}
}
