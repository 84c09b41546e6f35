// Package local is the conversation between the gateway and the group manager
// of one host: requests of package rpc on a unix socket, and their bodies.
//
// Source: design section 4, "server <-> groupmgr".
//
// The gateway connects, says Hello, and Reports its whole table of sessions,
// again at every change. When the connection is lost it connects anew and does
// the same: the group manager keeps nothing between.
//
// Both ends ignore fields that they do not know, so that those of two versions,
// which meet during an upgrade, go on.
//
// The package does no I/O. Limits: MaxSessions sessions in a report, MaxHosts
// hosts in a lookup, MaxOthers sessions in an answer.
package local

import (
	"fmt"
	"net/netip"
	"slices"

	"hotdesk/protocol/alp"
)

// Requests, from the gateway and from `groupmgr ctl`. Only ever appended to.
const (
	OpHello  = "hello"  // Hello -> Welcome
	OpReport = "report" // Report -> nothing
	OpLookup = "lookup" // Lookup -> Answer
	OpVerify = "verify" // Verify -> Verified
	OpTable  = "table"  // TableRequest -> Table, for `groupmgr ctl table`
	OpState  = "state"  // StateRequest -> State; also an event to the gateway, with State, whenever it changed
	OpStatus = "status" // nothing -> Status
)

// maxUser bounds a user's name, as group.MaxUser does.
const maxUser = 64

// maxProven bounds a kind of proof, as group.MaxProof does.
const maxProven = 16

// MaxSessions bounds a report.
const MaxSessions = 512

// Bounds of a lookup's Hosts, those of a rule that says them, and of its Access.
const (
	MaxHosts   = 64
	maxPattern = 128 // bytes of each
)

// MaxOthers bounds the sessions of other hosts that an answer names.
const MaxOthers = 32

// maxHost bounds a host's name, as group.MaxName does.
const maxHost = 63

// Hello tells the group manager where terminals reach this host's gateway.
type Hello struct {
	ControlPort int `json:"controlPort"`
}

// Welcome tells the gateway who its host is in the group.
type Welcome struct {
	Host  string     `json:"host"`
	Addr  netip.Addr `json:"addr"` // the host's primary address
	State State      `json:"state,omitzero"`
}

// Session is what the group needs to know of a session here.
type Session struct {
	ID        alp.SessionID `json:"id"`
	Token     alp.Token     `json:"token"`
	Connected bool          `json:"connected"`
	Last      int64         `json:"last"` // Unix milliseconds of its last connection
}

// Report is this host's whole table.
type Report struct {
	Sessions []Session `json:"sessions"`
}

// Lookup asks where a token's session is, or should be.
type Lookup struct {
	Token    alp.Token      `json:"token"`
	Terminal alp.TerminalID `json:"terminal"`
	Addr     netip.Addr     `json:"addr"` // the terminal's address
	// User is who has logged in at the terminal, and Presented the token that
	// it presented, where that is not Token: a redirect's proof says so.
	User      string    `json:"user,omitempty"`
	Presented alp.Token `json:"presented,omitempty"`
	// Proven is the kind of proof that the card has given, here or, by a redirect's
	// word, before; "" none. A redirect's proof says so. A group manager of before
	// does not know the field: the card is asked again where it is sent.
	Proven string `json:"proven,omitempty"`
	Want   Want   `json:"want,omitempty"`
	// Session and Host are the session that WantSession is for.
	Session alp.SessionID `json:"session,omitempty"`
	Host    string        `json:"host,omitempty"`
	// Hosts, if any, are the hosts that may give whoever asks a new session:
	// names, with * for any bytes. Sessions that exist are found on all. A group
	// manager of before does not know the field: the gateway judges once more.
	Hosts []string `json:"hosts,omitempty"`
	// Access, if any, says which hosts whoever asks may be on: the first that names
	// a host counts, and one that none names may be used. It is for new
	// sessions, as Hosts is, and the gateway there judges once more.
	Access []Access `json:"access,omitempty"`
	// Another, with WantPlace, is for a user who has chosen a new session beside
	// those that there are: a redirect's proof says so. A group manager of before
	// does not know the field: where there is one already, that is shown.
	Another bool `json:"another,omitempty"`
}

// An Access allows or denies the hosts of a pattern, a name with * for any bytes.
type Access struct {
	Host string `json:"host"`
	Deny bool   `json:"deny,omitempty"`
}

// Want is what a lookup is for, when it is not for the token's session. A group
// manager of before refuses those that it does not know.
type Want string

