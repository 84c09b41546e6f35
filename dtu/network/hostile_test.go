package network

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"hotdesk/dtu/bootstrap"
	"hotdesk/protocol/vendoropt"
)

// A rogue is a DHCP server, or several, that a test speaks for.
type rogue struct {
	t    *testing.T
	conn net.PacketConn
}

func newRogue(l *lab) *rogue {
	l.t.Helper()
	conn := within(l.t, l.server, func() (net.PacketConn, error) { return net.ListenPacket("udp4", ":67") })
	l.t.Cleanup(func() { conn.Close() })
	return &rogue{l.t, conn}
}

// hear waits for a message of that kind; others are let go.
func (r *rogue) hear(kind dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	r.t.Helper()
	b := make([]byte, 2000)
	r.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		n, _, err := r.conn.ReadFrom(b)
		if err != nil {
			r.t.Fatalf("waiting for %v: %v", kind, err)
		}
		m, err := dhcpv4.FromBytes(b[:n])
		if err != nil {
			r.t.Fatalf("from the terminal: %v", err)
		}
		id := m.Options.Get(dhcpv4.OptionClientIdentifier)
		if m.ClassIdentifier() != vendoropt.Class || m.ClientHWAddr.String() != "02:00:5e:00:00:aa" || string(id) != "\x01\x02\x00\x5e\x00\x00\xaa" {
			r.t.Errorf("class %q, address %v, client %x", m.ClassIdentifier(), m.ClientHWAddr, id)
		}
		if m.MessageType() == kind {
			return m
		}
	}
}

func (r *rogue) send(b []byte) {
	r.t.Helper()
	// One that is too long for the cable cannot be sent whole.
	if _, err := r.conn.WriteTo(b, broadcast); err != nil {
		r.t.Fatal(err)
	}
}

// reply is a good one, as server 10.77.0.N, changed.
func (r *rogue) reply(to *dhcpv4.DHCPv4, kind dhcpv4.MessageType, server byte, change ...func(*dhcpv4.DHCPv4)) *dhcpv4.DHCPv4 {
	r.t.Helper()
	m, err := dhcpv4.NewReplyFromRequest(to,
		dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.IPv4(10, 77, 0, 100+server)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 77, 0, server))),
		dhcpv4.WithLeaseTime(600), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithOption(dhcpv4.OptRouter(net.IPv4(10, 77, 0, 1))))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, c := range change {
		c(m)
	}
	return m
}

func vendorOption(b ...byte) func(*dhcpv4.DHCPv4) {
	return func(m *dhcpv4.DHCPv4) {
		m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, b))
	}
}

// goodVendor names server 10.77.0.5.
var goodVendor = vendorOption(vendoropt.CodeAuthSrvr, 4, 10, 77, 0, 5)

func leaseTime(d time.Duration) func(*dhcpv4.DHCPv4) {
	return func(m *dhcpv4.DHCPv4) { m.UpdateOption(dhcpv4.OptIPAddressLeaseTime(d)) }
}

func yours(a, b, c, d byte) func(*dhcpv4.DHCPv4) {
	return func(m *dhcpv4.DHCPv4) { m.YourIPAddr = net.IPv4(a, b, c, d) }
}

