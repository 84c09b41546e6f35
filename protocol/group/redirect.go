package group

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"hotdesk/protocol/alp"
)

// ProofLife is how long a redirect's proof holds: the time to reach the other
// host, no more.
const ProofLife = 5 * time.Second

// ClockSlack is granted on top when a proof's time is judged: times of host
// messages, which tell the offset of two clocks, are whole seconds.
const ClockSlack = 2 * time.Second

// Redirect is what redirectProps proves: that a host of the group sent this
// terminal with this token there, for this session, just now. cause=redirect
// with a good proof selects and authenticates no second time (figure 9c).
type Redirect struct {
	Stamp           // the sender
	To       string // to: the host that is to take it
	Terminal alp.TerminalID
	Token    alp.Token
	Session  alp.SessionID // empty: a new one
	User     string        // user, in hexadecimal: has logged in at the sender; empty: nobody was asked (ours)
	Proof    string        // proof: the kind of proof that the card has given to the group; empty: none (ours)
	As       alp.Token     // as: whose a new session is, where that is not Token: the card is its alias, or the user has logged in (ours)
	Another  bool          // another=yes: its user has chosen a new one beside those that there are (ours)
}

// MaxUser bounds the name of a Redirect's user, in bytes.
const MaxUser = 64

// MaxProof bounds the name of a kind of proof, in bytes.
const MaxProof = 16

// Sign writes the proof, for redirectProps.
func (r Redirect) Sign(ring Ring, a Alg) string {
	m := alp.Message{Command: CmdRedirect}
	m.Add("host", r.Host)
	m.Add("time", strconv.FormatInt(r.Time, 10))
	m.Add("to", r.To)
	m.Add("terminal", string(r.Terminal))
	m.Add("token", string(r.Token))
	session := string(r.Session)
	if session == "" {
		session = "new"
	}
	m.Add("session", session)
	if r.User != "" {
		m.Add("user", hex.EncodeToString([]byte(r.User[:min(len(r.User), MaxUser)])))
	}
	if r.Proof != "" {
		m.Add("proof", r.Proof)
	}
	if r.As != "" {
		m.Add("as", string(r.As))
	}
	if r.Another {
		m.Add("another", "yes")
	}
	r.Stamp.add(&m)
	return strings.TrimSuffix(string(ring.Sign(m.Append(nil), a)), "\n")
}

// ParseRedirect reads a proof and checks its signature, nothing else.
func ParseRedirect(props string, ring Ring) (Redirect, error) {
	f := read([]byte(props), CmdRedirect)
	if f.err != nil {
		return Redirect{}, f.err
	}
	r := Redirect{
		Stamp:    f.stamp(),
		To:       f.name("to"),
		Terminal: f.terminal("terminal"),
		Token:    f.token(),
		Session:  alp.SessionID(f.m.Get("session")),
		Proof:    f.m.Get("proof"),
		As:       alp.Token(f.m.Get("as")),
		Another:  f.m.Get("another") == "yes",
	}
	if r.Proof != "" && !validWord(r.Proof, MaxProof) {
		f.fail("proof %.160q", r.Proof)
	}
	if r.As != "" && !r.As.Valid() {
		f.fail("as %.160q", r.As)
	}
	if r.Session == "new" {
		r.Session = ""
	} else if !r.Session.Valid() {
		f.fail("session %q", r.Session)
	}
	if u, err := hex.DecodeString(f.m.Get("user")); err != nil || len(u) > MaxUser {
		f.fail("user %.160q", f.m.Get("user"))
	} else {
		r.User = string(u)
	}
	if f.err == nil {
		f.err = ring.Verify([]byte(props))
	}
	return done(r, f)
}

// Expired reports whether the proof is too old, or from the future, at now by
// the clock of its sender.
func (r Redirect) Expired(now time.Time) bool {
	age := now.Sub(time.Unix(r.Time, 0))
	return age > ProofLife+ClockSlack || age < -ClockSlack
}
