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
//     with no more bytes than it had. What comes from other networks than ours
//     does not use up the rate of those.
//  5. The sessions that a gateway reported outlive its connection by keep, the
//     time of its restart.
//  6. Of those who ask for one token at the same time one decides, and the
//     others learn what (group.TokenQ, Ticket).
//  7. A group manager that said goodbye while its gateway stays, or that has
//     started and not heard its gateway yet, is waited for, for the time of a
//     restart, before a new session is made.
//  8. A new session is placed on a host that its lookup allows (local.Lookup,
//     Hosts), or on none. One that exists is found wherever it is.
//
// The package does no I/O and reads no clock; callers pass the time, which must
// not go back, and the randomness. An Engine is not safe for concurrent use.
// Limits: MaxLookups, and those of protocol/group and package member.
package engine

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hotdesk/groupmgr/balance"
	"hotdesk/groupmgr/member"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
)

// MaxLookups bounds the lookups under way.
const MaxLookups = 1024

// Bounds of what is remembered for a moment: without room only the race that a
// note guards against is open, and an answer is not put off.
const (
	maxPromises = 4096
	maxClaims   = 4096
	maxLater    = 4096
)

const (
	keep    = 5 * time.Second  // invariant 5
	promise = 10 * time.Second // how long a new session may take to show in a report
	claim   = time.Second      // how long a question may be under way, with room
	restart = 2 * time.Second  // invariant 7
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
	Limit   int      // sessions that this host takes, 0: no number of its own
	Seed    [32]byte // random: boot id, question ids, choices

	State    group.State // empty: online
	Deadline time.Time   // of Offline; zero: none

	// How the others are reached; interfaces with broadcast are spoken to unless
	// NoBroadcast.
	NoBroadcast bool
	Multicast   netip.Addr       // a group that all join on every interface; zero: none
	Peers       []netip.AddrPort // hosts that neither reaches
	Learned     []netip.AddrPort // what Learned said before a restart: they are told of the start
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
		To   netip.Addr // where it was sent to; zero: not known
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
	// SetState is an admin's word. Deadline is that of group.Offline, or zero.
	SetState struct {
		State    group.State
		Deadline time.Time
	}
)

func (Describe) event() {}
func (Packet) event()   {}
func (Hello) event()    {}
func (Lost) event()     {}
func (Report) event()   {}
func (Ask) event()      {}
func (SetState) event() {}

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
	Knock   []Knock
	State   bool // the state changed: keep it on disk, tell the gateway
}

func (o *Output) add(p Output) {
	o.Send = append(o.Send, p.Send...)
	o.Answers = append(o.Answers, p.Answers...)
	o.Notices = append(o.Notices, p.Notices...)
	o.Knock = append(o.Knock, p.Knock...)
	o.State = o.State || p.State
}

// Engine is the machine.
type Engine struct {
	cfg      Config
	start    time.Time
	rnd      *rand.Rand
	table    *member.Table
	balance  *balance.Balancer
	near     *limiter // of answers to serverQ from networks of ours
	far      *limiter // and from others
	about    Describe
	control  int
	state    group.State
	deadline time.Time
	lost     time.Time // when the gateway's connection ended; zero: it is there, or never was
	sessions []known
	greeted  bool // a gateway was here in this life
	promises map[alp.Token]placed
	claims   map[alp.Token]claimed
	swept    time.Time // of promises and claims
	lookups  []*asking
	held     []held
	leaving  map[string]time.Time // hosts that are waited for by invariant 7, until when
	later    []later              // by time
	count    local.Counters
}

// known is a session of this host. Its last connection is kept as a moment that
// setting the clock does not move.
type known struct {
	local.Session
	last time.Time
}

type placed struct {
	host string
	at   time.Time
}

// claimed is the highest ticket of the questions for a token that came lately.
type claimed struct {
	ticket int
	at     time.Time
}

// held is an Ask that waits: until the group had a chance to be heard, and, if
// nothing of its token is here, for hosts that are leaving.
type held struct {
	ask Ask
	own bool
}

// later is a datagram that is put off; without data it is our host message.
type later struct {
	at time.Time
	d  Datagram
}

