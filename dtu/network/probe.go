package network

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// arpSize is the length of an ARP packet for IPv4 on Ethernet (RFC 826).
const arpSize = 28

const (
	arpRequest = 1
	arpReply   = 2
)

// A prober finds out whether an address is used on its network (RFC 5227
// section 2.1.1). A hostile neighbour can claim every address: then there is
// none, and the screen says so.
type prober struct {
	addr netip.Addr
	own  net.HardwareAddr
	conn *packet.Conn
	done chan struct{}
}

// A claim is that somebody has a prober's address, or probes for it too.
type claim struct{ by *prober }

func newProber(name string, addr netip.Addr) (*prober, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("network: interface %s: %w", name, err)
	}
	if len(i.HardwareAddr) != 6 {
		return nil, fmt.Errorf("network: interface %s has no Ethernet address", name)
	}
	conn, err := packet.Listen(i, packet.Datagram, unix.ETH_P_ARP, nil)
	if err != nil {
		return nil, fmt.Errorf("network: ARP on %s: %w", name, err)
	}
	return &prober{addr, i.HardwareAddr, conn, make(chan struct{})}, nil
}

func (p *prober) close() {
	close(p.done)
	p.conn.Close()
}

// ask sends one probe.
func (p *prober) ask() error {
	_, err := p.conn.WriteTo(appendProbe(nil, p.own, p.addr), &packet.Addr{HardwareAddr: net.HardwareAddr{255, 255, 255, 255, 255, 255}})
	return err
}

// listen hands on the first claim, until close.
func (p *prober) listen(claims chan<- claim) {
	b := make([]byte, 128)
	for {
		n, _, err := p.conn.ReadFrom(b)
		if err != nil {
			return
		}
		if claims4(b[:n], p.own, p.addr) {
			select {
			case claims <- claim{p}:
			case <-p.done:
			}
			return
		}
	}
}

// appendProbe writes an ARP probe: a request whose sender has no address yet.
func appendProbe(b []byte, own net.HardwareAddr, addr netip.Addr) []byte {
	b = binary.BigEndian.AppendUint16(b, 1) // Ethernet
	b = binary.BigEndian.AppendUint16(b, unix.ETH_P_IP)
	b = append(b, 6, 4, 0, arpRequest)
	b = append(append(b, own...), 0, 0, 0, 0)
	b = append(b, 0, 0, 0, 0, 0, 0)
	return append(b, addr.AsSlice()...)
}

// claims4 reports whether an ARP packet of another machine says that it has
// addr, or that it wants it: "If during this period [...] the host receives any
// ARP packet (Request *or* Reply) on the interface where the probe is being
// performed, where the packet's 'sender IP address' is the address being probed
// for, then the host MUST treat this address as being in use by some other
// host", and the same for another's probe for it.
func claims4(b []byte, own net.HardwareAddr, addr netip.Addr) bool {
	if len(b) < arpSize || !bytes.Equal(b[:7], []byte{0, 1, 8, 0, 6, 4, 0}) || b[7] != arpRequest && b[7] != arpReply {
		return false
	}
	sender, from, to := b[8:14], netip.AddrFrom4([4]byte(b[14:18])), netip.AddrFrom4([4]byte(b[24:28]))
	if bytes.Equal(sender, own) {
		return false
	}
	return from == addr || b[7] == arpRequest && from.IsUnspecified() && to == addr
}