// nonsense is what an attacker, or a broken server, may answer to m.
func (r *rogue) nonsense(m *dhcpv4.DHCPv4, kind dhcpv4.MessageType) map[string][]byte {
	good := r.reply(m, kind, 66, goodVendor).ToBytes()
	change := func(c func(*dhcpv4.DHCPv4)) []byte { return r.reply(m, kind, 66, goodVendor, c).ToBytes() }
	all := map[string][]byte{
		"nothing":             {},
		"one byte":            {2},
		"a header alone":      good[:240],
		"half of the options": good[:250],
		"no end":              good[:bytes.LastIndexByte(good, 255)],
		"too long":            append(good, make([]byte, maxPacket)...),
		"a long option":       append(good[:240:240], 43, 255, 1),
		"a request":           change(func(m *dhcpv4.DHCPv4) { m.OpCode = dhcpv4.OpcodeBootRequest }),
		"another transaction": change(func(m *dhcpv4.DHCPv4) { m.TransactionID[0]++ }),
		"for another":         change(func(m *dhcpv4.DHCPv4) { m.ClientHWAddr = net.HardwareAddr{2, 0, 0x5e, 0, 0, 0xcc} }),
		"no address":          change(yours(0, 0, 0, 0)),
		"everybody's address": change(yours(255, 255, 255, 255)),
		"loopback":            change(yours(127, 0, 0, 1)),
		"multicast":           change(yours(224, 0, 0, 1)),
		"the network itself":  change(yours(10, 77, 0, 0)),
		"its broadcast":       change(yours(10, 77, 0, 255)),
		"no server":           change(func(m *dhcpv4.DHCPv4) { m.DeleteOption(dhcpv4.OptionServerIdentifier) }),
		"no lease time":       change(func(m *dhcpv4.DHCPv4) { m.DeleteOption(dhcpv4.OptionIPAddressLeaseTime) }),
		"a lease of a second": change(leaseTime(time.Second)),
		"a lease of nothing":  change(leaseTime(0)),
		"overload of nothing": change(func(m *dhcpv4.DHCPv4) {
			m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionOptionOverload, []byte{9}))
		}),
		"overload with less than it says": change(func(m *dhcpv4.DHCPv4) {
			m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionOptionOverload, []byte{3}))
			m.ServerHostName, m.BootFileName = strings.Repeat("\x01\xfe", 31), strings.Repeat("\x2b\xff", 63)
		}),
		"a refusal nobody is": r.reply(m, dhcpv4.MessageTypeNak, 66, func(m *dhcpv4.DHCPv4) { m.TransactionID[1]++ }).ToBytes(),
	}
	long := make([]byte, 200)
	binary.BigEndian.PutUint16(long, 0xffff)
	all["noise"] = long
	return all
}

// TestHostile: nonsense changes nothing, before each right answer.
func TestHostile(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	r := newRogue(l)
	s := l.start(childConfig{Config{Configure: true}, false})
	d := r.hear(dhcpv4.MessageTypeDiscover)
	for _, b := range r.nonsense(d, dhcpv4.MessageTypeOffer) {
		r.send(b)
	}
	r.send(r.reply(d, dhcpv4.MessageTypeOffer, 2, goodVendor).ToBytes())
	q := r.hear(dhcpv4.MessageTypeRequest)
	if got := q.ServerIdentifier(); !got.Equal(net.IPv4(10, 77, 0, 2)) {
		t.Fatalf("asked %v", got)
	}
	for _, b := range r.nonsense(q, dhcpv4.MessageTypeAck) {
		r.send(b)
	}
	r.send(r.reply(q, dhcpv4.MessageTypeAck, 66, goodVendor).ToBytes()) // was not asked
	r.send(r.reply(q, dhcpv4.MessageTypeNak, 66).ToBytes())
	r.send(r.reply(q, dhcpv4.MessageTypeAck, 2, goodVendor, func(m *dhcpv4.DHCPv4) {
		m.UpdateOption(dhcpv4.OptRouter(net.IPv4(192, 0, 2, 1), net.IPv4(10, 77, 0, 1))) // the first is not on this network
		m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{0, 1}))
		m.UpdateOption(dhcpv4.OptDomainName("bad domain\x1b"))
	}).ToBytes())
	got := s.until("a lease", settled).State
	if lease := got.Lease; !got.Up || lease.Addr != addr("10.77.0.102") || lease.Domain != "" || len(lease.Routers) != 1 || lease.Letter() != "D" {
		t.Errorf("%+v", got)
	}
}

