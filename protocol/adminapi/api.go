package adminapi

import (
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
)

// Prefix begins every path of the API. Its number changes when an older client
// could not use what is below it.
const Prefix = "/v1"

// Socket is the name of the API's socket in a runtime directory.
const Socket = "admin.sock"

// MaxBody bounds the body of a request, in bytes, but that of an import, which
// MaxText bounds.
const MaxBody = 64 << 10

// Paths, below Prefix. ID stands for a session's id.
//
//	GET    /status                Status
//	GET    /sessions              []Session
//	POST   /sessions/ID/end       Reason -> Done; ?host=NAME for a session of another host, as with the next two
//	POST   /sessions/ID/detach    Reason -> Done
//	POST   /sessions/ID/message   Reason -> Done: its user reads that
//	POST   /sessions/ID/lock      Reason -> Done: its user logs in to see it again
//	GET    /terminals             []TerminalState
//	GET    /group                 local.Table
//	GET    /group/sessions        GroupSessions; ?host=NAME for one host's
//	GET    /group/terminals       GroupTerminals; ?host=NAME
//	GET    /group/audit           GroupAudit; ?host=NAME and AuditQuery's values
//	DELETE /group/terminals/ID/key  Done: the key of that terminal is forgotten
//	POST   /host/state            local.StateRequest -> local.State
//	GET    /policy/explain        Explanation; ?token=&terminal=, and &user= for one who has logged in
//	GET    /records/KIND          []Record
//	GET    /records/KIND/NAME     Record
//	POST   /records/KIND/NAME     RecordRequest -> Done
//	DELETE /records/KIND/NAME     Done
//	GET    /registry              RegistryStatus
//	GET    /registry/export       text; ?rev=N for an older one
//	GET    /registry/history      []Change; ?limit=N
//	GET    /registry/diff         text; ?from=N&to=N
//	POST   /registry/diff         text of a registry -> text: what an import would do
//	POST   /registry/import       text of a registry -> Done
//	POST   /registry/rollback     Rollback -> Done
//	POST   /registry/adopt        Done: this host becomes the registry
//	POST   /registry/accept       Done: this host's copy gives way to the registry
//	GET    /registry/watch        a line of JSON, RegistryStatus, at every news
//
// Whatever else is asked for is an Error with the code NotFound.

// Code classes an error, for programs.
type Code string

// Codes of errors, with their HTTP status.
const (
	CodeInvalid  Code = "invalid"   // 400: the request is wrong; Text says what to write
	CodeDenied   Code = "denied"    // 403: the caller may not
	CodeNotFound Code = "not-found" // 404
	CodeConflict Code = "conflict"  // 409: someone else was first, or it is in another state
	CodeTooLarge Code = "too-large" // 413
	CodeInternal Code = "internal"  // 500
	CodeNotYet   Code = "not-yet"   // 501: this version cannot
	CodeAway     Code = "away"      // 503: the registry, the group manager or a keeper does not answer
)

// Error is the body of every answer that is none.
type Error struct {
	Code Code   `json:"code"`
	Text string `json:"text"` // says what to do
}

func (e Error) Error() string { return e.Text }

// Done is the answer to what was done. Rev is the registry's revision after a
// change of it; Before is the one before. They are equal where nothing was to
// be changed.
type Done struct {
	Before uint64 `json:"before,omitempty"`
	Rev    uint64 `json:"rev,omitempty"`
	Text   string `json:"text,omitempty"` // what is to be done next, for people
}

// Session is a session of a host.
type Session struct {
	ID       alp.SessionID  `json:"id"`
	Token    alp.Token      `json:"token"`
	User     string         `json:"user"`
	State    string         `json:"state"`
	Last     time.Time      `json:"last"` // of its last connection
	Terminal alp.TerminalID `json:"terminal,omitempty"`
	Display  string         `json:"display,omitempty"`
	Host     string         `json:"host"`
	Services []Service      `json:"services,omitempty"`
}

// Service is a program that a session has besides its desktop.
type Service struct {
	Name     string `json:"name"`
	State    string `json:"state"` // starting, running, waiting (to be started again), ended
	Required bool   `json:"required,omitempty"`
	PID      int    `json:"pid,omitempty"`
	Restarts int    `json:"restarts,omitempty"`
	Error    string `json:"error,omitempty"` // how it ended last
}

// TerminalState is a terminal that this host knows or that has a record.
type TerminalState struct {
	ID        alp.TerminalID `json:"id"`
	Name      string         `json:"name,omitempty"`
	Location  string         `json:"location,omitempty"`
	Connected bool           `json:"connected"`
	Addr      string         `json:"addr,omitempty"`
	Token     alp.Token      `json:"token,omitempty"` // that is in it
	Session   alp.SessionID  `json:"session,omitempty"`
	Host      string         `json:"host,omitempty"`  // that it is connected to
	Key       string         `json:"key,omitempty"`   // SHA-256 of its own key, as the registry has it
	Shown     string         `json:"shown,omitempty"` // and of the one that it has shown to that host
}

// Reason is why an admin does something, for the audit and the user.
type Reason struct {
	Reason string `json:"reason,omitempty"`
}

// MaxReason bounds a Reason, in bytes.
const MaxReason = 256

// RecordRequest changes a record, or makes it: fields with an empty value are
// taken away, those that are not named stay. With Replace they do not.
type RecordRequest struct {
	Fields  map[string]string `json:"fields"`
	Replace bool              `json:"replace,omitempty"`
	Create  bool              `json:"create,omitempty"` // it must not be there yet
	Base    uint64            `json:"base,omitempty"`   // the revision that the caller saw, 0 for any
}

// Rollback brings the records of a revision back, as a new one.
type Rollback struct {
	Rev uint64 `json:"rev"`
}

// Change is one change of the registry, in its history.
type Change struct {
	Rev     uint64    `json:"rev"`
	When    time.Time `json:"when"`
	Who     string    `json:"who"`
	Host    string    `json:"host"`
	Op      string    `json:"op"`
	Records int       `json:"records"` // that it changed
}

// RegistryStatus is how the registry does, as this host sees it.
type RegistryStatus struct {
	Mode      string    `json:"mode"`
	Connected bool      `json:"connected"` // changes can be made
	Diverged  bool      `json:"diverged,omitempty"`
	Since     time.Time `json:"since"` // of Connected
	Rev       uint64    `json:"rev"`
	Hash      string    `json:"hash,omitempty"`
	Records   int       `json:"records"`
	Dir       string    `json:"dir"`
	Error     string    `json:"error,omitempty"`
}

// Status is how this host does. What is missing could not be found out:
// Warnings say why, and what else is wrong.
type Status struct {
	Host      string         `json:"host"`
	Version   string         `json:"version"`
	Time      time.Time      `json:"time"`
	Authority string         `json:"authority"` // fingerprint of the group authority
	CertUntil time.Time      `json:"certUntil"` // end of this host's certificate
	Sessions  int            `json:"sessions"`
	Terminals int            `json:"terminals"`
	Registry  RegistryStatus `json:"registry"`
	Group     *local.Status  `json:"group,omitempty"`
	Warnings  []string       `json:"warnings"`
}
