package control_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/control"
	"hotdesk/server/greeter"
	"hotdesk/server/login"
	"hotdesk/server/policy"
	"hotdesk/server/session/client"
	"hotdesk/server/session/keeper/pam/pamtest"
)

// Users who can log in: one with a password alone, one with a code besides.
func loginUsers() *pamtest.Users {
	return pamtest.New(map[string]pamtest.User{"ann": {Password: "pw"}, "bob": {Password: "pw", Code: "123"}, "cleo": {Password: "pw", Notice: "Quota is nearly full."}, "dan": {Password: "pw"}, "exp": {Password: "pw", Expired: true}})
}

func logins(who policy.Logins) func(*rig) {
	return func(r *rig) {
		r.conf.Policy.Login = who
		r.parent.Users = loginUsers()
		r.conf.Logins = control.Logins{Desktops: func() []greeter.Option {
			return []greeter.Option{{Value: "", Text: "Default"}, {Value: "xfce", Text: "Xfce"}}
		}}
	}
}

// A desk is a terminal that shows a form.
type desk struct {
	u   *unit
	gen uint64
}

// form is what the terminal shows, once everything that can happen has.
func (d desk) form() greeter.Form {
	d.u.r.Helper()
	synctest.Wait()
	f := d.u.r.screens.Shown(d.gen).Form
	if f == nil {
		d.u.r.Fatalf("no form as %d", d.gen)
	}
	return *f
}

func (u *unit) form() desk {
	u.r.Helper()
	return desk{u, u.connInf().Gen}
}

// fill answers the form.
func (d desk) fill(button int, choices []string, fields ...string) {
	d.u.r.Helper()
	a := greeter.Answer{Button: button, Choices: choices}
	for _, f := range fields {
		a.Fields = append(a.Fields, []byte(f))
	}
	synctest.Wait()
	d.u.r.screens.Shown(d.gen).Answer(d.gen, a)
}

// says reports whether a note of the form has the text.
func (d desk) says(text string) {
	d.u.r.Helper()
	f := d.form()
	if !slices.ContainsFunc(f.Notes, func(n greeter.Note) bool { return strings.Contains(n.Text, text) }) {
		d.u.r.Errorf("the form says %+v, want %q", f.Notes, text)
	}
}

func bare(id alp.TerminalID) string { return "pseudo." + string(id) }

// session is the offer of a session.
func (u *unit) session() alp.ConnInf {
	u.r.Helper()
	c := u.connInf()
	if !c.Allowed || c.Session == "" {
		u.r.Fatalf("no session: %+v", c)
	}
	return c
}

func TestLogin(t *testing.T) {
	run(t, logins(policy.LoginBare), func(r *rig) {
		u := r.dial(a)
		u.insert(bare(a))
		d := u.form()
		if f := d.form(); len(f.Fields) != 2 || f.Choices[0].Options[f.Choices[0].Chosen].Value != "de" || len(f.Choices) != 2 {
			t.Errorf("the first form is %+v", f)
		}
		d.fill(0, []string{"fr", "xfce"}, "ann", "wrong")
		d.says("not right")
		if f := d.form(); f.Fields[0].Value != "ann" || f.Focus != 1 || f.Layout != "fr" {
			t.Errorf("after a failure: %+v", f)
		}
		d.fill(0, []string{"fr", "xfce"}, "ann", "pw")
		c := u.session()
		if c.Token != "user.ann" {
			t.Errorf("token %s", c.Token)
		}
		want := []client.Begin{{Token: "user.ann", Width: 1280, Height: 1024, Layout: "fr", Desktop: "xfce"}}
		if got := r.parent.Begun(); !slices.Equal(got, want) {
			t.Errorf("began %+v", got)
		}
		r.parent.Keeper(c.Session).Redeem(c.Gen)

		// At another terminal the same session, in no second keeper.
		v := r.dial(b)
		v.insert(bare(b))
		d = v.form()
		d.fill(0, []string{"us", ""}, "ann", "pw")
		if again := v.session(); again.Session != c.Session {
			t.Errorf("another session")
		}
		if n := len(r.parent.Begun()); n != 1 {
			t.Errorf("%d sessions", n)
		}
		// The first one can log in again, and is told why; and again when the
		// session ends.
		r.parent.Keeper(c.Session).Redeem(c.Gen + 1)
		d = u.form()
		d.says("shown at another terminal")
		d.fill(0, nil, "ann", "pw")
		if again := u.session(); again.Session != c.Session {
			t.Errorf("another session")
		}
		if n := strings.Count(r.log.String(), `msg="login failed"`); n != 1 {
			t.Errorf("%d failures in the log", n)
		}
		if strings.Contains(r.log.String(), "pw") || strings.Contains(r.log.String(), "wrong") {
			t.Errorf("a password is in the log: %s", r.log)
		}
	})
}

