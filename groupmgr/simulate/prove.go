package simulate

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"

	"hotdesk/dtu/terminal"
	"hotdesk/protocol/alp"
	"hotdesk/server/proof"
	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/piv"
)

// Proofs, where World.proofs wants them: the gateways' machine asks, and the
// terminals' lets through, whatever the cards of the world do meanwhile.

const (
	cardTakes = 3 * time.Millisecond  // for an exchange
	pinTakes  = 60 * time.Millisecond // for a person
)

// proving is a proof under way.
type proving struct {
	m    *proof.Machine
	then func()
}

// insertions are what a terminal's cards have done, each by its number.
type insertions struct {
	proven   map[int]bool // has given a proof of itself
	prompt   int          // card whose PIN the screen asks for
	told     int          // proofs that gateways took
	asked    int          // exchanges with cards
	pins     int          // prompts
	outFirst int          // exchanges and prompts that the card's removal overtook
}

// needs is the proof that a token needs.
func (w *World) needs(t alp.Token) proof.Kind {
	if w.proofs == nil {
		return proof.None
	}
	return w.proofs(t)
}

// mayGoOn reports whether p needs no proof any more; otherwise it has the card
// asked, and then is run once that has proven itself.
func (g *gateway) mayGoOn(p *presentation, then func()) bool {
	w, c := g.h.w, p.t.conn
	kind := w.needs(p.token)
	switch {
	case kind == proof.None:
		return true
	case c == nil:
		return false
	case c.proven == p.token:
		return true
	case p.proof != nil:
		p.proof.then = then
		return false
	}
	secret := proof.Secret(secretOf(p.token))
	cfg := proof.Config{Kind: kind, Use: proof.Reattach, TokenSeq: p.req.TokenSeq, Token: p.token, Terminal: p.t.id, Channel: c.channel, Secret: &secret}
	w.nonces++
	binary.BigEndian.PutUint64(cfg.Nonce[:], w.nonces)
	p.proof = &proving{proof.New(cfg), then}
	g.proofStep(p, c, p.proof.m.Begin(g.h.clock()))
	return false
}

func (g *gateway) proofStep(p *presentation, c *conn, s proof.Step) {
	if s.Ask != nil {
		c.down(s.Ask.Message())
	}
	switch pr := p.proof; {
	case s.End == nil:
		g.h.w.after(pr.m.Next().Sub(g.h.clock()), func() {
			if g.alive() && p.t.now == p && p.proof == pr && !g.h.clock().Before(pr.m.Next()) {
				g.proofStep(p, c, pr.m.Tick(g.h.clock()))
			}
		})
	case s.End.Outcome == proof.Proven:
		p.proof = nil
		c.proven = p.token
		p.unit.did.told++
		pr.then()
	default:
		p.proof = nil
		g.deny(p, 6, s.End.Reason)
	}
}

// infoSmartCard is an answer of a terminal's card.
func (g *gateway) infoSmartCard(c *conn, m alp.Message) {
	i, err := alp.ParseInfoSmartCard(m)
	if err != nil {
		g.h.w.broken("%s: %v", c.unit.name, err)
		return
	}
	t := g.terms[c.unit.id]
	if t == nil || t.conn != c || t.now == nil || t.now.proof == nil {
		return // the card is out
	}
	g.proofStep(t.now, c, t.now.proof.m.Answer(g.h.clock(), i))
}

// secretOf is a simple card's.
func secretOf(t alp.Token) [proof.SecretSize]byte {
	d := sha256.Sum256([]byte(t))
	return [proof.SecretSize]byte(d[:])
}

// exchange has a card answer. The card may be out before it has, and the
// terminal's program hear of both in either order.
func (u *Unit) exchange(a terminal.Exchange) {
	u.did.asked++
	if a.Card != u.card {
		u.w.broken("%s: card %d is asked something, while card %d is in", u.name, a.Card, u.card)
		return
	}
	token := u.token
	u.w.after(cardTakes, func() {
		e := terminal.CardAnswered{Card: a.Card, Tag: a.Tag, Reason: "card removed"}
		late := u.card != a.Card
		if late {
			u.did.outFirst++
		}
		if !late || u.did.outFirst%2 == 0 {
			e.Answer, e.Reason = answerOf(token, a.Command), ""
		}
		if !late && len(a.Command) > 1 && a.Command[1] == apdu.InsInternalAuthenticate {
			u.did.proven[a.Card] = true
		}
		u.step(e)
	})
}

// answerOf is what the card of a token says.
func answerOf(t alp.Token, command []byte) []byte {
	c, err := apdu.ParseCommand(command)
	r := apdu.Response{Status: apdu.OK}
	switch {
	case err != nil:
		r.Status = apdu.WrongLength
	case c.INS == apdu.InsGetDataObject:
		var h piv.Holder
		_, id := split(t)
		_, _ = hex.Decode(h.GUID[:], []byte(id)) // its tokens are made so
		r.Data = piv.AppendHolder(nil, h)
	case c.INS == apdu.InsInternalAuthenticate:
		secret := secretOf(t)
		mac := hmac.New(sha256.New, secret[:])
		mac.Write([]byte(apdu.SimpleLabel))
		mac.Write(c.Data)
		r.Data = mac.Sum(nil)
	}
	return r.Append(nil)
}

// askPIN has somebody type a PIN, wrong ones too, if the prompt stays so long.
func (u *Unit) askPIN(a terminal.AskPIN) {
	u.did.pins++
	u.did.prompt = a.Card
	if a.Card != u.card {
		u.w.broken("%s: the PIN of card %d is asked for, while card %d is in", u.name, a.Card, u.card)
		return
	}
	status := uint16(apdu.OK)
	if u.did.pins%4 == 0 {
		status = 0x63c2
	}
	u.w.after(pinTakes, func() {
		e := terminal.PINGiven{Card: a.Card, Tag: a.Tag, Status: status}
		switch {
		case u.card != a.Card:
			u.did.outFirst++
			if u.did.outFirst%2 == 0 {
				e.Reason = "card removed"
			}
		case u.did.prompt == a.Card:
			u.did.prompt = 0
			if status == apdu.OK {
				u.did.proven[a.Card] = true
			}
		}
		u.step(e)
	})
}

// checkOut: with the card's removal its prompt is gone, in the same step.
func (u *Unit) checkOut(card int) {
	if st := u.m.Status(); u.did.prompt == card || st.OSD.Code == terminal.CodePIN {
		u.w.broken("%s: card %d is out, and its PIN is asked for still: %+v", u.name, card, st.OSD)
	}
	delete(u.did.proven, card)
}

// checkShown: a session is shown to nobody but the very card that has proven
// itself here, since it was put in. Media that the card's removal overtook
// shows nothing: the terminal has closed it.
func (w *World) checkShown(u *Unit, s *session) {
	if w.needs(s.token) != proof.None && !u.did.proven[u.card] {
		w.broken("%s shows %v to card %d (%s), which has proven nothing", u.name, s, u.card, u.token)
	}
}

// bind names a connection within its terminal and gateway.
func (c *conn) bind(w *World) {
	w.nonces++
	binary.BigEndian.PutUint64(c.channel[:], w.nonces)
	c.unit.step(terminal.ControlBound{Control: c.id, Channel: c.channel})
}
