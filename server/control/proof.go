package control

import (
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/server/audit"
	"hotdesk/server/proof"
	"hotdesk/smartcard/identity"
)

// Proofs is what cards must prove. Kind returns at once; Prepare and Register
// read and write files.
type Proofs interface {
	Kind(alp.Token, proof.Use) proof.Kind
	Prepare(alp.Token, proof.Use) proof.Config
	Register(alp.Token, string) error
}

// On-screen codes of proofs that fail (alp.md section 10).
const (
	osdRefused = 6
	osdPIN     = 7
)

// A proven is what the card at a control connection has shown. It ends with
// the connection, and with the card's removal: until then the terminal may lose
// and find its picture without the card being asked again.
type proven struct {
	token alp.Token
	kinds []proof.Kind // in the order in which they were given
}

// A proving is a proof under way, of the presentation that it belongs to.
type proving struct {
	m    *proof.Machine
	then func()
	wake *time.Timer
}

// add notes a proof.
func (v *proven) add(t alp.Token, kind proof.Kind) {
	if v.token != t {
		*v = proven{token: t}
	}
	v.kinds = append(v.kinds, kind)
}

// of is what that token's card has shown.
func (v *proven) of(t alp.Token) []proof.Kind {
	if v.token != t {
		return nil
	}
	return v.kinds
}

// lastProof is the kind that a redirect vouches for, "" for none: of what p's
// card has proven the last, which is what was asked before it is sent.
func (p *presentation) lastProof() proof.Kind {
	if c := p.t.conn; c != nil {
		if kinds := c.proven.of(p.req.Token()); len(kinds) > 0 {
			return kinds[len(kinds)-1]
		}
	}
	return p.vouched
}

// mayGoOn reports whether p needs no proof and no login for that use of a
// session, "" for one of another host or a new one. Otherwise it has the user
// or the card asked, and then, once they have proven themselves, is run.
func (s *Server) mayGoOn(p *presentation, use proof.Use, id alp.SessionID, then func()) bool {
	if s.owesLogin(p, use, id) {
		s.askLogin(p, id, then)
		return false
	}
	return s.hasProven(p, use, then)
}

// hasProven is mayGoOn as far as the card goes.
func (s *Server) hasProven(p *presentation, use proof.Use, then func()) bool {
	kind := s.need(p, use)
	c := p.t.conn
	switch {
	case p.vouched.Covers(kind): // by the rules of this host, whatever the other one's are
		return true
	case c == nil: // whoever comes back presents the card again
		return false
	case slices.ContainsFunc(c.proven.of(p.req.Token()), func(given proof.Kind) bool { return given.Covers(kind) }):
		return true
	}
	if p.proof != nil {
		p.proof.then = then // once, whatever is asked meanwhile
		return false
	}
	p.proof = &proving{then: then}
	s.beside(p, func() (func(), func()) {
		cfg := proof.Config{Use: use, Token: p.req.Token()}
		if s.conf.Proofs != nil {
			cfg = s.conf.Proofs.Prepare(p.req.Token(), use)
		}
		cfg.Kind = kind // a rule of the registry may want another than the files
		rand.Read(cfg.Nonce[:])
		return func() {
			if c != p.t.conn {
				p.proof = nil
				return
			}
			cfg.TokenSeq, cfg.Terminal, cfg.Channel = p.req.TokenSeq, p.t.id, c.channel
			p.proof.m = proof.New(cfg)
			s.say(p.t, slog.LevelInfo, "card is asked for a proof", "token", p.req.Token(), "proof", string(cfg.Kind), "use", string(use))
			s.proofStep(p, c, kind, p.proof.m.Begin(time.Now()))
		}, nil
	})
	return false
}

// afresh looks again where the session is: the person may have taken minutes for
// the PIN, and the proof of a redirect is good for seconds.
func (s *Server) afresh(p *presentation) {
	p.lookups = 0
	s.lookup(p)
}

// proofStep does what a proof wants.
func (s *Server) proofStep(p *presentation, c *conn, kind proof.Kind, step proof.Step) {
	pr := p.proof
	if pr.wake != nil {
		pr.wake.Stop()
	}
	if step.Ask != nil {
		s.send(c, step.Ask.Message())
	}
	if step.End != nil {
		p.proof = nil
		s.proofEnd(p, c, kind, *step.End, pr.then)
		return
	}
	pr.wake = time.AfterFunc(time.Until(pr.m.Next()), func() {
		s.post(func() {
			if p.current() && p.proof == pr {
				s.proofStep(p, c, kind, pr.m.Tick(time.Now()))
			}
		})
	})
}

