package control

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/audit"
	"hotdesk/server/greeter"
	"hotdesk/server/login"
	"hotdesk/server/parent"
	"hotdesk/server/session/client"
	"hotdesk/server/session/keeperapi"
	"hotdesk/server/sessions"
)

// MaxLogins bounds the logins whose modules are at work at the same time.
const MaxLogins = 64

// Logins is what users choose from when they log in. Lists of fewer than two
// are not shown.
type Logins struct {
	Languages []greeter.Option // values of LANG
	Desktops  func() []greeter.Option
}

// A visit is a user who logs in at a terminal: a presentation that has not come
// to a session yet. All of it is the owner's.
type visit struct {
	p    *presentation
	addr netip.Addr // of the terminal
	m    *login.Machine
	wake *time.Timer
	gen  uint64 // of the screen, 0 before there is one

	layout, lang, desktop string // chosen
	typed                 *typed // beside the name, for another host; nil: nothing
	more                  int    // answers after it
	before                []byte // the last one, where it was a secret

	id     alp.SessionID      // of the keeper at work
	lobby  *client.Lobby      // that keeper's, once it is there
	reply  chan client.Reply  // to its question
	cancel context.CancelFunc // ends the attempt; nil without one
	works  bool               // it counts among those whose modules are at work
}

func (v *visit) source(user string) login.Source {
	return login.Source{User: user, Terminal: string(v.p.t.id), Addr: v.addr}
}

// PlaceWithin is how long a login screen waits for the group manager.
const PlaceWithin = 2 * time.Second

// logIn shows the login screen, on the host where the user's session is or is
// to be, as far as that is known before the login: nobody types a password
// twice. What is known only then, the rules of the user's groups and where a
// session without a card is, the lookup after the login goes by.
func (s *Server) logIn(p *presentation) {
	stay := func() { s.showLogin(p) }
	switch {
	case p.placed || p.why != "": // whoever is told something is told it here
		stay()
	case s.closed() && p.token.Pseudo():
		s.elsewhere(p, stay)
	default:
		s.place(p, stay)
	}
}

// place sends a terminal whose user is to log in where the session is or would
// be. Where it can stay stay is run, and where nobody knows.
func (s *Server) place(p *presentation, stay func()) {
	p.begun = true
	if p.t.busy {
		p.begun = false // kick comes back to it
		return
	}
	p.placed = true
	if p.req.Failed.IsValid() || p.req.Circle || s.conf.Group.Away() != "" {
		stay()
		return
	}
	want := local.Want("")
	if p.token.Pseudo() { // the session will be whose it is
		want = local.WantPlace
	}
	ask := s.question(p, want)
	s.beside(p, func() (then, stale func()) {
		ctx, cancel := context.WithTimeout(p.ctx, PlaceWithin)
		defer cancel()
		a, err := s.conf.Group.Lookup(ctx, ask)
		return func() {
			switch {
			case err == nil && a.Where == local.There:
				s.redirect(p, a)
			case err == nil && a.Where == local.Refused && s.says(p).Owner != "": // the login will change nothing
				s.answer(p, a)
			default:
				stay()
			}
		}, nil
	})
}

// askLogin has p's user log in before then is run: for session id, if it is not
// empty, whose screen is locked until its own user is there.
func (s *Server) askLogin(p *presentation, id alp.SessionID, then func()) {
	p.then = then
	if p.visit != nil {
		return // once, whatever is asked meanwhile
	}
	if row, ok := s.table.Get(id); ok {
		p.holder = row.User
		if d := s.says(p); d.Owner != "" {
			p.holder = d.Owner
		}
	}
	s.showLogin(p)
}

func (s *Server) showLogin(p *presentation) {
	v := &visit{p: p, addr: p.t.addr, layout: p.req.Layout}
	if !greeter.HasLayout(v.layout) {
		v.layout = "us"
	}
	p.visit = v
	context.AfterFunc(p.ctx, func() { s.post(func() { s.leave(v) }) })
	m, actions := login.New(time.Now(), !p.token.Pseudo(), s.says(p).LoginWithin, func(now time.Time, user string) time.Duration {
		return s.backoff.Wait(now, v.source(user))
	})
	v.m = m
	if p.why != "" {
		actions = m.Tell(p.why)
	}
	s.visitDo(v, actions)
}

