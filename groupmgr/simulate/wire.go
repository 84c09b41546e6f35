package simulate

import (
	"net/netip"
	"slices"
	"time"

	"hotdesk/groupmgr/engine"
	"hotdesk/protocol/group"
)

// Latencies of a network in good order.
const (
	quickest = 200 * time.Microsecond
	slowest  = 2 * time.Millisecond
)

// Cut ends what goes from one to another, of hosts and terminals by name.
func (w *World) Cut(from, to string) {
	if !w.cuts[[2]string{from, to}] {
		w.cuts[[2]string{from, to}] = true
		w.touchMedia(from, to)
	}
}

// Partition cuts each of the one side from each of the other, both ways.
func (w *World) Partition(one, other []string) {
	for _, a := range one {
		for _, b := range other {
			w.Cut(a, b)
			w.Cut(b, a)
		}
	}
}

// Mend takes the cuts, the loss and the delay away.
func (w *World) Mend() {
	for c := range w.cuts {
		w.cutAt[pair(c[0], c[1])] = w.now
	}
	clear(w.cuts)
	w.Weather(0, 0, 0)
}

// Weather sets what happens to datagrams: the shares that are lost and that
// come twice, and by how much each may come late, so that they overtake each
// other.
func (w *World) Weather(loss, twice float64, slow time.Duration) {
	if w.foul() {
		w.badUntil = w.now
	}
	w.loss, w.twice, w.slow = loss, twice, slow
}

// foul reports whether datagrams may be lost, or come too late for a lookup.
func (w *World) foul() bool { return w.loss > 0 || w.slow > 20*time.Millisecond }

// tell says who asks whom.
func (w *World) tell(h *Host, d engine.Datagram) {
	o := w.hostAt[d.To.Addr()]
	if w.Trace == nil || o == nil {
		return
	}
	switch group.Kind(d.Data) {
	case group.CmdTokenQ:
		if q, err := group.ParseTokenQ(d.Data); err == nil {
			w.say("%s asks %s for %s", h.name, o.name, q.Token)
		}
	case group.CmdTokenR:
		if r, err := group.ParseTokenR(d.Data); err == nil {
			what := "none"
			if len(r.Found) > 0 {
				what = string(r.Found[0].State)
			} else if r.Asking {
				what = "wait"
			}
			w.say("%s answers %s: %s", h.name, o.name, what)
		}
	}
}

// pair names the two in one order.
func pair(a, b string) [2]string {
	if a > b {
		a, b = b, a
	}
	return [2]string{a, b}
}

// open reports whether the way from one to another is not cut.
func (w *World) open(from, to string) bool { return len(w.cuts) == 0 || !w.cuts[[2]string{from, to}] }

// both reports the same of the two ways between them.
func (w *World) both(a, b string) bool { return w.open(a, b) && w.open(b, a) }

func (w *World) delay() time.Duration {
	d := time.Millisecond
	if !w.Steady {
		d = quickest + time.Duration(w.rnd.Int64N(int64(slowest-quickest)))
	}
	if w.slow > 0 {
		d += time.Duration(w.rnd.Int64N(int64(w.slow)))
	}
	return d
}

// carry has a datagram arrive, or not, or twice.
func (w *World) carry(from, to string, deliver func()) {
	if w.loss > 0 && w.rnd.Float64() < w.loss {
		return
	}
	n := 1
	if w.twice > 0 && w.rnd.Float64() < w.twice {
		n = 2
	}
	for range n {
		w.after(w.delay(), func() {
			if w.open(from, to) {
				w.Packets++
				deliver()
			}
		})
	}
}

// send carries what a host wants sent.
func (w *World) send(h *Host, d engine.Datagram) {
	to := d.To.Addr()
	src := netip.Addr{}
	var net *Net
	for i, f := range h.ifaces {
		if d.From.IsValid() && d.From != f.IP {
			continue
		}
		if h.nets[i].has(to) {
			src, net = f.IP, h.nets[i]
			break
		}
	}
	for _, t := range w.taps {
		if net == nil || slices.Contains(t.nets, net) {
			t.record(w, d)
		}
	}
	if net != nil && to == net.bcast() {
		w.broadcast(h, netip.AddrPortFrom(src, group.Port), net, d.Data)
		return
	}
	if net == nil { // by a router
		if src = d.From; !src.IsValid() {
			src = h.ifaces[0].IP
		}
	}
	from := netip.AddrPortFrom(src, group.Port)
	if o := w.hostAt[to]; o != nil {
		w.carry(h.name, o.name, func() { o.step(engine.Packet{From: from, Data: d.Data}) })
	} else if u := w.unitAt[to]; u != nil {
		w.carry(h.name, u.name, func() { u.packet(d.Data) })
	}
}

// broadcast carries one datagram to all hosts of a net. In good weather one
// event delivers to all: a thousand hosts make a million deliveries a period.
func (w *World) broadcast(h *Host, from netip.AddrPort, net *Net, data []byte) {
	p := engine.Packet{From: from, Data: data}
	if w.loss == 0 && w.twice == 0 && w.slow == 0 {
		w.after(w.delay(), func() {
			for _, o := range net.hosts {
				if w.open(h.name, o.name) {
					w.Packets++
					o.step(p)
				}
			}
		})
		return
	}
	for _, o := range net.hosts {
		w.carry(h.name, o.name, func() { o.step(p) })
	}
}

// tap is an attacker's ear on some nets, and what it has heard.
type tap struct {
	nets  []*Net
	heard []engine.Datagram
}

const maxHeard = 256

func (t *tap) record(w *World, d engine.Datagram) {
	if len(t.heard) < maxHeard {
		t.heard = append(t.heard, d)
	} else {
		t.heard[w.rnd.IntN(maxHeard)] = d
	}
}

// Tap begins to record what hosts send on the nets.
func (w *World) Tap(nets ...*Net) { w.taps = append(w.taps, &tap{nets: nets}) }

// Replay sends up to n recorded datagrams again to every host of the tap's
// nets: from an address of its own, or from the address of another host.
func (w *World) Replay(n int) {
	for _, t := range w.taps {
		for range min(n, len(t.heard)) {
			d := t.heard[w.rnd.IntN(len(t.heard))]
			for _, net := range t.nets {
				src := net.host(0xeeee)
				if w.rnd.IntN(2) == 0 && len(net.hosts) > 0 {
					o := net.hosts[w.rnd.IntN(len(net.hosts))]
					src = o.addrOn(net)
				}
				from := netip.AddrPortFrom(src, group.Port)
				for _, o := range net.hosts {
					w.carry("", o.name, func() { o.step(engine.Packet{From: from, Data: d.Data}) })
				}
			}
		}
	}
}
