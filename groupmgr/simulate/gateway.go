package simulate

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
	"hotdesk/protocol/native"
	"hotdesk/server/sessions"
)

// What the gateway does, as package control does.
const (
	groupWithin = 10 * time.Second
	maxLookups  = 3
)

// gateway decides as package control does, without its connections.
type gateway struct {
	h     *Host
	since time.Duration
	table *sessions.Table
	state group.State
	terms map[alp.TerminalID]*served
}

// served is a terminal as the gateway knows it.
type served struct {
	id    alp.TerminalID
	conn  *conn
	now   *presentation
	shown attachment
}

type attachment struct {
	session alp.SessionID
	gen     uint64
}

// presentation is one token, inserted at one terminal.
type presentation struct {
	t       *served
	unit    *Unit
	req     alp.InfoReq
	token   alp.Token
	must    alp.SessionID
	lookups int
	asking  string // why the user is asked, while the question is on the screen
	nobody  bool   // because nobody could say where the session is
	agains  int
	anyway  bool     // chosen: try again
	fresh   bool     // chosen: a session here
	resting bool     // nothing but a screen is wanted
	proof   *proving // under way
}

// session is one that runs on a host, with its keeper and media.
type session struct {
	id      alp.SessionID
	n       int // in the order of their making, for people
	token   alp.Token
	host    *Host
	ready   bool
	gen     uint64
	void    uint64
	media   *medium
	last    time.Time // of its last connection, by the host's clock
	lastAt  time.Duration
	waiting []*presentation
}

func (s *session) String() string { return fmt.Sprintf("session %d of %s", s.n, s.token) }

// ticket is what a media connection must bring.
type ticket struct {
	session  *session // nil: a screen of the gateway
	gen      uint64
	gwLife   int
	terminal alp.TerminalID
	until    time.Duration
}

func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func newGateway(h *Host) *gateway {
	g := &gateway{h: h, since: h.w.now, table: sessions.New(local.MaxSessions), terms: map[alp.TerminalID]*served{}}
	for _, id := range sorted(h.run) {
		s := h.run[id]
		s.waiting = nil
		_ = g.table.Add(sessions.Session{ID: id, Token: s.token, State: sessions.Disconnected, Last: s.last})
		if s.media != nil {
			g.table.Attached(id, s.media.unit.id, s.media.gen, s.last)
		}
	}
	return g
}

// alive reports whether g still is the gateway of its host.
func (g *gateway) alive() bool { return g.h.gw == g }

// line is a message of a terminal.
func (g *gateway) line(c *conn, m alp.Message) {
	switch m.Command {
	case alp.CmdInfoReq:
		r, err := alp.ParseInfoReq(m)
		if err != nil {
			g.h.w.broken("%s: %v", c.unit.name, err)
			return
		}
		g.infoReq(g.bind(c), r)
	case alp.CmdInfoSmartCard:
		g.infoSmartCard(c, m)
	case alp.CmdKeepAliveReq:
		g.bind(c)
		c.down(alp.KeepAliveCnf())
	case alp.CmdDiscReq:
		t := g.bind(c)
		if m.Get("cause") == "redirect" {
			g.clear(t)
		}
		c.hangUp()
		t.conn = nil
	}
}

func (g *gateway) bind(c *conn) *served {
	t := g.terms[c.unit.id]
	if t == nil {
		t = &served{id: c.unit.id}
		g.terms[c.unit.id] = t
	}
	if t.conn != c {
		if t.conn != nil {
			t.conn.hangUp()
		}
		t.conn = c
	}
	return t
}

func (g *gateway) infoReq(t *served, r alp.InfoReq) {
	token := r.Token()
	if r.Remove {
		t.conn.proven = ""
		g.clear(t)
		return
	}
	p := &presentation{t: t, unit: t.conn.unit, req: r, token: token}
	card := r.Type != "pseudo"
	if row, ok := g.table.Get(r.Session); card && ok && r.Connected && row.State == sessions.Connected && row.Terminal == t.id && row.Gen == r.Gen && row.Token == token {
		t.now, t.shown = p, attachment{r.Session, r.Gen}
		t.conn.down(alp.ConnInf{TokenSeq: r.TokenSeq, Allowed: true, Token: token, Module: "card", Gen: r.Gen, Session: r.Session}.Message())
		return
	}
	g.clear(t)
	t.now = p
	switch {
	case !card:
		g.rest(p)
	case r.Redirect:
		g.verify(p)
	default:
		p.must = r.Session
		g.lookup(p)
	}
}

