package bootstrap

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"hotdesk/protocol/vendoropt"
)

// Times of DHCP. Those of RFC 2131 section 4.1 (4 s, doubled up to 64 s) are
// for networks of its day; a person waits here.
const (
	FirstTry  = time.Second // after the first unanswered message, doubled
	LastTry   = 16 * time.Second
	Tries     = 3           // requests, and informs, before going on without
	OfferWait = time.Second // for an offer with vendor options, after one without
	// MinLease is the shortest lease that is taken: shorter ones would only
	// keep the network busy.
	MinLease = 4 * time.Second
	// Probes are sent for a new address, ProbeEvery apart. RFC 5227 has as many,
	// but waits up to 7 s for its day's bridges; a person waits here, and what
	// is on the same cable answers within milliseconds.
	Probes     = 3
	ProbeEvery = 150 * time.Millisecond
	// DeclineWait is the pause after an address was taken (RFC 2131 section 3.1).
	DeclineWait = 10 * time.Second
	// forever is what all ones mean (RFC 2131 section 3.3).
	forever = 0xffffffff * time.Second
)

// Kind is a DHCP message's (RFC 2132 section 9.6).
type Kind byte

const (
	Discover Kind = 1
	Offer    Kind = 2
	Request  Kind = 3
	Decline  Kind = 4
	Ack      Kind = 5
	Nak      Kind = 6
	Release  Kind = 7
	Inform   Kind = 8
)

func (k Kind) String() string {
	return map[Kind]string{Discover: "DISCOVER", Offer: "OFFER", Request: "REQUEST", Decline: "DECLINE", Ack: "ACK", Nak: "NAK", Release: "RELEASE", Inform: "INFORM"}[k]
}

// A Query is a message to DHCP servers. The caller adds what all have in
// common: the terminal's address, its class and client id, what it asks for.
type Query struct {
	Kind      Kind
	ID        uint32        // transaction
	Since     time.Duration // the machine began to ask
	Client    netip.Addr    // ciaddr: the terminal has this address and uses it
	Requested netip.Addr    // option 50
	Server    netip.Addr    // option 54
	To        netip.Addr    // valid: to that address from Client, not to all
}

// A Reply is a message of a DHCP server to this terminal. What it holds is
// whatever the server sent.
type Reply struct {
	Kind         Kind
	ID           uint32
	Server       netip.Addr // option 54
	Addr         netip.Addr // yiaddr
	Bits         int        // of the mask, 0: none
	Routers, DNS []netip.Addr
	Domain       string
	Lease        time.Duration // 0: none
	Renew        time.Duration // T1, 0: none
	Rebind       time.Duration // T2, 0: none
	Vendor       []byte        // option 43
	Displays     []netip.Addr  // option 49
	Firmware     string        // option 66
	MTU          int           // option 26, 0: none
	Overloaded   bool          // option 52: some options lay in the fields of names
}

// A Lease is what a DHCP server gave.
type Lease struct {
	Reply
	Options vendoropt.Set
	Given   bool // Options were given, and could be read
}

// Servers are the group's, best first: AltAuth, or option 49 where that is not
// given, with AuthSrvr (alp.md section 10).
func (l *Lease) Servers() []netip.AddrPort {
	// A terminal like this one never speaks to the port of the clear protocol.
	port := l.Options.ControlPort
	if p := l.Options.AuthPort; port == 0 && p != ClearPort {
		port = p
	}
	port = cmp.Or(port, ControlPort)
	var all []netip.AddrPort
	add := func(list ...netip.Addr) {
		for _, a := range list {
			if s := netip.AddrPortFrom(a, port); usable(a) && !slices.Contains(all, s) && len(all) < MaxServers {
				all = append(all, s)
			}
		}
	}
	add(l.Options.AltAuth...)
	add(l.Options.AuthSrvr)
	if len(l.Options.AltAuth) == 0 {
		add(l.Displays...)
	}
	return all
}

const (
	// ControlPort is where servers take control connections if nothing is said.
	ControlPort = 7443
	// ClearPort is ALP's, in the clear.
	ClearPort = 7009
)

// usable reports whether a can be the address of a host.
func usable(a netip.Addr) bool {
	return a.Is4() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// Letter is what goes beside an on-screen code (alp.md section 10): A an
// address only, B with mask and router but no vendor options, C with vendor
// options but no mask or router, D all. Empty without an address.
func (l *Lease) Letter() string {
	net, vendor := l.Bits > 0 && len(l.Routers) > 0, l.Given
	switch {
	case !l.Addr.IsValid():
		return ""
	case net && vendor:
		return "D"
	case vendor:
		return "C"
	case net:
		return "B"
	}
	return "A"
}
