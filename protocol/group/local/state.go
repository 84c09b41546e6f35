package local

import (
	"fmt"
	"time"
)

// MaxDrain bounds the deadline of a drain: a year.
const MaxDrain = 365 * 24 * time.Hour

// States, as in host messages.
const (
	Online  = "online"
	Offline = "offline" // drains: sessions stay, no new ones come
	Down    = "down"    // sessions are to end, too
)

// StateRequest is an admin's word on what this host is willing to do.
type StateRequest struct {
	State  string `json:"state"`
	Within int64  `json:"within,omitempty"` // of Offline: seconds until it is Down by itself, 0: never
}

// Check tells whether a request can be followed.
func (r StateRequest) Check() error {
	switch {
	case r.State != Online && r.State != Offline && r.State != Down:
		return fmt.Errorf("local: state %q: it is %s, %s or %s", r.State, Online, Offline, Down)
	case r.Within < 0 || r.Within > int64(MaxDrain/time.Second):
		return fmt.Errorf("local: deadline in %d seconds, at most %d", r.Within, int64(MaxDrain/time.Second))
	case r.Within > 0 && r.State != Offline:
		return fmt.Errorf("local: a deadline is for %s only", Offline)
	}
	return nil
}

// State is what this host is willing to do. A gateway that hears Down ends its
// sessions.
type State struct {
	State    string `json:"state"`
	Deadline int64  `json:"deadline,omitempty"` // Unix seconds, when Offline becomes Down
	Sessions int    `json:"sessions"`           // that are here
}

// String is the state in a line for people.
func (s State) String() string {
	text := fmt.Sprintf("%s, %d sessions here", s.State, s.Sessions)
	if s.Deadline != 0 {
		text += ", down at " + time.Unix(s.Deadline, 0).UTC().Format(time.RFC3339)
	}
	return text
}
