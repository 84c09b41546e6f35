package parent

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/keeperapi"

	"golang.org/x/sys/unix"
)

// A kiosk has a home of its own, a copy of the skeleton that follows no link
// out of it, and nothing of it is there for the next: also when its keeper was
// killed.
func TestKiosk(t *testing.T) {
	r := newRig(t)
	dir := filepath.Dir(r.cfg.Runtime)
	r.cfg.KioskGroup, r.cfg.KioskSkeleton = "unasked-in-local-mode", filepath.Join(dir, "skel")
	secret := filepath.Join(dir, "secret")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(r.cfg.KioskSkeleton, "sub"), 0o755),
		os.WriteFile(filepath.Join(r.cfg.KioskSkeleton, "sub", "settings"), []byte("plain\n"), 0o640),
		os.WriteFile(secret, []byte("not the kiosk's\n"), 0o600),
		os.Symlink(secret, filepath.Join(r.cfg.KioskSkeleton, "link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	said := r.script("") // for its pipe
	r.cfg.SessionScript = ""
	g := r.serve()
	lines := bufio.NewReader(said)
	command := fmt.Sprintf(`{ echo $HOME $TMPDIR $(find . -printf '%%P %%l %%m,') $(cat sub/settings); touch kept $TMPDIR/kept; echo done; } >%s; exec sleep 1000`, filepath.Join(dir, "said"))
	for id, how := range map[alp.SessionID]string{one: "killed", other: "stopped"} {
		conn, err := g.Start(t.Context(), Start{Session: id, Token: "pseudo.0800200a0b0c", Kiosk: command})
		if err != nil {
			t.Fatal(err)
		}
		k := watch(t, conn)
		own := filepath.Join(r.cfg.FrameBuffer, string(id))
		for _, want := range []string{own + "/home " + own + "/tmp", "done"} {
			got, err := lines.ReadString('\n')
			if err != nil || !strings.HasPrefix(got, want) || strings.Contains(got, "kept") {
				t.Fatalf("%s: said %q, %v", how, got, err)
			}
			if want != "done" && (!strings.Contains(got, "sub/settings 640") || !strings.Contains(got, "link "+secret) || !strings.HasSuffix(got, " plain\n")) {
				t.Errorf("%s: the home is %q", how, got)
			}
		}
		if how == "stopped" {
			if err := k.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			k.ended(id)
			r.nothingLeft()
			continue
		}
		if err := unix.PidfdSendSignal(k.pidfd, unix.SIGKILL, nil, 0); err != nil {
			t.Fatal(err)
		}
		gone(t, k.pidfd)
		for { // until the parent has heard of it
			list, err := g.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(keeperapi.Lock(r.cfg.Runtime, id)); len(list) == 0 && err != nil {
				break
			}
		}
		r.nothingLeft()
	}
	if text, err := os.ReadFile(secret); err != nil || string(text) != "not the kiosk's\n" {
		t.Errorf("what a link of the skeleton leads to is %q, %v", text, err)
	}
	for _, bad := range []Start{
		{Session: one, Token: "card.1", Kiosk: "top", Login: true, User: "nobody", Terminal: "0800200a0b0c"},
		{Session: one, Token: "card.1", Kiosk: "top\nrm"},
		{Session: one, Token: "card.1", Kiosk: strings.Repeat("x", keeperapi.MaxCommand+1)},
	} {
		if _, err := g.Start(t.Context(), bad); err == nil {
			t.Errorf("started: %+v", bad)
		}
	}
	r.nothingLeft()
}

// Kiosks run as the accounts of their group alone, of which nothing is to last.
func TestKioskAccounts(t *testing.T) {
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	group, err := user.LookupGroupId(nobody.Gid)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ group, name, says string }{
		{"", "nobody", "-kiosk-group"},
		{"daemon", "nobody", "not in group daemon"},
		{"no-such-group", "nobody", "group"},
		{group.Name, "root", "belongs to the system"},
		{"daemon", "daemon", "belongs to the system"},
		{group.Name, "", "no session for"},
		{group.Name, "0", "no session for"},
	} {
		p := &parent{Config: Config{KioskGroup: c.group, SessionGroup: group.Name}}
		if name, err := p.kiosk(c.name); name != "" || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %q, %v", c, name, err)
		}
	}
	p := &parent{Config: Config{KioskGroup: group.Name}}
	if name, err := p.kiosk("nobody"); name != "nobody" || err != nil {
		t.Errorf("%q, %v", name, err)
	}
	// And as such an account nothing else runs, whoever may have sessions.
	for _, c := range []Config{
		{KioskGroup: group.Name}, {KioskGroup: group.Name, SessionGroup: group.Name}, {KioskGroup: group.Name, Only: "nobody"}, {KioskGroup: "no-such-group"},
	} {
		p := &parent{Config: c}
		if name, err := p.allowed("nobody"); name != "" || err == nil || !strings.Contains(err.Error(), "group "+c.KioskGroup) {
			t.Errorf("a session that is no kiosk, with %q: %q, %v", c.KioskGroup, name, err)
		}
	}
	p = &parent{Config: Config{KioskGroup: "daemon"}}
	if name, err := p.allowed("nobody"); name != "nobody" || err != nil {
		t.Errorf("somebody else's session: %q, %v", name, err)
	}
}

