//go:build pam

package e2e

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"hotdesk/tools/internal/account"
	"hotdesk/tools/internal/lab"
)

// A kiosk on real programs: terminals without a card run it as the account of
// the pool, each time in a home as the skeleton has it; what a visitor leaves,
// in files and in processes, the next does not find, also when the keeper was
// killed; who comes when all accounts are in use is told so.
func TestKiosk(t *testing.T) {
	r := newRealm(t, []string{"north", "a", "b"})
	pool, err := account.Temporary(t.Context(), "k", false)
	r.must(err)
	t.Cleanup(func() { r.must(pool.RemoveTemporary()) })
	r.must(os.RemoveAll(pool.Home)) // it is to have none of its own
	group, err := user.LookupGroupId(fmt.Sprint(pool.GID))
	r.must(err)
	skeleton := r.lab.Path("skeleton")
	r.must(os.Mkdir(skeleton, 0o755))
	r.must(os.WriteFile(filepath.Join(skeleton, "colour"), []byte("#2a7f62\n"), 0o644))
	north := r.host("north", func(c *lab.Installed) {
		c.ServerArgs = []string{"-kiosk-group", group.Name, "-kiosk-skeleton", skeleton}
	})
	r.eventually("the registry", func() (bool, string) {
		out := r.manage("north", "registry", "status")
		return strings.Contains(out, "connected"), out
	})
	// It is the skeleton's colour only while nothing of an earlier one is there.
	const litter = "/var/tmp/hotdesk-kiosk-litter"
	t.Cleanup(func() { os.Remove(litter) })
	r.manage("north", "kiosk", "add", "web", "accounts="+pool.Name,
		`command=test -e `+litter+` -o -e left || xsetroot -solid $(cat colour); echo >`+litter+`; echo >left; rm colour; setsid sleep 7531 & exec xterm -geometry 20x5+2000+1400`)
	r.manage("north", "policy", "add", "hall", "bare=session", "kiosk=web", "disconnected=1s")

	a := r.terminal("a", "-server", r.at("north"))
	r.colour(a, "2a7f62")
	ids, err := north.Sessions()
	r.must(err)
	st, keeper, err := north.Keeper(r.ctx, ids[0])
	r.must(err)
	if p := readRan(st.X); st.User != pool.Name || p.uid != pool.UID {
		t.Errorf("the kiosk is %s's, its X server of uid %d", st.User, p.uid)
	}
	terminal := r.only("north").Terminal
	out := r.manage("north", "policy", "explain", "pseudo."+string(terminal), string(terminal))
	t.Log("\n" + out)
	if !strings.Contains(out, "web") || !strings.Contains(out, "hall") {
		t.Errorf("explained as %s", out)
	}

	b := r.terminal("b", "-server", r.at("north"))
	r.logged(north.Server, `msg="no kiosk"`, 1)
	r.see(b, "picture")
	r.shot(b, "kiosk-full")
	r.must(b.Proc.Stop(patience))

	// A keeper that is killed cannot clean: the next start does.
	proc, err := os.FindProcess(keeper)
	r.must(err)
	r.must(proc.Kill())
	r.eventually("its end", func() (bool, string) { n := r.sessions(); return n == 0, fmt.Sprint(n) })
	r.must(a.Proc.Stop(patience))
	a = r.terminal("a", "-server", r.at("north"))
	r.colour(a, "2a7f62")

	// Shown nowhere it ends, and nothing of it is left.
	r.must(a.Proc.Stop(patience))
	r.eventually("its end", func() (bool, string) { n := r.sessions(); return n == 0, fmt.Sprint(n) })
	r.eventually("nothing left of the account", func() (bool, string) {
		var left []string
		if _, err := os.Lstat(litter); err == nil {
			left = append(left, litter)
		}
		all, err := filepath.Glob("/proc/[0-9]*/status")
		r.must(err)
		for _, path := range all {
			text, _ := os.ReadFile(path)
			// A zombie is what its parent has not looked at yet, and does nothing.
			if strings.Contains(string(text), fmt.Sprintf("Uid:\t%d\t", pool.UID)) && !strings.Contains(string(text), "State:\tZ") {
				name, _, _ := strings.Cut(string(text), "\n")
				left = append(left, path+" "+name)
			}
		}
		return len(left) == 0, strings.Join(left, " ")
	})
}
