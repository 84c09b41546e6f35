// Package rumour keeps what a terminal hears of a group's hosts: from their
// host messages, which are the availability messages of figure 9a.
//
// Source: seed 004, figure 9a; design section 2, "Alive or dead": hints whom to
// try, never trusted. Nothing is verified here, since whoever is tried must
// prove itself by TLS.
//
// Invariants:
//  1. At most Burst messages, and Rate in each second, are looked at.
//  2. What is remembered is the address that a message came from, where the
//     message names it as one of its host's: nobody can send a terminal to a
//     third party without forging source addresses too.
//  3. A flood changes nothing: what was heard within Keep is never given up for
//     what is new, and no address has more than PerAddress places.
//
// The package does no I/O and reads no clock. A List is not safe for concurrent
// use. Limits: MaxServers, PerAddress.
package rumour

import (
	"net/netip"
	"slices"
	"time"

	"hotdesk/protocol/group"
)

const (
	// MaxServers bounds the servers that are remembered.
	MaxServers = 16
	// PerAddress bounds the ports of one address among them.
	PerAddress = 2
	// Keep is how long a server is remembered that is not heard again: three
	// periods of host messages.
	Keep = time.Minute
	// Burst and Rate bound the messages that are looked at: a group of 1,000
	// hosts sends 50 in a second.
	Burst = 64
	Rate  = 64
)

// A List is what was heard. Its zero value has heard nothing.
type List struct {
	heard []heard // the newest last
	spent float64 // messages looked at that Rate has not made up for
	at    time.Time
}

type heard struct {
	server netip.AddrPort
	at     time.Time
}

// Hear takes in a datagram of the group's port. It reports whether the list
// has changed, which is seldom.
func (l *List) Hear(now time.Time, from netip.Addr, data []byte) bool {
	l.spent = max(0, l.spent-now.Sub(l.at).Seconds()*Rate)
	l.at = now
	if l.spent > Burst-1 {
		return false
	}
	l.spent++
	from = from.Unmap()
	if group.Kind(data) != group.CmdHost || !from.Is4() || from.IsUnspecified() || from.IsMulticast() {
		return false
	}
	h, err := group.ParseHost(data)
	if err != nil || h.Control == 0 || h.State == group.Gone ||
		!slices.ContainsFunc(h.Interfaces, func(i group.Interface) bool { return i.IP == from }) {
		return false
	}
	return l.add(now, netip.AddrPortFrom(from, uint16(h.Control)))
}

func (l *List) add(now time.Time, s netip.AddrPort) bool {
	known := len(l.heard)
	l.heard = slices.DeleteFunc(l.heard, func(h heard) bool { return h.server == s })
	news := len(l.heard) == known
	l.forget(now)
	same := 0
	for _, h := range l.heard {
		if h.server.Addr() == s.Addr() {
			same++
		}
	}
	if len(l.heard) == MaxServers || same == PerAddress {
		return false
	}
	l.heard = append(l.heard, heard{s, now})
	return news
}

func (l *List) forget(now time.Time) {
	l.heard = slices.DeleteFunc(l.heard, func(h heard) bool { return now.Sub(h.at) >= Keep })
}

// Servers are those heard within Keep, the newest first.
func (l *List) Servers(now time.Time) []netip.AddrPort {
	l.forget(now)
	var all []netip.AddrPort
	for _, h := range slices.Backward(l.heard) {
		all = append(all, h.server)
	}
	return all
}
