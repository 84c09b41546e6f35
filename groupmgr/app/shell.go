package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"hotdesk/groupmgr/engine"
	"hotdesk/groupmgr/member"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
	"hotdesk/protocol/rpc"
)

// MaxConns bounds the local connections: one gateway, and people who look.
const MaxConns = 16

const (
	figuresPeriod = 5 * time.Second        // between two looks at load and memory
	keysPeriod    = time.Second            // between two looks at the key file
	linkSettle    = 100 * time.Millisecond // changes of interfaces come in bursts
)

// shell is the goroutine that owns the engine, and what feeds it.
type shell struct {
	log     *slog.Logger
	sock    *groupSocket
	engine  *engine.Engine
	calls   chan func(now time.Time) // run by the owner
	packets chan engine.Packet
	ctx     context.Context // of run
	knocks  sync.WaitGroup

	// The owner's.
	answers map[uint64]func(engine.Answered)
	asked   uint64
	gateway *rpc.Conn // the one that said hello last and has not ended
	noticed noticed
	kept    stateFile
	peers   addrsFile
	learned []netip.AddrPort // what peers has
	tell    chan told        // the newest state that the gateway does not know; the owner alone puts it in
}

// told is what a gateway is to be told.
type told struct {
	gateway *rpc.Conn
	state   local.State
}

// run serves until stop ends. The place is given up, and connections end, once
// the goodbye is sent: a group manager that takes the place speaks after it, and
// the gateway that stays is in it.
func (s *shell) run(stop context.Context, l *unixListener, watch func(context.Context)) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(stop))
	defer cancel()
	s.ctx = ctx
	defer s.knocks.Wait()
	var wg sync.WaitGroup
	wg.Go(func() {
		s.sock.receive(func(p engine.Packet) {
			select {
			case s.packets <- p:
			case <-ctx.Done():
			}
		})
	})
	wg.Go(func() { s.accept(ctx, l) })
	wg.Go(func() { watch(ctx) })
	wg.Go(func() {
		for {
			select {
			case t := <-s.tell:
				_ = t.gateway.Notify(local.OpState, t.state) // one that is lost asks at its next hello
			case <-ctx.Done():
				return
			}
		}
	})
	s.own(stop)
	now := time.Now()
	s.perform(now, s.engine.Goodbye(now))
	cancel()
	s.sock.Close()
	l.Close()
	wg.Wait()
	return nil
}

// own is the owner's loop.
func (s *shell) own(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-s.packets:
			now := time.Now()
			s.perform(now, s.engine.Step(now, p))
		case f := <-s.calls:
			f(time.Now())
		case <-timer.C:
			now := time.Now()
			s.perform(now, s.engine.Tick(now))
		}
		timer.Reset(time.Until(s.engine.Next()))
	}
}

func (s *shell) perform(now time.Time, out engine.Output) {
	for _, d := range out.Send {
		if err := s.sock.send(d); err != nil {
			s.notice(now, member.Notice{Kind: notSent, Host: d.To.String(), Why: err.Error()})
		}
	}
	for _, a := range out.Answers {
		if f := s.answers[a.ID]; f != nil {
			delete(s.answers, a.ID)
			f(a)
		}
	}
	for _, n := range out.Notices {
		s.notice(now, n)
	}
	for _, k := range out.Knock {
		s.knock(k)
	}
	if out.State {
		s.changed()
	}
}

// changed keeps the new state and tells the gateway.
func (s *shell) changed() {
	state := s.engine.State()
	s.log.Info("state changed", "state", state.State, "deadline", state.Deadline, "sessions", state.Sessions)
	if err := s.kept.write(state); err != nil {
		s.log.Error("state not kept over a restart", "error", err)
	}
	if s.gateway == nil {
		return
	}
	select {
	case <-s.tell: // an older one
	default:
	}
	s.tell <- told{s.gateway, state}
}

// learn keeps the learned peers when they changed.
func (s *shell) learn(now time.Time) {
	list := s.engine.Learned(now)
	if slices.Equal(list, s.learned) || len(list) == 0 { // with all of them down, those known last are the best to try
		return
	}
	s.learned = list
	if err := s.peers.write(list); err != nil {
		s.log.Warn("peers not kept over a restart", "error", err)
	}
}

