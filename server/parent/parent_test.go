package parent

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/client"
	"hotdesk/server/session/keeperapi"

	"golang.org/x/sys/unix"
)

const (
	one   alp.SessionID = "00000000000000a1"
	other alp.SessionID = "00000000000000a2"
)

var attachA = client.Attach{Terminal: "0800200a0b0c", Addr: netip.MustParseAddr("127.0.0.1"), Width: 640, Height: 480}

func TestSession(t *testing.T) {
	r := newRig(t)
	stop, result := r.run()
	g := r.gateway()
	if list, err := g.List(t.Context()); err != nil || len(list) != 0 {
		t.Fatalf("List of no sessions: %v, %v", list, err)
	}
	k := r.start(g, one)
	s := k.status()
	if s.Session != one || s.Token != "card.4711" || s.User == "" || s.Display == "" || s.X == 0 || s.Gen != 0 || s.Last != 0 {
		t.Errorf("status: %+v", s)
	}
	if st, err := os.Stat(filepath.Join(r.cfg.FrameBuffer, string(one))); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("frame buffer's directory: %v, %v", st, err)
	}
	if st, err := os.Stat(keeperapi.Dir(r.cfg.Runtime, one)); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("session's directory: %v, %v", st, err)
	}
	o, err := k.Attach(t.Context(), attachA)
	if err != nil || o.Gen != 1 || o.Port == 0 {
		t.Fatalf("attach: %+v, %v", o, err)
	}
	if e := next[attached](k); e.Gen != 1 || e.Terminal != attachA.Terminal {
		t.Errorf("attached: %+v", e)
	}
	s = k.status()
	if s.Terminal != attachA.Terminal || s.Gen != 1 || s.Last == 0 || s.Media == 0 {
		t.Errorf("status: %+v", s)
	}
	if err := k.Detach(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if e := next[detached](k); e.Gen != 1 {
		t.Errorf("detached: %+v", e)
	}
	if s = k.status(); s.Terminal != "" {
		t.Errorf("status after detach: %+v", s)
	}

	// Media dies: another comes, with higher numbers.
	media := s.Media
	kill(t, media, unix.SIGKILL)
	if e := next[restarted](k); e.Gen != 1 {
		t.Errorf("restarted: %+v", e)
	}
	if o, err = k.Attach(t.Context(), attachA); err != nil || o.Gen != 2 {
		t.Fatalf("attach: %+v, %v", o, err)
	}
	next[attached](k)
	if s = k.status(); s.Media == media || s.Media == 0 {
		t.Errorf("media %d, was %d", s.Media, media)
	}

	// A second connection, and the same session again.
	conn, err := g.Open(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	k2 := watch(t, conn)
	if s := k2.status(); s.Session != one {
		t.Errorf("status: %+v", s)
	}
	if list, err := g.List(t.Context()); err != nil || !slices.Equal(list, []alp.SessionID{one}) {
		t.Errorf("list: %v, %v", list, err)
	}
	if _, err := g.Start(t.Context(), Start{Session: one, Token: "card.4711"}); err == nil {
		t.Error("the same session was started twice")
	}
	if _, err := g.Open(t.Context(), other); err == nil {
		t.Error("opened a session that is not")
	}
	for _, bad := range []Start{{}, {Session: "../../../etc", Token: "card.1"}, {Session: other, Token: "card.1", Width: 1 << 30}, {Session: other, Token: "card.1", Layout: "; rm"}} {
		if _, err := g.Start(t.Context(), bad); err == nil {
			t.Errorf("started %+v", bad)
		}
	}

	if err := k.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e := next[client.Ended](k2); e.Reason == "" {
		t.Error("no reason")
	}
	k.ended(one)
	r.nothingLeft()
	stop()
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestXServerKilled(t *testing.T) {
	r := newRig(t)
	said := r.script("(trap '' TERM; setsid sh -c 'sleep 1000; true' & echo up >$said; wait) &\nexec openbox\n")
	r.run()
	g := r.gateway()
	k := r.start(g, one)
	if line, err := bufio.NewReader(said).ReadString('\n'); err != nil || line != "up\n" {
		t.Fatalf("%q, %v", line, err)
	}
	names := processes(one)
	kill(t, k.status().X, unix.SIGKILL)
	if e := next[client.Ended](k); !strings.HasPrefix(e.Reason, "The X server of your session stopped.") {
		t.Errorf("reason: %s", e.Reason)
	}
	k.ended(one)
	if len(names) < 4 { // Xvfb, media, script, setsid's child
		t.Errorf("only %v ran", names)
	}
	r.nothingLeft()
}

func TestScript(t *testing.T) {
	r := newRig(t)
	said := r.script(`echo "$HOTDESK_SESSION $HOTDESK_SIZE $HOTDESK_LAYOUT $LANG" >$said
[ -n "$HOME" ] && [ -n "$USER" ] && [ -n "$SHELL" ] && [ -d "$XDG_RUNTIME_DIR" ] && [ -f "$XAUTHORITY" ] && echo env >$said
read go <$said.go
echo out of luck
exit 3
`)
	if err := unix.Mkfifo(said.Name()+".go", 0o600); err != nil {
		t.Fatal(err)
	}
	r.run()
	g := r.gateway()
	k := r.start(g, one)
	lines := bufio.NewReader(said)
	for _, want := range []string{string(one) + " 640x480 de C.UTF-8\n", "env\n"} {
		if line, err := lines.ReadString('\n'); err != nil || line != want {
			t.Errorf("script said %q, want %q (%v)", line, want, err)
		}
	}
	if err := os.WriteFile(said.Name()+".go", []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	if e := next[client.Ended](k); !strings.Contains(e.Reason, "exit status 3") || !strings.Contains(e.Reason, "out of luck") {
		t.Errorf("reason: %s", e.Reason)
	}
	k.ended(one)
	r.nothingLeft()

	// What the user chose where the login was counts here.
	conn, err := g.Start(t.Context(), Start{Session: other, Token: "card.4711", Layout: "de", Lang: "de_DE.UTF-8"})
	if err != nil {
		t.Fatal(err)
	}
	k = watch(t, conn)
	if line, err := lines.ReadString('\n'); err != nil || line != string(other)+"  de de_DE.UTF-8\n" {
		t.Errorf("script said %q (%v)", line, err)
	}
	if err := k.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.ended(other)
}

// A session that cannot start says why and leaves nothing.
func TestStartFails(t *testing.T) {
	r := newRig(t)
	r.cfg.FrameBuffer = filepath.Join(filepath.Dir(r.cfg.Runtime), "fb") // beside it, on a disk
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(r.cfg.Runtime), &fs); err != nil {
		t.Fatal(err)
	}
	want := "is not on tmpfs"
	if int64(fs.Type) == unix.TMPFS_MAGIC { // then spoil it differently
		want = "others may write"
		if err := os.Mkdir(r.cfg.FrameBuffer, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(r.cfg.FrameBuffer, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	r.run()
	g := r.gateway()
	_, err := g.Start(t.Context(), Start{Session: one, Token: "card.4711"})
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
	if list, err := g.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("list: %v, %v", list, err)
	}
	r.nothingLeft()
}

func TestGatewayRestarted(t *testing.T) {
	r := newRig(t)
	g := r.serve()
	k := r.start(g, one)
	kill(t, g.pid, unix.SIGKILL)
	g2 := r.gateway()
	if list, err := g2.List(t.Context()); err != nil || !slices.Equal(list, []alp.SessionID{one}) {
		t.Errorf("list: %v, %v", list, err)
	}
	if s := k.status(); s.Session != one {
		t.Errorf("status: %+v", s)
	}
	// A second server may not use the directory.
	if err := Run(t.Context(), r.cfg); err == nil || !strings.Contains(err.Error(), "another server") {
		t.Errorf("a second parent: %v", err)
	}
}

// What a gateway asked for before its death, and what is not begun when the next
// one has the list of sessions, is not begun at all: nobody would know of it.
func TestNothingIsBegunForTheDead(t *testing.T) {
	runtime := t.TempDir()
	if err := os.Mkdir(keeperapi.Sessions(runtime), 0o700); err != nil {
		t.Fatal(err)
	}
	p := &parent{Config: Config{Runtime: runtime, FrameBuffer: t.TempDir(), SessionProgram: "/bin/false", Local: true, Log: slog.New(slog.DiscardHandler)}}
	ctx, cancel := context.WithCancel(t.Context())
	p.starting.Lock() // as whoever asks for the list has it
	refused := make(chan error)
	go func() {
		_, err := p.start(ctx, Start{Session: one, Token: "card.4711"})
		refused <- err
	}()
	cancel()
	p.starting.Unlock()
	if err := <-refused; err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("%v", err)
	}
	if ids, err := lockFiles(runtime); len(ids) != 0 || err != nil {
		t.Errorf("%v, %v", ids, err)
	}
}

func TestGatewayDoesNotStart(t *testing.T) {
	r := newRig(t)
	r.cfg.Gateway = func() *exec.Cmd { return exec.Command("/bin/false") }
	if err := Run(t.Context(), r.cfg); err == nil || !strings.Contains(err.Error(), "did not start") {
		t.Errorf("error: %v", err)
	}
}

// The parent is killed: its gateway ends, its sessions go on, and the next
// parent finds them and clears away those that died in between.
func TestParentKilled(t *testing.T) {
	r := newRig(t)
	server := func() *exec.Cmd {
		text, err := json.Marshal(serverArgs{r.cfg.Runtime, r.cfg.FrameBuffer, r.gateways.Addr().String()})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self(), "server", string(text))
		cmd.Stderr = t.Output()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd
	}
	first := server()
	g := r.gateway()
	if _, err := g.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	gatewayFD, err := unix.PidfdOpen(g.pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(gatewayFD)
	k := r.start(g, one)
	dead := r.start(g, other)
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-g.Done():
	case <-time.After(patience):
		t.Fatal("the gateway does not notice")
	}
	if _, err := g.List(t.Context()); err == nil {
		t.Error("a dead parent answers")
	}
	gone(t, gatewayFD)
	_ = first.Wait()
	x, err := unix.PidfdOpen(dead.status().X, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(x)
	if err := unix.PidfdSendSignal(dead.pidfd, unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	gone(t, dead.pidfd)
	gone(t, x) // an X server does not outlive its keeper
	// A process that the keeper was just starting has the lock until it is a
	// program of its own.
	for end := time.Now().Add(patience); ; {
		if lives, _, _ := alive(r.cfg.Runtime, other); !lives {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the lock of a dead keeper stays")
		}
		runtime.Gosched()
	}

	server()
	g = r.gateway()
	if list, err := g.List(t.Context()); err != nil || !slices.Equal(list, []alp.SessionID{one}) {
		t.Errorf("list: %v, %v", list, err)
	}
	for end := time.Now().Add(patience); len(left(t, r.cfg.Runtime, r.cfg.FrameBuffer, other)) > 0; runtime.Gosched() { // beside whoever looks for sessions
		if time.Now().After(end) {
			t.Fatalf("left: %v", left(t, r.cfg.Runtime, r.cfg.FrameBuffer, other))
		}
	}
	conn, err := g.Open(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	again := watch(t, conn)
	if s := again.status(); s.Session != one || s.Started != k.status().Started {
		t.Errorf("status: %+v", s)
	}
}

func TestStopSessions(t *testing.T) {
	r := newRig(t)
	stop, _ := r.run()
	g := r.gateway()
	k1, k2 := r.start(g, one), r.start(g, other)
	stop()
	n, err := StopSessions(t.Context(), r.cfg.Runtime, nil)
	if n != 2 || err != nil {
		t.Errorf("stopped %d, %v", n, err)
	}
	for k, id := range map[*keeper]alp.SessionID{k1: one, k2: other} {
		if len(processes(id)) != 0 {
			t.Errorf("left: %v", processes(id))
		}
		k.ended(id)
	}
	r.nothingLeft()
	if n, err := StopSessions(t.Context(), filepath.Join(r.cfg.Runtime, "none"), nil); n != 0 || err != nil {
		t.Errorf("stopped %d of none, %v", n, err)
	}
}

// Sessions of other users, where this test may make them; where it may not,
// the parent must say so.
func TestUsers(t *testing.T) {
	r := newRig(t)
	if os.Geteuid() != 0 {
		r.cfg.Local = false
		if err := Run(t.Context(), r.cfg); err == nil || !strings.Contains(err.Error(), "-local") {
			t.Errorf("error: %v", err)
		}
		return
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	r.asRoot()
	said := r.script("id -u >$said\nexec openbox\n")
	r.run()
	g := r.gateway()
	if fmt.Sprint(g.uid) != nobody.Uid {
		t.Errorf("the gateway runs as uid %d", g.uid)
	}
	for _, name := range []string{"", "root", "daemon", "no-such-user", "0"} {
		_, err := g.Start(t.Context(), Start{Session: one, Token: "card.4711", User: name})
		if err == nil || !strings.Contains(err.Error(), "no session for") {
			t.Errorf("session of %q: %v", name, err)
		}
	}
	r.nothingLeft()
	conn, err := g.Start(t.Context(), Start{Session: one, Token: "card.4711", User: "nobody"})
	if err != nil {
		t.Fatal(err)
	}
	k := watch(t, conn)
	if line, err := bufio.NewReader(said).ReadString('\n'); err != nil || strings.TrimSpace(line) != nobody.Uid {
		t.Errorf("the script runs as %q, %v", line, err)
	}
	if _, err := k.Attach(t.Context(), attachA); err != nil { // media runs
		t.Fatal(err)
	}
	s := k.status()
	if s.User != "nobody" {
		t.Errorf("status: %+v", s)
	}
	for name, pid := range map[string]int{"X": s.X, "media": s.Media} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("Uid:\t%[1]s\t%[1]s\t%[1]s\t%[1]s\n", nobody.Uid)
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not nobody's:\n%s", name, text)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(r.cfg.FrameBuffer, string(one)), &st); err != nil || fmt.Sprint(st.Uid) != nobody.Uid || st.Mode&0o777 != 0o700 {
		t.Errorf("the frame buffer's directory: uid %d, mode %o, %v", st.Uid, st.Mode, err)
	}
	if err := k.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.ended(one)
	r.nothingLeft()
}

func TestSessionGroup(t *testing.T) {
	p := &parent{Config: Config{SessionGroup: "daemon"}}
	if _, err := p.allowed("nobody"); err == nil || !strings.Contains(err.Error(), "not in group daemon") {
		t.Errorf("error: %v", err)
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	own, err := user.LookupGroupId(nobody.Gid)
	if err != nil {
		t.Fatal(err)
	}
	p.SessionGroup = own.Name
	if name, err := p.allowed("nobody"); err != nil || name != "nobody" {
		t.Errorf("%q, %v", name, err)
	}
}

func TestMediaPorts(t *testing.T) {
	p := &parent{Config: Config{Local: true}}
	f, err := p.mediaSocket(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sa, err := unix.Getsockname(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	in, ok := sa.(*unix.SockaddrInet4)
	if !ok || in.Addr != [4]byte{127, 0, 0, 1} {
		t.Fatalf("bound to %+v", sa)
	}
	p.FirstPort, p.LastPort = in.Port, in.Port // taken
	if _, err := p.mediaSocket(context.Background()); err == nil || !strings.Contains(err.Error(), "-media-ports") {
		t.Errorf("error: %v", err)
	}
}

// A gateway that breaks the rules is ended, and another comes; sessions do not
// notice.
func TestGatewayTalksNonsense(t *testing.T) {
	r := newRig(t)
	g := r.serve()
	k := r.start(g, one)
	if _, err := g.call(t.Context(), message{Op: "format"}, nil); err == nil {
		t.Error("an unknown request was done")
	}
	if _, err := g.call(t.Context(), message{Op: opStart}, nil); err == nil {
		t.Error("started nothing")
	}
	if _, err := g.link.conn.Write([]byte("nonsense")); err != nil {
		t.Fatal(err)
	}
	<-g.Done()
	g = r.gateway()
	if list, err := g.List(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("list: %v, %v", list, err)
	}
	if s := k.status(); s.Session != one {
		t.Errorf("status: %+v", s)
	}
}
