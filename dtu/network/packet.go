package network

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"hotdesk/dtu/bootstrap"
	"hotdesk/protocol/vendoropt"
)

// maxPacket bounds a DHCP message, in bytes; option 57 says so to servers.
const maxPacket = 1472

// Where fields of a message begin (RFC 2131 figure 1).
const (
	nameAt   = 44
	fileAt   = nameAt + 64
	cookieAt = fileAt + 128
)

// wanted are the options that servers are asked for.
var wanted = []dhcpv4.OptionCode{
	dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionDomainName,
	dhcpv4.OptionInterfaceMTU, dhcpv4.OptionVendorSpecificInformation, dhcpv4.OptionXWindowSystemDisplayManger,
	dhcpv4.OptionTFTPServerName, dhcpv4.OptionIPAddressLeaseTime, dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue,
}

// encode makes the packet of q from a terminal with that address.
func encode(mac net.HardwareAddr, q bootstrap.Query) []byte {
	m := dhcpv4.DHCPv4{
		OpCode:       dhcpv4.OpcodeBootRequest,
		HWType:       iana.HWTypeEthernet,
		ClientHWAddr: mac,
		NumSeconds:   uint16(min(q.Since/time.Second, 65535)),
		ClientIPAddr: net.IPv4zero, YourIPAddr: net.IPv4zero, ServerIPAddr: net.IPv4zero, GatewayIPAddr: net.IPv4zero,
		Options: dhcpv4.Options{},
	}
	binary.BigEndian.PutUint32(m.TransactionID[:], q.ID)
	put := func(o dhcpv4.Option) { m.UpdateOption(o) }
	put(dhcpv4.OptMessageType(dhcpv4.MessageType(q.Kind)))
	put(dhcpv4.OptClassIdentifier(vendoropt.Class))
	put(dhcpv4.OptClientIdentifier(append([]byte{byte(iana.HWTypeEthernet)}, mac...)))
	put(dhcpv4.OptParameterRequestList(wanted...))
	put(dhcpv4.OptMaxMessageSize(maxPacket))
	if q.Client.IsValid() {
		m.ClientIPAddr = q.Client.AsSlice()
	} else {
		m.SetBroadcast() // nobody answers for the address yet
	}
	if q.Requested.IsValid() {
		put(dhcpv4.OptRequestedIPAddress(q.Requested.AsSlice()))
	}
	if q.Server.IsValid() {
		put(dhcpv4.OptServerIdentifier(q.Server.AsSlice()))
	}
	return m.ToBytes()
}

// decode reads what a server sent to the terminal with that address.
func decode(mac net.HardwareAddr, b []byte) (bootstrap.Reply, error) {
	if len(b) > maxPacket {
		return bootstrap.Reply{}, fmt.Errorf("network: DHCP message of more than %d bytes", maxPacket)
	}
	m, err := dhcpv4.FromBytes(b)
	if err != nil {
		return bootstrap.Reply{}, fmt.Errorf("network: DHCP: %w", err)
	}
	if err := overload(m.Options, b); err != nil {
		return bootstrap.Reply{}, fmt.Errorf("network: DHCP: overloaded fields: %w", err)
	}
	if m.OpCode != dhcpv4.OpcodeBootReply || m.HWType != iana.HWTypeEthernet || !bytes.Equal(m.ClientHWAddr, mac) {
		return bootstrap.Reply{}, fmt.Errorf("network: a DHCP message that is not for this terminal")
	}
	r := bootstrap.Reply{
		Kind:     bootstrap.Kind(m.MessageType()),
		ID:       binary.BigEndian.Uint32(m.TransactionID[:]),
		Server:   address(m.ServerIdentifier()),
		Addr:     address(m.YourIPAddr),
		Routers:  addresses(m.Router()),
		DNS:      addresses(m.DNS()),
		Domain:   domain(m.DomainName()),
		Lease:    m.IPAddressLeaseTime(0),
		Renew:    m.IPAddressRenewalTime(0),
		Rebind:   m.IPAddressRebindingTime(0),
		Vendor:   m.Options.Get(dhcpv4.OptionVendorSpecificInformation),
		Displays: addresses(dhcpv4.GetIPs(dhcpv4.OptionXWindowSystemDisplayManger, m.Options)),
		Firmware: word(m.TFTPServerName()),
	}
	r.Overloaded = m.Options.Has(dhcpv4.OptionOptionOverload)
	switch r.Kind {
	case bootstrap.Offer, bootstrap.Ack, bootstrap.Nak:
	default:
		return bootstrap.Reply{}, fmt.Errorf("network: DHCP message %v from a server", m.MessageType())
	}
	if mask := m.SubnetMask(); len(mask) == net.IPv4len {
		r.Bits, _ = mask.Size() // one with holes is none
	}
	if v := m.Options.Get(dhcpv4.OptionInterfaceMTU); len(v) == 2 {
		r.MTU = int(binary.BigEndian.Uint16(v))
	}
	return r, nil
}

// overload adds the options that lie in the fields of the boot file's and the
// server's name, where option 52 says so (RFC 2132 section 9.3). They continue
// what the options field has, in that order (RFC 3396 section 5).
func overload(o dhcpv4.Options, b []byte) error {
	v := o.Get(dhcpv4.OptionOptionOverload)
	if len(v) == 0 {
		return nil
	}
	if len(v) != 1 || v[0] < 1 || v[0] > 3 {
		return fmt.Errorf("option 52 is %x", v)
	}
	if v[0]&1 != 0 {
		if err := o.FromBytes(b[fileAt:cookieAt]); err != nil {
			return err
		}
	}
	if v[0]&2 != 0 {
		return o.FromBytes(b[nameAt:fileAt])
	}
	return nil
}

// address is ip, or invalid where it is none or 0.0.0.0.
func address(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip.To4())
	if !ok || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// addresses are the first MaxServers of the list.
func addresses(list []net.IP) []netip.Addr {
	var all []netip.Addr
	for _, ip := range list[:min(len(list), bootstrap.MaxServers)] {
		if a := address(ip); a.IsValid() {
			all = append(all, a)
		}
	}
	return all
}

// domain is s where it can be a DNS domain, else empty.
func domain(s string) string {
	s = strings.Trim(word(s), ".")
	if len(s) > 200 {
		return ""
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
		}) {
			return ""
		}
	}
	return s
}

// word is s without the NUL that some servers add, or empty where it is not
// printable ASCII.
func word(s string) string {
	s = strings.TrimRight(s, "\x00")
	if len(s) > 255 || strings.ContainsFunc(s, func(r rune) bool { return r < '!' || r > '~' }) {
		return ""
	}
	return s
}