// TestContradictory: of two servers that offer different things the one with
// vendor options is taken, also when it comes later; a refusal starts anew.
func TestContradictory(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	r := newRogue(l)
	s := l.start(childConfig{Config{Configure: true}, false})
	d := r.hear(dhcpv4.MessageTypeDiscover)
	r.send(r.reply(d, dhcpv4.MessageTypeOffer, 2).ToBytes())
	r.send(r.reply(d, dhcpv4.MessageTypeOffer, 3, goodVendor).ToBytes())
	q := r.hear(dhcpv4.MessageTypeRequest)
	if got := q.ServerIdentifier(); !got.Equal(net.IPv4(10, 77, 0, 3)) || !q.RequestedIPAddress().Equal(net.IPv4(10, 77, 0, 103)) {
		t.Errorf("asked %v for %v", got, q.RequestedIPAddress())
	}
	r.send(r.reply(q, dhcpv4.MessageTypeNak, 3).ToBytes())

	// The second time only the one without options answers, and each says
	// something else in the end.
	d = r.hear(dhcpv4.MessageTypeDiscover)
	r.send(r.reply(d, dhcpv4.MessageTypeOffer, 2).ToBytes())
	q = r.hear(dhcpv4.MessageTypeRequest)
	r.send(r.reply(q, dhcpv4.MessageTypeAck, 2, yours(10, 77, 0, 199)).ToBytes()) // not what it offered
	q = r.hear(dhcpv4.MessageTypeRequest)
	r.send(r.reply(q, dhcpv4.MessageTypeAck, 2, vendorOption(vendoropt.CodeAuthSrvr, 200)).ToBytes()) // cut off
	i := r.hear(dhcpv4.MessageTypeInform)
	if !i.ClientIPAddr.Equal(net.IPv4(10, 77, 0, 102)) {
		t.Errorf("inform from %v", i.ClientIPAddr)
	}
	r.send(r.reply(i, dhcpv4.MessageTypeAck, 2).ToBytes()) // knows no more
	r.send(r.reply(i, dhcpv4.MessageTypeAck, 3, goodVendor, yours(0, 0, 0, 0)).ToBytes())
	got := s.until("a lease", settled).State.Lease
	if got.Addr != addr("10.77.0.102") || got.Options.AuthSrvr != addr("10.77.0.5") || got.Letter() != "D" {
		t.Errorf("%+v", got)
	}
}

// TestSlowAndSilent: a server that says nothing for long is told of, and one
// that answers late is heard all the same; what a lease lacks is asked for.
func TestSlowAndSilent(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	r := newRogue(l)
	s := l.start(childConfig{Config{Configure: true}, false})
	first := r.hear(dhcpv4.MessageTypeDiscover)
	s.until("nobody answers", func(s State) bool { return s.Silent && s.Phase == bootstrap.Selecting })
	r.send(r.reply(first, dhcpv4.MessageTypeOffer, 2).ToBytes())
	q := r.hear(dhcpv4.MessageTypeRequest)
	r.hear(dhcpv4.MessageTypeRequest)
	r.send(r.reply(q, dhcpv4.MessageTypeAck, 2, func(m *dhcpv4.DHCPv4) {
		m.DeleteOption(dhcpv4.OptionSubnetMask)
		m.DeleteOption(dhcpv4.OptionRouter)
	}).ToBytes())
	r.hear(dhcpv4.MessageTypeInform)
	r.hear(dhcpv4.MessageTypeInform)
	got := s.until("a lease", func(s State) bool { return s.Phase == bootstrap.Holding }).State
	if got.Silent || got.Lease.Letter() != "A" || got.Lease.Servers() != nil {
		t.Errorf("%+v", got)
	}
}

// TestOpenRefuses: what cannot work is said at once.
func TestOpenRefuses(t *testing.T) {
	if n, err := Open(Config{Interface: "no-such-if"}); err == nil {
		t.Errorf("%v", n)
	}
	if n, err := Open(Config{Interface: "lo"}); err == nil {
		t.Errorf("loopback: %v", n)
	}
	if _, err := Resolve(t.Context(), bootstrap.Lease{}); err == nil || errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
}
