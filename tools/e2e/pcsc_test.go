//go:build pcsc

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hotdesk/smartcard/reader/emulated"
	"hotdesk/smartcard/reader/vpcd"
	"hotdesk/tools/internal/debian"
)

// A daemon is a real pcscd in a network and a /run of its own, as its socket
// and its virtual reader's port are always the same.
type daemon struct {
	t     *testing.T
	pid   int
	cards *emulated.Reader
	conn  net.Conn
	quit  chan struct{}
}

func newDaemon(t *testing.T, dir string) *daemon {
	t.Helper()
	cmd := exec.Command("sh", "-c", "mount --make-rprivate / && mount -t tmpfs tmpfs /run && mkdir /run/pcscd && ip link set lo up && exec pcscd --foreground")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, pid: cmd.Process.Pid, cards: emulated.New(os.DirFS(dir))}
	var reading sync.WaitGroup
	reading.Go(func() {
		for range d.cards.Events() {
		}
	})
	t.Cleanup(func() {
		if d.conn != nil {
			d.remove()
		}
		d.cards.Close()
		reading.Wait()
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()                          // by a signal: an error by design
	})
	for until := time.Now().Add(patience); ; pause() {
		if _, err := os.Stat(d.socket()); err == nil {
			return d
		}
		if time.Now().After(until) {
			t.Fatal("pcscd does not start")
		}
	}
}

// socket is where clients outside reach it.
func (d *daemon) socket() string { return fmt.Sprintf("/proc/%d/root/run/pcscd/pcscd.comm", d.pid) }

// dial connects to the virtual reader's port.
func (d *daemon) dial() (conn net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with it
		var f *os.File
		if f, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", d.pid)); err != nil {
			return
		}
		defer f.Close()
		if err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err == nil {
			conn, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", vpcd.Port))
		}
	}()
	<-done
	return conn, err
}

// insert puts a card into the virtual reader.
func (d *daemon) insert(name string) {
	d.t.Helper()
	c, err := d.cards.Insert(name)
	if err != nil {
		d.t.Fatal(err)
	}
	for until := time.Now().Add(patience); ; pause() {
		if d.conn, err = d.dial(); err == nil {
			break
		}
		if time.Now().After(until) {
			d.t.Fatal(err)
		}
	}
	d.quit = make(chan struct{})
	go func(conn net.Conn, quit chan struct{}) {
		defer close(quit)
		if err := vpcd.Serve(context.Background(), conn, c); err != nil && !errors.Is(err, net.ErrClosed) {
			d.t.Log(err) // a card pulled in the middle
		}
	}(d.conn, d.quit)
}

func (d *daemon) remove() {
	d.t.Helper()
	d.conn.Close()
	<-d.quit
	d.conn = nil
	if _, err := d.cards.Remove(); err != nil {
		d.t.Fatal(err)
	}
}

// A card in a reader of the terminal's PC/SC service proves itself, with a PIN
// and without, and is used by the programs of the session: pcscd at the
// terminal, ours in the session.
func TestPCSCReader(t *testing.T) {
	w := openWorld(t)
	must(t, debian.Need(w.ctx, t.Output(), debian.Cards...))
	rules := w.pivOf(t, "alice", "123456", false)
	north, err := w.lab.Host(w.ctx, "north", "-proof-rules", rules)
	if north != nil {
		w.hosts["north"] = north
	}
	must(t, err)
	d := newDaemon(t, w.lab.Path("cards"))
	t.Setenv("PCSCLITE_CSOCK_NAME", d.socket())
	b := localBooth(t, north.Addr)
	term, err := w.lab.Terminal(w.ctx, "a", "-server", b.addr, "-size", small, "-readers", "emulated,pcsc")
	must(t, err)
	ctl := func(words ...string) {
		t.Helper()
		_, err := term.Ctl(w.ctx, words...)
		must(t, err)
	}
	see := func(words ...string) {
		t.Helper()
		ctl(append([]string{"wait", "-timeout", patience.String()}, words...)...)
	}
	see("picture")

	d.insert("alice")
	see("osd=8", "says=Enter your card")
	ctl("type", "654321\n")
	see("osd=8", "says=Wrong PIN: 2 tries left")
	ctl("type", "123456\n")
	see("picture", "pixel=400,300,"+xtermColour)
	_, err = term.Rest(w.ctx, patience)
	must(t, err)
	ctl("type", "xsetroot -solid '#2a7f62'\n")
	see("picture", corner+"2a7f62")

	said := w.lab.Path("said")
	run := "{ opensc-tool -l && pkcs11-tool --test --login --pin 123456 && " + filepath.Join(bin, "cardping") + " 100; } >" + said + " 2>&1; echo $? >" + said + ".code"
	ctl("type", run+"\n")
	waitFile(t, said+".code")
	var text []byte
	for until := time.Now().Add(patience); !strings.Contains(string(text), " of 100\n"); pause() {
		text, err = os.ReadFile(said)
		must(t, err)
		if time.Now().After(until) {
			t.Fatalf("programs do not reach the card:\n%s", text)
		}
	}
	for _, want := range []string{"Hotdesk Terminal 00 00", "No errors"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the session's tools do not say %q:\n%s", want, text)
		}
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	t.Logf("figure: a program's exchange with the card in the terminal's pcscd: %s", lines[len(lines)-1])

	d.remove()
	see("token=pseudo." + term.Ready["terminal"])
	b.cardsOnTheWire(t, "pcscd", func() { d.insert("alice") }, func() {
		// The service looks for cards now and then: what changes in between is
		// lost on it.
		see("picture", corner+"2a7f62")
		d.remove()
		see("token=pseudo." + term.Ready["terminal"])
	})
	d.insert("alice") // without a PIN
	see("picture", corner+"2a7f62")
	d.remove()
	see("token=pseudo." + term.Ready["terminal"])
}
