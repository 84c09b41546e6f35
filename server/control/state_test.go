package control_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/greeter"
	"hotdesk/server/policy"
)

// others has the group manager find another host for who has no session.
func others(r *rig) {
	r.group.Answer = func(q local.Lookup) (local.Answer, error) {
		for _, s := range r.group.Reported().Sessions {
			if s.Token == q.Token && q.Want == "" {
				return local.Answer{Where: local.Here, Session: s.ID}, nil
			}
		}
		if r.state.Load() == local.Online {
			return local.Answer{Where: local.New}, nil
		}
		a := elsewhere
		a.Session = ""
		return a, nil
	}
}

// none has it find none.
func none(r *rig) {
	r.group.Answer = func(q local.Lookup) (local.Answer, error) {
		if r.state.Load() == local.Online {
			return local.Answer{Where: local.New}, nil
		}
		return local.Answer{Where: local.Refused, Reason: "every server that can be reached is offline"}, nil
	}
}

func (r *rig) set(state string, within time.Duration) {
	st := local.State{State: state}
	if r.state.Store(state); within > 0 {
		st.Deadline = time.Now().Add(within).Unix()
	}
	r.srv.SetState(st)
	synctest.Wait()
}

// TestOffline: sessions stay, who has none is sent on, and comes back to none
// of it when the host is online again.
func TestOffline(t *testing.T) {
	run(t, others, func(r *rig) {
		r.set(local.Online, 0)
		ua, ub := r.dial(a), r.dial(b)
		ua.insert("card.1")
		ua.shown()
		ub.insert("pseudo." + string(b))
		ub.screen()
		r.set(local.Offline, 0)
		ub.next(alp.CmdRedirectInf)
		ua.quiet()
		uc := r.dial("080020000003")
		uc.insert("pseudo.080020000003")
		uc.next(alp.CmdRedirectInf)
		q := uc.request("pseudo.080020000003")
		q.Failed = target // it was there
		uc.send(q.Message())
		if s := uc.screen().Screen; s.Kind != greeter.InsertCard {
			r.Errorf("%+v", s)
		}
		r.set(local.Online, 0)
		ua.quiet()
		ub.insert("pseudo." + string(b))
		ub.screen()
		r.starts(1)
	})
}

// TestOfflineLogin: login screens go too, before a password is typed.
func TestOfflineLogin(t *testing.T) {
	run(t, func(r *rig) { logins(policy.LoginBare)(r); others(r) }, func(r *rig) {
		r.set(local.Online, 0)
		u := r.dial(a)
		u.insert(bare(a))
		u.form()
		r.set(local.Offline, 0)
		u.next(alp.CmdRedirectInf)
		r.starts(0)
	})
	run(t, func(r *rig) { logins(policy.LoginAll)(r); others(r) }, func(r *rig) {
		r.set(local.Online, 0)
		u := r.dial(a)
		u.insert("card.1")
		u.form()
		r.set(local.Offline, 0)
		u.next(alp.CmdRedirectInf)
		r.starts(0)
	})
}

// TestDown: sessions end, those who had them are told and go on, and so does
// everybody else.
func TestDown(t *testing.T) {
	run(t, func(r *rig) { others(r); r.conf.Host = "south" }, func(r *rig) {
		r.set(local.Online, 0)
		ua, ub := r.dial(a), r.dial(b)
		ua.insert("card.1")
		ua.shown()
		ub.insert("pseudo." + string(b))
		ub.screen()
		r.set(local.Down, 0)
		ub.next(alp.CmdRedirectInf)
		if n := ua.notice(); n.Text != "Your session on south has ended: that server was taken out of service." {
			r.Errorf("%+v", n)
		}
		ua.next(alp.CmdRedirectInf)
		if n := len(r.group.Reported().Sessions); n != 0 {
			r.Errorf("%d sessions", n)
		}
		ua.insert("card.2")
		ua.next(alp.CmdRedirectInf)
		r.starts(1)
	})
}

// TestDownAlone: where there is no other host all are refused, with the reason.
func TestDownAlone(t *testing.T) {
	run(t, none, func(r *rig) {
		r.set(local.Online, 0)
		ua, ub := r.dial(a), r.dial(b)
		ua.insert("card.1")
		ua.shown()
		ub.insert("pseudo." + string(b))
		ub.screen()
		r.set(local.Down, 0)
		if s := ub.screen().Screen; s.Kind != greeter.Denied || !strings.Contains(s.Text, "out of service") {
			r.Errorf("%+v", s)
		}
		ua.notice()
		if s := ua.screen().Screen; s.Kind != greeter.Denied || s.Text != "Every server that can be reached is offline." {
			r.Errorf("%+v", s)
		}
		r.set(local.Online, 0)
		ua.insert("card.1")
		ua.shown()
		r.starts(2)
	})
}

// TestDrain: warnings come at their times, to those who are here then and to
// those who come, and the end comes at the deadline, whoever says so.
func TestDrain(t *testing.T) {
	run(t, others, func(r *rig) {
		r.set(local.Online, 0)
		ua := r.dial(a)
		ua.insert("card.1")
		ua.shown()
		r.set(local.Offline, 10*time.Minute)
		end := time.Now().Add(10 * time.Minute)
		ua.quiet()
		ua.lives(5*time.Minute - time.Second)
		r.pass(time.Second)
		want := "This server is taken out of service at " + end.Format("15:04:05") + ". Your session ends then: save your work."
		if n := ua.notice(); n.Text != want || n.Seconds == 0 {
			r.Errorf("%+v, want %q", n, want)
		}
		ub := r.dial(b)
		ub.insert("card.1") // moved
		ub.shown()
		ua.next(alp.CmdDiscInf)
		if n := ub.notice(); n.Text != want {
			r.Errorf("%+v", n)
		}
		ub.lives(4*time.Minute - time.Second)
		r.pass(time.Second)
		if n := ub.notice(); n.Text != want || n.Seconds != 0 {
			r.Errorf("%+v", n)
		}
		r.pass(time.Minute)
		ub.notice()
		ub.next(alp.CmdRedirectInf)
		r.set(local.Down, 0) // the group manager says so too
		ub.quiet()
	})
}

// TestDrainWithdrawn: late warnings come at once, and are taken back.
func TestDrainWithdrawn(t *testing.T) {
	run(t, others, func(r *rig) {
		r.set(local.Online, 0)
		u := r.dial(a)
		u.insert("card.1")
		u.shown()
		r.set(local.Offline, 30*time.Second)
		if n := u.notice(); n.Seconds != 0 || !strings.Contains(n.Text, "out of service at") {
			r.Errorf("%+v", n)
		}
		u.quiet()
		r.set(local.Online, 0)
		if n := u.notice(); !strings.Contains(n.Text, "stays in service") {
			r.Errorf("%+v", n)
		}
		r.pass(time.Hour)
		u.quiet()
	})
}
