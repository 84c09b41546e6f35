// Package member keeps one host's table of the group: which hosts exist, on
// which interfaces, whom it trusts, who is down.
//
// Source: seed 004, "The Group Manager Process" and Table A; design section 4.
//
//	         host message            signed, fresh
//	unknown ---------------> listed ---------------> TRUSTED
//	                            ^                       | no message for Down
//	                            |  forgotten            v
//	                            +------------------- TRUSTED, down --message--> TRUSTED
//
// Invariants:
//  1. Every well-formed host message is accepted into the table; only one that
//     a key of ours signed, that is fresh (see replay.go), makes or touches a
//     TRUSTED row.
//  2. Untrusted rows are at most MaxUntrusted and never push out a trusted one.
//  3. A host message is due every Period, at once when what it says changed
//     (not more often than changeGap, or loadGap for figures alone), thrice
//     in the first startBurst, and by unicast to a trusted host that is new.
//
// The package does no I/O and reads no clock; callers pass the time, which must
// not go back. A Table is not safe for concurrent use.
package member

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hotdesk/protocol/group"
)

// Limits of the table.
const (
	MaxUntrusted = 64   // rows that anybody on the network can make
	MaxTrusted   = 4096 // rows that only holders of the key can make
)

const (
	changeGap = 100 * time.Millisecond // between messages because something changed
	loadGap   = time.Second            // between messages because only figures changed
	forget    = 24 * time.Hour         // a trusted host down for so long leaves the table
)

// startBurst is when the first messages are due, after the start: a single
// one may be lost, and a whole Period is long to wait for it.
var startBurst = []time.Duration{0, 100 * time.Millisecond, 300 * time.Millisecond}

// Config is what a Table needs to know. All fields must be set.
type Config struct {
	Host    string
	Boot    uint64
	Period  time.Duration // between host messages
	Down    time.Duration // silence after which a host or an interface is down
	MaxSkew time.Duration // the largest clock offset of a host not known yet, and the age of a message that still counts
}

// Heard is a host message that came.
type Heard struct {
	From   netip.Addr
	Host   group.Host
	Signed error // nil, or why its signature proves nothing
}

// Kind says what a Notice is about.
type Kind string

// Notices, for the log.
const (
	Appeared  Kind = "host found"             // an untrusted row is new
	Trusted   Kind = "host trusted"           // it was not before, or it was down, or it started anew
	Down      Kind = "host down"              // no message for Down
	Refused   Kind = "host message refused"   // signed, and yet not fresh
	Untrusted Kind = "host not trusted"       // not signed, or with another key
	Duplicate Kind = "duplicate in the group" // two hosts with one name or address
	Full      Kind = "table of untrusted hosts is full"
)

// A Notice is something that an admin may want to know. The shell logs it at a
// bounded rate.
type Notice struct {
	Kind Kind
	Host string
	From netip.Addr
	Why  string
}

// An Announce is a host message that is due: to everybody, or to one address.
type Announce struct{ To netip.Addr }

// Output is what the shell has to do, in this order.
type Output struct {
	Announce []Announce
	Notices  []Notice
}

// A Row is one host of the table.
type Row struct {
	Host     group.Host
	Self     bool
	Trusted  bool
	Why      string      // why it is not trusted
	LastSeen time.Time   // last message, never zero
	TimeOff  int64       // its clock minus ours at that moment, seconds
	LastPkt  []time.Time // last message from each of Host.Interfaces, zero: never
	Down     bool        // only ever true in a row that was trusted
	Suspect  bool        // it missed a question and has not been heard since
	boots    []boot      // its lives, for the replay check
	from     netip.Addr  // of an untrusted row
}

// Table is the machine.
type Table struct {
	cfg       Config
	start     time.Time
	self      *Row
	trusted   map[string]*Row // by name, without self
	untrusted []*Row
	counter   uint64
	burst     int // how many of startBurst are over
	lastSaid  time.Time
	due       time.Time
}

// New makes the table of a host that has just started.
func New(now time.Time, cfg Config) *Table {
	t := &Table{cfg: cfg, start: now, trusted: map[string]*Row{}, due: now}
	t.self = &Row{Self: true, Trusted: true, Host: group.Host{Name: cfg.Host, Flags: group.FlagsSent, State: group.Online}, LastSeen: now}
	return t
}