// logInAgain shows the login screen to a terminal without a card whose user has
// lost the session, or ended it, and reports whether it is one.
func (s *Server) logInAgain(t *terminal, why string) bool {
	old := t.now
	if old == nil || old.user == "" || !old.req.Token().Pseudo() {
		return false
	}
	r := old.req
	r.Redirect, r.Props, r.Connected, r.Session, r.Gen = false, "", false, "", 0
	s.drop(t)
	t.shown = attachment{}
	p := &presentation{t: t, req: r, token: r.Token(), module: old.module, needsLogin: true, why: why}
	p.ctx, p.cancel = context.WithCancel(s.ctx)
	t.now = p
	s.kick(t)
	return true
}

// leave forgets a visit.
func (s *Server) leave(v *visit) {
	s.visitStop(v)
	v.m.Close()
	v.forget()
	if v.wake != nil {
		v.wake.Stop()
	}
}

// visitStop ends the attempt under way.
func (s *Server) visitStop(v *visit) {
	s.visitRests(v)
	if v.cancel == nil {
		return
	}
	v.cancel()
	if v.lobby != nil {
		v.lobby.Close()
	}
	v.cancel, v.lobby, v.reply = nil, nil, nil
}

// visitRests: the modules have done their work.
func (s *Server) visitRests(v *visit) {
	if v.works {
		v.works = false
		s.logins--
	}
}

// seated: p's user has a session, and the keeper that only let the user in is
// not needed any more.
func (s *Server) seated(p *presentation) {
	p.forgetTyped()
	if p.visit != nil {
		s.visitStop(p.visit)
	}
}

// visitDo does what the machine wants.
func (s *Server) visitDo(v *visit, actions []any) {
	p, now := v.p, time.Now()
	for _, a := range actions {
		switch a := a.(type) {
		case login.Show:
			s.visitShow(v, s.form(v, a.Page))
			if a.Page.State == login.Asking {
				s.say(p.t, slog.LevelInfo, "login asks", "question", a.Page.Question)
			}
		case login.Start:
			s.visitStart(v, a.User)
		case login.Reply:
			if v.reply != nil {
				v.reply <- client.Reply{Answer: a.Answer}
			}
		case login.Stop:
			s.visitStop(v)
			v.forget() // the screen may rest for days
		case login.Wrong:
			s.backoff.Failed(now, v.source(a.User))
			// Its form is what jails read (README): the pace of guesses bounds it.
			s.log.Warn("login failed", "addr", v.addr, "terminal", p.t.id, "user", a.User)
			s.auditLogin(audit.Fail, v, a.User)
		case login.Enter:
			s.visitEnter(v, a.User)
		case login.Leave:
			s.visitStop(v)
			s.rest(p, greeter.Screen{Kind: greeter.InsertCard})
		}
	}
	s.visitWake(v)
}

// visitWake sets the timer to when the machine is due.
func (s *Server) visitWake(v *visit) {
	if v.wake != nil {
		v.wake.Stop()
	}
	at := v.m.Next()
	if at.IsZero() {
		return
	}
	v.wake = time.AfterFunc(time.Until(at), func() {
		s.post(func() {
			if v.p.current() {
				s.visitDo(v, v.m.Tick(time.Now()))
			}
		})
	})
}

// visitShow puts a form on the terminal's screen.
func (s *Server) visitShow(v *visit, f greeter.Form) {
	if v.gen != 0 {
		if _, err := s.conf.Screens.Put(v.gen, f); err != nil {
			s.log.Error("login screen cannot be drawn", "terminal", v.p.t.id, "err", err)
		}
		return
	}
	v.gen = s.display(v.p, greeter.Request{Form: &f, Answer: func(_ uint64, a greeter.Answer) {
		if !s.post(func() { s.visitAnswer(v, a) }) {
			a.Wipe()
		}
	}})
}

