package control

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/native"
	"hotdesk/server/greeter"
	"hotdesk/server/policy"
	"hotdesk/server/sessions"
)

// A terminal is one that has a connection, shows something of ours, or did
// lately. All of it is the owner's.
type terminal struct {
	id   alp.TerminalID
	conn *conn      // nil while control is away
	left time.Time  // when conn went
	addr netip.Addr // of the last conn: what was begun for it goes on without

	now  *presentation // what it shows or waits for; nil without a token
	busy bool          // something is being done for it beside the owner

	shown   attachment // what it was last offered
	came    uint64     // the screen that it shows now, if it does
	redirs  []time.Time
	made    string // the redirect's proof that another session was made for: it is good for one
	waiting bool   // a prune is due
	notes   notes
}

// An attachment is something that a terminal was offered: a session's, or a
// screen's, where session is empty. gen 0 is none.
type attachment struct {
	session alp.SessionID
	gen     uint64
}

// line is one line of a connection, or what was wrong with it. It returns the
// terminal that the connection belongs to, "" while it has none.
func (s *Server) line(c *conn, m alp.Message, err error) alp.TerminalID {
	if c.closed {
		return ""
	}
	if err == nil {
		err = s.message(c, m)
	}
	if err != nil {
		s.badLine(c, err)
	}
	if c.closed || c.t == nil {
		return ""
	}
	return c.t.id
}

func (s *Server) badLine(c *conn, err error) {
	c.bad++
	s.send(c, alp.ProtocolErrorInf(err.Error()))
	if c.bad < MaxBadLines && err != errTooLong {
		s.gate.notes.note(func(more ...any) {
			s.log.Warn("bad line", append([]any{"terminal", c.terminal(), "peer", c.peer(), "reason", err.Error()}, more...)...)
		})
		return
	}
	s.hangUp(c, err.Error())
}

func (c *conn) peer() string { return c.nc.RemoteAddr().String() }

func (c *conn) terminal() alp.TerminalID {
	if c.t == nil {
		return ""
	}
	return c.t.id
}

// send queues a line. A terminal that does not take its lines loses the
// connection.
func (s *Server) send(c *conn, m alp.Message) {
	if c == nil || c.closed {
		return
	}
	b := m.Append(nil)
	if len(b) > alp.MaxLine {
		s.log.Error("line too long to be sent", "terminal", c.terminal(), "command", m.Command)
		return
	}
	select {
	case c.out <- b:
	default:
		s.hangUp(c, "the terminal does not read")
	}
}

// hangUp ends a connection once what is queued is sent.
func (s *Server) hangUp(c *conn, reason string) { s.part(c, slog.LevelWarn, reason) }

// part ends a connection, for a reason of that weight.
func (s *Server) part(c *conn, weight slog.Level, reason string) {
	if c.closed {
		return
	}
	s.gate.notes.note(func(more ...any) {
		s.log.Log(s.ctx, weight, "control connection closed", append([]any{"terminal", c.terminal(), "peer", c.peer(), "reason", reason}, more...)...)
	})
	c.closed = true
	close(c.out)
	s.unbind(c)
}

func (s *Server) connLost(c *conn) {
	if !c.closed {
		c.closed = true
		close(c.out)
	}
	s.unbind(c)
	delete(s.conns, c)
}

// unbind takes a connection from its terminal. What that shows stays: the
// media end decides.
func (s *Server) unbind(c *conn) {
	t := c.t
	if t == nil || t.conn != c {
		return
	}
	t.conn, t.left = nil, time.Now()
	s.pruneLater(t)
}

// pruneLater has a terminal forgotten once it has neither connection nor
// picture. Until then its redirects count and its tickets may be redeemed.
func (s *Server) pruneLater(t *terminal) {
	if t.waiting {
		return
	}
	t.waiting = true
	time.AfterFunc(max(native.TicketLife, RedirectWindow)+time.Second, func() {
		s.post(func() { t.waiting = false; s.prune(t) })
	})
}

