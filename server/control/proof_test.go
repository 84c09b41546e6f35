package control_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/audit"
	"hotdesk/server/control"
	"hotdesk/server/proof"
	"hotdesk/server/session/client"
	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/identity"
)

// proofs asks simple cards for their secret, at one use or at both.
type proofs struct {
	uses   []proof.Use
	secret proof.Secret
}

func (f proofs) Kind(t alp.Token, use proof.Use) proof.Kind {
	for _, u := range f.uses {
		if u == use && strings.HasPrefix(string(t), "simple.") {
			return proof.Simple
		}
	}
	return proof.None
}

func (f proofs) Prepare(t alp.Token, use proof.Use) proof.Config {
	return proof.Config{Kind: f.Kind(t, use), Use: use, Token: t, Secret: &f.secret}
}

func (proofs) Register(alp.Token, string) error { return nil }

var secret = proof.Secret{1, 2, 3}

func asking(uses ...proof.Use) func(*rig) {
	return func(r *rig) { r.conf.Proofs = proofs{uses, secret} }
}

// question is the next line, a question for the card.
func (u *unit) question() alp.ControlSmartCard {
	u.r.Helper()
	q, err := alp.ParseControlSmartCard(u.next(alp.CmdControlSmartCard))
	if err != nil {
		u.r.Fatal(err)
	}
	if q.TokenSeq != u.seq {
		u.r.Errorf("question for presentation %d, want %d", q.TokenSeq, u.seq)
	}
	return q
}

// reply is what a simple card with that secret says.
func (u *unit) reply(q alp.ControlSmartCard, secret proof.Secret) alp.InfoSmartCard {
	a := alp.InfoSmartCard{Tag: q.Tag, OK: true, Status: apdu.OK}
	if q.INS == apdu.InsInternalAuthenticate {
		m := hmac.New(sha256.New, secret[:])
		m.Write([]byte(apdu.SimpleLabel))
		m.Write(q.Data)
		a.Data = m.Sum(nil)
	}
	return a
}

// prove answers the questions of one proof.
func (u *unit) prove(secret proof.Secret) {
	u.r.Helper()
	for range 2 {
		u.send(u.reply(u.question(), secret).Message())
	}
}

const simple = "simple.0123456789abcdef"

func TestProof(t *testing.T) {
	audited := make(chan audit.Entry, 100)
	run(t, func(r *rig) {
		asking(proof.First, proof.Reattach)(r)
		r.conf.Audit = func(e audit.Entry) {
			if e.What == audit.Deny {
				audited <- e
			}
		}
	}, func(r *rig) {
		ua, ub := r.dial(a), r.dial(b)
		ua.insert(simple)
		q := ua.question()
		r.starts(0)
		ua.send(ua.reply(q, secret).Message())
		q = ua.question()
		st := identity.Statement{Token: simple, Terminal: a, Nonce: [alp.NonceSize]byte(q.Nonce), Time: q.Time, Purpose: q.Purpose}
		if digest, _ := st.Digest(0); q.Purpose != "first" || !bytes.Equal(digest, q.Data) {
			t.Errorf("the card is asked for something else: %+v", q)
		}
		r.starts(0)
		ua.send(ua.reply(q, secret).Message())
		c := ua.shown()
		r.starts(1)

		// Presented again without having been out: not asked again.
		ua.insert(simple)
		ua.shown()
		// Out and in: asked again, for another answer.
		ua.remove(simple)
		ua.insert(simple)
		ua.prove(secret)
		ua.shown()

		// At another terminal a copy of its id is refused, the card is not.
		ub.insert(simple)
		ub.prove(proof.Secret{9})
		if d := ub.denied(); d.OSD != 6 || !strings.Contains(d.Cause, "genuine") {
			t.Errorf("denied %+v", d)
		}
		ub.quiet()
		if e := <-audited; e.Token != simple || e.Terminal != string(b) || !strings.HasPrefix(e.Text, "proof simple: refused: ") {
			t.Errorf("audited %+v", e)
		}
		ub.remove(simple)
		ub.insert(simple)
		ub.prove(secret)
		if d := ub.shown(); d.Session != c.Session {
			t.Errorf("at b %+v, was %+v", d, c)
		}
		r.starts(1)
		synctest.Wait()
		for _, word := range []string{"card is asked for a proof", "card has proven itself", "card has not proven itself"} {
			if !strings.Contains(r.log.String(), word) {
				t.Errorf("the log does not say %q", word)
			}
		}
	})
}

// Where only attaching again asks, whoever has a session made is not asked, and
// a new connection is.
func TestProofUses(t *testing.T) {
	run(t, asking(proof.Reattach), func(r *rig) {
		u := r.dial(a)
		u.insert(simple)
		u.shown()
		again := r.dial(a)
		again.insert(simple)
		again.prove(secret)
		again.shown()
	})
	run(t, asking(proof.First), func(r *rig) {
		u := r.dial(a)
		u.insert(simple)
		u.prove(secret)
		u.shown()
		u.remove(simple)
		u.insert(simple)
		u.shown()
	})
	run(t, asking(proof.First, proof.Reattach), func(r *rig) {
		u := r.dial(a)
		u.insert("other.1")
		u.shown()
	})
}