const (
	WantNew  Want = "new"  // a session on this host: the user chose to do without one that exists. Answered by New or Refused
	WantHost Want = "host" // another host, for a terminal without a session. Answered by There, with no session, or Refused
	// WantPlace is for the host on which a new session would be made, for
	// somebody who is still to log in. Nothing is promised. Answered by New, There,
	// with no session, or Refused.
	WantPlace Want = "place"
	// WantSession is for one session on another host, which the user has chosen:
	// nobody is asked. Answered by There, Unreachable, or Refused where there is no
	// such host.
	WantSession Want = "session"
)

// Where says what to do with a token.
type Where string

const (
	Here        Where = "here"        // attach the session here, Session
	There       Where = "there"       // redirect to Target
	New         Where = "new"         // none in the group: make one here
	Unreachable Where = "unreachable" // it is on Host, which the terminal cannot reach
	Refused     Where = "refused"     // no host takes a new session; Reason
)

// Answer is the reply to Lookup.
type Answer struct {
	Where   Where          `json:"where"`
	Session alp.SessionID  `json:"session,omitempty"`
	Host    string         `json:"host,omitempty"`
	Target  netip.AddrPort `json:"target,omitzero"`  // control address there
	Props   string         `json:"props,omitempty"`  // redirect proof, for redirectProps
	Reason  string         `json:"reason,omitempty"` // for the user
	// Others are the token's sessions on other hosts, that of the latest
	// connection first, the first MaxOthers of them. A group manager of before
	// names none.
	Others []Elsewhere `json:"others,omitempty"`
}

// An Elsewhere is a session on another host.
type Elsewhere struct {
	Host      string        `json:"host"`
	Session   alp.SessionID `json:"session"`
	Connected bool          `json:"connected,omitempty"`
	Last      int64         `json:"last"` // Unix milliseconds of its last connection, by the clock of whoever says so
}

// Verify asks whether a redirect's proof holds for this host.
type Verify struct {
	Props    string         `json:"props"`
	Token    alp.Token      `json:"token"`
	Terminal alp.TerminalID `json:"terminal"`
}

// Verified is the reply to Verify. Session is the one the sender meant, empty
// where it meant a new one; or, with New, the one that somebody else has got
// since the sender meant a new one: gateways of before, which know nothing of
// Proven, tell by it what the card has been asked for.
type Verified struct {
	OK      bool          `json:"ok"`
	Session alp.SessionID `json:"session,omitempty"`
	New     bool          `json:"new,omitempty"`
	User    string        `json:"user,omitempty"`    // who has logged in at the sender
	Proven  string        `json:"proven,omitempty"`  // the kind of proof that the card has given before; "" none
	Another bool          `json:"another,omitempty"` // the user has chosen a new one, whether there are others or not
	Reason  string        `json:"reason,omitempty"`  // why not, for the log
}

// Check tells whether a report is within bounds.
func (r Report) Check() error {
	if len(r.Sessions) > MaxSessions {
		return fmt.Errorf("local: report of %d sessions, at most %d", len(r.Sessions), MaxSessions)
	}
	for _, s := range r.Sessions {
		if !s.ID.Valid() || !s.Token.Valid() {
			return fmt.Errorf("local: session %q of token %q", s.ID, s.Token)
		}
	}
	return nil
}

// Check tells whether a lookup is well formed.
func (l Lookup) Check() error {
	if !l.Token.Valid() || !l.Terminal.Valid() || !l.Addr.Is4() || l.Presented != "" && !l.Presented.Valid() || len(l.User) > maxUser || len(l.Proven) > maxProven {
		return fmt.Errorf("local: lookup of token %q, terminal %q at %v", l.Token, l.Terminal, l.Addr)
	}
	if l.Want != "" && l.Want != WantNew && l.Want != WantHost && l.Want != WantPlace && l.Want != WantSession {
		return fmt.Errorf("local: lookup that wants %q", l.Want)
	}
	if (l.Want == WantSession) != (l.Session != "") || l.Session != "" && !l.Session.Valid() || (l.Session != "") != (l.Host != "") || len(l.Host) > maxHost {
		return fmt.Errorf("local: lookup that wants %q: session %q on %q", l.Want, l.Session, l.Host)
	}
	if l.Another && l.Want != WantPlace {
		return fmt.Errorf("local: lookup that wants %q, and another session", l.Want)
	}
	if len(l.Access) > MaxHosts || slices.ContainsFunc(l.Access, func(a Access) bool { return a.Host == "" || len(a.Host) > maxPattern }) {
		return fmt.Errorf("local: lookup with access to %d hosts; at most %d, of at most %d bytes each", len(l.Access), MaxHosts, maxPattern)
	}
	if len(l.Hosts) > MaxHosts || slices.ContainsFunc(l.Hosts, func(h string) bool { return h == "" || len(h) > maxPattern }) {
		return fmt.Errorf("local: lookup with %d hosts; at most %d, of at most %d bytes each", len(l.Hosts), MaxHosts, maxPattern)
	}
	return nil
}
