package control_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/server/control"
	"hotdesk/server/control/controltest"
	"hotdesk/server/session/client"
)

// TestGoesOn: the control connection is lost and comes back; so does the
// gateway itself.
func TestGoesOn(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		k := r.parent.Keeper(c.Session)
		u.nc.Close()
		time.Sleep(time.Hour)
		if st := k.Status(); st.Terminal != a {
			t.Fatal("the picture went with the control connection")
		}
		again := func(gen uint64) *unit {
			v := r.dial(a)
			q := v.request("card.1")
			q.Connected, q.Session, q.Gen = true, c.Session, gen
			v.send(q.Message())
			return v
		}
		v := again(c.Gen)
		if d := v.connInf(); !d.Allowed || d.Gen != c.Gen || d.Session != c.Session || len(d.Ticket) != 0 || k.Offers() != 1 {
			t.Errorf("%+v", d)
		}
		if len(k.Detached()) != 0 {
			t.Errorf("detached %v", k.Detached())
		}
		w := again(c.Gen + 5) // what it says is not so
		w.shown()
		v.hungUp()
		w.remove("card.1")
		synctest.Wait()
		if st := k.Status(); st.Terminal != "" {
			t.Error("the removal did nothing")
		}
	})
	run(t, func(r *rig) {
		r.parent.Add(client.Status{Session: "0123456789abcdef", Token: "card.1", Started: 1, Last: 2, Terminal: a, Gen: 7})
	}, func(r *rig) {
		u := r.dial(a)
		q := u.request("card.1")
		q.Connected, q.Session, q.Gen = true, "0123456789abcdef", 7
		u.send(q.Message())
		if d := u.connInf(); d.Gen != 7 || len(d.Ticket) != 0 {
			t.Errorf("%+v", d)
		}
		u.remove("card.1")
		synctest.Wait()
		if k := r.parent.Keeper("0123456789abcdef"); !slices.Equal(k.Detached(), []uint64{7}) {
			t.Errorf("detached %v", k.Detached())
		}
	})
}

// TestRemovedWhileAway: the card went while the gateway was not there to hear
// of it; the terminal's next insertion ends what is still shown.
func TestRemovedWhileAway(t *testing.T) {
	run(t, func(r *rig) {
		r.parent.Add(client.Status{Session: "0123456789abcdef", Token: "card.1", Terminal: a, Gen: 7})
	}, func(r *rig) {
		u := r.dial(a)
		u.insert("pseudo." + string(a))
		u.screen()
		if k := r.parent.Keeper("0123456789abcdef"); !slices.Equal(k.Detached(), []uint64{7}) {
			t.Errorf("detached %v", k.Detached())
		}
	})
}

func TestMediaRestarted(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		k := r.parent.Keeper(c.Session)
		for range 3 {
			k.RestartMedia()
			d := u.shown()
			if d.Gen <= c.Gen || d.Session != c.Session || d.TokenSeq != c.TokenSeq {
				t.Errorf("%+v after %+v", d, c)
			}
			c = d
		}
		u.remove("card.1")
		synctest.Wait()
		k.RestartMedia()
		u.quiet()
	})
}

func TestSessionEnds(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		r.parent.Keeper(c.Session).End("You have logged out.")
		d, err := alp.ParseDiscInf(u.next(alp.CmdDiscInf))
		if err != nil || d.Cause != "You have logged out." || d.TokenSeq != 1 {
			t.Errorf("%+v, %v", d, err)
		}
		if n := len(r.group.Reported().Sessions); n != 0 {
			t.Errorf("%d sessions reported", n)
		}
		u.send(u.identity().DiscRsp())
		u.insert("card.1")
		if e := u.shown(); e.Session == c.Session {
			t.Error("the old session came back")
		}
		r.starts(2)
	})
}

// An admin's end has its effect, and is no failure, also where word of it comes
// before the answer.
func TestSessionIsEnded(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		if err := r.srv.End(context.Background(), c.Session); err != nil {
			t.Error(err)
		}
		if _, err := alp.ParseDiscInf(u.next(alp.CmdDiscInf)); err != nil {
			t.Error(err)
		}
		if err := r.srv.End(context.Background(), c.Session); !errors.Is(err, control.ErrNoSession) {
			t.Errorf("got %v", err)
		}
	})
}

