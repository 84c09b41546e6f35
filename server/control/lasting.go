package control

import (
	"log/slog"
	"strings"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/native"
	"hotdesk/server/policy"
	"hotdesk/server/sessions"
)

// What becomes of sessions that nobody sees: the policy of the token that was
// presented last says when they lock, and when they end.

// limits is what the policy says of a session.
func (s *Server) limits(k *keeper) policy.Decision {
	row, _ := s.table.Get(k.id)
	r := policy.Request{Token: k.presented, Terminal: k.at, User: k.user}
	if r.Token == "" { // found running: who presented what is not known any more
		r.Token, r.User = row.Token, row.User
		if !strings.HasPrefix(string(row.Token), "user.") {
			r.User = "" // the account of the session need not be its user's
		}
	}
	return s.judge(r)
}

// shown notes who sees a session.
func (k *keeper) shown(p *presentation) {
	k.presented, k.at, k.user, k.pulled, k.left = p.req.Token(), p.t.id, p.user, false, false
	k.last(nil)
}

// last sets the timer of the session's end.
func (k *keeper) last(t *time.Timer) {
	if k.end != nil {
		k.end.Stop()
	}
	k.end = t
}

// pulled is the removal of the card of a terminal that shows a session. It
// counts at once: the card may be back before the keeper says that the
// attachment is over.
func (s *Server) pulled(t *terminal) {
	if k := s.keepers[t.shown.session]; k != nil {
		k.pulled = true
		s.unseen(k)
	}
}

// unseen: nobody sees the session any more, however that came. A terminal that
// has lost its network, or its power, is no card that was pulled.
func (s *Server) unseen(k *keeper) {
	d := s.limits(k)
	if d.Removal.Lock && (!k.left || k.pulled) {
		s.hide(k)
	}
	after, ends, why := d.Disconnected, d.Disconnected > 0, "Your session has ended: it was shown nowhere for too long."
	if d.Removal.End && k.pulled && (!ends || d.Removal.After < after) {
		after, ends, why = d.Removal.After, true, "Your session has ended, as its card was taken out."
	}
	if !ends {
		k.last(nil)
		return
	}
	s.log.Info("session is to end", "session", k.id, "token", k.token, "in", after.String())
	k.last(s.endAfter(k, after, why))
}

// endAfter ends a session that is not seen meanwhile.
func (s *Server) endAfter(k *keeper, after time.Duration, why string) *time.Timer {
	var t *time.Timer
	made := make(chan struct{})
	t = time.AfterFunc(after, func() {
		<-made
		s.post(func() {
			if k.ended || k.end != t {
				return
			}
			if row, ok := s.table.Get(k.id); ok && row.State == sessions.Connected {
				k.last(nil)
				return
			}
			s.log.Log(s.ctx, slog.LevelInfo, "session ends by policy", "session", k.id, "token", k.token, "reason", why)
			k.epitaph = why
			s.stop(k, nil)
			k.end = s.endAfter(k, endAgain, why) // a keeper that was away may be back
		})
	})
	close(made)
	return t
}

// endAgain is how long a session may take to end before it is told so again.
const endAgain = time.Minute

// offered: somebody who may see the session is about to. Whoever does not come
// in time does not see it.
func (s *Server) offered(p *presentation, id alp.SessionID) {
	k := s.keepers[id]
	if k == nil {
		return
	}
	k.shown(p)
	time.AfterFunc(native.TicketLife+time.Second, func() {
		s.post(func() {
			if row, ok := s.table.Get(id); ok && !k.ended && k.end == nil && row.State != sessions.Connected {
				s.unseen(k)
			}
		})
	})
}