// One session at a time has an account; the next waits for the end of the one
// of before, and not for ever.
func TestKioskAccountTaken(t *testing.T) {
	runtime := t.TempDir()
	if err := os.Mkdir(keeperapi.Sessions(runtime), 0o700); err != nil {
		t.Fatal(err)
	}
	p := &parent{Config: Config{Runtime: runtime, FrameBuffer: "/dev/shm/x"}}
	ks := keeperapi.Start{Session: one, User: "k1", Kiosk: &keeperapi.Kiosk{Command: "top"}}
	first, err := p.claim(t.Context(), ks)
	if err != nil {
		t.Fatal(err)
	}
	ks.Session = other
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.claim(ended, ks); err == nil || !strings.Contains(err.Error(), "runs as k1 already") {
		t.Errorf("a second session as k1: %v", err)
	}
	ks.User = "k2"
	second, err := p.claim(ended, ks)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
	if lives, base, account := alive(runtime, other); lives || base != "/dev/shm/x" || account != "k2" {
		t.Errorf("the lock says %v %q %q", lives, base, account)
	}
	if err := removeSession(runtime, other, ""); err != nil {
		t.Error(err)
	}
	first.Close() // its keeper has ended
	ks.User = "k1"
	third, err := p.claim(t.Context(), ks)
	if err != nil {
		t.Fatal(err)
	}
	third.Close()
}

// As root: the account's own processes and files elsewhere go too, at the end
// and, where the keeper was killed, when the next begins.
func TestKioskLeftovers(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only root has accounts to choose from
	}
	name := fmt.Sprintf("hdkiosk%d", os.Getpid())
	if out, err := exec.Command("useradd", "--no-create-home", "--user-group", "--shell", "/usr/sbin/nologin", name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("userdel", name).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	r := newRig(t)
	r.asRoot()
	r.cfg.KioskGroup = name
	said := r.script("")
	r.cfg.SessionScript = ""
	g := r.serve()
	// Gets its owner's rights only where the system gives any by a file's mode.
	setuid := filepath.Join(filepath.Dir(r.cfg.Runtime), "id")
	text, err := os.ReadFile("/usr/bin/id")
	if err == nil {
		err = os.WriteFile(setuid, text, 0o755)
	}
	if err == nil {
		err = os.Chmod(setuid, 0o755|os.ModeSetuid)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("setpriv", "--reuid=nobody", "--clear-groups", setuid, "-u").Output(); err != nil || string(out) != "0\n" {
		t.Logf("such a file gives no rights here, to anybody: %q, %v", out, err)
	}
	lines := bufio.NewReader(said)
	litter := filepath.Join("/var/tmp", name)
	socket := filepath.Join("/tmp/.X11-unix", name)
	// A process of the session, one that left it, and one whose parent has gone.
	command := fmt.Sprintf(`{ id -un; test -e %[1]s -o -e %[1]s.d -o -e %[4]s -o -e /run/lock/%[5]s && echo littered || echo clean; %[3]s -u; } >%[2]s; ln -s /etc %[1]s; mkdir -p %[1]s.d/x; : >%[4]s; : >/run/lock/%[5]s; sleep 7531 & echo $! >%[2]s; setsid sleep 7531 & echo $! >%[2]s; (setsid sh -c 'sleep 7531 & echo $!' & ) >%[2]s; exec sleep 7532`,
		litter, filepath.Join(filepath.Dir(r.cfg.Runtime), "said"), setuid, socket, name)
	say := func() string {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(line)
	}
	account, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	left := func(when string, pids []string) {
		for _, pid := range pids {
			if text, err := os.ReadFile("/proc/" + pid + "/status"); err == nil && strings.Contains(string(text), "Uid:\t"+account.Uid+"\t") && !strings.Contains(string(text), "State:\tZ") {
				t.Errorf("%s: left: process %s\n%s", when, pid, text)
			}
		}
	}
	// And one that another service of the host has started, cron say.
	jobs := func() *exec.Cmd {
		cmd := exec.Command("sleep", "7533")
		uid, err := strconv.Atoi(account.Uid)
		if err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd
	}
	var first []string
	for _, id := range []alp.SessionID{one, other} {
		conn, err := g.Start(t.Context(), Start{Session: id, Token: "pseudo.0800200a0b0c", User: name, Kiosk: command})
		if err != nil {
			t.Fatal(err)
		}
		k := watch(t, conn)
		if who, found, rights := say(), say(), say(); who != name || found != "clean" || rights != account.Uid {
			t.Errorf("%s: the kiosk is %q's, what it finds is %s, and a file's mode makes it uid %s", id, who, found, rights)
		}
		pids := []string{say(), say(), say(), strconv.Itoa(jobs().Process.Pid)}
		if id == one {
			first = pids
			if err := unix.PidfdSendSignal(k.pidfd, unix.SIGKILL, nil, 0); err != nil {
				t.Fatal(err)
			}
			gone(t, k.pidfd)
			continue
		}
		left("the second has begun", first)
		if err := k.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		k.ended(id)
		left("the second has ended", pids)
		for _, path := range []string{litter, litter + ".d", socket, "/run/lock/" + name} {
			if _, err := os.Lstat(path); err == nil {
				t.Errorf("left: %s", path)
			}
		}
	}
	if _, err := os.Stat("/etc/passwd"); err != nil {
		t.Error(err)
	}
}