// The line of a failure is what a jail can read, whatever the user types.
func TestLoginLine(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rule, _ := strings.Cut(string(readme), "failregex = ")
	rule, _, _ = strings.Cut(rule, "\n")
	if !strings.Contains(rule, "<HOST>") {
		t.Fatalf("the README has no filter: %q", rule)
	}
	line := regexp.MustCompile(strings.ReplaceAll(rule, "<HOST>", `(\S+)`))
	run(t, logins(policy.LoginBare), func(r *rig) {
		u := r.dial(a)
		u.insert(bare(a))
		d := u.form()
		for _, name := range []string{"ann", "addr=1.2.3.4", "x=1", "größe"} {
			d.fill(0, nil, name, "wrong")
			synctest.Wait()
		}
		// What is no name never gets to the modules, nor into the log.
		d.fill(0, nil, "a b\nlevel=WARN msg=\"login failed\" addr=1.2.3.4", "wrong")
		synctest.Wait()
		n := 0
		for l := range strings.Lines(r.log.String()) {
			if m := line.FindStringSubmatch(l); m != nil {
				n++
				if m[1] != "127.0.0.9" {
					t.Errorf("%s names %s", l, m[1])
				}
			}
		}
		if n != 4 {
			t.Errorf("%d lines\n%s", n, r.log)
		}
	})
}

func TestLoginPrompts(t *testing.T) {
	run(t, logins(policy.LoginBare), func(r *rig) {
		u := r.dial(a)
		u.insert(bare(a))
		d := u.form()
		d.fill(0, nil, "bob", "pw")
		if f := d.form(); len(f.Fields) != 1 || f.Fields[0].Label != "One-time code" || f.Fields[0].Secret {
			t.Errorf("%+v", f)
		}
		d.fill(1, nil, "") // cancelled
		if f := d.form(); len(f.Fields) != 2 {
			t.Errorf("%+v", f)
		}
		d.fill(0, nil, "bob", "pw")
		d.form()
		d.fill(0, nil, "123")
		u.session()

		v := r.dial(b)
		v.insert(bare(b))
		d = v.form()
		d.fill(0, nil, "cleo", "pw")
		d.says("Quota is nearly full.")
		if n := len(r.parent.Begun()); n != 1 {
			t.Errorf("%d sessions before all was read", n)
		}
		d.fill(0, nil)
		v.session()
	})
}

// A card that is out ends its login, at any moment.
func TestLoginCardOut(t *testing.T) {
	run(t, logins(policy.LoginCard), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		d := u.form()
		d.fill(0, nil, "bob", "pw")
		d.form()
		u.remove("card.1")
		synctest.Wait()
		if got := strings.Join(r.parent.Users.Calls(), " "); got != "Start Authenticate End" {
			t.Errorf("calls %s", got)
		}
		d.fill(0, nil, "123") // too late
		synctest.Wait()
		if n := len(r.parent.Begun()); n != 0 {
			t.Errorf("%d sessions", n)
		}
		if hidden := r.screens.Hidden(); !slices.Contains(hidden, d.gen) {
			t.Errorf("the form is still shown: %v", hidden)
		}

		// Nobody comes: the form gives way.
		u.insert("card.1")
		u.form()
		for range int(login.NamingWithin / time.Minute) {
			u.send(u.identity().KeepAliveReq(false))
			u.next(alp.CmdKeepAliveCnf)
			r.pass(time.Minute)
		}
		if s := u.screen().Screen; s.Kind != greeter.InsertCard {
			t.Errorf("%+v", s)
		}
	})
}