func (s *shell) notice(now time.Time, n member.Notice) {
	ok, left := s.noticed.tell(now, n)
	if !ok {
		return
	}
	level := slog.LevelWarn
	if n.Kind == member.Trusted || n.Kind == member.Appeared {
		level = slog.LevelInfo
	}
	attributes := []any{"host", n.Host, "peer", n.From, "why", n.Why}
	if left > 0 {
		attributes = append(attributes, "unlogged", left)
	}
	s.log.Log(context.Background(), level, string(n.Kind), attributes...)
}

// do runs f in the owner's goroutine; it reports whether it ran.
func (s *shell) do(ctx context.Context, f func(now time.Time)) error {
	done := make(chan struct{})
	select {
	case s.calls <- func(now time.Time) { f(now); close(done) }:
		<-done
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// watch tells the engine what changes on this host.
func (s *shell) watch(ctx context.Context, k kernel, keys *keyFile) {
	figures, looks := time.NewTicker(figuresPeriod), time.NewTicker(keysPeriod)
	defer figures.Stop()
	defer looks.Stop()
	settled := time.NewTimer(linkSettle)
	settled.Stop()
	defer settled.Stop()
	links := make(chan struct{}, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	if !k.local.IsValid() {
		wg.Go(func() { watchLinks(ctx, links, s.log) })
	}
	about, _ := k.describe() // what is wrong shows at the next look
	for {
		look := false
		select {
		case <-ctx.Done():
			return
		case <-links:
			settled.Reset(linkSettle)
			continue
		case <-settled.C:
			look = true
		case <-figures.C:
		case <-looks.C:
			if !keys.changed() {
				continue
			}
			ring, err := keys.read()
			if err != nil {
				s.log.Warn("key file not read, the old keys stay", "error", err)
				continue
			}
			if s.do(ctx, func(time.Time) { s.engine.SetRing(ring) }) != nil {
				return
			}
			s.log.Info("key file read anew", "keys", len(ring), "signing", ring[0])
			continue
		}
		if look {
			now, err := k.describe()
			if err != nil {
				s.log.Warn("this host cannot be described", "error", err)
				continue
			}
			if !slices.Equal(now.Interfaces, about.Interfaces) {
				s.log.Info("network interfaces changed", "count", len(now.Interfaces), "addr", now.Addr)
				s.sock.join(now.Interfaces, s.log)
			}
			about = now
		}
		k.figures(&about)
		if s.do(ctx, func(now time.Time) {
			s.perform(now, s.engine.Step(now, about))
			s.learn(now)
		}) != nil {
			return
		}
	}
}

// accept serves local connections.
func (s *shell) accept(ctx context.Context, l *unixListener) {
	door := rpc.Door{Most: MaxConns, Notes: rpc.Notes{Log: s.log}}
	door.Serve = func(conn net.Conn) {
		if err := s.serve(ctx, conn); err != nil {
			door.Notes.Warn("local connection ended", "error", err)
		}
	}
	door.Open(ctx, l)
}

func (s *shell) serve(ctx context.Context, conn net.Conn) error {
	var c *rpc.Conn
	c = rpc.New(conn, func(ctx context.Context, op string, body json.RawMessage) (any, error) {
		return s.handle(ctx, c, op, body)
	})
	err := c.Serve(ctx)
	conn.Close()
	_ = s.do(ctx, func(now time.Time) {
		if s.gateway == c {
			s.gateway = nil
			s.perform(now, s.engine.Step(now, engine.Lost{}))
		}
	})
	return err
}

func (s *shell) handle(ctx context.Context, c *rpc.Conn, op string, body json.RawMessage) (any, error) {
	switch op {
	case local.OpHello:
		var h local.Hello
		if err := rpc.Decode(body, &h); err != nil {
			return nil, err
		}
		if h.ControlPort < 1 || h.ControlPort > 65535 {
			return nil, fmt.Errorf("groupmgr: control port %d", h.ControlPort)
		}
		var w local.Welcome
		err := s.do(ctx, func(now time.Time) {
			s.gateway = c // a newer gateway replaces one that is about to end
			s.perform(now, s.engine.Step(now, engine.Hello{Control: h.ControlPort}))
			w = s.engine.Welcome()
		})
		return w, err
	case local.OpReport:
		var r local.Report
		if err := rpc.Decode(body, &r); err != nil {
			return nil, err
		}
		if err := r.Check(); err != nil {
			return nil, err
		}
		var err error
		if derr := s.do(ctx, func(now time.Time) {
			if s.gateway != c {
				err = errors.New("groupmgr: report without hello, or another gateway has come")
				return
			}
			s.perform(now, s.engine.Step(now, engine.Report{Sessions: r.Sessions}))
		}); derr != nil {
			return nil, derr
		}
		return nil, err
	case local.OpLookup:
		var q local.Lookup
		if err := rpc.Decode(body, &q); err != nil {
			return nil, err
		}
		q.Addr = q.Addr.Unmap()
		if err := q.Check(); err != nil {
			return nil, err
		}
		return s.lookup(ctx, q)
	case local.OpVerify:
		var v local.Verify
		if err := rpc.Decode(body, &v); err != nil {
			return nil, err
		}
		var out local.Verified
		err := s.do(ctx, func(now time.Time) { out = s.engine.Verify(now, v) })
		return out, err
	case local.OpState:
		var q local.StateRequest
		if err := rpc.Decode(body, &q); err != nil {
			return nil, err
		}
		if err := q.Check(); err != nil {
			return nil, err
		}
		var out local.State
		err := s.do(ctx, func(now time.Time) {
			set := engine.SetState{State: group.State(q.State)}
			if q.Within > 0 {
				set.Deadline = now.Add(time.Duration(q.Within) * time.Second)
			}
			s.perform(now, s.engine.Step(now, set))
			out = s.engine.State()
		})
		return out, err
	case local.OpStatus:
		var out local.Status
		err := s.do(ctx, func(now time.Time) { out = s.engine.Status(now) })
		return out, err
	case local.OpTable:
		var q local.TableRequest
		if err := rpc.Decode(body, &q); err != nil {
			return nil, err
		}
		var out local.Table
		err := s.do(ctx, func(now time.Time) { out = s.engine.Table(now, q) })
		return out, err
	}
	return nil, fmt.Errorf("groupmgr: unknown request %q", op)
}

func (s *shell) lookup(ctx context.Context, q local.Lookup) (local.Answer, error) {
	answer := make(chan local.Answer, 1)
	if err := s.do(ctx, func(now time.Time) {
		s.asked++
		s.answers[s.asked] = func(a engine.Answered) { answer <- a.Answer }
		s.perform(now, s.engine.Step(now, engine.Ask{ID: s.asked, Lookup: q}))
	}); err != nil {
		return local.Answer{}, err
	}
	select {
	case a := <-answer:
		return a, nil
	case <-ctx.Done():
		return local.Answer{}, ctx.Err()
	}
}

// unixListener is a socket file that only its owner can open, from the first
// moment on: it gets its name after its mode.
type unixListener struct {
	*net.UnixListener
	path string
	lock *os.File
	once sync.Once
}

func listenUnix(path string) (*unixListener, error) {
	// The lock tells a running group manager from a socket file left behind.
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("groupmgr: -runtime: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("groupmgr: %s: another group manager is running there; stop it, or give this one another -runtime", path)
	}
	fail := func(err error) (*unixListener, error) {
		lock.Close()
		return nil, fmt.Errorf("groupmgr: %s: %w", path, err)
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fail(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return fail(err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(fresh, 0o600), os.Rename(fresh, path)); err != nil {
		l.Close()
		return fail(err)
	}
	return &unixListener{UnixListener: l, path: path, lock: lock}, nil
}

// Close takes the socket file away, then lets others have the place.
func (l *unixListener) Close() (err error) {
	l.once.Do(func() {
		err = errors.Join(l.UnixListener.Close(), os.Remove(l.path), l.lock.Close())
	})
	return err
}