// Describe tells the table what this host's own message says: everything but
// name and stamp, which the table fills in. A change makes a message due.
func (t *Table) Describe(now time.Time, h group.Host) {
	old := t.self.Host
	h.Name, h.Boot, h.Counter, h.Time, h.Flags = t.cfg.Host, 0, 0, 0, group.FlagsSent
	t.self.Host = h
	last := make([]time.Time, len(h.Interfaces))
	for i, f := range h.Interfaces {
		if j := slices.Index(old.Interfaces, f); j >= 0 {
			last[i] = t.self.LastPkt[j]
		}
	}
	t.self.LastPkt = last
	gap := changeGap
	if old.Addr == h.Addr && old.Control == h.Control && old.State == h.State && slices.Equal(old.Interfaces, h.Interfaces) {
		if old.Load.Sessions == h.Load.Sessions && old.Load.Limit == h.Load.Limit {
			return // load and memory go with the next message
		}
		gap = loadGap
	}
	at := t.lastSaid.Add(gap)
	if at.Before(now) {
		at = now
	}
	if at.Before(t.due) {
		t.due = at
	}
}

// Message is this host's message as of now, to be signed and sent. Each call
// takes the next counter.
func (t *Table) Message(now time.Time) group.Host {
	h := t.self.Host
	s := t.Stamp(now)
	h.Time, h.Boot, h.Counter = s.Time, s.Boot, s.Counter
	return h
}

// Stamp is the stamp of the next signed message.
func (t *Table) Stamp(now time.Time) group.Stamp {
	t.counter++
	return group.Stamp{Host: t.cfg.Host, Time: now.Unix(), Boot: t.cfg.Boot, Counter: t.counter}
}

// Next is when Tick has something to do.
func (t *Table) Next() time.Time {
	next := t.due
	for _, r := range t.trusted {
		at := r.LastSeen.Add(t.cfg.Down)
		if r.Down {
			at = r.LastSeen.Add(forget)
		}
		if at.Before(next) {
			next = at
		}
	}
	return next
}

// Tick does what the time makes due.
func (t *Table) Tick(now time.Time) Output {
	var out Output
	if !now.Before(t.due) {
		out.Announce = append(out.Announce, Announce{})
		t.lastSaid = now
		t.due = now.Add(t.cfg.Period)
		t.burst++
		if t.burst < len(startBurst) {
			t.due = t.start.Add(startBurst[t.burst])
			if !t.due.After(now) {
				t.due = now.Add(changeGap)
			}
		}
	}
	for _, r := range t.trusted {
		silent := now.Sub(r.LastSeen)
		switch {
		case silent >= forget:
			delete(t.trusted, r.Host.Name)
		case silent >= t.cfg.Down && !r.Down:
			r.Down = true
			out.Notices = append(out.Notices, Notice{Kind: Down, Host: r.Host.Name, From: r.Host.Addr, Why: fmt.Sprintf("not heard for %v", t.cfg.Down)})
		}
	}
	slices.SortFunc(out.Notices, func(a, b Notice) int { return strings.Compare(a.Host, b.Host) })
	t.untrusted = slices.DeleteFunc(t.untrusted, func(r *Row) bool { return now.Sub(r.LastSeen) >= t.cfg.Down })
	return out
}

// Step takes a host message.
func (t *Table) Step(now time.Time, e Heard) Output {
	h := e.Host
	if h.Name == t.cfg.Host {
		if h.Boot == t.cfg.Boot && e.Signed == nil {
			// Our own broadcast came back: that interface works (Table A
			// has such times for its first host).
			t.self.LastSeen = now
			for i, f := range t.self.Host.Interfaces {
				if f.IP == e.From {
					t.self.LastPkt[i] = now
				}
			}
			return Output{}
		}
		why := "another host, or an earlier start of this one, says our name"
		out := t.untrustedHost(now, e, why)
		if e.Signed == nil {
			out.Notices = append(out.Notices, Notice{Duplicate, h.Name, e.From, why})
		}
		return out
	}
	if e.Signed != nil {
		return t.untrustedHost(now, e, e.Signed.Error())
	}
	r, known := t.trusted[h.Name]
	if !known {
		if len(t.trusted) >= MaxTrusted {
			return Output{Notices: []Notice{{Full, h.Name, e.From, fmt.Sprintf("%d hosts", MaxTrusted)}}}
		}
		r = &Row{Host: group.Host{Name: h.Name}}
	}
	verdict, why := t.fresh(now, r, h.Stamp())
	switch verdict {
	case replayed:
		// The row of a host that is known says enough; a copy of one of its
		// messages must not make a second one.
		out := Output{Notices: []Notice{{Refused, h.Name, e.From, why}}}
		if !known {
			out = t.untrustedHost(now, e, why)
		}
		return out
	case seen:
		return Output{}
	}
	return t.trust(now, e, r, known, verdict == newBoot)
}

