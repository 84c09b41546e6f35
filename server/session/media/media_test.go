package media_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/BurntSushi/xgb"
	"github.com/BurntSushi/xgb/xproto"
	"golang.org/x/sys/unix"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/draw"
	"hotdesk/protocol/input"
	"hotdesk/protocol/native"
	"hotdesk/protocol/rpc"
	mediaend "hotdesk/server/session/attach"
	"hotdesk/server/session/client"
	"hotdesk/server/session/media"
	"hotdesk/server/session/mediaapi"
)

// mediaEnv makes the test binary a media process: its settings are those of a
// process, and package xgb bears one connection in each.
const mediaEnv = "MEDIA_TEST_PROCESS"

// windowEnv makes it a program in the session, for the same reason.
const windowEnv = "MEDIA_TEST_WINDOW"

// patience is how long something may take that is sure to come.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(windowEnv) != "":
		xgb.Logger = log.New(io.Discard, "", 0)
		if err := runWindow(os.Stdin, os.Stdout); err != nil {
			log.Fatal(err)
		}
		os.Exit(0)
	case os.Getenv(mediaEnv) == "":
		os.Exit(m.Run())
	}
	control, err := net.FileConn(os.NewFile(mediaapi.ControlFD, "control"))
	if err != nil {
		log.Fatal(err)
	}
	udp, err := net.FilePacketConn(os.NewFile(mediaapi.UDPFD, "udp"))
	if err != nil {
		log.Fatal(err)
	}
	if err := media.Run(context.Background(), control, udp, slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
		fmt.Fprintln(os.Stderr, "ended:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A keeper is the test in the keeper's place: an X server, a media process and
// the connection to it.
type keeper struct {
	t      *testing.T
	x      *exec.Cmd
	media  *exec.Cmd
	conn   *rpc.Conn
	setup  mediaapi.Setup
	events chan string
	done   chan struct{} // the media process has ended
	stderr *text
	heard  *text // what media said to the keeper
}

type text struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *text) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *text) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	k := &keeper{t: t, events: make(chan string, 100), done: make(chan struct{}), stderr: new(text), heard: new(text)}
	k.startX()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "media"), os.NewFile(uintptr(pair[1]), "keeper")
	defer ours.Close()
	defer theirs.Close()
	control, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	socket, err := udp.File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	identity, err := mediaend.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if k.setup.Identity, err = identity.MarshalBinary(); err != nil {
		t.Fatal(err)
	}
	k.setup.Port = udp.LocalAddr().(*net.UDPAddr).Port
	k.setup.Session = "test"

	k.media = exec.Command(os.Args[0])
	k.media.Env = append(os.Environ(), mediaEnv+"=1")
	k.media.ExtraFiles = []*os.File{theirs, socket}
	k.media.Stderr = k.stderr
	if err := k.media.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		k.media.Wait()
		close(k.done)
	}()
	k.conn = rpc.New(tapped{control, k.heard}, func(_ context.Context, op string, body json.RawMessage) (any, error) {
		var c client.Change
		err := rpc.Decode(body, &c)
		k.events <- fmt.Sprintf("%s %s %d", op, c.Terminal, c.Gen)
		return nil, err
	})
	go k.conn.Serve(context.Background())
	t.Cleanup(func() {
		k.conn.Close()
		k.media.Process.Kill()
		<-k.done
	})
	return k
}

// tapped keeps what is read.
type tapped struct {
	net.Conn
	heard *text
}

func (t tapped) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	t.heard.Write(b[:n])
	return n, err
}

func (k *keeper) startX() {
	k.t.Helper()
	dir := k.t.TempDir()
	r, w, err := os.Pipe()
	if err != nil {
		k.t.Fatal(err)
	}
	defer r.Close()
	k.x = exec.Command("Xvfb", "-displayfd", "3", "-screen", "0", "1024x768x24", "-fbdir", dir, "-extension", "GLX",
		"-nolisten", "tcp", "-noreset")
	k.x.ExtraFiles = []*os.File{w}
	err = k.x.Start()
	w.Close()
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { k.x.Process.Kill(); k.x.Wait() })
	number, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		k.t.Fatal("Xvfb did not start: ", err)
	}
	k.setup.Display = ":" + strings.TrimSpace(number)
	k.setup.FrameBuffer = filepath.Join(dir, "Xvfb_screen0")
	k.setup.MaxWidth, k.setup.MaxHeight = 1024, 768
}

func (k *keeper) call(op string, in, out any) error {
	ctx, cancel := context.WithTimeout(k.t.Context(), patience)
	defer cancel()
	return k.conn.Call(ctx, op, in, out)
}

func (k *keeper) begin() {
	k.t.Helper()
	if err := k.call(mediaapi.OpSetup, k.setup, nil); err != nil {
		k.t.Fatal(err)
	}
}

const (
	terminalA = alp.TerminalID("0200c0a80001")
	terminalB = alp.TerminalID("0200c0a80002")
)