func (s *Server) prune(t *terminal) {
	if t.conn != nil || s.terminals[t.id] != t {
		return
	}
	if time.Since(t.left) < max(native.TicketLife, RedirectWindow) {
		s.pruneLater(t)
		return
	}
	_, session := s.table.At(t.id)
	if session || t.came != 0 {
		return // asked again when that ends
	}
	s.clear(t)
	delete(s.terminals, t.id)
}

// message does what a line asks. An error is the peer's.
func (s *Server) message(c *conn, m alp.Message) error {
	switch m.Command {
	case alp.CmdInfoReq:
		r, err := alp.ParseInfoReq(m)
		if err != nil {
			return err
		}
		if err := s.bind(c, r.Terminal); err != nil || c.t == nil {
			if c.refused != nil {
				s.send(c, alp.ConnInf{TokenSeq: r.TokenSeq, Token: r.Token(), Cause: keyTexts[c.refused], OSD: osdRefused}.Message())
				return nil
			}
			return err
		}
		s.infoReq(c.t, r)
	case alp.CmdKeepAliveReq, alp.CmdConnRsp, alp.CmdDiscReq, alp.CmdDiscRsp:
		st, err := alp.ParseState(m)
		if err != nil {
			return err
		}
		if err := s.bind(c, st.Terminal); err != nil || c.t == nil {
			switch {
			case c.refused == nil:
				return err
			case m.Command == alp.CmdKeepAliveReq:
				s.send(c, alp.KeepAliveCnf())
			case m.Command == alp.CmdDiscReq:
				s.part(c, slog.LevelInfo, "the terminal leaves: "+st.Cause)
			}
			return nil
		}
		switch m.Command {
		case alp.CmdKeepAliveReq:
			s.send(c, alp.KeepAliveCnf())
		case alp.CmdDiscReq:
			weight := slog.LevelWarn
			if st.Cause == "redirect" { // we have sent it
				s.clear(c.t)
				weight = slog.LevelInfo
			}
			s.part(c, weight, "the terminal leaves: "+st.Cause)
		}
	case alp.CmdDeskReq:
		r, err := alp.ParseDeskReq(m)
		if err != nil || c.t == nil || c.t.conn != c {
			return err
		}
		s.deskReq(c.t, r)
	case alp.CmdInfoSmartCard:
		i, err := alp.ParseInfoSmartCard(m)
		if err != nil || c.t == nil {
			return err
		}
		s.infoSmartCard(c, i)
	default: // other commands are ignored (alp.md section 2)
		s.log.Debug("unknown command", "peer", c.peer(), "command", m.Command)
	}
	return nil
}

// bind gives the connection its terminal. An older connection of it ends.
func (s *Server) bind(c *conn, id alp.TerminalID) error {
	if c.t != nil {
		if c.t.id != id {
			return fmt.Errorf("control: this connection is %s's, not %s's", c.t.id, id)
		}
		return nil
	}
	if err := s.mayBe(id, c.key, time.Now()); err != nil {
		s.wrongKey(c, id, err)
		c.refused = err // and the person there reads why, until GreetWithin is over
		return err
	}
	c.refused = nil
	t := s.terminals[id]
	if t == nil {
		if len(s.terminals) >= MaxTerminals && !s.forgetOldest() {
			s.hangUp(c, "as many terminals as there may be")
			return nil
		}
		t = &terminal{id: id, notes: notes{burst: terminalNotes, rate: terminalNotesRate}}
		s.terminals[id] = t
	}
	if old := t.conn; old != nil {
		t.conn = nil
		s.hangUp(old, "the terminal has connected anew")
	}
	c.t, t.conn, t.addr = t, c, c.addr
	s.tellRules(c)
	s.say(t, slog.LevelInfo, "terminal connected", "peer", c.peer(), "key", c.key.String())
	return nil
}

