package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"hotdesk/tools/internal/account"
	"hotdesk/tools/internal/lab"
)

// The programs as an installation runs them: root keeps sessions, an account
// without rights faces the network, everything of a session is its user's and
// nobody else's. north's group manager comes first, south's server.
func TestRoot(t *testing.T) {
	r := newRealm(t, []string{"north", "south", "a", "b", "c"})
	stranger, err := account.Temporary(t.Context(), "s", false)
	r.must(err)
	t.Cleanup(func() { r.must(stranger.RemoveTemporary()) })
	script := r.lab.Path("desk.sh")
	r.must(os.WriteFile(script, []byte("id -un >\"$HOME/ran-by\"\nxsetroot -solid '#123456'\nexec xterm -geometry 20x5+2000+1400\n"), 0o644))
	north := r.host("north", func(c *lab.Installed) {
		c.ServerArgs = []string{"-session-memory", "700", "-session-processes", "300", "-session-cpu-weight", "50"}
	})
	r.host("south", func(c *lab.Installed) {
		c.ServerFirst = true
		c.ServerArgs = []string{"-session-script", script}
	})
	a, b := r.terminal("a", "-server", r.at("north")), r.terminal("b", "-server", r.at("south"))
	r.see(a, "picture")
	r.see(b, "picture")
	empty := r.rest(a)

	r.hands(a, "insert", "card1")
	r.desk(a)
	r.paint(a, "2a7f62")
	desk := r.rest(a)
	r.ranBy(north)
	r.limitsOf(north)
	r.filesOf(north, stranger)
	r.screenOf(north, stranger)

	r.hands(a, "remove")
	r.shows(a, empty)
	r.hands(b, "insert", "card1") // of the group's other host: redirected
	r.shows(b, desk)
	r.paint(b, "6a3d7c")
	if at := r.status(b, "server"); at != r.at("north") {
		t.Errorf("b is at %s", at)
	}
	r.eventually("one session", func() (bool, string) { n := r.sessions(); return n == 1, strconv.Itoa(n) })
	r.hands(b, "remove")
	r.see(b, "picture")

	// What an admin set outlives the group manager, which writes as an account
	// without rights.
	r.groupctl("north", "offline")
	r.must(north.GroupMgr.Stop(patience))
	r.must(north.StartGroupMgr(r.ctx))
	if st := r.table("north")["north"].State; st != "offline" {
		t.Errorf("north is %s after a restart, and was set offline", st)
	}

	// The other host's sessions have the admin's own script.
	c := r.terminal("c", "-server", r.at("south"))
	r.hands(c, "insert", "card2")
	r.colour(c, "123456")
	who, err := os.ReadFile(filepath.Join(r.user.Home, "ran-by"))
	if strings.TrimSpace(string(who)) != r.user.Name {
		t.Errorf("the session script ran as %q, %v", who, err)
	}
}

// A process as /proc tells.
type ran struct {
	name, args string
	uid, gid   int
	groups     string
	caps       string
}

func readRan(pid int) ran {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	text, _ := os.ReadFile(filepath.Join(dir, "status"))
	line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
	p := ran{args: strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " ")), uid: -1}
	for l := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(l, ":")
		f := strings.Fields(value)
		switch key {
		case "Name":
			p.name = f[0]
		case "Uid": // real, effective, saved, of files: one that differs is none that we expect
			p.uid, _ = strconv.Atoi(f[0])
			if slices.ContainsFunc(f, func(s string) bool { return s != f[0] }) {
				p.uid = -2
			}
		case "Gid":
			p.gid, _ = strconv.Atoi(f[0])
		case "Groups":
			p.groups = strings.Join(f, " ")
		case "CapEff", "CapPrm", "CapInh":
			p.caps += f[0]
		}
	}
	return p
}

// ranBy checks as whom each process of the host runs, by its command line.
func (r *realm) ranBy(h *lab.Host) {
	r.t.Helper()
	const nobodyCan = "000000000000000000000000000000000000000000000000"
	groups := strconv.Itoa(r.user.GID)
	want := map[string]ran{
		"groupmgr":       {uid: r.gateway.UID, gid: r.gateway.GID},
		"server gateway": {uid: r.gateway.UID, gid: r.gateway.GID},
		"server":         {uid: 0},
		"session keeper": {uid: 0},
		"session media":  {uid: r.user.UID, gid: r.user.GID, groups: groups},
		"Xvfb":           {uid: r.user.UID, gid: r.user.GID, groups: groups},
		"openbox":        {uid: r.user.UID, gid: r.user.GID, groups: groups},
		"xterm":          {uid: r.user.UID, gid: r.user.GID, groups: groups},
	}
	seen := map[string]bool{}
	ids, err := h.Sessions()
	r.must(err)
	_, keeper, err := h.Keeper(r.ctx, ids[0])
	r.must(err)
	machine := h.Machine()
	if slices.Contains(machine, keeper) {
		r.t.Error("the keeper is on the host's network")
	}
	for _, pid := range append(machine, keeper) {
		p := readRan(pid)
		words := strings.Fields(p.args)
		if len(words) < 2 {
			words = append(words, "", "")
		}
		name := filepath.Base(words[0])
		if _, is := want[name+" "+words[1]]; is {
			name += " " + words[1]
		}
		w, known := want[name]
		if !known && p.uid != r.user.UID { // the user's own programs: a shell
			r.t.Errorf("process %d (%s) of uid %d is not expected", pid, p.args, p.uid)
		}
		if !known {
			continue
		}
		seen[name] = true
		if p.uid != w.uid || w.uid != 0 && (p.gid != w.gid || p.groups != w.groups || p.caps != nobodyCan) {
			r.t.Errorf("%s runs as %+v, want %+v", name, p, w)
		}
		if name == "session media" { // other programs of the user cannot look into it
			st, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid), "mem"))
			if err != nil || st.Sys().(*syscall.Stat_t).Uid != 0 {
				r.t.Errorf("media is dumpable: %v", err)
			}
		}
	}
	for name := range want {
		if !seen[name] {
			r.t.Errorf("no process %s", name)
		}
	}
}