// infoSmartCard is an answer of a terminal's card.
func (s *Server) infoSmartCard(c *conn, i alp.InfoSmartCard) {
	p := c.t.now
	if p == nil || p.proof == nil || p.proof.m == nil || c.t.conn != c {
		return // the card is out
	}
	s.proofStep(p, c, p.proof.m.Kind(), p.proof.m.Answer(time.Now(), i))
}

func (s *Server) proofEnd(p *presentation, c *conn, kind proof.Kind, r proof.Result, then func()) {
	if r.Outcome == proof.Proven {
		s.say(p.t, slog.LevelInfo, "card has proven itself", "token", p.req.Token(), "proof", string(kind), "wrong", r.Wrong)
		if r.Key == "" {
			c.proven.add(p.req.Token(), kind)
			then()
			return
		}
		s.beside(p, func() (func(), func()) {
			err := s.conf.Proofs.Register(p.req.Token(), r.Key)
			return func() {
				if err != nil {
					s.log.Error("key of a card cannot be kept", "token", p.req.Token(), "err", err)
					s.deny(p, osdRefused, "The card cannot be registered now. Tell the administrator.")
					return
				}
				c.proven.add(p.req.Token(), kind)
				then()
			}, nil
		})
		return
	}
	s.say(p.t, slog.LevelWarn, "card has not proven itself", "token", p.req.Token(), "proof", string(kind), "outcome", r.Outcome.String(), "wrong", r.Wrong, "reason", text(r.Detail))
	s.audit(audit.Entry{What: audit.Deny, Token: string(p.req.Token()), Terminal: string(p.t.id), Text: fmt.Sprintf("proof %s: %v: %s", kind, r.Outcome, text(r.Detail))})
	osd := osdRefused
	switch r.Outcome {
	case proof.Blocked, proof.NoPIN:
		osd = osdPIN
	case proof.CardError:
		osd = osdNoSession
	}
	s.deny(p, osd, r.Reason)
}

// channel is the connection's own name, which its other end knows too and
// nobody else.
func channel(sec *tls.Conn) (c [identity.ChannelSize]byte, err error) {
	st := sec.ConnectionState()
	b, err := st.ExportKeyingMaterial(identity.ChannelLabel, nil, identity.ChannelSize)
	copy(c[:], b)
	return c, err
}

// tellRules tells a terminal how to name cards.
func (s *Server) tellRules(c *conn) {
	if l := s.conf.Rules; l.Version != "" {
		if c.told.IsZero() {
			c.told = time.Now()
		}
		s.send(c, alp.CardRules{Version: l.Version, List: l.Text}.Message())
	}
}

// RenameWithin is how long a terminal may take, once it was told the rules, to
// present no card any longer that it has named by others.
const RenameWithin = 15 * time.Second

// misnamed reports whether a card was named by other rules than this group's.
// The terminal names it again, and presents it then: until it does, there is no
// answer. One that cannot, as it is older than the rules, says the same again; its
// user is told. Terminals that know nothing of rules say nothing of them.
func (s *Server) misnamed(t *terminal, r alp.InfoReq) bool {
	l := s.conf.Rules
	if l.Version == "" || r.Rules == "" || r.Rules == l.Version || r.Connected || r.Token().Pseudo() {
		return false
	}
	s.clear(t)
	if time.Since(t.conn.told) > RenameWithin {
		s.say(t, slog.LevelWarn, "terminal does not name cards by this group's rules", "token", r.Token(), "rules", r.Rules)
		s.send(t.conn, alp.ConnInf{TokenSeq: r.TokenSeq, Token: r.Token(), OSD: osdNoSession,
			Cause: "This terminal cannot read cards as this group of servers wants it. Tell your administrator that it needs a newer program."}.Message())
		return true
	}
	s.say(t, slog.LevelInfo, "card was named by other rules", "token", r.Token(), "rules", r.Rules)
	s.tellRules(t.conn)
	return true
}
