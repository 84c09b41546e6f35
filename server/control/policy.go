package control

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/audit"
	"hotdesk/server/greeter"
	"hotdesk/server/policy"
	"hotdesk/server/proof"
	"hotdesk/server/session/cgroup"
	"hotdesk/server/session/client"
)

// EnrollWithin is how long the registry may take to register a card.
const EnrollWithin = 10 * time.Second

var errNoEnroll = errors.New("control: cards cannot be registered here")

// judge applies the policy, with what the registry says now.
func (s *Server) judge(r policy.Request) policy.Decision {
	var view policy.View
	if s.conf.View != nil {
		view = s.conf.View()
	}
	r.Now = time.Now()
	return s.conf.Policy.Decide(view, r)
}

// decide does so for a token at a terminal, and has the audit remember a
// denial.
func (s *Server) decide(token alp.Token, terminal alp.TerminalID, user string) policy.Decision {
	d := s.judge(policy.Request{Token: token, Terminal: terminal, User: user})
	if d.Outcome == policy.Denied {
		s.auditDenied(d, token, terminal, user)
	}
	return d
}

func (s *Server) auditDenied(d policy.Decision, token alp.Token, terminal alp.TerminalID, user string) {
	s.audit(audit.Entry{What: audit.Deny, Who: user, Token: string(token), Terminal: string(terminal), Text: d.Module + ": " + d.Reason})
}

// says is what the policy says of a presentation now.
func (s *Server) says(p *presentation) policy.Decision {
	return s.judge(policy.Request{Token: p.req.Token(), Terminal: p.t.id, User: p.user})
}

// Explain tells what would happen if a token came to a terminal now; user, if
// not empty, is assumed to have logged in. Where a new session would be the
// group manager says, if the terminal is at this host.
func (s *Server) Explain(ctx context.Context, token alp.Token, terminal alp.TerminalID, user string) adminapi.Explanation {
	r := policy.Request{Token: token, Terminal: terminal, User: user}
	d := s.judge(r)
	x := d.Explain(r)
	if d.Outcome == policy.Denied || d.Outcome == policy.InsertCard {
		return x
	}
	x.Reason = d.NotHere
	var addr netip.Addr
	if err := s.query(ctx, func() {
		if t := s.terminals[terminal]; t != nil {
			addr = t.addr
		}
	}); err != nil || !addr.IsValid() || s.conf.Group.Away() != "" {
		return x
	}
	ctx, cancel := context.WithTimeout(ctx, PlaceWithin)
	defer cancel()
	a, err := s.conf.Group.Lookup(ctx, local.Lookup{Token: d.Token, Terminal: terminal, Addr: addr, User: user, Want: local.WantPlace, Hosts: d.Hosts, Access: d.Access})
	switch {
	case err != nil:
	case a.Where == local.Refused:
		x.Reason = sentence(a.Reason)
	default:
		x.Place, x.Reason = a.Host, ""
	}
	return x
}

// admitted decides about a user who has logged in: the rules of the user's
// groups count from now on, and a card that nobody knew is the user's. then is
// run where there is nothing against it.
func (s *Server) admitted(p *presentation, then func()) {
	d := s.decide(p.req.Token(), p.t.id, p.user)
	if d.Outcome == policy.Denied {
		s.say(p.t, slog.LevelWarn, "token denied", "token", p.req.Token(), "user", p.user, "module", d.Module, "reason", d.Reason)
		s.screen(p, greeter.Screen{Kind: greeter.Denied, Text: d.Reason})
		return
	}
	p.module = d.Module
	if p.away = sentAway(d); p.away != nil {
		then = func() { s.lookup(p) }
	}
	if !d.Enroll {
		then()
		return
	}
	token, user := p.req.Token(), p.user
	s.beside(p, func() (func(), func()) {
		ctx, cancel := context.WithTimeout(s.ctx, EnrollWithin)
		defer cancel()
		err := errNoEnroll
		if s.conf.Enroll != nil {
			err = s.conf.Enroll(ctx, token, user)
		}
		return func() {
			if err != nil {
				s.log.Error("card cannot be registered", "terminal", p.t.id, "token", token, "user", user, "err", err)
				s.screen(p, greeter.Screen{Kind: greeter.Denied, Text: "Your card cannot be registered now. Wait a moment, then insert it again."})
				return
			}
			s.say(p.t, slog.LevelInfo, "card registered", "token", token, "user", user)
			s.audit(audit.Entry{What: audit.Registry, Who: user, Token: string(token), Terminal: string(p.t.id), Text: "registered by its user"})
			then()
		}, nil
	})
}

// mayStart reports whether a session may be made for p here, and says so if
// not.
func (s *Server) mayStart(p *presentation) bool {
	d := s.says(p)
	why := d.NotHere
	if d.Most > 0 && why == "" {
		n := 0
		for _, row := range s.table.All() {
			if row.Token == p.token || p.user != "" && row.User == p.user {
				n++
			}
		}
		if n >= d.Most {
			why = "You have as many sessions as you may. End one of them first."
		}
	}
	if why == "" {
		return true
	}
	s.say(p.t, slog.LevelWarn, "no further session", "token", p.token, "reason", why)
	s.screen(p, greeter.Screen{Kind: greeter.Denied, Text: why})
	return false
}

