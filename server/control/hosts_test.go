package control_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/greeter"
	"hotdesk/server/proof"
	"hotdesk/server/session/client"
)

// south is where the group manager sends to, for a new session.
var south = local.Answer{Where: local.There, Host: "south", Target: netip.MustParseAddrPort("127.0.0.3:7443"), Props: "p=1"}

// group gives a rig of the host north a group manager that answers as is says,
// and remembers what it was asked.
func onNorth(is func(local.Lookup) local.Answer, lines ...string) (before func(*rig), asked func() []local.Lookup) {
	var mu sync.Mutex
	var all []local.Lookup
	return func(r *rig) {
			ruled(lines...)(r)
			r.conf.Host = "north"
			r.group.Answer = func(q local.Lookup) (local.Answer, error) {
				mu.Lock()
				defer mu.Unlock()
				if err := q.Check(); err != nil {
					r.Error(err)
				}
				all = append(all, q)
				return is(q), nil
			}
		}, func() []local.Lookup {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(all)
		}
}

// allowed is a group manager that has a session nowhere, and places new ones on
// the first host that the lookup allows: north where it allows all.
func allowed(q local.Lookup) local.Answer {
	if len(q.Hosts) == 0 || slices.Contains(q.Hosts, "north") {
		return local.Answer{Where: local.New, Host: "north"}
	}
	return south
}

// A card's new session goes where the rules let it be, and one that there is is
// shown wherever it is.
func TestHosts(t *testing.T) {
	before, asked := onNorth(allowed, "policy h hosts=south")
	run(t, before, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		u.next(alp.CmdRedirectInf)
		if q := asked(); len(q) != 1 || q[0].Want != "" || !slices.Equal(q[0].Hosts, []string{"south"}) {
			t.Errorf("asked %+v", q)
		}
		r.starts(0)
	})
	run(t, func(r *rig) {
		ruled("policy h hosts=south")(r)
		r.parent.Add(client.Status{Session: "0123456789abcdef", Token: "card.1", User: "ann", Started: 1})
	}, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		u.session()
	})
	why := "you may have a session on south: no server that you may use can be reached from here: tell your administrator"
	before, _ = onNorth(func(local.Lookup) local.Answer { return local.Answer{Where: local.Refused, Reason: why} }, "policy h hosts=south")
	run(t, before, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		if s := u.screen().Screen; s.Kind != greeter.Denied || !strings.HasPrefix(s.Text, "You may have a session on south: ") {
			t.Errorf("%+v", s)
		}
	})
}

// A group manager of before knows nothing of hosts: no session is made all the
// same, and nobody is sent in circles.
func TestHostsOldGroupManager(t *testing.T) {
	before, _ := onNorth(func(local.Lookup) local.Answer { return local.Answer{Where: local.New} }, "policy h hosts=south")
	run(t, before, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		if s := u.screen().Screen; s.Kind != greeter.Denied || !strings.Contains(s.Text, "on south, and not on this server") {
			t.Errorf("%+v", s)
		}
		r.starts(0)
	})
	run(t, func(r *rig) {
		ruled("policy h bare=login")(r)
		r.group.Answer = func(q local.Lookup) (local.Answer, error) {
			if q.Want != "" {
				return local.Answer{}, errors.New(`local: lookup that wants "place"`)
			}
			return local.Answer{Where: local.New}, nil
		}
	}, func(r *rig) {
		u := r.dial(a)
		u.insert(bare(a))
		u.form().fill(0, nil, "ann", "pw")
		u.session()
	})
}

// Whoever was sent here by a host with other rules goes on to one of these.
func TestHostsSentOn(t *testing.T) {
	before, asked := onNorth(allowed, "policy h hosts=south")
	run(t, func(r *rig) {
		before(r)
		r.group.Proof = func(local.Verify) local.Verified { return local.Verified{OK: true} }
	}, func(r *rig) {
		u := r.dial(a)
		redirected(u, "card.1")
		u.next(alp.CmdRedirectInf)
		if len(asked()) != 1 {
			t.Errorf("asked %+v", asked())
		}
		r.starts(0)
	})
}