// verify asks the group manager about a redirect's proof.
func (g *gateway) verify(p *presentation) {
	if !g.h.linked {
		g.h.w.after(50*time.Millisecond, func() {
			if g.alive() && p.t.now == p {
				if p.lookups++; p.lookups > int(groupWithin/(50*time.Millisecond)) {
					g.noGroup(p)
					return
				}
				g.verify(p)
			}
		})
		return
	}
	p.lookups = 0
	v := g.h.eng.Verify(g.h.clock(), local.Verify{Props: p.req.Props, Token: p.token, Terminal: p.t.id})
	g.h.arm()
	switch {
	case !v.OK:
		g.h.w.say("%s: redirect of %s not believed: %s", g.h.name, p.token, v.Reason)
		g.lookup(p)
	case v.Session == "":
		asker := g.h
		if r, err := group.ParseRedirect(p.req.Props, g.h.ring); err == nil {
			asker = g.h.w.named[r.Host].(*Host)
		}
		g.here(p, asker)
	default:
		p.must = v.Session
		if row, ok := g.table.Get(v.Session); ok && row.Token == p.token {
			g.attach(p, v.Session)
		} else {
			g.lookup(p)
		}
	}
}

func (g *gateway) lookup(p *presentation) {
	if p.lookups++; p.lookups > maxLookups {
		g.question(p, "Your session cannot be found now.", true)
		return
	}
	if !g.h.linked {
		if row, ok := g.table.Latest(p.token); ok {
			g.attach(p, row.ID)
			return
		}
	}
	if p.fresh {
		g.openHere(p)
		return
	}
	g.h.lookup(p.question(""), func(a local.Answer, ok bool) {
		switch {
		case !g.alive() || p.t.now != p:
		case !ok:
			g.noGroup(p)
		default:
			g.answer(p, a)
		}
	})
}

// question is what the group manager is asked for p.
func (p *presentation) question(want local.Want) local.Lookup {
	return local.Lookup{Token: p.token, Terminal: p.t.id, Addr: p.unit.addr, Want: want, Hosts: p.unit.w.rules[p.token]}
}

func (g *gateway) noGroup(p *presentation) {
	if row, ok := g.table.Latest(p.token); ok {
		g.attach(p, row.ID)
		return
	}
	g.question(p, "The group manager of this server does not answer.", true)
	p.nobody = true
}

func (g *gateway) answer(p *presentation, a local.Answer) {
	switch a.Where {
	case local.Here:
		if row, ok := g.table.Get(a.Session); ok && row.Token == p.token {
			g.attach(p, row.ID)
			return
		}
		g.lookup(p)
	case local.There:
		if !g.unreached(p, a) && p.t.conn != nil {
			g.h.w.say("%s sends %s with %s to %s (%v)", g.h.name, p.unit.name, p.token, a.Host, a.Target)
			p.t.conn.down(alp.RedirectInf{TokenSeq: p.req.TokenSeq, Addr: a.Target.Addr(), Port: int(a.Target.Port()), Props: a.Props}.Message())
		}
	case local.New:
		if p.must != "" {
			g.deny(p, 5, "Your session has ended.")
			return
		}
		g.here(p, g.h)
	case local.Unreachable:
		g.question(p, a.Reason, true)
	default:
		g.screen(p, a.Reason)
	}
}

// here attaches the token's session on this host, or makes one, as asker found
// none.
func (g *gateway) here(p *presentation, asker *Host) {
	if row, ok := g.table.Latest(p.token); ok {
		g.attach(p, row.ID)
		return
	}
	w := g.h.w
	if !w.allows(p.token, g.h) {
		if p.lookups == 0 { // whoever sent it here went by other rules
			g.lookup(p)
		} else {
			g.screen(p, "You may have a session elsewhere, and not on this server.")
		}
		return
	}
	if !g.mayGoOn(p, func() { p.lookups = 0; g.lookup(p) }) {
		return
	}
	if p.fresh {
		w.checkChosen(p)
	} else {
		w.checkNew(g.h, asker, p.token)
	}
	s := w.makeSession(g.h, p.token)
	if err := g.table.Add(sessions.Session{ID: s.id, Token: p.token, State: sessions.Starting, Last: g.h.clock()}); err != nil {
		s.end()
		g.screen(p, "This server has as many sessions as it can take.")
		return
	}
	s.waiting = append(s.waiting, p)
	g.h.report()
	w.after(200*time.Millisecond, func() { s.up() })
}

func (w *World) makeSession(h *Host, token alp.Token) *session {
	w.checkAllowed(h, token)
	w.made++
	s := &session{id: alp.SessionID(fmt.Sprintf("%016x", w.made)), n: w.made, token: token, host: h, last: h.clock(), lastAt: w.now}
	h.run[s.id], w.ids[s.id] = s, s
	t := w.tracks[token]
	if t == nil {
		t = &track{}
		w.tracks[token] = t
	}
	t.sessions = append(t.sessions, s)
	w.say("%s makes %v", h.name, s)
	return s
}

