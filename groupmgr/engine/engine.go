// Package engine is a group manager without its sockets: the table of hosts,
// the sessions of this host, the lookups under way, put together as one
// machine, so that a thousand of them can be run in one test.
//
// Source: seed 004 figures 7, 9b and 9c; design section 4.
//
// Invariants:
//  1. Questions about tokens go to TRUSTED hosts that are up, and are answered
//     to such hosts only.
//  2. Nobody is redirected to a host that the terminal cannot reach
//     (locate.Reach).
//  3. Within settle after the start no lookup is answered: the group must have
//     had a chance to be heard, or a second session would be made.
//  4. A serverQ is answered only while a gateway serves here, at a bounded rate,
//     with no more bytes than it had.
//  5. The sessions that a gateway reported outlive its connection by keep, the
//     time of its restart.
//
// The package does no I/O and reads no clock; callers pass the time, which must
// not go back, and the randomness. An Engine is not safe for concurrent use.
// Limits: MaxLookups, and those of protocol/group and package member.
package engine

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hotdesk/groupmgr/balance"
	"hotdesk/groupmgr/locate"
	"hotdesk/groupmgr/member"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
)

// MaxLookups bounds the lookups under way.
const MaxLookups = 1024

const maxPromises = 4096

const (
	keep    = 5 * time.Second  // invariant 5
	promise = 10 * time.Second // how long a new session may take to show in a report
)

// Settle is the time of invariant 3 where the configuration says nothing else:
// two hosts that start together have said all three first messages.
const Settle = 500 * time.Millisecond

// Config is what an Engine needs to know.
type Config struct {
	Host    string
	Port    uint16 // of the group
	Ring    group.Ring
	Alg     group.Alg
	Period  time.Duration
	Down    time.Duration
	MaxSkew time.Duration
	Settle  time.Duration
	Limit   int      // sessions that this host takes, 0: what its processors carry
	Offline bool     // take no new sessions
	Seed    [32]byte // random: boot id, question ids, choices
}

// An Event is what Step takes.
type Event interface{ event() }

type (
	// Describe tells what this host is like now. Interfaces beyond
	// group.MaxInterfaces must have been cut off.
	Describe struct {
		Addr       netip.Addr
		CPUs       int
		Clock      int // MHz
		Interfaces []group.Interface
		Busy       int // hundredths of runnable programs
		Memory     int // MiB
		Free       int // MiB
	}
	// Packet is a datagram that came.
	Packet struct {
		From netip.AddrPort
		Data []byte
	}
	// Hello is a gateway that came, with the port of its control connection.
	Hello struct{ Control int }
	// Lost is the gateway's connection that ended.
	Lost struct{}
	// Report is the gateway's table of sessions, checked by the caller.
	Report struct{ Sessions []local.Session }
	// Ask is a lookup of the gateway, checked by the caller; its Answered
	// carries the same ID.
	Ask struct {
		ID     uint64
		Lookup local.Lookup
	}
)

func (Describe) event() {}
func (Packet) event()   {}
func (Hello) event()    {}
func (Lost) event()     {}
func (Report) event()   {}
func (Ask) event()      {}

// A Datagram is to be sent, from the address From where that is valid.
type Datagram struct {
	From netip.Addr
	To   netip.AddrPort
	Data []byte
}

// Answered is the end of an Ask.
type Answered struct {
	ID     uint64
	Answer local.Answer
}

// Output is what the shell has to do, in this order.
type Output struct {
	Send    []Datagram
	Answers []Answered
	Notices []member.Notice
}

func (o *Output) add(p Output) {
	o.Send = append(o.Send, p.Send...)
	o.Answers = append(o.Answers, p.Answers...)
	o.Notices = append(o.Notices, p.Notices...)
}

// Engine is the machine.
type Engine struct {
	cfg      Config
	start    time.Time
	rnd      *rand.Rand
	table    *member.Table
	balance  *balance.Balancer
	limit    *limiter
	about    Describe
	control  int
	lost     time.Time // when the gateway's connection ended; zero: it is there, or never was
	sessions []local.Session
	promises map[alp.Token]placed
	lookups  []*asking
	held     []Ask // until settle is over
}

type placed struct {
	host string
	at   time.Time
}

