package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/rpc"
	"hotdesk/server/session/client"
	"hotdesk/server/session/keeperapi"
	"hotdesk/server/session/mediaapi"
)

// twin is a session in memory: its desktop and its media processes.
type twin struct {
	t    *testing.T
	core *core
	over chan struct{} // closed: the desktop has ended
	mu   sync.Mutex
	runs []*mediaTwin
	fail func(run int) error // of starting media, if not nil
	// offer answers instead of a ticket, if not nil
	offer   func(run int) error
	detach  func() error // is waited for, if not nil
	stopped chan string  // run's result
	end     func()
}

type mediaTwin struct {
	conn *rpc.Conn
	done chan struct{}
	die  func()
}

func (w *twin) Display() string       { return ":7" }
func (w *twin) Done() <-chan struct{} { return w.over }
func (w *twin) Reason() string        { return "the desktop ended" }

func (w *twin) startMedia() (media, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	run := len(w.runs)
	if w.fail != nil {
		if err := w.fail(run); err != nil {
			w.runs = append(w.runs, nil)
			return media{}, err
		}
	}
	ours, theirs := net.Pipe()
	m := &mediaTwin{done: make(chan struct{}), die: func() { theirs.Close() }}
	m.conn = rpc.New(theirs, func(_ context.Context, op string, body json.RawMessage) (any, error) {
		switch op {
		case mediaapi.OpSetup:
			return mediaapi.Ready{}, nil
		case mediaapi.OpOffer:
			if w.offer != nil {
				if err := w.offer(run); err != nil {
					return nil, err
				}
			}
			return client.Offer{Port: 40000, Ticket: []byte{byte(run)}}, nil
		case mediaapi.OpDetach:
			if w.detach != nil {
				return nil, w.detach()
			}
			return nil, nil
		}
		return nil, fmt.Errorf("unknown request %q", op)
	})
	go func() {
		defer close(m.done)
		_ = m.conn.Serve(context.Background())
	}()
	w.runs = append(w.runs, m)
	return media{control: ours, pid: 1000 + run, done: m.done, kill: m.die}, nil
}

func (w *twin) run(i int) *mediaTwin {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.runs[i]
}

func newTwin(t *testing.T) *twin {
	w := &twin{t: t, over: make(chan struct{}), stopped: make(chan string, 1)}
	w.core = newCore(coreConfig{
		start:   status{session: "00000000000000c1", token: "card.1", user: "ann", started: time.Now(), x: 77},
		desktop: w, startMedia: w.startMedia, log: slog.New(slog.DiscardHandler),
	})
	return w
}

func (w *twin) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	w.end = cancel
	w.t.Cleanup(cancel)
	go func() { w.stopped <- w.core.run(ctx) }()
	synctest.Wait()
}

// events collects what a keeper reports, as text.
type events chan string

func (e events) Attached(c client.Change)          { e <- fmt.Sprintf("attached %s %d", c.Terminal, c.Gen) }
func (e events) Detached(c client.Change)          { e <- fmt.Sprintf("detached %s %d", c.Terminal, c.Gen) }
func (e events) Quiet(c client.Change, quiet bool) { e <- fmt.Sprintf("quiet %d %v", c.Gen, quiet) }
func (e events) MediaRestarted(c client.Change) {
	e <- fmt.Sprintf("media %d", c.Gen)
}
func (e events) Ended(c client.Ended) { e <- "ended " + c.Reason }

// connect opens a control connection.
func (w *twin) connect() (*client.Keeper, events, context.CancelFunc) {
	here, there := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	e := make(events, 100)
	k := client.New(here, e)
	go w.core.serveConn(ctx, there)
	go func() { _ = k.Serve(context.Background()) }()
	w.t.Cleanup(func() { cancel(); k.Close() })
	synctest.Wait()
	return k, e, cancel
}

func (w *twin) want(e events, lines ...string) {
	w.t.Helper()
	synctest.Wait()
	for _, line := range lines {
		select {
		case got := <-e:
			if got != line {
				w.t.Errorf("event %q, want %q", got, line)
			}
		default:
			w.t.Errorf("no event, want %q", line)
		}
	}
	if len(e) != 0 {
		w.t.Errorf("one event too many: %q", <-e)
	}
}

