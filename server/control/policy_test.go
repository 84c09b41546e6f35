package control_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/control"
	"hotdesk/server/greeter"
	"hotdesk/server/policy"
	"hotdesk/server/session/client"
)

// records is a registry in memory, in the order of adminapi.Sort.
type records struct {
	mu  sync.Mutex
	all []adminapi.Record
}

func (r *records) find(k adminapi.Kind, name string) (adminapi.Record, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return adminapi.Find(r.all, k, name)
}

func (r *records) Token(t alp.Token) (adminapi.Token, bool) {
	x, ok := r.find(adminapi.KindToken, string(t))
	return x.Token(), ok
}

func (r *records) Terminal(id alp.TerminalID) (adminapi.Terminal, bool) {
	x, ok := r.find(adminapi.KindTerminal, string(id))
	return x.Terminal(), ok
}

func (r *records) User(n string) (adminapi.User, bool) {
	x, ok := r.find(adminapi.KindUser, n)
	return x.User(), ok
}

func (r *records) Kiosk(n string) (adminapi.Kiosk, bool) {
	x, ok := r.find(adminapi.KindKiosk, n)
	return x.Kiosk(), ok
}

func (r *records) Policies() (all []adminapi.Policy) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.all {
		if x.Kind == adminapi.KindPolicy {
			all = append(all, x.Policy())
		}
	}
	return all
}

// ruled gives a rig a registry of those lines, and users who can log in.
func ruled(lines ...string) func(*rig) {
	return func(r *rig) {
		reg := &records{}
		set := func(lines []string) {
			all, err := adminapi.ParseText([]byte("hotdesk-registry 1\n" + strings.Join(lines, "\n") + "\n"))
			if err != nil {
				r.Fatal(err)
			}
			reg.mu.Lock()
			reg.all = all
			reg.mu.Unlock()
		}
		set(lines)
		r.parent.Users = loginUsers()
		r.conf.User = "ann"
		r.conf.View = func() policy.View { return reg }
		r.conf.Enroll = func(_ context.Context, t alp.Token, user string) error {
			if user == "dan" {
				return errors.New("away")
			}
			lines = append(lines, "token "+string(t)+" user="+user)
			set(lines)
			return nil
		}
	}
}

// A user binds a card by logging in; it opens the session without a login from
// then on, to nobody else, and not where the registry is away.
func TestSelfRegistration(t *testing.T) {
	run(t, ruled("policy own cards=self"), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		d := u.form()
		d.fill(0, nil, "dan", "pw")
		if s := u.screen(); !strings.Contains(s.Screen.Text, "cannot be registered now") {
			t.Errorf("%+v", s.Screen)
		}
		u.remove("card.1")
		u.insert("card.1")
		u.form().fill(0, nil, "bob", "pw")
		synctest.Wait()
		r.screens.Shown(r.screens.Last()).Answer(r.screens.Last(), answer("123"))
		c := u.session()
		r.parent.Keeper(c.Session).Redeem(c.Gen)
		u.remove("card.1")
		u.insert("card.1")
		if again := u.session(); again.Session != c.Session {
			t.Error("another session")
		}
		x := r.srv.Explain(context.Background(), "card.1", a, "")
		if x.User != "bob" || x.Decided != "Card:own" || x.Outcome != "session" {
			t.Errorf("%+v", x)
		}
		if x := r.srv.Explain(context.Background(), "card.1", a, "ann"); x.Decided != "Owner" {
			t.Errorf("%+v", x)
		}
		if x := r.srv.Explain(context.Background(), "card.2", a, ""); x.Outcome != "login" {
			t.Errorf("%+v", x)
		}
	})
}

func answer(fields ...string) greeter.Answer {
	var a greeter.Answer
	for _, f := range fields {
		a.Fields = append(a.Fields, []byte(f))
	}
	return a
}

