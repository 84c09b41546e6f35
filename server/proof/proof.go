// Package proof has a card prove that it is the one that its token names.
//
// Source: design section 3; reference/alp.md section 3 (controlSmartCard,
// infoSmartCard); NIST SP 800-73-4 part 2 and FIPS 201-3 (PIV); package emulated
// (the simple card).
//
// A Machine is one proof: it asks one thing after the other and ends with a
// Result. What a card signs is an identity.Statement, with a nonce that is the
// proof's own, so that an answer to another one is worth nothing.
//
//	simple    SELECT -> INTERNAL AUTHENTICATE -> proven
//	pin       SELECT -> CHUID -> PIN -> proven
//	piv-card  SELECT -> certificate 9E -> GENERAL AUTHENTICATE -> proven
//	piv       SELECT -> certificate 9A -> PIN -> GENERAL AUTHENTICATE -> proven
//
// What each is worth: simple, piv-card and piv show that the card holds a
// secret that cannot be read out, so a copied id is refused; piv shows also
// that whoever put the card in knows its PIN, as long as the authorities mark
// certificates of 9E as such (piv.CardAuthenticationUsage). A pin alone is the terminal's
// word: it stops the finder of a card, not somebody with a terminal or a card
// of their own making.
//
// Invariants:
//  1. Every machine ends: after at most MaxAsks questions, AnswerWithin each,
//     PINWithin for a PIN.
//  2. An answer counts for the question that is out, by its tag; every other
//     answer is dropped.
//  3. The certificate is checked (chain, validity, revocation, whose card it
//     is of) before the person is asked for the PIN, and the PIN never comes
//     here: the terminal gives it to the card and tells the status.
//  4. Nothing is proven by an error.
//
// The package does no I/O and reads no clock. A Machine is not safe for
// concurrent use.
package proof

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/identity"
	"hotdesk/smartcard/piv"
)

// Kind is how a card proves itself.
type Kind string

const (
	None    Kind = "none"
	PIN     Kind = "pin"      // the card accepts the PIN that is typed at the terminal
	PIVCard Kind = "piv-card" // key 9E, without a PIN
	PIV     Kind = "piv"      // key 9A, with the PIN
	Simple  Kind = "simple"   // the secret of a simple card
)

// Kinds are all of them.
var Kinds = []Kind{None, PIN, PIVCard, PIV, Simple}

// Covers reports whether a card that has given a proof of kind k, "" none, owes no
// other where need is asked for.
func (k Kind) Covers(need Kind) bool {
	return need == None || need == k || k == PIV && (need == PIVCard || need == PIN)
}

// Use is when a proof is asked for.
type Use string

const (
	First    Use = "first"    // a session is about to be made
	Reattach Use = "reattach" // a session that there is, here or elsewhere, is about to be shown
)

// Limits.
const (
	MaxAsks      = 256 // questions of one proof
	MaxTries     = 16  // PINs of one proof; cards have fewer
	AnswerWithin = 10 * time.Second
	PINWithin    = 2 * time.Minute
)

// SecretSize is the length of a simple card's secret, in bytes.
const SecretSize = 16

// Secret is a simple card's. It hides itself in logs.
type Secret [SecretSize]byte

func (Secret) String() string       { return "(secret)" }
func (Secret) GoString() string     { return "(secret)" }
func (Secret) LogValue() slog.Value { return slog.StringValue("(secret)") }

// Config is what one proof is about.
type Config struct {
	Kind     Kind
	Use      Use
	TokenSeq int
	Token    alp.Token
	Terminal alp.TerminalID
	Channel  [identity.ChannelSize]byte
	Nonce    [alp.NonceSize]byte // from a good source, never used before
	Trust    *Trust              // of certificates
	Secret   *Secret             // of this simple card; nil: it is not known

	// FirstUse takes the key of a card that has proven itself once for the
	// card's own, where the certificate does not name the card. Known is the
	// Fingerprint of the key taken then, "" before.
	FirstUse bool
	Known    string
}

