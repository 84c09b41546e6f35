//go:build pcsc

package pcsc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ebfe/scard"

	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/identity"
	"hotdesk/smartcard/piv"
	"hotdesk/smartcard/reader"
	"hotdesk/smartcard/reader/emulated"
	"hotdesk/smartcard/reader/emulated/issuer"
	"hotdesk/smartcard/reader/readertest"
	"hotdesk/smartcard/reader/vpcd"
)

// inside says that the process has its own mounts and network: pcscd's socket
// has a fixed path, and vpcd listens on every address.
const inside = "HOTDESK_PCSC_INSIDE"

// eyes makes the process one that tells on its output what the service sees at
// the first reader: "in" or "out", a line for each change. It is a process of
// its own as there may be one waiting in each, see Open.
const eyes = "HOTDESK_PCSC_EYES"

func look() int {
	ctx, err := scard.EstablishContext()
	if err != nil {
		return 1
	}
	var state scard.StateFlag
	for {
		st := []scard.ReaderState{{Reader: first, CurrentState: state}}
		if err := ctx.GetStatusChange(st, -1); err != nil {
			return 1
		}
		state = st[0].EventState &^ scard.StateChanged
		if state&scard.StatePresent != 0 {
			fmt.Println("in")
		} else {
			fmt.Println("out")
		}
	}
}

// patience is when a test gives up; nothing is decided by it.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv(eyes) != "" {
		os.Exit(look())
	}
	if os.Getenv(inside) == "" {
		os.Exit(enter())
	}
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "pcsc test: needs root, pcscd and vsmartcard-vpcd:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// enter runs this test again in namespaces of its own.
func enter() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "pcsc test: needs root:", err)
		return 1
	}
	return 0
}

func prepare() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		return err
	}
	if err := os.Mkdir("/run/pcscd", 0o755); err != nil {
		return err
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

const first = "Virtual PCD 00 00"

// desk is a pcscd with a card reader and hands.
type desk struct {
	t     *testing.T
	sees  chan string // lines of the eyes
	conn  net.Conn
	cards *emulated.Reader
	quit  chan struct{}
}

// startDaemon starts pcscd and waits for its readers.
func startDaemon(t *testing.T) (stop func()) {
	t.Helper()
	cmd := exec.Command("pcscd", "--foreground")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() { _ = cmd.Wait(); close(gone) }() // ended by a signal: an error by design
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-gone:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-gone
			t.Error("pcscd did not end")
		}
	}
	t.Cleanup(stop)
	return stop
}

// until tries again and again, as things outside have no event to wait for.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func newDesk(t *testing.T, cards fstest.MapFS) *desk {
	t.Helper()
	startDaemon(t)
	d := &desk{t: t, cards: emulated.New(cards)}
	t.Cleanup(func() { d.cards.Close() })
	until(t, "pcscd with its readers", serves)
	d.look()
	d.wait(false)
	t.Cleanup(func() {
		if d.conn != nil {
			d.conn.Close()
			<-d.quit
		}
	})
	return d
}

// serves reports whether the service has its readers.
func serves() bool {
	ctx, err := scard.EstablishContext()
	if err != nil {
		return false
	}
	names, err := ctx.ListReaders()
	return errors.Join(err, ctx.Release()) == nil && len(names) == 2
}

// look starts the eyes.
func (d *desk) look() {
	d.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), eyes+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.sees = make(chan string, 1000)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			d.sees <- sc.Text()
		}
	}()
	d.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
		_ = cmd.Wait() // killed: an error by design
	})
}

// wait waits until the service sees a card come, or go.
func (d *desk) wait(present bool) {
	d.t.Helper()
	limit := time.After(patience)
	for {
		select {
		case line := <-d.sees:
			if (line == "in") == present {
				return
			}
		case <-limit:
			d.t.Fatal("the service does not see the change")
		}
	}
}

func (d *desk) insert(name string) {
	d.t.Helper()
	c, err := d.cards.Insert(name)
	if err != nil {
		d.t.Fatal(err)
	}
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", vpcd.Port))
	if err != nil {
		d.t.Fatal(err)
	}
	d.conn, d.quit = conn, make(chan struct{})
	go func(quit chan struct{}) {
		defer close(quit)
		if err := vpcd.Serve(context.Background(), conn, c); err != nil && !errors.Is(err, net.ErrClosed) {
			d.t.Log(err) // a card pulled in the middle
		}
	}(d.quit)
	d.wait(true)
}

func (d *desk) pull() {
	d.t.Helper()
	d.conn.Close()
	<-d.quit
	d.conn = nil
	d.wait(false)
}

func openFirst(t *testing.T) reader.Source {
	s, err := Open(func(name string) bool { return name == first })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const simpleCard = "atr = 3b08484f544445534b31\ntype = simple\nid = 0123456789abcdef\nsecret = 00112233445566778899aabbccddeeff\n"

func TestConformance(t *testing.T) {
	readertest.Run(t, func(t *testing.T) readertest.Bench {
		d := newDesk(t, fstest.MapFS{"a.card": {Data: []byte(simpleCard)}})
		return readertest.Bench{
			Open:   openFirst,
			Insert: func(*testing.T) { d.insert("a") },
			Remove: func(*testing.T) { d.pull() },
			ID:     []byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef},
			ATR:    []byte{0x3b, 0x08, 'H', 'O', 'T', 'D', 'E', 'S', 'K', '1'},
		}
	})
}