// The chosen host is gone to before a password is typed, with a card and without
// one; there the login screen stays, and the session is made.
func TestHostsBeforeALogin(t *testing.T) {
	for rule, want := range map[string]local.Want{"bare=login": local.WantPlace, "first=login reattach=login": "", "cards=self": ""} {
		token, session := "card.1", alp.Token("card.1")
		if want != "" {
			token, session = bare(a), "user.ann"
		}
		before, asked := onNorth(allowed, "policy h hosts=south "+rule)
		run(t, before, func(r *rig) {
			u := r.dial(a)
			u.insert(token)
			u.next(alp.CmdRedirectInf)
			if q := asked(); len(q) != 1 || q[0].Want != want || q[0].User != "" || len(q[0].Hosts) != 1 {
				t.Errorf("%s: asked %+v", rule, q)
			}
			r.starts(0)
			u.send(u.identity().DiscReq("redirect"))
			u.hungUp()

			// It comes back: that host cannot be reached. Here there is a login.
			u = r.dial(a)
			q := u.request(token)
			q.Failed = south.Target
			u.send(q.Message())
			// Its user is told, and not asked for the password again and again.
			u.form().fill(0, nil, "ann", "pw")
			if s := u.asked(); !strings.Contains(s.Screen.Text, "is to be on south, and that server does not answer") {
				t.Errorf("%s: %+v", rule, s.Screen)
			}
		})
		before, asked = onNorth(allowed, "policy h hosts=north "+rule)
		run(t, func(r *rig) {
			before(r)
			r.group.Proof = func(local.Verify) local.Verified { return local.Verified{OK: true} }
		}, func(r *rig) {
			u := r.dial(a)
			redirected(u, token)
			d := u.form()
			if len(asked()) != 0 {
				t.Errorf("%s: asked %+v before the login", rule, asked())
			}
			r.starts(0)
			d.fill(0, nil, "ann", "pw")
			if c := u.session(); c.Token != session {
				t.Errorf("%s: %+v", rule, c)
			}
			if n := len(r.parent.Begun()); n != 1 {
				t.Errorf("%s: %d sessions", rule, n)
			}
		})
	}
}

// Nothing that goes wrong on the way leads past the login.
func TestHostsNeverPastTheLogin(t *testing.T) {
	there := south
	there.Session = "0123456789abcdef"
	before, _ := onNorth(func(local.Lookup) local.Answer { return there }, "policy h cards=self")
	run(t, before, func(r *rig) {
		for i := range 8 { // sent to and fro, until nobody believes it
			u := r.dial(a)
			q := u.request("card.1")
			q.Redirect, q.Props, q.Circle = true, "old", i > 6
			u.send(q.Message())
			synctest.Wait()
			if m := <-u.msgs; m.Command == alp.CmdConnInf {
				c, err := alp.ParseConnInf(m)
				if err != nil || r.screens.Shown(c.Gen).Form == nil || c.Session != "" {
					t.Errorf("%+v, %v", c, err)
				}
			} else if m.Command != alp.CmdRedirectInf || i >= 6 {
				t.Errorf("%d: %v", i, m)
			}
		}
		r.starts(0)
	})
}

// Whose rules say only after the login that the session is to be elsewhere, or that
// this host may not be used, is sent on with that, and nothing begins here; what
// a card has to prove it proves before it is sent, and that once.
func TestSentOnWithWhatWasShown(t *testing.T) {
	for name, c := range map[string]struct {
		group       func(local.Lookup) local.Answer
		staff, card string // rules
		hosts       []string
	}{
		"to where sessions may be": {allowed, "policy a group=staff hosts=south order=1", "policy a hosts=south first=simple,login reattach=simple,login", []string{"south"}},
		"from where nothing may":   {mayBe, "policy a group=staff host=north access=deny", "policy a host=north access=deny|policy b first=simple reattach=simple", nil},
	} {
		t.Run(name, func(t *testing.T) {
			before, asked := onNorth(c.group, "user ann groups=staff", c.staff, "policy b bare=login")
			run(t, before, func(r *rig) {
				u := r.dial(a)
				u.insert(bare(a))
				u.form().fill(0, nil, "ann", "pw")
				u.next(alp.CmdRedirectInf)
				q := asked()
				if last := q[len(q)-1]; last.User != "ann" || last.Token != "user.ann" || string(last.Presented) != bare(a) || !slices.Equal(last.Hosts, c.hosts) {
					t.Errorf("asked %+v", last)
				}
				if n := len(r.parent.Begun()); n != 0 {
					t.Errorf("%d sessions", n)
				}
			})
			before, asked = onNorth(c.group, strings.Split(c.card, "|")...)
			run(t, func(r *rig) {
				before(r)
				r.conf.Proofs = proofs{[]proof.Use{proof.First, proof.Reattach}, secret}
			}, func(r *rig) {
				u := r.dial(a)
				u.insert(simple)
				u.prove(secret)
				u.next(alp.CmdRedirectInf)
				if q := asked(); len(q) != 2 || q[0].Proven != "" || q[1].User != "" || q[1].Proven != "simple" {
					t.Errorf("asked %+v", q)
				}
			})
		})
	}
}

