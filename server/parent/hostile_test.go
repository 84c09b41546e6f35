package parent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/client"
	"hotdesk/server/session/keeperapi"

	"golang.org/x/sys/unix"
)

// hostileNames are what a gateway that was taken over would like to be users,
// sessions, layouts or tokens.
var hostileNames = []string{
	"", "root", "ROOT", "0", "-1", "4294967295", "daemon", "root\x00", "root\nnobody", "nobody\x00root", "nobody:root", "../root",
	"-froot", "$(id)", "`id`", "nobody;id", "../../../../etc/passwd", "/etc/passwd", "00000000000000a1/../../x", ".", "..", "sessions",
	"gateway", strings.Repeat("a", 4000), "\xff\xfe", "%s%n", "00000000000000A1",
}

// A gateway that was taken over asks a parent that is root for whatever its
// messages can say. It gets sessions of people, as people, and nothing else;
// parent and keepers outlive it.
func TestGatewayTakenOver(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("what root must not do for a gateway is tested as root")
	}
	r := newRig(t)
	r.asRoot()
	g := r.serve()

	// One evil word in each place of a message.
	for _, evil := range hostileNames {
		good := Start{Session: one, Token: "card.4711", User: "nobody", Width: 640, Height: 480}
		for what, change := range map[string]func(*Start){
			"session": func(s *Start) { s.Session = alp.SessionID(evil) },
			"token":   func(s *Start) { s.Token = alp.Token(evil) },
			"user":    func(s *Start) { s.User = evil },
			"layout":  func(s *Start) { s.Layout = evil },
			"lang":    func(s *Start) { s.Lang = evil },
			"desktop": func(s *Start) { s.Desktop = evil },
			"login":   func(s *Start) { s.Login, s.User, s.Terminal = true, evil, "080020c0ffee" },
			"terminal": func(s *Start) {
				s.Login, s.Terminal, s.Addr = true, alp.TerminalID(evil), netip.MustParseAddr("10.0.0.7")
			},
		} {
			if slices.Contains([]string{"layout", "lang", "desktop"}, what) && len(evil) < 32 && !strings.ContainsAny(evil, "\x00\n:/$`;.%") && utf8.ValidString(evil) {
				continue // could be the name of one
			}
			s := good
			change(&s)
			if conn, err := g.Start(t.Context(), s); err == nil {
				conn.Close()
				t.Errorf("%s %.40q: a session was started", what, evil)
			}
		}
		if conn, err := g.Open(t.Context(), alp.SessionID(evil)); err == nil {
			conn.Close()
			t.Errorf("opened session %.40q", evil)
		}
	}
	for _, size := range [][2]int{{-1, 480}, {640, -1 << 40}, {1 << 40, 1 << 40}, {1, 1}} {
		if _, err := g.Start(t.Context(), Start{Session: one, Token: "card.4711", User: "nobody", Width: size[0], Height: size[1]}); err == nil {
			t.Errorf("a screen of %v", size)
		}
	}
	r.nothingLeft()

	// Descriptors of its own, with a good message, are closed and change nothing.
	var dir unix.Stat_t
	if err := unix.Stat(r.cfg.Runtime, &dir); err != nil {
		t.Fatal(err)
	}
	k := watchStart(t, g)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 300 { // whatever can be said to a keeper, by somebody who has its socket
		attack(t, g, rnd)
	}
	if s := k.status(); s.Session != one || s.User != "nobody" || s.Terminal != "" {
		t.Errorf("status: %+v", s)
	}
	if _, err := k.Attach(t.Context(), attachA); err != nil {
		t.Error(err)
	}
	for name, pid := range map[string]int{"X": k.status().X, "media": k.status().Media} {
		if uid := owner(t, pid); uid == 0 {
			t.Errorf("%s runs as root", name)
		}
	}
	for pid, name := range processes(one) { // the keeper is none of them: its environment has no session
		var st unix.Stat_t
		if unix.Stat("/proc/"+pid+"/environ", &st) == nil && name != "media" && st.Uid == 0 {
			if uids, err := os.ReadFile("/proc/" + pid + "/status"); err == nil && strings.Contains(string(uids), "Uid:\t0\t") {
				t.Errorf("%s runs as root", name)
			}
		}
	}
	if err := k.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.ended(one)

	// Words that are none at all end it, and only it.
	// (what else is none, FuzzParse knows: each time takes longer).
	for _, noise := range []string{"{", `{"id":0,"op":"list"}`, strings.Repeat("[", MaxMessage), `{"id":1,"list":["` + strings.Repeat(`x","`, MaxSessions+1) + `"]}`} {
		if _, err := g.link.conn.Write([]byte(noise)); err != nil {
			t.Fatal(err)
		}
		<-g.Done()
		g = r.gateway()
		if _, err := g.List(t.Context()); err != nil {
			t.Fatalf("after %.20q: %v", noise, err)
		}
	}
	// Nothing of root's has come to be where it does not belong.
	err := filepath.WalkDir(filepath.Dir(r.cfg.Runtime), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.ContainsAny(d.Name(), "$`;\n%") {
			t.Errorf("made: %q", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	var after unix.Stat_t
	if err := unix.Stat(r.cfg.Runtime, &after); err != nil || after.Mode != dir.Mode || after.Uid != dir.Uid {
		t.Errorf("the runtime directory has mode %o of %d, had %o of %d (%v)", after.Mode, after.Uid, dir.Mode, dir.Uid, err)
	}
}

// What a media process that was taken over leaves behind keeps neither the next
// one from coming nor the session from ending.
func TestMediaTakenOver(t *testing.T) {
	r := newRig(t)
	g := r.serve()
	k := r.start(g, one)
	evil := attachA
	evil.Layout = takesOver
	var asking sync.WaitGroup
	defer asking.Wait()
	asking.Go(func() { _, _ = k.Attach(t.Context(), evil) }) // every media that comes dies of it
	next[restarted](k)
	next[restarted](k)
	conn, err := g.Open(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	if err := watch(t, conn).Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.ended(one)
	r.nothingLeft()
}

// A session's own programs, and other users, are told nothing by its keeper, were
// all its folders open.
func TestKeeperRefusesOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test takes another user's part: run it as root")
	}
	r := newRig(t)
	r.run()
	g := r.gateway()
	r.start(g, one)
	socket := keeperapi.Socket(r.cfg.Runtime, one)
	for dir := filepath.Dir(socket); dir != filepath.Dir(filepath.Dir(r.cfg.Runtime)); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(socket, 0o777); err != nil {
		t.Fatal(err)
	}
	for uid, answers := range map[uintptr]bool{0: true, 65534: false} {
		got := make(chan error)
		go func() {
			runtime.LockOSThread() // for good: the kernel keeps rights for each thread
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
				got <- errno
				return
			}
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err == nil {
				defer unix.Close(fd)
				err = errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 60}), unix.Connect(fd, &unix.SockaddrUnix{Name: socket}))
			}
			if err == nil {
				_, _ = unix.Write(fd, []byte(`{"id":1,"op":"status"}`+"\n"))
				var n int
				if n, err = unix.Read(fd, make([]byte, 1)); n != 1 && err == nil {
					err = io.EOF
				}
			}
			got <- err
		}()
		if err := <-got; answers != (err == nil) {
			t.Errorf("uid %d: %v", uid, err)
		}
	}
}