// Nothing is asked for a new session; to see it again its user's password is.
// The lock screen asks for nobody else's, and for nothing while the session is
// shown.
func TestReattachLogin(t *testing.T) {
	run(t, ruled("policy rha reattach=login"), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		u.remove("card.1")
		u.insert("card.1")
		d := u.form()
		f := d.form()
		if f.Title != "Locked" || len(f.Fields) != 1 || !f.Fields[0].Secret || !strings.Contains(f.Notes[0].Text, "ann") {
			t.Fatalf("%+v", f)
		}
		d.fill(0, nil, "wrong")
		d.says("not right")
		d.fill(0, nil, "pw")
		if again := u.session(); again.Session != c.Session {
			t.Errorf("%+v", again)
		}
		r.parent.Keeper(c.Session).Redeem(c.Gen + 1)
		r.starts(3) // two of them only let the user in

		// At another terminal it is asked for too; the first keeps the picture until then.
		v := r.dial(b)
		v.insert("card.1")
		d = v.form()
		u.quiet()
		d.fill(0, nil, "pw")
		v.session()
	})
}

// A password for a new session alone.
func TestFirstLogin(t *testing.T) {
	run(t, ruled("policy first first=login"), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		d := u.form()
		if f := d.form(); len(f.Fields) != 2 {
			t.Fatalf("%+v", f)
		}
		d.fill(0, nil, "ann", "pw")
		c := u.session()
		r.parent.Keeper(c.Session).Redeem(c.Gen)
		if n := len(r.parent.Begun()); n != 1 {
			t.Errorf("%d sessions", n)
		}
		u.remove("card.1")
		u.insert("card.1")
		if again := u.session(); again.Session != c.Session {
			t.Error("another session")
		}
	})
}

// Who must log in to see a session of another host does so there: the redirect
// says that nobody has.
func TestReattachElsewhere(t *testing.T) {
	run(t, ruled("policy rha reattach=login"), func(r *rig) {
		asked := make(chan local.Lookup, 10)
		r.group.Answer = func(q local.Lookup) (local.Answer, error) {
			asked <- q
			return local.Answer{Where: local.There, Session: "00112233445566aa", Host: "south", Target: netip.MustParseAddrPort("127.0.0.3:7443"), Props: "x"}, nil
		}
		u := r.dial(a)
		u.insert("card.1")
		u.next(alp.CmdRedirectInf)
		if q := <-asked; q.User != "" || q.Token != "card.1" {
			t.Errorf("%+v", q)
		}
	})
	run(t, func(r *rig) {
		ruled("policy rha reattach=login")(r)
		r.parent.Add(client.Status{Session: "00112233445566aa", Token: "card.1", User: "ann", Started: 1})
		r.group.Proof = func(local.Verify) local.Verified {
			return local.Verified{OK: true, Session: "00112233445566aa"}
		}
	}, func(r *rig) {
		u := r.dial(a)
		redirected(u, "card.1")
		d := u.form()
		if f := d.form(); f.Title != "Locked" {
			t.Fatalf("%+v", f)
		}
		d.fill(0, nil, "pw")
		u.session()
	})
}

// An admin locks a session: its terminal shows the lock screen at once.
func TestLock(t *testing.T) {
	run(t, ruled(), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		if was, err := r.srv.Lock(context.Background(), c.Session); !was || err != nil {
			t.Fatal(was, err)
		}
		d := u.form()
		if f := d.form(); f.Title != "Locked" {
			t.Fatalf("%+v", f)
		}
		v := r.dial(b) // it is locked everywhere
		v.insert("card.1")
		if f := v.form().form(); f.Title != "Locked" {
			t.Fatalf("%+v", f)
		}
		d.fill(0, nil, "pw")
		if again := u.shown(); again.Session != c.Session {
			t.Errorf("%+v", again)
		}
		if _, err := r.srv.Lock(context.Background(), "00112233445566ff"); err == nil {
			t.Error("a session that is not there")
		}
		if r.parent.Keeper(c.Session).Status().Locked {
			t.Error("it is locked, and shown")
		}
	})
}

