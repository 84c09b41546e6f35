package simulate

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hotdesk/groupmgr/engine"
	"hotdesk/groupmgr/member"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
)

// Host is a computer of the group: a group manager, a gateway, sessions.
type Host struct {
	w      *World
	name   string
	nets   []*Net
	ifaces []group.Interface
	about  engine.Describe
	rogue  bool // has a key of its own
	off    time.Duration
	ring   group.Ring
	on     bool
	killed bool // every process has ended, the kernel runs

	eng     *engine.Engine // nil: the group manager does not run
	life    int            // of the group manager
	alarm   alarm
	linked  bool // the gateway has the group manager
	asked   map[uint64]*asked
	asks    uint64
	turn    int
	wait    []*asked // until the group manager is back
	gw      *gateway // nil: the gateway does not run
	gwLife  int
	gwLeft  time.Duration
	run     map[alp.SessionID]*session
	tickets map[[alp.TicketSize]byte]ticket

	state    group.State
	began    time.Duration     // when the group manager was started
	told     bool              // it has been told of the sessions since
	gone     time.Duration     // when it ended
	gmLeft   time.Duration     // when it said goodbye, if it did
	gmWas    time.Duration     // gmUntil then
	gmUntil  time.Duration     // the group manager was not to be relied on until then
	gwUntil  time.Duration     // nor what it knew of the sessions
	oddUntil time.Duration     // nor its clock or its keys
	backAt   time.Duration     // its clock was set back by more than others forgive
	high     time.Duration     // the latest that its clock ever was
	said     time.Duration     // and in earlier lives of its group manager
	boots    map[string]uint64 // of others, as last heard
	shared   map[group.Key]bool
}

const never = -time.Hour

// asked is a lookup of the gateway.
type asked struct {
	q    local.Lookup
	then func(local.Answer, bool)
	done bool
	from time.Duration
	id   uint64 // of its tokenQ
	turn int    // when it came by that id
	seen string // a session that another host answered with
}

// Key is the group's n-th key.
func Key(n byte) group.Key { return group.NewKey([group.KeySize]byte{n}) }

// Host adds a host on the nets, switched off; the first is its primary one.
func (w *World) Host(name string, keys group.Ring, nets ...*Net) *Host {
	h := &Host{w: w, name: name, nets: nets, ring: keys, alarm: alarm{at: -1}, gmUntil: never, gmLeft: never, gone: never, gwUntil: never, oddUntil: never, backAt: never, high: never, said: never, boots: map[string]uint64{}, shared: map[group.Key]bool{},
		asked: map[uint64]*asked{}, run: map[alp.SessionID]*session{}, tickets: map[[alp.TicketSize]byte]ticket{}}
	for i, n := range nets {
		a := n.host(len(n.hosts) + 1)
		n.hosts = append(n.hosts, h)
		h.ifaces = append(h.ifaces, n.iface(i, a))
		w.hostAt[a] = h
	}
	for _, k := range keys {
		h.shared[k] = true
	}
	h.about = engine.Describe{Addr: h.ifaces[0].IP, CPUs: 4, Clock: 3000, Interfaces: h.ifaces, Memory: 16000, Free: 12000}
	w.hosts = append(w.hosts, h)
	w.named[name] = h
	return h
}

func (h *Host) addrOn(n *Net) netip.Addr {
	if i := slices.Index(h.nets, n); i >= 0 {
		return h.ifaces[i].IP
	}
	return netip.Addr{}
}

// clock is the time as this host's programs read it.
func (h *Host) clock() time.Time { return instant(base.Add(h.w.now+h.off), time.Hour+h.w.now) }

// Step sets the clock forward by d.
func (h *Host) Step(d time.Duration) {
	if d <= time.Minute-MaxSkew {
		h.backAt = h.w.now
	}
	if h.odd() {
		h.oddUntil = h.w.now
	}
	h.high = max(h.high, h.w.now+h.off)
	h.off += d
	if h.w.now+h.off < h.said {
		h.backAt = h.w.now // this life began before the last one ended, as others see it
	}
}

// odd reports whether others may refuse what this host says for its clock.
func (h *Host) odd() bool { return h.off.Abs() > 2*time.Minute }

// Keys replaces the key file.
func (h *Host) Keys(r group.Ring) {
	h.ring = r
	for _, k := range r {
		h.shared[k] = true
	}
	if h.eng != nil {
		h.eng.SetRing(r)
	}
}

