package pcsclite

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// MaxHandles bounds the card handles of a client.
	MaxHandles = 16
	// MaxWaiting bounds the requests that wait for the card or for a
	// transaction's end; one more is refused.
	MaxWaiting = 64
	// BeginWait is how long the begin of a transaction waits for the end of
	// another's. libpcsclite then asks again, 100 ms later, and lets other
	// threads of its context have their turn.
	BeginWait = 100 * time.Millisecond
	// RestAfter is how long after the last handle was given up the card is
	// reset: what was unlocked in it by a program is locked again for the next.
	RestAfter = 5 * time.Second
)

// A Client numbers a connection; numbers are not used again.
type Client uint64

// An Event is what happened.
type Event interface{ event() }

type (
	// Opened: a client has connected.
	Opened struct{ Client Client }
	// Requested: a client that is not Busy has sent a message.
	Requested struct {
		Client Client
		Body   Body
	}
	// Closed: a client is gone.
	Closed struct{ Client Client }
	// Inserted: a card is in; one that was in before is out.
	Inserted struct {
		ATR []byte
		// Protocol is what the reader speaks with it: T0, T1, or 0 where that is
		// not known and the ATR says what it may be.
		Protocol uint32
	}
	// Removed: the card is out, or its terminal is gone.
	Removed struct{}
	// Answered: the card answered an Ask, or did not.
	Answered struct {
		Ask    uint32
		Result Result
		Data   []byte
	}
)

func (Opened) event()    {}
func (Requested) event() {}
func (Closed) event()    {}
func (Inserted) event()  {}
func (Removed) event()   {}
func (Answered) event()  {}

// Result says what came of an Ask.
type Result int

const (
	OK   Result = iota
	Gone        // no card, or not that one
	Mute        // the card does not answer
)

// An Action is to be performed, in the order they are returned in.
type Action interface{ action() }

type (
	// Send writes Data to a client.
	Send struct {
		Client Client
		Data   []byte
	}
	// Drop closes a client's connection; Closed need not follow.
	Drop struct {
		Client Client
		Reason string
	}
	// Ask asks the card; Answered must follow, unless Inserted or Removed do.
	Ask struct {
		Ask  uint32
		Kind Kind
		Data []byte
	}
	// Hold tells the terminal that nobody else may use the card, or may again.
	Hold struct{ On bool }
)

func (Send) action() {}
func (Drop) action() {}
func (Ask) action()  {}
func (Hold) action() {}

// Kind is what is asked of the card.
type Kind int

const (
	KindTransmit Kind = iota // an APDU
	KindReset
)

// Config is what a Machine needs.
type Config struct {
	Reader string // its name, shorter than MaxName
	Seed   [32]byte
}

// Machine is the service with its one reader, which is always there: programs
// look for readers once, when they start, and for cards as long as they run.
type Machine struct {
	conf Config
	rand *rand.Rand
	now  time.Time
	out  []Action

	clients map[Client]*client
	handles map[uint32]*handle
	state   ReaderState
	powered bool   // the card is in use, or may be: it need not be powered again
	spoken  uint32 // T0 or T1, as the reader speaks with the card; 0: not known

	lock    uint32 // handle that has a transaction, or is exclusive; 0: none
	locks   int    // how many times
	held    bool   // the terminal was told
	jobs    []*job // for the card; the first is with it
	waiting []*wait
	asks    uint32
	restAt  time.Time // reset the card; zero: never
}

type client struct {
	id      Client
	greeted bool
	context uint32
	handles []uint32
	listens bool // is to be told of the next change
	busy    bool
}

// handle is a card handle.
type handle struct {
	client *client
	event  uint32 // ResetCard, RemovedCard or 0
}

// job is something to ask of the card.
type job struct {
	client *client // nil: nobody waits for it
	handle uint32
	ask    uint32 // its number, once asked
	kind   Kind
	data   []byte
	done   func(Result, []byte)
	// refuse answers in place of done where the card is not to be asked any
	// more.
	refuse func(rv uint32)
}

// wait is a request that waits for the end of a transaction.
type wait struct {
	client *client
	again  func() // answers, or waits again
	until  time.Time
	late   func() // at until; zero: it waits without end
}

// New makes a service without clients and without a card.
func New(conf Config) *Machine {
	return &Machine{
		conf: conf, rand: rand.New(rand.NewChaCha8(conf.Seed)),
		clients: map[Client]*client{}, handles: map[uint32]*handle{},
		state: ReaderState{Name: conf.Reader, State: StateAbsent},
	}
}

// Busy reports whether a client waits for an answer: its next request must not
// be given yet.
func (m *Machine) Busy(c Client) bool {
	cl := m.clients[c]
	return cl != nil && cl.busy
}