// However a lock and the attachment that ends it follow each other on their way,
// keeper and gateway are of one mind in the end.
func TestLockAndAttachInOrder(t *testing.T) {
	settled := func(r *rig, c alp.ConnInf, locked bool) {
		r.Helper()
		synctest.Wait()
		if got := r.parent.Keeper(c.Session).Status(); got.Locked != locked {
			r.Errorf("the keeper says %+v", got)
		}
		w := r.dial("080020c0ffee")
		w.insert("card.1")
		if locked {
			if f := w.form().form(); f.Title != "Locked" {
				r.Errorf("%+v", f)
			}
		} else if again := w.session(); again.Session != c.Session {
			r.Errorf("%+v", again)
		}
	}
	// Another terminal takes it over, which is the end of the first attachment
	// and so a lock; the second one ends it.
	run(t, ruled("policy p removal=lock"), func(r *rig) {
		u, v := r.dial(a), r.dial(b)
		u.insert("card.1")
		u.shown()
		v.insert("card.1")
		c := v.shown()
		settled(r, c, false)
	})
	// The connection to the keeper is lost, and with it the word of the unlock.
	run(t, ruled("policy p removal=lock"), func(r *rig) {
		u, v := r.dial(a), r.dial(b)
		u.insert("card.1")
		u.shown()
		v.insert("card.1")
		c := v.shown()
		k := r.parent.Keeper(c.Session)
		k.Cut()
		settled(r, c, false)
	})
	// Who has logged in before the lock, and is not there yet, logs in again.
	run(t, ruled("policy p reattach=login"), func(r *rig) {
		u, v := r.dial(a), r.dial(b)
		u.insert("card.1")
		c := u.shown()
		v.insert("card.1")
		d := v.form()
		hold := make(chan struct{})
		r.parent.Keeper(c.Session).SetHold(hold)
		d.fill(0, nil, "pw")
		synctest.Wait()
		if _, err := r.srv.Lock(context.Background(), c.Session); err != nil {
			t.Fatal(err)
		}
		close(hold)
		if n := v.connInf(); n.Session != "" {
			t.Errorf("it is offered the session: %+v", n)
		}
		settled(r, c, true)
	})
	// Whoever may see it was offered it and does not come: nobody else is shown it.
	run(t, ruled(), func(r *rig) {
		u, v := r.dial(a), r.dial(b)
		u.insert("card.1")
		c := u.shown()
		if _, err := r.srv.Lock(context.Background(), c.Session); err != nil {
			t.Fatal(err)
		}
		v.insert("card.1")
		v.form().fill(0, nil, "pw")
		v.session()
		settled(r, c, true)
	})
}

// A session that was offered and not taken is as unseen as before.
func TestOfferLapses(t *testing.T) {
	run(t, ruled("policy p disconnected=1m"), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.session()
		k := r.parent.Keeper(c.Session)
		r.pass(time.Minute)
		if k.Ended() {
			t.Fatal("it ended before its time")
		}
		r.pass(time.Minute)
		if !k.Ended() {
			t.Error("it waits for ever")
		}
	})
}

// Where nobody can log in nothing is locked: there would be no way back.
func TestLockWithoutLogins(t *testing.T) {
	run(t, func(r *rig) {
		ruled()(r)
		r.conf.Local = true
	}, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		if _, err := r.srv.Lock(context.Background(), c.Session); !errors.Is(err, control.ErrNoLogins) {
			t.Error(err)
		}
		u.remove("card.1")
		u.insert("card.1")
		if again := u.shown(); again.Session != c.Session {
			t.Errorf("%+v", again)
		}
	})
}

// What was locked is locked for the gateway that comes after too, whether it
// had been taken off its terminal by then or not.
func TestLockOutlivesGateway(t *testing.T) {
	run(t, ruled(), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		if _, err := r.srv.Lock(context.Background(), c.Session); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !r.parent.Keeper(c.Session).Status().Locked {
			t.Error("the keeper knows nothing of it")
		}
	})
	run(t, ruled("policy p removal=lock"), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		u.remove("card.1")
		synctest.Wait()
		if !r.parent.Keeper(c.Session).Status().Locked {
			t.Error("the keeper knows nothing of a removal's lock")
		}
	})
	for _, at := range []alp.TerminalID{"", a} {
		run(t, func(r *rig) {
			ruled()(r)
			r.parent.Add(client.Status{Session: "00000000000000c1", Token: "card.1", User: "ann", Terminal: at, Gen: 3, Locked: true})
		}, func(r *rig) {
			k := r.parent.Keeper("00000000000000c1")
			synctest.Wait()
			if st := k.Status(); st.Terminal != "" {
				t.Errorf("it is still shown: %+v", st)
			}
			u := r.dial(a)
			q := u.request("card.1")
			q.Connected, q.Session, q.Gen = at != "", "00000000000000c1", 3
			u.send(q.Message())
			f := u.form()
			if f.form().Title != "Locked" {
				t.Fatalf("at %q: %+v", at, f.form())
			}
			if st := k.Status(); st.Terminal != "" || k.Offers() != 0 {
				t.Errorf("at %q: shown: %+v", at, st)
			}
			f.fill(0, nil, "pw")
			if c := u.session(); c.Session != "00000000000000c1" {
				t.Errorf("%+v", c)
			}
		})
	}
}