// A removal ends a proof: its answer, be it right, shows nothing, nor does one
// from before count for the next.
func TestProofRemoval(t *testing.T) {
	run(t, asking(proof.First), func(r *rig) {
		u := r.dial(a)
		u.insert(simple)
		u.send(u.reply(u.question(), secret).Message())
		old := u.reply(u.question(), secret)
		u.remove(simple)
		u.send(old.Message())
		u.quiet()
		u.insert(simple)
		u.send(u.reply(u.question(), secret).Message())
		q := u.question()
		u.send(old.Message())
		u.quiet()
		old.Tag = q.Tag
		u.send(old.Message())
		u.denied()
		r.starts(0)
	})
}

func TestProofTimeOut(t *testing.T) {
	run(t, asking(proof.First), func(r *rig) {
		u := r.dial(a)
		u.insert(simple)
		u.question()
		u.quiet()
		time.Sleep(proof.AnswerWithin + time.Second)
		synctest.Wait()
		if d := u.denied(); d.OSD != 5 || !strings.Contains(d.Cause, "does not answer") {
			t.Errorf("denied %+v", d)
		}
		r.starts(0)
	})
}

// The proof comes before the redirect, which says so; a kind that a redirect's
// own proof vouches for is not asked again.
func TestProofAndRedirect(t *testing.T) {
	there := local.Answer{Where: local.There, Session: "00000000000000aa", Target: netip.MustParseAddrPort("10.0.0.2:7443"), Props: "p"}
	asked := make(chan local.Lookup, 10)
	run(t, func(r *rig) {
		asking(proof.Reattach)(r)
		r.group.Answer = func(q local.Lookup) (local.Answer, error) { asked <- q; return there, nil }
	}, func(r *rig) {
		u := r.dial(a)
		u.insert(simple)
		u.prove(secret)
		u.next(alp.CmdRedirectInf)
		for _, want := range []string{"", "simple"} {
			if q := <-asked; q.Proven != want {
				t.Errorf("asked %+v, proven is to be %q", q, want)
			}
		}
		// Out and in, it has proven nothing.
		u.remove(simple)
		u.insert(simple)
		u.question()
		if q := <-asked; q.Proven != "" {
			t.Errorf("asked %+v", q)
		}
	})
	run(t, func(r *rig) {
		asking(proof.First, proof.Reattach)(r)
		r.group.Proof = func(local.Verify) local.Verified { return local.Verified{OK: true, Proven: "simple"} }
	}, func(r *rig) {
		u := r.dial(a)
		q := u.request(simple)
		q.Redirect, q.Props = true, "p"
		u.send(q.Message())
		u.shown()
	})
	run(t, asking(proof.First), func(r *rig) {
		u := r.dial(a)
		q := u.request(simple)
		q.Redirect, q.Props = true, "made up"
		u.send(q.Message())
		u.prove(secret)
		u.shown()
	})
}