// Outcome is how a proof ended.
type Outcome int

const (
	Proven    Outcome = iota + 1
	Refused           // the proof does not hold
	Blocked           // the card's PIN is blocked
	NoPIN             // nobody typed it
	CardError         // the card does not answer, or not as cards do
)

func (o Outcome) String() string {
	switch o {
	case Proven:
		return "proven"
	case Refused:
		return "refused"
	case Blocked:
		return "blocked"
	case NoPIN:
		return "no PIN"
	case CardError:
		return "card error"
	}
	return fmt.Sprintf("Outcome(%d)", int(o))
}

// A Result is the end of a proof.
type Result struct {
	Outcome Outcome
	Reason  string // for the user; empty when proven
	Detail  string // for the log
	Key     string // to be remembered, as Config.Known; "" where nothing is
	Wrong   int    // PINs that were wrong
}

// A Machine is one proof.
type Machine struct {
	cfg       Config
	statement identity.Statement

	asks   int
	tag    string       // of the question that is out
	dialog *apdu.Dialog // nil while the PIN is asked for
	next   func(apdu.Response) Step
	sign   bool // the dialog has the card sign
	wrong  int
	pins   int
	at     time.Time // of the step that is under way
	until  time.Time
	ended  bool
	cert   *x509.Certificate
}

// A Step is what comes of something: a line to be sent, or the end.
type Step struct {
	Ask *alp.ControlSmartCard
	End *Result
}

// New makes a proof that has not begun.
func New(cfg Config) *Machine { return &Machine{cfg: cfg} }

// Begin asks the first question.
func (m *Machine) Begin(now time.Time) Step {
	m.statement = identity.Statement{
		Token: m.cfg.Token, Terminal: m.cfg.Terminal, Channel: m.cfg.Channel, Nonce: m.cfg.Nonce,
		Time: now.Unix(), Purpose: string(m.cfg.Use),
	}
	kind, id, _ := strings.Cut(string(m.cfg.Token), ".")
	switch m.cfg.Kind {
	case None:
		return m.end(Result{Outcome: Proven})
	case Simple:
		switch {
		case kind != "simple":
			return m.refuse(refuse(sayOther, "a card of type %q has no secret", kind))
		case m.cfg.Secret == nil:
			return m.refuse(refuse(saySecret, "no secret of card %s is known", id))
		}
		return m.card(now, apdu.Select(apdu.SimpleAID), false, m.simpleSelected)
	case PIN, PIVCard, PIV:
		return m.card(now, piv.Select(), false, m.pivSelected)
	}
	return m.refuse(refuse(sayOther, "no proof of the kind %q", m.cfg.Kind))
}

// Kind is what the proof is of.
func (m *Machine) Kind() Kind { return m.cfg.Kind }

// Next is when Tick must be called.
func (m *Machine) Next() time.Time { return m.until }

// Tick ends a proof whose time is over.
func (m *Machine) Tick(now time.Time) Step {
	switch {
	case m.ended || now.Before(m.until):
		return Step{}
	case m.dialog == nil:
		return m.end(Result{Outcome: NoPIN, Reason: "Nobody typed the PIN. Take the card out, and insert it again.", Detail: "no PIN came in time"})
	}
	return m.cardError(saySilent, "no answer in time")
}

// Answer takes in what the terminal said.
func (m *Machine) Answer(now time.Time, a alp.InfoSmartCard) Step {
	if m.ended || a.Tag != m.tag {
		return Step{}
	}
	m.tag = ""
	if m.dialog == nil {
		return m.pin(now, a)
	}
	if !a.OK {
		return m.cardError(saySilent, "terminal: "+a.Cause)
	}
	whole, done, err := m.dialog.Take(apdu.Response{Data: a.Data, Status: a.Status})
	switch {
	case err != nil:
		return m.cardError(sayBroken, err.Error())
	case !done:
		return m.ask(now)
	}
	then := m.next
	m.at, m.next = now, nil
	return then(whole)
}

