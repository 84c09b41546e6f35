// Package grouplink is the gateway's end of the conversation with the group
// manager of its host: it connects for ever, says Hello, reports the table of
// sessions at every change, and asks.
//
// Source: design section 4; protocol/group/local for the requests.
//
// Invariants:
//  1. After each connect the newest report is sent before anything is asked,
//     and a question never overtakes a report that was given before it.
//  2. A question waits for a group manager that is away, until its context
//     ends, and is asked again of the next one when the connection is lost.
//
// A Link is safe for concurrent use; Serve is its life.
package grouplink

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"hotdesk/protocol/group/local"
	"hotdesk/protocol/rpc"
)

const (
	retryFirst = 50 * time.Millisecond // pause after a first failure to connect
	retryMost  = time.Second           // it doubles up to this
	greetLimit = 5 * time.Second       // for Hello and the first report
)

// Config says whom to connect to, as whom.
type Config struct {
	Dial  func(context.Context) (net.Conn, error)
	Hello local.Hello
	Heed  func(local.State) // told what an admin wants of this host, at every change; may be nil
	Log   *slog.Logger      // nil: silent
}

// Unix returns a Dial for a unix socket.
func Unix(path string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
}

// A Link is the conversation.
type Link struct {
	conf Config

	mu      sync.Mutex
	conn    *rpc.Conn     // nil while away
	changed chan struct{} // closed when conn changes
	welcome local.Welcome
	ever    bool // it was connected once
	state   local.State
	report  local.Report
	version uint64 // of report

	sending sync.Mutex // held while a report is sent
	sent    uint64     // version that conn has
	wake    chan struct{}
}

// New makes a Link that is away.
func New(conf Config) *Link {
	if conf.Log == nil {
		conf.Log = slog.New(slog.DiscardHandler)
	}
	return &Link{conf: conf, changed: make(chan struct{}), wake: make(chan struct{}, 1)}
}

// Serve keeps the conversation up until ctx ends.
func (l *Link) Serve(ctx context.Context) {
	pause, told := retryFirst, false
	for ctx.Err() == nil {
		start := time.Now()
		up, err := l.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if up {
			pause, told = retryFirst, false
		}
		if !told {
			l.conf.Log.Warn("group manager is away", "err", err)
			told = true
		}
		if wait := pause - time.Since(start); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
		pause = min(2*pause, retryMost)
	}
}

// once is one connection; up tells whether it came to be used.
func (l *Link) once(ctx context.Context) (up bool, err error) {
	nc, err := l.conf.Dial(ctx)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn := rpc.New(nc, l.hear)
	var wg sync.WaitGroup
	var served error
	wg.Go(func() { served = conn.Serve(ctx); cancel() })
	defer wg.Wait()
	defer conn.Close()

	greet, stop := context.WithTimeout(ctx, greetLimit)
	defer stop()
	var w local.Welcome
	if err := conn.Call(greet, local.OpHello, l.conf.Hello, &w); err != nil {
		return false, err
	}
	l.sending.Lock()
	l.sent = 0
	l.sending.Unlock()
	if err := l.flush(greet, conn); err != nil {
		return false, err
	}
	l.set(conn, w)
	l.heed(w.State)
	l.conf.Log.Info("group manager connected", "host", w.Host, "addr", w.Addr)
	defer l.set(nil, w)
	for {
		select {
		case <-l.wake:
			_ = l.flush(ctx, conn) // a lost connection ends ctx
		case <-ctx.Done():
			conn.Close()
			wg.Wait()
			return true, errors.Join(served, errors.New("grouplink: connection lost"))
		}
	}
}

// hear takes what the group manager says by itself.
func (l *Link) hear(_ context.Context, op string, body json.RawMessage) (any, error) {
	if op != local.OpState {
		return nil, fmt.Errorf("grouplink: unknown request %q", op)
	}
	var s local.State
	if err := rpc.Decode(body, &s); err != nil {
		return nil, err
	}
	l.heed(s)
	return nil, nil
}

// heed notes what an admin wants of this host.
func (l *Link) heed(s local.State) {
	l.mu.Lock()
	news := s.State != l.state.State || s.Deadline != l.state.Deadline
	l.state = s
	l.mu.Unlock()
	if news && s.State != "" {
		l.conf.Log.Info("state of this host", "state", s.State, "deadline", s.Deadline)
		if l.conf.Heed != nil {
			l.conf.Heed(s)
		}
	}
}

// State is what an admin wants of this host, as the group manager said last;
// the zero value before it said anything.
func (l *Link) State() local.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