// A terminal that hears of its media's end before the session's asks for the
// session it had: it is told, and no other is made in silence.
func TestAskedForAfterItsEnd(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		r.parent.Keeper(c.Session).End("The X server of your session stopped.")
		u.next(alp.CmdDiscInf)
		again := u.request("card.1")
		again.Session, again.Gen = c.Session, c.Gen
		u.send(again.Message())
		if d := u.denied(); d.Cause != "The X server of your session stopped." {
			t.Errorf("denied because %q", d.Cause)
		}
		r.starts(1)
		u.remove("card.1")
		u.insert("card.1")
		u.shown()
		r.starts(2)
	})
}

// The keeper of a session that ends refuses to attach before word of the end
// is heard: the end decides what the terminal gets.
func TestRefusedAtItsEnd(t *testing.T) {
	const why = "The X server of your session stopped."
	begin := func(r *rig) (u *unit, c alp.ConnInf, k *controltest.Keeper) {
		u = r.dial(a)
		u.insert("card.1")
		c = u.shown()
		k = r.parent.Keeper(c.Session)
		k.SetRefuse(true)
		return u, c, k
	}
	t.Run("asked for", func(t *testing.T) {
		run(t, nil, func(r *rig) {
			u, c, k := begin(r)
			again := u.request("card.1")
			again.Session, again.Gen = c.Session, c.Gen
			u.send(again.Message())
			synctest.Wait()
			k.End(why)
			if d := u.denied(); d.Cause != why {
				t.Errorf("denied because %q", d.Cause)
			}
			r.starts(1)
		})
	})
	t.Run("inserted", func(t *testing.T) {
		run(t, nil, func(r *rig) {
			u, c, k := begin(r)
			u.remove("card.1")
			u.insert("card.1")
			synctest.Wait()
			k.End(why)
			if d := u.shown(); d.Session == c.Session {
				t.Errorf("%+v", d)
			}
			r.starts(2)
		})
	})
	t.Run("no end", func(t *testing.T) {
		run(t, nil, func(r *rig) {
			u, _, k := begin(r)
			u.remove("card.1")
			u.insert("card.1")
			time.Sleep(control.EndWithin)
			q := u.asked()
			if !strings.Contains(q.Screen.Text, "does not answer") || q.Screen.Answers[nothing] != "" { // none is made beside it
				t.Errorf("%+v", q.Screen)
			}
			r.pass(control.AskAgain + control.EndWithin) // it is tried again, in vain
			u.asked()
			k.SetRefuse(false)
			r.pass(control.AskAgain)
			u.shown()
			r.starts(1)
		})
	})
	// Media falls over with its X server, and is first to be missed.
	t.Run("media first", func(t *testing.T) {
		run(t, nil, func(r *rig) {
			u := r.dial(a)
			u.insert("card.1")
			k := r.parent.Keeper(u.shown().Session)
			k.SetHold(make(chan struct{}))
			k.RestartMedia()
			synctest.Wait()
			k.End(why)
			if d := u.denied(); d.Cause != why {
				t.Errorf("denied because %q", d.Cause)
			}
			r.starts(1)
		})
	})
}

func TestKeeperLost(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		k := r.parent.Keeper(c.Session)
		k.Cut() // the connection only: it is opened again
		u.quiet()
		u.remove("card.1")
		synctest.Wait()
		if got := k.Detached(); !slices.Equal(got, []uint64{c.Gen}) {
			t.Errorf("detached %v", got)
		}
		u.insert("card.1")
		u.shown()
		r.starts(1)
		k.Kill()
		if m := u.next(alp.CmdDiscInf); m.Get("cause") == "" {
			t.Errorf("%v", m)
		}
		u.insert("card.1")
		u.shown()
		r.starts(2)
	})
}

func TestStartFails(t *testing.T) {
	run(t, func(r *rig) { r.parent.Fail = errors.New("no X server") }, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		if c := u.denied(); !strings.Contains(c.Cause, "no X server") {
			t.Errorf("%+v", c)
		}
		if n := len(r.group.Reported().Sessions); n != 0 {
			t.Errorf("%d sessions reported", n)
		}
	})
}

// Where a start takes too long its user reads that, and not how the program says it.
func TestStartTakesTooLong(t *testing.T) {
	const why = "too much to do"
	held := func(r *rig) { r.parent.Hold = make(chan struct{}) }
	run(t, held, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		u.quiet()
		r.pass(control.StartWithin)
		if c := u.denied(); !strings.Contains(c.Cause, why) {
			t.Errorf("%+v", c)
		}
	})
	run(t, func(r *rig) {
		ruled("policy a bare=login")(r)
		held(r)
	}, func(r *rig) {
		u := r.dial(a)
		u.insert(bare(a))
		d := u.form()
		d.fill(0, nil, "ann", "pw")
		r.pass(control.StartWithin)
		d.says(why)
	})
}

