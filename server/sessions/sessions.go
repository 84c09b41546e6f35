// Package sessions is the gateway's table of the sessions on this host: whose
// they are, where they are shown, and which of a token's is the latest.
//
// Source: design section 3. What a session is doing is known here and nowhere
// else; the group manager is told (Report) and asks for nothing more.
//
//	            Add            Up              Attached
//	(nothing) ------> Starting ---> Disconnected <----> Connected
//	                                          Detached, Void
//	from each of them: End, and the session is gone from the table
//
// Invariants:
//  1. A session is shown at one terminal at most, and a terminal shows one
//     session at most.
//  2. Attachments are numbered: what is said of an older number than the one
//     shown changes nothing.
//  3. Latest is the session of the latest connection; one that is starting
//     counts as connected when it was added.
//
// The package does no I/O and reads no clock. A Table is not safe for
// concurrent use. Limit: the one given to New.
package sessions

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
)

// State is what a session is doing.
type State int

const (
	Starting     State = iota + 1 // its keeper has been asked for
	Disconnected                  // it runs and is shown nowhere
	Connected                     // it is shown at Terminal
)

func (s State) String() string {
	switch s {
	case Starting:
		return "starting"
	case Disconnected:
		return "disconnected"
	case Connected:
		return "connected"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// A Session is one row.
type Session struct {
	ID    alp.SessionID
	Token alp.Token
	User  string
	State State
	Last  time.Time // of its last connection; when it was added, if none yet

	Terminal alp.TerminalID // where it is shown, when Connected
	Gen      uint64         // the attachment there
}

// ErrFull means that the table has as many sessions as it may.
var ErrFull = errors.New("sessions: this host has as many sessions as it may")

// A Table holds the sessions of this host.
type Table struct {
	limit int
	rows  map[alp.SessionID]*Session
}

// New makes an empty table of at most limit sessions.
func New(limit int) *Table { return &Table{limit: limit, rows: map[alp.SessionID]*Session{}} }

// Add puts in a session that is about to start, or that was found running.
func (t *Table) Add(s Session) error {
	if t.rows[s.ID] != nil {
		return fmt.Errorf("sessions: %s is already here", s.ID)
	}
	if len(t.rows) >= t.limit {
		return ErrFull
	}
	t.rows[s.ID] = &s
	return nil
}

// Up tells that a starting session runs.
func (t *Table) Up(id alp.SessionID) {
	if s := t.rows[id]; s != nil && s.State == Starting {
		s.State = Disconnected
	}
}

// Attached tells that a terminal has session id as attachment gen. It returns
// the row as it was, so that whoever showed it before can be told; changed is
// false for an attachment that a newer one has overtaken.
func (t *Table) Attached(id alp.SessionID, terminal alp.TerminalID, gen uint64, now time.Time) (before Session, changed bool) {
	s := t.rows[id]
	if s == nil || s.State == Connected && gen < s.Gen {
		return Session{}, false
	}
	before = *s
	for _, other := range t.rows {
		if other != s && other.State == Connected && other.Terminal == terminal {
			other.release()
		}
	}
	s.State, s.Terminal, s.Gen, s.Last = Connected, terminal, gen, now
	return before, true
}

// Detached tells that attachment gen of session id is over.
func (t *Table) Detached(id alp.SessionID, gen uint64) (changed bool) {
	s := t.rows[id]
	if s == nil || s.State != Connected || s.Gen != gen {
		return false
	}
	s.release()
	return true
}

// Void tells that every attachment of session id up to gen is over.
func (t *Table) Void(id alp.SessionID, gen uint64) (changed bool) {
	s := t.rows[id]
	if s == nil || s.State != Connected || s.Gen > gen {
		return false
	}
	s.release()
	return true
}

func (s *Session) release() { s.State, s.Terminal, s.Gen = Disconnected, "", 0 }

// End takes a session out.
func (t *Table) End(id alp.SessionID) (Session, bool) {
	s := t.rows[id]
	if s == nil {
		return Session{}, false
	}
	delete(t.rows, id)
	return *s, true
}

// Get returns a session.
func (t *Table) Get(id alp.SessionID) (Session, bool) {
	s := t.rows[id]
	if s == nil {
		return Session{}, false
	}
	return *s, true
}

// Latest returns the session of a token that was last connected.
func (t *Table) Latest(token alp.Token) (Session, bool) {
	var best *Session
	for _, s := range t.rows {
		if s.Token == token && (best == nil || later(s, best)) {
			best = s
		}
	}
	if best == nil {
		return Session{}, false
	}
	return *best, true
}

func later(a, b *Session) bool {
	if c := a.Last.Compare(b.Last); c != 0 {
		return c > 0
	}
	return a.ID > b.ID
}

// At returns the session that a terminal shows.
func (t *Table) At(terminal alp.TerminalID) (Session, bool) {
	for _, s := range t.rows {
		if s.State == Connected && s.Terminal == terminal {
			return *s, true
		}
	}
	return Session{}, false
}

// All returns every session, by id.
func (t *Table) All() []Session {
	var all []Session
	for _, id := range slices.Sorted(maps.Keys(t.rows)) {
		all = append(all, *t.rows[id])
	}
	return all
}

// Report is the table as the group manager wants it: the latest connections
// first, at most local.MaxSessions. Their times are told by the clock of now,
// which may have been set since.
func (t *Table) Report(now time.Time) local.Report {
	all := t.All()
	slices.SortStableFunc(all, func(a, b Session) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(b.ID, a.ID))
	})
	r := local.Report{Sessions: []local.Session{}}
	for _, s := range all[:min(len(all), local.MaxSessions)] {
		r.Sessions = append(r.Sessions, local.Session{ID: s.ID, Token: s.Token, Connected: s.State == Connected, Last: now.Add(-now.Sub(s.Last)).UnixMilli()})
	}
	return r
}
