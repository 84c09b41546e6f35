package control

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"time"
	"unicode/utf8"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/protocol/native"
	"hotdesk/server/greeter"
	"hotdesk/server/parent"
	"hotdesk/server/policy"
	"hotdesk/server/session/client"
	"hotdesk/server/sessions"
)

// A terminal is one that has a connection, shows something of ours, or did
// lately. All of it is the owner's.
type terminal struct {
	id   alp.TerminalID
	conn *conn     // nil while control is away
	left time.Time // when conn went

	now  *presentation // what it shows or waits for; nil without a token
	busy bool          // something is being done for it beside the owner

	shown   attachment // what it was last offered
	came    uint64     // the screen that it shows now, if it does
	redirs  []time.Time
	waiting bool // a prune is due
}

// An attachment is something that a terminal was offered: a session's, or a
// screen's, where session is empty. gen 0 is none.
type attachment struct {
	session alp.SessionID
	gen     uint64
}

// A presentation is one token, inserted at one terminal.
type presentation struct {
	t      *terminal
	req    alp.InfoReq
	token  alp.Token
	module string
	ctx    context.Context // ends with the presentation
	cancel context.CancelFunc

	begun   bool
	must    alp.SessionID // a redirect named it: no other is made in its place
	lookups int
}

// current reports whether p is still what its terminal wants.
func (p *presentation) current() bool { return p.t.now == p }

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
		s.gate.note(func(n int) {
			s.log.Warn("bad line", "terminal", c.terminal(), "peer", c.peer(), "reason", err.Error(), "unlogged", n)
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
func (s *Server) hangUp(c *conn, reason string) {
	if c.closed {
		return
	}
	s.gate.note(func(n int) {
		s.log.Warn("control connection closed", "terminal", c.terminal(), "peer", c.peer(), "reason", reason, "unlogged", n)
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
			return err
		}
		s.infoReq(c.t, r)
	case alp.CmdKeepAliveReq, alp.CmdConnRsp, alp.CmdDiscReq, alp.CmdDiscRsp:
		st, err := alp.ParseState(m)
		if err != nil {
			return err
		}
		if err := s.bind(c, st.Terminal); err != nil || c.t == nil {
			return err
		}
		switch m.Command {
		case alp.CmdKeepAliveReq:
			s.send(c, alp.KeepAliveCnf())
		case alp.CmdDiscReq:
			if st.Cause == "redirect" {
				s.clear(c.t)
			}
			s.hangUp(c, "the terminal leaves: "+st.Cause)
		}
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
	t := s.terminals[id]
	if t == nil {
		if len(s.terminals) >= MaxTerminals {
			s.hangUp(c, "as many terminals as there may be")
			return nil
		}
		t = &terminal{id: id}
		s.terminals[id] = t
	}
	if old := t.conn; old != nil {
		t.conn = nil
		s.hangUp(old, "the terminal has connected anew")
	}
	c.t, t.conn = t, c
	s.log.Info("terminal connected", "terminal", id, "peer", c.peer())
	return nil
}

// infoReq is a token that came or went.
func (s *Server) infoReq(t *terminal, r alp.InfoReq) {
	token := r.Token()
	if r.Remove {
		s.log.Info("token removed", "terminal", t.id, "token", token)
		s.clear(t)
		return
	}
	decision := s.conf.Policy.Decide(policy.Request{Token: token, Terminal: t.id})
	p := &presentation{t: t, req: r, token: token, module: decision.Module}
	p.ctx, p.cancel = context.WithCancel(s.ctx)
	s.log.Info("token inserted", "terminal", t.id, "token", token, "seq", r.TokenSeq, "redirect", r.Redirect, "decision", decision.Outcome.String())
	if decision.Outcome == policy.Session && s.goesOn(t, r) {
		s.drop(t)
		t.now, t.shown, p.begun = p, attachment{r.Session, r.Gen}, true
		s.send(t.conn, alp.ConnInf{TokenSeq: r.TokenSeq, Allowed: true, Token: token, Module: p.module, Gen: r.Gen, Session: r.Session}.Message())
		s.log.Info("attachment goes on", "terminal", t.id, "token", token, "session", r.Session, "gen", r.Gen)
		return
	}
	s.clear(t)
	t.now = p
	switch decision.Outcome {
	case policy.Session:
		s.kick(t)
	case policy.InsertCard:
		s.screen(p, greeter.Screen{Kind: greeter.InsertCard})
	default:
		s.log.Warn("token denied", "terminal", t.id, "token", token, "module", decision.Module, "reason", decision.Reason)
		s.screen(p, greeter.Screen{Kind: greeter.Denied, Text: decision.Reason})
	}
}

// goesOn reports whether the terminal still has the very attachment that it
// says it has: only its control connection was away.
func (s *Server) goesOn(t *terminal, r alp.InfoReq) bool {
	row, ok := s.table.Get(r.Session)
	return ok && r.Connected && row.State == sessions.Connected && row.Terminal == t.id && row.Gen == r.Gen && row.Token == r.Token()
}

// drop ends the presentation under way.
func (s *Server) drop(t *terminal) {
	if t.now == nil {
		return
	}
	t.now.cancel()
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

// beside does work that takes time for p's terminal, then runs what the work
// returns as an event, if p is still wanted; stale, if not nil, is run if not.
func (s *Server) beside(p *presentation, work func() (then, stale func())) {
	p.t.busy = true
	s.wg.Go(func() {
		then, stale := work()
		s.post(func() {
			p.t.busy = false
			if p.current() {
				then()
			} else if stale != nil {
				stale()
			}
			s.kick(p.t)
		})
	})
}

// kick begins what the terminal wants, unless something is still being done
// for what it wanted before.
func (s *Server) kick(t *terminal) {
	p := t.now
	if p == nil || p.begun || t.busy {
		return
	}
	p.begun = true
	if p.req.Redirect {
		s.verify(p)
		return
	}
	s.lookup(p)
}

// verify takes a redirect's word for it, when its proof holds: nothing is
// selected a second time. Without proof it is a token like any other.
func (s *Server) verify(p *presentation) {
	s.beside(p, func() (then, stale func()) {
		ctx, cancel := context.WithTimeout(p.ctx, GroupWithin)
		defer cancel()
		v, err := s.conf.Group.Verify(ctx, local.Verify{Props: p.req.Props, Token: p.token, Terminal: p.t.id})
		return func() {
			switch {
			case err != nil:
				s.log.Warn("redirect could not be checked", "terminal", p.t.id, "token", p.token, "err", err)
				s.noGroup(p)
			case !v.OK:
				s.log.Warn("redirect without proof", "terminal", p.t.id, "token", p.token, "reason", v.Reason)
				s.lookup(p)
			case v.Session == "":
				s.here(p)
			default:
				p.must = v.Session
				if row, ok := s.table.Get(v.Session); ok && row.Token == p.token {
					s.attach(p, v.Session)
				} else {
					s.lookup(p)
				}
			}
		}, nil
	})
}

// lookup asks the group where the token's session is.
func (s *Server) lookup(p *presentation) {
	p.lookups++
	if s.conf.Group.Away() != "" && p.lookups <= MaxLookups {
		if row, ok := s.table.Latest(p.token); ok {
			s.attach(p, row.ID)
			return
		}
	}
	if p.lookups > MaxLookups {
		s.deny(p, osdDisconnected, "Your session cannot be found now. Wait a moment, then insert the card again.")
		return
	}
	s.beside(p, func() (then, stale func()) {
		ctx, cancel := context.WithTimeout(p.ctx, GroupWithin)
		defer cancel()
		a, err := s.conf.Group.Lookup(ctx, local.Lookup{Token: p.token, Terminal: p.t.id, Addr: p.addr()})
		return func() {
			if err != nil {
				s.log.Warn("group manager has no answer", "terminal", p.t.id, "token", p.token, "err", err)
				s.noGroup(p)
				return
			}
			s.answer(p, a)
		}, nil
	})
}

func (p *presentation) addr() (a netip.Addr) {
	if p.t.conn != nil {
		a = p.t.conn.addr
	}
	return a
}

// noGroup is what is left without the group manager: a session of the token
// that is here.
func (s *Server) noGroup(p *presentation) {
	if row, ok := s.table.Latest(p.token); ok {
		s.attach(p, row.ID)
		return
	}
	reason := s.conf.Group.Away()
	if reason == "" {
		reason = "The group manager of this server does not answer. Wait a moment, then try again."
	}
	s.deny(p, osdWaiting, reason)
}

// answer does what the group manager said.
func (s *Server) answer(p *presentation, a local.Answer) {
	switch a.Where {
	case local.Here:
		if row, ok := s.table.Get(a.Session); ok && row.Token == p.token {
			s.attach(p, row.ID)
			return
		}
		s.lookup(p) // it has ended since
	case local.There:
		s.redirect(p, a)
	case local.New:
		if p.must != "" {
			s.log.Info("redirected to a session that is gone", "terminal", p.t.id, "token", p.token, "session", p.must)
			s.deny(p, osdNoSession, "Your session has ended. Take the card out and insert it again for a new one.")
			return
		}
		s.here(p)
	case local.Unreachable:
		s.screen(p, greeter.Screen{Kind: greeter.Denied, Text: fmt.Sprintf("Your session is on the host %s, which this terminal cannot reach. Go to a terminal near that host.", a.Host)})
	case local.Refused:
		s.screen(p, greeter.Screen{Kind: greeter.Denied, Text: a.Reason})
	default:
		s.log.Error("group manager gave an answer of no known kind", "terminal", p.t.id, "token", p.token, "where", string(a.Where))
		s.noGroup(p)
	}
}

// here attaches the token's session on this host, or makes one.
func (s *Server) here(p *presentation) {
	if row, ok := s.table.Latest(p.token); ok {
		s.attach(p, row.ID)
		return
	}
	s.start(p)
}

// redirect sends the terminal to another host.
func (s *Server) redirect(p *presentation, a local.Answer) {
	t, now := p.t, time.Now()
	t.redirs = slices.DeleteFunc(t.redirs, func(at time.Time) bool { return now.Sub(at) >= RedirectWindow })
	m := alp.RedirectInf{TokenSeq: p.req.TokenSeq, Addr: a.Target.Addr().Unmap(), Port: int(a.Target.Port()), Props: a.Props}
	switch {
	case !m.Addr.Is4() || m.Port == 0 || len(m.Props) > alp.MaxValue:
		s.log.Error("group manager named no host to redirect to", "terminal", t.id, "token", p.token, "target", a.Target)
		s.deny(p, osdDisconnected, "Your session is on a host that cannot be reached.")
	case len(t.redirs) >= MaxRedirects:
		s.log.Warn("terminal is sent from host to host", "terminal", t.id, "token", p.token, "target", a.Target)
		s.deny(p, osdDisconnected, "The servers do not agree where your session is. Wait a moment, then insert the card again.")
	default:
		t.redirs = append(t.redirs, now)
		s.log.Info("redirected", "terminal", t.id, "token", p.token, "host", a.Host, "target", a.Target, "session", a.Session)
		s.send(t.conn, m.Message())
	}
}

// deny tells the terminal to show the reason itself: the gateway has nothing
// for it.
func (s *Server) deny(p *presentation, osd int, cause string) {
	s.log.Warn("nothing to show", "terminal", p.t.id, "token", p.token, "osd", osd, "reason", cause)
	s.send(p.t.conn, alp.ConnInf{TokenSeq: p.req.TokenSeq, Token: p.token, Module: p.module, Cause: text(cause), OSD: osd}.Message())
}

// text cuts a text to what a line carries.
func text(s string) string {
	if len(s) <= alp.MaxText {
		return s
	}
	n := alp.MaxText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// screen shows one of the gateway's own.
func (s *Server) screen(p *presentation, what greeter.Screen) {
	t := p.t
	p.begun = true
	o, err := s.conf.Screens.Show(greeter.Request{
		Terminal: t.id, Addr: p.addr(), Width: p.req.Width, Height: p.req.Height, Screen: what,
		Came: func(gen uint64) { s.post(func() { t.came = gen }) },
		Gone: func(gen uint64) {
			s.post(func() {
				if t.came == gen {
					t.came = 0
				}
				s.prune(t)
			})
		},
	})
	if err != nil {
		s.log.Error("screen cannot be offered", "terminal", t.id, "token", p.token, "err", err)
		s.deny(p, osdNoSession, "The server has too much to do. Wait a moment, then try again.")
		return
	}
	s.offer(p, "", o)
}

// offer tells the terminal where to go.
func (s *Server) offer(p *presentation, id alp.SessionID, o client.Offer) {
	p.t.shown = attachment{id, o.Gen}
	c := alp.ConnInf{TokenSeq: p.req.TokenSeq, Allowed: true, Token: p.token, Module: p.module,
		MediaPort: o.Port, Ticket: o.Ticket, Gen: o.Gen, Session: id}
	copy(c.MediaCert[:], o.Cert)
	s.send(p.t.conn, c.Message())
	s.log.Info("offered", "terminal", p.t.id, "token", p.token, "session", id, "gen", o.Gen)
}

// start has a session made for p.
func (s *Server) start(p *presentation) {
	var b [8]byte
	rand.Read(b[:])
	id := alp.SessionID(hex.EncodeToString(b[:]))
	if err := s.table.Add(sessions.Session{ID: id, Token: p.token, User: s.conf.User, State: sessions.Starting, Last: time.Now()}); err != nil {
		s.log.Warn("no further session", "terminal", p.t.id, "token", p.token, "err", err)
		s.screen(p, greeter.Screen{Kind: greeter.Denied, Text: "This server has as many sessions as it can take. Try again later."})
		return
	}
	s.report()
	s.log.Info("session starts", "terminal", p.t.id, "token", p.token, "session", id)
	k := &keeper{id: id, token: p.token, waiting: []*presentation{p}}
	s.keepers[id] = k
	w, h := s.size(p)
	spec := parent.Start{Session: id, Token: p.token, User: s.conf.User, Width: w, Height: h, Layout: p.req.Layout}
	s.wg.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, StartWithin)
		defer cancel()
		conn, err := s.conf.Parent.Start(ctx, spec)
		if !s.post(func() { s.started(k, conn, err) }) && conn != nil {
			conn.Close()
		}
	})
}

// size is what a session at p's terminal has.
func (s *Server) size(p *presentation) (w, h int) {
	return min(p.req.Width, s.conf.Most.X), min(p.req.Height, s.conf.Most.Y)
}
