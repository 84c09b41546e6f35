//go:build pam

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hotdesk/tools/internal/debian"
	"hotdesk/tools/internal/lab"
)

// xfce is a session script as an admin would write it. The user's hand on
// "Log Out" is the file that the last lines wait for.
const xfce = `(while ! [ -e "$HOME/log-out" ]; do sleep 0.1; done; xfce4-session-logout --logout --fast) &
[ -x /etc/X11/Xsession ] && exec /etc/X11/Xsession xfce4-session
exec xfce4-session
`

// TestXFCE is a real desktop: a user comes, moves to a terminal of another size,
// back again, and logs out. The packages are big, and it is of the long tests.
func TestXFCE(t *testing.T) {
	if os.Getenv("HOTDESK_LONG") == "" {
		t.Log("with HOTDESK_LONG=1: the desktop's packages are big")
		return
	}
	if err := debian.Need(t.Context(), os.Stderr, debian.Desktop...); err != nil {
		t.Fatal(err)
	}
	r := newRealm(t, []string{"north", "a", "b"})
	script := r.lab.Path("desk.sh")
	r.must(os.WriteFile(script, []byte(xfce), 0o644))
	h := r.host("north", func(c *lab.Installed) { c.ServerArgs = []string{"-session-script", script} })
	a := r.terminal("a", "-server", r.at("north"), "-size", "1280x1024")
	r.see(a, "picture")
	empty := r.rest(a)
	r.hands(a, "insert", "card1")
	ids, err := h.Sessions()
	r.must(err)
	need := []string{"xfce4-session", "xfwm4", "xfce4-panel", "xfdesktop"}
	names := func() (all []string) {
		ids, err = h.Sessions()
		if err != nil || len(ids) == 0 {
			return nil
		}
		return members(string(ids[0]))
	}
	r.eventually("the desktop's programs", func() (bool, string) {
		have := names()
		missing := slices.ContainsFunc(need, func(n string) bool {
			return !slices.ContainsFunc(have, func(s string) bool { return strings.HasPrefix(s, n+"(") })
		})
		return !missing, strings.Join(have, " ")
	})
	r.changes(a, empty)
	workarea := func() string {
		st, _, err := h.Keeper(r.ctx, ids[0])
		r.must(err)
		cmd := exec.Command("nsenter", "--target", strconv.Itoa(st.X), "--mount", "--net", "--", "xprop", "-root", "_NET_DESKTOP_GEOMETRY")
		cmd.Env = append(os.Environ(), "DISPLAY="+st.Display, "XAUTHORITY="+filepath.Join(h.FrameBuffers(), string(ids[0]), "Xauthority"))
		out, err := cmd.CombinedOutput()
		r.must(err)
		_, text, _ := strings.Cut(strings.TrimSpace(string(out)), "= ")
		return text
	}
	is := func(want string) {
		t.Helper()
		r.eventually("the size "+want, func() (bool, string) { w := workarea(); return w == want, w })
	}
	is("1280, 1024")
	r.rest(a)
	r.shot(a, "xfce-1280x1024")
	total := 0
	for _, m := range names() {
		name, pid, _ := strings.Cut(strings.TrimSuffix(m, ")"), "(")
		id, _ := strconv.Atoi(pid)
		if kb, err := lab.PSS(id); err == nil {
			t.Logf("PSS %6d kB %s", kb, name)
			total += kb
		}
	}
	t.Logf("PSS %6d kB in all", total)

	r.hands(a, "remove")
	r.shows(a, empty)
	b := r.terminal("b", "-server", r.at("north"), "-size", "1920x1080")
	r.see(b, "picture")
	r.hands(b, "insert", "card1")
	is("1920, 1080")
	r.see(b, "picture")
	r.rest(b)
	r.shot(b, "xfce-1920x1080")
	r.hands(b, "remove")
	r.hands(a, "insert", "card1")
	is("1280, 1024")
	r.see(a, "picture")
	r.rest(a)

	r.must(os.WriteFile(filepath.Join(r.user.Home, "log-out"), nil, 0o644))
	r.eventually("the end of the session", func() (bool, string) { n := r.sessions(); return n == 0, fmt.Sprint(n) })
	r.logged(h.Server, `reason="Your session has ended."`, 1)
	r.shot(a, "xfce-logged-out")
}
