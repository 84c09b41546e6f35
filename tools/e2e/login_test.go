//go:build pam

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hotdesk/dtu/terminal"
	"hotdesk/tools/internal/account"
	"hotdesk/tools/internal/debian"
	"hotdesk/tools/internal/lab"
)

// A stack is a PAM service of this test's own.
type stack struct{ name, dir string }

// newStack writes the service's file; %s is a folder for what modules read.
func newStack(t *testing.T, lines string) stack {
	t.Helper()
	s := stack{name: fmt.Sprintf("hotdesk-test-%d", os.Getpid()), dir: t.TempDir()}
	path := filepath.Join("/etc/pam.d", s.name)
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(lines, "DIR", s.dir)), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s stack) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// admin runs one of the system's programs, again where another test has the lock of
// the password file.
func admin(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	for end := time.Now().Add(patience); ; pause() {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err == nil {
			return strings.TrimSpace(string(out))
		}
		if locked := strings.Contains(string(out), "cannot lock") || strings.Contains(string(out), "lock busy"); !locked || time.Now().After(end) {
			t.Fatalf("%s %v: %v: %s", name, args, err, out)
		}
	}
}

func password(t *testing.T, u *account.Account, text string) {
	admin(t, u.Name+":"+text+"\n", "chpasswd")
}

// passwordStack asks for a password and for nothing else.
const passwordStack = `auth required pam_unix.so nodelay
account required pam_unix.so
password required pam_unix.so
session required pam_unix.so
`

// byPassword is a network whose user has a password, and a service that asks for
// nothing else.
func byPassword(t *testing.T, nodes ...string) (r *realm, s stack, secret string) {
	t.Helper()
	if err := debian.Need(t.Context(), os.Stderr, debian.Logins...); err != nil {
		t.Fatal(err)
	}
	r = newRealm(t, nodes)
	s = newStack(t, passwordStack)
	secret = "Rose-tree 7"
	password(t, r.user, secret)
	return r, s, secret
}

const unixStack = `auth required pam_unix.so nodelay
account required pam_unix.so
account required pam_time.so conffile=DIR/time.conf
password required pam_unix.so
session required pam_limits.so conf=DIR/limits.conf
session required pam_env.so conffile=DIR/env.conf envfile=DIR/environment
session required pam_unix.so
`

// shot keeps what a terminal shows where HOTDESK_SHOTS names a folder.
func (r *realm) shot(t *lab.Terminal, name string) {
	if dir := os.Getenv("HOTDESK_SHOTS"); dir != "" {
		r.hands(t, "screenshot", filepath.Join(dir, name+".png"))
	}
}

// changes waits until a terminal shows a picture of its server's that is not hash, and
// rests: what it draws by itself meanwhile takes no keys.
func (r *realm) changes(t *lab.Terminal, hash string) string {
	r.t.Helper()
	var now string
	r.eventually("another picture", func() (bool, string) {
		r.see(t, "picture")
		before := r.status(t, "counters")
		now = r.rest(t)
		return now != hash && r.status(t, "state") == string(terminal.Picture) && r.status(t, "counters") == before, now
	})
	return now
}

// asks waits for a login's nth question at a terminal of h, and for the form
// that takes the answer: before it there is one that takes nothing, for as long
// as the modules think.
func (r *realm) asks(h *lab.Host, t *lab.Terminal, n int) {
	r.t.Helper()
	r.logged(h.Server, `msg="login asks" terminal=`+r.status(t, "terminal"), n)
	r.rest(t)
}

// writes types at a screen, once that is shown.
func (r *realm) writes(t *lab.Terminal, text string) {
	r.t.Helper()
	r.see(t, "picture")
	r.hands(t, "type", text)
}