func watchStart(t *testing.T, g *gateway) *keeper {
	t.Helper()
	conn, err := g.Start(t.Context(), Start{Session: one, Token: "card.4711", User: "nobody", Width: 640, Height: 480})
	if err != nil {
		t.Fatal(err)
	}
	return watch(t, conn)
}

// owner is the effective user of a process.
func owner(t *testing.T, pid int) (uid int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "Uid:\t")
	if _, err := fmt.Sscan(after, &uid); err != nil {
		t.Fatal(err)
	}
	return uid
}

// attack says a few things on a new connection to a keeper: requests with words
// that do not belong into them, of the kinds that end nothing by themselves, and
// noise.
func attack(t *testing.T, g *gateway, rnd *rand.Rand) {
	t.Helper()
	conn, err := g.Open(t.Context(), one)
	if err != nil {
		t.Fatalf("the keeper is gone: %v", err)
	}
	defer conn.Close()
	word := func() any {
		switch rnd.IntN(6) {
		case 0:
			return rnd.Int64() - rnd.Int64()
		case 1:
			return nil
		case 2:
			return []string{"x"}
		case 3:
			return "127.0.0.1"
		}
		return hostileNames[rnd.IntN(len(hostileNames))]
	}
	for range 3 {
		ops := []string{client.OpStatus, client.OpAttach, client.OpDetach, client.OpLogin, client.OpBegin, client.OpPrompt, "setup", "offer", hostileNames[rnd.IntN(len(hostileNames))]}
		body := map[string]any{}
		for _, key := range []string{"session", "terminal", "addr", "gen", "width", "height", "layout", "token", "lang", "desktop", "identity"} {
			if rnd.IntN(2) == 0 {
				body[key] = word()
			}
		}
		line, err := json.Marshal(map[string]any{"id": 1 + rnd.IntN(3), "op": ops[rnd.IntN(len(ops))], "body": body})
		if err != nil {
			t.Fatal(err)
		}
		if rnd.IntN(8) == 0 {
			for range 4 {
				line[rnd.IntN(len(line))] ^= byte(1 << rnd.IntN(8))
			}
		}
		if _, err := conn.Write(append(line, '\n')); err != nil {
			return // it has had enough
		}
	}
	if u, ok := conn.(*net.UnixConn); ok {
		_ = u.CloseWrite()
	}
	_, _ = conn.Read(make([]byte, 1<<16))
}