// The lock screen of a user without a card asks for that user's password, and
// lets another log in instead.
func TestLockWithoutCard(t *testing.T) {
	run(t, ruled("policy p bare=login"), func(r *rig) {
		u := r.dial(a)
		u.insert(bare(a))
		u.form().fill(0, nil, "ann", "pw")
		c := u.session()
		r.parent.Keeper(c.Session).Redeem(c.Gen)
		if was, err := r.srv.Lock(context.Background(), c.Session); !was || err != nil {
			t.Fatal(was, err)
		}
		d := u.form()
		if f := d.form(); f.Title != "Locked" || len(f.Fields) != 1 {
			t.Fatalf("%+v", f)
		}
		d.fill(1, nil, "")
		d = u.form()
		if f := d.form(); len(f.Fields) != 2 || f.Fields[0].Value != "" {
			t.Fatalf("%+v", f)
		}
		d.fill(0, nil, "cleo", "pw")
		d.says("Quota")
		d.fill(0, nil)
		other := u.session()
		if other.Session == c.Session {
			t.Error("cleo has ann's")
		}
		r.parent.Keeper(other.Session).Redeem(other.Gen)
		v := r.dial(b)
		v.insert(bare(b))
		v.form().fill(0, nil, "ann", "pw")
		if again := v.session(); again.Session != c.Session {
			t.Error("another session")
		}
	})
}

func TestRemovalLocks(t *testing.T) {
	run(t, ruled("policy p removal=lock"), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		u.shown()
		u.remove("card.1")
		u.insert("card.1") // however fast
		if f := u.form().form(); f.Title != "Locked" {
			t.Fatalf("%+v", f)
		}
	})
}

// A session ends when its card was out for long enough, and not when it came
// back; a terminal that goes away is no card that was pulled.
func TestRemovalEnds(t *testing.T) {
	run(t, ruled("policy p removal=end:30s disconnected=10m"), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		u.remove("card.1")
		r.pass(29 * time.Second)
		u.insert("card.1")
		if again := u.shown(); again.Session != c.Session {
			t.Error("another session")
		}
		r.pass(time.Minute)
		if r.parent.Keeper(c.Session).Ended() {
			t.Fatal("it ended while it was shown")
		}
		u.remove("card.1")
		r.pass(31 * time.Second)
		if !r.parent.Keeper(c.Session).Ended() {
			t.Error("it did not end")
		}
	})
	run(t, ruled("policy p removal=end:30s disconnected=10m"), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		r.parent.Keeper(c.Session).Release("the network is gone")
		r.pass(9 * time.Minute)
		if r.parent.Keeper(c.Session).Ended() {
			t.Fatal("it ended too soon")
		}
		r.pass(2 * time.Minute)
		if !r.parent.Keeper(c.Session).Ended() {
			t.Error("it did not end")
		}
	})
}

// Where a user may not have a session, or not another, is said on the screen.
func TestMayStart(t *testing.T) {
	run(t, ruled("policy p hosts=south"), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		if s := u.screen(); !strings.Contains(s.Screen.Text, "south") {
			t.Errorf("%+v", s.Screen)
		}
		r.starts(0)
	})
	run(t, ruled("policy p first=login sessions=1"), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		u.form().fill(0, nil, "ann", "pw")
		c := u.session()
		r.parent.Keeper(c.Session).Redeem(c.Gen)
		v := r.dial(b)
		v.insert("card.2")
		v.form().fill(0, nil, "ann", "pw")
		if s := v.screen(); !strings.Contains(s.Screen.Text, "as many sessions") {
			t.Errorf("%+v", s.Screen)
		}
	})
}

// A rule asks a card for a proof that no file speaks of.
func TestProofByRule(t *testing.T) {
	run(t, func(r *rig) {
		ruled("policy p token=simple.* first=simple")(r)
		r.conf.Proofs = proofs{secret: secret}
	}, func(r *rig) {
		u := r.dial(a)
		u.insert(simple)
		u.prove(secret)
		u.shown()
		u.remove(simple)
		u.insert(simple)
		u.shown()
	})
}

