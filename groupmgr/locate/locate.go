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
//  2. A terminal on a subnet that some host is on reaches only such hosts, but
//     for invariant 3. One on a subnet that no host is on came by a router, and
//     reaches every host at its primary address.
//  3. A host that shares no subnet with this one, and is heard all the same, is
//     heard through a router. A terminal on the subnet of this host's primary
//     address, where the way to that router is, reaches it there too.
//     Of this host's other subnets the table says no such thing: Table A's are
//     nets of terminals alone, on several of which hosts even have the same
//     address. A terminal there that could reach it by a router of its own is
//     told to go elsewhere, and never sent where it cannot go.
//  4. Hosts that are down, or not trusted, are never reached.
//
// Pure functions.
package locate

import (
	"net/netip"
	"slices"
	"time"

	"hotdesk/groupmgr/member"
	"hotdesk/protocol/group"
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
		routed(now, rows, terminal, down, ways)
		return ways
	}
	for _, r := range rows {
		if r.Trusted && !r.Down && r.Host.Addr.Is4() && !r.Host.Addr.IsUnspecified() {
			ways[r.Host.Name] = r.Host.Addr
		}
	}
	return ways
}

// routed adds the ways of invariant 3.
func routed(now time.Time, rows []member.Row, terminal netip.Addr, down time.Duration, ways map[string]netip.Addr) {
	i := slices.IndexFunc(rows, func(r member.Row) bool { return r.Self })
	if i < 0 {
		return
	}
	self := rows[i].Host
	if !slices.ContainsFunc(self.Interfaces, func(f group.Interface) bool {
		return f.IP == self.Addr && f.Prefix().IsValid() && f.Prefix().Contains(terminal)
	}) {
		return
	}
	for _, r := range rows {
		if _, reached := ways[r.Host.Name]; reached || r.Self || !r.Trusted || r.Down {
			continue
		}
		best, at, shared := netip.Addr{}, time.Time{}, false
		for i, f := range r.Host.Interfaces {
			if i < len(r.LastPkt) && now.Sub(r.LastPkt[i]) < down && r.LastPkt[i].After(at) {
				best, at = f.IP, r.LastPkt[i]
			}
			shared = shared || slices.ContainsFunc(self.Interfaces, func(o group.Interface) bool {
				return f.Prefix().IsValid() && o.Prefix().IsValid() && f.Prefix().Overlaps(o.Prefix())
			})
		}
		if best.IsValid() && !shared {
			ways[r.Host.Name] = best
		}
	}
}
