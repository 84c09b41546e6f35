package netlab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxCaptured bounds the datagrams that a Capture keeps; later ones are only
// counted.
const maxCaptured = 1 << 16

// A Datagram is a UDP datagram as it went over a node's cable.
type Datagram struct {
	From, To netip.AddrPort
	Data     []byte
	Sent     bool // by the node, not to it
}

// A Capture keeps the UDP datagrams that come to a node or leave it, like
// tcpdump.
type Capture struct {
	file    *os.File
	reading sync.WaitGroup

	mu   sync.Mutex
	only func(Datagram) bool // nil: every one
	all  []Datagram
	lost int
	news chan struct{} // closed and replaced with each datagram
}

// Capture begins to listen at the node's cable.
func (n *Node) Capture() (*Capture, error) {
	c := &Capture{news: make(chan struct{})}
	err := n.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(swapped(unix.ETH_P_ALL)))
		if err != nil {
			return fmt.Errorf("netlab: packet socket: %w", err)
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
		c.file = os.NewFile(uintptr(fd), "capture")
		return nil
	})
	if err != nil {
		return nil, err
	}
	raw, err := c.file.SyscallConn()
	if err != nil {
		c.file.Close()
		return nil, err
	}
	c.reading.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			size, kind, ok := 0, uint8(0), false
			err := raw.Read(func(fd uintptr) bool {
				got, from, err := unix.Recvfrom(int(fd), buf, 0)
				if err == unix.EAGAIN {
					return false
				}
				// What is for another machine comes while the bridge has not
				// learned where that is.
				if ll, is := from.(*unix.SockaddrLinklayer); err == nil && is && ll.Protocol == swapped(unix.ETH_P_IP) && ll.Pkttype != unix.PACKET_OTHERHOST {
					size, kind, ok = got, ll.Pkttype, true
				}
				return true
			})
			if err != nil {
				return // closed
			}
			if d, isUDP := parse(buf[:size]); ok && isUDP {
				d.Sent = kind == unix.PACKET_OUTGOING
				c.add(d)
			}
		}
	})
	return c, nil
}

func swapped(v uint16) uint16 { return v<<8 | v>>8 }

func (c *Capture) add(d Datagram) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.only != nil && !c.only(d) {
		return
	}
	if len(c.all) == maxCaptured {
		c.lost++
		return
	}
	c.all = append(c.all, d)
	close(c.news)
	c.news = make(chan struct{})
}

// Only has the capture pass over later datagrams that do not satisfy f, such
// as those of a flood.
func (c *Capture) Only(f func(Datagram) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.only = f
}

// Close ends the capture; what it has stays.
func (c *Capture) Close() {
	c.file.Close()
	c.reading.Wait()
}

// All is what was captured so far, and how many more could not be kept.
func (c *Capture) All() ([]Datagram, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.all), c.lost
}

// Wait waits until count datagrams satisfy f and returns them.
func (c *Capture) Wait(count int, patience time.Duration, f func(Datagram) bool) ([]Datagram, error) {
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		c.mu.Lock()
		all, news := c.all, c.news
		c.mu.Unlock()
		var found []Datagram
		for _, d := range all {
			if f(d) {
				found = append(found, d)
			}
		}
		if len(found) >= count {
			return found, nil
		}
		select {
		case <-news:
		case <-late.C:
			return found, fmt.Errorf("netlab: %d of %d datagrams came in %v", len(found), count, patience)
		}
	}
}

// parse reads an IPv4 packet with UDP in it (RFC 791, RFC 768). Fragments are
// passed over: nothing of the group's is so long.
func parse(b []byte) (Datagram, bool) {
	const ipHeader, udpHeader = 20, 8
	if len(b) < ipHeader || b[0]>>4 != 4 || b[9] != unix.IPPROTO_UDP || binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
		return Datagram{}, false
	}
	head, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if head < ipHeader || total < head+udpHeader || total > len(b) {
		return Datagram{}, false
	}
	udp := b[head:total]
	size := int(binary.BigEndian.Uint16(udp[4:]))
	if size < udpHeader || size > len(udp) {
		return Datagram{}, false
	}
	at := func(ip []byte, port []byte) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip)), binary.BigEndian.Uint16(port))
	}
	return Datagram{From: at(b[12:16], udp[0:]), To: at(b[16:20], udp[2:]), Data: slices.Clone(udp[udpHeader:size])}, true
}

// Forge sends a datagram from the node with whatever source it names, to the
// node's subnet or by the router.
func (n *Node) Forge(datagrams ...Datagram) error {
	return n.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return fmt.Errorf("netlab: raw socket: %w", err)
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
			return fmt.Errorf("netlab: %w", err)
		}
		for _, d := range datagrams {
			if err := unix.Sendto(fd, packet(d), 0, &unix.SockaddrInet4{Addr: d.To.Addr().As4()}); err != nil {
				return fmt.Errorf("netlab: raw datagram to %v: %w", d.To, err)
			}
		}
		return nil
	})
}

// packet writes the datagram with its headers. The kernel fills in the sum of
// the IP header; UDP goes without one, which IPv4 allows.
func packet(d Datagram) []byte {
	from, to := d.From.Addr().As4(), d.To.Addr().As4()
	b := []byte{0x45, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(28+len(d.Data)))
	b = append(b, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0)
	b = append(append(b, from[:]...), to[:]...)
	b = binary.BigEndian.AppendUint16(b, d.From.Port())
	b = binary.BigEndian.AppendUint16(b, d.To.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(d.Data)))
	return append(append(b, 0, 0), d.Data...)
}
