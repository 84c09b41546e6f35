package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/greeter"
	"hotdesk/server/session/client"
	"hotdesk/server/session/keeperapi"
)

// A user who has logged in here and is to have a new session on another host is
// sent there with the group's word that there was a login. That is enough for
// members of that host's -session-group; a host takes nobody's word for others, as
// whoever had one host had everybody's sessions on all. What the user has typed is
// given to it instead, by the gateways' own connection, for its own login
// modules to judge. It is given to the one host alone that would ask for it
// otherwise, at the moment when the user goes there.

const (
	// typedFor is how long what was typed is kept for a redirect, as long as the
	// login itself may take.
	typedFor = 5 * time.Minute
	// handedFor is how long a host waits for the user who was announced: longer
	// than a redirect's proof holds.
	handedFor = 10 * time.Second
	// HandOverWithin is how long the other host may take.
	HandOverWithin = time.Second
)

// ErrHanded means that a login was not taken over.
var ErrHanded = errors.New("control: a login of another host is not taken")

// A typed is a password, with what was chosen beside it.
type typed struct {
	password              []byte
	layout, lang, desktop string
}

func newTyped(password []byte) *typed {
	if len(password) == 0 {
		return nil
	}
	return &typed{password: bytes.Clone(password)}
}

// wipe forgets it.
func (t *typed) wipe() {
	if t != nil {
		clear(t.password)
		t.password = nil
	}
}

// has reports whether there is still something in it.
func (t *typed) has() bool { return t != nil && len(t.password) > 0 }

// String hides the password.
func (t *typed) String() string { return "typed" }

// A handed is the login of a user who is about to come.
type handed struct {
	token alp.Token
	user  string
	typed *typed
	timer *time.Timer
}

func (p *presentation) forgetTyped() {
	p.typed.wipe()
	p.typed = nil
}

// asked notes an answer to something more that the modules ask for. One is a second
// factor; where there are more a new password is chosen, and the one that was
// typed first is of no use. Who chooses one types it twice: that is then the
// password, which the other host's modules judge as they would the first.
func (v *visit) asked(answer []byte, secret bool) {
	chosen := secret && len(answer) > 0 && bytes.Equal(answer, v.before)
	clear(v.before)
	v.before = nil
	switch v.more++; {
	case chosen:
		v.typed.wipe()
		v.typed, v.more = newTyped(answer), 0
	case secret:
		v.before = bytes.Clone(answer)
	}
	if v.more > 1 {
		v.typed.wipe()
	}
}

// forget wipes what was typed.
func (v *visit) forget() {
	v.typed.wipe()
	v.typed = nil
	clear(v.before)
	v.before = nil
}

// keepTyped has what was typed in a login kept for where the user may be sent.
func (s *Server) keepTyped(p *presentation, v *visit) {
	kept := v.typed
	v.typed = nil
	v.forget()
	p.forgetTyped()
	if !kept.has() {
		return
	}
	kept.layout, kept.lang, kept.desktop = v.layout, v.lang, v.desktop
	p.typed = kept
	time.AfterFunc(typedFor, func() { s.post(kept.wipe) })
}

// handOver gives the host that p is sent to what its user has typed, where that
// host may want it, then goes on.
func (s *Server) handOver(p *presentation, to local.Answer, then func()) {
	if s.conf.HandOver == nil || !p.typed.has() || p.user == "" || to.Session != "" {
		then()
		return
	}
	l := adminapi.PeerLogin{
		Terminal: p.t.id, Token: p.req.Token(), User: p.user, Password: bytes.Clone(p.typed.password),
		Layout: p.typed.layout, Lang: p.typed.lang, Desktop: p.typed.desktop,
	}
	s.beside(p, func() (func(), func()) {
		ctx, cancel := context.WithTimeout(p.ctx, HandOverWithin)
		defer cancel()
		err := s.conf.HandOver(ctx, to.Host, to.Target, l)
		return func() {
			if err != nil {
				s.say(p.t, slog.LevelWarn, "login is not handed over, that host may ask for the password again", "host", to.Host, "user", p.user, "err", err)
			}
			then()
		}, nil
	})
}

// TakeLogin takes what a user has typed at another host, for a redirect that is
// about to come with that user. It is dropped where none does.
func (s *Server) TakeLogin(ctx context.Context, l adminapi.PeerLogin) error {
	defer clear(l.Password)
	if !l.Terminal.Valid() || !l.Token.Valid() || !keeperapi.UserName(l.User) || len(l.Password) == 0 || len(l.Password) > client.MaxReply {
		return fmt.Errorf("%w: it is not whole", ErrHanded)
	}
	h := &handed{token: l.Token, user: l.User, typed: newTyped(l.Password)}
	h.typed.layout, h.typed.lang, h.typed.desktop = l.Layout, l.Lang, l.Desktop
	full := false
	err := s.query(ctx, func() {
		s.dropHanded(l.Terminal)
		if full = len(s.handed) >= MaxLogins; full {
			h.typed.wipe()
			return
		}
		s.handed[l.Terminal] = h
		h.timer = time.AfterFunc(handedFor, func() {
			s.post(func() {
				if s.handed[l.Terminal] == h {
					s.dropHanded(l.Terminal)
				}
			})
		})
	})
	if err != nil {
		h.typed.wipe()
	}
	if full {
		err = fmt.Errorf("%w: too many users come at the same time", ErrHanded)
	}
	return err
}

func (s *Server) dropHanded(id alp.TerminalID) {
	if h := s.handed[id]; h != nil {
		h.timer.Stop()
		h.typed.wipe()
		delete(s.handed, id)
	}
}

// takeOver has p, whom a redirect says to be its user's, take what was handed over
// for it.
func (s *Server) takeOver(p *presentation) {
	h := s.handed[p.t.id]
	if h == nil || h.token != p.req.Token() || h.user != p.user {
		return
	}
	h.timer.Stop()
	delete(s.handed, p.t.id)
	p.forgetTyped()
	p.typed = h.typed
	time.AfterFunc(typedFor, func() { s.post(h.typed.wipe) })
	if greeter.HasLayout(h.typed.layout) {
		p.req.Layout = h.typed.layout
	}
}

// chosenThere is what the user chose beside what was typed, as far as this host has
// it too.
func (s *Server) chosenThere(t *typed) (lang, desktop string) {
	if t == nil {
		return "", ""
	}
	has := func(value string) func(greeter.Option) bool {
		return func(o greeter.Option) bool { return o.Value == value }
	}
	if slices.ContainsFunc(s.conf.Logins.Languages, has(t.lang)) {
		lang = t.lang
	}
	if slices.ContainsFunc(s.desktops(), has(t.desktop)) {
		desktop = t.desktop
	}
	return lang, desktop
}

// logInAsThere has the user of p, who has logged in at the host that redirected,
// log in here as well: with what was typed there, or else once more.
func (s *Server) logInAsThere(p *presentation) {
	user, typed := p.user, p.typed
	p.typed = nil
	if !typed.has() {
		s.logInHere(p, "Please log in once more, to this server: your session is to be here.")
		return
	}
	s.logInHere(p, "")
	v := p.visit
	v.lang, v.desktop = s.chosenThere(typed)
	s.say(p.t, slog.LevelInfo, "logs in with what was typed at the other host", "token", p.token, "user", user)
	s.visitDo(v, v.m.Submit(time.Now(), user, bytes.Clone(typed.password)))
	typed.wipe()
}