// New makes an Engine; Describe it before the first Tick.
func New(now time.Time, cfg Config) *Engine {
	rnd := rand.New(rand.NewChaCha8(cfg.Seed))
	e := &Engine{
		cfg: cfg, start: now, rnd: rnd, balance: balance.New(rnd), limit: newLimiter(),
		promises: map[alp.Token]placed{},
	}
	boot := rnd.Uint64() | 1 // never 0, which is none
	e.table = member.New(now, member.Config{Host: cfg.Host, Boot: boot, Period: cfg.Period, Down: cfg.Down, MaxSkew: cfg.MaxSkew})
	return e
}

// SetRing replaces the keys.
func (e *Engine) SetRing(r group.Ring) { e.cfg.Ring = r }

// Next is when Tick has something to do.
func (e *Engine) Next() time.Time {
	next := e.table.Next()
	sooner := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	for _, l := range e.lookups {
		sooner(l.machine.Next())
	}
	if !e.lost.IsZero() {
		sooner(e.lost.Add(keep))
	}
	if len(e.held) > 0 {
		sooner(e.start.Add(e.cfg.Settle))
	}
	return next
}

// Tick does what the time makes due.
func (e *Engine) Tick(now time.Time) Output {
	var out Output
	if !e.lost.IsZero() && now.Sub(e.lost) >= keep {
		e.lost, e.control, e.sessions = time.Time{}, 0, nil
		e.describe(now)
	}
	e.forgetPromises(now)
	out.add(e.members(now, e.table.Tick(now)))
	if len(e.held) > 0 && !now.Before(e.start.Add(e.cfg.Settle)) {
		held := e.held
		e.held = nil
		for _, a := range held {
			out.add(e.ask(now, a))
		}
	}
	for _, l := range slices.Clone(e.lookups) {
		out.add(e.drive(now, l))
	}
	return out
}

// Step takes one event.
func (e *Engine) Step(now time.Time, event Event) Output {
	switch v := event.(type) {
	case Describe:
		e.about = v
		e.describe(now)
	case Packet:
		return e.packet(now, v)
	case Hello:
		e.control, e.lost = v.Control, time.Time{}
		e.describe(now)
	case Lost:
		e.lost = now
	case Report:
		e.sessions = v.Sessions
		for _, s := range v.Sessions {
			delete(e.promises, s.Token)
		}
		e.describe(now)
	case Ask:
		if now.Before(e.start.Add(e.cfg.Settle)) && len(e.held) < MaxLookups {
			e.held = append(e.held, v)
			return Output{}
		}
		return e.ask(now, v)
	}
	return Output{}
}

func (e *Engine) describe(now time.Time) {
	state := group.Online
	if e.cfg.Offline {
		state = group.Offline
	}
	e.table.Describe(now, group.Host{
		Addr: e.about.Addr, CPUs: e.about.CPUs, Clock: e.about.Clock, Interfaces: e.about.Interfaces,
		Control: e.control, State: state,
		Load: group.Load{Sessions: len(e.sessions), Limit: e.cfg.Limit, Busy: e.about.Busy, Memory: e.about.Memory, Free: e.about.Free},
	})
}

// Welcome is the answer to a gateway's hello.
func (e *Engine) Welcome() local.Welcome {
	return local.Welcome{Host: e.cfg.Host, Addr: e.about.Addr}
}

func (e *Engine) members(now time.Time, m member.Output) Output {
	out := Output{Notices: m.Notices}
	for _, a := range m.Announce {
		if a.To.IsValid() {
			out.Send = append(out.Send, Datagram{To: e.at(a.To), Data: e.sign(e.table.Message(now).Append(nil))})
			continue
		}
		var said []netip.Addr
		for _, i := range e.about.Interfaces {
			if !slices.Contains(said, i.Bcast) {
				said = append(said, i.Bcast)
				out.Send = append(out.Send, Datagram{From: i.IP, To: e.at(i.Bcast), Data: e.sign(e.table.Message(now).Append(nil))})
			}
		}
	}
	return out
}

func (e *Engine) at(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, e.cfg.Port) }

func (e *Engine) sign(line []byte) []byte { return e.cfg.Ring.Sign(line, e.cfg.Alg) }