// A session whose keeper does not answer when the gateway starts, or when its
// connection is lost, is found as soon as it does; one that has ended is not looked for
// any longer.
func TestStrays(t *testing.T) {
	const one, two = alp.SessionID("00000000000000a1"), alp.SessionID("00000000000000a2")
	var fails atomic.Bool
	var opens atomic.Int32
	fails.Store(true)
	run(t, func(r *rig) {
		for i, id := range []alp.SessionID{one, two} {
			r.parent.Add(client.Status{Session: id, Token: alp.Token(fmt.Sprint("card.", i+1)), Started: 1})
		}
		r.parent.FailOpen = func(alp.SessionID) error {
			opens.Add(1)
			if fails.Load() {
				return context.DeadlineExceeded
			}
			return nil
		}
	}, func(r *rig) {
		sees := func(want ...alp.SessionID) {
			t.Helper()
			synctest.Wait()
			var got []alp.SessionID
			for _, row := range r.group.Reported().Sessions {
				got = append(got, row.ID)
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("the group manager is told of %v, want %v", got, want)
			}
		}
		sees()
		r.pass(control.StrayAgain)
		sees()
		fails.Store(false)
		r.pass(control.StrayAgain)
		sees(one, two)
		u := r.dial(a)
		u.insert("card.1")
		if c := u.session(); c.Session != one {
			t.Errorf("%+v", c)
		}
		r.starts(0)

		fails.Store(true)
		r.parent.Keeper(two).Cut()
		sees(one)
		fails.Store(false)
		r.pass(control.StrayAgain)
		sees(one, two)
		r.parent.Keeper(two).Kill()
		r.pass(control.StrayAgain)
		sees(one)
		n := opens.Load()
		r.pass(3 * control.StrayAgain)
		if opens.Load() != n {
			t.Error("what was found, or has ended, is looked for")
		}
	})
}

// A keeper that says nothing for a while: the card has its session as soon as it
// answers, and is not taken out for that.
func TestKeeperSilent(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		k := r.parent.Keeper(u.shown().Session)
		u.remove("card.1")
		synctest.Wait()
		hold := make(chan struct{})
		k.SetHold(hold)
		u.insert("card.1")
		time.Sleep(control.KeeperWithin + control.EndWithin)
		u.asked()
		close(hold)
		r.pass(control.AskAgain) // nobody has done anything
		u.shown()
		r.starts(1)
	})
}

// A terminal whose media was lost has the session back that it showed, though
// another one of the token was shown later, at the terminal of another card.
func TestItsOwnSessionAgain(t *testing.T) {
	const first, second = alp.SessionID("00000000000000a1"), alp.SessionID("00000000000000a2")
	before := func(lines ...string) func(*rig) {
		return func(r *rig) {
			ruled(lines...)(r)
			r.parent.Add(client.Status{Session: first, Token: "card.1", User: "ann", Started: 1, Last: 1})
			r.parent.Add(client.Status{Session: second, Token: "card.3", User: "ann", Started: 2, Last: 2})
		}
	}
	comes := func(r *rig, token string) *unit {
		u := r.dial(a)
		q := u.request(token)
		q.Session = first
		u.send(q.Message())
		return u
	}
	run(t, func(r *rig) {
		before("token card.1 user=ann", "token card.2 alias=card.1")(r)
		r.parent.Add(client.Status{Session: second, Token: "card.1", User: "ann", Started: 2, Last: 2})
	}, func(r *rig) {
		v := r.dial(b)
		v.insert("card.2")
		if c := v.shown(); c.Session != second {
			t.Errorf("%+v", c)
		}
		u := comes(r, "card.1")
		if c := u.shown(); c.Session != first {
			t.Errorf("%+v", c)
		}
		u.quiet() // nothing has ended
		v.quiet()
	})
	// A card that was made an alias meanwhile has another's sessions, if any.
	run(t, before("token card.3 user=ann", "token card.1 alias=card.3"), func(r *rig) {
		u := comes(r, "card.1")
		if c := u.session(); c.Session != second {
			t.Errorf("%+v", c)
		}
		if n := u.notice(); !strings.Contains(n.Text, "runs on") || strings.Contains(n.Text, "ended") {
			t.Errorf("%+v", n)
		}
	})
	run(t, before("token card.4 user=ann", "token card.1 alias=card.4"), func(r *rig) {
		if c := comes(r, "card.1").denied(); !strings.Contains(c.Cause, "runs on") {
			t.Errorf("%+v", c)
		}
		r.starts(0)
	})
}