func (u *unit) wish(w alp.Wish) {
	u.send(alp.DeskReq{Identity: u.identity(), TokenSeq: u.seq, Wish: w}.Message())
}

// Several sessions of one card: a new one and back, by hot key and at card-in.
func TestSwitch(t *testing.T) {
	run(t, ruled("policy p choose=yes sessions=2"), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		first := u.shown()
		r.pass(time.Second)
		u.wish(alp.WishSwitch)
		d := u.form()
		if f := d.form(); len(f.Choices) != 1 || len(f.Choices[0].Options) != 1 || len(f.Buttons) != 3 {
			t.Fatalf("%+v", f)
		}
		d.fill(1, []string{string(first.Session)})
		second := u.shown()
		if second.Session == first.Session {
			t.Fatal("no new session")
		}
		r.pass(time.Second)
		u.wish(alp.WishSwitch)
		d = u.form()
		f := d.form()
		if len(f.Choices[0].Options) != 2 || f.Choices[0].Options[0].Value != string(second.Session) {
			t.Fatalf("%+v", f)
		}
		d.fill(0, []string{string(first.Session)})
		if c := u.shown(); c.Session != first.Session {
			t.Error("not the one that was chosen")
		}
		synctest.Wait() // it is shown there by now
		u.remove("card.1")
		u.insert("card.1")
		d = u.form()
		d.fill(2, []string{string(second.Session)})
		if c := u.shown(); c.Session != first.Session {
			t.Error("not the latest")
		}
		u.wish(alp.WishSwitch)
		d = u.form()
		d.fill(1, []string{string(second.Session)})
		if s := u.screen(); !strings.Contains(s.Screen.Text, "as many sessions") {
			t.Errorf("%+v", s.Screen)
		}
		r.starts(2)
	})
}

// Leaving by hot key: the session runs on, the terminal shows something else;
// without a card the login screen. A wish about a picture of before does
// nothing, nor does one that the policy does not allow.
func TestLeave(t *testing.T) {
	run(t, ruled("policy p bare=login"), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		u.seq--
		u.wish(alp.WishLeave)
		u.seq++
		u.quiet()
		u.wish(alp.WishSwitch)
		u.next(alp.CmdNoticeInf)
		u.wish(alp.WishLeave)
		again := u.form()
		if f := again.form(); !strings.Contains(f.Title, "You have left") {
			t.Errorf("%+v", f)
		}
		if st := r.parent.Keeper(c.Session).Status(); st.Terminal != "" {
			t.Errorf("%+v", st)
		}
		again.fill(0, nil)
		if back := u.shown(); back.Session != c.Session {
			t.Error("another session")
		}
		v := r.dial(b)
		v.insert(bare(b))
		v.form().fill(0, nil, "ann", "pw")
		n := v.session()
		r.parent.Keeper(n.Session).Redeem(n.Gen)
		synctest.Wait()
		v.wish(alp.WishLeave)
		d := v.form()
		if f := d.form(); len(f.Fields) != 2 {
			t.Errorf("%+v", f)
		}
		synctest.Wait()
		if st := r.parent.Keeper(n.Session).Status(); st.Terminal != "" {
			t.Errorf("%+v", st)
		}
		d.fill(0, nil, "ann", "pw")
		if again := v.session(); again.Session != n.Session {
			t.Error("another session")
		}
	})
}

// A registered card's session is its owner's where the card has proven itself,
// or a rule says that it need not; the name alone opens nobody's account.
func TestAccount(t *testing.T) {
	for rule, want := range map[string]string{"policy p cards=any": "ann", "policy p first=none": "bob"} {
		run(t, ruled("token card.1 user=bob", rule), func(r *rig) {
			u := r.dial(a)
			u.insert("card.1")
			u.shown()
			if got := r.parent.Starts()[0].User; got != want {
				t.Errorf("%s: the session is %s's, want %s", rule, got, want)
			}
		})
	}
	run(t, func(r *rig) {
		ruled("token "+simple+" user=bob", "policy p first=simple")(r)
		r.conf.Proofs = proofs{secret: secret}
	}, func(r *rig) {
		u := r.dial(a)
		u.insert(simple)
		u.prove(secret)
		u.shown()
		if got := r.parent.Starts()[0].User; got != "bob" {
			t.Errorf("the session is %s's", got)
		}
	})
	run(t, ruled("policy p bare=session kiosk=web", "kiosk web command=top"), func(r *rig) {
		u := r.dial(a)
		u.insert(bare(a))
		if s := u.screen(); !strings.Contains(s.Screen.Text, "web has no accounts") {
			t.Errorf("%+v", s.Screen)
		}
		r.starts(0)
	})
}

