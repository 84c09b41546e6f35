package terminal

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"hotdesk/protocol/alp"
	"hotdesk/smartcard/apdu"
	names "hotdesk/smartcard/identity"
	"hotdesk/smartcard/piv"
)

// A server may ask a card only for what a proof needs, and only between the
// card's presentation and the answer to it:
//
//   - SELECT of PIV or of the simple card's application;
//   - of PIV the CHUID and the certificates 9A and 9E, which everybody may read;
//   - a signature, or the simple card's answer, of nothing but the statement
//     that the terminal writes down itself: this card, this terminal, this
//     connection, the server's nonce and time. So no server can have a card sign
//     a login elsewhere, or what a card of another terminal is asked;
//   - with key 9A once for each PIN that the person types.
//
// VERIFY never comes from a server: the terminal asks for the PIN on its own
// screen, no session or server draws there, and gives it to the card. It goes
// over no network, so that a server that was broken into learns none.

// On-screen codes of PINs (alp.md section 10).
const (
	CodePINFailed = 7
	CodePIN       = 8
)

// maxAsks bounds the questions of one presentation.
const maxAsks = 300

// builtIn is the version of the rules that a terminal names cards by until a
// server has told it others.
const builtIn = "builtin"

// An asking is what the server asks of the card that is presented.
type asking struct {
	card  int    // 0: nothing was asked
	tag   string // of the question that is out; empty: none is
	pin   bool   // it is for the PIN
	left  int    // tries of the PIN; 0: not known, -1: blocked
	wrong bool   // a PIN was
	guard guard
}

const titleBlocked = "The card is blocked"

var osdChecking = OSD{CodeServer, "Checking the card", "Leave the card in."}

// cardQuestion is a controlSmartCard of the presentation that counts.
func (m *Machine) cardQuestion(c alp.ControlSmartCard) {
	if m.tok.card == 0 || m.verdict != verdictNone {
		m.cardReply(alp.InfoSmartCard{Tag: c.Tag, Cause: "no card is to be asked now"})
		return
	}
	if m.ask.tag != "" {
		m.cardReply(alp.InfoSmartCard{Tag: c.Tag, Cause: "another question is out"})
		return
	}
	m.ask.card = m.tok.card
	if c.PIN {
		m.ask.tag, m.ask.pin = c.Tag, true
		if m.med.id != 0 {
			m.blank(m.pinOSD())
			m.closeMedia("a PIN is asked for")
		}
		m.say(m.pinOSD())
		m.do(AskPIN{m.ask.card, c.Tag})
		if m.ask.left == 0 {
			m.do(AskTries{m.ask.card, c.Tag})
		}
		return
	}
	st := names.Statement{Token: m.tok.name(), Terminal: m.cfg.Identity.Terminal, Channel: m.channel, Time: c.Time, Purpose: c.Purpose}
	copy(st.Nonce[:], c.Nonce)
	cmd := apdu.Command{CLA: c.CLA, INS: c.INS, P1: c.P1, P2: c.P2, Data: c.Data, Le: c.Le}
	if why := m.ask.guard.allow(cmd, st); why != "" {
		m.cardReply(alp.InfoSmartCard{Tag: c.Tag, Cause: "this terminal does not let a server do that: " + why})
		return
	}
	m.ask.tag, m.ask.pin = c.Tag, false
	if m.med.id == 0 && m.osd.Code != CodePIN {
		m.say(osdChecking)
	}
	m.do(Exchange{m.ask.card, c.Tag, cmd.Append(nil)})
}

func (m *Machine) pinOSD() OSD {
	const how = "Type it, then press Return. Escape gives up."
	o := OSD{CodePIN, "Enter your card's PIN", how}
	if m.ask.left <= 0 {
		return o
	}
	left := fmt.Sprintf("%d tries left", m.ask.left)
	if m.ask.left == 1 {
		left = "1 try left"
	}
	switch {
	case m.ask.wrong && m.ask.left == 1:
		o.Title, o.Text = "Wrong PIN: "+left, "If the next PIN is wrong too, the card is blocked. "+how
	case m.ask.wrong:
		o.Title = "Wrong PIN: " + left
	case m.ask.left == 1:
		o.Text = left + ": if the PIN is wrong, the card is blocked. " + how
	default:
		o.Text = left + ". " + how
	}
	return o
}

func (m *Machine) cardReply(i alp.InfoSmartCard) {
	if !m.replyAt.IsZero() { // now it is the server's turn
		m.replyAt = m.now.Add(ReplyWithin)
	}
	i.Cause = i.Cause[:min(len(i.Cause), alp.MaxText)]
	m.send(i.Message())
}

