//go:build pcsc

package media

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hotdesk/smartcard/reader/emulated"
	"hotdesk/smartcard/reader/emulated/issuer"
	"hotdesk/smartcard/reader/vpcd"
)

const (
	// scriptEnv makes a process the program; it is the reader's name.
	scriptEnv = "HOTDESK_CARDS_SCRIPT"
	// realEnv makes a process run the program against pcscd, in namespaces of
	// its own: pcscd's socket has a fixed path, and vpcd listens everywhere. It
	// is the folder of the cards.
	realEnv = "HOTDESK_CARDS_REAL"
	// recordEnv makes that process record what passes the socket, in a file.
	recordEnv = "HOTDESK_CARDS_RECORD"
)

var record = flag.String("record", "", "`FILE` to record in what libpcsclite and pcscd say to each other")

func init() {
	switch {
	case os.Getenv(scriptEnv) != "":
		runProgram()
		os.Exit(0)
	case os.Getenv(realEnv) != "":
		if err := runReal(os.Getenv(realEnv)); err != nil {
			fmt.Fprintln(os.Stderr, "cards test: needs root, pcscd and vsmartcard-vpcd:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// cardPatience is when a test gives up; nothing is decided by it.
const cardPatience = 20 * time.Second

// start runs the program of this test against the socket at path ("": pcscd's).
func start(ctx context.Context, path, reader string, hands func(string) error) ([]string, error) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, realEnv+"=") })
	cmd.Env = append(cmd.Env, scriptEnv+"="+reader, "PCSCLITE_NO_BLOCKING=1") // no retries of what is refused
	if path != "" {
		cmd.Env = append(cmd.Env, "PCSCLITE_CSOCK_NAME="+path)
	}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	said, err := drive(in, out, hands)
	if err != nil {
		_ = cmd.Process.Kill() // its pipe is not read any more
	}
	return said, errors.Join(err, cmd.Wait())
}

// runReal runs the program against pcscd, and prints what it says.
func runReal(folder string) error {
	ctx, cancel := context.WithTimeout(context.Background(), cardPatience)
	defer cancel()
	if err := errors.Join(
		syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
		syscall.Mount("tmpfs", "/run", "tmpfs", 0, ""),
		os.Mkdir("/run/pcscd", 0o755),
		exec.CommandContext(ctx, "ip", "link", "set", "lo", "up").Run(),
	); err != nil {
		return err
	}
	daemon := exec.CommandContext(ctx, "pcscd", "--foreground")
	daemon.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := daemon.Start(); err != nil {
		return err
	}
	defer func() {
		_ = daemon.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = daemon.Wait()
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	at := net.JoinHostPort("127.0.0.1", fmt.Sprint(vpcd.Port))
	for ready := false; !ready; { // no event tells of it
		select {
		case <-tick.C:
			_, err := os.Stat("/run/pcscd/pcscd.comm")
			ready = err == nil && exec.CommandContext(ctx, "opensc-tool", "-l").Run() == nil
		case <-ctx.Done():
			return errors.New("pcscd does not start")
		}
	}
	cards := emulated.New(os.DirFS(folder))
	defer cards.Close()
	go func() {
		for range cards.Events() {
		}
	}()
	var slot net.Conn
	var serving sync.WaitGroup
	defer serving.Wait()
	hands := func(what string) error {
		if what == "remove" {
			_, err := cards.Remove()
			return errors.Join(err, slot.Close())
		}
		card, err := cards.Insert("rsa")
		if err != nil {
			return err
		}
		if slot, err = net.Dial("tcp", at); err != nil {
			return err
		}
		serving.Go(func() { _ = vpcd.Serve(ctx, slot, card) }) // ended by closing
		return nil
	}
	defer func() {
		if slot != nil {
			slot.Close()
		}
	}()
	path := ""
	if file := os.Getenv(recordEnv); file != "" {
		p, err := newProxy(filepath.Join(folder, "proxy"))
		if err != nil {
			return err
		}
		defer func() { _ = os.WriteFile(file, p.text(), 0o644) }()
		path = p.l.Addr().String()
	}
	said, err := start(ctx, path, "Virtual PCD 00 00", hands)
	for _, line := range said {
		fmt.Println(line)
	}
	return err
}

// proxy stands between libpcsclite and pcscd and writes down what they say.
type proxy struct {
	l     net.Listener
	mu    sync.Mutex
	conns int
	lines []string
}

func newProxy(path string) (*proxy, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	p := &proxy{l: l}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			daemon, err := net.Dial("unix", "/run/pcscd/pcscd.comm")
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns++
			n := p.conns
			p.mu.Unlock()
			go p.copy(daemon, client, n, '>')
			go p.copy(client, daemon, n, '<')
		}
	}()
	return p, nil
}

