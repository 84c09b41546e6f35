// Package simulate runs whole groups in one goroutine: the real machines of
// hosts (package engine) and terminals (packages terminal and bootstrap), the
// gateway's real table of sessions, and models of what lies between: the
// networks, the control and media connections, the gateway's decisions, the
// sessions. It is linked into no program.
//
// Source: issue "The group", "Pure machines, simulated"; design sections 2 to 4.
//
// Everything follows from the seed of the World and the order of the calls:
// the same calls give the same history. Faults are calls: Cut and Partition,
// Weather (loss, delay, copies), Step of a clock, stops and starts of group
// managers, gateways and hosts, Keys, a rogue, Tap and Replay. Story reads them
// from files in domain words (Usage); History makes them at random. Not modelled:
// the hints of host messages that terminals hear, DHCP, multicast, peers.
//
// Invariants that every World watches over its machines, after each step for
// what the step touched (Broken lists what did not hold):
//
//  1. A tokenQ or tokenR goes to no address of a host that never shared a key
//     with its sender.
//  2. A redirect names an address at which its host is on the terminal's own
//     subnet, or, where no host of the group is on that, a primary address.
//  3. No session is made of a token of which a session is on a host in touch.
//     In touch: its processes run (a group manager that said goodbye may be away
//     for a restart, a gateway for a few seconds), and for a Period past no cut,
//     loss or delay was between the two and no clock of the two was refused.
//     Nothing more can hold: whoever cannot ask must choose between a second
//     session and none. Likewise Here and There name the latest session of all
//     hosts in touch, and one that a host told of in time, in touch or not; only
//     a host that has a session itself does not wait for a group manager that
//     is just starting again.
//     A session that its user chose to have beside another is none of these:
//     that it was chosen, on a question's screen at that very terminal, for that
//     very insertion, is asked instead.
//  4. A machine whose time has come does not want to be called again at once.
//  8. No session of a token is made on a host that its rule bars, whoever chose
//     that, and none is promised there.
//
// and at rest, after Heal (Agree, Rest):
//
//  5. Within one Period every two tables of hosts that share a network agree:
//     each has the other as trusted, up, not suspect, with its control port and
//     its number of sessions; and hosts that are off are down to all within
//     Down. Where a clock was set back by more than MaxSkew, within Down and
//     one Period: until then its messages cannot be told from recorded ones.
//  6. All hosts name the same session as the newest of a token: the one that was
//     attached last, in true time. Where two were attached within atOnce of
//     each other, any of them.
//  7. Every terminal shows a picture or says why not.
//
// The package does no I/O, reads no clock and starts no goroutine; a World is
// not safe for concurrent use.
package simulate

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
	"unsafe"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
	"hotdesk/server/proof"
)

// What the group is configured with, as groupmgr does by default.
const (
	Period  = 20 * time.Second
	Down    = 60 * time.Second
	MaxSkew = 5 * time.Minute

	controlPort = 7443
	atOnce      = 500 * time.Millisecond
)

// base is when every World begins.
var base = time.Unix(951436800, 0) // 25 February 2000, the seed's

// World is a group, its terminals and all between them.
type World struct {
	now   time.Duration // true time since base
	queue events
	seq   uint64
	rnd   *rand.Rand

	hosts   []*Host
	units   []*Unit
	nets    []*Net
	hostAt  map[netip.Addr]*Host
	unitAt  map[netip.Addr]*Unit
	unitBy  map[alp.TerminalID]*Unit
	named   map[string]any // *Host, *Unit
	tracks  map[alp.Token]*track
	ids     map[alp.SessionID]*session
	made    int // sessions so far
	tickets uint64
	nonces  uint64
	proofs  func(alp.Token) proof.Kind // that a token needs; nil: none
	rules   map[alp.Token][]string     // hosts that may give it a new session; none: all

	cuts     map[[2]string]bool
	cutAt    map[[2]string]time.Duration // when a cut between two last was
	loss     float64
	twice    float64 // share of datagrams that come twice
	slow     time.Duration
	badUntil time.Duration // loss or delay was until then
	taps     []*tap
	faults   bool // answers are followed closely: false where there are thousands of hosts and no faults

	// Trace, if not nil, is told what happens in words.
	Trace func(line string)
	// Broken is what did not hold, oldest first, at most maxBroken.
	Broken []string
	kind   string // of the first
	// Steady has everything take a millisecond where the weather is good, so
	// that what is recorded does not change with what it does not tell of.
	Steady bool
	// Packets counts datagrams that were delivered, Steps the machines' steps.
	Packets, Steps int
}

