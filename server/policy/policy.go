// Package policy decides what a token gets at a terminal: a session, a screen
// that asks for something, or nothing; what has to be proven for it, what a
// session may do, and which rule says so.
//
// Source: design section 3; reference/alp.md section 11; the matters of rules
// are adminapi.Matters. POLICY.md, made of the test's table, shows them.
//
// Invariants:
//  1. A decision depends on the request (with its time of day), the
//     registry's view and the configuration alone, so that an admin can ask
//     what would happen.
//  2. Of the rules that fit and say something of a matter, the one of the
//     lowest order decides that matter; where none does, the configuration.
//  3. What cannot be understood is refused: a kiosk that is not there, hours
//     that no version of this program knows.
//
// The package does no I/O and reads no clock. Values are safe to copy.
package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/proof"
)

// Outcome is what a token gets.
type Outcome int

const (
	Session    Outcome = iota + 1 // its session, an old one or a new one
	InsertCard                    // the screen that asks for a card
	Denied                        // the reason, on the screen
	Login                         // the login screen, then Session
	Elsewhere                     // what is There, on a host that may be used; the reason, where there is none
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
	case Elsewhere:
		return "elsewhere"
	}
	return fmt.Sprintf("Outcome(%d)", int(o))
}

// Bare says what a terminal without a card gets.
type Bare string

const (
	BareCard    Bare = "card"    // the "insert card" screen
	BareSession Bare = "session" // a session of its own
	bareLogin   Bare = "login"   // the login screen; the configuration says that with Login
)

// ParseBare reads a Bare.
func ParseBare(s string) (Bare, error) {
	switch b := Bare(s); b {
	case BareCard, BareSession:
		return b, nil
	}
	return "", fmt.Errorf("policy: %q is not %q or %q", s, BareCard, BareSession)
}

// Config is the policy of a host where no rule says anything.
type Config struct {
	Host  string
	Bare  Bare
	Cards Cards // "": any
	Login Logins
	// Proof is what a card must prove for a use; nil: nothing.
	Proof func(alp.Token, proof.Use) proof.Kind
}

// A Request is what is known of who asks.
type Request struct {
	Token    alp.Token // that was presented
	Terminal alp.TerminalID
	User     string    // who has logged in there, "" for nobody
	Now      time.Time // by the host's clock, in its time zone
}

// A Need is what must be shown before something is done: both, where both are
// set.
type Need struct {
	Proof proof.Kind // of the card
	Login bool       // of its user
}

// String is the form that rules have.
func (n Need) String() string {
	switch {
	case n.Login && n.Proof != proof.None:
		return string(n.Proof) + ",login"
	case n.Login:
		return "login"
	}
	return string(n.Proof)
}

// Keys is how a terminal proves that it is the one of its id.
type Keys string

// What a rule says of keys; "" and what a later version says are KeysHost.
const (
	KeysNone       Keys = "none"       // not at all, unless the registry has its key
	KeysHost       Keys = "host"       // by the key that was shown to this host first
	KeysPin        Keys = "pin"        // by the one that the registry has of it since its first use
	KeysRegistered Keys = "registered" // by one that an admin has registered
)

// Removal is what becomes of a session whose card is pulled.
type Removal struct {
	Lock  bool
	End   bool
	After time.Duration // until the end
}

// Limits are what a session's programs may use; 0 is what the host says.
type Limits struct {
	Memory               int64 // bytes
	Processes, CPUWeight int
}

// Idle is what becomes of a session that is shown while nobody types. One of
// the three is set where After is.
type Idle struct {
	Lock, Detach, End bool
	After             time.Duration // 0: never
}

// A Decision is what is done, and by which rule. What it says beside the
// outcome holds also where that is Denied or Elsewhere.
type Decision struct {
	Outcome Outcome
	Module  string  // the check that decided, and the rule after a colon, for connInf and the log
	Reason  string  // for the user, when Denied or Elsewhere
	OSD     int     // on-screen code, when Denied (alp.md section 10)
	There   Outcome // what a host gives that may be used, when Elsewhere; else 0

	// Token is the one whose sessions are meant, which is another than the one
	// presented where that is its alias. User is whose it is, or who has logged
	// in, and Owner whose the registry says it is.
	Token       alp.Token
	User, Owner string
	Groups      []string

	Keys            Keys // of the terminal's id
	First, Reattach Need
	Enroll          bool            // the card is to be registered as User's
	Kiosk           *adminapi.Kiosk // what the session is; nil for a user's
	Choose          bool
	Access          []local.Access // which hosts may be used at all; nil: all
	Hosts           []string       // that may give a new session, names with * for any bytes; nil: all
	NotHere         string         // why no session is made on this host, "" if one may be
	Most            int            // sessions of one user here; 0: any number
	Limits          Limits         // of a session's programs
	LoginWithin     time.Duration  // that a login waits for its user; 0: as it does by itself
	Disconnected    time.Duration  // 0: never
	Idle            Idle
	Removal         Removal

	Grounds []adminapi.Ground // of every matter, in the order of adminapi.Matters
}

