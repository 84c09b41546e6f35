package engine

import (
	"time"

	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
)

// setState takes an admin's word, or the deadline's.
func (e *Engine) setState(now time.Time, s SetState) Output {
	if s.State != group.Offline {
		s.Deadline = time.Time{}
	}
	if e.state == s.State && e.deadline.Equal(s.Deadline) {
		return Output{}
	}
	e.state, e.deadline = s.State, s.Deadline
	e.describe(now)
	return Output{State: true}
}

// State is what this host is willing to do, as its gateway is told.
func (e *Engine) State() local.State {
	s := local.State{State: string(e.state), Sessions: len(e.sessions)}
	if !e.deadline.IsZero() {
		s.Deadline = e.deadline.Unix()
	}
	return s
}

// Welcome is the answer to a gateway's hello.
func (e *Engine) Welcome() local.Welcome {
	return local.Welcome{Host: e.cfg.Host, Addr: e.about.Addr, State: e.State()}
}

// Goodbye is what is said before the group manager stops. Whether the gateway
// stays is in it: then it is a restart, most likely (invariant 7).
func (e *Engine) Goodbye(now time.Time) Output {
	if !e.lost.IsZero() {
		e.lost, e.control = time.Time{}, 0
	}
	e.state = group.Gone
	e.describe(now)
	var out Output
	for _, d := range e.ways(now) {
		out.add(e.speak(now, d))
	}
	return e.tally(out)
}
