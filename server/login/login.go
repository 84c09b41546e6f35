// Package login is what the gateway knows of a login: the conversation between
// a user and the login modules of a keeper, and how long guesses have to wait.
//
// Source: design section 1 (the gateway passes the conversation on); pam_conv(3).
//
//	            Submit            wait over             Prompt
//	Naming ------------> Holding -----------> Working <-------> Asking
//	  ^                                        |   |    Submit
//	  +------ wrong, cancelled, too slow ------+   +--> Telling ---> Over
//
// Invariants:
//  1. The password that was typed beside the name answers the first hidden
//     question and no other; it is wiped when it was used, or is not needed.
//  2. A failure counts only where an answer was sent to the modules and they
//     found it wrong.
//  3. What the modules said is read by the user before a session begins.
//
// The package does no I/O and reads no clock; callers pass the time. A Machine
// is not safe for concurrent use. Limits: MaxSaid, IdleWithin, and the tables'.
package login

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// MaxSaid bounds the messages of the modules that are kept.
	MaxSaid = 5
	// MaxText bounds each of them, in bytes.
	MaxText = 512
	// IdleWithin is how long a question waits for its answer, and NamingWithin
	// how long the first page waits where it gives way to another screen, where
	// New says nothing else.
	IdleWithin   = 90 * time.Second
	NamingWithin = 2 * time.Minute
	// WorkWithin is how long the modules may work.
	WorkWithin = 2 * time.Minute
)

// State is where a login is.
type State int

const (
	Naming  State = iota + 1 // who is it?
	Holding                  // the attempt waits its time
	Working                  // the modules are at work
	Asking                   // they ask something
	Telling                  // they said something that is to be read
	Over
)

// Kind is how a message of the modules is meant.
type Kind int

const (
	Hidden Kind = iota + 1
	Shown
	Problem
	Info
)

// A Note is a line for the user.
type Note struct {
	Text string
	Bad  bool
}

// A Page is what the user sees. Question is the field's label, on Asking.
type Page struct {
	State    State
	User     string
	Notes    []Note
	Question string
	Secret   bool
}

// Actions, in the order in which they are to be done. Whoever gets a secret
// wipes it.
type (
	Show  struct{ Page Page }
	Start struct{ User string }   // a keeper, and the modules in it
	Reply struct{ Answer []byte } // to the question of the modules
	Stop  struct{}                // the keeper is not wanted any more
	Wrong struct{ User string }   // log and count a failure
	Enter struct{ User string }   // the session may begin
	Leave struct{}                // nobody is there: show another screen
)

// A Machine is one terminal's login.
type Machine struct {
	leaves bool // Naming gives way when nobody comes
	wait   func(now time.Time, user string) time.Duration
	naming time.Duration
	idle   time.Duration

	state    State
	user     string
	password []byte
	first    bool // no hidden question was answered yet
	sent     bool // an answer went to the modules
	said     []Note
	unread   bool
	question string
	secret   bool
	at       time.Time // the state gives way
}

// New begins a login. wait says how long an attempt has to wait; leaves says
// whether the first page gives way to another screen; within, if not 0, is how
// long the user may take there, and for each answer.
func New(now time.Time, leaves bool, within time.Duration, wait func(time.Time, string) time.Duration) (*Machine, []any) {
	m := &Machine{leaves: leaves, wait: wait, naming: NamingWithin, idle: IdleWithin}
	if within > 0 {
		m.naming, m.idle = within, within
	}
	return m, m.name(now, nil)
}

// State is where the login is.
func (m *Machine) State() State { return m.state }

// Secret reports whether the answer to the question is not shown.
func (m *Machine) Secret() bool { return m.secret }

// Next is when Tick is due, zero for never.
func (m *Machine) Next() time.Time { return m.at }

func (m *Machine) show() Show {
	return Show{Page{m.state, m.user, slices.Clone(m.said), m.question, m.secret}}
}

// name goes back to the first page.
func (m *Machine) name(now time.Time, said []Note) []any {
	m.drop()
	m.state, m.said, m.unread, m.question, m.at = Naming, said, false, "", time.Time{}
	if m.leaves {
		m.at = now.Add(m.naming)
	}
	return []any{m.show()}
}

// Tell says something on the first page.
func (m *Machine) Tell(text string) []any {
	if m.state != Naming {
		return nil
	}
	m.said = []Note{{Text: cut(text)}}
	return []any{m.show()}
}

func (m *Machine) drop() {
	clear(m.password)
	m.password = nil
}

