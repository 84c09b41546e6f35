package control_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/control"
	"hotdesk/server/greeter"
	"hotdesk/server/session/client"
)

const (
	ours   = alp.SessionID("00000000000000a1")
	newer  = alp.SessionID("00000000000000b1")
	older  = alp.SessionID("00000000000000b2")
	onEast = alp.SessionID("00000000000000c1")
)

// scattered is a card's sessions: one of an hour ago here, on north, two newer and
// an older one elsewhere. A chosen one is gone to.
func scattered(q local.Lookup) local.Answer {
	to := south
	switch q.Want {
	case local.WantSession:
		to.Session, to.Host = q.Session, q.Host
		return to
	case "":
		to.Session = newer
		ago := func(d time.Duration) int64 { return time.Now().Add(-d).UnixMilli() }
		to.Others = []local.Elsewhere{
			{Host: "south", Session: newer, Connected: true, Last: ago(time.Minute)},
			{Host: "east", Session: onEast, Last: ago(2 * time.Minute)},
			{Host: "south", Session: older, Last: ago(48 * time.Hour)},
		}
		return to
	}
	return local.Answer{Where: local.Refused, Reason: "not asked for"}
}

func withOurs(before func(*rig)) func(*rig) {
	return func(r *rig) {
		before(r)
		r.parent.Add(client.Status{Session: ours, Token: "card.1", User: "ann", Started: 1, Last: time.Now().Add(-time.Hour).UnixMilli()})
	}
}