// Who was sent with the word of a login has the session without a second password,
// and who is of no such group stays.
func TestHostsOfAUserAfterTheLogin(t *testing.T) {
	rules := []string{"user ann groups=staff", "policy a group=staff hosts=south order=1", "policy b bare=login"}
	before, _ := onNorth(allowed, rules...)
	run(t, before, func(r *rig) {
		v := r.dial(b) // though the group manager has another host
		v.insert(bare(b))
		d := v.form()
		r.group.Answer = func(local.Lookup) (local.Answer, error) { return south, nil }
		d.fill(0, nil, "dan", "pw")
		v.session()
	})
	sent := func(v local.Verified, lines ...string) func(*rig) {
		return func(r *rig) {
			ruled(lines...)(r)
			r.conf.Host = "south"
			v.OK = true
			r.group.Proof = func(local.Verify) local.Verified { return v }
		}
	}
	run(t, sent(local.Verified{User: "ann"}, rules...), func(r *rig) {
		u := r.dial(a)
		redirected(u, bare(a))
		if c := u.session(); c.Token != "user.ann" {
			t.Errorf("%+v", c)
		}
		r.starts(1)
		if s := r.parent.Starts()[0]; s.User != "ann" || s.Login || s.Token != "user.ann" {
			t.Errorf("%+v", s)
		}
	})
	// A host that starts no session without a password asks for it.
	run(t, func(r *rig) {
		sent(local.Verified{User: "ann"}, rules...)(r)
		r.parent.Fail = errors.New("no session for ann without a login")
	}, func(r *rig) {
		u := r.dial(a)
		redirected(u, bare(a))
		d := u.form()
		d.says("log in once more")
		r.parent.Fail = nil
		d.fill(0, nil, "ann", "pw")
		if c := u.session(); c.Token != "user.ann" {
			t.Errorf("%+v", c)
		}
	})
	// The rules of the host that takes the user count.
	run(t, sent(local.Verified{User: "ann"}, append(rules, "policy c group=staff host=south access=deny")...), func(r *rig) {
		u := r.dial(a)
		redirected(u, bare(a))
		if s := u.screen().Screen; s.Kind != greeter.Denied {
			t.Errorf("%+v", s)
		}
		r.starts(0)
	})
}

// Somebody else was faster: what the card had to prove for a new session is not
// what it must for the one that there is now.
func TestSentForANewOneThatExists(t *testing.T) {
	run(t, func(r *rig) {
		asking(proof.Reattach)(r)
		r.parent.Add(client.Status{Session: "0123456789abcdef", Token: simple, Started: 1})
		r.group.Proof = func(local.Verify) local.Verified {
			return local.Verified{OK: true, Session: "0123456789abcdef", New: true}
		}
	}, func(r *rig) {
		u := r.dial(a)
		redirected(u, simple)
		u.prove(secret)
		u.session()
	})
}

// What is explained is what happens.
func TestHostsExplained(t *testing.T) {
	before, _ := onNorth(allowed, "policy h token=card.1 hosts=south", "policy i token=card.2 hosts=north", "policy j token=card.3 access=deny")
	run(t, before, func(r *rig) {
		u := r.dial(a)
		u.insert("card.2")
		u.session()
		for token, place := range map[alp.Token]string{"card.1": "south", "card.2": "north", "card.3": "", "card.4": "north"} {
			if x := r.srv.Explain(context.Background(), token, a, ""); x.Place != place || (x.Reason != "") != (token == "card.3") {
				t.Errorf("%s: %+v", token, x)
			}
		}
		if x := r.srv.Explain(context.Background(), "card.1", b, ""); x.Place != "" || !strings.Contains(x.Reason, "on south") {
			t.Errorf("at a terminal that is not here: %+v", x)
		}
	})
	before, _ = onNorth(func(local.Lookup) local.Answer {
		return local.Answer{Where: local.Refused, Reason: "you may have a session on south: none"}
	}, "policy h token=card.1 hosts=south")
	run(t, before, func(r *rig) {
		u := r.dial(a)
		u.insert(bare(a))
		u.screen()
		if x := r.srv.Explain(context.Background(), "card.1", a, ""); x.Place != "" || x.Reason != "You may have a session on south: none." {
			t.Errorf("%+v", x)
		}
	})
}

// Where new sessions may be says nothing of where a terminal waits for a card:
// it leaves a host that is taken out of service. One that shows a login stays,
// where it could not get its session.
func TestHostsHoldNoRestingTerminal(t *testing.T) {
	for rule, hosts := range map[string][]string{"hosts=north": nil, "hosts=north bare=login": {"north"}} {
		before, asked := onNorth(func(q local.Lookup) local.Answer {
			switch {
			case q.Want == local.WantHost && len(q.Hosts) == 0:
				return south
			case q.Want == local.WantHost:
				return local.Answer{Where: local.Refused, Reason: "no other server can be reached from here"}
			}
			return local.Answer{Where: local.New}
		}, "policy h "+rule)
		run(t, before, func(r *rig) {
			r.set(local.Online, 0)
			u := r.dial(a)
			u.insert(bare(a))
			if hosts == nil {
				u.screen()
			} else {
				u.form()
			}
			r.set(local.Offline, 0)
			if hosts == nil {
				u.next(alp.CmdRedirectInf)
			} else {
				u.form()
			}
			q := asked()
			if last := q[len(q)-1]; last.Want != local.WantHost || !slices.Equal(last.Hosts, hosts) {
				t.Errorf("%s: %+v", rule, last)
			}
		})
	}
}
