package engine

import (
	"time"

	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
)

// Table is a page of the table of hosts, for people and programs.
func (e *Engine) Table(now time.Time, q local.TableRequest) local.Table {
	rows := e.table.Rows()
	from := min(max(q.After, 0), len(rows))
	to := min(from+local.TablePage, len(rows))
	t := local.Table{More: to < len(rows)}
	for _, r := range rows[from:to] {
		h := local.TableHost{
			Host: r.Host.Name, LastSeen: since(now, r.LastSeen), TimeOff: r.TimeOff, Addr: group.Hex8(r.Host.Addr),
			Trusted: r.Trusted, Why: r.Why, Down: r.Down, Stopped: !r.Stopped.IsZero(), Suspect: r.Suspect, Duplicate: r.Duplicate, State: string(r.Host.State),
			Control: r.Host.Control, CPUs: r.Host.CPUs, Sessions: r.Host.Load.Sessions, Limit: r.Host.Load.Limit,
			Load: r.Host.Load.Busy, Memory: r.Host.Load.Memory, Free: r.Host.Load.Free,
		}
		for i, f := range r.Host.Interfaces {
			h.Interfaces = append(h.Interfaces, local.TableInterface{
				Name: f.Name, IP: group.Hex8(f.IP), Mask: group.Hex8(f.Mask), Bcast: group.Hex8(f.Bcast), LastPkt: since(now, r.LastPkt[i])})
		}
		t.Hosts = append(t.Hosts, h)
	}
	return t
}

// since is the seconds since t, -1 where that never was.
func since(now, t time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	return int64(now.Sub(t) / time.Second)
}
