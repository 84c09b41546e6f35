package control_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/audit"
	"hotdesk/server/greeter"
	"hotdesk/server/session/client"
)

// mayBe is a group manager that has a session nowhere, and two hosts, of which
// it places on the first that the lookup allows.
func mayBe(q local.Lookup) local.Answer {
	denied := func(host string) bool {
		i := slices.IndexFunc(q.Access, func(a local.Access) bool { return adminapi.Matches(a.Host, host) })
		return i >= 0 && q.Access[i].Deny
	}
	switch {
	case !denied("north") && q.Want != local.WantHost:
		return local.Answer{Where: local.New, Host: "north"}
	case !denied("south"):
		return south
	}
	return local.Answer{Where: local.Refused, Reason: "no server that you may use can be reached from here"}
}

// Who may not use this host is sent to one that may be used, before a password is
// typed, and there is no question where there is none.
func TestDeniedHere(t *testing.T) {
	for name, c := range map[string]struct {
		rules []string
		token string
		want  local.Want
		sent  bool
	}{
		"a card":                         {[]string{"policy a host=north access=deny"}, "card.1", "", true},
		"one that has to log in":         {[]string{"policy a host=north access=deny", "policy b first=login reattach=login"}, "card.1", "", true},
		"a terminal before a login":      {[]string{"policy a host=north access=deny", "policy b bare=login"}, bare(a), local.WantPlace, true},
		"one that waits for a card":      {[]string{"policy a host=north access=deny", "policy b hosts=west"}, bare(a), local.WantHost, true},
		"one host that may be used":      {[]string{"policy a host=south access=allow order=1", "policy b access=deny"}, "card.1", "", true},
		"no host that can be reached":    {[]string{"policy a host=west access=allow order=1", "policy b access=deny"}, "card.1", "", false},
		"no host":                        {[]string{"policy a access=deny"}, "card.1", "none is asked for", false},
		"another host is the denied one": {[]string{"policy a host=south access=deny"}, "card.1", "it stays", false},
	} {
		before, asked := onNorth(mayBe, c.rules...)
		var mu sync.Mutex
		var denials []audit.Entry
		run(t, func(r *rig) {
			before(r)
			r.conf.Audit = func(e audit.Entry) {
				mu.Lock()
				defer mu.Unlock()
				if e.What == audit.Deny {
					denials = append(denials, e)
				}
			}
		}, func(r *rig) {
			u := r.dial(a)
			u.insert(c.token)
			switch {
			case c.sent:
				u.next(alp.CmdRedirectInf)
			case c.want == "it stays":
				u.session()
			default:
				if s := u.screen().Screen; s.Kind != greeter.Denied || !strings.Contains(s.Text, "may not use this terminal") {
					t.Errorf("%s: %+v", name, s)
				}
			}
			u.quiet()
			q := asked()
			switch c.want {
			case "none is asked for":
				if len(q) != 0 {
					t.Errorf("%s: asked %+v", name, q)
				}
			case "it stays":
				if len(q) != 1 || len(q[0].Access) != 1 {
					t.Errorf("%s: asked %+v", name, q)
				}
			default:
				if len(q) != 1 || q[0].Want != c.want || len(q[0].Access) == 0 || c.want == local.WantHost && len(q[0].Hosts) != 0 {
					t.Errorf("%s: asked %+v", name, q)
				}
			}
			mu.Lock()
			if n := len(denials); (n == 1) != (!c.sent && c.want != "it stays") {
				t.Errorf("%s: %d denials are remembered", name, n)
			}
			mu.Unlock()
		})
	}
}