// visitAnswer is a form filled in.
func (s *Server) visitAnswer(v *visit, a greeter.Answer) {
	defer a.Wipe()
	if !v.p.current() || v.p.visit != v {
		return
	}
	now, p := time.Now(), v.p
	switch st := v.m.State(); {
	case a.Button != 0 && st == login.Naming && s.unlockLater(p):
	case a.Button != 0 || st == login.Holding || st == login.Working:
		s.visitDo(v, v.m.Cancel(now))
	case st == login.Naming && p.holder != "" && len(a.Fields) == 1:
		password := a.Fields[0]
		a.Fields = nil // it is the machine's
		s.visitSubmit(v, p.holder, password)
	case st == login.Naming && len(a.Fields) == 2:
		s.visitChoose(v, a.Choices)
		name, password := string(a.Fields[0]), a.Fields[1]
		a.Fields = a.Fields[:1] // the password is the machine's
		s.visitSubmit(v, strings.TrimSpace(name), password)
	case st == login.Asking && len(a.Fields) == 1:
		answer := a.Fields[0]
		v.asked(answer, v.m.Secret())
		a.Fields = nil
		s.visitDo(v, v.m.Answer(now, answer))
	case st == login.Telling:
		s.visitDo(v, v.m.Answer(now, nil))
	}
}

// visitSubmit is the first page filled in. What is typed is kept for the host
// that the user may be sent to.
func (s *Server) visitSubmit(v *visit, name string, password []byte) {
	v.forget()
	v.typed, v.more = newTyped(password), 0
	s.visitDo(v, v.m.Submit(time.Now(), name, password))
}

// visitChoose notes the user's choices, by the form's own order.
func (s *Server) visitChoose(v *visit, values []string) {
	targets := []*string{&v.layout}
	if len(s.conf.Logins.Languages) > 1 {
		targets = append(targets, &v.lang)
	}
	if len(s.desktops()) > 1 {
		targets = append(targets, &v.desktop)
	}
	for i, to := range targets[:min(len(targets), len(values))] {
		*to = values[i]
	}
}

func (s *Server) desktops() []greeter.Option {
	if s.conf.Logins.Desktops == nil {
		return nil
	}
	all := s.conf.Logins.Desktops()
	return all[:min(len(all), greeter.MaxOptions)]
}

// visitStart has a keeper made that takes the user through the modules.
func (s *Server) visitStart(v *visit, user string) {
	p := v.p
	if s.logins >= MaxLogins {
		s.visitDo(v, v.m.Failed(time.Now(), "Many people are logging in. Please try again in a moment.", false))
		return
	}
	if !keeperapi.UserName(user) { // no modules need to see that
		s.visitDo(v, v.m.Failed(time.Now(), "The name or the password is not right.", false))
		return
	}
	var b [8]byte
	rand.Read(b[:])
	id, reply := alp.SessionID(hex.EncodeToString(b[:])), make(chan client.Reply, 1)
	ctx, cancel := context.WithCancel(p.ctx)
	v.id, v.reply, v.cancel, v.works = id, reply, cancel, true
	s.logins++
	spec := parent.Start{Session: id, Token: p.token, User: user, Login: true, Terminal: p.t.id, Addr: v.addr, Limits: s.mayUse(p, user)}
	s.wg.Go(func() {
		begin, stop := context.WithTimeout(ctx, StartWithin)
		conn, err := s.conf.Parent.Start(begin, spec)
		stop()
		if err != nil {
			s.visitPost(v, id, func() {
				s.log.Error("login cannot begin", "terminal", p.t.id, "err", err)
				s.visitDo(v, v.m.Failed(time.Now(), "The login cannot begin: "+plain(err), false))
			})
			return
		}
		lobby := client.NewLobby(conn, func(ctx context.Context, q client.Prompt) (client.Reply, error) {
			s.visitPost(v, id, func() { s.visitDo(v, v.m.Prompt(time.Now(), promptKinds[q.Kind], q.Text)) })
			select {
			case r := <-reply:
				return r, nil
			case <-ctx.Done():
				return client.Reply{}, ctx.Err()
			}
		})
		s.wg.Go(func() { _ = lobby.Serve(s.ctx) }) // its end shows in the calls
		s.visitPost(v, id, func() { v.lobby = lobby })
		in, err := lobby.Login(ctx)
		if ctx.Err() != nil {
			lobby.Close()
			return
		}
		s.visitPost(v, id, func() {
			switch now := time.Now(); {
			case err != nil:
				s.log.Error("login failed by itself", "terminal", p.t.id, "err", err)
				s.visitDo(v, v.m.Failed(now, "The login failed. Please try again.", false))
			case in.Error != "":
				s.log.Warn("login step failed", "terminal", p.t.id, "detail", in.Detail)
				s.visitDo(v, v.m.Failed(now, in.Error, in.Guess))
			default:
				s.visitDo(v, v.m.Passed(now, in.User))
			}
		})
	})
}

