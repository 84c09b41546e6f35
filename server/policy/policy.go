// Package policy decides what a token gets: a session, the "insert card"
// screen, or nothing, and why.
//
// Source: design section 3; reference/alp.md section 11.
//
// A decision depends on the request and the configuration alone, so that an
// admin can ask what would happen. With brings in what the registry says.
//
// The package does no I/O and reads no clock. Values are safe to copy.
package policy

import (
	"fmt"
	"slices"
	"strings"

	"hotdesk/protocol/alp"
)

// Outcome is what a token gets.
type Outcome int

const (
	Session    Outcome = iota + 1 // its session, an old one or a new one
	InsertCard                    // the screen that asks for a card
	Denied                        // the reason, on the screen
	Login                         // the login screen, then Session
)

func (o Outcome) String() string {
	switch o {
	case Session:
		return "session"
	case InsertCard:
		return "insert card"
	case Denied:
		return "denied"
	case Login:
		return "login"
	}
	return fmt.Sprintf("Outcome(%d)", int(o))
}

// Bare says what a terminal without a card gets.
type Bare string

const (
	BareCard    Bare = "card"    // the "insert card" screen
	BareSession Bare = "session" // a session of its own
)

// ParseBare reads a Bare.
func ParseBare(s string) (Bare, error) {
	switch b := Bare(s); b {
	case BareCard, BareSession:
		return b, nil
	}
	return "", fmt.Errorf("policy: %q is not %q or %q", s, BareCard, BareSession)
}

// Config is the policy of a host.
type Config struct {
	Bare  Bare
	Cards Cards // "": any
	Login Logins
}

// A Request is what is known of who asks.
type Request struct {
	Token    alp.Token
	Terminal alp.TerminalID

	Registered bool   // the token has a record
	Disabled   bool   // it, or its user, is out of use
	Rule       string // the registry's that Config.Cards is from; "" for none
}

// A Decision is what is done, and by which rule.
type Decision struct {
	Outcome Outcome
	Module  string // the rule that decided, for connInf and the log
	Reason  string // for the user, when Denied
	OSD     int    // on-screen code, when Denied (alp.md section 10)
}

// OSDAccessDenied is the on-screen code of a denial.
const OSDAccessDenied = 6

// internal are the kinds of token that the server makes itself after a login
// (alp.md section 11). A terminal that presents one claims to be somebody.
var internal = []string{"user", "auth", "escape"}

// Decide applies the rules, first match wins.
func (c Config) Decide(r Request) Decision {
	kind, id, _ := strings.Cut(string(r.Token), ".")
	switch {
	case !r.Token.Valid() || !r.Terminal.Valid():
		return denied("Token", "This card has no name that the server can use.")
	case slices.Contains(internal, kind):
		return denied("Token", "This kind of card name is reserved.")
	case kind == "pseudo" && id != string(r.Terminal):
		return denied("Pseudo", "This is another terminal's own name.")
	case kind != "pseudo" && unread(id):
		return denied("Token", "The card could not be read. Take it out, turn it round and insert it again.")
	}
	if d, no := c.admit(r); no {
		return d
	}
	switch {
	case c.Login.needs(kind):
		return Decision{Outcome: Login, Module: "Login"}
	case kind == "pseudo" && c.Bare != BareSession:
		return Decision{Outcome: InsertCard, Module: "InsertCard"}
	case kind == "pseudo":
		return Decision{Outcome: Session, Module: "Pseudo"}
	}
	return Decision{Outcome: Session, Module: "Card"}
}

func denied(module, reason string) Decision {
	return Decision{Outcome: Denied, Module: module, Reason: reason, OSD: OSDAccessDenied}
}

// unread reports whether id is what terminals send for a card that they cannot
// read: "0", or all zeros.
func unread(id string) bool { return strings.Trim(id, "0") == "" }
