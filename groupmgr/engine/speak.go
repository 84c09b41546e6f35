package engine

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"hotdesk/groupmgr/locate"
	"hotdesk/groupmgr/member"
	"hotdesk/protocol/group"
)

// A newcomer is told of every host at once; so that its socket has room for
// a thousand answers they come spread, spreadHost for each host known, from a
// few hosts on.
const (
	spreadFrom = 16
	spreadHost = 200 * time.Microsecond
	spreadMost = 200 * time.Millisecond
)

// offlineDelay is how much later a host that drains answers a terminal, which
// takes the first answer: it is found only where nobody else is.
const offlineDelay = 300 * time.Millisecond

// members does what the table of hosts wants done.
func (e *Engine) members(now time.Time, m member.Output) Output {
	out := Output{Notices: m.Notices}
	for _, a := range m.Announce {
		if a.To.IsValid() {
			out.add(e.greet(now, e.at(a.To)))
		} else {
			for _, d := range e.ways(now) {
				out.add(e.speak(now, d))
			}
		}
	}
	for _, n := range m.Notices {
		if row, _ := e.table.Find(n.Host); n.Kind == member.Stopped && row.Host.Control != 0 {
			e.leaving[n.Host] = now.Add(restart)
		}
	}
	return out
}

// ways is how our host message goes to everybody.
func (e *Engine) ways(now time.Time) []Datagram {
	var ways []Datagram
	for _, i := range e.about.Interfaces {
		if !e.cfg.NoBroadcast && i.Bcast.Is4() && !i.Bcast.IsUnspecified() &&
			!slices.ContainsFunc(ways, func(d Datagram) bool { return d.To.Addr() == i.Bcast }) {
			ways = append(ways, Datagram{From: i.IP, To: e.at(i.Bcast)})
		}
		if e.cfg.Multicast.IsValid() {
			ways = append(ways, Datagram{From: i.IP, To: e.at(e.cfg.Multicast)})
		}
	}
	for _, p := range e.cfg.Peers {
		ways = append(ways, Datagram{To: p})
	}
	unicast := e.Learned(now)
	if now.Sub(e.start) <= e.cfg.Settle {
		unicast = append(unicast, e.cfg.Learned...)
		slices.SortFunc(unicast, netip.AddrPort.Compare)
	}
	for _, to := range slices.Compact(unicast) {
		ways = append(ways, Datagram{To: to})
	}
	return ways
}

// Learned is the hosts that are told by unicast because they told us. They are
// to be kept over a restart: nobody else could tell us of them before they
// speak again, and meanwhile their sessions would not be found.
func (e *Engine) Learned(now time.Time) []netip.AddrPort {
	var list []netip.AddrPort
	for _, a := range e.table.Unicast(now, !e.cfg.NoBroadcast) {
		if to := e.at(a); !slices.Contains(e.cfg.Peers, to) {
			list = append(list, to)
		}
	}
	return list
}

// greet tells one host of us.
func (e *Engine) greet(now time.Time, to netip.AddrPort) Output {
	n := e.table.Len()
	if n <= spreadFrom {
		return e.speak(now, Datagram{To: to})
	}
	most := min(time.Duration(n)*spreadHost, spreadMost)
	return e.putOff(now, time.Duration(e.rnd.Int64N(int64(most))), Datagram{To: to})
}

// putOff sends d after wait.
func (e *Engine) putOff(now time.Time, wait time.Duration, d Datagram) Output {
	if len(e.later) >= maxLater {
		return e.speak(now, d)
	}
	l := later{now.Add(wait), d}
	i, _ := slices.BinarySearchFunc(e.later, l, func(a, b later) int {
		return cmp.Or(a.at.Compare(b.at), -1) // after those of the same time
	})
	e.later = slices.Insert(e.later, i, l)
	return Output{}
}

// speak sends d now, our host message where it has no data.
func (e *Engine) speak(now time.Time, d Datagram) Output {
	if d.Data == nil {
		d.Data = e.sign(e.table.Message(now).Append(nil))
	}
	return Output{Send: []Datagram{d}}
}

func (e *Engine) at(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, e.cfg.Port) }

func (e *Engine) sign(line []byte) []byte { return e.cfg.Ring.Sign(line, e.cfg.Alg) }

// direct is a packet's destination where that is an address of ours, else the
// zero Addr: answers to it come from there.
func (e *Engine) direct(p Packet) netip.Addr {
	to := p.To.Unmap()
	if to.IsValid() && (to == e.about.Addr || slices.ContainsFunc(e.about.Interfaces, func(i group.Interface) bool { return i.IP == to })) {
		return to
	}
	return netip.Addr{}
}

func (e *Engine) serverQ(now time.Time, p Packet) Output {
	q, err := group.ParseServerQ(p.Data)
	from := p.From.Addr().Unmap()
	if err != nil || p.From.Port() == 0 || !from.Is4() || from.IsUnspecified() || from.IsMulticast() {
		e.count.Bad++
		return Output{}
	}
	e.count.ServerQ++
	if e.control == 0 || e.state == group.Down {
		return Output{}
	}
	self, _ := e.table.Find(e.cfg.Host)
	addr, limit := locate.On(now, self, from, e.cfg.Down), e.near
	if !addr.IsValid() {
		addr, limit = e.about.Addr, e.far
	}
	r := group.ServerR{Addr: addr, Port: e.control, Terminal: q.Terminal, ID: q.ID, Host: e.cfg.Host}.Append(nil)
	if len(r) > len(p.Data) || !limit.allow(now, from) {
		e.count.Limited++
		return Output{}
	}
	d := Datagram{From: cmp.Or(e.direct(p), addr), To: p.From, Data: r}
	if e.state == group.Offline {
		return e.putOff(now, offlineDelay, d)
	}
	return e.speak(now, d)
}
