package control

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"hotdesk/protocol/group/local"
	"hotdesk/server/greeter"
	"hotdesk/server/policy"
)

// Tokens that may not use this host, and may use others: they are sent to where
// they may be, before anybody logs in, and told the reason where there is no
// such host. Nothing of this host is shown to them, also not a session.

// sentAway is d where it is about such a token, else nil.
func sentAway(d policy.Decision) *policy.Decision {
	if d.Outcome == policy.Elsewhere {
		return &d
	}
	return nil
}

// lookAway asks where p may be.
func (s *Server) lookAway(p *presentation) {
	rests, lost := p.away.There == policy.InsertCard, p.req.Failed.IsValid() || p.req.Circle
	if p.lookups > MaxLookups || rests && lost || s.conf.Group.Away() != "" {
		s.noneElsewhere(p)
		return
	}
	want := local.Want("")
	switch {
	case rests:
		want = local.WantHost
	case p.away.There == policy.Login && p.token.Pseudo(): // the session will be whose it is
		want = local.WantPlace
	}
	ask := s.question(p, want)
	if rests {
		ask.Hosts = nil // they are for sessions
	}
	s.beside(p, func() (then, stale func()) {
		ctx, cancel := context.WithTimeout(p.ctx, PlaceWithin)
		defer cancel()
		a, err := s.conf.Group.Lookup(ctx, ask)
		return func() {
			if err != nil {
				s.say(p.t, slog.LevelWarn, "group manager has no answer", "token", p.token, "err", err)
				s.noneElsewhere(p)
				return
			}
			s.answer(p, a)
		}, nil
	})
}

// answerAway sends p where the group manager says, if that is another host. A
// session on this one, or on one that cannot be reached, is not told of: that
// somebody may have it has not been shown.
func (s *Server) answerAway(p *presentation, a local.Answer) {
	switch {
	case a.Where == local.There:
		s.redirect(p, a)
	case a.Where == local.Here && len(a.Others) > 0:
		s.goTo(p, a.Others[0])
	default:
		s.noneElsewhere(p)
	}
}

// awayAgain is how often another host is looked for, for a terminal that has
// nothing but that to wait for.
const awayAgain = 30 * time.Second

// noneElsewhere tells p why it has nothing.
func (s *Server) noneElsewhere(p *presentation) {
	d := *p.away
	if d.There == policy.InsertCard { // a card that is pushed in asks by itself
		time.AfterFunc(awayAgain, func() {
			s.post(func() {
				if p.current() && p.t.conn != nil && !p.t.busy {
					p.lookups, p.req.Failed, p.req.Circle = 0, netip.AddrPort{}, false
					s.lookAway(p)
				}
			})
		})
	}
	if p.barred {
		return
	}
	p.barred = true
	s.auditDenied(d, p.req.Token(), p.t.id, p.user)
	s.say(p.t, slog.LevelWarn, "token denied", "token", p.req.Token(), "user", p.user, "module", d.Module, "reason", d.Reason)
	s.screen(p, greeter.Screen{Kind: greeter.Denied, Text: d.Reason})
}