// A gateway that was taken over says whatever the protocol has words for, with
// descriptors of its choice: what it gets is a person's session, or a keeper that
// waits for a login; every descriptor is closed.
func TestGatewayMakesThingsUp(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("what root must not do for a gateway is tested as root")
	}
	r := newRig(t)
	r.asRoot()
	r.cfg.Service = "other"
	g := r.serve()
	sockets := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, e := range entries {
			if at, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && (at == "/dev/full" || strings.HasPrefix(at, "socket:")) {
				n++
			}
		}
		return n
	}
	before := sockets()

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	pick := func(good ...any) any {
		if rnd.IntN(4) > 0 {
			return good[rnd.IntN(len(good))]
		}
		return hostileNames[rnd.IntN(len(hostileNames))]
	}
	number := func() int { return []int{0, 1, -1, 640, 1 << 31, -1 << 62, 100}[rnd.IntN(7)] }
	full, err := os.Open("/dev/full")
	if err != nil {
		t.Fatal(err)
	}
	files := []int{int(full.Fd())}
	started, lobbies := 0, 0
	words := 200
	if os.Getenv("HOTDESK_LONG") != "" {
		words = 2000
	}
	for n := range words {
		start := map[string]any{
			"session": pick("00000000000000a1", "00000000000000a2", "00000000000000a3"), "token": pick("card.4711", "user.root"), "user": pick("nobody", "root", "daemon"),
			"login": rnd.IntN(3) == 0, "terminal": pick("080020c0ffee"),
		}
		for what, v := range map[string]any{
			"width": number(), "height": number(), "layout": pick("us", "de"), "kiosk": pick("id", "exec sh"), "addr": []string{"127.0.0.1", "::1%x"}[rnd.IntN(2)],
			"limits": map[string]any{"memory": number(), "processes": number(), "cpu_weight": number(), "Memory": number()},
		} {
			if rnd.IntN(4) == 0 {
				start[what] = v
			}
		}
		op := pick(opStart, opStart, opStart, opStart, opOpen, opList, opSign)
		if n < 2 { // one of each that is granted, or what is refused would say little
			op, start = opStart, map[string]any{"session": fmt.Sprintf("00000000000000b%d", n), "token": "card.4711", "user": "nobody", "login": n == 1, "terminal": "080020c0ffee"}
		}
		m := map[string]any{"id": 1_000_000 + n, "op": op, "start": start, "session": start["session"], "name": pick("north"), "public": make([]byte, rnd.IntN(100))}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		answer := make(chan reply, 1)
		g.mu.Lock()
		g.waiting[uint64(1_000_000+n)] = answer
		g.mu.Unlock()
		var rights []byte
		if k := rnd.IntN(maxFiles + 1); k > 0 {
			for len(files) < k {
				files = append(files, files[0])
			}
			rights = unix.UnixRights(files[:k]...)
		}
		if _, _, err := g.link.conn.WriteMsgUnix(text, rights, nil); err != nil {
			t.Fatal(err)
		}
		a, ok := <-answer
		switch {
		case !ok:
			// A word of a type that is none: that ends a gateway.
			g.hold.Close()
			g = r.gateway()
			if _, err := g.List(t.Context()); err != nil {
				t.Fatalf("after %s: %v", text, err)
			}
			continue
		case a.Error != "":
			if len(a.files) != 0 {
				t.Errorf("%s: an error, and descriptors", text)
			}
			continue
		case op == opList:
			continue
		case op != opStart && op != opOpen:
			t.Fatalf("%s was granted", text)
		}
		conn, err := a.connection()
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if op == opStart && start["login"] == true {
			lobbies++
			l := client.NewLobby(conn, nil)
			var serving sync.WaitGroup
			serving.Go(func() { _ = l.Serve(context.Background()) })
			if err := l.Begin(t.Context(), client.Begin{Token: "card.4711"}); err == nil {
				t.Errorf("%s: a session without a login", text)
			}
			l.Close()
			serving.Wait()
			continue
		}
		k := watch(t, conn)
		s, err := k.Status(t.Context())
		switch granted := op == opStart; {
		case err != nil && granted:
			t.Errorf("%s: %v", text, err)
		case err != nil: // what it opened is a login, or is just ending
		case s.User != "nobody" || granted && (start["user"] != "nobody" || start["kiosk"] != nil && start["kiosk"] != ""):
			t.Errorf("%s: %+v", text, s)
		case owner(t, s.X) == 0:
			t.Errorf("%s: its X server is root's", text)
		}
		if started++; rnd.IntN(2) == 0 {
			_ = k.Stop(t.Context()) // the answer may come too late
			gone(t, k.pidfd)
		}
		k.Close()
		<-k.done
	}
	full.Close()
	t.Logf("%d sessions of nobody's, %d logins", started, lobbies)
	if started == 0 || lobbies == 0 {
		t.Error("nothing was granted")
	}
	for until := time.Now().Add(patience); ; runtime.Gosched() { // the parent closes when it has answered
		if now := sockets(); now <= before {
			break
		} else if time.Now().After(until) {
			t.Fatalf("%d descriptors, %d before", now, before)
		}
	}
}