var ask = client.Attach{Terminal: "0800200a0b0c", Addr: netip.MustParseAddr("127.0.0.1"), Width: 640, Height: 480}

func TestAttachments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwin(t)
		w.begin()
		k, e, _ := w.connect()
		o, err := k.Attach(t.Context(), ask)
		if err != nil || o.Gen != 1 {
			t.Fatalf("%+v, %v", o, err)
		}
		m := w.run(0)
		tell := func(op string, c client.Change) {
			if err := m.conn.Notify(op, c); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		tell(mediaapi.EventAttached, client.Change{Terminal: ask.Terminal, Gen: 1})
		w.want(e, "attached 0800200a0b0c 1")
		if s, err := k.Status(t.Context()); err != nil || s.Terminal != ask.Terminal || s.Gen != 1 || s.Media != 1000 || s.X != 77 || s.User != "ann" || s.Last == 0 {
			t.Errorf("%+v, %v", s, err)
		}
		// A ticket for another terminal: what is shown stays until it comes.
		if o, err = k.Attach(t.Context(), client.Attach{Terminal: "0800200a0b0d", Addr: ask.Addr}); err != nil || o.Gen != 2 {
			t.Fatalf("%+v, %v", o, err)
		}
		if s, _ := k.Status(t.Context()); s.Terminal != ask.Terminal || s.Gen != 1 {
			t.Errorf("%+v", s)
		}
		tell(mediaapi.EventAttached, client.Change{Terminal: "0800200a0b0d", Gen: 2})
		tell(mediaapi.EventDetached, client.Change{Terminal: ask.Terminal, Gen: 1}) // late
		w.want(e, "attached 0800200a0b0d 2", "detached 0800200a0b0c 1")
		if s, _ := k.Status(t.Context()); s.Terminal != "0800200a0b0d" || s.Gen != 2 {
			t.Errorf("%+v", s)
		}
		// What nobody gave out is no attachment.
		tell(mediaapi.EventAttached, client.Change{Terminal: ask.Terminal, Gen: 99})
		tell(mediaapi.EventAttached, client.Change{Terminal: "x", Gen: 1})
		tell("nonsense", client.Change{})
		// A media that somebody has taken over speaks for no terminal but those
		// that its session was offered to.
		if o, err = k.Attach(t.Context(), ask); err != nil || o.Gen != 3 {
			t.Fatalf("%+v, %v", o, err)
		}
		tell(mediaapi.EventAttached, client.Change{Terminal: "0800200a0bff", Gen: 3})
		tell(mediaapi.EventDetached, client.Change{Terminal: ask.Terminal, Gen: 3})   // it has not come
		tell(mediaapi.EventDetached, client.Change{Terminal: ask.Terminal, Gen: 1})   // twice
		tell(mediaapi.EventAttached, client.Change{Terminal: "0800200a0b0d", Gen: 2}) // twice
		tell(mediaapi.EventAttached, client.Change{Terminal: ask.Terminal, Gen: 2})
		if s, _ := k.Status(t.Context()); s.Terminal != "0800200a0b0d" || s.Gen != 2 {
			t.Errorf("%+v", s)
		}
		w.want(e)
		for _, bad := range []client.Attach{{}, {Terminal: "xyz", Addr: ask.Addr}, {Terminal: ask.Terminal}} {
			if _, err := k.Attach(t.Context(), bad); err == nil {
				t.Errorf("attached %+v", bad)
			}
		}
		if err := k.Detach(t.Context(), 2); err != nil {
			t.Error(err)
		}
		w.end()
		if reason := <-w.stopped; !strings.Contains(reason, "host is being stopped") {
			t.Errorf("reason: %s", reason)
		}
		w.want(e, "ended Your session was ended: the host is being stopped.")
	})
}

