package control

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/greeter"
)

// Warnings are how long before the end of a drain those who have sessions here
// are told, where the configuration says nothing else.
var Warnings = []time.Duration{5 * time.Minute, time.Minute}

const (
	// maxStopping bounds the sessions that are being ended at the same time.
	maxStopping = 4
	// readFor is how long a notice stays, seconds.
	readFor = 60
)

// A service is what an admin wants of this host. All of it is the owner's.
type service struct {
	state  local.State
	timers []*time.Timer
	told   string // what those who have sessions here are told, and those who come
	down   bool   // sessions end; whoever comes is sent on, or refused
}

// SetState takes an admin's word: online, offline (no new sessions, whoever has
// none is sent on), down (sessions are ended too), or offline until a deadline
// and then down. Serve must run; nothing here is waited for.
func (s *Server) SetState(st local.State) { s.post(func() { s.setState(st) }) }

// closed reports whether this host takes no new sessions.
func (s *Server) closed() bool {
	return s.service.state.State == local.Offline || s.service.state.State == local.Down || s.service.down
}

func (s *Server) setState(st local.State) {
	v := &s.service
	was := *v
	if st.State == v.state.State && st.Deadline == v.state.Deadline || st.State == "" {
		return
	}
	for _, t := range v.timers {
		t.Stop()
	}
	*v = service{state: st, down: st.State == local.Down}
	switch {
	case v.down && was.down:
	case v.down:
		s.takeDown()
	case st.State == local.Offline && st.Deadline != 0:
		s.drain(time.Unix(st.Deadline, 0))
		s.sendOn()
	case st.State == local.Offline:
		s.sendOn()
	}
	if was.told != "" && v.told == "" && !v.down {
		s.tellAll("This server stays in service: your session goes on.", readFor)
	}
}

// drain plans what is told before the end, and the end, which comes also
// without a group manager.
func (s *Server) drain(end time.Time) {
	v := &s.service
	left := time.Until(end)
	warnings := slices.Clone(s.conf.Warnings)
	slices.Sort(warnings)
	text := fmt.Sprintf("This server is taken out of service at %s. Your session ends then: save your work.", end.Format("15:04:05"))
	now := false
	for i, w := range warnings {
		say := func() {
			v.told = text
			s.tellAll(text, seconds(i, readFor))
		}
		if left <= w { // late: what the latest of them says is said now
			if !now {
				say()
				now = true
			}
			continue
		}
		v.timers = append(v.timers, s.later(left-w, say))
	}
	v.timers = append(v.timers, s.later(left, func() { s.setState(local.State{State: local.Down}) }))
}

// seconds is how long warning i from the last stays: the last until the end.
func seconds(i, n int) int {
	if i == 0 {
		return 0
	}
	return n
}

// later runs an event after d.
func (s *Server) later(d time.Duration, f func()) *time.Timer {
	var t *time.Timer
	made := make(chan struct{})
	t = time.AfterFunc(d, func() {
		<-made
		s.post(func() {
			if slices.Contains(s.service.timers, t) {
				f()
			}
		})
	})
	close(made)
	return t
}

// tellAll has something read by everybody who has a session here.
func (s *Server) tellAll(text string, seconds int) {
	for _, t := range s.terminals {
		if t.shown.session != "" {
			s.tell(t, text, seconds)
		}
	}
}

// tell has a terminal's user read something over the picture.
func (s *Server) tell(t *terminal, what string, seconds int) {
	if t.now == nil || what == "" {
		return
	}
	s.say(t, slog.LevelInfo, "told", "token", t.now.token, "text", what)
	s.notice(t, what, seconds)
}

// notice puts a text over the picture of a terminal that has one.
func (s *Server) notice(t *terminal, what string, seconds int) {
	s.send(t.conn, alp.NoticeInf{TokenSeq: t.now.req.TokenSeq, Seconds: seconds, Text: text(what)}.Message())
}

// takeDown ends every session, a few at a time. Their users, and whoever else
// is here, go on to other hosts.
func (s *Server) takeDown() {
	places := make(chan struct{}, maxStopping)
	for _, k := range s.keepers {
		s.stop(k, places)
	}
	s.sendOn()
}