const maxBroken = 20

// A Net is one subnet, a /16.
type Net struct {
	name   string
	number byte
	hosts  []*Host
	units  []*Unit
}

// track is what is known in truth of a token.
type track struct {
	sessions []*session // that live
}

// New makes an empty World.
func New(seed uint64) *World {
	return &World{
		rnd: rand.New(rand.NewPCG(seed, 1)), badUntil: never, faults: true,
		hostAt: map[netip.Addr]*Host{}, unitAt: map[netip.Addr]*Unit{}, unitBy: map[alp.TerminalID]*Unit{}, named: map[string]any{},
		tracks: map[alp.Token]*track{}, ids: map[alp.SessionID]*session{},
		cuts: map[[2]string]bool{}, cutAt: map[[2]string]time.Duration{},
	}
}

// Now is the true time since the beginning.
func (w *World) Now() time.Duration { return w.now }

func (w *World) say(format string, a ...any) {
	if w.Trace != nil {
		w.Trace(fmt.Sprintf(format, a...))
	}
}

func (w *World) broken(format string, a ...any) {
	if len(w.Broken) == 0 {
		w.kind = format
	}
	if len(w.Broken) < maxBroken {
		s := fmt.Sprintf("at %v: ", w.now) + fmt.Sprintf(format, a...)
		w.Broken = append(w.Broken, s)
		w.say("BROKEN %s", s)
	}
}

// Net makes a subnet.
func (w *World) Net(name string) *Net {
	if i := slices.IndexFunc(w.nets, func(n *Net) bool { return n.name == name }); i >= 0 {
		return w.nets[i]
	}
	n := &Net{name: name, number: byte(len(w.nets) + 1)}
	w.nets = append(w.nets, n)
	return n
}

func (n *Net) host(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, n.number, byte(i >> 8), byte(i)})
}
func (n *Net) unit(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, n.number, byte(100 + i>>8), byte(i)})
}
func (n *Net) bcast() netip.Addr { return netip.AddrFrom4([4]byte{10, n.number, 255, 255}) }
func (n *Net) has(a netip.Addr) bool {
	b := a.As4()
	return b[0] == 10 && b[1] == n.number
}

func (n *Net) iface(i int, a netip.Addr) group.Interface {
	return group.Interface{Name: fmt.Sprintf("eth%d", i), IP: a, Mask: netip.AddrFrom4([4]byte{255, 255, 0, 0}), Bcast: n.bcast()}
}

// event is something that is to happen.
type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*q = old[:len(old)-1]
	return e
}

// after has f run d from now.
func (w *World) after(d time.Duration, f func()) {
	w.seq++
	heap.Push(&w.queue, event{w.now + max(d, 0), w.seq, f})
}

// Run lets d pass.
func (w *World) Run(d time.Duration) {
	end := w.now + d
	for len(w.queue) > 0 && w.queue[0].at <= end {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
	}
	w.now = end
}

// instant is a moment as programs read it: a wall clock that can be set, and a
// monotonic one that cannot. Package time has no way to make such a value, so
// this lays it out as time.Now does; TestInstant tells when that changes.
func instant(wall time.Time, mono time.Duration) time.Time {
	const (
		hasMonotonic = 1 << 63
		shift        = 30
		since1885    = 2682288000 // seconds from 1885 to 1970
	)
	var t time.Time
	p := (*struct {
		wall uint64
		ext  int64
		loc  *time.Location
	})(unsafe.Pointer(&t))
	p.wall = hasMonotonic | uint64(wall.Unix()+since1885)<<shift | uint64(wall.Nanosecond())
	p.ext = int64(mono)
	return t
}

// alarm calls a machine's Tick when it is due.
type alarm struct {
	at  time.Duration // of the event that is queued; negative: none is
	ran time.Duration // the moment of the last call
	n   int           // calls in that moment
}

// set has tick run d from now, unless it will be run before. live tells whether
// the machine still is the one.
func (a *alarm) set(w *World, d time.Duration, who string, live func() bool, tick func()) {
	at := w.now + max(d, 0)
	if a.at >= 0 && a.at <= at {
		return
	}
	a.at = at
	w.after(at-w.now, func() {
		if a.at != at || !live() {
			return
		}
		a.at = -1
		if a.ran != w.now {
			a.ran, a.n = w.now, 0
		}
		if a.n++; a.n > 100 {
			w.broken("%s wants to be called again and again", who)
			return
		}
		tick()
	})
}
