package parent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/rpc"
	"hotdesk/server/session/app"
	"hotdesk/server/session/client"
	"hotdesk/server/session/mediaapi"

	"golang.org/x/sys/unix"
)

// patience bounds every wait of these tests; none passes by waiting for it.
const patience = 60 * time.Second

// This test binary is also the session program (with a media process that
// shows nothing), the gateway, and a server that can be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "keeper":
			os.Exit(app.Main(os.Args[1:], os.Stdout, os.Stderr))
		case "media":
			os.Exit(exitCode(pretendMedia()))
		case "gateway":
			os.Exit(exitCode(pretendGateway(os.Args[2])))
		case "server":
			os.Exit(exitCode(pretendServer(os.Args[2])))
		}
	}
	os.Exit(m.Run())
}

func exitCode(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// takesOver is the keyboard of a terminal that makes media what a program of the
// session's may make of it: it ends, and something stays that has all it had.
const takesOver = "evil"

// pretendMedia answers as a media process does; whoever is offered a ticket
// has attached.
func pretendMedia() error {
	control, err := net.FileConn(os.NewFile(mediaapi.ControlFD, "control"))
	if err != nil {
		return err
	}
	udp, err := net.FilePacketConn(os.NewFile(mediaapi.UDPFD, "udp"))
	if err != nil {
		return err
	}
	var conn *rpc.Conn
	var setup mediaapi.Setup
	conn = rpc.New(control, func(_ context.Context, op string, body json.RawMessage) (any, error) {
		switch op {
		case mediaapi.OpSetup:
			if err := rpc.Decode(body, &setup); err != nil {
				return nil, err
			}
			if port := udp.LocalAddr().(*net.UDPAddr).Port; port != setup.Port || len(setup.Identity) == 0 {
				return nil, fmt.Errorf("setup says port %d, the socket has %d; identity of %d bytes", setup.Port, port, len(setup.Identity))
			}
			for _, path := range []string{setup.FrameBuffer, setup.Authority} {
				if f, err := os.Open(path); err != nil {
					return nil, err
				} else {
					f.Close()
				}
			}
			return mediaapi.Ready{}, nil
		case mediaapi.OpOffer:
			var o mediaapi.Offer
			if err := rpc.Decode(body, &o); err != nil {
				return nil, err
			}
			if o.Layout == takesOver {
				left := exec.Command("sleep", "1000")
				left.Stdout, left.Stderr = os.Stdout, os.Stderr
				if err := left.Start(); err != nil {
					return nil, err
				}
				os.Exit(1)
			}
			change := client.Change{Terminal: o.Terminal, Gen: o.Gen}
			return client.Offer{Port: setup.Port, Gen: o.Gen}, conn.Notify(mediaapi.EventAttached, change)
		case mediaapi.OpDetach:
			var d client.Detach
			if err := rpc.Decode(body, &d); err != nil {
				return nil, err
			}
			return nil, conn.Notify(mediaapi.EventDetached, client.Change{Terminal: "0800200a0b0c", Gen: d.Gen})
		}
		return nil, fmt.Errorf("unknown request %q", op)
	})
	return conn.Serve(context.Background())
}

// pretendGateway hands its descriptor to the test that listens on socket, and
// ends when the test hangs up.
func pretendGateway(socket string) error {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	hello := fmt.Appendf(nil, "%d %d", os.Getpid(), os.Getuid())
	if _, _, err := conn.WriteMsgUnix(hello, unix.UnixRights(GatewayFD), nil); err != nil {
		return err
	}
	_, _ = conn.Read(make([]byte, 1))
	return nil
}

// serverArgs is what the test tells a pretendServer.
type serverArgs struct{ Runtime, FrameBuffer, Socket string }

func pretendServer(text string) error {
	var a serverArgs
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return err
	}
	return Run(context.Background(), Config{
		Runtime: a.Runtime, FrameBuffer: a.FrameBuffer, SessionProgram: self(),
		MaxWidth: 800, MaxHeight: 600, Local: true, Gateway: gatewayCommand(a.Socket),
	})
}