// On switches the host on, with a group manager and a gateway.
func (h *Host) On() {
	if h.on {
		return
	}
	h.on, h.killed = true, false
	h.StartGroup()
	h.StartGateway()
}

// Crash switches the host off: its sessions are lost, nobody is told.
func (h *Host) Crash() {
	h.killed = false
	if !h.on {
		return
	}
	h.on = false
	h.CrashGroup()
	h.gw, h.linked = nil, false
	h.gwLife++
	h.drop()
	h.gwUntil = h.w.now
	for _, id := range sorted(h.run) {
		h.run[id].end()
	}
	clear(h.tickets)
	for _, u := range h.w.units {
		if m := u.media; m != nil && m.host == h {
			m.quiet(h.w)
		}
	}
}

// StartGroup starts the group manager.
func (h *Host) StartGroup() {
	if h.eng != nil || !h.on {
		return
	}
	h.life++
	h.began, h.told = h.w.now, false
	cfg := engine.Config{
		Host: h.name, Port: group.Port, Ring: h.ring, Alg: group.SHA1, Period: Period, Down: Down, MaxSkew: MaxSkew,
		Settle: engine.Settle, State: h.state,
	}
	if h.gmLeft >= 0 && h.w.now-h.gmLeft < time.Second {
		h.gmUntil = h.gmWas // a restart, as its supervisor makes it: others wait
	} else {
		h.gmUntil = h.w.now + 2*time.Second
	}
	for i := 0; i < len(cfg.Seed); i += 8 {
		binary.LittleEndian.PutUint64(cfg.Seed[i:], h.w.rnd.Uint64())
	}
	h.said = max(h.said, h.high)
	if at := h.w.now + h.off; at < h.said {
		h.backAt = h.w.now // its first message is older than the last of its last life
	}
	h.alarm.at = -1
	h.eng = engine.New(h.clock(), cfg)
	h.step(h.about)
	h.link()
}

// StopGroup ends the group manager, which says goodbye.
func (h *Host) StopGroup() {
	if h.eng == nil {
		return
	}
	if h.linked {
		h.gmLeft, h.gmWas = h.w.now, h.gmUntil
	}
	h.perform(h.eng.Goodbye(h.clock()))
	h.CrashGroup()
}

// CrashGroup ends the group manager at once.
func (h *Host) CrashGroup() {
	if h.eng == nil {
		return
	}
	if h.gmLeft != h.w.now {
		h.gmLeft = never
	}
	h.gone, h.gmUntil = h.w.now, h.w.now
	h.high = max(h.high, h.w.now+h.off)
	h.eng, h.linked = nil, false
	h.life++
	for _, id := range sorted(h.asked) { // asked again of the next one
		if a := h.asked[id]; !a.done {
			h.wait = append(h.wait, a)
		}
	}
	clear(h.asked)
}

// relink is when a gateway tries again to reach a group manager that is away
// since then: at growing intervals, as package grouplink.
func relink(away time.Duration) time.Duration {
	pause := 50 * time.Millisecond
	at := pause
	for at <= away {
		pause = min(2*pause, time.Second)
		at += pause
	}
	return at - away
}

// link connects the gateway and the group manager a moment later.
func (h *Host) link() {
	life, gwLife := h.life, h.gwLife
	wait := 5 * time.Millisecond
	if h.eng != nil && h.gw != nil && h.gw.since < h.gone {
		wait = relink(h.w.now - h.gone)
	}
	h.w.after(wait, func() {
		if h.life != life || h.gwLife != gwLife || h.eng == nil || h.gw == nil || h.linked {
			return
		}
		if !h.told && h.w.now-h.began > restarts {
			h.gwUntil = h.w.now
		}
		h.linked, h.told = true, true
		h.hear()
		h.step(engine.Hello{Control: controlPort})
		h.report()
		wait := h.wait
		h.wait = nil
		for _, a := range wait {
			h.ask(a)
		}
	})
}

func (h *Host) report() {
	if h.linked {
		h.step(engine.Report{Sessions: h.gw.table.Report(h.clock()).Sessions})
	}
}

// lookup asks the group manager; then is called with false when it has no
// answer within groupWithin.
func (h *Host) lookup(q local.Lookup, then func(local.Answer, bool)) {
	a := &asked{q: q, then: then}
	if h.linked {
		h.ask(a)
	} else {
		h.wait = append(h.wait, a)
	}
	h.w.after(groupWithin, func() {
		if !a.done {
			a.done = true
			h.wait = slices.DeleteFunc(h.wait, func(o *asked) bool { return o == a })
			then(local.Answer{}, false)
		}
	})
}

