package parent

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/client"

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
	r.cfg.Local = false
	r.cfg.GatewayUser = "nobody"
	for _, dir := range []string{filepath.Dir(r.cfg.Runtime), filepath.Dir(r.cfg.FrameBuffer)} {
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(r.gateways.Addr().String(), 0o666); err != nil {
		t.Fatal(err)
	}
	r.run()
	g := r.gateway()
	if _, err := g.List(t.Context()); err != nil {
		t.Fatal(err)
	}

	// One evil word in each place of a message.
	for _, evil := range hostileNames {
		good := Start{Session: one, Token: "card.4711", User: "nobody", Width: 640, Height: 480}
		for what, change := range map[string]func(*Start){
			"session": func(s *Start) { s.Session = alp.SessionID(evil) },
			"token":   func(s *Start) { s.Token = alp.Token(evil) },
			"user":    func(s *Start) { s.User = evil },
			"layout":  func(s *Start) { s.Layout = evil },
			"login":   func(s *Start) { s.Login, s.User, s.Terminal = true, evil, "080020c0ffee" },
			"terminal": func(s *Start) {
				s.Login, s.Terminal, s.Addr = true, alp.TerminalID(evil), netip.MustParseAddr("10.0.0.7")
			},
		} {
			if what == "layout" && len(evil) < 32 && !strings.ContainsAny(evil, "\x00\n:/$`;.%") && utf8.ValidString(evil) {
				continue // could be a layout's name
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