func (p *proxy) copy(to, from net.Conn, n int, direction rune) {
	defer to.Close()
	buf := make([]byte, 1<<17)
	for {
		k, err := from.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.lines = append(p.lines, fmt.Sprintf("%d %c %s", n, direction, hex.EncodeToString(buf[:k])))
		p.mu.Unlock()
		if _, err := to.Write(buf[:k]); err != nil {
			return
		}
	}
}

// text is the recording, with what one side said in one go on one line.
func (p *proxy) text() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, line := range p.lines {
		head, said, _ := strings.Cut(line[2:], " ")
		head = line[:2] + head
		for i := len(out) - 1; ; i-- {
			if i < 0 || strings.HasPrefix(out[i], line[:2]) && !strings.HasPrefix(out[i], head+" ") {
				out = append(out, head+" "+said)
				break
			}
			if strings.HasPrefix(out[i], head+" ") {
				out[i] += said
				break
			}
		}
	}
	for i, line := range out {
		b, err := hex.DecodeString(line[4:])
		if err != nil {
			panic(err)
		}
		out[i] = line[:4] + shorten(b)
	}
	return []byte("# What libpcsclite 1.9.9 (>) and pcscd 1.9.9 with vpcd 3.3 (<) said to each other on each\n" +
		"# connection, little-endian, (N) for N zero bytes; recorded by server/session/media, go test -tags pcsc -run Conformance -record FILE.\n" +
		strings.Join(out, "\n") + "\n")
}

// shorten writes bytes in hexadecimal, and long runs of zeros as their number.
func shorten(b []byte) string {
	var out strings.Builder
	for len(b) > 0 {
		n := len(b) - len(bytes.TrimLeft(b, "\x00"))
		if n >= 16 {
			fmt.Fprintf(&out, "(%d)", n)
			b = b[n:]
			continue
		}
		n = max(n, 1)
		out.WriteString(hex.EncodeToString(b[:n]))
		b = b[n:]
	}
	return out.String()
}

// writeCards puts a PIV card into a folder.
func writeCards(t *testing.T, folder string) {
	t.Helper()
	i, err := issuer.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	files, err := i.Card(issuer.Spec{Name: "rsa", PIN: "123456", RSA: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestConformance: a program gets the same return values and states from media
// as from pcscd with a virtual reader.
func TestConformance(t *testing.T) {
	folder := t.TempDir()
	writeCards(t, folder)
	real := make(chan []string, 1)
	go func() {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
		cmd.Env = append(os.Environ(), realEnv+"="+folder)
		if *record != "" {
			file, err := filepath.Abs(*record)
			if err != nil {
				t.Error(err)
			}
			cmd.Env = append(cmd.Env, recordEnv+"="+file)
		}
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("against pcscd: %v\n%s", err, out)
		}
		real <- strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	}()

	d := newCardDesk(t, os.DirFS(folder))
	ctx, cancel := context.WithTimeout(t.Context(), cardPatience)
	defer cancel()
	ours, err := start(ctx, d.path, readerName, func(what string) error {
		if what == "remove" {
			return d.remove()
		}
		return d.insert("rsa")
	})
	if err != nil {
		t.Errorf("against media: %v", err)
	}
	theirs := <-real
	same := 0
	// vpcd's driver knows few attributes and no control codes; these are as
	// pcscd's own driver for USB readers has them.
	drivers := map[string]string{
		"a: attribute 90303: 8010001f ": "a: attribute 90303: ok " + hex.EncodeToString(issuer.ATR()),
		"a: attribute 90300: 8010001f ": "a: attribute 90300: ok 02",
		"a: attribute 90301: 8010001f ": "a: attribute 90301: ok 01",
		"a: set attribute: 80100016":    "a: set attribute: 8010001f",
		"a: features: 8010001f ":        "a: features: ok ",
	}
	for i := range max(len(ours), len(theirs)) {
		var a, b string
		if i < len(theirs) {
			a = theirs[i]
		}
		if other, ok := drivers[a]; ok {
			a = other
		}
		if i < len(ours) {
			b = ours[i]
		}
		if a != b {
			t.Errorf("line %d:\npcscd: %s\nmedia: %s", i, a, b)
		} else {
			same++
		}
	}
	t.Logf("%d lines are the same", same)
}