// Nothing of a host that may not be used is shown: not a session that is there,
// by whichever way somebody comes, nor a new one where nobody is asked.
func TestDeniedHereIsDenied(t *testing.T) {
	deny := "policy a host=north access=deny"
	denied := func(t *testing.T, u *unit) {
		t.Helper()
		if s := u.screen().Screen; s.Kind != greeter.Denied {
			t.Errorf("%+v", s)
		}
		u.r.starts(0)
	}
	here := func(q local.Lookup) local.Answer {
		return local.Answer{Where: local.Here, Session: ours, Host: "north"}
	}
	before, _ := onNorth(here, deny)
	run(t, withOurs(before), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		denied(t, u)
	})
	run(t, withOurs(func(r *rig) {
		before(r)
		r.group.Proof = func(local.Verify) local.Verified { return local.Verified{OK: true, Session: ours, User: "ann"} }
	}), func(r *rig) {
		u := r.dial(a)
		redirected(u, "card.1")
		denied(t, u)
	})
	run(t, withOurs(before), func(r *rig) {
		r.group.SetAway("away")
		u := r.dial(a)
		u.insert("card.1")
		denied(t, u)
		r.group.SetAway("")
	})
	run(t, func(r *rig) {
		before(r)
		r.group.Answer = func(local.Lookup) (local.Answer, error) { return local.Answer{}, errors.New("overloaded") }
	}, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		denied(t, u)
	})
	// A group manager of before knows nothing of access.
	before, _ = onNorth(func(local.Lookup) local.Answer { return local.Answer{Where: local.New} }, deny)
	run(t, before, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		denied(t, u)
	})
	// Another of its sessions is where it may be.
	before, asked := onNorth(func(q local.Lookup) local.Answer {
		if q.Want == local.WantSession {
			return south
		}
		v := here(q)
		v.Others = []local.Elsewhere{{Host: "south", Session: older}}
		return v
	}, deny)
	run(t, withOurs(before), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		u.next(alp.CmdRedirectInf)
		if q := asked(); q[len(q)-1].Session != older {
			t.Errorf("%+v", q)
		}
	})
	// The host that it was sent to does not answer.
	before, _ = onNorth(mayBe, deny)
	run(t, before, func(r *rig) {
		u := r.dial(a)
		q := u.request("card.1")
		q.Failed = south.Target
		u.send(q.Message())
		s := u.asked()
		if !strings.Contains(s.Screen.Text, "does not answer this terminal") {
			t.Errorf("%+v", s.Screen)
		}
		u.choose(s, again)
		u.next(alp.CmdRedirectInf)
		r.starts(0)
	})
	run(t, func(r *rig) {
		before(r)
		r.parent.Add(client.Status{Session: ours, Token: "card.1", User: "ann", Started: 1, Terminal: a, Gen: 7})
	}, func(r *rig) {
		u := r.dial(a)
		q := u.request("card.1")
		q.Connected, q.Session, q.Gen = true, ours, 7
		u.send(q.Message())
		u.next(alp.CmdRedirectInf)
		synctest.Wait()
		if d := r.parent.Keeper(ours).Detached(); len(d) != 1 {
			t.Errorf("detached %v", d)
		}
	})
}

// A terminal that waits for a card goes on to another host once there is one; what
// it shows meanwhile stays, and is remembered once.
func TestDeniedHereUntilThereIsAnother(t *testing.T) {
	var mu sync.Mutex
	var up bool
	denials := 0
	before, _ := onNorth(func(q local.Lookup) local.Answer {
		mu.Lock()
		defer mu.Unlock()
		if up {
			return mayBe(q)
		}
		return local.Answer{Where: local.Refused, Reason: "no other server can be reached from here"}
	}, "policy a host=north access=deny")
	run(t, func(r *rig) {
		before(r)
		r.conf.Audit = func(e audit.Entry) {
			mu.Lock()
			defer mu.Unlock()
			if e.What == audit.Deny {
				denials++
			}
		}
	}, func(r *rig) {
		u := r.dial(a)
		q := u.request(bare(a))
		q.Failed = south.Target
		u.send(q.Message())
		u.screen()
		u.lives(5 * time.Minute)
		mu.Lock()
		if up = true; denials != 1 {
			t.Errorf("%d denials are remembered", denials)
		}
		mu.Unlock()
		u.lives(30 * time.Second)
		u.next(alp.CmdRedirectInf)
	})
}

// What is explained is what happens.
func TestDeniedHereExplained(t *testing.T) {
	before, _ := onNorth(mayBe, "policy a token=card.1 host=north access=deny", "policy b token=card.2 host=*th access=deny", "policy c token=card.3 access=deny")
	run(t, before, func(r *rig) {
		u := r.dial(a)
		u.insert("card.9")
		u.session()
		for token, want := range map[alp.Token][2]string{"card.1": {"elsewhere", "south"}, "card.2": {"elsewhere", ""}, "card.3": {"denied", ""}, "card.9": {"session", "north"}} {
			x := r.srv.Explain(context.Background(), token, a, "")
			if x.Outcome != want[0] || x.Place != want[1] || (x.Reason != "") != (x.Place == "") {
				t.Errorf("%s: %+v", token, x)
			}
		}
	})
}
