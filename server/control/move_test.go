package control_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/greeter"
)

func TestCardMoves(t *testing.T) {
	run(t, nil, func(r *rig) {
		ua, ub := r.dial(a), r.dial(b)
		ua.insert("pseudo." + string(a))
		if s := ua.screen(); s.Screen.Kind != greeter.InsertCard || s.Terminal != a || s.Width != 1280 || s.Addr != netip.MustParseAddr("127.0.0.9") {
			t.Errorf("screen %+v", s)
		}
		ua.remove("pseudo." + string(a))
		ua.insert("card.1")
		c := ua.shown()
		if got := r.screens.Hidden(); !slices.Equal(got, []uint64{1}) {
			t.Errorf("hidden screens %v", got)
		}
		k := r.parent.Keeper(c.Session)
		if at := k.Offered(c.Gen); at.Terminal != a || at.Width != 1280 || at.Layout != "de" {
			t.Errorf("attach %+v", at)
		}
		if st := r.parent.Starts()[0]; st.Token != "card.1" || st.Session != c.Session || st.Width != 1280 || st.Layout != "de" {
			t.Errorf("start %+v", st)
		}
		synctest.Wait()
		if rep := r.group.Reported().Sessions; len(rep) != 1 || !rep[0].Connected || rep[0].ID != c.Session {
			t.Errorf("report %+v", rep)
		}
		ua.remove("card.1")
		ua.insert("pseudo." + string(a))
		ua.screen()
		if got := k.Detached(); !slices.Equal(got, []uint64{c.Gen}) {
			t.Errorf("detached %v", got)
		}
		if rep := r.group.Reported().Sessions; len(rep) != 1 || rep[0].Connected {
			t.Errorf("report %+v", rep)
		}
		ub.insert("card.1")
		if d := ub.shown(); d.Session != c.Session || d.Gen <= c.Gen {
			t.Errorf("at b %+v, was %+v", d, c)
		}
		r.starts(1)
		ua.quiet()
	})
}

// TestTakenAway: the older terminal is told when the newer one has it.
func TestTakenAway(t *testing.T) {
	run(t, nil, func(r *rig) {
		ua, ub := r.dial(a), r.dial(b)
		ua.insert("card.1")
		ua.shown()
		ub.insert("card.1")
		c := ub.connInf()
		ua.quiet()
		r.parent.Keeper(c.Session).Redeem(c.Gen)
		d, err := alp.ParseDiscInf(ua.next(alp.CmdDiscInf))
		if err != nil || d.TokenSeq != 1 || d.Cause != "Your session is shown at another terminal." || d.OSD == 0 {
			t.Errorf("discInf %+v, %v", d, err)
		}
		ua.remove("card.1") // what it does not have it cannot end
		synctest.Wait()
		if st := r.parent.Keeper(c.Session).Status(); st.Terminal != b {
			t.Errorf("shown at %q", st.Terminal)
		}
	})
}

// TestRemovalOvertakes: a removal ends what was under way, wherever it is.
func TestRemovalOvertakes(t *testing.T) {
	t.Run("start", func(t *testing.T) {
		run(t, func(r *rig) { r.parent.Hold = make(chan struct{}) }, func(r *rig) {
			u := r.dial(a)
			u.insert("card.1")
			synctest.Wait()
			u.remove("card.1")
			synctest.Wait()
			r.parent.Hold <- struct{}{}
			u.quiet()
			id := r.parent.Starts()[0].Session
			if n := r.parent.Keeper(id).Offers(); n != 0 {
				t.Errorf("%d offers", n)
			}
		})
	})
	t.Run("attach", func(t *testing.T) {
		run(t, nil, func(r *rig) {
			u := r.dial(a)
			u.insert("card.1")
			k := r.parent.Keeper(u.shown().Session)
			u.remove("card.1")
			synctest.Wait()
			hold := make(chan struct{})
			k.SetHold(hold)
			u.insert("card.1")
			synctest.Wait()
			u.remove("card.1")
			synctest.Wait()
			k.SetHold(nil)
			hold <- struct{}{}
			u.quiet()
			if got := k.Detached(); !slices.Equal(got, []uint64{1, 2}) {
				t.Errorf("detached %v, want the late offer too", got)
			}
		})
	})
	t.Run("lookup", func(t *testing.T) {
		run(t, func(r *rig) { r.group.SetAway("away") }, func(r *rig) {
			u := r.dial(a)
			u.insert("card.1")
			synctest.Wait()
			u.remove("card.1")
			synctest.Wait()
			r.group.SetAway("")
			u.quiet()
			r.starts(0)
		})
	})
}

// TestStorm: in, out, in, ... faster than anything is done: the last one
// counts, and nothing of the others stays.
func TestStorm(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		for range 200 {
			u.insert("card.1")
			u.remove("card.1")
		}
		u.insert("card.1")
		time.Sleep(time.Minute)
		synctest.Wait()
		var last alp.ConnInf
		for n := len(u.msgs); n > 0; n-- {
			last, _ = alp.ParseConnInf(<-u.msgs)
		}
		if last.TokenSeq != u.seq || !last.Allowed {
			t.Fatalf("the last answer is %+v, want one for %d", last, u.seq)
		}
		r.starts(1)
		k := r.parent.Keeper(last.Session)
		if !k.Redeem(last.Gen) {
			t.Fatal("the last offer is void")
		}
		for gen := uint64(1); gen < last.Gen; gen++ {
			if !slices.Contains(k.Detached(), gen) {
				t.Errorf("offer %d was not ended", gen)
			}
		}
		u.remove("card.1")
		synctest.Wait()
		if st := k.Status(); st.Terminal != "" {
			t.Errorf("after the last removal it is shown at %s", st.Terminal)
		}
	})
}

// TestTwoAtOnce: the same token at two terminals makes one session.
func TestTwoAtOnce(t *testing.T) {
	run(t, func(r *rig) {
		r.parent.Hold = make(chan struct{})
		r.group.Answer = func(local.Lookup) (local.Answer, error) { return local.Answer{Where: local.New}, nil }
	}, func(r *rig) {
		ua, ub := r.dial(a), r.dial(b)
		ua.insert("card.1")
		ub.insert("card.1")
		synctest.Wait()
		r.parent.Hold <- struct{}{}
		ca, cb := ua.connInf(), ub.connInf()
		if ca.Session != cb.Session || ca.Gen == cb.Gen {
			t.Errorf("%+v and %+v", ca, cb)
		}
		r.starts(1)
	})
}

func TestDenied(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		u.insert("user.root")
		if s := u.screen().Screen; s.Kind != greeter.Denied || s.Text == "" {
			t.Errorf("%+v", s)
		}
		u.insert("pseudo." + string(b))
		if s := u.screen().Screen; s.Kind != greeter.Denied {
			t.Errorf("%+v", s)
		}
		r.screens.Fail = errors.New("full")
		u.insert("pseudo." + string(a))
		u.denied()
		r.starts(0)
	})
}