// State is what every client is told of the reader.
func (m *Machine) State() ReaderState { return m.state }

// Step takes in what happened and returns what is to be done.
func (m *Machine) Step(now time.Time, e Event) []Action {
	m.now = now
	switch e := e.(type) {
	case Opened:
		m.clients[e.Client] = &client{id: e.Client}
	case Requested:
		if c := m.clients[e.Client]; c != nil && !c.busy {
			m.request(c, e.Body)
		}
	case Closed:
		if c := m.clients[e.Client]; c != nil {
			m.leave(c)
		}
	case Inserted:
		if m.state.State != StateAbsent {
			m.removed()
		}
		m.inserted(e.ATR, e.Protocol)
	case Removed:
		if m.state.State != StateAbsent {
			m.removed()
		}
	case Answered:
		if len(m.jobs) > 0 && m.jobs[0].ask != 0 && m.jobs[0].ask == e.Ask {
			j := m.jobs[0]
			m.jobs = m.jobs[1:]
			j.done(e.Result, e.Data)
		}
	}
	return m.settle()
}

// Next is when Tick has something to do; zero: never.
func (m *Machine) Next() time.Time {
	next := m.restAt
	for _, w := range m.waiting {
		if !w.until.IsZero() && (next.IsZero() || w.until.Before(next)) {
			next = w.until
		}
	}
	return next
}

// Tick does what is due.
func (m *Machine) Tick(now time.Time) []Action {
	m.now = now
	for _, w := range slices.Clone(m.waiting) {
		if !w.until.IsZero() && !now.Before(w.until) && slices.Contains(m.waiting, w) {
			m.unwait(w)
			w.client.busy = false
			w.late()
		}
	}
	if !m.restAt.IsZero() && !now.Before(m.restAt) {
		m.restAt = time.Time{}
		m.state.Protocol = 0
		m.jobs = append(m.jobs, &job{kind: KindReset, done: func(Result, []byte) {}})
	}
	return m.settle()
}

// settle goes on with what waits, and hands out the actions.
func (m *Machine) settle() []Action {
	for m.lock == 0 && len(m.waiting) > 0 {
		w := m.waiting[0]
		m.unwait(w)
		w.client.busy = false
		w.again() // takes the lock, or leaves it to the next
	}
	if on := m.lock != 0 && m.present(); on != m.held {
		m.held = on
		m.out = append(m.out, Hold{on})
	}
	for len(m.jobs) > 0 && m.jobs[0].ask == 0 {
		j := m.jobs[0]
		if rv := m.refusal(j); rv != Success {
			m.jobs = m.jobs[1:]
			j.refuse(rv)
			continue
		}
		m.asks = max(m.asks+1, 1)
		j.ask = m.asks
		m.out = append(m.out, Ask{j.ask, j.kind, j.data})
	}
	out := m.out
	m.out = nil
	return out
}

// refusal is why a job that waited is not to be done after all.
func (m *Machine) refusal(j *job) uint32 {
	if j.refuse == nil {
		return Success
	}
	if j.kind == KindTransmit && m.handles[j.handle].event != 0 {
		return m.handles[j.handle].event
	}
	if rv := m.sharing(j.handle); rv != Success {
		return rv
	}
	if !m.present() {
		return NoSmartcard
	}
	return Success
}

func (m *Machine) unwait(w *wait) {
	m.waiting = slices.DeleteFunc(m.waiting, func(o *wait) bool { return o == w })
}

func (m *Machine) present() bool { return m.state.State&StatePresent != 0 }

// answer writes m's body to c, which waits no more.
func (m *Machine) answer(c *client, b Body, data []byte) {
	c.busy = false
	m.out = append(m.out, Send{c.id, append(AppendBody(nil, b), data...)})
}

func (m *Machine) drop(c *client, format string, args ...any) {
	m.out = append(m.out, Drop{c.id, fmt.Sprintf(format, args...)})
	m.leave(c)
}

