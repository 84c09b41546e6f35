package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/rpc"
	"hotdesk/server/session/client"
	"hotdesk/server/session/keeperapi"
	"hotdesk/tools/internal/lab"
)

// A typist types at a terminal and looks for what that does to the screen.
type typist struct {
	t    *testing.T
	ctx  context.Context
	term *lab.Terminal
	n    int
}

// newTypist prepares the shell that has the keyboard: "c RRGGBB" is the
// window's colour from then on.
func newTypist(t *testing.T, ctx context.Context, term *lab.Terminal) *typist {
	t.Helper()
	k := &typist{t: t, ctx: ctx, term: term}
	k.do("type", `PS1=; c() { printf "\033]11;#$1\007\033[H\033[2J"; }`+"\n")
	k.echo()
	return k
}

func (k *typist) do(args ...string) {
	k.t.Helper()
	if _, err := k.term.Ctl(k.ctx, args...); err != nil {
		k.t.Fatal(err)
	}
}

// try bounds the wait for one echo; then what was typed was lost on the way,
// and is typed again, as a user would.
const try = 400 * time.Millisecond

// echo types until the screen shows it, and tells how long that took.
func (k *typist) echo() time.Duration {
	k.t.Helper()
	began := time.Now()
	line := ""
	for {
		k.n++
		colour := fmt.Sprintf("%06x", 0x404040+k.n*0x010307%0x808080)
		_, err := k.term.Ctl(k.ctx, "type", line+"c "+colour+"\n")
		if err == nil {
			_, err = k.term.Ctl(k.ctx, "wait", "-timeout", try.String(), "picture", "pixel=400,300,"+colour)
		}
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > patience {
			k.t.Fatalf("typing is not echoed: %v", err)
		}
		line = "\n" // what there may be of the line before
	}
}

// times are how long typing took to be echoed.
type times []time.Duration

func (a times) String() string {
	s := slices.Sorted(slices.Values(a))
	at := func(q float64) time.Duration { return s[min(len(s)-1, int(q*float64(len(s))))].Round(time.Millisecond) }
	return fmt.Sprintf("%d times, typing was echoed after: median %v, p90 %v, worst %v", len(s), at(0.5), at(0.9), at(1))
}

// restarts are the daemons that a session outlives, and how each is killed. A
// function returns when the daemon is gone, and what waits until it is back.
func restarts(w *world, h *lab.Host, id alp.SessionID) map[string]func() (back func() error, err error) {
	return map[string]func() (func() error, error){
		"gateway": func() (func() error, error) {
			pid, err := h.Gateway()
			if err != nil {
				return nil, err
			}
			return func() error { _, err := h.Server.Ready(w.ctx); return err }, lab.Kill(w.ctx, pid)
		},
		"parent": func() (func() error, error) {
			h.Server.Signal(syscall.SIGKILL)
			<-h.Server.Done()
			return nil, h.StartServer(w.ctx)
		},
		"groupmgr": func() (func() error, error) {
			h.GroupMgr.Signal(syscall.SIGKILL)
			<-h.GroupMgr.Done()
			return nil, h.StartGroupMgr(w.ctx)
		},
		"media": func() (func() error, error) {
			st, _, err := h.Keeper(w.ctx, id)
			if err != nil {
				return nil, err
			}
			return nil, lab.Kill(w.ctx, st.Media)
		},
	}
}

// healthy is how long a daemon must have run to be started again at once.
const healthy = 2 * time.Second

