package app

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"hotdesk/protocol/group"
)

// hostMessage is one of a host whose only address is addr.
func hostMessage(addr netip.Addr) []byte {
	return group.Host{Name: "north", Addr: addr, Time: 1, CPUs: 1, Control: 7443, State: group.Online, Boot: 1, Counter: 1,
		Interfaces: []group.Interface{{Name: "lo0", IP: addr, Mask: netip.AddrFrom4([4]byte{255}), Bcast: netip.AddrFrom4([4]byte{127, 255, 255, 255})}}}.Append(nil)
}

// say sends a datagram over loopback.
func say(t *testing.T, from netip.Addr, to net.IP, port int, data []byte) {
	t.Helper()
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1) })
	if to.IsMulticast() {
		lo, failed := net.InterfaceByName("lo")
		err = failed
		if err == nil {
			err = ipv4.NewPacketConn(c).SetMulticastInterface(lo)
		}
	}
	if err == nil {
		_, err = c.WriteToUDP(data, &net.UDPAddr{IP: to, Port: port})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestHearsHosts: a host that broadcasts is known, or one that multicasts; one
// that somebody else speaks of is not.
func TestHearsHosts(t *testing.T) {
	for name, to := range map[string]net.IP{"broadcast": net.IPv4(127, 255, 255, 255), "multicast": net.IPv4(239, 255, 70, 9)} {
		t.Run(name, func(t *testing.T) { testHearsHosts(t, to) })
	}
}

func testHearsHosts(t *testing.T, to net.IP) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() // so that nobody else gets the port
	port := c.LocalAddr().(*net.UDPAddr).Port
	g, m := newGateway(t), newMediaEnd(t)
	b := start(t, func(c *Config) {
		c.Servers, c.Authority, c.GroupPort = []netip.AddrPort{g.addr}, g.file, port
		if a, _ := netip.AddrFromSlice(to.To4()); a.IsMulticast() {
			c.Multicast = a
		}
	})
	l := g.accept()
	l.send(m.allow(l.presented(), "", red))
	m.next()
	b.ctl("wait", "picture")
	x, y, z := netip.MustParseAddr("127.0.0.8"), netip.MustParseAddr("127.0.0.9"), netip.MustParseAddr("127.0.0.10")
	for code, until := 1, time.Now().Add(patience); code != 0; { // until the terminal listens
		if time.Now().After(until) {
			t.Fatal("the host is not known")
		}
		say(t, x, to, port, hostMessage(y))
		say(t, x, to, port, []byte("nonsense"))
		say(t, z, to, port, hostMessage(z))
		_, _, code = b.try("wait", "-timeout", "100ms", "known=2")
	}
	if s := b.status(); s.Known != 2 {
		t.Errorf("%d servers are known", s.Known)
	}
}