// The switcher lists the group's sessions, and the chosen one is gone to, not
// the latest.
func TestSwitchInTheGroup(t *testing.T) {
	list := func(t *testing.T, f greeter.Form) {
		t.Helper()
		if len(f.Choices) != 1 || len(f.Choices[0].Options) != 4 {
			t.Fatalf("%+v", f)
		}
		for i, want := range []string{"shown since | on south", "last used | on east", "last used | ", "last used | on south"} {
			what, where, _ := strings.Cut(want, " | ")
			if o := f.Choices[0].Options[i]; !strings.Contains(o.Text, what) || !strings.HasSuffix(o.Text, where) || where == "" && strings.Contains(o.Text, " on ") {
				t.Errorf("row %d is %q, want %s", i, o.Text, want)
			}
		}
	}
	pick := func(f greeter.Form, n int) []string { return []string{f.Choices[0].Options[n].Value} }
	last := func(q []local.Lookup) local.Lookup { return q[len(q)-1] }

	before, asked := onNorth(scattered, "policy p choose=yes")
	t.Run("another host's older one", func(t *testing.T) {
		run(t, withOurs(before), func(r *rig) {
			u := r.dial(a)
			u.insert("card.1")
			d := u.form()
			list(t, d.form())
			d.fill(0, pick(d.form(), 3))
			u.next(alp.CmdRedirectInf)
			if q := last(asked()); q.Want != local.WantSession || q.Session != older || q.Host != "south" {
				t.Errorf("%+v", q)
			}
			r.starts(0)
		})
	})
	t.Run("ours", func(t *testing.T) {
		run(t, withOurs(before), func(r *rig) {
			u := r.dial(a)
			u.insert("card.1")
			d := u.form()
			d.fill(0, pick(d.form(), 2))
			if c := u.shown(); c.Session != ours {
				t.Errorf("%+v", c)
			}
			// By hot key the same list, and back.
			synctest.Wait() // the gateway knows that it is shown
			u.wish(alp.WishSwitch)
			d = u.form()
			if f := d.form(); len(f.Choices[0].Options) != 4 || f.Choices[0].Options[0].Value != string(ours) {
				t.Errorf("%+v", f)
			}
			d.fill(2, nil)
			if c := u.shown(); c.Session != ours {
				t.Errorf("%+v", c)
			}
			synctest.Wait() // the gateway knows that it is shown
			u.wish(alp.WishSwitch)
			d = u.form()
			for _, o := range d.form().Choices[0].Options {
				if strings.HasSuffix(o.Text, "on east") {
					d.fill(0, []string{o.Value})
				}
			}
			u.next(alp.CmdRedirectInf)
			if q := last(asked()); q.Session != onEast || q.Host != "east" {
				t.Errorf("%+v", q)
			}
		})
	})
	t.Run("none", func(t *testing.T) {
		run(t, withOurs(before), func(r *rig) {
			u := r.dial(a)
			u.insert("card.1")
			u.form().fill(2, nil)
			u.next(alp.CmdRedirectInf)
			if q := last(asked()); q.Want != "" {
				t.Errorf("%+v", q)
			}
		})
	})
	t.Run("a new one", func(t *testing.T) {
		run(t, withOurs(before), func(r *rig) {
			u := r.dial(a)
			u.insert("card.1")
			u.form().fill(1, nil)
			if c := u.shown(); c.Session == ours {
				t.Errorf("%+v", c)
			}
			r.starts(1)
		})
	})
	t.Run("one that cannot be reached", func(t *testing.T) {
		before, _ := onNorth(func(q local.Lookup) local.Answer {
			if q.Want == local.WantSession {
				return local.Answer{Where: local.Unreachable, Session: q.Session, Host: q.Host, Reason: "your session runs on east, which cannot be reached from here"}
			}
			return scattered(q)
		}, "policy p choose=yes")
		run(t, withOurs(before), func(r *rig) {
			u := r.dial(a)
			u.insert("card.1")
			d := u.form()
			d.fill(0, pick(d.form(), 1))
			q := u.asked()
			if !strings.Contains(q.Screen.Text, "east") {
				t.Errorf("%+v", q.Screen)
			}
			r.pass(time.Minute)
			u.quiet() // nothing that was not chosen comes
			u.choose(q, again)
			d = u.form()
			list(t, d.form())
		})
	})
	t.Run("a group manager of before, or none", func(t *testing.T) {
		run(t, withOurs(func(r *rig) { ruled("policy p choose=yes sessions=3")(r); r.conf.Host = "north" }), func(r *rig) {
			u := r.dial(a)
			u.insert("card.1")
			u.shown()
			r.group.Answer = func(local.Lookup) (local.Answer, error) { return local.Answer{}, errors.New("overloaded") }
			u.wish(alp.WishSwitch)
			d := u.form()
			if f := d.form(); len(f.Choices[0].Options) != 1 {
				t.Errorf("%+v", f)
			}
			d.fill(2, nil)
			u.shown()
			r.group.SetAway("away")
			u.wish(alp.WishSwitch)
			u.form()
			r.group.SetAway("")
		})
	})
	for rule, why := range map[string]string{"policy p choose=no": "who may not choose", "policy p choose=yes": "who has one"} {
		before, _ := onNorth(func(q local.Lookup) local.Answer {
			got := scattered(q)
			if rule == "policy p choose=yes" {
				got.Others = got.Others[:1]
			}
			return got
		}, rule)
		t.Run(why, func(t *testing.T) {
			run(t, before, func(r *rig) {
				u := r.dial(a)
				u.insert("card.1")
				u.next(alp.CmdRedirectInf)
			})
		})
	}
}

// What somebody has, and where, is for who has proven to be that user; the
// redirect says so, and no password is typed twice.
func TestSwitchAfterALogin(t *testing.T) {
	before, asked := onNorth(scattered, "policy p choose=yes reattach=login")
	run(t, withOurs(before), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		d := u.form()
		if f := d.form(); len(f.Fields) != 2 || len(f.Choices) != 1 || !f.Choices[0].Keyboard {
			t.Fatalf("no login: %+v", f)
		}
		d.fill(0, nil, "ann", "pw")
		d = u.form()
		f := d.form()
		d.fill(0, []string{f.Choices[0].Options[1].Value})
		u.next(alp.CmdRedirectInf)
		q := asked()
		if last := q[len(q)-1]; last.User != "ann" || last.Session != onEast {
			t.Errorf("%+v", last)
		}
	})
}