// TestKills kills each daemon again and again under load, while a user types:
// no session is lost, the picture stays, and typing goes on.
func TestKills(t *testing.T) {
	rounds := 10
	if os.Getenv("HOTDESK_LONG") != "" {
		rounds = 200
	}
	w := openWorld(t)
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithTimeout(context.Background(), 30*time.Minute)
	t.Cleanup(cancel)
	// Load: a second window that never rests, and that the window manager does
	// not give the keyboard to, whichever comes first.
	script := w.lab.Path("desk.sh")
	if err := os.WriteFile(script, []byte(`xterm -xrm '*overrideRedirect: true' -geometry 60x10+60+600 -e sh -c 'while :; do seq 50; sleep 0.05; done' &
exec openbox --startup "xterm -fa 'DejaVu Sans Mono' -fs 11 -geometry 80x24+60+60 -bg '#fbfaf7' -e sh"
`), 0o644); err != nil {
		t.Fatal(err)
	}
	h, err := w.lab.Host(w.ctx, "north", "-session-script", script)
	if err == nil {
		err = h.Stay()
	}
	if err != nil {
		t.Fatal(err)
	}
	w.hosts["north"] = h
	a, err := w.lab.Terminal(w.ctx, "a", "-server", h.Addr)
	if err != nil {
		t.Fatal(err)
	}
	w.terminals["a"] = a
	for _, args := range [][]string{{"insert", "card1"}, {"wait", "-timeout", patience.String(), "picture", "pixel=400,300," + xtermColour}} {
		if _, err := a.Ctl(w.ctx, args...); err != nil {
			t.Fatal(err)
		}
	}
	k := newTypist(t, w.ctx, a)
	ids, err := h.Sessions()
	if err != nil || len(ids) != 1 {
		t.Fatalf("sessions: %v, %v", ids, err)
	}
	before, keeper, err := h.Keeper(w.ctx, ids[0])
	if err != nil {
		t.Fatal(err)
	}
	took := map[string]times{}
	order := []string{"media", "groupmgr", "gateway", "parent"}
	for range rounds {
		for _, name := range order {
			back, err := restarts(w, h, ids[0])[name]()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			took[name] = append(took[name], k.echo())
			if back != nil {
				if err := back(); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
		}
		for round := time.Now(); time.Since(round) < healthy; { // typing goes on
			took["nobody"] = append(took["nobody"], k.echo())
		}
	}
	for _, name := range append(order, "nobody") {
		if len(took[name]) > 0 {
			t.Logf("%-8s %v", name, took[name])
		}
	}
	now, keeperNow, err := h.Keeper(w.ctx, ids[0])
	if err != nil || keeperNow != keeper || now.X != before.X || now.Session != before.Session || now.Terminal == "" {
		t.Errorf("the session was %+v (keeper %d), and is %+v (keeper %d), %v", before, keeper, now, keeperNow, err)
	}
	if all, err := h.Sessions(); err != nil || len(all) != 1 {
		t.Errorf("sessions: %v, %v", all, err)
	}
}

// A new version is installed in the place of each program while a user works:
// the server and the group manager are restarted and are the new ones, the
// session goes on with its own, and a new session has the new program.
func TestUpgrade(t *testing.T) {
	w := openWorld(t)
	h, err := w.lab.Host(w.ctx, "north")
	must(t, err)
	w.hosts["north"] = h
	sit := func(name, card string) *lab.Terminal {
		x, err := w.lab.Terminal(w.ctx, name, "-server", h.Addr, "-size", small)
		must(t, err)
		w.terminals[name] = x
		for _, args := range [][]string{{"insert", card}, {"wait", "-timeout", patience.String(), "picture", "pixel=400,300," + xtermColour}} {
			_, err := x.Ctl(w.ctx, args...)
			must(t, err)
		}
		return x
	}
	k := newTypist(t, w.ctx, sit("a", "card1"))
	ids, err := h.Sessions()
	must(t, err)
	before, keeper, err := h.Keeper(w.ctx, ids[0])
	must(t, err)

	file := func(program string) os.FileInfo {
		st, err := os.Stat(filepath.Join(bin, program))
		must(t, err)
		return st
	}
	runs := func(pid int, want os.FileInfo) bool {
		st, err := os.Stat("/proc/" + strconv.Itoa(pid) + "/exe")
		return err == nil && os.SameFile(st, want)
	}
	oldSession := file("session")
	for _, program := range []string{"server", "groupmgr", "session"} {
		text, err := os.ReadFile(filepath.Join(bin, program))
		must(t, err)
		next := filepath.Join(bin, program+".new")
		must(t, os.WriteFile(next, append(text, "a later version"...), 0o755))
		must(t, os.Rename(next, filepath.Join(bin, program)))
	}
	k.echo()
	began := time.Now()
	must(t, h.Server.Stop(patience))
	k.echo() // nobody keeps the gate, and the user works on
	must(t, h.StartServer(w.ctx))
	t.Logf("a new server has its first request after %v", time.Since(began))
	must(t, h.GroupMgr.Stop(patience))
	must(t, h.StartGroupMgr(w.ctx))
	k.echo()
	gateway, err := h.Gateway()
	must(t, err)
	for name, pid := range map[string]int{"server": h.Server.PID(), "groupmgr": h.GroupMgr.PID()} {
		if !runs(pid, file(name)) || name == "server" && !runs(gateway, file(name)) {
			t.Errorf("%s is the old one", name)
		}
	}
	must(t, lab.Kill(w.ctx, before.Media))
	k.echo()
	now, keeperNow, err := h.Keeper(w.ctx, ids[0])
	must(t, err)
	if keeperNow != keeper || now.X != before.X || !runs(now.Media, oldSession) {
		t.Errorf("was %+v, is %+v", before, now)
	}

	sit("b", "card2")
	all, err := h.Sessions()
	must(t, err)
	all = slices.DeleteFunc(all, func(id alp.SessionID) bool { return id == ids[0] })
	if len(all) != 1 {
		t.Fatalf("new sessions: %v", all)
	}
	if _, pid, err := h.Keeper(w.ctx, all[0]); err != nil || !runs(pid, file("session")) {
		t.Errorf("the new session's keeper is the old program, %v", err)
	}
}

// pretendKeepers are n sessions of a host whose keepers answer and do nothing.
func pretendKeepers(t *testing.T, runtime string, n int) {
	t.Helper()
	must(t, os.MkdirAll(keeperapi.Sessions(runtime), 0o700))
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		serving.Wait()
		must(t, os.RemoveAll(keeperapi.Sessions(runtime)))
	})
	for i := range n {
		id := alp.SessionID(fmt.Sprintf("%016x", 0xa000+i))
		must(t, os.Mkdir(keeperapi.Dir(runtime, id), 0o700))
		lock, err := os.Create(keeperapi.Lock(runtime, id))
		must(t, err)
		t.Cleanup(func() { lock.Close() })
		must(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
		l, err := net.Listen("unix", keeperapi.Socket(runtime, id))
		must(t, err)
		context.AfterFunc(ctx, func() { l.Close() })
		st := client.Status{Session: id, Token: alp.Token(fmt.Sprintf("simple.%d", i)), User: "ann", Started: 1, Last: 2, Display: ":1"}
		serving.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				serving.Go(func() {
					_ = rpc.New(conn, func(_ context.Context, op string, _ json.RawMessage) (any, error) {
						if op != client.OpStatus {
							return nil, errors.New("this keeper pretends")
						}
						return st, nil
					}).Serve(ctx)
				})
			}
		})
	}
}

// A new gateway knows all sessions in less than two seconds.
func TestFullTable(t *testing.T) {
	const n = 100
	w := openWorld(t)
	h, err := w.lab.Host(w.ctx, "north")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Server.Stop(patience) }) // before those who pretend
	if err := h.Server.Stop(patience); err != nil {
		t.Fatal(err)
	}
	pretendKeepers(t, h.Runtime, n)
	found := strings.Count(h.Server.Log(), `msg="session found"`)
	began := time.Now()
	if err := h.StartServer(w.ctx); err != nil {
		t.Fatal(err)
	}
	ready := time.Since(began)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for strings.Count(h.Server.Log(), `msg="session found"`)-found < n {
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			t.Fatal(w.ctx.Err())
		}
	}
	t.Logf("%d sessions: server ready after %v, full table after %v", n, ready, time.Since(began))
}