// Need is what a use needs.
func (d Decision) Need(use proof.Use) Need {
	if use == proof.First {
		return d.First
	}
	return d.Reattach
}

// OSDAccessDenied is the on-screen code of a denial.
const OSDAccessDenied = 6

const noAccess = "You may not use this terminal. Ask your administrator."

// internal are the kinds of token that the server makes itself after a login
// (alp.md section 11). A terminal that presents one claims to be somebody.
var internal = []string{"user", "auth", "escape"}

// Decide says what is done with a request. v may be nil: nothing is registered
// then.
func (c Config) Decide(v View, r Request) Decision {
	a := c.about(v, r)
	d := a.settle()
	d.Outcome, d.Module, d.Reason = a.outcome(&d)
	if d.Outcome != Denied && a.value("access") == "deny" { // here, and not everywhere
		d.There, d.Outcome, d.Module, d.Reason = d.Outcome, Elsewhere, a.by("Access", "access"), noAccess
		d.NotHere = noAccess
	}
	if d.Outcome == Denied {
		d.OSD = OSDAccessDenied
	}
	return d
}

// outcome applies the checks, first match wins.
func (a *about) outcome(d *Decision) (o Outcome, module, reason string) {
	deny := func(module, reason string) (Outcome, string, string) { return Denied, module, reason }
	kind, id, _ := strings.Cut(string(a.Token), ".")
	pseudo := kind == "pseudo"
	switch {
	case !a.Token.Valid() || !a.Terminal.Valid():
		return deny("Token", "This card has no name that the server can use.")
	case slices.Contains(internal, kind):
		return deny("Token", "This kind of card name is reserved.")
	case pseudo && id != string(a.Terminal):
		return deny("Pseudo", "This is another terminal's own name.")
	case !pseudo && unread(id):
		return deny("Token", "The card could not be read. Take it out, turn it round and insert it again.")
	case a.disabled && pseudo:
		return deny("Disabled", "This terminal has been taken out of service. Ask your administrator.")
	case a.disabled:
		return deny("Disabled", "This card has been disabled. Ask your administrator.")
	case a.User != "" && a.owner != "" && a.User != a.owner:
		return deny("Owner", "This card belongs to another user.")
	case a.value("access") == "deny" && !a.someHost():
		return deny(a.by("Access", "access"), noAccess)
	case !a.open():
		return deny(a.by("Hours", "hours"), "The hours in which you may work here are over, or have not begun.")
	case a.kioskName() != "" && d.Kiosk == nil:
		return deny(a.by("Kiosk", "kiosk"), fmt.Sprintf("There is no kiosk %q. Ask your administrator.", a.value("kiosk")))
	case pseudo && a.value("bare") == string(bareLogin) && a.User == "" && d.Kiosk == nil:
		return Login, a.by("Login", "bare"), ""
	case pseudo && a.value("bare") == string(BareCard):
		return InsertCard, a.by("InsertCard", "bare"), ""
	case pseudo && a.value("bare") == string(BareSession) && a.first() && a.User == "" && d.Kiosk == nil:
		return Login, a.by("Login", "first"), ""
	case pseudo:
		return Session, a.by("Pseudo", "bare"), ""
	}
	switch Cards(a.value("cards")) {
	case CardsAny:
	case CardsNone:
		return deny(a.by("Cards", "cards"), "Cards are not taken here.")
	case CardsSelf:
		if !a.registered {
			if a.User == "" {
				return Login, a.by("Self", "cards"), ""
			}
			d.Enroll = true
		}
	default:
		if !a.registered {
			return deny(a.by("Registered", "cards"), "This card is not registered. Ask your administrator to register it.")
		}
	}
	if d.First.Login && d.Reattach.Login && a.User == "" {
		return Login, a.by("Login", "first"), ""
	}
	return Session, a.by("Card", "cards"), ""
}

// unread reports whether id is what terminals send for a card that they cannot
// read: "0", or all zeros.
func unread(id string) bool { return strings.Trim(id, "0") == "" }