// account is whose session is made for a token that needs no login here: that of
// whoever has logged in where the terminal was sent from; or its owner's
// where the card has proven itself, or where a rule says that it need not.
// Without either a token is a name that anybody may have copied.
func (s *Server) account(p *presentation, d policy.Decision) string {
	if p.sworn {
		return p.user
	}
	i := slices.IndexFunc(d.Grounds, func(g adminapi.Ground) bool { return g.Matter == "first" })
	if d.Owner != "" && (d.First.Proof != proof.None || i >= 0 && d.Grounds[i].Rule != "") {
		return d.Owner
	}
	return s.conf.User
}

// mayUse is what a session that is made for p may use; user is who has logged
// in, or is about to, and has no session otherwise.
func (s *Server) mayUse(p *presentation, user string) cgroup.Limits {
	return cgroup.Limits(s.judge(policy.Request{Token: p.req.Token(), Terminal: p.t.id, User: user}).Limits)
}

// owesLogin reports whether p's user has still to log in for a use; session is the
// one to be shown, "" for a new one.
func (s *Server) owesLogin(p *presentation, use proof.Use, session alp.SessionID) bool {
	if p.user != "" {
		return false
	}
	return s.isLocked(session) || s.says(p).Need(use).Login
}

func (s *Server) isLocked(id alp.SessionID) bool { _, locked := s.locks[id]; return locked }

// need is the proof that p's card owes for a use.
func (s *Server) need(p *presentation, use proof.Use) proof.Kind {
	return cmp.Or(s.says(p).Need(use).Proof, proof.None)
}

// locked makes a form that of a session's lock screen. It shows nothing of the
// session but whose it is.
func (s *Server) locked(v *visit, f *greeter.Form) {
	f.Title = "Locked"
	f.Notes = append([]greeter.Note{{Text: "The session of " + v.p.holder + "."}}, f.Notes[:min(len(f.Notes), greeter.MaxNotes-1)]...)
	f.Fields = []greeter.Field{{Label: "Password of " + v.p.holder, Secret: true, Optional: true, Max: client.MaxReply}}
	keyboard := s.choices(v)[0]
	f.Choices = []greeter.Choice{keyboard}
	f.Buttons = []string{"Unlock", "Cancel"}
}

// Lock hides a session from whoever does not log in as its user, from now on.
func (s *Server) Lock(ctx context.Context, id alp.SessionID) (was bool, err error) {
	if s.conf.Local {
		return false, ErrNoLogins
	}
	if _, _, err := s.keeperOf(ctx, id); err != nil {
		return false, err
	}
	err = s.query(ctx, func() { was = s.lock(id) })
	return was, err
}

// hide keeps a session from whoever does not log in, in this gateway's life and
// in that of the next: the keeper remembers it.
func (s *Server) hide(k *keeper) {
	s.locks[k.id] = struct{}{}
	k.untold = true
	s.tellLock(k)
}

// reveal is the end of that: somebody who may sees the session.
func (s *Server) reveal(k *keeper) {
	if !s.isLocked(k.id) {
		return
	}
	delete(s.locks, k.id)
	k.untold = true
	s.tellLock(k)
}

// tellLock tells the keeper whether its session is locked, if it has still to
// hear that. It hears one word at a time, so that the last one holds, however
// locks, offers and terminals follow each other meanwhile.
func (s *Server) tellLock(k *keeper) {
	if !k.untold || k.telling || k.client == nil {
		return // what is under way, or up, tells it
	}
	k.untold, k.telling = false, true
	tell, what := k.client.Unlock, "unlocked"
	if s.isLocked(k.id) {
		tell, what = k.client.Lock, "locked"
	}
	s.wg.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, KeeperWithin)
		defer cancel()
		err := tell(ctx)
		s.post(func() {
			k.telling = false
			if err != nil && k.client != nil && !k.ended { // else up tells the next one
				s.log.Warn("keeper does not remember that its session is "+what, "session", k.id, "err", err)
			}
			s.tellLock(k)
		})
	})
}

// lock does, and has the terminals that show it show the lock screen. It
// reports whether there was one.
func (s *Server) lock(id alp.SessionID) (was bool) {
	if s.keepers[id] == nil {
		return false
	}
	s.hide(s.keepers[id])
	s.log.Info("session locked", "session", id)
	for _, t := range s.terminals {
		if t.now != nil && (t.shown.session == id || t.now.wants == id) {
			was = true
			s.lockScreen(t, id)
		}
	}
	return was
}

// lockScreen takes a locked session off a terminal that shows it or is about to,
// and shows it there again to whoever logs in as its user.
func (s *Server) lockScreen(t *terminal, id alp.SessionID) {
	old := t.now
	r := old.req
	r.Redirect, r.Props, r.Connected, r.Session, r.Gen = false, "", false, "", 0
	s.clear(t)
	p := &presentation{t: t, req: r, token: old.token, module: old.module, begun: true}
	p.ctx, p.cancel = context.WithCancel(s.ctx)
	t.now = p
	s.attach(p, id)
}

// unlockLater: whoever is at the terminal does not log in as the session's
// user. Where there is no card that asks for it, another user may.
func (s *Server) unlockLater(p *presentation) bool {
	if p.holder == "" || !p.req.Token().Pseudo() || p.token.Pseudo() {
		return false
	}
	p.user = p.holder // who is asked to log in again
	return s.logInAgain(p.t, "")
}
