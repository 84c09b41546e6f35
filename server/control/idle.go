package control

import (
	"time"

	"hotdesk/server/policy"
	"hotdesk/server/session/client"
)

// Sessions that are shown while nobody types. Media tells of quiet, a while
// before something is done about it: meanwhile a notice is on the screen.
// A session's user, whose process media is, can keep it from telling, as
// anybody can who moves the mouse by a program: this guards desks that were
// left, not against those who sit there.

// maxWarning is how long before its end, at most, a quiet session is warned.
const maxWarning = time.Minute

// quietAfter is when the warning comes, 0 for never.
func quietAfter(i policy.Idle) time.Duration { return i.After - warning(i) }

func warning(i policy.Idle) time.Duration { return min(i.After/2, maxWarning) }

// quiet: nothing was typed for quietAfter.
func (s *Server) quiet(k *keeper, c client.Change) {
	t, d := s.terminals[c.Terminal], s.limits(k).Idle
	if row, ok := s.table.Get(k.id); !ok || row.Terminal != c.Terminal || row.Gen != c.Gen || d.After == 0 {
		return
	}
	what := "locked"
	switch {
	case d.Detach:
		what = "taken off this screen"
	case d.End:
		what = "ended"
	}
	left := warning(d)
	if t != nil {
		s.tell(t, "Nobody is typing. Your session is about to be "+what+": press a key to keep it.", int(left/time.Second)+1)
	}
	s.log.Info("session is idle", "session", k.id, "token", k.token, "in", left.String())
	k.stirred()
	var timer *time.Timer
	made := make(chan struct{})
	timer = time.AfterFunc(left, func() {
		<-made
		s.post(func() {
			if k.idle == timer && !k.ended {
				k.idle = nil
				s.idled(k, c, d)
			}
		})
	})
	k.idle = timer
	close(made)
}

// stirred ends what quiet has begun.
func (k *keeper) stirred() bool {
	was := k.idle != nil
	if was {
		k.idle.Stop()
		k.idle = nil
	}
	return was
}

// stirs: somebody types again.
func (s *Server) stirs(k *keeper) {
	row, _ := s.table.Get(k.id)
	if t := s.terminals[row.Terminal]; k.stirred() && t != nil && t.now != nil {
		s.notice(t, "", 0)
	}
}

// idled does what the policy says of a session that nobody uses, where that is
// still shown.
func (s *Server) idled(k *keeper, c client.Change, d policy.Idle) {
	if row, ok := s.table.Get(k.id); !ok || row.Terminal != c.Terminal || row.Gen != c.Gen {
		return
	}
	s.log.Info("session is idle for too long", "session", k.id, "token", k.token, "after", d.After.String())
	switch t := s.terminals[c.Terminal]; {
	case d.End:
		k.epitaph = "Your session has ended: nobody typed for too long."
		s.stop(k, nil) // a keeper that is away says, once it is back, that it is quiet
	case d.Lock:
		s.lock(k.id)
		s.detach(k.id, c.Gen) // of a terminal that cannot be told too
	case t != nil && t.shown == (attachment{k.id, c.Gen}) && t.now != nil:
		k.left = true
		s.leaveDesk(t, "Your session was left alone")
	default:
		s.detach(k.id, c.Gen)
	}
}
