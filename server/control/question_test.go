package control_test

import (
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/control"
	"hotdesk/server/greeter"
)

// Answers to a question, as they stand on the screen.
const (
	again = iota
	here
	nothing
)

var (
	target    = netip.MustParseAddrPort("127.0.0.3:7443")
	elsewhere = local.Answer{Where: local.There, Session: "0123456789abcdef", Host: "north", Target: target, Props: "p=1"}
	far       = local.Answer{Where: local.Unreachable, Session: "0123456789abcdef", Host: "north", Reason: "your session runs on north, whose server is not running: wait a moment, then try again"}
)

// choose answers a question.
func (u *unit) choose(q greeter.Request, n int) {
	u.r.Helper()
	q.Chose(u.r.screens.Last(), n)
	synctest.Wait()
}

// answers gives the group manager's answers: to lookups of where a session is,
// and to those that want a new one.
func answers(r *rig, is func() local.Answer, fresh local.Answer) {
	r.group.Answer = func(q local.Lookup) (local.Answer, error) {
		if q.Want == local.WantNew {
			return fresh, nil
		}
		return is(), nil
	}
}

// TestQuestion: each choice of a user whose session cannot be reached.
func TestQuestion(t *testing.T) {
	ask := func(t *testing.T, fresh local.Answer, f func(*rig, *unit, greeter.Request)) {
		run(t, func(r *rig) { answers(r, func() local.Answer { return far }, fresh) }, func(r *rig) {
			u := r.dial(a)
			u.insert("card.1")
			q := u.asked()
			if want := "Your session runs on north, whose server is not running: wait a moment, then try again."; q.Screen.Text != want {
				r.Errorf("it says %q", q.Screen.Text)
			}
			f(r, u, q)
		})
	}
	yes := local.Answer{Where: local.New}
	t.Run("try again", func(t *testing.T) {
		ask(t, yes, func(r *rig, u *unit, q greeter.Request) {
			u.choose(q, again)
			u.asked()
			r.starts(0)
		})
	})
	t.Run("a session here", func(t *testing.T) {
		ask(t, yes, func(r *rig, u *unit, q greeter.Request) {
			u.choose(q, here)
			u.shown()
			r.starts(1)
			q.Chose(1, here) // the screen is no more
			u.quiet()
			r.starts(1)
		})
	})
	t.Run("none is taken", func(t *testing.T) {
		ask(t, local.Answer{Where: local.Refused, Reason: "full"}, func(r *rig, u *unit, q greeter.Request) {
			u.choose(q, here)
			if q := u.asked(); q.Screen.Text != "Full." {
				r.Errorf("it says %q", q.Screen.Text)
			}
			r.starts(0)
		})
	})
	t.Run("give up", func(t *testing.T) {
		ask(t, yes, func(r *rig, u *unit, q greeter.Request) {
			u.choose(q, nothing)
			if s := u.screen().Screen; s.Kind != greeter.Denied || s.Text != q.Screen.Text {
				r.Errorf("%+v", s)
			}
			r.pass(time.Minute)
			u.quiet()
			r.starts(0)
		})
	})
	t.Run("card out", func(t *testing.T) {
		ask(t, yes, func(r *rig, u *unit, q greeter.Request) {
			u.remove("card.1")
			synctest.Wait() // the choice comes after it
			u.choose(q, here)
			r.pass(time.Minute)
			u.quiet()
			r.starts(0)
		})
	})
	t.Run("nobody answers", func(t *testing.T) {
		ask(t, yes, func(r *rig, u *unit, _ greeter.Request) {
			u.lives(10 * time.Minute)
			r.starts(0)
			if n := r.group.Lookups(); n != 1+control.MaxAskAgain {
				r.Errorf("%d lookups", n)
			}
		})
	})
}

// TestQuestionByItself: the way to the session comes back while the question is
// on the screen.
func TestQuestionByItself(t *testing.T) {
	var now atomic.Pointer[local.Answer]
	now.Store(&far)
	run(t, func(r *rig) { answers(r, func() local.Answer { return *now.Load() }, local.Answer{Where: local.New}) }, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		u.asked()
		r.pass(control.AskAgain)
		u.quiet()
		now.Store(&local.Answer{Where: local.New}) // the host is gone: that is for the user to say
		r.pass(control.AskAgain)
		u.quiet()
		now.Store(&elsewhere)
		r.pass(control.AskAgain)
		u.next(alp.CmdRedirectInf)
		r.starts(0)
	})
}

// TestRedirectFailed: a terminal that comes back from a redirect is not sent
// the same way unasked.
func TestRedirectFailed(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*alp.InfoReq)
		says   string
	}{
		"no answer": {func(q *alp.InfoReq) { q.Failed = target }, "north, and that server does not answer"},
		"a circle":  {func(q *alp.InfoReq) { q.Circle = true }, "do not agree"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(r *rig) { answers(r, func() local.Answer { return elsewhere }, local.Answer{Where: local.New}) }, func(r *rig) {
				u := r.dial(a)
				q := u.request("card.1")
				tc.change(&q)
				u.send(q.Message())
				s := u.asked()
				if !strings.Contains(s.Screen.Text, tc.says) {
					r.Errorf("it says %q", s.Screen.Text)
				}
				r.pass(time.Minute)
				u.quiet()
				u.choose(s, again)
				u.next(alp.CmdRedirectInf) // now it was asked for
				r.starts(0)
			})
		})
	}
	t.Run("another server has it", func(t *testing.T) {
		run(t, func(r *rig) { answers(r, func() local.Answer { return elsewhere }, local.Answer{}) }, func(r *rig) {
			u := r.dial(a)
			q := u.request("card.1")
			q.Failed = netip.MustParseAddrPort("127.0.0.4:7443")
			u.send(q.Message())
			u.next(alp.CmdRedirectInf)
		})
	})
}

// TestLost: the user of a new session hears of the one that died with its host,
// and of no other.
func TestLost(t *testing.T) {
	lost := alp.Lost{Session: "0123456789abcdef", Host: "north", Ago: 90 * time.Second}
	run(t, func(r *rig) { r.conf.Host = "south" }, func(r *rig) {
		u := r.dial(a)
		q := u.request("card.1")
		q.Lost = lost
		u.send(q.Message())
		if c := u.shown(); c.Host != "south" {
			r.Errorf("the host is %q", c.Host)
		}
		at := time.Now().Add(-lost.Ago).Format("15:04")
		if n := u.notice(); n.Text != "Your earlier session on north was lost: that server stopped answering at "+at+". This one is new." || n.Seconds == 0 {
			r.Errorf("%+v", n)
		}
		u.quiet()
		u.remove("card.1")
		ub := r.dial(b)
		q = ub.request("card.1") // it was found
		q.Lost = lost
		ub.send(q.Message())
		ub.shown()
		ub.quiet()
	})
}

// notice is the next notice.
func (u *unit) notice() alp.NoticeInf {
	u.r.Helper()
	n, err := alp.ParseNoticeInf(u.next(alp.CmdNoticeInf))
	if err != nil || n.TokenSeq != u.seq {
		u.r.Fatalf("%+v, %v", n, err)
	}
	return n
}

// lives passes time in which the terminal says that it is there, and nothing
// else happens.
func (u *unit) lives(d time.Duration) {
	u.r.Helper()
	for ; d > 0; d -= 20 * time.Second {
		u.send(u.identity().KeepAliveReq(true))
		u.next(alp.CmdKeepAliveCnf)
		u.r.pass(min(d, 20*time.Second))
	}
}
