package network

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is when a test gives up; nothing is decided by it.
const patience = 40 * time.Second

// child is the variable by which the test program is started again, inside a
// network namespace, as a terminal's network: a childConfig.
const child = "HOTDESK_NETWORK_CHILD"

type childConfig struct {
	Config  Config
	Resolve bool
}

// told is a line of the child: a state, and the servers that DNS knew then.
type told struct {
	State State
	DNS   []netip.AddrPort `json:",omitempty"`
	Error string           `json:",omitempty"`
}

func TestMain(m *testing.M) {
	if text := os.Getenv(child); text != "" {
		os.Exit(childMain(text))
	}
	os.Exit(m.Run())
}

func childMain(text string) int {
	var c childConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	c.Config.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	n, err := Open(c.Config)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // until the test closes our input
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	out := json.NewEncoder(os.Stdout)
	n.Run(ctx, func(s State) {
		t := told{State: s}
		if c.Resolve && s.Settled {
			t.DNS, err = Resolve(ctx, s.Lease)
			if err != nil {
				t.Error = err.Error()
			}
		}
		out.Encode(t)
	})
	return 0
}

var labs atomic.Int32

// A lab is two namespaces with a cable between them: the server's end has
// 10.77.0.1/24, the terminal's has nothing.
type lab struct {
	t                *testing.T
	server, terminal string
	dir              string

	mu   sync.Mutex
	said []string      // lines of daemons
	news chan struct{} // closed and replaced with each line
}

// says waits until a daemon has said something with all of the words.
func (l *lab) says(words ...string) {
	l.t.Helper()
	late := time.After(patience)
	for {
		l.mu.Lock()
		said, news := l.said, l.news
		l.mu.Unlock()
		if slices.ContainsFunc(said, func(line string) bool {
			return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) })
		}) {
			return
		}
		select {
		case <-news:
		case <-late:
			l.t.Fatalf("no daemon says %q", words)
		}
	}
}

func (l *lab) note(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, line)
	close(l.news)
	l.news = make(chan struct{})
}

func newLab(t *testing.T) *lab {
	t.Helper()
	base := fmt.Sprintf("hd%d-dhcp%d-", os.Getpid(), labs.Add(1))
	l := &lab{t: t, server: base + "s", terminal: base + "t", dir: t.TempDir(), news: make(chan struct{})}
	t.Cleanup(func() {
		for _, ns := range []string{l.server, l.terminal} {
			exec.Command("ip", "netns", "del", ns).Run() // takes what is in it along
		}
	})
	for _, ns := range []string{l.server, l.terminal} {
		l.ip("netns add " + ns)
		l.ip("-n " + ns + " link set lo up")
	}
	l.ip("-n " + l.server + " link add eth0 type veth peer name eth0 netns " + l.terminal)
	l.ip("-n " + l.server + " addr add 10.77.0.1/24 brd + dev eth0")
	l.ip("-n " + l.server + " link set eth0 up")
	l.ip("-n " + l.server + " route add default dev eth0")
	l.ip("-n " + l.terminal + " link set eth0 address 02:00:5e:00:00:aa")
	l.ip("-n " + l.terminal + " link set eth0 up")
	// Until the kernel has noticed that both ends are up it drops what is sent.
	for _, ns := range []string{l.server, l.terminal} {
		for late := time.After(patience); !strings.Contains(l.ip("-n "+ns+" link show eth0"), "state UP"); {
			select {
			case <-time.After(5 * time.Millisecond):
			case <-late:
				t.Fatalf("the cable between %s and %s does not come up", l.server, l.terminal)
			}
		}
	}
	return l
}

func (l *lab) ip(args string) string {
	l.t.Helper()
	out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("ip %s: %v\n%s", args, err, out)
	}
	return string(out)
}

// plug pulls the server's end of the cable or puts it in.
func (l *lab) plug(in bool) {
	l.t.Helper()
	state := "down"
	if in {
		state = "up"
	}
	l.ip("-n " + l.server + " link set eth0 " + state)
	if in {
		l.ip("-n " + l.server + " route replace default dev eth0")
	}
}

// daemon starts a program in the server's namespace and waits until it prints
// ready. stop ends it.
func (l *lab) daemon(ready, name string, args ...string) (stop func()) {
	l.t.Helper()
	cmd := exec.Command("ip", append([]string{"netns", "exec", l.server, name}, args...)...)
	cmd.Env = append(os.Environ(), "KEA_LOCKFILE_DIR="+l.dir, "KEA_PIDFILE_DIR="+l.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	r, w, err := os.Pipe()
	if err != nil {
		l.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	w.Close()
	up := make(chan bool, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		s := bufio.NewScanner(r)
		said := false
		for s.Scan() {
			l.t.Log(name, s.Text())
			l.note(s.Text())
			if !said && strings.Contains(s.Text(), ready) {
				said = true
				up <- true
			}
		}
		if !said {
			up <- false
		}
	})
	stop = sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
		wg.Wait()
		r.Close()
	})
	l.t.Cleanup(stop)
	select {
	case ok := <-up:
		if !ok {
			l.t.Fatalf("%s ended without saying %q", name, ready)
		}
	case <-time.After(patience):
		l.t.Fatalf("%s does not say %q", name, ready)
	}
	return stop
}

// file writes a file for a daemon.
func (l *lab) file(name, text string) string {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// A station is a terminal's network in its namespace.
type station struct {
	t     *testing.T
	lines chan told
	last  told
	stop  func() // ends it as a terminal ends
}

func (l *lab) start(c childConfig) *station {
	l.t.Helper()
	c.Config.Interface = "eth0"
	text, err := json.Marshal(c)
	if err != nil {
		l.t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", l.terminal, os.Args[0])
	cmd.Env = append(os.Environ(), child+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = l.t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	s := &station{t: l.t, lines: make(chan told, 256)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(s.lines)
		d := json.NewDecoder(out)
		for {
			var v told
			if err := d.Decode(&v); err != nil {
				if !errors.Is(err, io.EOF) {
					l.t.Errorf("from the terminal: %v", err)
				}
				return
			}
			s.lines <- v
		}
	}()
	s.stop = sync.OnceFunc(func() {
		in.Close()
		<-read
		if err := cmd.Wait(); err != nil {
			l.t.Errorf("the terminal: %v", err)
		}
	})
	l.t.Cleanup(s.stop)
	return s
}

// until waits for a state.
func (s *station) until(what string, ok func(State) bool) told {
	s.t.Helper()
	late := time.After(patience)
	for {
		select {
		case v, open := <-s.lines:
			if !open {
				s.t.Fatalf("waiting for %s: the terminal has ended", what)
			}
			s.last = v
			if ok(v.State) {
				return v
			}
		case <-late:
			s.t.Fatalf("waiting for %s: it is %+v", what, s.last)
		}
	}
}

func settled(s State) bool { return s.Settled }

// within runs f, which opens sockets, in a namespace.
func within[T any](t *testing.T, ns string, f func() (T, error)) T {
	t.Helper()
	// The thread comes back: children that were started on it end when it does.
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	away, err := os.Open("/run/netns/" + ns)
	if err != nil {
		t.Fatal(err)
	}
	defer away.Close()
	if err := unix.Setns(int(away.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	v, failed := f()
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err) // the thread stays locked, and ends with the test
	}
	runtime.UnlockOSThread()
	if failed != nil {
		t.Fatal(failed)
	}
	return v
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

var broadcast = &net.UDPAddr{IP: net.IPv4bcast, Port: 68}
