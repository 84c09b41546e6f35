// Package member keeps one host's table of the group: which hosts exist, on
// which interfaces, whom it trusts, who is down.
//
// Source: seed 004, "The Group Manager Process" and Table A; design section 4.
//
//	         host message            signed, fresh
//	unknown ---------------> listed ---------------> TRUSTED
//	                            ^                       | no message for Down,
//	                            |  forgotten            v or a goodbye
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
//  4. No message that a host said before its goodbye brings it back.
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
	Direct bool  // it came to an address of this host alone, neither broadcast nor multicast
}

// Kind says what a Notice is about.
type Kind string

// Notices, for the log.
const (
	Appeared  Kind = "host found"             // an untrusted row is new
	Trusted   Kind = "host trusted"           // it was not before, or it was down, or it started anew
	Down      Kind = "host down"              // no message for Down
	Stopped   Kind = "host stopped"           // it said goodbye
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
	Told     time.Time   // last host message: the age of what Host says
	TimeOff  int64       // its clock minus ours at that moment, seconds
	LastPkt  []time.Time // last message from each of Host.Interfaces, zero: never
	Down     bool        // only ever true in a row that was trusted
	Suspect  bool        // it missed a question and has not been heard since
	Stopped  time.Time   // of its goodbye, zero: it has not stopped
	// Duplicate says who else has its name or address.
	Duplicate string
	From      netip.Addr // of its last message

	boots []boot    // its lives, for the replay check
	wide  time.Time // its last message that was not Direct
	twice time.Time // when a life that had ended spoke again
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
	wake      time.Time // no row has anything to do before; zero: there is none
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

// Announce makes a message due now.
func (t *Table) Announce(now time.Time) {
	if now.Before(t.due) {
		t.due = now
	}
}

// Next is when Tick may have something to do.
func (t *Table) Next() time.Time {
	if !t.wake.IsZero() && t.wake.Before(t.due) {
		return t.wake
	}
	return t.due
}

// watch sees to it that Tick looks at r when it is silent for too long.
func (t *Table) watch(r *Row) {
	if at := r.LastSeen.Add(t.cfg.Down); t.wake.IsZero() || at.Before(t.wake) {
		t.wake = at
	}
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
		out.Notices = t.duplicates(now)
	}
	if t.wake.IsZero() || now.Before(t.wake) {
		return out
	}
	t.wake = time.Time{}
	var down []Notice
	for _, r := range t.trusted {
		silent := now.Sub(r.LastSeen)
		switch {
		case silent >= forget:
			delete(t.trusted, r.Host.Name)
			continue
		case silent >= t.cfg.Down && !r.Down:
			r.Down = true
			down = append(down, Notice{Kind: Down, Host: r.Host.Name, From: r.Host.Addr, Why: fmt.Sprintf("not heard for %v", t.cfg.Down)})
		}
		if !r.Down {
			t.watch(r)
		} else if at := r.LastSeen.Add(forget); t.wake.IsZero() || at.Before(t.wake) {
			t.wake = at
		}
	}
	slices.SortFunc(down, func(a, b Notice) int { return strings.Compare(a.Host, b.Host) })
	out.Notices = append(out.Notices, down...)
	t.untrusted = slices.DeleteFunc(t.untrusted, func(r *Row) bool { return now.Sub(r.LastSeen) >= t.cfg.Down })
	for _, r := range t.untrusted {
		t.watch(r)
	}
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
		return t.namesake(now, e)
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

// namesake takes a message that says our name and is not ours.
func (t *Table) namesake(now time.Time, e Heard) Output {
	if e.Signed != nil {
		return t.untrustedHost(now, e, e.Signed.Error())
	}
	if e.From == t.self.Host.Addr || slices.ContainsFunc(t.self.Host.Interfaces, func(i group.Interface) bool { return i.IP == e.From }) {
		return Output{} // the last words of an earlier start of ours
	}
	why := "another host says our name: give one of them another by -host"
	t.self.twice = now
	out := t.untrustedHost(now, e, why)
	out.Notices = append(out.Notices, Notice{Duplicate, e.Host.Name, e.From, why})
	return out
}

func (t *Table) trust(now time.Time, e Heard, r *Row, known, newBoot bool) Output {
	var out Output
	h := e.Host
	newest := newBoot || h.Counter >= r.top(h.Boot) && !r.outlived(h.Stamp())
	if !newest && (!r.Stopped.IsZero() || h.State == group.Gone) {
		return Output{} // invariant 4; nor does the goodbye of an earlier life end this one
	}
	if newBoot && h.State != group.Gone {
		out.Announce = append(out.Announce, Announce{To: e.From})
	}
	switch {
	case h.State == group.Gone:
		out.Notices = append(out.Notices, Notice{Stopped, h.Name, e.From, ""})
	case !known || r.Down || newBoot:
		out.Notices = append(out.Notices, Notice{Trusted, h.Name, e.From, ""})
	}
	t.trusted[h.Name] = r
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
	if newest {
		if slices.Equal(r.Host.Interfaces, h.Interfaces) {
			h.Interfaces = r.Host.Interfaces // one copy for each host is enough
		}
		r.Host, r.LastPkt, r.Told = h, last, now
		r.TimeOff = h.Time - now.Unix()
	}
	r.Trusted, r.LastSeen, r.Down, r.Suspect, r.Why, r.Stopped, r.From = true, now, false, false, "", time.Time{}, e.From
	if !e.Direct {
		r.wide = now
	}
	if h.State == group.Gone {
		r.Down, r.Stopped = true, now
	}
	t.watch(r)
	t.untrusted = slices.DeleteFunc(t.untrusted, func(u *Row) bool { return u.Host.Name == h.Name && u.From == e.From })
	return out
}

func (t *Table) untrustedHost(now time.Time, e Heard, why string) Output {
	for _, u := range t.untrusted {
		if u.Host.Name == e.Host.Name && u.From == e.From {
			u.Host, u.Why, u.LastSeen, u.TimeOff = e.Host, why, now, e.Host.Time-now.Unix()
			u.LastPkt = packets(now, e)
			return Output{Notices: []Notice{{Untrusted, e.Host.Name, e.From, why}}}
		}
	}
	if len(t.untrusted) >= MaxUntrusted {
		return Output{Notices: []Notice{{Full, e.Host.Name, e.From, fmt.Sprintf("%d hosts", MaxUntrusted)}}}
	}
	r := &Row{Host: e.Host, Why: why, LastSeen: now, TimeOff: e.Host.Time - now.Unix(), LastPkt: packets(now, e), From: e.From}
	t.untrusted = append(t.untrusted, r)
	t.watch(r)
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
	if !r.Stopped.IsZero() {
		return "it has stopped"
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

// Unicast is the addresses of the trusted hosts that a broadcast of ours does
// not reach: heard only by messages to us alone, and on none of our networks.
// Where one end was told of the other, this is how the other answers.
func (t *Table) Unicast(now time.Time, broadcast bool) []netip.Addr {
	var to []netip.Addr
	for _, r := range t.trusted {
		if r.Down || now.Sub(r.wide) < t.cfg.Down || broadcast && t.near(r.From) {
			continue
		}
		to = append(to, r.From)
	}
	slices.SortFunc(to, netip.Addr.Compare)
	return slices.Compact(to)
}

func (t *Table) near(a netip.Addr) bool {
	return slices.ContainsFunc(t.self.Host.Interfaces, func(i group.Interface) bool { return i.Prefix().IsValid() && i.Prefix().Contains(a) })
}

// Len is how many trusted hosts there are beside this one.
func (t *Table) Len() int { return len(t.trusted) }

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