// What the card owes is said by the rules of the host that shows the session: a
// redirect from one with other rules, or none, shows nothing without it.
func TestProofByOtherRules(t *testing.T) {
	const session = alp.SessionID("00000000000000aa")
	pin := "policy sec host=south first=pin reattach=pin"
	north, asked := onNorth(func(local.Lookup) local.Answer {
		return local.Answer{Where: local.There, Session: session, Host: "south", Target: south.Target, Props: "p"}
	}, pin)
	run(t, north, func(r *rig) { // north asks nothing, and says so
		u := r.dial(a)
		u.insert("card.1")
		u.next(alp.CmdRedirectInf)
		if q := asked(); len(q) != 1 || q[0].Proven != "" {
			t.Errorf("asked %+v", q)
		}
	})
	rules := func(kind string) string { return "policy sec host=south first=" + kind + " reattach=" + kind }
	for _, tc := range []struct {
		what, given string
		rules       string
		asks        bool
	}{
		{"nothing was asked", "", rules("pin"), true},
		{"the host of before says nothing", "", rules("piv-card"), true},
		{"nothing is a kind of its own", "none", rules("pin"), true},
		{"that kind", "pin", rules("pin"), false},
		{"that kind, without a PIN", "piv-card", rules("piv-card"), false},
		{"more: the PIN was given", "piv", rules("pin"), false},
		{"more: the key was used", "piv", rules("piv-card"), false},
		{"less: no PIN", "piv-card", rules("piv"), true},
		{"less: no key", "pin", rules("piv"), true},
		{"another", "piv-card", rules("pin"), true},
		{"one that nobody knows", "pins", rules("pin"), true},
		{"what it had for a new one", "piv-card", "policy sec host=south first=piv-card reattach=pin", true},
		{"no need", "", "policy sec host=north first=pin reattach=pin", false},
	} {
		for _, sent := range []local.Verified{{Session: session}, {Session: session, New: true}, {}} {
			run(t, func(r *rig) {
				ruled(tc.rules)(r)
				r.conf.Host = "south"
				r.parent.Add(client.Status{Session: session, Token: "card.1", Started: 1})
				sent.OK, sent.Proven = true, tc.given
				r.group.Proof = func(local.Verify) local.Verified { return sent }
			}, func(r *rig) {
				u := r.dial(a)
				redirected(u, "card.1")
				if tc.asks {
					u.question()
					u.quiet()
				} else if c := u.session(); c.Session != session {
					t.Errorf("%s: %+v", tc.what, c)
				}
			})
		}
	}
	// A new session needs its own; and what was vouched for here is passed on.
	for given, asks := range map[string]bool{"": true, "pin": false, "piv": false, "simple": true} {
		run(t, func(r *rig) {
			ruled(pin)(r)
			r.conf.Host = "south"
			r.group.Proof = func(local.Verify) local.Verified { return local.Verified{OK: true, Proven: given} }
		}, func(r *rig) {
			u := r.dial(a)
			redirected(u, "card.1")
			if asks {
				u.question()
				r.starts(0)
			} else {
				u.session()
				r.starts(1)
			}
		})
	}
	before, asked := onNorth(func(local.Lookup) local.Answer { return south }, "policy sec first=pin reattach=pin", "policy h hosts=south")
	run(t, func(r *rig) {
		before(r)
		r.group.Proof = func(local.Verify) local.Verified { return local.Verified{OK: true, Proven: "pin"} }
	}, func(r *rig) {
		u := r.dial(a)
		redirected(u, "card.1")
		u.next(alp.CmdRedirectInf)
		if q := asked(); len(q) != 1 || q[0].Proven != "pin" {
			t.Errorf("asked %+v", q)
		}
	})
}

// A redirect's proof is of the card that is in, whichever card's sessions it opens.
func TestRedirectedAlias(t *testing.T) {
	const session = alp.SessionID("00000000000000aa")
	run(t, func(r *rig) {
		ruled("token card.1 user=ann", "token card.2 alias=card.1", "policy p reattach=pin")(r)
		r.parent.Add(client.Status{Session: session, Token: "card.1", Started: 1})
		r.group.Proof = func(q local.Verify) local.Verified {
			return local.Verified{OK: q.Token == "card.2", Session: session, Proven: "pin"}
		}
	}, func(r *rig) {
		u := r.dial(a)
		redirected(u, "card.2")
		if c := u.session(); c.Session != session {
			t.Errorf("%+v", c)
		}
	})
}

// Without the group manager, the session that is here needs its proof too.
func TestProofGroupAway(t *testing.T) {
	run(t, asking(proof.Reattach), func(r *rig) {
		u := r.dial(a)
		u.insert(simple)
		u.shown()
		u.remove(simple)
		synctest.Wait()
		r.group.SetAway("away")
		u.insert(simple)
		u.prove(secret)
		u.shown()
		r.group.SetAway("")
	})
}

// Cards that were named by other rules are named again first.
func TestCardRules(t *testing.T) {
	list, err := identity.ParseList("simple\natr\n")
	if err != nil {
		t.Fatal(err)
	}
	run(t, func(r *rig) { r.conf.Rules = list }, func(r *rig) {
		u := r.dial(a)
		q := u.request("other.1")
		q.Rules = "builtin"
		u.send(q.Message())
		for range 2 {
			rules, err := alp.ParseCardRules(u.next(alp.CmdCardRulesInf))
			if err != nil || rules.List != "simple,atr" || rules.Version != list.Version {
				t.Fatalf("%+v, %v", rules, err)
			}
		}
		u.quiet()
		r.starts(0)
		// One that goes on so cannot name it: it is told, and waits no longer.
		<-time.After(control.RenameWithin + time.Second)
		q = u.request("other.1")
		q.Rules = "builtin"
		u.send(q.Message())
		if c, err := alp.ParseConnInf(u.next(alp.CmdConnInf)); err != nil || c.Allowed || c.TokenSeq != q.TokenSeq || !strings.Contains(c.Cause, "newer program") {
			t.Fatalf("%+v, %v", c, err)
		}
		r.starts(0)
		q = u.request(simple)
		q.Rules = list.Version
		u.send(q.Message())
		u.shown()
	})
}

func TestBadCardLines(t *testing.T) {
	run(t, asking(proof.First), func(r *rig) {
		u := r.dial(a)
		u.write("infoSmartCard tag=x apdu_result=1 rec_data= rec_len=0 status=9000\n")
		u.quiet()
		u.insert(simple)
		u.question()
		u.write("infoSmartCard tag=x apdu_result=1 rec_data=00 rec_len=9 status=9000\n")
		u.next(alp.CmdProtocolError)
		u.quiet()
	})
}
