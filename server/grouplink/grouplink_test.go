package grouplink

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/protocol/rpc"
)

// A manager is a group manager that remembers what it was told.
type manager struct {
	mu     sync.Mutex
	down   bool
	refuse bool // reports
	silent bool // lookups end with the connection
	conns  []*rpc.Conn
	ops    []string
	last   local.Report
	wg     sync.WaitGroup
}

func (m *manager) dial(context.Context) (net.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	c := rpc.New(ours, m.handle)
	m.conns = append(m.conns, c)
	m.wg.Go(func() { c.Serve(context.Background()) })
	return theirs, nil
}

func (m *manager) handle(_ context.Context, op string, body json.RawMessage) (any, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ops = append(m.ops, op)
	switch op {
	case local.OpHello:
		var h local.Hello
		if err := rpc.Decode(body, &h); err != nil {
			return nil, err
		}
		if h.ControlPort != 7443 {
			return nil, errors.New("another port")
		}
		return local.Welcome{Host: "h1", Addr: netip.MustParseAddr("127.0.0.5"), State: local.State{State: local.Offline}}, nil
	case local.OpReport:
		if m.refuse {
			return nil, errors.New("not so many")
		}
		return nil, rpc.Decode(body, &m.last)
	case local.OpLookup:
		if m.silent {
			m.silent = false
			go m.cut()
			return nil, nil
		}
		return local.Answer{Where: local.New, Host: string(rune('0' + len(m.last.Sessions)))}, nil
	case local.OpVerify:
		return nil, errors.New("no")
	case local.OpTable:
		return local.Table{Hosts: []local.TableHost{{Host: "h1", Addr: "7f000005"}}}, nil
	}
	return nil, errors.New("what?")
}

func (m *manager) cut() {
	m.mu.Lock()
	conns := m.conns
	m.conns = nil
	m.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

func (m *manager) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *manager) told() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := strings.Join(m.ops, " ")
	m.ops = nil
	return s
}

func run(t *testing.T, m *manager, f func(*testing.T, *Link)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Dial: m.dial, Hello: local.Hello{ControlPort: 7443}})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { l.Serve(ctx); close(done) }()
		defer func() {
			cancel()
			<-done
			m.cut()
			m.wg.Wait()
		}()
		f(t, l)
	})
}

func report(n int) local.Report {
	r := local.Report{}
	for range n {
		r.Sessions = append(r.Sessions, local.Session{ID: "0123456789abcdef", Token: "card.1"})
	}
	return r
}

var question = local.Lookup{Token: "card.1", Terminal: alp.TerminalID("080020c0ffee"), Addr: netip.MustParseAddr("127.0.0.1")}

func TestConversation(t *testing.T) {
	m := &manager{}
	run(t, m, func(t *testing.T, l *Link) {
		synctest.Wait()
		if l.Away() != "" {
			t.Error(l.Away())
		}
		if w, err := l.Welcome(t.Context()); err != nil || w.Host != "h1" {
			t.Errorf("%+v, %v", w, err)
		}
		// A question never overtakes a report.
		for n := 1; n < 6; n++ {
			l.Report(report(n))
			a, err := l.Lookup(t.Context(), question)
			if err != nil || a.Host != string(rune('0'+n)) {
				t.Errorf("asked after report %d: %+v, %v", n, a, err)
			}
		}
		if s := m.told(); s != "hello"+strings.Repeat(" report lookup", 5) {
			t.Error(s)
		}
		if _, err := l.Verify(t.Context(), local.Verify{}); err == nil {
			t.Error("a refusal was no error")
		}
		m.told()

		m.cut()
		synctest.Wait()
		time.Sleep(retryMost)
		synctest.Wait()
		if s := m.told(); s != "hello report" {
			t.Errorf("after it was lost: %s", s)
		}
		m.set(func() { m.refuse = true })
		l.Report(report(9))
		if _, err := l.Lookup(t.Context(), question); err != nil {
			t.Errorf("a refused report stopped the questions: %v", err)
		}
	})
}

// What an admin wants of this host is heard at the start and when it changes.
func TestState(t *testing.T) {
	m := &manager{}
	run(t, m, func(t *testing.T, l *Link) {
		if got := l.State(); got != (local.State{}) {
			t.Errorf("before the start: %+v", got)
		}
		synctest.Wait()
		if got := l.State(); got.State != local.Offline {
			t.Errorf("at the start: %+v", got)
		}
		m.mu.Lock()
		conn := m.conns[0]
		m.mu.Unlock()
		want := local.State{State: local.Down, Sessions: 2}
		if err := conn.Notify(local.OpState, want); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := l.State(); got != want {
			t.Errorf("got %+v", got)
		}
		if err := conn.Call(t.Context(), "reboot", nil, nil); err == nil || !strings.Contains(err.Error(), "unknown request") {
			t.Errorf("got %v", err)
		}
		if err := conn.Call(t.Context(), local.OpState, []int{1}, nil); err == nil {
			t.Error("took a body of another form")
		}
	})
}

func TestAway(t *testing.T) {
	m := &manager{down: true}
	run(t, m, func(t *testing.T, l *Link) {
		synctest.Wait()
		if !strings.Contains(l.Away(), "Start groupmgr") {
			t.Errorf("never there: %q", l.Away())
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err := l.Lookup(ctx, question); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nobody answered: %v", err)
		}
		m.set(func() { m.down = false })
		if _, err := l.Lookup(t.Context(), question); err != nil {
			t.Errorf("it is back: %v", err)
		}
		// One that dies over a question is asked again when it is back.
		m.set(func() { m.silent = true })
		if a, err := l.Lookup(t.Context(), question); err != nil || a.Where != local.New && a.Where != "" {
			t.Errorf("%+v, %v", a, err)
		}
		m.set(func() { m.down = true })
		m.cut()
		synctest.Wait()
		if !strings.Contains(l.Away(), "is away") {
			t.Errorf("lost: %q", l.Away())
		}
	})
}

func TestSelf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &manager{down: true}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, _, err := Self(ctx, m.dial); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("nobody there: %v", err)
		}
		m.set(func() { m.down = false })
		host, addr, err := Self(t.Context(), m.dial)
		if err != nil || host != "h1" || addr != netip.MustParseAddr("127.0.0.5") {
			t.Errorf("%s, %v, %v", host, addr, err)
		}
		if s := m.told(); s != local.OpTable {
			t.Errorf("asked %s", s)
		}
		m.cut()
		m.wg.Wait()
	})
}