// attach asks for a ticket and redeems it.
func (k *keeper) attach(id alp.TerminalID, gen uint64, w, h int, layout string) *terminal {
	k.t.Helper()
	in := mediaapi.Offer{Gen: gen, Attach: client.Attach{Terminal: id, Addr: netip.MustParseAddr("127.0.0.1"), Width: w, Height: h, Layout: layout}}
	var out client.Offer
	if err := k.call(mediaapi.OpOffer, in, &out); err != nil {
		k.t.Fatal(err)
	}
	if out.Gen != gen || out.Port != k.setup.Port {
		k.t.Fatalf("offer %d on port %d, want %d on %d", out.Gen, out.Port, gen, k.setup.Port)
	}
	return attach(k.t, id, out, w, h)
}

func (k *keeper) expect(want ...string) {
	k.t.Helper()
	for _, w := range want {
		select {
		case got := <-k.events:
			if got != w {
				k.t.Fatalf("event %q, want %q", got, w)
			}
		case <-time.After(patience):
			k.t.Fatalf("no event %q; media says: %s", w, k.stderr)
		}
	}
}

// ended waits for the media process and returns its exit code.
func (k *keeper) ended() int {
	k.t.Helper()
	select {
	case <-k.done:
	case <-time.After(patience):
		k.media.Process.Signal(syscall.SIGQUIT)
		<-k.done
		k.t.Fatalf("media does not end: %s", k.stderr)
	}
	return k.media.ProcessState.ExitCode()
}

// A window is one in the session, and what is typed in it.
type window struct {
	t    *testing.T
	in   io.Writer
	keys chan string
	ok   chan struct{}
}

func (k *keeper) window() *window {
	k.t.Helper()
	w := &window{t: k.t, keys: make(chan string, 100), ok: make(chan struct{}, 1)}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), windowEnv+"=1", "DISPLAY="+k.setup.Display)
	in, err := cmd.StdinPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			if s.Text() == "ok" {
				w.ok <- struct{}{}
			} else {
				w.keys <- s.Text()
			}
		}
	}()
	w.in = in
	w.drawn()
	return w
}

// runWindow is that window's process: it fills the rectangles that come on r.
func runWindow(r io.Reader, out io.Writer) error {
	c, err := xgb.NewConn()
	if err != nil {
		return err
	}
	s := xproto.Setup(c).DefaultScreen(c)
	win, err := xproto.NewWindowId(c)
	if err != nil {
		return err
	}
	gc, err := xproto.NewGcontextId(c)
	if err != nil {
		return err
	}
	if err := xproto.CreateWindowChecked(c, s.RootDepth, win, s.Root, 0, 0, 1024, 768, 0, xproto.WindowClassInputOutput, s.RootVisual,
		xproto.CwBackPixel|xproto.CwOverrideRedirect|xproto.CwEventMask,
		[]uint32{0x112233, 1, xproto.EventMaskKeyPress | xproto.EventMaskKeyRelease}).Check(); err != nil {
		return err
	}
	xproto.MapWindow(c, win)
	xproto.CreateGC(c, gc, xproto.Drawable(win), 0, nil)
	var mu sync.Mutex
	say := func(f string, a ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(out, f+"\n", a...)
	}
	go func() {
		for {
			ev, xerr := c.WaitForEvent()
			switch e := ev.(type) {
			case nil:
				if xerr == nil {
					return
				}
			case xproto.KeyPressEvent:
				say("down %d", e.Detail)
			case xproto.KeyReleaseEvent:
				say("up %d", e.Detail)
			}
		}
	}()
	c.Sync()
	say("ok")
	for in := bufio.NewScanner(r); in.Scan(); {
		var x, y, w, h int
		var colour uint32
		if _, err := fmt.Sscan(in.Text(), &x, &y, &w, &h, &colour); err != nil {
			return err
		}
		xproto.ChangeGC(c, gc, xproto.GcForeground, []uint32{colour})
		xproto.PolyFillRectangle(c, xproto.Drawable(win), gc, []xproto.Rectangle{{X: int16(x), Y: int16(y), Width: uint16(w), Height: uint16(h)}})
		c.Sync()
		say("ok")
	}
	return nil
}

// drawn waits for the window.
func (w *window) drawn() {
	w.t.Helper()
	select {
	case <-w.ok:
	case <-time.After(patience):
		w.t.Fatal("the window does nothing")
	}
}

func (w *window) fill(x, y, width, height int, colour uint32) {
	w.t.Helper()
	fmt.Fprintln(w.in, x, y, width, height, colour)
	w.drawn()
}

func (w *window) expect(want ...string) {
	w.t.Helper()
	for _, k := range want {
		select {
		case got := <-w.keys:
			if got != k {
				w.t.Fatalf("key %q, want %q", got, k)
			}
		case <-time.After(patience):
			w.t.Fatalf("no key %q", k)
		}
	}
}

func sized(w, h int) func(*draw.Pixmap) bool {
	return func(p *draw.Pixmap) bool { return p.W == w && p.H == h }
}

func key(usage uint16, down bool) input.Record {
	return input.Record{Type: input.Key, Usage: usage, Down: down}
}

