//go:build pam

package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hotdesk/tools/internal/lab"
)

// The host that has the registry is gone: at the one that follows it users log
// in by password, find their sessions by card after a login, and have new ones,
// by the rules that it knows; the audit goes on, changes wait until the registry
// is back.
func TestPolicyAway(t *testing.T) {
	r, s, secret := byPassword(t, "north", "south", "a", "b")
	at := fmt.Sprintf("%v:7445", r.node("north").Addr)
	north := r.host("north", func(c *lab.Installed) {
		c.ServerArgs = append(c.ServerArgs, "-pam-service", s.name, "-registry-listen", at)
	})
	south := r.host("south", func(c *lab.Installed) {
		c.ServerArgs = append(c.ServerArgs, "-pam-service", s.name, "-registry", "https://"+at)
	})
	says := func(host, what, want string, words ...string) {
		t.Helper()
		r.eventually(what, func() (bool, string) {
			out := r.tries(host, words...)
			return strings.Contains(out, want), out
		})
	}
	says("south", "the registry", "connected", "registry", "status")
	const mine, other = "simple.4d013c7f33545165", "simple.4d02f7d472cfa2ed" // card1, card2
	r.manage("south", "token", "add", mine, "user="+r.user.Name)
	r.manage("south", "policy", "add", "own", "cards=registered", "reattach=login", "bare=login")
	says("south", "the rules", "reattach", "policy", "show", "own")

	r.must(north.Crash(r.ctx))
	says("south", "that the registry is away", "AWAY", "registry", "status")
	a, b := r.terminal("a", "-server", r.at("south")), r.terminal("b", "-server", r.at("south"))
	r.see(a, "picture")
	empty := r.rest(a)

	// A new session by card, whose owner the copy of the registry knows; it is
	// locked at its return, and the password opens it.
	r.hands(a, "insert", "card1")
	r.desk(a)
	r.paint(a, "2a7f62")
	r.hands(a, "remove")
	r.shows(a, empty)
	r.hands(a, "insert", "card1")
	locked := r.changes(a, empty)
	r.writes(a, "wrong\n")
	r.logged(south.Server, `msg="login failed" addr=`, 1)
	r.changes(a, locked)
	r.writes(a, secret+"\n")
	r.colour(a, "2a7f62")

	// A login without a card, and a new session by it.
	r.see(b, "picture")
	r.rest(b)
	r.writes(b, r.user.Name+"\n"+secret+"\n")
	r.desk(b)
	r.eventually("two sessions", func() (bool, string) { n := r.sessions(); return n == 2, fmt.Sprint(n) })

	// A card that is not registered is refused, and no admin can change that now.
	r.hands(a, "remove")
	r.shows(a, empty)
	r.hands(a, "insert", "card2")
	r.logged(south.Server, "module=Registered:own", 1)
	if out := r.tries("south", "token", "add", other, "user="+r.user.Name); !strings.Contains(out, "the registry is away") {
		t.Errorf("a change while it is away: %s", out)
	}
	out := r.manage("south", "audit", "list", "-host", "south")
	for _, want := range []string{" begin ", " login ", " fail ", "Registered:own"} {
		if !strings.Contains(out, want) {
			t.Errorf("nothing of %q in the audit:\n%s", want, out)
		}
	}

	r.must(north.Boot(r.ctx))
	says("south", "the registry again", "connected", "registry", "status")
	r.manage("south", "token", "add", other, "user="+r.user.Name)
	says("north", "the change", other, "token", "list")
	r.hands(a, "remove")
	r.rest(a) // at either host's login screen
	r.hands(a, "insert", "card2")
	r.desk(a)
}

// tries is manage of what may fail: what it says either way.
func (r *realm) tries(host string, words ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(r.ctx, filepath.Join(bin, "hotdesk"), append([]string{"-runtime", r.hosts[host].Runtime}, words...)...)
	out, _ := cmd.CombinedOutput()
	return string(out)
}