var promptKinds = map[client.PromptKind]login.Kind{
	client.PromptHidden: login.Hidden, client.PromptShown: login.Shown, client.PromptProblem: login.Problem, client.PromptInfo: login.Info,
}

// visitPost runs f as an event, if the attempt is still under way.
func (s *Server) visitPost(v *visit, id alp.SessionID, f func()) {
	s.post(func() {
		if v.cancel != nil && v.id == id && v.p.current() {
			f()
		}
	})
}

// visitEnter: the user has logged in. Where the session is decides the group.
func (s *Server) visitEnter(v *visit, user string) {
	p := v.p
	s.visitRests(v)
	s.backoff.Succeeded(time.Now(), v.source(user))
	s.say(p.t, slog.LevelInfo, "logged in", "token", p.token, "user", user)
	s.auditLogin(audit.Login, v, user)
	p.needsLogin, p.user, p.req.Layout = false, user, v.layout
	s.keepTyped(p, v)
	then := p.then
	if then == nil {
		then = func() { s.lookup(p) }
		if p.token.Pseudo() {
			p.token = userToken(user)
		}
	}
	p.then = nil
	s.admitted(p, then)
}

// userToken names a user who has logged in without a card.
func userToken(user string) alp.Token {
	if t := alp.Token("user." + user); t.Valid() {
		return t
	}
	return alp.Token("user.x" + hex.EncodeToString([]byte(user)))
}

// enter opens the session of a user who has logged in, in the keeper that saw
// it, and reports whether p is one.
func (s *Server) enter(p *presentation) bool {
	v := p.visit
	if v == nil && p.user == "" || p.sworn {
		return false
	}
	if v == nil || v.lobby == nil { // used, or gone away
		s.logInHere(p, "")
		return true
	}
	lobby, id := v.lobby, v.id
	if err := s.table.Add(sessions.Session{ID: id, Token: p.token, User: p.user, State: sessions.Starting, Last: time.Now()}); err != nil {
		s.say(p.t, slog.LevelWarn, "no further session", "token", p.token, "err", err)
		s.screen(p, greeter.Screen{Kind: greeter.Denied, Text: "This server has as many sessions as it can take. Try again later."})
		return true
	}
	v.lobby = nil // the session goes on where its user leaves
	s.report()
	s.say(p.t, slog.LevelInfo, "session starts", "token", p.token, "session", id, "user", p.user)
	k := &keeper{id: id, token: p.token, waiting: []*presentation{p}}
	s.keepers[id] = k
	w, h := s.size(p)
	b := client.Begin{Token: p.token, Width: w, Height: h, Layout: v.layout, Lang: v.lang, Desktop: v.desktop}
	s.wg.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, StartWithin)
		defer cancel()
		defer lobby.Close()
		err := lobby.Begin(ctx, b)
		if err != nil {
			s.post(func() { s.started(k, nil, err) })
			return
		}
		conn, err := s.conf.Parent.Open(ctx, id)
		if !s.post(func() { s.started(k, conn, err) }) && conn != nil {
			conn.Close()
		}
	})
	return true
}

