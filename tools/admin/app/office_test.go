package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/protocol/rpc"
	"hotdesk/server/admin"
	"hotdesk/server/audit"
	"hotdesk/server/control"
	"hotdesk/server/registry"
	"hotdesk/server/registry/registrytest"
)

// desk is a host with two sessions.
type desk struct {
	mu   sync.Mutex
	rows []adminapi.Session
}

func (d *desk) Sessions(context.Context) ([]adminapi.Session, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]adminapi.Session(nil), d.rows...), nil
}

func (d *desk) Terminals(context.Context) ([]adminapi.TerminalState, error) {
	return []adminapi.TerminalState{{ID: "080020c0ffee", Connected: true, Addr: "192.0.2.9", Token: "card.1", Session: "00112233445566aa"}}, nil
}

func (d *desk) End(_ context.Context, id alp.SessionID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, s := range d.rows {
		if s.ID == id {
			d.rows = append(d.rows[:i], d.rows[i+1:]...)
			return nil
		}
	}
	return control.ErrNoSession
}

func (d *desk) Detach(_ context.Context, id alp.SessionID, _ string) (bool, error) {
	if id != "00112233445566aa" {
		return false, control.ErrKeeper
	}
	return true, nil
}

func (d *desk) Lock(context.Context, alp.SessionID) (bool, error) { return true, nil }

func (d *desk) TakeLogin(context.Context, adminapi.PeerLogin) error { return nil }

func (d *desk) ForgetKey(_ context.Context, id alp.TerminalID, _ string) (bool, error) {
	return id == "080020c0ffee", nil
}

func (d *desk) Explain(_ context.Context, t alp.Token, id alp.TerminalID, user string) adminapi.Explanation {
	return adminapi.Explanation{Token: t, Terminal: id, User: user, Outcome: "session", Decided: "Card", Grounds: []adminapi.Ground{{Matter: "cards", Value: "any"}}}
}

func (d *desk) Message(_ context.Context, id alp.SessionID, _ string) (bool, error) {
	return id == "00112233445566aa", nil
}

// group answers as a group manager of two hosts, one of them strange.
func group(context.Context) (net.Conn, error) {
	a, b := net.Pipe()
	state := local.State{State: local.Online}
	conn := rpc.New(b, func(_ context.Context, op string, body json.RawMessage) (any, error) {
		switch op {
		case local.OpTable:
			return local.Table{Hosts: []local.TableHost{
				{Host: "north", Addr: "c0000201", Trusted: true, State: "online", Control: 7443, Sessions: 2, Limit: 30, CPUs: 4, Load: 25, Free: 900},
				{Host: "south", Addr: "c0000202", Trusted: true, State: "online", Control: 7443, TimeOff: 9},
				{Host: "evil", Addr: "c0000203", Why: "bad signature"},
			}}, nil
		case local.OpStatus:
			return local.Status{Host: "north", State: state, Trusted: 1}, nil
		case local.OpState:
			var q local.StateRequest
			if err := rpc.Decode(body, &q); err != nil {
				return nil, err
			}
			return local.State{State: q.State, Sessions: 2}, nil
		}
		return nil, errors.New("unknown")
	})
	go conn.Serve(context.Background())
	return a, nil
}

// office is a gateway's admin API in DIR/run, with its audit and its copy of the
// registry in DIR/state/gateway; SIGUSR1 takes its store away, SIGUSR2 brings it
// back. It writes DIR/ready.
func office(args []string) int {
	dir := args[0]
	gateway := filepath.Join(dir, "state", "gateway")
	fail := func(err error) int { fmt.Fprintln(os.Stderr, err); return 1 }
	if err := os.MkdirAll(filepath.Join(dir, "run"), 0o700); err != nil {
		return fail(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	store := registrytest.New()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for s := range signals {
			store.Lose(s == syscall.SIGUSR1)
		}
	}()
	log, err := audit.Open(filepath.Join(gateway, "audit"), "north", time.Now)
	if err != nil {
		return fail(err)
	}
	defer log.Close()
	reg, err := registry.Open(registry.Config{Dir: filepath.Join(gateway, "registry-copy"), Host: "north", Mode: "test", Connect: store.Connect})
	if err != nil {
		return fail(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { reg.Serve(ctx) })
	for news := reg.News(); !reg.Status().Connected; news = reg.News() {
		<-news
	}
	d := &desk{rows: []adminapi.Session{
		{ID: "00112233445566aa", Token: "card.1", User: "ann", State: "connected", Terminal: "080020c0ffee", Last: time.Unix(1800000000, 0)},
		{ID: "00112244445566bb", Token: "card.2", User: "bob", State: "disconnected", Last: time.Unix(1800000000, 0)},
	}}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "run", adminapi.Socket), Net: "unix"})
	if err != nil {
		return fail(err)
	}
	srv := admin.New(admin.Config{
		Host: "north", Allow: admin.Allow{UID: os.Geteuid()}, Desk: d, Registry: reg, Audit: log, Group: group,
		Version: "test", Cert: func() (string, time.Time) { return "", time.Now().Add(1000 * time.Hour) }, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err := os.WriteFile(filepath.Join(dir, "ready"), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return fail(err)
	}
	if err := srv.Serve(ctx, ln); err != nil {
		return fail(err)
	}
	return 0
}

// await waits for a file, and a text in it.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: await FILE [TEXT]")
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		if b, err := os.ReadFile(ts.MkAbs(args[0])); err == nil && len(b) > 0 && strings.Contains(string(b), strings.Join(args[1:], " ")) {
			return
		}
	}
	ts.Fatalf("%s: not there, or without %q", args[0], args[1:])
}

// exits runs a program and looks at its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		code = e.ExitCode()
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}
