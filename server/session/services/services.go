// Package services decides which processes of a session are to be started, and
// when they are told of what happens to it.
//
// Source: design section 3 (a session's services).
//
//	idle -Begin-> starting -Started-> running -Ended-> waiting (required)
//	                 |                                  | pause over, or a terminal connects
//	                 +-Failed-> waiting, or ended       +-> starting
//
// A service that is not required is started once; its end is reported and is
// the end of it.
//
// Invariants:
//  1. A required service that does not run is started after a pause, doubled
//     from FirstPause to MostPause and begun anew when it ran for Healthy; a
//     terminal that connects has it started at once.
//  2. No service is started while it runs or is being started.
//  3. Who runs is told of each connect and disconnect, in their order, and who
//     is started while a terminal is connected is told of that first.
//
// A Machine is pure: time is an argument, and it does what it asks for through
// Actions. It is not safe for concurrent use. Parse is pure, Read reads files.
// Limits: MaxServices, MaxFile, MaxName.
package services

import (
	"cmp"
	"time"

	"hotdesk/protocol/alp"
)

const (
	FirstPause = 200 * time.Millisecond
	MostPause  = 30 * time.Second
	Healthy    = time.Minute
)

// State is how a service is. Only ever appended to.
type State string

const (
	Starting State = "starting"
	Running  State = "running"
	Waiting  State = "waiting" // for its next start
	Over     State = "ended"   // and not to be started again
)

// Report is what is told of a service.
type Report struct {
	Name     string `json:"name"`
	State    State  `json:"state"`
	Required bool   `json:"required,omitempty"`
	PID      int    `json:"pid,omitempty"`
	Restarts int    `json:"restarts,omitempty"`
	Error    string `json:"error,omitempty"` // how it ended last, "" if well or not at all
}

// Kind is what an Action asks for.
type Kind int

const (
	Start Kind = iota + 1 // the service's Command
	Tell                  // Text, a line on the service's standard input
	Hook                  // run Text, a command, with Event and Terminal
)

// An Event is what services are told of.
type Event string

const (
	Connect    Event = "connect"
	Disconnect Event = "disconnect"
)

// An Action is something to be done, in the order of its list.
type Action struct {
	Kind     Kind
	Name     string
	Text     string
	Event    Event
	Terminal alp.TerminalID
}

type service struct {
	Spec
	Report
	since time.Time // of its start
	at    time.Time // of its next start, while it waits
	pause time.Duration
}

// A Machine is the services of a session.
type Machine struct {
	all      []*service
	terminal alp.TerminalID // connected, "" none
}

// New makes a machine of services whose names differ.
func New(specs []Spec) *Machine {
	m := &Machine{}
	for _, s := range specs {
		m.all = append(m.all, &service{Spec: s, Report: Report{Name: s.Name, Required: s.Required}})
	}
	return m
}

// Begin starts what is to run from the session's begin.
func (m *Machine) Begin(now time.Time) (todo []Action) {
	for _, s := range m.all {
		if s.Command != "" {
			todo = append(todo, s.start(now))
		}
	}
	return todo
}

func (s *service) start(now time.Time) Action {
	s.State, s.since, s.at = Starting, now, time.Time{}
	return Action{Kind: Start, Name: s.Spec.Name, Text: s.Command}
}

func (m *Machine) find(name string) *service {
	for _, s := range m.all {
		if s.Spec.Name == name {
			return s
		}
	}
	return nil
}

// Started tells that a service runs.
func (m *Machine) Started(name string, pid int) (todo []Action) {
	s := m.find(name)
	if s == nil || s.State != Starting {
		return nil
	}
	s.State, s.PID = Running, pid
	if m.terminal != "" {
		todo = append(todo, s.tell(Connect, m.terminal))
	}
	return todo
}

// Ended tells that a service has ended, or could not be started; why is "" if
// it ended well.
func (m *Machine) Ended(now time.Time, name, why string) {
	s := m.find(name)
	if s == nil || s.State != Running && s.State != Starting {
		return
	}
	s.PID, s.Error = 0, why
	if !s.Spec.Required {
		s.State = Over
		return
	}
	if now.Sub(s.since) >= Healthy {
		s.pause = 0
	}
	s.pause = min(max(2*s.pause, FirstPause), MostPause)
	s.State, s.at = Waiting, now.Add(s.pause)
}

// Connection tells which terminal shows the session, ""
// if none does any more.
func (m *Machine) Connection(now time.Time, terminal alp.TerminalID) (todo []Action) {
	if terminal == m.terminal {
		return nil
	}
	event, named := Connect, cmp.Or(terminal, m.terminal)
	if terminal == "" {
		event = Disconnect
	}
	m.terminal = terminal
	for _, s := range m.all {
		switch {
		case s.State == Running:
			todo = append(todo, s.tell(event, named))
		case s.State == Waiting && event == Connect:
			s.Restarts++
			todo = append(todo, s.start(now))
		}
		hook := s.Spec.Connect
		if event == Disconnect {
			hook = s.Spec.Disconnect
		}
		if hook != "" {
			todo = append(todo, Action{Kind: Hook, Name: s.Spec.Name, Text: hook, Event: event, Terminal: named})
		}
	}
	return todo
}

func (s *service) tell(e Event, terminal alp.TerminalID) Action {
	return Action{Kind: Tell, Name: s.Spec.Name, Text: string(e) + " " + string(terminal) + "\n", Event: e, Terminal: terminal}
}

// Next is when Tick is due, zero if never.
func (m *Machine) Next() (at time.Time) {
	for _, s := range m.all {
		if s.State == Waiting && (at.IsZero() || s.at.Before(at)) {
			at = s.at
		}
	}
	return at
}

// Tick starts the services whose pause is over.
func (m *Machine) Tick(now time.Time) (todo []Action) {
	for _, s := range m.all {
		if s.State == Waiting && !now.Before(s.at) {
			s.Restarts++
			todo = append(todo, s.start(now))
		}
	}
	return todo
}

// Reports tells of all services that have a command.
func (m *Machine) Reports() (all []Report) {
	for _, s := range m.all {
		if s.State != "" {
			all = append(all, s.Report)
		}
	}
	return all
}
