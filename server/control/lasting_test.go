package control_test

import (
	"strings"
	"testing"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/server/control"
	"hotdesk/server/session/cgroup"
	"hotdesk/server/session/client"
)

// A rule's limits go to the parent with the session, those of a user's groups
// with the login already.
func TestLimits(t *testing.T) {
	if least := (cgroup.Limits{Memory: adminapi.MinMemory << 20, Processes: adminapi.MinProcesses, CPUWeight: adminapi.MaxCPUWeight}); least.Check() != nil ||
		cgroup.MinMemory != adminapi.MinMemory<<20 || cgroup.MinProcesses != adminapi.MinProcesses || cgroup.MaxWeight != adminapi.MaxCPUWeight {
		t.Error("rules and control groups have other bounds")
	}
	run(t, ruled("user ann groups=staff", "policy a group=staff memory=512 processes=host", "policy b bare=login memory=128 processes=64 cpu-weight=50"), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		u.shown()
		v := r.dial(b)
		v.insert(bare(b))
		v.form().fill(0, nil, "ann", "pw")
		v.session()
		all := r.parent.Starts()
		if got, want := all[0].Limits, (cgroup.Limits{Memory: 128 << 20, Processes: 64, CPUWeight: 50}); got != want {
			t.Errorf("card.1: %+v, want %+v", got, want)
		}
		if got, want := all[1].Limits, (cgroup.Limits{Memory: 512 << 20, CPUWeight: 50}); got != want {
			t.Errorf("ann: %+v, want %+v", got, want)
		}
	})
}

// Who types again in time keeps the session, without its notice.
func TestIdleWarning(t *testing.T) {
	run(t, ruled("policy p idle=end:10m"), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		k := r.parent.Keeper(c.Session)
		if q := k.Offered(c.Gen).Quiet; q != (9 * time.Minute).Milliseconds() {
			t.Fatalf("media is to tell after %d ms", q)
		}
		k.Quiet(true)
		if n := u.notice(); !strings.Contains(n.Text, "about to be ended") || n.Seconds != 61 {
			t.Errorf("%+v", n)
		}
		r.pass(59 * time.Second)
		k.Quiet(false)
		if n := u.notice(); n.Text != "" {
			t.Errorf("%+v", n)
		}
		u.lives(time.Hour)
		if k.Ended() {
			t.Fatal("it ended, though somebody typed")
		}
		k.Quiet(true)
		u.notice()
		r.pass(61 * time.Second)
		if !k.Ended() {
			t.Error("it did not end")
		}
		if d, err := alp.ParseDiscInf(u.next(alp.CmdDiscInf)); err != nil || !strings.Contains(d.Cause, "nobody typed") {
			t.Errorf("%+v, %v", d, err)
		}
	})
}

func TestIdleLocks(t *testing.T) {
	run(t, ruled("policy p idle=lock:10s"), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		k := r.parent.Keeper(c.Session)
		k.Quiet(true)
		if n := u.notice(); !strings.Contains(n.Text, "locked") {
			t.Errorf("%+v", n)
		}
		r.pass(6 * time.Second)
		d := u.form()
		if f := d.form(); f.Title != "Locked" {
			t.Fatalf("%+v", f)
		}
		if k.Status().Terminal != "" {
			t.Error("it is still shown")
		}
		d.fill(0, nil, "pw")
		if again := u.session(); again.Session != c.Session {
			t.Error("another session")
		}
	})
}

func TestIdleDetaches(t *testing.T) {
	run(t, ruled("policy p idle=detach:10s"), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		k := r.parent.Keeper(c.Session)
		k.Quiet(true)
		u.notice()
		r.pass(6 * time.Second)
		if f := u.form().form(); f.Title != "Your session was left alone" {
			t.Errorf("%+v", f)
		}
		r.pass(time.Hour)
		if k.Status().Terminal != "" || k.Ended() {
			t.Error("it is still shown, or over")
		}
	})
	run(t, ruled("policy p bare=login", "policy q idle=detach:10s"), func(r *rig) { // the user's token follows the user
		u := r.dial(a)
		u.insert(bare(a))
		u.form().fill(0, nil, "ann", "pw")
		c := u.session()
		k := r.parent.Keeper(c.Session)
		k.Redeem(c.Gen)
		k.Quiet(true)
		u.notice()
		r.pass(6 * time.Second)
		if f := u.form().form(); len(f.Fields) == 0 {
			t.Errorf("not a login: %+v", f)
		}
	})
}

// A gateway that comes while a session is quiet does what is due.
func TestIdleFound(t *testing.T) {
	run(t, func(r *rig) {
		ruled("policy p idle=end:10s")(r)
		r.parent.Add(client.Status{Session: "00000000000000c1", Token: "card.1", User: "ann", Terminal: a, Gen: 3, Quiet: true})
	}, func(r *rig) {
		r.pass(6 * time.Second)
		if !r.parent.Keeper("00000000000000c1").Ended() {
			t.Error("it did not end")
		}
	})
}

// The time of a session that is shown nowhere begins when it is left, and the
// login screen's own is package login's.
func TestDisconnectedEnds(t *testing.T) {
	run(t, ruled("policy p disconnected=10m idle=lock:1m"), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		u.lives(time.Hour)
		k := r.parent.Keeper(c.Session)
		u.remove("card.1")
		r.pass(10*time.Minute - time.Second)
		if k.Ended() {
			t.Fatal("too soon")
		}
		r.pass(2 * time.Second)
		if !k.Ended() {
			t.Error("it did not end")
		}
	})
}

// A terminal whose key is registered is nobody without it. It is told why for
// a while, and however often it asks, so that somebody can read it.
func TestRegisteredKey(t *testing.T) {
	run(t, ruled("terminal "+string(a)+" key="+strings.Repeat("ab", 32)), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		if c := u.denied(); !strings.Contains(c.Cause, "another key") {
			t.Errorf("%+v", c)
		}
		for range control.MaxBadLines {
			u.send(u.identity().KeepAliveReq(false))
			u.next(alp.CmdKeepAliveCnf)
			u.insert("card.1")
			u.denied()
		}
		r.pass(control.GreetWithin - time.Millisecond)
		u.quiet()
		r.pass(time.Millisecond)
		u.hungUp()
		v := r.dial(b) // which nobody has registered
		v.insert("card.1")
		v.shown()
	})
}