// What a card has elsewhere is nothing for a kiosk, where nobody says who he is,
// nor for a user whom this host does not know as the card's: the latest one's host
// judges.
func TestSwitchTellsNoOther(t *testing.T) {
	for who, lines := range map[string][]string{
		"a kiosk": {"policy p choose=yes", "policy k terminal=" + string(a) + " kiosk=web", "policy l reattach=login", `kiosk web command="top -d 1" accounts=k1`},
		"another": {"policy p choose=yes first=login reattach=login"},
	} {
		t.Run(who, func(t *testing.T) {
			before, _ := onNorth(scattered, lines...)
			run(t, before, func(r *rig) {
				u := r.dial(a)
				q := u.request("card.1")
				if who == "another" { // whose terminal says what it likes
					q.Failed = south.Target
				}
				u.send(q.Message())
				if who == "another" {
					u.form().fill(0, nil, "ann", "pw")
					if s := u.asked(); !strings.Contains(s.Screen.Text, "does not answer this terminal") {
						t.Errorf("%+v", s.Screen)
					}
				} else {
					u.next(alp.CmdRedirectInf)
					r.starts(0)
				}
			})
		})
	}
}

// A host that is going out of service makes no session for the switcher either.
func TestSwitchNewElsewhere(t *testing.T) {
	before, asked := onNorth(func(q local.Lookup) local.Answer {
		if q.Want == local.WantPlace {
			to := south
			return to
		}
		return scattered(q)
	}, "policy p choose=yes")
	run(t, withOurs(before), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		d := u.form()
		r.set(local.Offline, 0)
		d.fill(1, nil)
		u.next(alp.CmdRedirectInf)
		if q := asked(); q[len(q)-1].Want != local.WantPlace || !q[len(q)-1].Another {
			t.Errorf("%+v", q)
		}
		r.starts(0)
	})
}

// Who was sent for another session gets it where there is one already, once for
// each time that it was chosen, and only who may choose here too.
func TestSwitchNewWhereThereIsOne(t *testing.T) {
	sent := func(v local.Verified, lines ...string) func(*rig) {
		return func(r *rig) {
			ruled(lines...)(r)
			r.parent.Add(client.Status{Session: ours, Token: "card.1", User: "ann", Started: 1, Last: 1})
			r.group.Proof = func(local.Verify) local.Verified { return v }
		}
	}
	another := local.Verified{OK: true, Another: true, User: "ann"}
	run(t, sent(another, "policy p choose=yes"), func(r *rig) {
		u := r.dial(a)
		redirected(u, "card.1")
		first := u.shown()
		if first.Session == ours {
			t.Error("the session that was there is shown")
		}
		r.starts(1)
		redirected(u, "card.1") // with the proof of before
		u.form()
		r.starts(1)
	})
	another.User = ""
	run(t, sent(another, "policy p choose=yes first=login reattach=login"), func(r *rig) {
		u := r.dial(a)
		redirected(u, "card.1")
		u.form().fill(0, nil, "ann", "pw")
		if c := u.session(); c.Session == ours || len(r.parent.Begun()) != 1 {
			t.Errorf("%+v", c)
		}
	})
	run(t, sent(another, "policy p choose=no"), func(r *rig) {
		u := r.dial(a)
		redirected(u, "card.1")
		if c := u.shown(); c.Session != ours {
			t.Errorf("%+v", c)
		}
		r.starts(0)
	})
	run(t, sent(another, "policy p choose=yes sessions=1"), func(r *rig) {
		u := r.dial(a)
		redirected(u, "card.1")
		if s := u.screen().Screen; !strings.Contains(s.Text, "as many sessions as you may") {
			t.Errorf("%+v", s)
		}
		r.starts(0)
	})
}

// The session stays on the screen until the switcher can be shown: a terminal
// without a picture would ask for the session again, and lose the wish.
func TestSwitchWhileTheGroupManagerHangs(t *testing.T) {
	run(t, withOurs(func(r *rig) { ruled("policy p choose=yes")(r); r.conf.Host = "north" }), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		synctest.Wait() // the gateway knows that it is shown
		k := r.parent.Keeper(ours)
		r.group.Answer = func(local.Lookup) (local.Answer, error) {
			time.Sleep(control.PlaceWithin)
			return local.Answer{}, errors.New("it hangs")
		}
		u.wish(alp.WishSwitch)
		u.wish(alp.WishSwitch) // who waits presses again
		r.pass(control.PlaceWithin - time.Millisecond)
		u.quiet()
		if d := k.Detached(); len(d) != 0 {
			t.Errorf("detached %v", d)
		}
		r.pass(time.Millisecond)
		d := u.form()
		u.quiet()
		if got := k.Detached(); !slices.Equal(got, []uint64{c.Gen}) {
			t.Errorf("detached %v", got)
		}
		d.fill(2, nil)
		u.shown()

		// Who has pulled the card meanwhile is shown nothing.
		synctest.Wait()
		u.wish(alp.WishSwitch)
		u.remove("card.1")
		r.pass(control.PlaceWithin)
		u.quiet()
	})
}