// A media that hangs is ended, and whoever asks for a ticket gets the next one's.
func TestMediaHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwin(t)
		w.offer = func(run int) error {
			if run == 0 {
				time.Sleep(offerTime + keeperapi.EndMedia) // then it is killed
			}
			return nil
		}
		w.begin()
		k, e, _ := w.connect()
		began := time.Now()
		o, err := k.Attach(t.Context(), ask)
		if err != nil || len(o.Ticket) != 1 || o.Ticket[0] != 1 {
			t.Errorf("%+v, %v", o, err)
		}
		if took := time.Since(began); took > client.MostWait {
			t.Errorf("it took %v", took)
		}
		w.want(e, "media 1")
		w.detach = func() error { time.Sleep(detachTime + keeperapi.EndMedia); return nil }
		if err := k.Detach(t.Context(), 2); err != nil {
			t.Error(err)
		}
		w.want(e, "media 2")
		if o, err := k.Attach(t.Context(), ask); err != nil || o.Ticket[0] != 2 {
			t.Errorf("%+v, %v", o, err)
		}
		w.end()
		<-w.stopped
	})
}

// A lock is for gateways to come, and ends with an attachment that was offered
// after it: those offered before are whose session was hidden, unless the
// gateway knows better.
func TestLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwin(t)
		w.begin()
		k, e, _ := w.connect()
		for range 2 {
			if _, err := k.Attach(t.Context(), ask); err != nil {
				t.Fatal(err)
			}
		}
		if err := k.Lock(t.Context()); err != nil {
			t.Fatal(err)
		}
		locked := func(want bool) {
			t.Helper()
			if s, err := k.Status(t.Context()); err != nil || s.Locked != want {
				t.Errorf("%+v, %v", s, err)
			}
		}
		come := func(gen uint64) {
			if err := w.run(0).conn.Notify(mediaapi.EventAttached, client.Change{Terminal: ask.Terminal, Gen: gen}); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		locked(true)
		come(2)
		locked(true)
		come(3) // which nobody was offered
		locked(true)
		if o, err := k.Attach(t.Context(), ask); err != nil || o.Gen != 3 {
			t.Fatalf("%+v, %v", o, err)
		}
		locked(true)
		come(3)
		locked(false)
		if err := k.Lock(t.Context()); err != nil {
			t.Fatal(err)
		}
		locked(true)
		if err := k.Unlock(t.Context()); err != nil {
			t.Fatal(err)
		}
		locked(false)

		// Of a connection that was lost a word may come after those of the next.
		here, there := net.Pipe()
		raw := rpc.New(here, nil)
		go func() { _ = raw.Serve(t.Context()) }()
		ctx, hangUp := context.WithCancel(t.Context())
		defer hangUp()
		go w.core.serveConn(ctx, there)
		say := func(op string, word any) {
			t.Helper()
			if err := raw.Call(t.Context(), op, word, nil); err != nil {
				t.Error(err)
			}
		}
		say(client.OpLock, client.Word{At: 1})
		locked(false)
		say(client.OpLock, nil) // a gateway of before
		locked(true)
		say(client.OpUnlock, client.Word{At: 1})
		locked(true)
		if err := k.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
		locked(false)

		// What was asked for before a lock and is offered after it ends none.
		c := w.core
		c.mu.Lock()
		before := c.locks
		c.mu.Unlock()
		if err := k.Lock(t.Context()); err != nil {
			t.Error(err)
		}
		if o, err := c.attach(t.Context(), ask, before); err != nil || o.Gen != 4 {
			t.Errorf("%+v, %v", o, err)
		}
		come(4)
		locked(true)
		w.want(e, "attached 0800200a0b0c 2", "attached 0800200a0b0c 3", "attached 0800200a0b0c 4")
		w.end()
		<-w.stopped
	})
}

// Invariant 1 and 2: media dies under an offer; its successor answers, with a
// higher number.
func TestMediaDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwin(t)
		w.offer = func(run int) error {
			if run == 0 {
				w.run(0).die()
			}
			return nil
		}
		w.begin()
		k, e, _ := w.connect()
		o, err := k.Attach(t.Context(), ask)
		if err != nil || o.Gen != 2 || o.Ticket[0] != 1 {
			t.Fatalf("%+v, %v", o, err)
		}
		w.want(e, "media 1")
		if err := w.run(1).conn.Notify(mediaapi.EventAttached, client.Change{Terminal: ask.Terminal, Gen: 2}); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		began := time.Now()
		w.run(1).die()
		synctest.Wait()
		w.want(e, "attached 0800200a0b0c 2", "media 2")
		s, err := k.Status(t.Context())
		if err != nil || s.Terminal != "" || s.Gen != 2 {
			t.Errorf("%+v, %v", s, err)
		}
		if err := k.Detach(t.Context(), 2); err != nil { // nothing runs, nothing is shown
			t.Error(err)
		}
		if o, err = k.Attach(t.Context(), ask); err != nil || o.Gen != 3 {
			t.Fatalf("%+v, %v", o, err)
		}
		if waited := time.Since(began); waited != backoffFirst {
			t.Errorf("started again after %v, want %v", waited, backoffFirst)
		}
		w.end()
		<-w.stopped
	})
}

func TestMediaDoesNotStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwin(t)
		w.fail = func(int) error { return errors.New("no memory") }
		w.begin()
		k, e, _ := w.connect()
		began := time.Now()
		_, err := k.Attach(t.Context(), ask)
		if err == nil || !strings.Contains(err.Error(), "no memory") || time.Since(began) != client.MostWait {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		w.want(e) // nothing was restarted
		w.mu.Lock()
		runs := len(w.runs)
		w.mu.Unlock()
		// 0, 0, then 0.1, 0.2 ... 5 s, 5 s ... apart
		if runs < 5 || runs > 12 {
			t.Errorf("%d starts in %v", runs, client.MostWait)
		}
		// A media that comes in the middle of the wait is good.
		w.mu.Lock()
		w.fail = nil
		w.mu.Unlock()
		if o, err := k.Attach(t.Context(), ask); err != nil || o.Gen != 1 {
			t.Errorf("%+v, %v", o, err)
		}
		w.end()
		<-w.stopped
	})
}

func TestMediaRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwin(t)
		w.offer = func(int) error { return errors.New("no such layout") }
		w.begin()
		k, _, _ := w.connect()
		if _, err := k.Attach(t.Context(), ask); err == nil || !strings.Contains(err.Error(), "no such layout") {
			t.Errorf("error: %v", err)
		}
		w.end()
		<-w.stopped
	})
}

func TestDesktopEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwin(t)
		w.begin()
		k1, e1, cancel1 := w.connect()
		_, e2, _ := w.connect()
		close(w.over)
		if reason := <-w.stopped; reason != w.Reason() {
			t.Errorf("reason: %s", reason)
		}
		w.want(e1, "ended the desktop ended")
		w.want(e2, "ended the desktop ended")
		if _, err := k1.Attach(t.Context(), ask); err == nil {
			t.Error("attached to a session that is over")
		}
		cancel1()
		synctest.Wait()
		if _, err := k1.Status(t.Context()); err == nil {
			t.Error("a closed connection answers")
		}
	})
}

// Whatever a gateway asks for behind an attach that finds no media is done at once.
func TestStopBehindAttach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwin(t)
		w.fail = func(int) error { return errors.New("no memory") }
		w.begin()
		k, _, cancel := w.connect()
		defer cancel()
		attached := make(chan error, 1)
		go func() {
			_, err := k.Attach(t.Context(), ask)
			attached <- err
		}()
		synctest.Wait()
		began := time.Now()
		if err := errors.Join(k.Lock(t.Context()), k.Stop(t.Context())); err != nil {
			t.Error(err)
		}
		if err := <-attached; err == nil || !strings.Contains(err.Error(), "session is over") {
			t.Errorf("the attach: %v", err)
		}
		<-w.stopped
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwin(t)
		w.begin()
		k, e, cancel := w.connect()
		if err := k.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		<-w.stopped
		cancel()
		w.want(e, "ended Your session was ended.")
	})
}

// A peer that reads nothing is dropped and holds nobody up; too many are
// refused.
func TestControlLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwin(t)
		w.begin()
		here, there := net.Pipe()
		served := make(chan struct{})
		go func() { w.core.serveConn(context.Background(), there); close(served) }()
		k, e, _ := w.connect()
		for gen := range uint64(maxUntold + 2) {
			gen++
			if o, err := k.Attach(t.Context(), ask); err != nil || o.Gen != gen {
				t.Fatalf("%+v, %v", o, err)
			}
			if err := w.run(0).conn.Notify(mediaapi.EventAttached, client.Change{Terminal: ask.Terminal, Gen: gen}); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			if got, want := <-e, fmt.Sprintf("attached 0800200a0b0c %d", gen); got != want {
				t.Errorf("event %q, want %q", got, want)
			}
		}
		<-served
		here.Close()
		w.end()
		<-w.stopped
	})
}