// A login screen that is left alone gives way as a rule says, and a question that
// nobody answers ends the attempt: nothing of it is left, in the modules either.
func TestLoginLeftAlone(t *testing.T) {
	rules := ruled("policy p cards=self login-time=30s")
	alone := func(u *unit, d time.Duration) {
		for ; d > 0; d -= 10 * time.Second {
			u.send(u.identity().KeepAliveReq(false))
			u.next(alp.CmdKeepAliveCnf)
			u.r.pass(10 * time.Second)
		}
	}
	run(t, rules, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		d := u.form()
		alone(u, 20*time.Second)
		if f := d.form(); len(f.Fields) != 2 {
			t.Errorf("it has given way: %+v", f)
		}
		alone(u, 10*time.Second)
		if s := u.screen().Screen; s.Kind != greeter.InsertCard {
			t.Errorf("%+v", s)
		}
		u.remove("card.1")
		u.insert("card.1")
		d = u.form()
		d.fill(0, nil, "bob", "pw")
		if f := d.form(); len(f.Fields) != 1 || f.Fields[0].Label != "One-time code" {
			t.Fatalf("%+v", f)
		}
		alone(u, 30*time.Second)
		d.says("Nobody answered")
		if f := d.form(); len(f.Fields) != 2 || f.Fields[0].Value != "" {
			t.Errorf("the form has the name of whoever was there: %+v", f)
		}
		if got := strings.Join(r.parent.Users.Calls(), " "); got != "Start Authenticate End" {
			t.Errorf("calls %s", got)
		}
	})
}

// Whoever guesses waits, sees how long, and can go back; the attempt is made by
// itself then. Nobody else waits for it: neither another user, nor the same one
// at a terminal where that one has been, whatever strangers do in the name.
func TestLoginHeldBack(t *testing.T) {
	run(t, logins(policy.LoginBare), func(r *rig) {
		home := r.dialFrom(a, "10.0.0.7:5000")
		home.insert(bare(a))
		home.form().fill(0, nil, "ann", "pw")
		c := home.session()
		r.parent.Keeper(c.Session).Redeem(c.Gen)

		thief := r.dialFrom(b, "10.0.0.66:5000")
		thief.insert(bare(b))
		d := thief.form()
		guess := func() (waits bool) {
			d.fill(0, nil, "ann", "wrong")
			return d.form().Busy
		}
		held := 0
		for range 12 {
			if !guess() {
				continue
			}
			held++
			f := d.form()
			if len(f.Buttons) != 1 || f.Buttons[0] != "Cancel" {
				t.Errorf("held back: %+v", f)
			}
			d.says("This one waits ")
			for range 61 { // MaxWait, whatever it is by now
				if !d.form().Busy {
					break
				}
				r.pass(time.Second)
				for _, u := range []*unit{thief, home} {
					u.send(u.identity().KeepAliveReq(false))
					u.next(alp.CmdKeepAliveCnf)
				}
			}
			d.says("not right") // it was made by itself
		}
		if held < 9 {
			t.Errorf("held back %d times of 12", held)
		}
		if !guess() {
			t.Fatal("a guess does not wait")
		}
		d.says("waits 60 seconds")
		calls := len(r.parent.Users.Calls())
		d.fill(0, nil) // the only button
		if f := d.form(); len(f.Fields) != 2 || f.Busy {
			t.Errorf("after Cancel: %+v", f)
		}
		if n := len(r.parent.Users.Calls()); n != calls {
			t.Error("what was cancelled was tried")
		}
		d.fill(0, nil, "ann", "") // without a password: asked for it, and back
		d.fill(1, nil, "")

		// At home the user goes out and in as ever.
		r.parent.Keeper(c.Session).End("over")
		h := home.form()
		h.fill(0, nil, "ann", "pw")
		home.session()
		if got := strings.Count(r.log.String(), `msg="login failed"`); got != 12 {
			t.Errorf("%d failures counted", got)
		}
	})
}

// A card's session is its user's alone.
func TestLoginOfAnother(t *testing.T) {
	run(t, logins(policy.LoginCard), func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		u.form().fill(0, nil, "ann", "pw")
		c := u.session()
		if c.Token != "card.1" {
			t.Errorf("token %s", c.Token)
		}
		u.remove("card.1")
		v := r.dial(b)
		v.insert("card.1") // a copy
		v.form().fill(0, nil, "dan", "pw")
		if s := v.screen().Screen; s.Kind != greeter.Denied || !strings.Contains(s.Text, "another user") {
			t.Errorf("%+v", s)
		}
		w := r.dial(a)
		w.insert("card.1")
		w.form().fill(0, nil, "ann", "pw")
		if again := w.session(); again.Session != c.Session {
			t.Error("another session")
		}
	})
}

// A redirect says who has logged in: nobody does it twice, and a proof that
// says nothing of a user does not count as a login.
func TestLoginRedirected(t *testing.T) {
	const id = alp.SessionID("00000000000000c1")
	for _, user := range []string{"ann", "cleo", ""} {
		run(t, func(r *rig) {
			logins(policy.LoginAll)(r)
			r.parent.Add(client.Status{Session: id, Token: "user.ann", User: "ann"})
			r.group.Proof = func(v local.Verify) local.Verified { return local.Verified{OK: true, Session: id, User: user} }
		}, func(r *rig) {
			u := r.dial(a)
			q := u.request(bare(a))
			q.Redirect, q.Props = true, "x"
			u.send(q.Message())
			synctest.Wait()
			switch user {
			case "ann":
				if c := u.session(); c.Session != id {
					t.Errorf("%+v", c)
				}
			case "":
				if f := u.form().form(); len(f.Fields) != 2 {
					t.Errorf("%+v", f)
				}
			default:
				if c := u.connInf(); c.Session != "" {
					t.Errorf("%s got ann's session", user)
				}
			}
		})
	}
}

// So many at a time, and the rest is told.
func TestLoginsAtATime(t *testing.T) {
	run(t, logins(policy.LoginBare), func(r *rig) {
		var all []desk
		for i := range control.MaxLogins + 1 {
			id := alp.TerminalID(fmt.Sprintf("0800200000%02x", i))
			u := r.dial(id)
			u.insert(bare(id))
			d := u.form()
			d.fill(0, nil, "bob", "pw")
			all = append(all, d)
		}
		all[control.MaxLogins].says("Many people are logging in")
		all[0].fill(1, nil, "")
		all[control.MaxLogins].fill(0, nil, "bob", "pw")
		if f := all[control.MaxLogins].form(); len(f.Fields) != 1 {
			t.Errorf("%+v", f)
		}
	})
}

// Those who have logged in count no more, and what let them in is gone.
func TestLoginsInAll(t *testing.T) {
	run(t, logins(policy.LoginBare), func(r *rig) {
		for i := range control.MaxLogins + 2 {
			id := alp.TerminalID(fmt.Sprintf("0800200000%02x", i))
			u := r.dial(id)
			u.insert(bare(id))
			u.form().fill(0, nil, "ann", "pw")
			c := u.session()
			r.parent.Keeper(c.Session).Redeem(c.Gen)
		}
		synctest.Wait()
		n := 0
		for _, call := range r.parent.Users.Calls() {
			if call == "End" {
				n++
			}
		}
		if n != control.MaxLogins+2 { // a twin's ends with its lobby even where there is a session
			t.Errorf("%d logins ended", n)
		}
	})
}

// Without the modules the screen says so.
func TestLoginCannotBegin(t *testing.T) {
	run(t, func(r *rig) {
		logins(policy.LoginBare)(r)
		r.parent.Fail = fmt.Errorf("logins need a server that root runs")
	}, func(r *rig) {
		u := r.dial(a)
		u.insert(bare(a))
		d := u.form()
		d.fill(0, nil, "ann", "pw")
		d.says("logins need a server that root runs")
	})
}