// New makes an Engine; Describe it before the first Tick.
func New(now time.Time, cfg Config) *Engine {
	rnd := rand.New(rand.NewChaCha8(cfg.Seed))
	e := &Engine{
		cfg: cfg, start: now, rnd: rnd, balance: balance.New(rnd), near: newLimiter(nearRate), far: newLimiter(farRate),
		promises: map[alp.Token]placed{}, claims: map[alp.Token]claimed{}, leaving: map[string]time.Time{},
		state: cmp.Or(cfg.State, group.Online), deadline: cfg.Deadline,
	}
	boot := rnd.Uint64() | 1 // never 0, which is none
	e.table = member.New(now, member.Config{Host: cfg.Host, Boot: boot, Period: cfg.Period, Down: cfg.Down, MaxSkew: cfg.MaxSkew})
	return e
}

// SetRing replaces the keys. What we sign with the new one is said at once.
func (e *Engine) SetRing(r group.Ring) {
	e.cfg.Ring = r
	e.table.Announce(e.start)
}

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
	for _, h := range e.held {
		sooner(e.release(h))
	}
	if len(e.later) > 0 {
		sooner(e.later[0].at)
	}
	if e.state == group.Offline && !e.deadline.IsZero() {
		sooner(e.deadline)
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
	if e.state == group.Offline && !e.deadline.IsZero() && !now.Before(e.deadline) {
		out.add(e.setState(now, SetState{State: group.Down}))
	}
	e.sweep(now)
	out.add(e.members(now, e.table.Tick(now)))
	for len(e.later) > 0 && !e.later[0].at.After(now) {
		out.add(e.speak(now, e.later[0].d))
		e.later = e.later[1:]
	}
	waiting := e.held
	e.held = nil
	for _, h := range waiting {
		if now.Before(e.release(h)) {
			e.held = append(e.held, h)
		} else {
			out.add(e.ask(now, h.ask))
		}
	}
	for _, l := range slices.Clone(e.lookups) {
		out.add(e.drive(now, l))
	}
	return e.tally(out)
}

// release is when a held Ask goes on.
func (e *Engine) release(h held) time.Time {
	at := e.start.Add(e.cfg.Settle)
	if !h.own {
		for _, until := range e.leaving {
			if until.After(at) {
				at = until
			}
		}
	}
	return at
}

// Step takes one event.
func (e *Engine) Step(now time.Time, event Event) Output { return e.tally(e.step(now, event)) }

func (e *Engine) step(now time.Time, event Event) Output {
	switch v := event.(type) {
	case Describe:
		e.about = v
		e.describe(now)
	case Packet:
		return e.packet(now, v)
	case Hello:
		e.control, e.lost, e.greeted = v.Control, time.Time{}, true // its report follows at once
		e.describe(now)
	case Lost:
		e.lost = now
	case Report:
		e.sessions = make([]known, len(v.Sessions))
		for i, s := range v.Sessions {
			e.sessions[i] = known{s, now.Add(-now.Sub(time.UnixMilli(s.Last)))}
		}
		for _, s := range v.Sessions {
			delete(e.promises, s.Token)
		}
		e.describe(now)
	case Deaf:
		return e.deaf(now, v.Host)
	case Ask:
		h := held{v, len(e.own(now, v.Lookup.Token, true)) > 0}
		if now.Before(e.release(h)) && len(e.held) < MaxLookups {
			e.held = append(e.held, h)
			return Output{}
		}
		return e.ask(now, v)
	case SetState:
		return e.setState(now, v)
	}
	return Output{}
}

func (e *Engine) describe(now time.Time) {
	e.table.Describe(now, group.Host{
		Addr: e.about.Addr, CPUs: e.about.CPUs, Clock: e.about.Clock, Interfaces: e.about.Interfaces,
		Control: e.control, State: e.state,
		Load: group.Load{Sessions: len(e.sessions), Limit: e.cfg.Limit, Busy: e.about.Busy, Memory: e.about.Memory, Free: e.about.Free},
	})
}