func self() string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return path
}

func gatewayCommand(socket string) func() *exec.Cmd {
	return func() *exec.Cmd {
		// The gateway's user may not be able to reach this file by its path.
		cmd := exec.Command("/proc/self/exe", "gateway", socket)
		cmd.Stderr = os.Stderr
		return cmd
	}
}

// A rig is a runtime directory, and the socket where gateways report.
type rig struct {
	t        *testing.T
	cfg      Config
	gateways *net.UnixListener
}

func newRig(t *testing.T) *rig {
	t.Helper()
	short, err := os.MkdirTemp("", "hd") // unix socket paths are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	fb, err := os.MkdirTemp("/dev/shm", "hd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(fb) })
	r := &rig{t: t}
	r.cfg = Config{
		Runtime: filepath.Join(short, "run"), FrameBuffer: filepath.Join(fb, "fb"),
		SessionProgram: self(), MaxWidth: 800, MaxHeight: 600, Local: true,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	r.gateways, err = net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(short, "gw"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.gateways.Close() })
	t.Cleanup(func() { // whatever the test did
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := StopSessions(ctx, r.cfg.Runtime, r.cfg.Log); err != nil {
			t.Error(err)
		}
		r.nothingLeft()
	})
	r.cfg.Gateway = gatewayCommand(r.gateways.Addr().String())
	return r
}

// nothingLeft checks that no session has a file.
func (r *rig) nothingLeft() {
	r.t.Helper()
	for _, dir := range []string{r.cfg.FrameBuffer, filepath.Join(r.cfg.Runtime, "sessions")} {
		entries, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			r.t.Error(err)
		}
		for _, e := range entries {
			r.t.Errorf("left: %s", filepath.Join(dir, e.Name()))
		}
	}
}

// run starts a parent in this process; the result of Run comes on the channel.
func (r *rig) run() (stop func(), result <-chan error) {
	ctx, cancel := context.WithCancel(context.Background())
	out := make(chan error, 1)
	var running sync.WaitGroup
	running.Go(func() { out <- Run(ctx, r.cfg) })
	stop = func() { cancel(); running.Wait() }
	r.t.Cleanup(stop)
	return stop, out
}

// asRoot makes the rig's parent one that root runs: its gateway is an account
// without rights, which must reach the socket where it reports, as all users
// must the frame buffers.
func (r *rig) asRoot() {
	r.t.Helper()
	r.cfg.Local, r.cfg.GatewayUser = false, "nobody"
	for path, mode := range map[string]os.FileMode{
		filepath.Dir(r.cfg.Runtime): 0o711, filepath.Dir(r.cfg.FrameBuffer): 0o711, r.gateways.Addr().String(): 0o666,
	} {
		if err := os.Chmod(path, mode); err != nil {
			r.t.Fatal(err)
		}
	}
}

// serve starts a parent and returns its gateway, which has come up.
func (r *rig) serve() *gateway {
	r.t.Helper()
	r.run()
	g := r.gateway()
	if _, err := g.List(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return g
}

// A gateway is the test's hold on a gateway process.
type gateway struct {
	*Client
	pid, uid int
	hold     *net.UnixConn // closed: the process ends
}

func (r *rig) gateway() *gateway {
	r.t.Helper()
	if err := r.gateways.SetDeadline(time.Now().Add(patience)); err != nil {
		r.t.Fatal(err)
	}
	hold, err := r.gateways.AcceptUnix()
	if err != nil {
		r.t.Fatal(err)
	}
	b, oob := make([]byte, 64), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := hold.ReadMsgUnix(b, oob)
	if err != nil {
		r.t.Fatal(err)
	}
	g := &gateway{hold: hold}
	if _, err := fmt.Sscanf(string(b[:n]), "%d %d", &g.pid, &g.uid); err != nil {
		r.t.Fatal(err)
	}
	g.Client, err = NewClient(received(oob[:oobn])[0])
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { g.Client.Close(); hold.Close() })
	return g
}

