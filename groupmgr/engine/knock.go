package engine

import (
	"net/netip"
	"slices"
	"time"

	"hotdesk/protocol/group"
)

// A host that has let two questions pass is knocked at: when its programs were
// killed, its kernel says so at once, and nobody need be kept waiting.
const (
	knockRound = 2
	maxKnocks  = 8 // of one lookup
)

// Knock is to find out whether anything listens at a host's control port. Deaf
// is the answer where each of the addresses says that nothing does.
type (
	Knock struct {
		Host string
		At   []netip.AddrPort
	}
	Deaf struct{ Host string }
)

func (Deaf) event() {}

func (e *Engine) knock(now time.Time, l *asking) []Knock {
	var list []Knock
	for _, host := range l.machine.Missing() {
		row, ok := e.table.Find(host)
		if !ok || row.Host.Control == 0 || e.leaving[host].After(now) || len(list) == maxKnocks {
			continue
		}
		k := Knock{Host: host}
		for _, a := range append([]netip.Addr{row.Host.Addr}, addresses(row.Host.Interfaces)...) {
			if at := netip.AddrPortFrom(a, uint16(row.Host.Control)); a.Is4() && !slices.Contains(k.At, at) {
				k.At = append(k.At, at)
			}
		}
		if len(k.At) > 0 {
			list = append(list, k)
		}
	}
	return list
}

func addresses(list []group.Interface) []netip.Addr {
	var all []netip.Addr
	for _, i := range list {
		all = append(all, i.IP)
	}
	return all
}

// deaf: nothing listens at a host. Its server's port outlives its gateway, and
// its group manager does not answer: both are gone. That is taken from a TCP
// reset, which nobody signs; but it counts only for a host that has let two
// questions pass, and does no more than end the wait for it, which ends by itself
// a tenth of a second later. Whoever can send resets that our kernel takes sees
// our packets, and could as well swallow the questions.
func (e *Engine) deaf(now time.Time, host string) Output {
	var out Output
	for _, l := range slices.Clone(e.lookups) {
		if slices.Contains(l.machine.Missing(), host) && l.rounds >= knockRound {
			l.machine.GiveUp(now, host)
			e.table.Suspect(host)
			out.add(e.drive(now, l))
		}
	}
	return out
}