func next(t *testing.T, s reader.Source, kind reader.Kind) reader.Event {
	t.Helper()
	select {
	case e := <-s.Events():
		if e.Kind != kind {
			t.Fatalf("%+v, want kind %d", e, kind)
		}
		return e
	case <-time.After(patience):
		t.Fatalf("no event of kind %d", kind)
	}
	return reader.Event{}
}

func pivCards(t *testing.T) fstest.MapFS {
	t.Helper()
	i, err := issuer.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cards := fstest.MapFS{}
	for _, spec := range []issuer.Spec{{Name: "ec", PIN: "123456"}, {Name: "rsa", PIN: "123456", RSA: true}} {
		files, err := i.Card(spec)
		if err != nil {
			t.Fatal(err)
		}
		for name, b := range files {
			cards[name] = &fstest.MapFile{Data: b}
		}
	}
	return cards
}

// TestServiceEnds: both of the driver's readers are told, and when the service
// ends, their end.
func TestServiceEnds(t *testing.T) {
	stop := startDaemon(t)
	until(t, "the service", serves)
	s, err := Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if two, err := Open(nil); err == nil {
		two.Close()
		t.Error("two sources in one process")
	}
	a, b := next(t, s, reader.ReaderAdded), next(t, s, reader.ReaderAdded)
	if a.Reader == b.Reader {
		t.Errorf("%s twice", a.Reader)
	}
	stop()
	next(t, s, reader.ReaderRemoved)
	next(t, s, reader.ReaderRemoved)
	startDaemon(t)
	next(t, s, reader.ReaderAdded)
}

func TestNoService(t *testing.T) {
	if s, err := Open(nil); err == nil || !strings.Contains(err.Error(), "install pcscd") {
		t.Errorf("%v, %v", s, err)
	}
}

// TestPIV: the emulated PIV card is named through the whole way: pcscd, vpcd's
// driver, the card. A PIN that was verified is none after a reset, nor for who
// opens the reader next.
func TestPIV(t *testing.T) {
	d := newDesk(t, pivCards(t))
	d.insert("rsa")
	s := openFirst(t)
	defer s.Close()
	next(t, s, reader.ReaderAdded)
	c := next(t, s, reader.Inserted).Card
	tok, err := identity.Identify(t.Context(), c, identity.Rules())
	if err != nil || tok.Type != "piv" || len(tok.ID) != 2*piv.GUIDSize {
		t.Errorf("%+v, %v", tok, err)
	}
	verify, err := piv.Verify("123456")
	if err != nil {
		t.Fatal(err)
	}
	status(t, c, piv.Select(), apdu.OK)
	status(t, c, verify, apdu.OK)
	status(t, c, piv.Tries(), apdu.OK)
	if err := reader.Reset(t.Context(), c); err != nil {
		t.Error(err)
	}
	status(t, c, piv.Select(), apdu.OK)
	status(t, c, piv.Tries(), apdu.TriesLeft|3)
	status(t, c, verify, apdu.OK)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	again := openFirst(t)
	defer again.Close()
	next(t, again, reader.ReaderAdded)
	c = next(t, again, reader.Inserted).Card
	status(t, c, piv.Select(), apdu.OK)
	status(t, c, piv.Tries(), apdu.TriesLeft|3)
}

func status(t *testing.T, c reader.Card, cmd apdu.Command, want uint16) {
	t.Helper()
	b, err := c.Transmit(t.Context(), cmd.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	if r, err := apdu.ParseResponse(b); err != nil || r.Status&0xff00 != apdu.MoreData && r.Status != want {
		t.Errorf("%02x: %x, %v; want %04x", cmd.INS, b, err, want)
	}
}

// TestOpenSC: OpenSC's tools read the emulated PIV cards as they read real
// ones.
func TestOpenSC(t *testing.T) {
	d := newDesk(t, pivCards(t))
	conf := filepath.Join(t.TempDir(), "opensc.conf")
	if err := os.WriteFile(conf, []byte("app default {\n\tframework pkcs15 {\n\t\tuse_file_caching = no;\n\t}\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(want string, name string, args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Env = append(os.Environ(), "OPENSC_CONF="+conf)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s %s: %v, want %q in:\n%s", name, strings.Join(args, " "), err, want, out)
		}
	}
	for _, card := range []string{"ec", "rsa"} {
		d.insert(card)
		atr := strings.ToLower(fmt.Sprintf("% x", issuer.ATR()))
		run(strings.ReplaceAll(atr, " ", ":"), "opensc-tool", "-r", "0", "-a")
		run("Personal Identity Verification", "opensc-tool", "-r", "0", "-n")
		run("Personal Identity Verification", "piv-tool", "-r", "0", "-n")
		run("Certificate for PIV Authentication", "pkcs15-tool", "-r", "0", "-D")
		run("Certificate for Card Authentication", "pkcs15-tool", "-r", "0", "-c")
		run("BEGIN CERTIFICATE", "pkcs15-tool", "-r", "0", "--read-certificate", "01")
		run("", "pkcs15-tool", "-r", "0", "--verify-pin", "--pin", "123456")
		d.pull()
	}
	hash := filepath.Join(t.TempDir(), "hash")
	if err := os.WriteFile(hash, make([]byte, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	d.insert("rsa")
	run("", "pkcs15-crypt", "-r", "0", "--sign", "--key", "01", "--pin", "123456", "--pkcs1", "--sha-256", "-i", hash, "-o", hash+".sig")
	if b, err := os.ReadFile(hash + ".sig"); err != nil || len(b) != 256 {
		t.Errorf("signature of %d bytes, %v", len(b), err)
	}
}
