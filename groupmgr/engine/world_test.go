package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"hotdesk/groupmgr/member"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
)

// world is a network of engines with a clock of its own. Datagrams arrive a
// millisecond later in the order of their sending, and only where sender and
// receiver share the subnet of the address, or unicasts are routed.
type world struct {
	t      *testing.T
	now    time.Time
	hosts  []*host
	queue  []flight             // by time
	cut    map[string]bool      // hosts that neither send nor receive
	routed bool                 // unicasts cross subnets
	delay  func() time.Duration // nil: always a millisecond
	drop   func(from *host, d Datagram) bool
	saw    func(from *host, d Datagram)
	knock  func(from *host, k Knock)
}

type flight struct {
	at   time.Time
	from *host
	src  netip.Addr
	d    Datagram
}

type host struct {
	*Engine
	name    string
	skew    time.Duration
	about   Describe
	answers map[uint64]local.Answer
	notices []member.Notice
	states  []local.State // after each change
	ids     uint64
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func ring(b byte) group.Ring {
	return group.Ring{group.NewKey([group.KeySize]byte{b})}
}

func newWorld(t *testing.T) *world {
	return &world{t: t, now: time.Unix(1700000000, 0), cut: map[string]bool{}}
}

// add starts a host with an address on 10.0.N.0/24 for each of the addresses.
func (w *world) add(name string, cfg Config, addrs ...string) *host {
	h := &host{name: name, answers: map[uint64]local.Answer{}, about: Describe{Addr: ip(addrs[0]), CPUs: 4, Memory: 16000, Free: 12000}}
	for i, a := range addrs {
		b := ip(a).As4()
		b[3] = 255
		h.about.Interfaces = append(h.about.Interfaces, group.Interface{Name: fmt.Sprintf("eth%d", i), IP: ip(a), Mask: ip("255.255.255.0"), Bcast: netip.AddrFrom4(b)})
	}
	w.start(h, cfg)
	w.hosts = append(w.hosts, h)
	return h
}

// start gives h a new engine: a new life of its group manager.
func (w *world) start(h *host, cfg Config) {
	cfg.Host, cfg.Port, cfg.Alg = h.name, group.Port, group.SHA1
	cfg.Period, cfg.Down, cfg.MaxSkew, cfg.Settle = 20*time.Second, 60*time.Second, 5*time.Minute, Settle
	if cfg.Ring == nil {
		cfg.Ring = ring(1)
	}
	copy(cfg.Seed[:], fmt.Sprintf("%s %d", h.name, w.now.UnixNano()))
	h.Engine = New(w.now.Add(h.skew), cfg)
	w.step(h, h.about)
}

func (w *world) step(h *host, e Event) { w.perform(h, h.Step(w.now.Add(h.skew), e)) }

func (w *world) perform(h *host, out Output) {
	for _, d := range out.Send {
		if w.saw != nil {
			w.saw(h, d)
		}
		to := d.To.Addr()
		for _, i := range h.about.Interfaces {
			near := i.Prefix().Contains(to) || to.IsMulticast() || w.routed && to != i.Bcast
			if w.cut[h.name] || !near || d.From.IsValid() && d.From != i.IP || w.drop != nil && w.drop(h, d) {
				continue
			}
			wait := time.Millisecond
			if w.delay != nil {
				wait = w.delay()
			}
			at := w.now.Add(wait)
			n := len(w.queue)
			for n > 0 && w.queue[n-1].at.After(at) {
				n--
			}
			w.queue = slices.Insert(w.queue, n, flight{at, h, i.IP, d})
			break
		}
	}
	for _, a := range out.Answers {
		h.answers[a.ID] = a.Answer
	}
	for _, k := range out.Knock {
		if w.knock != nil {
			w.knock(h, k)
		}
	}
	h.notices = append(h.notices, out.Notices...)
	if out.State {
		h.states = append(h.states, h.State())
	}
}

// run lets d pass.
func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for {
		next := end
		for _, h := range w.hosts {
			if at := h.Next().Add(-h.skew); at.Before(next) {
				next = at
			}
		}
		if len(w.queue) > 0 && w.queue[0].at.Before(next) {
			next = w.queue[0].at
		}
		if next.After(w.now) {
			w.now = next
		}
		busy := false
		for len(w.queue) > 0 && !w.queue[0].at.After(w.now) {
			f := w.queue[0]
			w.queue, busy = w.queue[1:], true
			w.deliver(f)
		}
		for _, h := range w.hosts {
			if !h.Next().Add(-h.skew).After(w.now) {
				busy = true
				w.perform(h, h.Tick(w.now.Add(h.skew)))
			}
		}
		if !busy && !w.now.Before(end) {
			return
		}
	}
}

func (w *world) deliver(f flight) {
	to := f.d.To.Addr()
	for _, h := range w.hosts {
		if w.cut[h.name] && h != f.from {
			continue
		}
		for _, i := range h.about.Interfaces {
			if i.IP == to || (i.Bcast == to || to.IsMulticast()) && i.Prefix().Contains(f.src) {
				w.step(h, Packet{From: netip.AddrPortFrom(f.src, group.Port), To: to, Data: f.d.Data})
			}
		}
	}
}

const terminal = alp.TerminalID("0003ba0a0b0c")

// lookup asks h for a token of the terminal at addr, and returns the answer
// and the time that it took.
func (w *world) lookup(h *host, token alp.Token, addr string) (local.Answer, time.Duration) {
	w.t.Helper()
	h.ids++
	began := w.now
	w.step(h, Ask{h.ids, local.Lookup{Token: token, Terminal: terminal, Addr: ip(addr)}})
	for range 3000 {
		if a, ok := h.answers[h.ids]; ok {
			return a, w.now.Sub(began)
		}
		w.run(time.Millisecond)
	}
	w.t.Fatalf("%s: no answer for %s", h.name, token)
	return local.Answer{}, 0
}

func (w *world) session(h *host, id alp.SessionID, token alp.Token, ago time.Duration) local.Session {
	return local.Session{ID: id, Token: token, Last: w.now.Add(h.skew - ago).UnixMilli()}
}

const (
	s1 = alp.SessionID("1111111111111111")
	s2 = alp.SessionID("2222222222222222")
)

// two is a group of two hosts on one subnet, both with a gateway, settled.
func two(t *testing.T) (w *world, a, b *host) {
	w = newWorld(t)
	a = w.add("a", Config{}, "10.0.0.1")
	b = w.add("b", Config{}, "10.0.0.2")
	w.step(a, Hello{7001})
	w.step(b, Hello{7002})
	w.run(time.Second)
	return w, a, b
}