// A kiosk asks for no password: at its terminals a card shows no session that
// somebody has elsewhere, whatever their rules ask for.
func TestKioskShowsNobodysSession(t *testing.T) {
	rules := ruled("policy a terminal="+string(b)+" kiosk=web", "policy b reattach=login", `kiosk web command="top -d 1" accounts=k1`)
	run(t, rules, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		u.shown()
		u.remove("card.1")
		v := r.dial(b)
		v.insert("card.1")
		if s := v.screen(); s.Screen.Kind != greeter.Denied || !strings.Contains(s.Screen.Text, "for visitors") {
			t.Errorf("%+v", s.Screen)
		}
		r.starts(1)
	})
}

// A kiosk runs as the first of its accounts that is free; a login that another
// rule asks for is none of its matters.
func TestKiosk(t *testing.T) {
	const c = alp.TerminalID("080020000003")
	pool := ruled("policy p bare=session kiosk=web first=login reattach=login", `kiosk web command="top -d 1" accounts=k1,k2`)
	run(t, pool, func(r *rig) {
		for i, want := range []string{"k1", "k2"} {
			id := []alp.TerminalID{a, b}[i]
			u := r.dial(id)
			u.insert(bare(id))
			u.shown()
			if got := r.parent.Starts()[i]; got.User != want || got.Kiosk != "top -d 1" || got.Login {
				t.Errorf("%+v, want %s's", got, want)
			}
		}
		u := r.dial(c)
		u.insert(bare(c))
		if s := u.screen(); s.Screen.Kind != greeter.Denied || !strings.Contains(s.Screen.Text, "All 2 places of web") {
			t.Errorf("%+v", s.Screen)
		}
		r.starts(2)
	})
	run(t, func(r *rig) {
		pool(r)
		r.conf.Local = true
	}, func(r *rig) {
		for _, id := range []alp.TerminalID{a, b, c} { // the caller has as many as come
			u := r.dial(id)
			u.insert(bare(id))
			u.shown()
		}
		r.starts(3)
	})
}

// One account that cannot be cleaned costs nobody the kiosk: whoever meets it
// gets another at once, and it is taken last until it works again. The log says
// so once.
func TestKioskAccountBroken(t *testing.T) {
	pool := ruled("policy p bare=session kiosk=web", `kiosk web command=top accounts=k1,k2,k3`)
	run(t, pool, func(r *rig) {
		var mended atomic.Bool
		r.parent.FailFor = func(user string) error {
			if user == "k1" && !mended.Load() {
				return errors.New("keeper: processes of " + user + " do not end")
			}
			return nil
		}
		as := func(n int) (users string) {
			for _, s := range r.parent.Starts()[n:] {
				users += " " + s.User
			}
			return users
		}
		show := func(id alp.TerminalID) {
			u := r.dial(id)
			u.insert(bare(id))
			u.shown()
		}
		show(a)
		if got := as(0); got != " k1 k2" {
			t.Errorf("started as%s", got)
		}
		show(b)
		if got := as(2); got != " k3" {
			t.Errorf("started as%s", got)
		}
		u := r.dial("080020000003")
		u.insert(bare("080020000003")) // it is all that there is
		if d := u.denied(); !strings.Contains(d.Cause, "do not end") {
			t.Errorf("told %s", d.Cause)
		}
		if got := as(3); got != " k1" {
			t.Errorf("started as%s", got)
		}
		synctest.Wait()
		if n := strings.Count(r.log.String(), "account of a kiosk does not start"); n != 1 {
			t.Errorf("told %d times", n)
		}
		mended.Store(true)
		u.remove(bare("080020000003"))
		u.insert(bare("080020000003"))
		u.shown()
		synctest.Wait()
		if !strings.Contains(r.log.String(), "account of a kiosk starts again") {
			t.Error("not told that it works")
		}
	})
}