// packet takes a datagram. What cannot be read is dropped in silence: anybody
// can send anything to a broadcast port.
func (e *Engine) packet(now time.Time, p Packet) Output {
	from := p.From.Addr().Unmap()
	switch group.Kind(p.Data) {
	case group.CmdHost:
		h, err := group.ParseHost(p.Data)
		if err != nil {
			e.count.Bad++
			return Output{}
		}
		e.count.Hosts++
		signed := e.cfg.Ring.Verify(p.Data)
		if signed != nil {
			e.count.Untrusted++
		}
		out := e.members(now, e.table.Step(now, member.Heard{From: from, Host: h, Signed: signed, Direct: e.direct(p).IsValid()}))
		// It is back when its gateway is: before, it knows of no sessions.
		if row, _ := e.table.Find(h.Name); row.Host.State != group.Gone && row.Host.Control != 0 {
			delete(e.leaving, h.Name)
		}
		return out
	case group.CmdServerQ:
		return e.serverQ(now, p)
	case group.CmdTokenQ:
		q, err := group.ParseTokenQ(p.Data)
		if err != nil {
			e.count.Bad++
			return Output{}
		}
		if why := e.admit(now, from, q.Stamp, p.Data); why != "" {
			return e.refused(q.Host, from, why)
		}
		e.count.TokenQ++
		return e.tokenQ(now, p, q)
	case group.CmdTokenR:
		r, err := group.ParseTokenR(p.Data)
		if err != nil || r.To != e.cfg.Host {
			e.count.Bad++
			return Output{}
		}
		if why := e.admit(now, from, r.Stamp, p.Data); why != "" {
			return e.refused(r.Host, from, why)
		}
		e.count.TokenR++
		for _, l := range e.lookups {
			if l.id == r.ID && l.ask.Lookup.Token == r.Token {
				if r.Total > 0 {
					l.total[r.Host] = r.Total - 1
				}
				if row, _ := e.table.Find(r.Host); r.Asking && row.Host.Control == 0 {
					l.machine.Starts(now, r.Host) // without a gateway it asks for nobody
					if !e.leaving[r.Host].After(now) {
						e.leaving[r.Host] = now.Add(restart)
					}
				} else {
					l.machine.Answer(now, r.Host, kept(l.ask.Lookup, r.Host, r.Found), r.Asking, r.Placed)
				}
				return e.drive(now, l)
			}
		}
	default:
		if kind := group.Kind(p.Data); kind != group.CmdServerR {
			e.count.Bad++
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

func (e *Engine) refused(host string, from netip.Addr, why string) Output {
	e.count.Refused++
	return Output{Notices: []member.Notice{{Kind: member.Refused, Host: host, From: from, Why: why}}}
}

// keepPromise notes where a new session of a token was sent.
func (e *Engine) keepPromise(now time.Time, token alp.Token, host string) {
	if len(e.promises) < maxPromises {
		e.promises[token] = placed{host, now}
	}
}

// total is how many sessions this host has or has promised.
func (e *Engine) total(now time.Time) int {
	n := len(e.sessions)
	for _, p := range e.promises {
		if p.host == e.cfg.Host && now.Sub(p.at) < promise {
			n++
		}
	}
	return n
}

// promised is where a new session of a token was sent just now, if anywhere.
func (e *Engine) promised(now time.Time, token alp.Token) string {
	if p, ok := e.promises[token]; ok && now.Sub(p.at) < promise {
		return p.host
	}
	return ""
}

// sweep forgets what is over, now and then.
func (e *Engine) sweep(now time.Time) {
	if now.Sub(e.swept) < claim {
		return
	}
	e.swept = now
	maps.DeleteFunc(e.promises, func(_ alp.Token, p placed) bool { return now.Sub(p.at) >= promise })
	maps.DeleteFunc(e.claims, func(_ alp.Token, c claimed) bool { return now.Sub(c.at) >= claim })
	maps.DeleteFunc(e.leaving, func(_ string, until time.Time) bool { return !until.After(now) })
}

// own is this host's sessions of a token, the latest connection first, and,
// for others, the one that is promised.
func (e *Engine) own(now time.Time, token alp.Token, promised bool) []group.Found {
	var found []group.Found
	for _, s := range e.sessions {
		if s.Token != token {
			continue
		}
		f := group.Found{ID: s.ID, State: group.Disconnected, Ago: now.Sub(s.last).Truncate(time.Millisecond)}
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
	if promised && len(found) == 0 && e.promised(now, token) == e.cfg.Host {
		found = append(found, group.Found{State: group.Starting, Ago: now.Sub(e.promises[token].at).Truncate(time.Millisecond)})
	}
	return found[:min(len(found), group.MaxFound)]
}