// card begins a command and says what is done with its response.
func (m *Machine) card(now time.Time, c apdu.Command, sign bool, then func(apdu.Response) Step) Step {
	m.dialog, m.sign, m.next = apdu.NewDialog(c, false), sign, then
	return m.ask(now)
}

func (m *Machine) ask(now time.Time) Step {
	if m.asks++; m.asks > MaxAsks {
		return m.cardError(sayBroken, "too many questions and no end")
	}
	m.tag = fmt.Sprintf("%s.%d", hex.EncodeToString(m.cfg.Nonce[:8]), m.asks)
	q := &alp.ControlSmartCard{TokenSeq: m.cfg.TokenSeq, Tag: m.tag}
	if m.dialog == nil {
		q.PIN = true
		m.until = now.Add(PINWithin)
		return Step{Ask: q}
	}
	c := m.dialog.Command()
	q.CLA, q.INS, q.P1, q.P2, q.Data, q.Le = c.CLA, c.INS, c.P1, c.P2, c.Data, c.Le
	if m.sign {
		q.Purpose, q.Nonce, q.Time = m.statement.Purpose, m.statement.Nonce[:], m.statement.Time
	}
	m.until = now.Add(AnswerWithin)
	return Step{Ask: q}
}

func (m *Machine) end(r Result) Step {
	m.ended, m.until, r.Wrong = true, time.Time{}, m.wrong
	return Step{End: &r}
}

func (m *Machine) refuse(r *refusal) Step {
	return m.end(Result{Outcome: Refused, Reason: r.reason, Detail: r.detail})
}

func (m *Machine) cardError(reason, detail string) Step {
	return m.end(Result{Outcome: CardError, Reason: reason, Detail: detail})
}

// The simple card.

func (m *Machine) simpleSelected(r apdu.Response) Step {
	if r.Status != apdu.OK {
		return m.refuse(refuse(sayProof, "SELECT of the simple card: %s", apdu.StatusText(r.Status)))
	}
	digest, _ := m.statement.Digest(0)
	return m.card(m.at, apdu.SimpleChallenge(digest), true, func(r apdu.Response) Step {
		mac := hmac.New(sha256.New, m.cfg.Secret[:])
		mac.Write([]byte(apdu.SimpleLabel))
		mac.Write(digest)
		if r.Status != apdu.OK || !hmac.Equal(mac.Sum(nil), r.Data) {
			return m.refuse(refuse(sayProof, "the simple card's answer is wrong (%s)", apdu.StatusText(r.Status)))
		}
		return m.end(Result{Outcome: Proven})
	})
}

// PIV.

func (m *Machine) pivSelected(r apdu.Response) Step {
	if r.Status != apdu.OK {
		return m.refuse(refuse(sayOther, "SELECT of PIV: %s", apdu.StatusText(r.Status)))
	}
	object := uint32(piv.CHUID)
	switch m.cfg.Kind {
	case PIVCard:
		object = piv.Cert9E
	case PIV:
		object = piv.Cert9A
	}
	return m.card(m.at, piv.Get(object), false, func(r apdu.Response) Step {
		if r.Status != apdu.OK {
			return m.refuse(refuse(sayNoCert, "GET DATA of %x: %s", object, apdu.StatusText(r.Status)))
		}
		if m.cfg.Kind == PIN {
			return m.holder(r.Data)
		}
		return m.certificate(r.Data)
	})
}

// holder checks that the PIN is asked for by the card that the token is of.
func (m *Machine) holder(object []byte) Step {
	h, err := piv.ParseHolder(object)
	if err != nil {
		return m.cardError(sayBroken, err.Error())
	}
	_, id, _ := strings.Cut(string(m.cfg.Token), ".")
	if strings.HasPrefix(string(m.cfg.Token), "piv.") && id != hex.EncodeToString(h.GUID[:]) && id != hex.EncodeToString(h.FASCN[:]) {
		return m.refuse(refuse(sayUnbound, "the card's CHUID is another one"))
	}
	return m.askPIN()
}