// signal wakes whoever waits for a change.
func (m *Machine) signal() {
	ids := make([]Client, 0, len(m.clients))
	for id, c := range m.clients {
		if c.listens {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		m.clients[id].listens = false
		m.out = append(m.out, Send{id, AppendSignal(nil, Success)})
	}
}

func (m *Machine) inserted(atr []byte, protocol uint32) {
	m.spoken = protocol & (T0 | T1)
	m.state.ATR = slices.Clone(atr[:min(len(atr), MaxATR)])
	m.state.State = StatePresent | StatePowered | StateNegotiable
	if len(atr) == 0 {
		m.state.State = StatePresent | StateSwallowed
	}
	m.powered = true
	m.state.Protocol = 0
	m.state.Events = (m.state.Events + 1) & 0xffff
	m.signal()
}

func (m *Machine) removed() {
	for _, h := range m.handles {
		h.event = RemovedCard
	}
	m.lock, m.locks, m.held = 0, 0, false // its terminal knows by itself
	m.restAt = time.Time{}
	m.state.ATR, m.state.Protocol, m.state.State = nil, 0, StateAbsent
	m.powered = false
	m.state.Events = (m.state.Events + 1) & 0xffff
	m.signal()
	if len(m.jobs) > 0 && m.jobs[0].ask != 0 {
		j := m.jobs[0]
		m.jobs = m.jobs[1:]
		j.done(Gone, nil)
	}
	// The others find no card when it is their turn.
	m.jobs = slices.DeleteFunc(m.jobs, func(j *job) bool { return j.refuse == nil })
}

// leave forgets a client. The card is reset if it dies in a transaction.
func (m *Machine) leave(c *client) {
	delete(m.clients, c.id)
	m.waiting = slices.DeleteFunc(m.waiting, func(w *wait) bool { return w.client == c })
	for i, j := range m.jobs {
		if j.client == c {
			if j.ask != 0 { // the card is at it: others wait for its end
				m.jobs[i] = &job{ask: j.ask, done: func(Result, []byte) {}}
			}
			j.client = nil
		}
	}
	m.jobs = slices.DeleteFunc(m.jobs, func(j *job) bool { return j.client == nil && j.refuse != nil && j.ask == 0 })
	m.release(c)
}

// release gives up a client's context and its handles.
func (m *Machine) release(c *client) {
	for _, n := range c.handles {
		h := m.handles[n]
		delete(m.handles, n)
		if m.lock == n {
			m.lock, m.locks = 0, 0
			if h.event == 0 && m.present() {
				m.resetAll()
				m.jobs = append(m.jobs, &job{kind: KindReset, done: m.afterReset})
			}
		}
		m.unshare()
	}
	c.handles, c.context, c.listens = nil, 0, false
}

// resetAll tells all handles that the card is reset.
func (m *Machine) resetAll() {
	for _, h := range m.handles {
		h.event = ResetCard
	}
	m.state.Protocol = 0
}

// afterReset notes how the card is after a reset.
func (m *Machine) afterReset(r Result, _ []byte) {
	switch {
	case !m.present() || r == Gone: // or it will be told that it is
	case r == OK:
		m.state.State = StatePresent | StatePowered | StateNegotiable
		m.powered = true
	default:
		m.state.State = StatePresent | StateSwallowed
	}
}

// share counts a handle of a mode.
func (m *Machine) share(n uint32, mode uint32) {
	if mode == Exclusive {
		m.state.Sharing = -1
		m.lock, m.locks = n, m.locks+1
	} else {
		m.state.Sharing++
	}
	m.restAt = time.Time{}
	m.signal()
}

// unshare counts a handle that is given up.
func (m *Machine) unshare() {
	if m.state.Sharing < 0 {
		m.state.Sharing = 0
	} else {
		m.state.Sharing = max(m.state.Sharing-1, 0)
	}
	if m.state.Sharing == 0 && m.present() && m.powered {
		m.restAt = m.now.Add(RestAfter)
	}
	m.signal()
}

// sharing reports whether another's transaction is in the way of a handle.
func (m *Machine) sharing(n uint32) uint32 {
	if m.lock == 0 || m.lock == n {
		return Success
	}
	return SharingViolation
}

// number makes one that is not in use.
func (m *Machine) number(used func(uint32) bool) uint32 {
	for {
		if n := uint32(m.rand.Uint64() >> 33); n != 0 && !used(n) {
			return n
		}
	}
}

// enqueue has the card asked for c.
func (m *Machine) enqueue(j *job) {
	if len(m.jobs) >= MaxWaiting {
		j.refuse(NoMemory)
		return
	}
	j.client.busy = true
	m.jobs = append(m.jobs, j)
}

// hold makes c wait for the end of a transaction.
func (m *Machine) hold(w *wait) {
	if len(m.waiting) >= MaxWaiting {
		m.drop(w.client, "more than %d requests wait", MaxWaiting)
		return
	}
	w.client.busy = true
	m.waiting = append(m.waiting, w)
}

// byContext finds the client with a context.
func (m *Machine) byContext(n uint32) *client {
	ids := make([]*client, 0, 1)
	for _, c := range m.clients {
		if n != 0 && c.context == n {
			ids = append(ids, c)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return slices.MinFunc(ids, func(a, b *client) int { return cmp.Compare(a.id, b.id) })
}