// A keeper is the test's hold on a session.
type keeper struct {
	*client.Keeper
	t      *testing.T
	pidfd  int
	events chan any
	done   chan struct{} // closed when the connection has ended
}

func (k *keeper) Attached(c client.Change)  { k.events <- attached(c) }
func (k *keeper) Detached(c client.Change)  { k.events <- detached(c) }
func (k *keeper) Quiet(client.Change, bool) {}

func (k *keeper) MediaRestarted(c client.Change) { k.events <- restarted(c) }
func (k *keeper) Ended(e client.Ended)           { k.events <- e }

type (
	attached  client.Change
	detached  client.Change
	restarted client.Change
)

func watch(t *testing.T, conn net.Conn) *keeper {
	t.Helper()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{t: t, events: make(chan any, 64), done: make(chan struct{})}
	if err := raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			t.Error(err)
			return
		}
		if k.pidfd, err = unix.PidfdOpen(int(cred.Pid), 0); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	k.Keeper = client.New(conn, k)
	go func() {
		defer close(k.done)
		_ = k.Serve(context.Background())
	}()
	t.Cleanup(func() { k.Close(); <-k.done; unix.Close(k.pidfd) })
	return k
}

// next returns the next event, which must be a T.
func next[T any](k *keeper) T {
	k.t.Helper()
	select {
	case e := <-k.events:
		out, ok := e.(T)
		if !ok {
			k.t.Fatalf("event %T %+v, want %T", e, e, out)
		}
		return out
	case <-time.After(patience):
		var none T
		k.t.Fatalf("no %T", none)
		return none
	}
}

func (k *keeper) status() client.Status {
	k.t.Helper()
	s, err := k.Status(k.t.Context())
	if err != nil {
		k.t.Fatal(err)
	}
	return s
}

// gone waits until a process has ended.
func gone(t *testing.T, pidfd int) {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(patience/time.Millisecond))
		if err == unix.EINTR {
			continue
		}
		if n != 1 {
			t.Fatalf("the process lives (%v)", err)
		}
		return
	}
}

// ended waits for the end of a session and checks that no process of it is
// left; every one has the session's id in its environment.
func (k *keeper) ended(id alp.SessionID) {
	k.t.Helper()
	select {
	case <-k.done:
	case <-time.After(patience):
		k.t.Fatal("the session does not end")
	}
	gone(k.t, k.pidfd)
	if left := processes(id); len(left) > 0 {
		k.t.Errorf("left: %v", left)
	}
}

// processes returns the session's programs: pid and name.
func processes(id alp.SessionID) map[string]string {
	out := map[string]string{}
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		panic(err)
	}
	for _, path := range environs {
		env, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(env), "HOTDESK_SESSION="+string(id)) {
			continue
		}
		dir := filepath.Dir(path)
		name, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err == nil {
			out[filepath.Base(dir)] = strings.TrimSpace(string(name))
		}
	}
	return out
}

func (r *rig) start(g *gateway, id alp.SessionID) *keeper {
	r.t.Helper()
	conn, err := g.Start(r.t.Context(), Start{Session: id, Token: "card.4711", Width: 640, Height: 480, Layout: "de"})
	if err != nil {
		r.t.Fatal(err)
	}
	return watch(r.t, conn)
}

// script writes a session script, and makes a pipe, named as its argument 1,
// whose lines the test reads.
func (r *rig) script(text string) *os.File {
	r.t.Helper()
	dir := filepath.Dir(r.cfg.Runtime)
	fifo := filepath.Join(dir, "said")
	if err := unix.Mkfifo(fifo, 0o666); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Chmod(fifo, 0o666); err != nil {
		r.t.Fatal(err)
	}
	f, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { f.Close() })
	if err := f.SetReadDeadline(time.Now().Add(patience)); err != nil {
		r.t.Fatal(err)
	}
	r.cfg.SessionScript = filepath.Join(dir, "script")
	if err := os.WriteFile(r.cfg.SessionScript, []byte("said="+fifo+"\n"+text), 0o644); err != nil {
		r.t.Fatal(err)
	}
	return f
}

func kill(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := unix.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}
