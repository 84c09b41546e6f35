//go:build pam

package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/tools/internal/lab"
)

// manage runs hotdesk as the administrator of a host.
func (r *realm) manage(host string, words ...string) string {
	r.t.Helper()
	return admin(r.t, "", filepath.Join(bin, "hotdesk"), append([]string{"-runtime", r.hosts[host].Runtime}, words...)...)
}

// only is the one session that there is.
func (r *realm) only(host string) adminapi.Session {
	r.t.Helper()
	var all []adminapi.Session
	r.eventually("one session", func() (bool, string) {
		out := r.manage(host, "-json", "session", "list", "-host", host)
		err := json.Unmarshal([]byte(out), &all)
		return err == nil && len(all) == 1, out
	})
	return all[0]
}

// latest is the session that was shown last.
func (r *realm) latest(host string) (last adminapi.Session) {
	r.t.Helper()
	var all []adminapi.Session
	r.must(json.Unmarshal([]byte(r.manage(host, "-json", "session", "list", "-host", host)), &all))
	for _, s := range all {
		if s.Last.After(last.Last) {
			last = s
		}
	}
	return last
}

// The registry's rules on real programs: a user registers a card by logging in;
// to see the session again the password is asked for, and nothing of the
// session is shown before; an admin locks it; who may not, and when, is told
// so; a session ends when its card was out for long enough, or nobody saw it.
func TestPolicy(t *testing.T) {
	r, s, secret := byPassword(t, "north", "a", "b", "c")
	north := r.host("north", func(c *lab.Installed) { c.ServerArgs = append(c.ServerArgs, "-pam-service", s.name) })
	r.eventually("the registry", func() (bool, string) {
		out := r.manage("north", "registry", "status")
		return strings.Contains(out, "connected"), out
	})
	r.manage("north", "policy", "add", "own", "cards=self")

	a := r.terminal("a", "-server", r.at("north"), "-size", "1280x1024")
	r.see(a, "picture")
	empty := r.rest(a)
	r.hands(a, "insert", "card1")
	r.changes(a, empty)
	r.writes(a, r.user.Name+"\n"+secret+"\n")
	r.desk(a)
	r.paint(a, "2a7f62")
	token := string(r.only("north").Token)
	terminal := string(r.only("north").Terminal)
	if out := r.manage("north", "token", "show", token); !strings.Contains(out, "user="+r.user.Name) {
		t.Errorf("the token is %s", out)
	}
	out := r.manage("north", "policy", "explain", token, terminal)
	t.Log("\n" + out)
	if !strings.Contains(out, "Card:own") || !strings.Contains(out, r.user.Name) {
		t.Errorf("explained as %s", out)
	}

	// Registered, it needs no login.
	r.hands(a, "remove")
	r.shows(a, empty)
	r.hands(a, "insert", "card1")
	r.colour(a, "2a7f62")

	// Hot-desk authentication, at screens of three sizes.
	r.manage("north", "policy", "set", "own", "reattach=login")
	r.hands(a, "remove")
	r.shows(a, empty)
	r.hands(a, "insert", "card1")
	locked := r.changes(a, empty)
	r.shot(a, "lock-1280x1024")
	r.writes(a, "wrong\n")
	r.logged(north.Server, `msg="login failed" addr=`, 1)
	r.changes(a, locked)
	r.shot(a, "lock-wrong")
	r.writes(a, secret+"\n")
	r.colour(a, "2a7f62")
	for name, size := range map[string]string{"b": "800x600", "c": "3840x2160"} {
		u := r.terminal(name, "-server", r.at("north"), "-size", size)
		r.see(u, "picture")
		before := r.rest(u)
		r.hands(u, "insert", "card1")
		r.changes(u, before)
		r.shot(u, "lock-"+size)
		r.hands(u, "remove")
		r.shows(u, before)
	}
	r.colour(a, "2a7f62") // whoever cannot log in takes nothing away

	// Locked by an admin.
	id := string(r.only("north").ID)
	before := r.rest(a)
	r.manage("north", "session", "lock", id)
	r.changes(a, before)
	r.shot(a, "locked-by-admin")
	r.writes(a, secret+"\n")
	r.colour(a, "2a7f62")

	// Not at these hours.
	r.hands(a, "remove")
	r.shows(a, empty)
	day := strings.ToLower(time.Now().AddDate(0, 0, 3).Weekday().String()[:3])
	r.manage("north", "policy", "add", "day", "hours="+day+"/08:00-18:00")
	r.hands(a, "insert", "card1")
	r.logged(north.Server, "module=Hours:day", 1)
	r.changes(a, empty)
	r.shot(a, "denied-1280x1024")
	r.manage("north", "policy", "remove", "day")
	r.hands(a, "remove")
	r.shows(a, empty)

	// Two sessions, and the switcher: by hot key, at card-in, at three sizes.
	r.manage("north", "policy", "set", "own", "reattach=", "first=login", "choose=yes", "sessions=2")
	r.hands(a, "insert", "card1")
	r.colour(a, "2a7f62")
	before = r.rest(a)
	r.hands(a, "key", "ctrl+alt+home")
	before = r.changes(a, before)
	r.shot(a, "switch-one")
	r.hands(a, "key", "tab") // to the first button
	r.hands(a, "key", "tab")
	r.hands(a, "key", "enter")
	before = r.changes(a, before)
	r.writes(a, r.user.Name+"\n"+secret+"\n")
	r.desk(a)
	r.paint(a, "7f2a62")
	for name, size := range map[string]string{"b": "800x600", "c": "3840x2160"} {
		u := r.terminals[name]
		before := r.rest(u)
		r.hands(u, "insert", "card1")
		r.changes(u, before)
		r.shot(u, "switch-"+size)
		r.hands(u, "remove")
		r.shows(u, before)
	}
	before = r.rest(a)
	r.hands(a, "key", "ctrl+alt+home")
	r.changes(a, before)
	r.shot(a, "switch-1280x1024")
	r.hands(a, "key", "right")
	r.hands(a, "key", "enter")
	r.colour(a, "2a7f62")
	if n := r.sessions(); n != 2 {
		t.Errorf("%d sessions", n)
	}
	r.hands(a, "key", "ctrl+alt+end")
	r.logged(north.Server, "wish=leave", 1)
	r.eventually("no session on a screen", func() (bool, string) {
		out := r.manage("north", "session", "list", "-host", "north")
		return !strings.Contains(out, " connected"), out
	})
	r.rest(a)
	r.shot(a, "left")
	r.hands(a, "remove")
	r.shows(a, empty)
	r.manage("north", "session", "end", string(r.latest("north").ID))
	r.eventually("one session", func() (bool, string) { n := r.sessions(); return n == 1, fmt.Sprint(n) })
	r.manage("north", "policy", "set", "own", "first=", "choose=")

	// A session at which nobody types is taken off the screen, with a warning
	// before that, and is there again when somebody asks.
	r.manage("north", "policy", "set", "own", "idle=detach:8s")
	before = r.rest(a)
	r.hands(a, "insert", "card1")
	r.changes(a, before)
	r.logged(north.Server, `msg="session is idle" `, 1)
	r.shot(a, "idle-warning")
	r.logged(north.Server, `msg="session is idle for too long"`, 1)
	r.eventually("no session on a screen", func() (bool, string) {
		out := r.manage("north", "session", "list", "-host", "north")
		return !strings.Contains(out, " connected"), out
	})
	r.rest(a)
	r.shot(a, "idle")
	r.manage("north", "policy", "set", "own", "idle=")
	r.hands(a, "key", "enter")
	r.desk(a)
	r.hands(a, "remove")
	r.shows(a, empty)

	// The end of a session whose card is out.
	r.manage("north", "policy", "set", "own", "removal=end:2s")
	r.hands(a, "insert", "card1")
	r.desk(a)
	began := time.Now()
	r.hands(a, "remove")
	r.eventually("the end of the session", func() (bool, string) { n := r.sessions(); return n == 0, fmt.Sprint(n) })
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("it ended after %v", took)
	}
}