// A user logs in by typing at terminals without cards: a wrong password, the
// right one, the session that is theirs with what the modules gave it, the same
// session at a terminal of another host without a second login, a password
// that has expired, a locked account, hours.
func TestLogin(t *testing.T) {
	if err := debian.Need(t.Context(), os.Stderr, debian.Logins...); err != nil {
		t.Fatal(err)
	}
	r := newRealm(t, []string{"north", "south", "a", "b", "c"})
	s := newStack(t, unixStack)
	s.write(t, "time.conf", "")
	s.write(t, "limits.conf", r.user.Name+" hard nofile 777\n"+r.user.Name+" soft nofile 555\n")
	s.write(t, "env.conf", "HD_GREETING DEFAULT=hello\n")
	s.write(t, "environment", "")
	const secret, better = "Rose-tree 7", "Oak&Ash-9 leaves"
	password(t, r.user, secret)
	logins := func(c *lab.Installed) {
		c.ServerArgs = append(c.ServerArgs, "-login", "bare", "-pam-service", s.name)
	}
	north := r.host("north", logins)
	r.host("south", logins)
	r.together("north", "south")

	a := r.terminal("a", "-server", r.at("north"))
	r.see(a, "picture")
	empty := r.rest(a)
	r.shot(a, "login")
	r.writes(a, r.user.Name+"\nwrong\n")
	r.logged(north.Server, `msg="login failed" addr=`, 1)
	wrong := r.changes(a, empty)
	r.shot(a, "login-wrong")

	began := time.Now()
	r.writes(a, secret+"\n")
	r.desk(a)
	t.Logf("from Return to the desktop at rest: %v", time.Since(began))
	r.shot(a, "login-desk")
	if wrong == empty {
		t.Error("nothing was said of the wrong password")
	}
	told := filepath.Join(r.user.Home, "told")
	r.writes(a, "(id -un; ulimit -Sn; ulimit -Hn; echo $HD_GREETING) > $HOME/told.new; mv $HOME/told.new $HOME/told\n")
	want := r.user.Name + "\n555\n777\nhello\n"
	r.eventually("what the modules gave", func() (bool, string) {
		text, _ := os.ReadFile(told)
		return string(text) == want, string(text)
	})
	r.paint(a, "2a7f62")

	// At a terminal of the other host: one login, then redirected.
	b := r.terminal("b", "-server", r.at("south"))
	r.see(b, "picture")
	r.rest(b)
	r.writes(b, r.user.Name+"\n"+secret+"\n")
	r.colour(b, "2a7f62")
	if at := r.status(b, "server"); at != r.at("north") {
		t.Errorf("b is at %s", at)
	}
	r.eventually("one session", func() (bool, string) { n := r.sessions(); return n == 1, fmt.Sprint(n) })

	// An expired password is changed on the way; the session is the old one.
	admin(t, "", "chage", "-d", "0", r.user.Name)
	c := r.terminal("c", "-server", r.at("north"))
	r.see(c, "picture")
	r.rest(c)
	r.writes(c, r.user.Name+"\n"+secret+"\n")
	r.asks(north, c, 1)
	r.shot(c, "login-expired")
	r.writes(c, secret+"\n")
	r.asks(north, c, 2)
	r.writes(c, better+"\n")
	r.asks(north, c, 3)
	r.writes(c, better+"\n")
	r.colour(c, "2a7f62")
}

// A second factor, at screens of three sizes: a card is pushed in, its user logs
// in with password and code, pulls it, and the desktop is gone; a copy of the
// card shows nothing to somebody else.
func TestLoginCard(t *testing.T) {
	if err := debian.Need(t.Context(), os.Stderr, debian.Logins...); err != nil {
		t.Fatal(err)
	}
	r := newRealm(t, []string{"north", "a", "b", "c"})
	other, err := account.Temporary(t.Context(), "o", false)
	r.must(err)
	t.Cleanup(func() { r.must(other.RemoveTemporary()) })
	s := newStack(t, "auth required pam_unix.so nodelay\nauth required pam_oath.so usersfile=DIR/oath window=20 digits=6\n"+
		"account required pam_unix.so\npassword required pam_unix.so\nsession required pam_unix.so\n")
	const secret = "Rose-tree 7"
	seed := "7477656e7479206279746573206f662073656564"
	for _, u := range []*account.Account{r.user, other} {
		password(t, u, secret)
	}
	s.write(t, "oath", fmt.Sprintf("HOTP %s - %s\nHOTP %s - %s\n", r.user.Name, seed, other.Name, seed))
	code := func(n int) string { return admin(t, "", "oathtool", "-c", fmt.Sprint(n), seed) }
	north := r.host("north", func(c *lab.Installed) {
		c.ServerArgs = append(c.ServerArgs, "-login", "card", "-pam-service", s.name)
	})
	log := func(t *lab.Terminal, name, code, shot string) {
		r.rest(t)
		r.writes(t, name+"\n"+secret+"\n")
		r.asks(north, t, 1)
		r.shot(t, shot)
		r.writes(t, code+"\n")
	}
	at := func(name, size string) *lab.Terminal {
		u := r.terminal(name, "-server", r.at("north"), "-size", size)
		r.see(u, "picture")
		empty := r.rest(u)
		r.hands(u, "insert", "card1")
		r.changes(u, empty)
		r.shot(u, "login-"+size)
		return u
	}
	a := at("a", "800x600")
	empty := r.rest(a)
	log(a, r.user.Name, code(0), "code-800x600")
	r.see(a, "picture", "pixel=400,300,"+xtermColour)
	r.hands(a, "remove")
	r.rest(a)
	r.hands(a, "insert", "card1")
	r.eventually("the form again", func() (bool, string) { h := r.rest(a); return h == empty, h })
	r.hands(a, "remove")

	b := at("b", "3840x2160")
	log(b, other.Name, code(0), "code-3840x2160")
	r.logged(north.Server, `msg="session is another user's"`, 1)
	r.rest(b)
	r.shot(b, "another")
	c := at("c", "1280x1024")
	log(c, r.user.Name, code(1), "code-1280x1024")
	r.see(c, "picture", "pixel=400,300,"+xtermColour)
	r.eventually("one session", func() (bool, string) { n := r.sessions(); return n == 1, fmt.Sprint(n) })
}