// cardAnswered is what the card said.
func (m *Machine) cardAnswered(e CardAnswered) {
	if e.Tag == "" || e.Tag != m.ask.tag || e.Card != m.ask.card || m.ask.pin || m.link != linkUp {
		return
	}
	m.ask.tag = ""
	i := alp.InfoSmartCard{Tag: e.Tag, Cause: clean(e.Reason)}
	if e.Reason == "" {
		r, err := apdu.ParseResponse(e.Answer)
		switch {
		case err != nil:
			i.Cause = "the card's answer is none"
		case len(r.Data) > alp.MaxCardReply:
			i.Cause = "the card's answer is too long"
		default:
			i.OK, i.Data, i.Status = true, r.Data, r.Status
		}
	}
	m.cardReply(i)
}

// pinGiven is what the card said of the PIN, or why there is none.
func (m *Machine) pinGiven(e PINGiven) {
	if e.Tag == "" || e.Tag != m.ask.tag || e.Card != m.ask.card || !m.ask.pin || m.link != linkUp {
		return
	}
	m.ask.tag = ""
	if e.Reason != "" {
		m.say(osdChecking)
		m.cardReply(alp.InfoSmartCard{Tag: e.Tag, Cause: clean(e.Reason)})
		return
	}
	m.ask.guard.verified = e.Status == apdu.OK
	switch left, ok := apdu.Tries(e.Status); {
	case ok && left > 0:
		m.ask.left, m.ask.wrong = left, true // the next question says so
	case ok:
		m.blocked()
	default:
		m.say(osdChecking)
	}
	m.cardReply(alp.InfoSmartCard{Tag: e.Tag, OK: true, Status: e.Status})
}

// pinTries is how many tries the PIN that is asked for has left. Of a card that
// is blocked none is typed: it would not be looked at.
func (m *Machine) pinTries(e PINTries) {
	if e.Tag == "" || e.Tag != m.ask.tag || e.Card != m.ask.card || !m.ask.pin || m.link != linkUp {
		return
	}
	switch left, ok := apdu.Tries(e.Status); {
	case !ok || m.ask.left != 0:
	case left > 0:
		m.ask.left = left
		m.say(m.pinOSD())
	default:
		m.ask.tag = ""
		m.blocked()
		m.cardReply(alp.InfoSmartCard{Tag: e.Tag, OK: true, Status: e.Status})
	}
}

func (m *Machine) blocked() {
	m.ask.left = -1
	m.say(OSD{CodePINFailed, titleBlocked, "Its PIN was wrong too often."})
}

// endProof ends what a server may ask of the card.
func (m *Machine) endProof() {
	if m.ask.card != 0 {
		m.do(EndProof{m.ask.card})
	}
	m.ask = asking{}
}

// A guard lets through what a proof needs, and nothing else.
type guard struct {
	app      []byte // selected
	chain    apdu.Assembler
	verified bool
	n        int
}

// allow returns why a command may not go to the card, or "".
func (g *guard) allow(c apdu.Command, st names.Statement) string {
	isPIV, isSimple := bytes.Equal(g.app, piv.AID), bytes.Equal(g.app, apdu.SimpleAID)
	if g.n++; g.n > maxAsks {
		return "too many questions"
	}
	if c.CLA&^apdu.ChainBit != 0 || c.CLA != 0 && (c.INS != apdu.InsGeneralAuthenticate || !isPIV) {
		return "class"
	}
	if c.INS == apdu.InsGetResponse {
		if g.app == nil || len(c.Data) > 0 || c.P1 != 0 || c.P2 != 0 {
			return "GET RESPONSE"
		}
		return ""
	}
	whole, r, complete := g.chain.Command(c)
	if !complete {
		if r.Status != apdu.OK || len(c.Data) == 0 {
			return "chain"
		}
		return "" // the last piece decides
	}
	switch whole.INS {
	case apdu.InsSelect:
		i := slices.IndexFunc([][]byte{piv.AID, apdu.SimpleAID}, func(aid []byte) bool { return bytes.Equal(aid, whole.Data) })
		if i < 0 || whole.P1 != 4 || whole.P2 != 0 {
			return "SELECT of another application"
		}
		g.app = bytes.Clone(whole.Data)
		return ""
	case apdu.InsGetDataObject:
		for _, object := range []uint32{piv.CHUID, piv.Cert9A, piv.Cert9E} {
			if want := piv.Get(object); isPIV && same(want, whole) {
				return ""
			}
		}
		return "GET DATA of another object"
	case apdu.InsInternalAuthenticate:
		digest, _ := st.Digest(0)
		if !isSimple || !same(apdu.SimpleChallenge(digest), whole) {
			return "INTERNAL AUTHENTICATE of something else"
		}
		return ""
	case apdu.InsGeneralAuthenticate:
		block, err := st.Block(whole.P1)
		needsPIN := whole.P2 != piv.CardAuthentication
		switch {
		case !isPIV || err != nil || needsPIN && whole.P2 != piv.Authentication || !same(piv.Authenticate(whole.P1, whole.P2, block), whole):
			return "GENERAL AUTHENTICATE of something else"
		case needsPIN && !g.verified:
			return "the key 9A without a PIN of its own"
		case needsPIN:
			g.verified = false // one signature for one PIN
		}
		return ""
	}
	return fmt.Sprintf("instruction %02x", whole.INS)
}