// stop ends a session. One that is still starting ends when it has.
func (s *Server) stop(k *keeper, places chan struct{}) {
	c := k.client
	if c == nil {
		return // up asks again
	}
	s.wg.Go(func() {
		if places != nil {
			places <- struct{}{}
			defer func() { <-places }()
		}
		ctx, cancel := context.WithTimeout(s.ctx, KeeperWithin)
		defer cancel()
		if err := s.stopSession(ctx, k.id, c); err != nil && s.ctx.Err() == nil {
			s.log.Warn("session cannot be ended", "session", k.id, "err", err)
		}
	})
}

// outOfService is why a session here has ended.
func (s *Server) outOfService() string {
	host := s.conf.Host
	if host == "" {
		host = "this server"
	}
	return fmt.Sprintf("Your session on %s has ended: that server was taken out of service.", host)
}

// bereave tells a terminal that its session has ended. From a host that is
// down it goes on to another.
func (s *Server) bereave(t *terminal, reason string) {
	if !s.service.down || t.now == nil {
		s.takeAway(t, reason, osdNoSession)
		return
	}
	s.tell(t, reason, readFor)
	s.anew(t)
}

// anew presents the terminal's token once more, as if it had just come.
func (s *Server) anew(t *terminal) {
	old := t.now
	r := old.req
	r.Redirect, r.Props, r.Connected, r.Session, r.Gen = false, "", false, "", 0
	s.clear(t)
	p := &presentation{t: t, req: r, token: old.token, module: old.module, away: old.away}
	if old.needsLogin || old.user != "" { // another host's modules have not seen the user
		p.needsLogin = true
		if r.Token().Pseudo() {
			p.token = r.Token()
		}
	}
	p.ctx, p.cancel = context.WithCancel(s.ctx)
	t.now = p
	if old.resting != nil {
		s.rest(p, *old.resting)
		return
	}
	s.kick(t)
}

// sendOn has those who have no session here go to other hosts: all from one
// that is down, else those who wait for a card.
func (s *Server) sendOn() {
	for _, t := range s.terminals {
		switch {
		case t.now == nil || t.conn == nil || t.busy || t.shown.session != "":
		case t.now.resting != nil || s.service.down || t.now.visit != nil && !t.now.visit.works:
			s.anew(t)
		}
	}
}

// rest shows a screen that asks for a card, or the like: on another host if
// this one is on its way out of service and another can be reached.
func (s *Server) rest(p *presentation, what greeter.Screen) {
	p.resting = &what
	s.elsewhere(p, func() { s.screen(p, s.honest(what)) })
}

// elsewhere sends a terminal that has no session away from a host that is on its
// way out of service. Where it can stay, or must, stay is run. Only a bare
// terminal is sent: a redirect vouches for what a card or a user has proven.
func (s *Server) elsewhere(p *presentation, stay func()) {
	p.begun = true
	if !s.closed() || !p.token.Pseudo() || p.req.Failed.IsValid() || s.conf.Group.Away() != "" {
		stay()
		return
	}
	if p.t.busy {
		p.begun = false // kick comes back to it
		return
	}
	ask := s.question(p, local.WantHost)
	if p.resting != nil {
		ask.Hosts = nil // they are for sessions, and who waits for a card has none
	}
	s.beside(p, func() (then, stale func()) {
		ctx, cancel := context.WithTimeout(p.ctx, GroupWithin)
		defer cancel()
		a, err := s.conf.Group.Lookup(ctx, ask)
		return func() {
			if err == nil && a.Where == local.There {
				s.redirect(p, a)
				return
			}
			stay()
		}, nil
	})
}

// honest is what a screen says on a host that is down: to put a card in would
// be in vain.
func (s *Server) honest(what greeter.Screen) greeter.Screen {
	if !s.service.down || what.Kind != greeter.InsertCard {
		return what
	}
	return greeter.Screen{Kind: greeter.Denied, Text: "This server has been taken out of service, and no other can be reached from here. Tell your administrator."}
}