func (l *Link) set(conn *rpc.Conn, w local.Welcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn, l.welcome = conn, w
	l.ever = l.ever || conn != nil
	close(l.changed)
	l.changed = make(chan struct{})
}

// flush sends the newest report unless conn has it.
func (l *Link) flush(ctx context.Context, conn *rpc.Conn) error {
	l.sending.Lock()
	defer l.sending.Unlock()
	l.mu.Lock()
	report, version := l.report, l.version
	l.mu.Unlock()
	if version == l.sent {
		return nil
	}
	err := conn.Call(ctx, local.OpReport, report, nil)
	if _, refused := errors.AsType[rpc.RemoteError](err); refused {
		// Sending it again would change nothing; questions go on.
		l.conf.Log.Error("group manager refused the report", "err", err)
	} else if err != nil {
		return err
	}
	l.sent = version
	return nil
}

// Report hands over the whole table; it is sent soon. It does not block.
func (l *Link) Report(r local.Report) {
	l.mu.Lock()
	l.report = r
	l.version++
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Away tells why there is no group manager, in a sentence for the user, or ""
// when there is one.
func (l *Link) Away() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.conn != nil:
		return ""
	case l.ever:
		return "The group manager of this server is away. Wait a moment, then try again."
	}
	return "The group manager of this server is not running. Start groupmgr, then try again."
}

// Welcome waits for the group manager and returns what it said of this host.
func (l *Link) Welcome(ctx context.Context) (local.Welcome, error) {
	if _, err := l.wait(ctx, nil); err != nil {
		return local.Welcome{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.welcome, nil
}

// Lookup asks where a token belongs.
func (l *Link) Lookup(ctx context.Context, q local.Lookup) (local.Answer, error) {
	var a local.Answer
	err := l.ask(ctx, local.OpLookup, q, &a)
	return a, err
}

// Verify asks whether a redirect's proof holds.
func (l *Link) Verify(ctx context.Context, q local.Verify) (local.Verified, error) {
	var v local.Verified
	err := l.ask(ctx, local.OpVerify, q, &v)
	return v, err
}

func (l *Link) ask(ctx context.Context, op string, in, out any) error {
	var conn *rpc.Conn
	for {
		var err error
		if conn, err = l.wait(ctx, conn); err != nil {
			return err
		}
		if err = l.flush(ctx, conn); err == nil {
			err = conn.Call(ctx, op, in, out)
		}
		if _, refused := errors.AsType[rpc.RemoteError](err); err == nil || refused || ctx.Err() != nil {
			if err != nil {
				return fmt.Errorf("grouplink: %s: %w", op, err)
			}
			return nil
		}
	}
}

// wait returns the connection as soon as there is one other than last.
func (l *Link) wait(ctx context.Context, last *rpc.Conn) (*rpc.Conn, error) {
	for {
		l.mu.Lock()
		conn, changed := l.conn, l.changed
		l.mu.Unlock()
		if conn != nil && conn != last {
			return conn, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("grouplink: %s: %w", l.Away(), ctx.Err())
		}
	}
}

// Self asks a group manager for the name and the primary address of its host,
// without becoming its gateway. It tries until ctx ends.
func Self(ctx context.Context, dial func(context.Context) (net.Conn, error)) (host string, addr netip.Addr, err error) {
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		if host, addr, err = self(ctx, dial); err == nil {
			return host, addr, nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return "", netip.Addr{}, fmt.Errorf("grouplink: no answer from the group manager: %w", err)
		}
	}
}

func self(ctx context.Context, dial func(context.Context) (net.Conn, error)) (string, netip.Addr, error) {
	nc, err := dial(ctx)
	if err != nil {
		return "", netip.Addr{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, greetLimit)
	defer cancel()
	conn := rpc.New(nc, nil)
	var wg sync.WaitGroup
	wg.Go(func() { conn.Serve(ctx) })
	defer wg.Wait()
	defer conn.Close()
	var t local.Table
	if err := conn.Call(ctx, local.OpTable, local.TableRequest{}, &t); err != nil {
		return "", netip.Addr{}, err
	}
	if len(t.Hosts) == 0 { // the first is its own
		return "", netip.Addr{}, errors.New("its table is empty")
	}
	b, err := hex.DecodeString(t.Hosts[0].Addr)
	if err != nil || len(b) != 4 {
		return "", netip.Addr{}, fmt.Errorf("its address is %q", t.Hosts[0].Addr)
	}
	return t.Hosts[0].Host, netip.AddrFrom4([4]byte(b)), nil
}
