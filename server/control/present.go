package control

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/greeter"
	"hotdesk/server/parent"
	"hotdesk/server/policy"
	"hotdesk/server/proof"
	"hotdesk/server/session/client"
	"hotdesk/server/sessions"
)

// A presentation is one token, inserted at one terminal.
type presentation struct {
	t      *terminal
	req    alp.InfoReq
	token  alp.Token
	module string
	ctx    context.Context // ends with the presentation
	cancel context.CancelFunc

	begun   bool
	placed  bool          // it was sent here, or has been found to stay, before anybody logs in
	must    alp.SessionID // a redirect, or the terminal that showed it, named it: no other is made in its place
	refused alp.SessionID // its keeper did not attach: if it ends now, that is why
	lookups int

	asking  string          // why the user is asked, while the question is on the screen
	chosen  *choice         // what came of it, not done yet
	nobody  bool            // because nobody could say where the session is
	agains  int             // how often the way was looked for meanwhile
	anyway  bool            // the user wants to be sent where it failed
	fresh   bool            // the user wants a session here, in place of one elsewhere
	resting *greeter.Screen // nothing but a screen is wanted
	notice  string          // to be read over the session

	proof   *proving      // under way
	vouched proof.Kind    // the proof that the card has given elsewhere, as a redirect says; "" none
	own     alp.SessionID // was made for it
	wants   alp.SessionID // whose keeper is being asked to attach it
	second  bool          // as a second account of its kiosk

	away       *policy.Decision  // nothing of this host is for it: another one has it, or the reason
	barred     bool              // it was told the reason
	needsLogin bool              // nothing of a session before
	user       string            // who has logged in; others' sessions are not shown
	sworn      bool              // at the host that redirected, which says so: a session of the user's needs no password here
	visit      *visit            // the login, while there is something of it
	typed      *typed            // what was typed for it, here or there; nil: nothing that is still of use
	then       func()            // what the login is for; nil: the lookup
	wished     bool              // the switcher was, and what it lists is asked for
	switching  bool              // the switcher is to be shown
	picked     bool              // and the user has chosen
	another    bool              // a new session
	others     []local.Elsewhere // sessions of other hosts, that can be chosen
	holder     string            // whose session is to be unlocked; nobody else's name is asked for
	why        string            // the user is to log in again
}

// current reports whether p is still what its terminal wants.
func (p *presentation) current() bool { return p.t.now == p }

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
	if p.resting != nil {
		s.rest(p, *p.resting)
		return
	}
	p.begun = true
	if p.req.Redirect {
		s.verify(p)
		return
	}
	s.unproven(p)
}

// unproven goes on with a token whose word is all that there is.
func (s *Server) unproven(p *presentation) {
	if p.needsLogin {
		s.logIn(p)
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
		v, err := s.conf.Group.Verify(ctx, local.Verify{Props: p.req.Props, Token: p.req.Token(), Terminal: p.t.id})
		return func() {
			switch {
			case err != nil:
				s.say(p.t, slog.LevelWarn, "redirect could not be checked", "token", p.token, "err", err)
				if p.needsLogin {
					s.logIn(p)
					return
				}
				s.noGroup(p)
			case !v.OK:
				s.say(p.t, slog.LevelWarn, "redirect without proof", "token", p.token, "reason", v.Reason)
				s.unproven(p)
			default:
				s.sent(p, v)
			}
		}, nil
	})
}

// sent goes on where another host has sent the terminal to. What its proof says
// of the card and the user holds; whoever has not logged in there does so here,
// and a card that has given there no such proof as is needed here is asked.
func (s *Server) sent(p *presentation, v local.Verified) {
	p.placed, p.vouched = true, proof.Kind(v.Proven)
	if v.User != "" && !s.takesOver(p, v) {
		return
	}
	if p.away != nil {
		s.lookup(p)
		return
	}
	if !p.needsLogin { // else the lookup after the login goes by, and the user may choose
		p.must = v.Session
	}
	if v.Another && p.t.made != p.req.Props && s.says(p).Choose {
		p.another, p.picked, p.t.made = true, true, p.req.Props
	}
	row, ok := s.table.Get(v.Session)
	switch {
	case p.needsLogin:
		s.logIn(p)
	case p.another:
		s.lookup(p)
	case v.Session == "":
		s.here(p)
	case ok && row.Token == p.token:
		s.attach(p, v.Session)
	default:
		s.lookup(p)
	}
}