// packet takes a datagram. What cannot be read is dropped in silence: anybody
// can send anything to a broadcast port.
func (e *Engine) packet(now time.Time, p Packet) Output {
	from := p.From.Addr().Unmap()
	switch group.Kind(p.Data) {
	case group.CmdHost:
		h, err := group.ParseHost(p.Data)
		if err != nil {
			return Output{}
		}
		return e.members(now, e.table.Step(now, member.Heard{From: from, Host: h, Signed: e.cfg.Ring.Verify(p.Data)}))
	case group.CmdServerQ:
		return e.serverQ(now, p)
	case group.CmdTokenQ:
		q, err := group.ParseTokenQ(p.Data)
		if err != nil {
			return Output{}
		}
		if why := e.admit(now, from, q.Stamp, p.Data); why != "" {
			return refused(q.Host, from, why)
		}
		r := group.TokenR{Stamp: e.table.Stamp(now), To: q.Host, ID: q.ID, Token: q.Token, Found: e.own(now, q.Token, true)}
		return Output{Send: []Datagram{{To: p.From, Data: e.sign(r.Append(nil))}}}
	case group.CmdTokenR:
		r, err := group.ParseTokenR(p.Data)
		if err != nil || r.To != e.cfg.Host {
			return Output{}
		}
		if why := e.admit(now, from, r.Stamp, p.Data); why != "" {
			return refused(r.Host, from, why)
		}
		for _, l := range e.lookups {
			if l.id == r.ID && l.ask.Lookup.Token == r.Token {
				l.machine.Answer(now, r.Host, r.Found)
				return e.drive(now, l)
			}
		}
	}
	return Output{}
}

func (e *Engine) admit(now time.Time, from netip.Addr, s group.Stamp, data []byte) string {
	if s.Host == e.cfg.Host {
		return "it says our name"
	}
	if err := e.cfg.Ring.Verify(data); err != nil {
		return err.Error()
	}
	return e.table.Admit(now, from, s)
}

func refused(host string, from netip.Addr, why string) Output {
	return Output{Notices: []member.Notice{{Kind: member.Refused, Host: host, From: from, Why: why}}}
}

func (e *Engine) serverQ(now time.Time, p Packet) Output {
	q, err := group.ParseServerQ(p.Data)
	from := p.From.Addr().Unmap()
	if err != nil || e.control == 0 || e.cfg.Offline || p.From.Port() == 0 || !from.Is4() || from.IsUnspecified() || from.IsMulticast() {
		return Output{}
	}
	self, _ := e.table.Find(e.cfg.Host)
	addr := locate.On(now, self, from, e.cfg.Down)
	if !addr.IsValid() {
		addr = e.about.Addr
	}
	r := group.ServerR{Addr: addr, Port: e.control, Terminal: q.Terminal, ID: q.ID, Host: e.cfg.Host}.Append(nil)
	if len(r) > len(p.Data) || !e.limit.allow(now, from) {
		return Output{}
	}
	return Output{Send: []Datagram{{From: addr, To: p.From, Data: r}}}
}

// keepPromise notes where a new session of a token was sent. With no room left
// the note is missing, and only the race that it guards against is open.
func (e *Engine) keepPromise(now time.Time, token alp.Token, host string) {
	if len(e.promises) >= maxPromises {
		e.forgetPromises(now)
	}
	if len(e.promises) < maxPromises {
		e.promises[token] = placed{host, now}
	}
}

func (e *Engine) forgetPromises(now time.Time) {
	for token, p := range e.promises {
		if now.Sub(p.at) >= promise {
			delete(e.promises, token)
		}
	}
}

// own is this host's sessions of a token, the latest connection first, and,
// for others, the one that is promised.
func (e *Engine) own(now time.Time, token alp.Token, promised bool) []group.Found {
	var found []group.Found
	for _, s := range e.sessions {
		if s.Token != token {
			continue
		}
		f := group.Found{ID: s.ID, State: group.Disconnected, Ago: now.Sub(time.UnixMilli(s.Last)).Truncate(time.Millisecond)}
		f.Ago = min(max(f.Ago, 0), group.MaxAgo)
		if s.Connected {
			f.State = group.Connected
		}
		found = append(found, f)
	}
	slices.SortStableFunc(found, func(a, b group.Found) int {
		if a.Ago != b.Ago {
			return int(min(max(a.Ago-b.Ago, -1), 1))
		}
		return strings.Compare(string(b.ID), string(a.ID))
	})
	if p, ok := e.promises[token]; promised && ok && now.Sub(p.at) < promise && p.host == e.cfg.Host && len(found) == 0 {
		found = append(found, group.Found{State: group.Starting, Ago: now.Sub(p.at).Truncate(time.Millisecond)})
	}
	return found[:min(len(found), group.MaxFound)]
}