// Submit is the first page filled in. The password is the machine's from now
// on.
func (m *Machine) Submit(now time.Time, user string, password []byte) []any {
	if m.state != Naming {
		clear(password)
		return nil
	}
	m.user, m.password, m.first, m.sent, m.said = user, password, true, false, nil
	if wait := m.wait(now, user); wait > 0 {
		m.state, m.at = Holding, now.Add(wait)
		m.said = []Note{{Text: "Too many attempts. This one waits " + span(wait) + "."}}
		return []any{m.show()}
	}
	return m.start(now)
}

// span is a duration in words.
func span(d time.Duration) string {
	if s := (d + time.Second - 1) / time.Second; s > 1 {
		return strconv.Itoa(int(s)) + " seconds"
	}
	return "a second"
}

func (m *Machine) start(now time.Time) []any {
	m.state, m.said, m.at = Working, nil, now.Add(WorkWithin)
	return []any{m.show(), Start{m.user}}
}

// Prompt is something that the modules say; a question waits for a Reply.
func (m *Machine) Prompt(now time.Time, kind Kind, text string) []any {
	if m.state != Working {
		return nil
	}
	text = cut(strings.TrimSpace(text))
	if kind == Problem || kind == Info {
		if text != "" {
			m.said = append(m.said, Note{text, kind == Problem})
			m.said = m.said[max(0, len(m.said)-MaxSaid):]
			m.unread = true
		}
		return []any{Reply{}, m.show()}
	}
	if kind == Hidden && m.first {
		m.first = false
		if len(m.password) > 0 {
			answer := m.password
			m.password, m.sent = nil, true
			return []any{Reply{answer}}
		}
	}
	m.state, m.question, m.secret, m.at = Asking, text, kind == Hidden, now.Add(m.idle)
	return []any{m.show()}
}

func cut(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), MaxText)], "")
}

// Answer is the user's, to the question or to what was told.
func (m *Machine) Answer(now time.Time, answer []byte) []any {
	switch m.state {
	case Asking:
		m.state, m.question, m.said, m.unread, m.at = Working, "", nil, false, now.Add(WorkWithin)
		m.sent = m.sent || len(answer) > 0
		return []any{Reply{answer}, m.show()}
	case Telling:
		return m.enter()
	}
	clear(answer)
	return nil
}

func (m *Machine) enter() []any {
	m.drop()
	m.state, m.at = Over, time.Time{}
	return []any{Enter{m.user}}
}

// Cancel is the user's wish to begin anew.
func (m *Machine) Cancel(now time.Time) []any {
	switch m.state {
	case Naming:
		if !m.leaves {
			m.user = ""
			return m.name(now, nil)
		}
		m.state, m.at = Over, time.Time{}
		return []any{Leave{}}
	case Over:
		return nil
	}
	return append([]any{Stop{}}, m.name(now, nil)...)
}

// Passed is the modules' word that user has logged in.
func (m *Machine) Passed(now time.Time, user string) []any {
	if m.state != Working && m.state != Asking {
		return nil
	}
	m.user = user
	if m.unread {
		m.drop()
		m.state, m.at = Telling, now.Add(m.idle)
		return []any{m.show()}
	}
	return m.enter()
}

// Failed is the end of an attempt: guess tells that answers were wrong.
func (m *Machine) Failed(now time.Time, text string, guess bool) []any {
	if m.state == Naming || m.state == Over {
		return nil
	}
	var out []any
	if guess && m.sent {
		out = append(out, Wrong{m.user})
	}
	said := slices.DeleteFunc(m.said, func(n Note) bool { return !n.Bad })
	said = append(said, Note{cut(text), true})
	return append(append(out, Stop{}), m.name(now, said)...)
}

// Tick does what is due.
func (m *Machine) Tick(now time.Time) []any {
	if m.at.IsZero() || now.Before(m.at) {
		return nil
	}
	switch m.state {
	case Holding:
		return m.start(now)
	case Naming:
		m.state, m.at = Over, time.Time{}
		return []any{Leave{}}
	case Working:
		return append([]any{Stop{}}, m.name(now, []Note{{"The login took too long. Please try again.", true}})...)
	case Asking, Telling:
		m.user = ""
		return append([]any{Stop{}}, m.name(now, []Note{{"Nobody answered. Please log in again.", false}})...)
	}
	return nil
}

// Close wipes what the machine holds.
func (m *Machine) Close() {
	m.drop()
	m.state, m.at = Over, time.Time{}
}