// takesOver takes over what the host that redirected knows of the user, and
// reports whether the rules of this one have nothing against it.
func (s *Server) takesOver(p *presentation, v local.Verified) bool {
	d := s.decide(p.req.Token(), p.t.id, v.User)
	if d.Outcome == policy.Denied {
		s.say(p.t, slog.LevelWarn, "token denied", "token", p.req.Token(), "user", v.User, "module", d.Module, "reason", d.Reason)
		s.screen(p, greeter.Screen{Kind: greeter.Denied, Text: d.Reason})
		return false
	}
	p.user, p.module, p.needsLogin, p.sworn, p.away = v.User, d.Module, false, v.Session == "", sentAway(d)
	if p.token.Pseudo() {
		p.token = userToken(v.User)
	}
	s.takeOver(p)
	return true
}

// lookup asks the group where the token's session is.
func (s *Server) lookup(p *presentation) {
	if p.needsLogin { // whatever led here, nobody gets past the login
		s.logIn(p)
		return
	}
	p.lookups++
	if p.away != nil {
		s.lookAway(p)
		return
	}
	if s.conf.Group.Away() != "" && p.lookups <= MaxLookups && !p.another {
		if row, ok := s.table.Latest(p.token); ok {
			s.attach(p, row.ID)
			return
		}
	}
	if p.lookups > MaxLookups {
		s.ask(p, "Your session cannot be found now.", true)
		return
	}
	if p.fresh {
		s.openHere(p)
		return
	}
	ask := s.question(p, "")
	if p.another {
		if s.says(p).NotHere == "" && !s.closed() {
			s.start(p)
			return
		}
		ask.Want, ask.Another = local.WantPlace, true
	}
	s.beside(p, func() (then, stale func()) {
		ctx, cancel := context.WithTimeout(p.ctx, GroupWithin)
		defer cancel()
		a, err := s.conf.Group.Lookup(ctx, ask)
		return func() {
			if err != nil {
				s.say(p.t, slog.LevelWarn, "group manager has no answer", "token", p.token, "err", err)
				s.noGroup(p)
				return
			}
			s.answer(p, a)
		}, nil
	})
}

// question is what the group manager is asked for p.
func (s *Server) question(p *presentation, want local.Want) local.Lookup {
	d := s.says(p)
	return local.Lookup{Token: p.token, Terminal: p.t.id, Addr: p.t.addr, User: p.user, Presented: p.req.Token(), Proven: string(p.lastProof()), Want: want, Hosts: d.Hosts, Access: d.Access}
}

// noGroup is what is left without the group manager: a session of the token
// that is here.
func (s *Server) noGroup(p *presentation) {
	if row, ok := s.table.Latest(p.token); ok && !p.another {
		s.attach(p, row.ID)
		return
	}
	reason := s.conf.Group.Away()
	if reason == "" {
		reason = "The group manager of this server does not answer. Wait a moment, then try again."
	}
	s.ask(p, reason, true)
	p.nobody = true
}

