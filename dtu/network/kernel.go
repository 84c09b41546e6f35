package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"hotdesk/dtu/bootstrap"
)

// minMTU is the least that IPv4 hosts must take (RFC 791).
const minMTU = 576

// A kernel is the interface as the kernel has it. Only changed may be used by
// another goroutine than that of the calls.
type kernel struct {
	name    string
	index   int
	set4    *netlink.Addr // the address that was set, nil: none
	mtu     int           // as it was before it was lowered, 0: it was not
	changed chan struct{} // has something when the link or its addresses changed

	done chan struct{}
	wg   sync.WaitGroup
}

func openKernel(name string, configure bool) (*kernel, error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("network: interface %s: %w", name, err)
	}
	if configure {
		if err := netlink.LinkSetUp(l); err != nil {
			return nil, fmt.Errorf("network: switching %s on: %w; configuring needs the rights of root", name, err)
		}
	}
	k := &kernel{name: name, index: l.Attrs().Index, changed: make(chan struct{}, 1), done: make(chan struct{})}
	links, addrs := make(chan netlink.LinkUpdate), make(chan netlink.AddrUpdate)
	if err := netlink.LinkSubscribe(links, k.done); err != nil {
		return nil, fmt.Errorf("network: watching %s: %w", name, err)
	}
	k.wg.Go(func() { // ends when the subscription does
		for u := range links {
			k.note(int(u.Index))
		}
	})
	if err := netlink.AddrSubscribe(addrs, k.done); err != nil {
		k.close()
		return nil, fmt.Errorf("network: watching %s: %w", name, err)
	}
	k.wg.Go(func() {
		for u := range addrs {
			k.note(u.LinkIndex)
		}
	})
	return k, nil
}

func (k *kernel) close() {
	close(k.done)
	k.wg.Wait()
}

func (k *kernel) note(index int) {
	if index == k.index {
		select {
		case k.changed <- struct{}{}:
		default:
		}
	}
}

// look reads whether the link is up, and the interface's first IPv4 address.
func (k *kernel) look() (up bool, own netip.Addr) {
	l, err := netlink.LinkByIndex(k.index)
	if err != nil {
		return false, netip.Addr{}
	}
	a := l.Attrs()
	up = a.Flags&net.FlagUp != 0 && a.Flags&net.FlagRunning != 0
	list, err := netlink.AddrList(l, netlink.FAMILY_V4)
	if err != nil || len(list) == 0 {
		return up, netip.Addr{}
	}
	return up, address(list[0].IP)
}

// set gives the interface the lease's address, its default route and a lower
// MTU.
func (k *kernel) set(l bootstrap.Lease) error {
	link, err := netlink.LinkByIndex(k.index)
	if err != nil {
		return err
	}
	bits := l.Bits
	if bits == 0 {
		bits = natural(l.Addr)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: l.Addr.AsSlice(), Mask: net.CIDRMask(bits, 32)}}
	if k.set4 != nil && !k.set4.Equal(*addr) {
		k.unset()
	}
	if err := netlink.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("network: address %v on %s: %w", addr.IPNet, k.name, err)
	}
	k.set4 = addr
	if len(l.Routers) > 0 {
		// With its source named, the route goes when the address does.
		r := &netlink.Route{LinkIndex: k.index, Gw: l.Routers[0].AsSlice(), Src: l.Addr.AsSlice(), Protocol: unix.RTPROT_DHCP}
		if err := netlink.RouteReplace(r); err != nil {
			return fmt.Errorf("network: route by %v: %w", l.Routers[0], err)
		}
	}
	if now := link.Attrs().MTU; l.MTU >= minMTU && l.MTU < now {
		if err := netlink.LinkSetMTU(link, l.MTU); err != nil {
			return fmt.Errorf("network: MTU of %d: %w", l.MTU, err)
		}
		if k.mtu == 0 {
			k.mtu = now
		}
	}
	return nil
}

// natural is the mask that an address had before there were masks, for leases
// without one.
func natural(a netip.Addr) int {
	switch b := a.As4()[0]; {
	case b < 128:
		return 8
	case b < 192:
		return 16
	}
	return 24
}

// unset takes away what set gave.
func (k *kernel) unset() {
	link, err := netlink.LinkByIndex(k.index)
	if err != nil || k.set4 == nil {
		return
	}
	netlink.AddrDel(link, k.set4) // where it is gone already there is nothing to do
	k.set4 = nil
	if k.mtu != 0 {
		netlink.LinkSetMTU(link, k.mtu)
		k.mtu = 0
	}
}

// filter lets UDP packets to the DHCP client's port pass, and nothing else, so
// that the pixels of a session wake nobody here.
var filter = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 9, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 6},
	bpf.LoadAbsolute{Off: 6, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x3fff, SkipTrue: 4}, // a fragment
	bpf.LoadMemShift{Off: 0},
	bpf.LoadIndirect{Off: 2, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nclient4.ClientPort, SkipTrue: 1},
	bpf.RetConstant{Val: 1 << 16},
	bpf.RetConstant{Val: 0},
}

// listen opens the packet socket. Where the terminal is called other than the
// interface, answers may come to that name.
func listen(name string, others bool) (net.PacketConn, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("network: interface %s: %w", name, err)
	}
	code, err := bpf.Assemble(filter)
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	raw, err := packet.Listen(i, packet.Datagram, unix.ETH_P_IP, &packet.Config{Filter: code})
	if err != nil {
		return nil, fmt.Errorf("network: packet socket on %s: %w; it needs the rights of root, or CAP_NET_RAW", name, err)
	}
	if others {
		if err := raw.SetPromiscuous(true); err != nil {
			raw.Close()
			return nil, fmt.Errorf("network: packet socket on %s: %w", name, err)
		}
	}
	return nclient4.NewBroadcastUDPConn(raw, &net.UDPAddr{Port: nclient4.ClientPort}), nil
}

// unicast opens a socket from which renewals are sent.
func unicast(name string, from netip.Addr) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) {
			set = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.BindToDevice(int(fd), name))
		})
		return errors.Join(err, set)
	}}
	c, err := lc.ListenPacket(context.Background(), "udp4", netip.AddrPortFrom(from, nclient4.ClientPort).String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }
