//go:build pam

package e2e

import (
	"fmt"
	"os"
	"os/user"
	"strings"
	"testing"

	"hotdesk/tools/internal/account"
	"hotdesk/tools/internal/debian"
	"hotdesk/tools/internal/lab"
)

// Nobody types a password twice: where the rules say it before the login, the
// login screen is that of the host where the session is to be; where only the
// user's groups say it, the user is sent on after the login, and is in.
func TestHostsAndLogins(t *testing.T) {
	r, s, secret := byPassword(t, "north", "south", "a", "b")
	group, err := user.LookupGroupId(fmt.Sprint(r.user.GID))
	r.must(err)
	logins := func(c *lab.Installed) {
		c.ServerArgs = append(c.ServerArgs, "-login", "bare", "-pam-service", s.name, "-session-group", group.Name)
	}
	r.host("north", logins)
	south := r.host("south", logins)
	r.together("north", "south")
	r.eventually("the registry", func() (bool, string) {
		out := r.manage("north", "registry", "status")
		return strings.Contains(out, "connected"), out
	})

	r.manage("north", "user", "add", r.user.Name, "groups=staff")
	r.manage("north", "policy", "add", "staff", "group=staff", "hosts=south")
	a := r.terminal("a", "-server", r.at("north"))
	r.see(a, "picture")
	r.rest(a)
	if at := r.status(a, "server"); at != r.at("north") {
		t.Errorf("before the login a is at %s", at)
	}
	r.writes(a, r.user.Name+"\n"+secret+"\n")
	r.desk(a)
	if at := r.status(a, "server"); at != r.at("south") {
		t.Errorf("after the login a is at %s", at)
	}
	if one := r.only("south"); one.User != r.user.Name {
		t.Errorf("the session is %+v", one)
	}
	if strings.Contains(south.Server.Log(), `msg="logged in"`) {
		t.Error("there was a second login")
	}

	r.manage("north", "policy", "set", "staff", "group=")
	b := r.terminal("b", "-server", r.at("north"))
	r.see(b, "server="+r.at("south"), "picture")
	r.rest(b)
	r.writes(b, r.user.Name+"\n"+secret+"\n")
	r.desk(b)
	r.logged(south.Server, `msg="logged in"`, 1)
	if n := r.sessions(); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

// A host that takes nobody's word for its users lets in whoever was sent there
// after a login, by the password that was typed at the other one, and asks once
// more where its own modules do not find that right.
func TestHandedLogin(t *testing.T) {
	if err := debian.Need(t.Context(), os.Stderr, debian.Logins...); err != nil {
		t.Fatal(err)
	}
	var users []*account.Account
	for _, letter := range []string{"p", "q"} { // -session-user is another
		u, err := account.Temporary(t.Context(), letter, false)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { // once the realm is gone, and all that is the user's
			if err := u.RemoveTemporary(); err != nil {
				t.Error(err)
			}
		})
		users = append(users, u)
	}
	u, late := users[0], users[1]
	r := newRealm(t, []string{"north", "south", "a", "b"})
	s := newStack(t, passwordStack)
	const secret, better = "Rose-tree 7", "Plum-tree 8 by the gate"
	password(t, u, secret)
	password(t, late, secret)
	admin(t, "", "chage", "-d", "0", late.Name)
	logins := func(c *lab.Installed) { c.ServerArgs = append(c.ServerArgs, "-login", "bare", "-pam-service", s.name) }
	north := r.host("north", logins)
	south := r.host("south", logins)
	r.together("north", "south")
	r.eventually("the registry", func() (bool, string) {
		out := r.manage("north", "registry", "status")
		return strings.Contains(out, "connected"), out
	})
	for _, u := range users {
		r.manage("north", "user", "add", u.Name, "groups=staff")
	}
	r.manage("north", "policy", "add", "staff", "group=staff", "hosts=south")
	a := r.terminal("a", "-server", r.at("north"))
	r.see(a, "picture")
	r.rest(a)
	r.writes(a, u.Name+"\n"+secret+"\n")
	r.desk(a)
	if at := r.status(a, "server"); at != r.at("south") {
		t.Errorf("after the login a is at %s", at)
	}
	if one := r.only("south"); one.User != u.Name {
		t.Errorf("the session is %+v", one)
	}
	r.logged(south.Server, `msg="logs in with what was typed at the other host"`, 1)
	r.logged(south.Server, `msg="logged in"`, 1)

	// One that is changed on the way is the one that goes along.
	b := r.terminal("b", "-server", r.at("north"))
	r.see(b, "picture")
	r.rest(b)
	for i, text := range []string{late.Name + "\n" + secret + "\n", secret + "\n", better + "\n"} {
		r.writes(b, text)
		r.asks(north, b, i+1)
	}
	r.writes(b, better+"\n")
	r.desk(b)
	if at := r.status(b, "server"); at != r.at("south") {
		t.Errorf("after the change b is at %s", at)
	}
	r.logged(south.Server, `msg="logs in with what was typed at the other host"`, 2)
	r.logged(south.Server, `msg="logged in"`, 2)
	for _, h := range []*lab.Host{north, south} {
		if log := h.Server.Log(); strings.Contains(log, secret) || strings.Contains(log, better) {
			t.Error("a password is in a log")
		}
	}
}