// forgetOldest makes room for a terminal: of those that have neither connection
// nor picture the one goes that left first. Whoever makes up terminals by the
// thousand keeps none from coming.
func (s *Server) forgetOldest() bool {
	var oldest *terminal
	for _, t := range s.terminals {
		if t.conn == nil && t.came == 0 && t.shown.session == "" && (oldest == nil || t.left.Before(oldest.left)) {
			oldest = t
		}
	}
	if oldest == nil {
		return false
	}
	s.clear(oldest)
	delete(s.terminals, oldest.id)
	return true
}

// infoReq is a token that came or went.
func (s *Server) infoReq(t *terminal, r alp.InfoReq) {
	token := r.Token() // as it was presented
	if r.Remove {
		s.say(t, slog.LevelInfo, "token removed", "token", token)
		t.conn.proven = proven{}
		s.pulled(t)
		s.clear(t)
		return
	}
	if s.misnamed(t, r) {
		return
	}
	decision := s.decide(token, t.id, "")
	token = decision.Token
	p := &presentation{t: t, req: r, token: token, module: decision.Module}
	p.ctx, p.cancel = context.WithCancel(s.ctx)
	s.say(t, slog.LevelInfo, "token inserted", "token", token, "seq", r.TokenSeq, "redirect", r.Redirect, "decision", decision.Outcome.String())
	p.needsLogin, p.away = decision.Outcome == policy.Login, sentAway(decision)
	if (decision.Outcome == policy.Session || p.needsLogin) && s.goesOn(t, r, token, p.needsLogin) {
		row, _ := s.table.Get(r.Session)
		if p.needsLogin || decision.Reattach.Login || row.Token == userToken(row.User) { // then its user has logged in
			p.user = cmp.Or(decision.Owner, row.User)
		}
		p.token, p.needsLogin, token = row.Token, false, row.Token
		s.drop(t)
		t.now, t.shown, p.begun = p, attachment{r.Session, r.Gen}, true
		s.send(t.conn, alp.ConnInf{TokenSeq: r.TokenSeq, Allowed: true, Token: token, Module: p.module, Gen: r.Gen, Session: r.Session}.Message())
		s.say(t, slog.LevelInfo, "attachment goes on", "token", token, "session", r.Session, "gen", r.Gen)
		return
	}
	s.clear(t)
	t.now = p
	switch decision.Outcome {
	case policy.Login, policy.Elsewhere:
		s.kick(t)
	case policy.Session:
		p.must = r.Session // it was shown there until its media was lost
		s.kick(t)
	case policy.InsertCard:
		s.rest(p, greeter.Screen{Kind: greeter.InsertCard})
	default:
		s.say(t, slog.LevelWarn, "token denied", "token", token, "module", decision.Module, "reason", decision.Reason)
		s.screen(p, greeter.Screen{Kind: greeter.Denied, Text: decision.Reason})
	}
}

// goesOn reports whether the terminal still has the very attachment that it
// says it has: only its control connection was away.
// The token of a bare terminal's session is its user's, where there was a login.
func (s *Server) goesOn(t *terminal, r alp.InfoReq, token alp.Token, login bool) bool {
	row, ok := s.table.Get(r.Session)
	return ok && r.Connected && row.State == sessions.Connected && row.Terminal == t.id && row.Gen == r.Gen &&
		(row.Token == token || login && token.Pseudo() && row.Token == userToken(row.User))
}

// drop ends the presentation under way.
func (s *Server) drop(t *terminal) {
	if t.now == nil {
		return
	}
	t.now.cancel()
	t.now.forgetTyped()
	for _, k := range s.keepers {
		k.waiting = slices.DeleteFunc(k.waiting, func(p *presentation) bool { return p == t.now })
	}
	t.now = nil
}

// clear ends the presentation under way and every attachment before it.
func (s *Server) clear(t *terminal) {
	s.drop(t)
	shown := t.shown
	t.shown = attachment{}
	switch {
	case shown.session != "":
		s.detach(shown.session, shown.gen)
	case shown.gen != 0:
		s.conf.Screens.Hide(t.id, shown.gen)
	}
	if row, ok := s.table.At(t.id); ok && (row.ID != shown.session || row.Gen != shown.gen) {
		s.detach(row.ID, row.Gen)
	}
}
