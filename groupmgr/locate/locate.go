// Package locate says which hosts of the group a terminal can reach, and at
// which of their addresses.
//
// Source: seed 004, after Table A: "Given this IP address and the network
// information in Table A, a server can determine the subset of servers to
// which the DTU is able to connect."
//
// Invariants:
//  1. A host with an interface on the terminal's own subnet, that is not down,
//     is reached there. An interface that was never heard counts: we may simply
//     not share its network.
//  2. A terminal on a subnet that some host is on reaches only such hosts. One
//     on a subnet that no host is on came by a router, and reaches every host
//     at its primary address.
//  3. Hosts that are down, or not trusted, are never reached.
//
// Pure functions.
package locate

import (
	"net/netip"
	"time"

	"hotdesk/groupmgr/member"
)

// On returns the address of a row's host on the subnet of a terminal; the zero
// Addr where it has none. Of several the most specific subnet counts.
func On(now time.Time, row member.Row, terminal netip.Addr, down time.Duration) netip.Addr {
	best, bits := netip.Addr{}, -1
	for i, f := range row.Host.Interfaces {
		p := f.Prefix()
		if !p.IsValid() || !p.Contains(terminal) || p.Bits() <= bits {
			continue
		}
		if !row.Self && i < len(row.LastPkt) && !row.LastPkt[i].IsZero() && now.Sub(row.LastPkt[i]) >= down {
			continue
		}
		best, bits = f.IP, p.Bits()
	}
	return best
}

// Reach returns, by host name, the addresses at which a terminal reaches the
// hosts of the table.
func Reach(now time.Time, rows []member.Row, terminal netip.Addr, down time.Duration) map[string]netip.Addr {
	ways := map[string]netip.Addr{}
	known := false // some trusted host is on the terminal's subnet, up or not
	for _, r := range rows {
		if !r.Trusted {
			continue
		}
		for _, f := range r.Host.Interfaces {
			known = known || f.Prefix().IsValid() && f.Prefix().Contains(terminal)
		}
		if a := On(now, r, terminal, down); a.IsValid() && !r.Down {
			ways[r.Host.Name] = a
		}
	}
	if known {
		return ways
	}
	for _, r := range rows {
		if r.Trusted && !r.Down && r.Host.Addr.Is4() && !r.Host.Addr.IsUnspecified() {
			ways[r.Host.Name] = r.Host.Addr
		}
	}
	return ways
}