func (h *Host) ask(a *asked) {
	if a.done {
		return
	}
	h.asks++
	a.from, a.id, a.turn, a.seen = h.w.now, 0, 0, ""
	h.asked[h.asks] = a
	h.step(engine.Ask{ID: h.asks, Lookup: a.q})
}

// step steps the group manager, if there is one.
func (h *Host) step(e engine.Event) {
	if h.eng == nil {
		return
	}
	if p, ok := e.(engine.Packet); ok {
		h.note(p)
	}
	h.w.Steps++
	h.perform(h.eng.Step(h.clock(), e))
}

func (h *Host) perform(out engine.Output) {
	for _, d := range out.Send {
		h.w.checkSend(h, d)
		h.w.tell(h, d)
		h.w.send(h, d)
	}
	for _, k := range out.Knock {
		h.knock(k)
	}
	for _, n := range slices.SortedFunc(slices.Values(out.Notices), func(a, b member.Notice) int {
		return strings.Compare(string(a.Kind)+a.Host, string(b.Kind)+b.Host)
	}) {
		if h.w.Trace != nil {
			h.notice(n)
		}
	}
	for _, a := range out.Answers {
		if q := h.asked[a.ID]; q != nil {
			delete(h.asked, a.ID)
			if !q.done {
				q.done = true
				h.w.checkAnswer(h, q, a.Answer)
				q.then(a.Answer, true)
			}
		}
	}
	h.arm()
}

func (h *Host) notice(n member.Notice) {
	line := fmt.Sprintf("%s: %s: %s", h.name, n.Kind, n.Host)
	if n.Why != "" {
		line += ": " + n.Why
	}
	h.w.say("%s", line)
}

func (h *Host) arm() {
	if h.eng == nil {
		return
	}
	life := h.life
	h.alarm.set(h.w, h.eng.Next().Sub(h.clock()), h.name, func() bool { return h.life == life }, func() {
		h.w.Steps++
		h.perform(h.eng.Tick(h.clock()))
	})
}

// StartGateway starts the gateway, which finds the sessions that run.
func (h *Host) StartGateway() {
	if h.gw != nil || !h.on {
		return
	}
	h.gwLife++
	h.gw = newGateway(h)
	if h.w.now-h.gwLeft > keeps || !h.told {
		h.gwUntil = h.w.now + time.Second
	}
	h.link()
}

// StopGateway ends the gateway. Its terminals notice, the sessions go on.
func (h *Host) StopGateway() {
	if h.gw == nil {
		return
	}
	h.gw, h.gwLeft = nil, h.w.now
	h.gwLife++
	if h.linked {
		h.linked = false
		h.step(engine.Lost{})
	}
	h.drop()
	for _, u := range h.w.units {
		for _, id := range sorted(u.conns) {
			if c := u.conns[id]; c.host == h && c.up {
				c.hangUp()
			}
		}
		if m := u.media; m != nil && m.host == h && m.session == nil {
			m.close(h.w, false, 0, "connection reset")
		}
	}
}

// drop forgets what the gateway asked.
func (h *Host) drop() {
	for _, a := range h.wait {
		a.done = true
	}
	h.wait = nil
	for _, a := range h.asked {
		a.done = true
	}
}

// Kill ends every process of the host at once. Its kernel goes on and says so
// to whoever has a connection, until the host is switched on again.
func (h *Host) Kill() {
	if !h.on {
		return
	}
	h.StopGateway()
	for _, id := range sorted(h.run) {
		if m := h.run[id].media; m != nil {
			m.close(h.w, false, 0, "connection reset")
		}
	}
	w := h.w
	w.after(slowest, func() {
		if h.gw == nil && h.on {
			h.Crash()
			h.killed = true
		}
	})
}

// knock finds out whether nothing listens at a host any more: its kernel says
// so, if it still runs. The port of the gateway outlives the gateway.
func (h *Host) knock(k engine.Knock) {
	o, _ := h.w.named[k.Host].(*Host)
	life := h.life
	h.w.after(2*h.w.delay(), func() {
		if o != nil && o.killed && h.life == life && h.w.both(h.name, o.name) {
			h.w.say("%s knocks at %s: nothing listens", h.name, o.name)
			h.step(engine.Deaf{Host: k.Host})
		}
	})
}

// State is an admin's word, which outlives the group manager.
func (h *Host) State(st group.State) {
	h.state = st
	h.step(engine.SetState{State: st})
	h.hear()
}