func (t *Table) trust(now time.Time, e Heard, r *Row, known, newBoot bool) Output {
	var out Output
	h := e.Host
	if newBoot {
		out.Announce = append(out.Announce, Announce{To: e.From})
	}
	if !known || r.Down || newBoot {
		out.Notices = append(out.Notices, Notice{Trusted, h.Name, e.From, ""})
	}
	if !known {
		for _, other := range t.Rows() {
			if other.Trusted && !other.Down && other.Host.Addr == h.Addr && h.Addr.IsValid() {
				out.Notices = append(out.Notices, Notice{Duplicate, h.Name, e.From, fmt.Sprintf("address %v is also that of %s", h.Addr, other.Host.Name)})
			}
		}
		t.trusted[h.Name] = r
	}
	last := make([]time.Time, len(h.Interfaces))
	for i, f := range h.Interfaces {
		if j := slices.Index(r.Host.Interfaces, f); j >= 0 {
			last[i] = r.LastPkt[j]
		}
		if f.IP == e.From {
			last[i] = now
		}
	}
	// What is known of a host never goes back: an older message that came late
	// only says that it lives.
	if newBoot || h.Counter >= r.top(h.Boot) {
		r.Host, r.LastPkt = h, last
		r.TimeOff = h.Time - now.Unix()
	}
	r.Trusted, r.LastSeen, r.Down, r.Suspect, r.Why = true, now, false, false, ""
	t.untrusted = slices.DeleteFunc(t.untrusted, func(u *Row) bool { return u.Host.Name == h.Name && u.from == e.From })
	return out
}

func (t *Table) untrustedHost(now time.Time, e Heard, why string) Output {
	for _, u := range t.untrusted {
		if u.Host.Name == e.Host.Name && u.from == e.From {
			u.Host, u.Why, u.LastSeen, u.TimeOff = e.Host, why, now, e.Host.Time-now.Unix()
			u.LastPkt = packets(now, e)
			return Output{Notices: []Notice{{Untrusted, e.Host.Name, e.From, why}}}
		}
	}
	if len(t.untrusted) >= MaxUntrusted {
		return Output{Notices: []Notice{{Full, e.Host.Name, e.From, fmt.Sprintf("%d hosts", MaxUntrusted)}}}
	}
	t.untrusted = append(t.untrusted, &Row{Host: e.Host, Why: why, LastSeen: now, TimeOff: e.Host.Time - now.Unix(), LastPkt: packets(now, e), from: e.From})
	return Output{Notices: []Notice{{Appeared, e.Host.Name, e.From, ""}, {Untrusted, e.Host.Name, e.From, why}}}
}

func packets(now time.Time, e Heard) []time.Time {
	last := make([]time.Time, len(e.Host.Interfaces))
	for i, f := range e.Host.Interfaces {
		if f.IP == e.From {
			last[i] = now
		}
	}
	return last
}

// Admit judges a signed message of token traffic: it must come from an address
// of a TRUSTED host that is up, and be fresh. It returns "" or why not.
func (t *Table) Admit(now time.Time, from netip.Addr, s group.Stamp) string {
	r, ok := t.trusted[s.Host]
	if !ok {
		return "not a trusted host"
	}
	if from != r.Host.Addr && !slices.ContainsFunc(r.Host.Interfaces, func(i group.Interface) bool { return i.IP == from }) {
		return "not from an address of that host"
	}
	if len(r.boots) > 0 && !r.knows(s.Boot) {
		return "its host message has not been heard since it started"
	}
	if verdict, why := t.fresh(now, r, s); verdict == replayed {
		return why
	} else if verdict == seen {
		return "seen before"
	}
	r.Suspect = false
	if !r.Down { // only a host message takes that away
		r.LastSeen = now
	}
	return ""
}

// Suspect notes that a host missed a question.
func (t *Table) Suspect(host string) {
	if r := t.trusted[host]; r != nil {
		r.Suspect = true
	}
}

// Find returns the row of a trusted host, or of this one.
func (t *Table) Find(host string) (Row, bool) {
	if host == t.cfg.Host {
		return *t.self, true
	}
	if r := t.trusted[host]; r != nil {
		return *r, true
	}
	return Row{}, false
}

// Rows is the table: this host, then the trusted, then the others, by name.
// Callers must not change what its slices point to.
func (t *Table) Rows() []Row {
	rows := make([]Row, 0, 1+len(t.trusted)+len(t.untrusted))
	for _, r := range t.trusted {
		rows = append(rows, *r)
	}
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(a.Host.Name, b.Host.Name) })
	rows = slices.Insert(rows, 0, *t.self)
	for _, r := range t.untrusted {
		rows = append(rows, *r)
	}
	slices.SortStableFunc(rows[1+len(t.trusted):], func(a, b Row) int { return strings.Compare(a.Host.Name, b.Host.Name) })
	return rows
}