// answer does what the group manager said.
func (s *Server) answer(p *presentation, a local.Answer) {
	p.others = a.Others
	if p.away != nil {
		s.answerAway(p, a)
		return
	}
	if row, ok := s.table.Get(p.must); ok && row.Token == p.token { // later ones are shown elsewhere, by another card perhaps
		s.attach(p, p.must)
		return
	}
	switch a.Where {
	case local.Here:
		if row, ok := s.table.Get(a.Session); ok && row.Token == p.token {
			if p.must != "" && row.ID != p.must {
				p.notice = "That session has ended. This is another one of yours."
				if _, runs := s.table.Get(p.must); runs {
					p.notice = "That session is not this card's any more, and runs on. This is another one of yours."
				}
			}
			s.attach(p, row.ID)
			return
		}
		s.lookup(p) // it has ended since
	case local.There:
		if a.Session == "" && p.visit != nil && p.visit.lobby != nil && !s.closed() && s.says(p).NotHere == "" {
			s.here(p) // the user has logged in here, with all that the modules give
			return
		}
		if !s.choosingElsewhere(p, a) {
			s.redirect(p, a)
		}
	case local.New:
		if p.another {
			s.start(p)
			return
		}
		if p.must != "" {
			s.say(p.t, slog.LevelInfo, "session that was asked for is gone", "token", p.token, "session", p.must)
			s.deny(p, osdNoSession, s.obituary(p.must))
			return
		}
		s.here(p)
	case local.Unreachable:
		if !s.mayGoOn(p, proof.Reattach, "", func() { s.answer(p, a) }) {
			return
		}
		if !s.choosingElsewhere(p, a) {
			s.ask(p, sentence(cmp.Or(a.Reason, fmt.Sprintf("your session is on the host %s, which this terminal cannot reach", a.Host))), true)
		}
	case local.Refused:
		s.say(p.t, slog.LevelWarn, "no host for a session", "token", p.token, "reason", a.Reason)
		s.screen(p, greeter.Screen{Kind: greeter.Denied, Text: sentence(a.Reason)})
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
	if p.lookups == 0 && s.says(p).NotHere != "" { // whoever sent it here went by other rules
		s.lookup(p)
		return
	}
	s.start(p)
}

// redirect sends the terminal to another host. What the card must prove it
// proves here, where it is; a user who is still to log in does so there, once.
func (s *Server) redirect(p *presentation, a local.Answer) {
	use := proof.Reattach
	if a.Session == "" {
		use = proof.First
	}
	if !s.hasProven(p, use, func() { p.placed = false; s.afresh(p) }) {
		return
	}
	if s.unreached(p, a) {
		return
	}
	t, now := p.t, time.Now()
	t.redirs = slices.DeleteFunc(t.redirs, func(at time.Time) bool {
		return now.Sub(at) >= RedirectWindow || !p.req.Redirect // a card was pushed in: that is no circle
	})
	m := alp.RedirectInf{TokenSeq: p.req.TokenSeq, Addr: a.Target.Addr().Unmap(), Port: int(a.Target.Port()), Props: a.Props}
	switch {
	case !m.Addr.Is4() || m.Port == 0 || len(m.Props) > alp.MaxValue:
		s.log.Error("group manager named no host to redirect to", "terminal", t.id, "token", p.token, "target", a.Target)
		s.deny(p, osdDisconnected, "Your session is on a host that cannot be reached.")
	case len(t.redirs) >= MaxRedirects:
		s.say(t, slog.LevelWarn, "terminal is sent from host to host", "token", p.token, "target", a.Target)
		s.ask(p, "The servers do not agree where your session is. One of them may be starting.", false)
	default:
		t.redirs = append(t.redirs, now)
		if p.must != "" && a.Session == "" {
			s.tell(t, s.why(p.must), readFor)
		}
		s.handOver(p, a, func() {
			s.say(t, slog.LevelInfo, "redirected", "token", p.token, "host", a.Host, "target", a.Target, "session", a.Session)
			s.send(t.conn, m.Message())
		})
	}
}

// deny tells the terminal to show the reason itself: the gateway has nothing
// for it.
func (s *Server) deny(p *presentation, osd int, cause string) {
	s.seated(p)
	s.say(p.t, slog.LevelWarn, "nothing to show", "token", p.token, "osd", osd, "reason", cause)
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
func (s *Server) screen(p *presentation, what greeter.Screen) { s.show(p, what, nil) }

// show does, and tells chose what the user chooses, where the screen asks.
func (s *Server) show(p *presentation, what greeter.Screen, chose func(gen uint64, n int)) {
	p.begun = true
	if chose == nil {
		s.seated(p)
	}
	s.display(p, greeter.Request{Screen: what, Chose: chose})
}

// display puts a screen of the gateway's own, which r describes, on p's
// terminal. It returns which one that is, 0 where there was no place for it.
func (s *Server) display(p *presentation, r greeter.Request) (gen uint64) {
	t := p.t
	r.Terminal, r.Addr, r.Width, r.Height = t.id, p.t.addr, p.req.Width, p.req.Height
	r.Came = func(gen uint64) { s.post(func() { t.came = gen }) }
	r.Gone = func(gen uint64) {
		s.post(func() {
			if t.came == gen {
				t.came = 0
			}
			s.prune(t)
		})
	}
	o, err := s.conf.Screens.Show(r)
	if err != nil {
		s.log.Error("screen cannot be offered", "terminal", t.id, "token", p.token, "err", err)
		s.deny(p, osdNoSession, busy)
		return 0
	}
	s.offer(p, "", o)
	return o.Gen
}

// offer tells the terminal where to go.
func (s *Server) offer(p *presentation, id alp.SessionID, o client.Offer) {
	p.t.shown = attachment{id, o.Gen}
	if id != "" {
		s.seated(p)
		p.visit, p.another = nil, false
		s.offered(p, id)
	}
	c := alp.ConnInf{TokenSeq: p.req.TokenSeq, Allowed: true, Token: p.token, Module: p.module,
		MediaPort: o.Port, Ticket: o.Ticket, Gen: o.Gen, Session: id}
	if id != "" {
		c.Host = s.conf.Host[:min(len(s.conf.Host), alp.MaxHost)]
	}
	copy(c.MediaCert[:], o.Cert)
	s.send(p.t.conn, c.Message())
	if id != "" {
		s.tell(p.t, strings.TrimSpace(p.notice+" "+s.service.told), readFor)
		p.notice = ""
	}
	s.say(p.t, slog.LevelInfo, "offered", "token", p.token, "session", id, "gen", o.Gen)
}

// start has a session made for p.
func (s *Server) start(p *presentation) {
	if !s.mayStart(p) || !s.mayGoOn(p, proof.First, "", func() { s.afresh(p) }) {
		return
	}
	d := s.says(p)
	if d.Kiosk == nil && s.enter(p) || !s.mayTake(p) {
		return
	}
	var b [8]byte
	rand.Read(b[:])
	user, command := s.account(p, d), ""
	if d.Kiosk != nil {
		var ok bool
		if user, ok = s.kioskAccount(p, d.Kiosk); !ok {
			return
		}
		command = d.Kiosk.Command
	}
	id := alp.SessionID(hex.EncodeToString(b[:]))
	p.own = id
	if err := s.table.Add(sessions.Session{ID: id, Token: p.token, User: user, State: sessions.Starting, Last: time.Now()}); err != nil {
		s.say(p.t, slog.LevelWarn, "no further session", "token", p.token, "err", err)
		s.screen(p, greeter.Screen{Kind: greeter.Denied, Text: "This server has as many sessions as it can take. Try again later."})
		return
	}
	p.notice = condolence(p, time.Now())
	s.report()
	s.say(p.t, slog.LevelInfo, "session starts", "token", p.token, "session", id)
	k := &keeper{id: id, token: p.token, waiting: []*presentation{p}, from: s.strangeFrom(p)}
	if d.Kiosk != nil {
		k.kiosk = user
	}
	s.keepers[id] = k
	w, h := s.size(p)
	spec := parent.Start{Session: id, Token: p.token, User: user, Width: w, Height: h, Layout: p.req.Layout, Limits: s.mayUse(p, p.user), Kiosk: command}
	if p.sworn {
		spec.Lang, spec.Desktop = s.chosenThere(p.typed)
	}
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
