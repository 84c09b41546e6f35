package member

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// duplicates marks the rows whose name or address another host has too, and
// returns a notice for each. Addresses of interfaces count only where messages
// came from them: networks of their own, as in the seed's Table A, may well use
// the same ones.
func (t *Table) duplicates(now time.Time) []Notice {
	rows := make([]*Row, 0, 1+len(t.trusted))
	for _, r := range t.trusted {
		r.Duplicate = ""
		if !r.Down {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b *Row) int { return strings.Compare(a.Host.Name, b.Host.Name) })
	t.self.Duplicate = ""
	rows = slices.Insert(rows, 0, t.self)
	owner := make(map[netip.Addr]*Row, len(rows))
	also := func(r, other *Row, a netip.Addr) {
		if r.Duplicate == "" {
			r.Duplicate = fmt.Sprintf("address %v is also that of %s", a, other.Host.Name)
		}
	}
	claim := func(r *Row, a netip.Addr) {
		if !a.Is4() || a.IsUnspecified() || owner[a] == r {
			return
		}
		if other := owner[a]; other != nil {
			also(r, other, a)
			also(other, r, a)
			return
		}
		owner[a] = r
	}
	for _, r := range rows {
		if !r.twice.IsZero() && now.Sub(r.twice) < t.cfg.Down {
			r.Duplicate = "two hosts say this name"
		}
		claim(r, r.Host.Addr)
		for i, f := range r.Host.Interfaces {
			if r.Self || !r.LastPkt[i].IsZero() && now.Sub(r.LastPkt[i]) < t.cfg.Down {
				claim(r, f.IP)
			}
		}
	}
	var notices []Notice
	for _, r := range rows {
		if r.Duplicate != "" {
			notices = append(notices, Notice{Duplicate, r.Host.Name, r.From, r.Duplicate})
		}
	}
	return notices
}
