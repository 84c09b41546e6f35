package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"hotdesk/groupmgr/engine"
	"hotdesk/protocol/group"
)

// loopbackBroadcast reaches every wildcard socket on the port that shares it,
// and no other: not one bound to an address of its own.
var loopbackBroadcast = netip.AddrFrom4([4]byte{127, 255, 255, 255})

const receiveBuffer = 4 << 20

// groupSocket is how the group is heard and spoken to. On a network it is one
// wildcard socket. In local mode, where one machine plays several hosts, the
// wildcard socket is shared by all of them and hears broadcasts only, and own,
// bound to 127.0.0.N, hears what is for this host and says everything.
type groupSocket struct {
	shared *net.UDPConn
	own    *net.UDPConn // nil outside local mode
	lock   net.Listener // holds 127.0.0.N for us: sockets that share a port would share it too
	out    *ipv4.PacketConn
	addr   netip.Addr // 127.0.0.N, zero outside local mode
	port   int

	multicast netip.Addr // zero: none
}

// listenGroup takes addr. Where that is invalid, in local mode, it is one that
// is free: former, if it can be.
func listenGroup(localMode bool, addr, former netip.Addr, port int, multicast netip.Addr, ttl int) (*groupSocket, error) {
	s := &groupSocket{multicast: multicast}
	var err error
	if port == 0 {
		if port, err = freePort(); err != nil {
			return nil, err
		}
	}
	if s.shared, err = listenUDP(fmt.Sprintf(":%d", port), localMode); err != nil {
		return nil, fmt.Errorf("groupmgr: group port %d: %w; another program has it, choose one by -port", port, err)
	}
	s.port = s.shared.LocalAddr().(*net.UDPAddr).Port
	s.out = ipv4.NewPacketConn(s.shared)
	if err := s.out.SetControlMessage(ipv4.FlagDst, true); err != nil {
		s.Close()
		return nil, fmt.Errorf("groupmgr: packet info: %w", err)
	}
	if localMode {
		if err := s.listenOwn(addr, former); err != nil {
			s.Close()
			return nil, err
		}
		s.out = ipv4.NewPacketConn(s.own)
	}
	if err := s.out.SetMulticastTTL(ttl); err != nil {
		s.Close()
		return nil, fmt.Errorf("groupmgr: -multicast-ttl: %w", err)
	}
	return s, nil
}

// freePort finds a port that nobody has. Asked for a socket that shares its
// port, the kernel might choose one that others share.
func freePort() (int, error) {
	probe, err := net.ListenUDP("udp4", &net.UDPAddr{})
	if err != nil {
		return 0, fmt.Errorf("groupmgr: no free port: %w", err)
	}
	defer probe.Close()
	return probe.LocalAddr().(*net.UDPAddr).Port, nil
}

// join makes the socket hear the multicast group on each interface; on those
// where it does already nothing changes.
func (s *groupSocket) join(list []group.Interface, log *slog.Logger) {
	if !s.multicast.IsValid() {
		return
	}
	in := ipv4.NewPacketConn(s.shared)
	for _, i := range list {
		name := i.Name
		if s.own != nil {
			name = "lo"
		}
		link, err := net.InterfaceByName(name)
		if err == nil {
			err = in.JoinGroup(link, &net.UDPAddr{IP: s.multicast.AsSlice()})
		}
		if err != nil && !errors.Is(err, unix.EADDRINUSE) {
			log.Warn("multicast group not joined", "interface", name, "error", err)
		}
	}
}

// listenOwn takes addr, or the first free address from former or a random one
// on.
func (s *groupSocket) listenOwn(addr, former netip.Addr) error {
	const lowest, count = 2, 253 // 127.0.0.1 is everybody's
	var first [1]byte
	rand.Read(first[:])
	if f := former.AsSlice(); former.Is4() && f[0] == 127 && f[1] == 0 && f[2] == 0 && f[3] >= lowest && f[3] < lowest+count {
		first[0] = f[3] - lowest
	}
	var last error
	for i := range count {
		try := addr
		if !addr.IsValid() {
			try = netip.AddrFrom4([4]byte{127, 0, 0, byte(lowest + (int(first[0])+i)%count)})
		}
		// An abstract socket is the lock: it vanishes with its process.
		lock, err := net.Listen("unix", fmt.Sprintf("@hotdesk-group-%v-%d", try, s.port))
		if err == nil {
			own, err := listenUDP(fmt.Sprintf("%v:%d", try, s.port), true)
			if err == nil {
				s.lock, s.own, s.addr = lock, own, try
				return nil
			}
			lock.Close()
			last = err
		} else {
			last = err
		}
		if addr.IsValid() {
			return fmt.Errorf("groupmgr: address %v port %d: %w; is another group manager running there?", addr, s.port, last)
		}
	}
	return fmt.Errorf("groupmgr: no free address of 127.0.0.2 to 127.0.0.254: %w", last)
}

func listenUDP(addr string, localMode bool) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) {
			err = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
				// Only groups that this socket joined, not those of other programs.
				unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_MULTICAST_ALL, 0))
			// Room for the answers of a thousand hosts at once; beyond the
			// system's bound where we may.
			if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
			}
			if localMode {
				// Allowed to everybody since Linux 5.7; where it is not, the
				// check of each source does.
				_ = unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "lo")
			}
		})
		return errors.Join(cerr, err)
	}}
	conn, err := lc.ListenPacket(context.Background(), "udp4", addr)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// receive hands over datagrams until the sockets are closed.
func (s *groupSocket) receive(got func(engine.Packet)) {
	var wg sync.WaitGroup
	for _, conn := range []*net.UDPConn{s.shared, s.own} {
		if conn == nil {
			continue
		}
		wg.Go(func() {
			buf := make([]byte, group.MaxPacket+1) // one more tells a longer one
			oob := ipv4.NewControlMessage(ipv4.FlagDst)
			for {
				n, more, _, from, err := conn.ReadMsgUDPAddrPort(buf, oob)
				if errors.Is(err, net.ErrClosed) {
					return
				}
				from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
				if err != nil || n > group.MaxPacket || s.own != nil && !from.Addr().IsLoopback() {
					continue
				}
				p := engine.Packet{From: from, To: s.addr, Data: append([]byte(nil), buf[:n]...)}
				if conn == s.shared {
					p.To = destination(oob[:more])
				}
				got(p)
			}
		})
	}
	wg.Wait()
}

// destination reads where a packet was sent to, the zero Addr where the kernel
// does not say.
func destination(oob []byte) netip.Addr {
	var cm ipv4.ControlMessage
	if cm.Parse(oob) != nil {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(cm.Dst.To4())
	return a
}

func (s *groupSocket) send(d engine.Datagram) error {
	var cm *ipv4.ControlMessage
	if s.own == nil && d.From.IsValid() {
		cm = &ipv4.ControlMessage{Src: d.From.AsSlice()}
	}
	_, err := s.out.WriteTo(d.Data, cm, net.UDPAddrFromAddrPort(d.To))
	return err
}

// Close ends receive.
func (s *groupSocket) Close() {
	s.shared.Close()
	if s.own != nil {
		s.own.Close()
		s.lock.Close()
	}
}

func newSeed() (seed [32]byte) {
	rand.Read(seed[:])
	return seed
}