func (m *Machine) certificate(object []byte) Step {
	der, err := piv.ParseCert(object)
	if err != nil {
		return m.refuse(refuse(sayKey, "%v", err))
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return m.refuse(refuse(sayKey, "%v", err))
	}
	if err := m.cfg.Trust.check(c, m.at); err != nil {
		return m.refuse(err.(*refusal))
	}
	if err := fits(c, m.cfg.Kind); err != nil {
		return m.refuse(err.(*refusal))
	}
	if algorithm(c.PublicKey) == 0 {
		return m.refuse(refuse(sayKey, "the certificate's key is neither RSA of 2048 or 3072 bits nor P-256 or P-384"))
	}
	switch key := Fingerprint(c); {
	case bound(c, m.cfg.Token):
	case m.cfg.Known != "" && m.cfg.Known == key:
	case m.cfg.Known != "":
		return m.refuse(refuse(sayUnbound, "the card's key %s is not the one that was registered", key))
	case !m.cfg.FirstUse:
		return m.refuse(refuse(sayUnbound, "the certificate of %q does not name the card of %s", c.Subject, m.cfg.Token))
	}
	m.cert = c
	if m.cfg.Kind == PIV {
		return m.askPIN()
	}
	return m.authenticate()
}

func (m *Machine) askPIN() Step {
	if m.pins++; m.pins > MaxTries {
		return m.cardError(sayBroken, "more tries than cards have")
	}
	m.dialog = nil
	return m.ask(m.at)
}

// pin takes in the card's status, as the terminal tells it.
func (m *Machine) pin(now time.Time, a alp.InfoSmartCard) Step {
	m.at = now
	left, isTries := apdu.Tries(a.Status)
	switch {
	case !a.OK:
		return m.end(Result{Outcome: NoPIN, Reason: "The PIN was not typed. Take the card out, and insert it again.", Detail: "terminal: " + a.Cause})
	case a.Status == apdu.OK && m.cfg.Kind == PIN:
		return m.end(Result{Outcome: Proven})
	case a.Status == apdu.OK:
		return m.authenticate()
	case isTries && left > 0:
		m.wrong++
		return m.askPIN()
	case isTries:
		return m.end(Result{Outcome: Blocked, Reason: "The card's PIN was wrong too often. Ask the administrator to unblock the card.", Detail: "the PIN is blocked"})
	}
	return m.cardError(sayBroken, "VERIFY: "+apdu.StatusText(a.Status))
}

func (m *Machine) authenticate() Step {
	key := byte(piv.CardAuthentication)
	if m.cfg.Kind == PIV {
		key = piv.Authentication
	}
	a := algorithm(m.cert.PublicKey)
	block, err := m.statement.Block(a)
	if err != nil {
		return m.refuse(refuse(sayKey, "%v", err))
	}
	return m.card(m.at, piv.Authenticate(a, key, block), true, func(r apdu.Response) Step {
		if r.Status != apdu.OK {
			return m.refuse(refuse(sayProof, "GENERAL AUTHENTICATE: %s", apdu.StatusText(r.Status)))
		}
		signature, err := piv.ParseSignature(r.Data)
		if err != nil {
			return m.refuse(refuse(sayProof, "%v", err))
		}
		if !m.signed(a, signature) {
			return m.refuse(refuse(sayProof, "the signature is not the certificate's key's, or of something else"))
		}
		end := Result{Outcome: Proven}
		if m.cfg.FirstUse && m.cfg.Known == "" && !bound(m.cert, m.cfg.Token) {
			end.Key = Fingerprint(m.cert)
		}
		return m.end(end)
	})
}

func (m *Machine) signed(algorithm byte, signature []byte) bool {
	digest, hash := m.statement.Digest(algorithm)
	switch k := m.cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, digest, signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, crypto.Hash(hash), digest, signature) == nil
	}
	return false
}
