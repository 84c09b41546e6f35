package app

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/protocol/program"
	"hotdesk/protocol/rpc"
)

// TestMain is the gateway where the parent of a test starts it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == gatewayRole {
		os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func TestFlags(t *testing.T) {
	var got Config
	parse := func(args ...string) error {
		t.Helper()
		got = Config{}
		var stderr bytes.Buffer
		code := program.Main(command(args, io.Discard, &stderr, func(_ context.Context, c Config) error {
			got = c
			return c.check()
		}), args, io.Discard, &stderr)
		if code != program.ExitOK {
			return errors.New(stderr.String())
		}
		return got.check()
	}
	if err := parse(); err != nil {
		t.Fatal(err)
	}
	if got.ControlPort != 7443 || got.FirstPort != 40000 || got.LastPort != 42000 || got.Runtime != "/run/hotdesk" || got.Most != image.Pt(2560, 1600) || got.Bare != "card" {
		t.Errorf("defaults: %+v", got)
	}
	if err := parse("-local"); err != nil {
		t.Fatal(err)
	}
	if got.ControlPort != 0 || got.FirstPort != 0 || !strings.HasPrefix(filepath.Base(got.FrameBuffer), "hotdesk-") || filepath.Base(got.SessionFile) != "session" {
		t.Errorf("local: %+v", got)
	}
	if err := parse("-local", "-control-port", "5", "-media-ports", "6-7", "-max-size", "640x480", "-bare", "session", "-addr", "127.0.0.9"); err != nil {
		t.Fatal(err)
	}
	if got.ControlPort != 5 || got.FirstPort != 6 || got.LastPort != 7 || got.Most != image.Pt(640, 480) || got.Bare != "session" || got.Addr.String() != "127.0.0.9" {
		t.Errorf("all: %+v", got)
	}
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if err := parse("-runtime", "run", "-fb", "fb", "-session-program", "bin/session", "-session-script", "./desk", "-session-services", "svc", "-kiosk-skeleton", "skel"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{got.Runtime, got.FrameBuffer, got.SessionFile, got.SessionScript, got.SessionServices, got.KioskSkeleton} {
		if !strings.HasPrefix(path, here+"/") {
			t.Errorf("a keeper, which is in /, would look for %s there", path)
		}
	}
	for _, args := range [][]string{
		{"-media-ports", "7-6"}, {"-media-ports", "0-6"}, {"-media-ports", "6"}, {"-max-size", "63x64"}, {"-max-size", "9"}, {"-bare", "x"},
		{"-addr", "here"}, {"-local", "-addr", "192.0.2.1"}, {"-control-port", "70000"}, {"stray"}, {"-log-level", "loud"},
	} {
		if err := parse(args...); err == nil {
			t.Errorf("%v is taken", args)
		}
	}
	if page := Command().Reference(); !strings.Contains(page, "-stop-sessions") {
		t.Error("the reference page lacks flags")
	}
}

// groupManager answers on RUNTIME/groupmgr.sock: every token is "refused", so
// that nothing needs a session.
func groupManager(t *testing.T, runtime string) (hellos <-chan int) {
	t.Helper()
	ports := make(chan int, 100)
	ln, err := net.Listen("unix", filepath.Join(runtime, "groupmgr.sock"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			conn := rpc.New(nc, func(_ context.Context, op string, body json.RawMessage) (any, error) {
				switch op {
				case local.OpTable:
					return local.Table{Hosts: []local.TableHost{{Host: "desk-a", Addr: "7f000001"}}}, nil
				case local.OpHello:
					var h local.Hello
					err := rpc.Decode(body, &h)
					ports <- h.ControlPort
					return local.Welcome{Host: "desk-a", Addr: netip.MustParseAddr("127.0.0.1")}, err
				case local.OpLookup:
					return local.Answer{Where: local.Refused, Reason: "not today"}, nil
				}
				return nil, nil
			})
			wg.Go(func() { conn.Serve(t.Context()) })
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ports
}

// A terminal is a control connection over TLS.
type terminal struct {
	t  *testing.T
	nc net.Conn
	r  *bufio.Reader
}

func dial(t *testing.T, addr, authority string) *terminal {
	t.Helper()
	text, err := os.ReadFile(authority)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	nc, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, ServerName: alp.ServerName, NextProtos: []string{alp.ALPN}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &terminal{t, nc, bufio.NewReader(nc)}
}

// present inserts a token and returns the answer.
func (u *terminal) present(kind, id string) alp.ConnInf {
	u.t.Helper()
	q := alp.InfoReq{Identity: alp.Identity{Firmware: "test", Hardware: "test", Terminal: "080020c0ffee", Port: 1}, Type: kind, ID: id, Width: 640, Height: 480, TokenSeq: 3}
	if _, err := u.nc.Write(q.Message().Append(nil)); err != nil {
		u.t.Fatal(err)
	}
	line, err := u.r.ReadBytes('\n')
	if err != nil {
		u.t.Fatal(err)
	}
	m, err := alp.Parse(line)
	if err != nil {
		u.t.Fatal(err)
	}
	c, err := alp.ParseConnInf(m)
	if err != nil {
		u.t.Fatal(err)
	}
	return c
}

// TestRun is the program with its two processes: ready, a terminal over TLS, a
// gateway that is killed and comes back on the same port, the end.
func TestRun(t *testing.T) {
	dir, err := os.MkdirTemp("", "hd")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	hellos := groupManager(t, dir)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, stdout := io.Pipe()
	args := []string{"-local", "-runtime", dir, "-state", filepath.Join(dir, "st"), "-fb", filepath.Join(dir, "fb"), "-session-program", self}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		cmd := command(args, stdout, t.Output(), Run)
		if err := cmd.Flags.Parse(args); err != nil {
			ended <- err
			return
		}
		ended <- cmd.Run(ctx, nil)
		stdout.Close()
	}()
	lines := bufio.NewScanner(out)
	ready := func() (addr, authority string) {
		t.Helper()
		for lines.Scan() {
			var runtime string
			if n, _ := fmt.Sscanf(lines.Text(), "server: ready control=%s runtime=%s authority=%s", &addr, &runtime, &authority); n == 3 {
				if !lines.Scan() || lines.Text() != "next: dtu -local -authority "+authority+" -display workbench" {
					t.Errorf("next: %q", lines.Text())
				}
				return addr, authority
			}
		}
		t.Fatalf("it never got ready: %v", <-ended)
		return "", ""
	}
	addr, authority := ready()
	port, err := netip.ParseAddrPort(addr)
	if err != nil || port.Addr().String() != "127.0.0.1" {
		t.Fatalf("control=%s: %v", addr, err)
	}
	if p := <-hellos; p != int(port.Port()) {
		t.Errorf("the group manager was told of port %d", p)
	}
	u := dial(t, addr, authority)
	first := u.present("pseudo", "080020c0ffee")
	if !first.Allowed || first.Session != "" || first.Module != "InsertCard" || first.TokenSeq != 3 {
		t.Errorf("bare: %+v", first)
	}
	if c := u.present("card", "1"); !c.Allowed || c.Session != "" || c.Gen <= first.Gen {
		t.Errorf("refused: %+v", c)
	}

	children, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(children) == 0 {
		t.Fatal("no list of children in /proc")
	}
	killed := 0
	for _, f := range children {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // that thread has ended
		}
		for s := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(s)
			if err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil {
				killed++
			}
		}
	}
	if killed != 1 {
		t.Fatalf("%d children", killed)
	}
	if again, _ := ready(); again != addr {
		t.Errorf("it came back at %s, was at %s", again, addr)
	}
	<-hellos
	if c := dial(t, addr, authority).present("pseudo", "080020c0ffee"); !c.Allowed || c.MediaPort != first.MediaPort || c.Gen <= first.Gen {
		t.Errorf("after the restart: %+v, before: %+v", c, first)
	}
	go io.Copy(io.Discard, out)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