// same compares what the card is to do, not how much it may say.
func same(a, b apdu.Command) bool {
	return a.CLA == b.CLA && a.INS == b.INS && a.P1 == b.P1 && a.P2 == b.P2 && bytes.Equal(a.Data, b.Data)
}

// cardRules takes in the rules by which cards are named from now on. Cards that
// are in are named again; what they show stays, if that is its name still.
func (m *Machine) cardRules(c alp.CardRules) {
	if _, err := names.ParseRules(c.List); err != nil || c.Version == m.rules || c.Version == builtIn {
		return // a newer server's rules: those of before go on
	}
	m.rules = c.Version
	m.do(SetRules{c.Version, c.List})
	for _, in := range m.cards {
		m.do(NameCard{in.n})
	}
}

// renamed takes in what a card is called by newer rules.
func (m *Machine) renamed(i int, c card) {
	old := m.cards[i]
	m.cards[i] = c
	if i != 0 || !m.powered {
		return
	}
	if c.reason == "" && old.reason == "" && c.kind == old.kind && c.id == old.id {
		if m.presented && m.verdict == verdictNone {
			m.present() // the server waits for this
		}
		return
	}
	m.settle()
}

// ruled is the version that a card was named by, for the server.
func (m *Machine) ruled() string { return cmp.Or(m.rules, builtIn) }

// Events of proofs and names.
type (
	// ControlBound tells that connection's own name within TLS
	// (identity.ChannelLabel), once it is up.
	ControlBound struct {
		Control int
		Channel [names.ChannelSize]byte
	}
	// CardAnswered answers Exchange: the card's response, or why there is none.
	CardAnswered struct {
		Card   int
		Tag    string
		Answer []byte
		Reason string
	}
	// PINGiven answers AskPIN: the status of the card's VERIFY, or why there is
	// none.
	PINGiven struct {
		Card   int
		Tag    string
		Status uint16
		Reason string
	}
	// PINTries answers AskTries: the status of a VERIFY without a PIN.
	PINTries struct {
		Card   int
		Tag    string
		Status uint16
	}
)

func (ControlBound) event() {}
func (CardAnswered) event() {}
func (PINGiven) event()     {}
func (PINTries) event()     {}

// String leaves out what a card says.
func (e CardAnswered) String() string {
	return fmt.Sprintf("card %d answers %s: %d bytes %s", e.Card, e.Tag, len(e.Answer), e.Reason)
}

// String leaves out the name.
func (e ControlBound) String() string { return fmt.Sprintf("connection %d is bound", e.Control) }

// Actions of proofs and names.
type (
	// Exchange sends a card a command APDU. Answered by CardAnswered.
	Exchange struct {
		Card    int
		Tag     string
		Command []byte
	}
	// AskPIN takes what is typed from now on as the PIN, until EndProof or a
	// Blank with another code, and has the card verify it. Answered by PINGiven.
	AskPIN struct {
		Card int
		Tag  string
	}
	// AskTries asks the card how many tries its PIN has left. Answered by
	// PINTries, or not at all.
	AskTries struct {
		Card int
		Tag  string
	}
	// EndProof ends AskPIN, and has the card forget that its PIN was verified.
	EndProof struct{ Card int }
	// SetRules sets the list (package identity) by which cards are named.
	SetRules struct{ Version, List string }
	// NameCard names a card that is in once more. Answered by CardRead or
	// CardUnreadable.
	NameCard struct{ Card int }
)

func (Exchange) action() {}
func (AskPIN) action()   {}
func (AskTries) action() {}
func (EndProof) action() {}
func (SetRules) action() {}
func (NameCard) action() {}

func (a Exchange) String() string {
	return fmt.Sprintf("ask card %d %s: %x, %d bytes", a.Card, a.Tag, a.Command[:min(4, len(a.Command))], len(a.Command))
}
func (a AskPIN) String() string   { return fmt.Sprintf("ask for the PIN of card %d %s", a.Card, a.Tag) }
func (a AskTries) String() string { return fmt.Sprintf("ask card %d for its tries %s", a.Card, a.Tag) }
func (a EndProof) String() string { return fmt.Sprintf("end the proof of card %d", a.Card) }
func (a SetRules) String() string { return fmt.Sprintf("name cards by %s: %s", a.Version, a.List) }
func (a NameCard) String() string { return fmt.Sprintf("name card %d again", a.Card) }