// limitsOf checks the session's control group: who is in it, what it may use,
// and that the keeper is not held by it. A machine without groups has told so.
func (r *realm) limitsOf(h *lab.Host) {
	r.t.Helper()
	ids, err := h.Sessions()
	r.must(err)
	st, keeper, err := h.Keeper(r.ctx, ids[0])
	r.must(err)
	text, err := os.ReadFile(filepath.Join(h.Runtime, "sessions", string(ids[0]), "cgroup"))
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(h.Runtime, "sessions", string(ids[0]), "keeper.log"))
		if !strings.Contains(string(log), "no control groups") {
			r.t.Errorf("no control group, and nothing said: %s", log)
		}
		return
	}
	found := map[string]string{}
	for dir := range strings.FieldsSeq(string(text)) {
		for file, name := range map[string]string{
			"memory.max": "memory", "memory.limit_in_bytes": "memory", "pids.max": "processes", "cpu.weight": "weight", "cpu.shares": "shares",
		} {
			if b, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
				found[name] = strings.TrimSpace(string(b))
			}
		}
		b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		r.must(err)
		if !slices.Contains(strings.Fields(string(b)), strconv.Itoa(st.X)) || !slices.Contains(strings.Fields(string(b)), strconv.Itoa(st.Media)) {
			r.t.Errorf("%s has not the X server and media, but %q", dir, b)
		}
	}
	groups, err := os.ReadFile("/proc/" + strconv.Itoa(keeper) + "/cgroup")
	if err != nil || strings.Contains(string(groups), string(ids[0])) {
		r.t.Errorf("the keeper is in %q, %v", groups, err)
	}
	r.t.Logf("limits: %v", found)
	if m, is := found["memory"]; is && m != strconv.Itoa(700<<20) {
		r.t.Errorf("memory %s", m)
	}
	if p, is := found["processes"]; is && p != "300" {
		r.t.Errorf("processes %s", p)
	}
}

// reach are those of the paths that an account may read or write.
func (r *realm) reach(a *account.Account, paths []string) []string {
	r.t.Helper()
	cmd := exec.Command("/bin/sh", "-c", `while read -r f; do if [ -r "$f" ] || [ -w "$f" ]; then echo "$f"; fi; done`)
	cmd.Stdin = strings.NewReader(strings.Join(paths, "\n") + "\n")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(a.UID), Gid: uint32(a.GID)}}
	out, err := cmd.Output()
	r.must(err)
	return strings.Fields(string(out))
}

// filesOf checks who reaches what of the host's files.
func (r *realm) filesOf(h *lab.Host, stranger *account.Account) {
	r.t.Helper()
	ids, err := h.Sessions()
	if err != nil || len(ids) != 1 {
		r.t.Fatalf("sessions: %v, %v", ids, err)
	}
	state, fb := r.lab.Path(h.Name+"-state"), h.FrameBuffers()
	var paths []string
	for _, root := range []string{h.Runtime, state, fb} {
		r.must(filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
			paths = append(paths, p)
			return err
		}))
	}
	under := func(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }
	session := filepath.Join(fb, string(ids[0]))
	mays := map[*account.Account]func(string) bool{
		stranger: func(p string) bool {
			return strings.HasSuffix(p, ".pem") && strings.HasPrefix(filepath.Base(p), "host-")
		},
		r.user: func(p string) bool {
			return under(p, session) || strings.HasSuffix(p, ".pem") && strings.HasPrefix(filepath.Base(p), "host-")
		},
		r.gateway: func(p string) bool {
			return p == h.Runtime || strings.HasPrefix(filepath.Base(p), "groupmgr.sock") || under(p, groupState(state)) || under(p, filepath.Join(state, "gateway")) ||
				strings.HasSuffix(p, ".pem") && strings.HasPrefix(filepath.Base(p), "host-")
		},
	}
	for who, may := range mays {
		got := r.reach(who, paths)
		for _, p := range paths {
			if has := slices.Contains(got, p); has != may(p) {
				st, _ := os.Lstat(p)
				r.t.Errorf("%s reaches %s (%v): %v", who.Name, p, st.Mode(), has)
			}
		}
	}
	if len(paths) < 12 {
		r.t.Errorf("too few files to mean something: %v", paths)
	}
}

// screenOf checks who gets to the session's X server.
func (r *realm) screenOf(h *lab.Host, stranger *account.Account) {
	r.t.Helper()
	ids, err := h.Sessions()
	r.must(err)
	st, _, err := h.Keeper(r.ctx, ids[0])
	r.must(err)
	cookie := filepath.Join(h.FrameBuffers(), string(ids[0]), "Xauthority")
	for who, want := range map[*account.Account]bool{r.user: true, stranger: false, r.gateway: false} {
		// From the host's machine, as one of its accounts.
		cmd := exec.Command("nsenter", "--target", strconv.Itoa(st.X), "--mount", "--net", "--",
			"setpriv", "--reuid", strconv.Itoa(who.UID), "--regid", strconv.Itoa(who.GID), "--clear-groups", "xset", "q")
		cmd.Env = append(os.Environ(), fmt.Sprintf("DISPLAY=%s", st.Display), "XAUTHORITY="+cookie)
		out, err := cmd.CombinedOutput()
		if got := err == nil; got != want {
			r.t.Errorf("%s gets to the X server: %v, want %v: %s", who.Name, got, want, out)
		}
	}
}