// A new one is a new one also while there is no group manager.
func TestSwitchNewWithoutGroup(t *testing.T) {
	for rule, made := range map[string]int{"policy p choose=yes": 1, "policy p choose=yes hosts=south": 0} {
		run(t, withOurs(func(r *rig) { ruled(rule)(r); r.conf.Host = "north" }), func(r *rig) {
			u := r.dial(a)
			u.insert("card.1")
			u.shown()
			synctest.Wait() // the gateway knows that it is shown
			r.group.SetAway("The group manager is away.")
			u.wish(alp.WishSwitch)
			u.form().fill(1, nil)
			if made == 0 {
				r.pass(control.GroupWithin)
				u.asked()
			} else if c := u.shown(); c.Session == ours {
				t.Errorf("%+v", c)
			}
			r.starts(made)
			r.group.SetAway("")
		})
	}
}

// The account that a session runs as has not logged in: after its terminal was
// away, no other host is told that it has.
func TestSwitchAfterTheControlConnection(t *testing.T) {
	for rule, want := range map[string]string{"policy p choose=yes": "", "policy p choose=yes reattach=login": "desk"} {
		before, asked := onNorth(scattered, rule)
		run(t, func(r *rig) {
			before(r)
			r.parent.Add(client.Status{Session: ours, Token: "card.1", User: "desk", Started: 1, Last: 2, Terminal: a, Gen: 7})
		}, func(r *rig) {
			u := r.dial(a)
			q := u.request("card.1")
			q.Connected, q.Session, q.Gen = true, ours, 7
			u.send(q.Message())
			u.connInf()
			u.wish(alp.WishSwitch)
			u.form()
			if q := asked(); len(q) != 1 || q[0].User != want {
				t.Errorf("%s: %+v", rule, q)
			}
		})
	}
}

// A redirect that names a session shows that one, though others are later and
// their user may choose.
func TestSwitchedTo(t *testing.T) {
	run(t, func(r *rig) {
		ruled("policy p choose=yes reattach=login")(r)
		r.parent.Add(client.Status{Session: older, Token: "card.1", User: "ann", Started: 1, Last: 1})
		r.parent.Add(client.Status{Session: newer, Token: "card.1", User: "ann", Started: 2, Last: 2})
		r.group.Proof = func(local.Verify) local.Verified {
			return local.Verified{OK: true, Session: older, User: "ann"}
		}
	}, func(r *rig) {
		u := r.dial(a)
		redirected(u, "card.1")
		if c := u.shown(); c.Session != older {
			t.Errorf("%+v", c)
		}
		// And there the user may choose again.
		u.wish(alp.WishSwitch)
		if f := u.form().form(); len(f.Choices[0].Options) != 2 {
			t.Errorf("%+v", f)
		}
		synctest.Wait()
	})
}

// Where the chosen one has ended meanwhile, its user is told so.
func TestSwitchedToOneThatEnded(t *testing.T) {
	run(t, func(r *rig) {
		ruled("policy p choose=yes")(r)
		r.parent.Add(client.Status{Session: newer, Token: "card.1", User: "ann", Started: 2, Last: 2})
		r.group.Proof = func(local.Verify) local.Verified { return local.Verified{OK: true, Session: older} }
	}, func(r *rig) {
		u := r.dial(a)
		redirected(u, "card.1")
		if c := u.session(); c.Session != newer {
			t.Errorf("%+v", c)
		}
		if n := u.notice(); !strings.Contains(n.Text, "has ended") {
			t.Errorf("%+v", n)
		}
	})
}
