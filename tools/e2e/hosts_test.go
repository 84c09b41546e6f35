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
	u, err := account.Temporary(t.Context(), "p", false) // -session-user is another
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // once the realm is gone, and all that is the user's
		if err := u.RemoveTemporary(); err != nil {
			t.Error(err)
		}
	})
	r := newRealm(t, []string{"north", "south", "a"})
	s := newStack(t, passwordStack)
	const secret = "Rose-tree 7"
	password(t, u, secret)
	logins := func(c *lab.Installed) { c.ServerArgs = append(c.ServerArgs, "-login", "bare", "-pam-service", s.name) }
	north := r.host("north", logins)
	south := r.host("south", logins)
	r.together("north", "south")
	r.eventually("the registry", func() (bool, string) {
		out := r.manage("north", "registry", "status")
		return strings.Contains(out, "connected"), out
	})
	r.manage("north", "user", "add", u.Name, "groups=staff")
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
	for _, h := range []*lab.Host{north, south} {
		if strings.Contains(h.Server.Log(), secret) {
			t.Error("the password is in a log")
		}
	}
}
