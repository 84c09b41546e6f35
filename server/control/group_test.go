package control_test

import (
	"net/netip"
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

func TestGroupAnswers(t *testing.T) {
	target := netip.MustParseAddrPort("127.0.0.3:7443")
	for _, c := range []struct {
		name   string
		answer local.Answer
		check  func(*rig, *unit)
	}{
		{"there", local.Answer{Where: local.There, Session: "0123456789abcdef", Host: "h2", Target: target, Props: "p=1"}, func(r *rig, u *unit) {
			d, err := alp.ParseRedirectInf(u.next(alp.CmdRedirectInf))
			if err != nil || d.Addr != target.Addr() || d.Port != 7443 || d.Props != "p=1" || d.TokenSeq != 1 {
				r.Errorf("%+v, %v", d, err)
			}
		}},
		{"there, no address", local.Answer{Where: local.There}, func(r *rig, u *unit) { u.denied() }},
		{"unreachable", local.Answer{Where: local.Unreachable, Host: "h2"}, func(r *rig, u *unit) {
			if s := u.screen().Screen; s.Kind != greeter.Question || !strings.Contains(s.Text, "h2") {
				r.Errorf("%+v", s)
			}
		}},
		{"refused", local.Answer{Where: local.Refused, Reason: "full"}, func(r *rig, u *unit) {
			if s := u.screen().Screen; s.Kind != greeter.Denied || s.Text != "Full." {
				r.Errorf("%+v", s)
			}
		}},
		{"here, but it is not", local.Answer{Where: local.Here, Session: "0123456789abcdef"}, func(r *rig, u *unit) {
			u.asked()
			if n := r.group.Lookups(); n != control.MaxLookups {
				r.Errorf("%d lookups", n)
			}
		}},
		{"of no kind", local.Answer{Where: "up"}, func(r *rig, u *unit) { u.asked() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			run(t, func(r *rig) {
				r.group.Answer = func(q local.Lookup) (local.Answer, error) {
					if err := q.Check(); err != nil {
						t.Error(err)
					}
					return c.answer, nil
				}
			}, func(r *rig) {
				u := r.dial(a)
				u.insert("card.1")
				c.check(r, u)
				r.starts(0)
			})
		})
	}
}

func redirected(u *unit, token string) {
	q := u.request(token)
	q.Redirect, q.Props = true, "proof"
	u.send(q.Message())
}

func TestRedirected(t *testing.T) {
	const gone = alp.SessionID("00000000000000aa")
	row := client.Status{Session: "0123456789abcdef", Token: "card.1", Started: 1}
	proves := func(v local.Verified) func(*rig) {
		return func(r *rig) {
			r.parent.Add(row)
			r.group.Proof = func(q local.Verify) local.Verified {
				if q.Props != "proof" || q.Token != "card.1" || q.Terminal != a {
					t.Errorf("verify %+v", q)
				}
				return v
			}
		}
	}
	t.Run("to a session here", func(t *testing.T) {
		run(t, proves(local.Verified{OK: true, Session: row.Session}), func(r *rig) {
			u := r.dial(a)
			redirected(u, "card.1")
			if c := u.shown(); c.Session != row.Session || r.group.Lookups() != 0 {
				t.Errorf("%+v after %d lookups", c, r.group.Lookups())
			}
		})
	})
	t.Run("and its connection is lost meanwhile", func(t *testing.T) {
		run(t, func(r *rig) {
			proves(local.Verified{OK: true, Session: gone})(r)
			r.group.SetAway("away")
		}, func(r *rig) {
			asked := make(chan local.Lookup, 1)
			r.group.Answer = func(q local.Lookup) (local.Answer, error) {
				asked <- q
				return local.Answer{Where: local.New}, nil
			}
			u := r.dial(a)
			redirected(u, "card.1")
			synctest.Wait()
			u.nc.Close()
			synctest.Wait()
			r.group.SetAway("")
			if q := <-asked; q.Check() != nil {
				t.Errorf("the group manager takes no such question: %+v", q)
			}
		})
	})
	t.Run("to a new one", func(t *testing.T) {
		run(t, func(r *rig) {
			r.group.Proof = func(local.Verify) local.Verified { return local.Verified{OK: true} }
		}, func(r *rig) {
			u := r.dial(a)
			redirected(u, "card.1")
			u.shown()
			r.starts(1)
			if r.group.Lookups() != 0 {
				t.Error("it was selected a second time")
			}
		})
	})
	t.Run("to one that is gone", func(t *testing.T) {
		run(t, func(r *rig) {
			r.group.Proof = func(local.Verify) local.Verified { return local.Verified{OK: true, Session: gone} }
		}, func(r *rig) {
			u := r.dial(a)
			redirected(u, "card.1")
			u.denied()
			r.starts(0)
			if r.group.Lookups() != 1 {
				t.Errorf("%d lookups", r.group.Lookups())
			}
			u.insert("card.1") // the person says so: now a new one is made
			u.shown()
			r.starts(1)
		})
	})
	t.Run("to another token's", func(t *testing.T) {
		run(t, func(r *rig) {
			r.parent.Add(client.Status{Session: gone, Token: "card.2"})
			r.group.Proof = func(local.Verify) local.Verified { return local.Verified{OK: true, Session: gone} }
		}, func(r *rig) {
			u := r.dial(a)
			redirected(u, "card.1")
			u.denied()
		})
	})
	t.Run("without proof", func(t *testing.T) {
		run(t, proves(local.Verified{Reason: "expired"}), func(r *rig) {
			u := r.dial(a)
			redirected(u, "card.1")
			if c := u.shown(); c.Session != row.Session || r.group.Lookups() != 1 {
				t.Errorf("%+v after %d lookups", c, r.group.Lookups())
			}
		})
	})
}

// TestRedirectOften: who goes to and fro with a card is sent on each time, and
// nobody is warned of that.
func TestRedirectOften(t *testing.T) {
	run(t, func(r *rig) {
		r.group.Answer = func(local.Lookup) (local.Answer, error) {
			return local.Answer{Where: local.There, Target: netip.MustParseAddrPort("127.0.0.3:7443")}, nil
		}
	}, func(r *rig) {
		for i := range 3 * control.MaxRedirects {
			u := r.dial(a)
			u.seq = i
			u.insert("card.1")
			u.next(alp.CmdRedirectInf)
			u.send(u.identity().DiscReq("redirect"))
			u.hungUp()
		}
		if text := r.log.String(); strings.Contains(text, "level=WARN") {
			t.Errorf("that is nothing to warn of:\n%s", text)
		}
	})
}

// TestRedirectLoop: hosts that send a terminal back and forth are found out,
// though each time is another connection.
func TestRedirectLoop(t *testing.T) {
	run(t, func(r *rig) {
		r.group.Answer = func(local.Lookup) (local.Answer, error) {
			return local.Answer{Where: local.There, Target: netip.MustParseAddrPort("127.0.0.3:7443")}, nil
		}
		r.group.Proof = func(local.Verify) local.Verified {
			return local.Verified{OK: true, Session: "00000000000000aa"}
		}
	}, func(r *rig) {
		for i := range control.MaxRedirects {
			u := r.dial(a)
			u.seq = i
			redirected(u, "card.1")
			u.next(alp.CmdRedirectInf)
			u.send(u.identity().DiscReq("redirect"))
			u.hungUp()
		}
		u := r.dial(a)
		redirected(u, "card.1")
		u.asked()
		r.pass(control.RedirectWindow)
		u.insert("card.1")
		u.next(alp.CmdRedirectInf)
	})
}

func TestGroupAway(t *testing.T) {
	run(t, func(r *rig) {
		r.group.SetAway("Start groupmgr.")
		r.parent.Add(client.Status{Session: "0123456789abcdef", Token: "card.1", Started: 1})
	}, func(r *rig) {
		ua, ub := r.dial(a), r.dial(b)
		ua.insert("card.1")
		ua.shown() // here: at once
		ub.insert("card.2")
		r.pass(control.GroupWithin - time.Second)
		ub.quiet()
		r.pass(time.Second)
		if s := ub.asked().Screen; s.Text != "Start groupmgr." {
			t.Errorf("%+v", s)
		}
		r.starts(0)
		ub.insert("card.2")
		r.pass(time.Second)
		r.group.SetAway("")
		ub.shown()
		r.starts(1)
	})
}