// logInHere has p's user log in once more, for a session on this host.
func (s *Server) logInHere(p *presentation, why string) {
	p.needsLogin, p.user, p.sworn, p.placed, p.own, p.why = true, "", false, true, "", why
	if p.req.Token().Pseudo() {
		p.token = p.req.Token()
	}
	s.logIn(p)
}

// stranger reports whether p may not have a session, being of another user,
// and says so.
func (s *Server) stranger(p *presentation, id alp.SessionID) bool {
	row, ok := s.table.Get(id)
	if p.user == "" || !ok || row.User == p.user {
		return false
	}
	d := s.says(p)
	if row.Token == p.token && (d.Owner == p.user || d.Kiosk != nil && slices.Contains(d.Kiosk.Accounts, row.User)) {
		return false
	}
	s.log.Warn("session is another user's", "terminal", p.t.id, "token", p.token, "session", id, "user", p.user)
	s.screen(p, greeter.Screen{Kind: greeter.Denied, Text: "The session of this card belongs to another user."})
	return true
}

// form is what a page of the login looks like.
func (s *Server) form(v *visit, page login.Page) greeter.Form {
	f := greeter.Form{Title: "Log in", Layout: v.layout}
	if s.conf.Host != "" {
		f.Title = "Log in to " + s.conf.Host
	}
	for _, n := range page.Notes {
		tone := greeter.Good
		if n.Bad {
			tone = greeter.Bad
		}
		f.Notes = append(f.Notes, greeter.Note{Text: n.Text, Tone: tone})
	}
	switch page.State {
	case login.Naming:
		if v.p.holder != "" {
			s.locked(v, &f)
			break
		}
		f.Fields = []greeter.Field{
			{Label: "User name", Value: page.User, Max: keeperapi.MaxUser},
			{Label: "Password", Secret: true, Optional: true, Max: client.MaxReply},
		}
		if page.User != "" {
			f.Focus = 1
		}
		f.Choices = s.choices(v)
		f.Buttons = []string{"Log in", "Cancel"}
		if v.p.token.Pseudo() {
			f.Buttons = []string{"Log in"}
		}
	case login.Asking:
		f.Title = page.User
		f.Fields = []greeter.Field{{Label: question(page.Question), Secret: page.Secret, Optional: true, Max: client.MaxReply}}
		f.Buttons = []string{"Continue", "Cancel"}
	case login.Telling:
		f.Title = page.User
		f.Buttons = []string{"Continue", "Cancel"}
	default:
		f.Title = page.User
		if len(f.Notes) == 0 || page.State == login.Working {
			f.Notes = append(f.Notes, greeter.Note{Text: "One moment, please."})
		}
		f.Buttons = []string{"Cancel"}
		f.Busy = true
	}
	return f
}

// question is a module's question as a field's label.
func question(s string) string {
	if s = strings.TrimRight(s, ": "); s == "" {
		return "Answer"
	}
	return s
}

// choices are what the user can choose beside the name, the keyboard first.
func (s *Server) choices(v *visit) []greeter.Choice {
	choice := func(label, now string, options []greeter.Option) greeter.Choice {
		c := greeter.Choice{Label: label, Options: options}
		for i, o := range options {
			if o.Value == now {
				c.Chosen = i
			}
		}
		return c
	}
	keyboard := choice("Keyboard", v.layout, greeter.Layouts())
	keyboard.Keyboard = true
	all := []greeter.Choice{keyboard}
	if l := s.conf.Logins.Languages; len(l) > 1 {
		all = append(all, choice("Language", v.lang, l[:min(len(l), greeter.MaxOptions)]))
	}
	if d := s.desktops(); len(d) > 1 {
		all = append(all, choice("Session", v.desktop, d))
	}
	return all
}