func TestAttachTypeDetach(t *testing.T) {
	k := newKeeper(t)
	k.begin()
	w := k.window()
	a := k.attach(terminalA, 1, 640, 480, "")
	k.expect("attached 0200c0a80001 1")
	// The first frame has the terminal's size already.
	a.await("a picture", func(p *draw.Pixmap) bool {
		if p.W != 640 || p.H != 480 {
			t.Errorf("a frame of %dx%d", p.W, p.H)
		}
		return colour(p, 639, 479) == 0x112233
	})
	for i := range uint32(20) {
		w.fill(int(i), 30, 5, 5, 0xabc000+i)
		a.await("a drawing", func(p *draw.Pixmap) bool { return colour(p, int(i)+2, 32) == 0xabc000+i })
	}
	a.send(input.Record{Type: input.Pointer, X: 320, Y: 200})
	a.send(key(0x04, true))
	a.send(key(0x04, false))
	a.send(key(0xe1, true)) // and still down when the terminal goes
	w.expect("down 38", "up 38", "down 50")
	if err := k.call(mediaapi.OpDetach, client.Detach{Gen: 1}, nil); err != nil {
		t.Fatal(err)
	}
	// Events are handled beside answers: what came first, the wire tells.
	lines := strings.Split(strings.TrimSpace(k.heard.String()), "\n")
	detached := func(line string) bool { return strings.Contains(line, mediaapi.EventDetached) }
	if i := slices.IndexFunc(lines, detached); i < 0 || i == len(lines)-1 {
		t.Errorf("the answer to detach came before the event:\n%s", strings.Join(lines, "\n"))
	}
	k.expect("detached 0200c0a80001 1")
	w.expect("up 50")
	if code := a.closed(); code != native.CloseDetached {
		t.Errorf("closed with %d", code)
	}
	// Once more is no error, and a new one comes in.
	if err := k.call(mediaapi.OpDetach, client.Detach{Gen: 1}, nil); err != nil {
		t.Error(err)
	}
	b := k.attach(terminalB, 2, 800, 600, "de")
	k.expect("attached 0200c0a80002 2")
	b.await("a picture", sized(800, 600))
	b.send(input.Record{Type: input.Resize, X: 333, Y: 222})
	b.await("another size", sized(333, 222))
}

func TestTakenOver(t *testing.T) {
	k := newKeeper(t)
	k.begin()
	w := k.window()
	a := k.attach(terminalA, 1, 640, 480, "us")
	a.await("a picture", sized(640, 480))
	a.send(input.Record{Type: input.Pointer, X: 320, Y: 200})
	a.send(key(0xe1, true))
	w.expect("down 50")
	b := k.attach(terminalB, 2, 800, 600, "us")
	b.await("a picture", sized(800, 600))
	if code := a.closed(); code != native.CloseDetached {
		t.Errorf("closed with %d", code)
	}
	k.expect("attached 0200c0a80001 1", "detached 0200c0a80001 1", "attached 0200c0a80002 2")
	b.send(key(0x04, true))
	w.expect("up 50", "down 38")
}

func TestKeeperGone(t *testing.T) {
	k := newKeeper(t)
	k.begin()
	a := k.attach(terminalA, 1, 640, 480, "us")
	a.await("a picture", sized(640, 480))
	k.conn.Close()
	if code := k.ended(); code != 0 {
		t.Errorf("exit code %d: %s", code, k.stderr)
	}
	if code := a.closed(); code != native.CloseRestart {
		t.Errorf("closed with %d", code)
	}
}

func TestServerGone(t *testing.T) {
	k := newKeeper(t)
	k.begin()
	a := k.attach(terminalA, 1, 640, 480, "us")
	a.await("a picture", sized(640, 480))
	k.x.Process.Kill()
	if code := k.ended(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if code := a.closed(); code != native.CloseEnded {
		t.Errorf("closed with %d", code)
	}
	if want := "ended: media: xdisplay: X server " + k.setup.Display + " is gone: "; strings.Count(k.stderr.String(), want) != 1 {
		t.Errorf("it says %s; want once %q", k.stderr, want)
	}
}

func TestRefusals(t *testing.T) {
	k := newKeeper(t)
	fails := func(op string, in any, want string) {
		t.Helper()
		if err := k.call(op, in, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", op, err, want)
		}
	}
	fails(mediaapi.OpOffer, mediaapi.Offer{}, "media: not set up yet")
	fails(mediaapi.OpDetach, client.Detach{Gen: 1}, "media: not set up yet")
	fails("dance", nil, `media: unknown request "dance"`)
	bad := k.setup
	bad.Identity = []byte("x")
	fails(mediaapi.OpSetup, bad, "media: attach: ")
	bad = k.setup
	bad.Display = ":60000"
	fails(mediaapi.OpSetup, bad, "media: xdisplay: X server :60000: ")
	fails(mediaapi.OpSetup, 7, "bad body")
	k.begin()
	fails(mediaapi.OpSetup, k.setup, "media: set up already")
	fails(mediaapi.OpOffer, mediaapi.Offer{Gen: 1, Attach: client.Attach{Terminal: "no"}}, "media: attach: ")
}
