package app

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"hotdesk/protocol/group"
)

// An asker broadcasts serverQ from a socket of its own and hears the answers.
type asker struct {
	conn  *net.UDPConn
	local bool
	port  uint16
}

// newAsker opens the socket. Answers go to post as group.ServerR.
func newAsker(ctx context.Context, wg *sync.WaitGroup, local bool, port int, post func(any)) (*asker, error) {
	own := netip.IPv4Unspecified()
	if local {
		own = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(own, 0)))
	if err != nil {
		return nil, err
	}
	a := &asker{conn: conn, local: local, port: uint16(port)}
	wg.Go(func() {
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		buf := make([]byte, group.MaxPacket+1)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if ctx.Err() != nil {
				return
			}
			if err != nil || local && !from.Addr().Unmap().IsLoopback() {
				continue // an ICMP error of an earlier question, or not of this machine
			}
			if r, err := group.ParseServerR(buf[:n]); err == nil {
				post(r)
			}
		}
	})
	return a, nil
}

// ask broadcasts q to every network. An error means that it went nowhere.
func (a *asker) ask(q group.ServerQ) error {
	packet := q.Append(nil)
	sent := 0
	var last error
	for _, to := range broadcasts(a.local) {
		if _, err := a.conn.WriteToUDPAddrPort(packet, netip.AddrPortFrom(to, a.port)); err != nil {
			last = err
			continue
		}
		sent++
	}
	switch {
	case sent > 0:
		return nil
	case last != nil:
		return last
	}
	return fmt.Errorf("no network interface is up")
}

// broadcasts returns the broadcast addresses of the networks we are on.
func broadcasts(local bool) []netip.Addr {
	if local {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 255, 255, 255})}
	}
	var all []netip.Addr
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagBroadcast == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away
		}
		for _, addr := range addrs {
			n, ok := addr.(*net.IPNet)
			if !ok || n.IP.To4() == nil || len(n.Mask) != net.IPv4len {
				continue
			}
			var b [4]byte
			for k := range b {
				b[k] = n.IP.To4()[k] | ^n.Mask[k]
			}
			all = append(all, netip.AddrFrom4(b))
		}
	}
	return all
}