// up: the session has started.
func (s *session) up() {
	if s.host.run[s.id] != s {
		return
	}
	s.ready = true
	g := s.host.gw
	if g == nil {
		return
	}
	g.table.Up(s.id)
	s.host.report()
	if g.state == group.Down {
		g.stop(s)
	}
	waiting := s.waiting
	s.waiting = nil
	for _, p := range waiting {
		if p.t.now == p {
			g.attach(p, s.id)
		}
	}
}

// end takes a session out of the world.
func (s *session) end() {
	w := s.host.w
	delete(s.host.run, s.id)
	delete(w.ids, s.id)
	t := w.tracks[s.token]
	if t.sessions = slices.DeleteFunc(t.sessions, func(o *session) bool { return o == s }); len(t.sessions) == 0 {
		delete(w.tracks, s.token)
	}
	w.say("%v on %s is gone", s, s.host.name)
}

// attach offers the session to the terminal.
func (g *gateway) attach(p *presentation, id alp.SessionID) {
	s := g.h.run[id]
	switch {
	case s == nil:
		g.lookup(p)
	case !s.ready:
		s.waiting = append(s.waiting, p)
	case !g.mayGoOn(p, func() { p.lookups = 0; g.lookup(p) }):
	default:
		s.gen++
		g.offer(p, s, s.gen)
	}
}

// screen shows the terminal one of the gateway's own: the reason, or the
// question for a card.
func (g *gateway) screen(p *presentation, reason string) {
	if reason != "" && p.t.conn != nil {
		g.h.w.say("%s tells %s: %s", g.h.name, p.unit.name, reason)
	}
	g.h.w.tickets++
	g.offer(p, nil, g.h.w.tickets)
}

func (g *gateway) offer(p *presentation, s *session, gen uint64) {
	if p.t.conn == nil {
		return
	}
	w := g.h.w
	w.tickets++
	var b [alp.TicketSize]byte
	binary.BigEndian.PutUint64(b[:], w.tickets)
	g.h.tickets[b] = ticket{s, gen, g.h.gwLife, p.t.id, w.now + native.TicketLife}
	w.after(native.TicketLife, func() { delete(g.h.tickets, b) })
	c := alp.ConnInf{TokenSeq: p.req.TokenSeq, Allowed: true, Token: p.token, Module: "card", MediaPort: 40000, Ticket: b[:], Gen: gen}
	if s != nil {
		c.Session = s.id
	}
	p.t.shown = attachment{c.Session, gen}
	p.t.conn.down(c.Message())
}

func (g *gateway) deny(p *presentation, osd int, cause string) {
	if p.t.conn == nil {
		return
	}
	g.h.w.say("%s tells %s: %s", g.h.name, p.unit.name, cause)
	p.t.conn.down(alp.ConnInf{TokenSeq: p.req.TokenSeq, Token: p.token, Module: "card", Cause: cause, OSD: osd}.Message())
}

// clear ends what the terminal waits for and has.
func (g *gateway) clear(t *served) {
	t.now = nil
	if s := g.h.run[t.shown.session]; s != nil {
		s.detach(t.shown.gen)
	}
	t.shown = attachment{}
	if row, ok := g.table.At(t.id); ok {
		if s := g.h.run[row.ID]; s != nil {
			s.detach(row.Gen)
		}
	}
}

// detach ends the attachments up to gen, those that are not yet made too.
func (s *session) detach(gen uint64) {
	s.void = max(s.void, gen)
	if m := s.media; m != nil && m.gen <= gen {
		m.close(s.host.w, true, native.CloseDetached, "detached")
	}
}

// attached: a terminal has redeemed its ticket.
func (g *gateway) attached(s *session, m *medium) {
	if _, ok := g.table.Attached(s.id, m.unit.id, m.gen, g.h.clock()); !ok {
		return
	}
	g.h.report()
	for _, id := range sorted(g.terms) {
		t := g.terms[id]
		if t.id == m.unit.id || t.shown.session != s.id || t.shown.gen >= m.gen {
			continue
		}
		seq := 0
		if t.now != nil {
			seq = t.now.req.TokenSeq
		}
		t.now, t.shown = nil, attachment{}
		if t.conn != nil {
			t.conn.down(alp.DiscInf{TokenSeq: seq, Cause: "Your session is shown at another terminal.", OSD: 5}.Message())
		}
	}
}
