package attach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"hotdesk/protocol/input"
	"hotdesk/protocol/native"
)

// An attachment is one terminal that redeemed its ticket, till it is gone.
type attachment struct {
	conn   *quic.Conn
	in     *quic.ReceiveStream
	hello  native.Hello
	spec   Spec
	period time.Duration
	log    *slog.Logger
	start  time.Time
	makers chan struct{} // the Endpoint's

	newAlarm func(func()) (Alarm, error) // the Endpoint's

	heard atomic.Int64  // when anything last came, after start
	held  atomic.Bool   // a key or a button is down there
	keys  keys          // which: input's
	sent  atomic.Uint32 // newest frame that was sent
	acked atomic.Uint32 // newest frame that is on the screen
	small atomic.Int64  // when a small frame was last sent, after start
	late  atomic.Bool   // acknowledgements may be, see native.AcksLate
	acks  chan struct{} // something to receive after acked has changed
	ready chan struct{} // closed when frames may be made: Attached has returned
	done  chan struct{} // closed after the last call of Sink and of Spec

	once   sync.Once
	ended  chan struct{} // closed by the first end
	reason string        // before ended is closed
}

// serve is a connection's life.
func (e *Endpoint) serve(ctx context.Context, conn *quic.Conn) {
	peer := conn.RemoteAddr().String()
	greet, cancel := context.WithTimeout(ctx, GreetWithin)
	in, hello, err := greeting(greet, conn)
	cancel()
	if err != nil {
		if ctx.Err() != nil {
			conn.CloseWithError(quic.ApplicationErrorCode(native.CloseRestart), "the media end is going away")
			return
		}
		e.loud.Warn("media greeting refused", "reason", err.Error(), "peer", peer)
		conn.CloseWithError(quic.ApplicationErrorCode(native.CloseProtocol), clip(err.Error()))
		return
	}
	a := &attachment{makers: e.makers, newAlarm: e.conf.NewAlarm,
		conn: conn, in: in, hello: hello, period: e.conf.AlivePeriod,
		log:   e.log.With("terminal", string(hello.Terminal), "gen", hello.Gen, "peer", peer),
		start: time.Now(),
		acks:  make(chan struct{}, 1), ready: make(chan struct{}), done: make(chan struct{}), ended: make(chan struct{}),
	}
	before, refused := e.redeem(a)
	settled(conn.Context())
	if refused != "" {
		e.loud.Warn("media ticket refused", "reason", refused, "terminal", string(hello.Terminal), "gen", hello.Gen, "peer", peer)
		conn.CloseWithError(quic.ApplicationErrorCode(native.CloseTicket), refused)
		return
	}
	for _, old := range before {
		old.end(native.CloseDetached, "shown elsewhere")
		select {
		case <-old.done:
		case <-conn.Context().Done(): // the old one waits for its X server; whoever comes after a waits for it too
			a.lost(context.Cause(conn.Context()))
		}
	}
	a.run()
	e.mu.Lock()
	delete(e.live, a)
	e.mu.Unlock()
	close(a.done)
}

// redeem makes a live if its ticket is good. What is returned must have ended
// before a begins: older attachments of its source or terminal, and those that
// are ending already, so that their Release does not come after a's first key.
func (e *Endpoint) redeem(a *attachment) (before []*attachment, refused string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, refusedUnknown
	}
	a.spec, refused = e.tickets.redeem(a.hello, addrOf(a.conn.RemoteAddr()), time.Now())
	if refused != "" {
		return nil, refused
	}
	before = e.choose(func(old *attachment) bool {
		return old.spec.Source == a.spec.Source || old.spec.Terminal == a.spec.Terminal || old.over()
	})
	e.live[a] = struct{}{}
	return before, ""
}

// greeting waits for the input stream and its Hello.
func greeting(ctx context.Context, conn *quic.Conn) (*quic.ReceiveStream, native.Hello, error) {
	for {
		in, err := conn.AcceptUniStream(ctx)
		if err != nil {
			return nil, native.Hello{}, fmt.Errorf("no greeting: %w", err)
		}
		deadline, _ := ctx.Deadline()
		in.SetReadDeadline(deadline)
		stop := context.AfterFunc(ctx, func() { in.SetReadDeadline(time.Unix(0, 1)) })
		var b [1 + native.HelloSize]byte
		_, err = io.ReadFull(in, b[:1])
		if err == nil && native.Kind(b[0]) != native.StreamInput { // a later version's
			in.CancelRead(0)
			stop()
			continue
		}
		if err == nil {
			_, err = io.ReadFull(in, b[1:])
		}
		stop()
		if err != nil {
			return nil, native.Hello{}, fmt.Errorf("no greeting: %w", err)
		}
		hello, _, err := native.ParseHello(b[1:])
		return in, hello, err
	}
}

// run shows the source until something ends the attachment.
func (a *attachment) run() {
	if a.over() {
		return
	}
	first := pace{rtt: a.conn.ConnectionStats().MinRTT}
	a.late.Store(first.patient())
	var wg sync.WaitGroup
	wg.Go(a.display)
	if a.spec.Attached != nil {
		a.spec.Attached()
	}
	close(a.ready)
	a.log.Info("media attached")
	wg.Go(a.liveness)
	wg.Go(a.streams)
	a.input()
	wg.Wait()
	a.spec.Sink.Release()
	a.log.Info("media detached", "reason", a.reason)
	if a.spec.Detached != nil {
		a.spec.Detached(a.reason)
	}
}

// end closes the connection; the first reason counts.
func (a *attachment) end(code native.CloseCode, reason string) {
	a.once.Do(func() {
		a.reason = clip(reason)
		close(a.ended)
		a.conn.CloseWithError(quic.ApplicationErrorCode(code), a.reason)
	})
}

// lost is end for an error of the connection, which may have been closed by
// the terminal.
func (a *attachment) lost(err error) {
	reason := err.Error()
	if app, ok := errors.AsType[*quic.ApplicationError](err); ok && app.Remote {
		reason = "closed by the terminal: " + app.ErrorMessage
	}
	a.end(native.CloseDetached, reason)
}

func (a *attachment) over() bool {
	select {
	case <-a.ended:
		return true
	default:
		return false
	}
}

func (a *attachment) hear(at time.Time) { a.heard.Store(int64(at.Sub(a.start))) }

func (a *attachment) heardAt() time.Time { return a.start.Add(time.Duration(a.heard.Load())) }

// slowAfter is SlowAfter for any alive period.
func slowAfter(period time.Duration) time.Duration { return max(SlowAfter, 3*period) }

// input reads records and is the only one to call Sink. Its read deadline is
// past after liveness has found silence that means something.
func (a *attachment) input() {
	a.spec.Sink.Resize(a.hello.Width, a.hello.Height)
	released := false // for the silence that lasts
	var buf [1024]byte
	n := 0
	for {
		k, err := a.in.Read(buf[n:])
		if k > 0 {
			a.hear(time.Now())
			released = false
			rest, bad := a.records(buf[:n+k])
			if bad != nil {
				a.log.Warn("media input refused", "reason", bad.Error())
				a.end(native.CloseProtocol, bad.Error())
				return
			}
			n = copy(buf[:], rest)
		}
		if err == nil {
			continue
		}
		a.in.SetReadDeadline(time.Time{}) // before the look: what is found after it is told again
		switch silence := time.Since(a.heardAt()); {
		case errors.Is(err, io.EOF):
			a.end(native.CloseProtocol, "the input stream ended")
			return
		case !errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed):
			a.lost(err)
			return
		case silence >= slowAfter(a.period):
			a.end(native.CloseSlow, "nothing came for "+slowAfter(a.period).String())
			return
		case silence >= native.SilentAfter(a.period):
			if !released {
				a.log.Warn("media silent", "for", silence.Round(time.Millisecond))
				a.spec.Sink.Release() // so that no key repeats for ever
			}
			released = true
		default: // something was heard
			released = false
		}
	}
}

// records acts on whole records and returns the bytes of one that is not.
func (a *attachment) records(b []byte) (rest []byte, err error) {
	together := false
	for {
		r, after, err := input.Next(b)
		if errors.Is(err, input.ErrShort) {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
		if b = after; len(b) > 0 && !together {
			together = true
			a.spec.Sink.Hold(true)
			defer a.spec.Sink.Hold(false)
		}
		switch r.Type {
		case input.Key:
			a.held.Store(a.keys.key(r.Usage, r.Down))
			a.spec.Sink.Key(r.Usage, r.Down)
		case input.Pointer:
			a.held.Store(a.keys.press(r.Buttons))
			a.spec.Sink.Pointer(r.X, r.Y, r.Buttons)
		case input.Wheel:
			a.spec.Sink.Wheel(r.X, r.Y)
		case input.Release:
			a.held.Store(a.keys.release())
			a.spec.Sink.Release()
		case input.Resize:
			a.spec.Sink.Resize(r.X, r.Y)
		case input.Ack:
			if sent := a.sent.Load(); r.Seq > sent {
				return nil, fmt.Errorf("acknowledgement of frame %d, sent were %d", r.Seq, sent)
			}
			if r.Seq > a.acked.Load() {
				a.acked.Store(r.Seq)
				poke(a.acks)
			}
		}
	}
}

// keys are those that are down at the terminal, and its pointer's buttons. The
// calls return whether any is.
type keys struct {
	down    map[uint16]struct{}
	buttons byte
}

func (k *keys) any() bool { return len(k.down) > 0 || k.buttons != 0 }

func (k *keys) key(usage uint16, down bool) bool {
	switch {
	case !down:
		delete(k.down, usage)
	case len(k.down) < maxHeld:
		if k.down == nil {
			k.down = map[uint16]struct{}{}
		}
		k.down[usage] = struct{}{}
	}
	return k.any()
}

func (k *keys) press(buttons byte) bool {
	k.buttons = buttons
	return k.any()
}

func (k *keys) release() bool {
	clear(k.down)
	return k.press(0)
}

// alarm is one that says on a channel when its time has come; nil: there is none,
// and the attachment ends.
func (a *attachment) alarm() (Alarm, <-chan struct{}) {
	rang := make(chan struct{}, 1)
	alarm, err := a.newAlarm(func() { poke(rang) })
	if err != nil {
		a.log.Error("media has no alarm", "err", err)
		a.end(native.CloseRestart, "no alarm")
		return nil, nil
	}
	return alarm, rang
}

// liveness says Alive where no frame does, and hears the terminal: whatever comes
// from it counts, and an acknowledgement does. While the terminal answers, it
// wakes once for each Alive, for an idle session is to cost nothing: what has
// come is found when the next is due, and counts as an answer to the last. While
// something is held down there it looks more often.
func (a *attachment) liveness() {
	var sent time.Time
	next := time.Now()
	packets := uint64(0)
	var looked time.Time     // at packets,
	watched := false         // because something was held down
	told := time.Duration(0) // the silence that input knows of
	unanswered := (native.AliveEvery(a.period) + native.SilentAfter(a.period)) / 2
	asked := make(chan struct{}, 1)
	alarm, rang := a.alarm()
	if alarm == nil {
		return
	}
	defer alarm.Stop()
	var hearing sync.WaitGroup
	defer hearing.Wait()
	hearing.Go(func() { a.datagrams(asked) })
	for {
		now := time.Now()
		// A small frame says as much as an Alive, as soon, and is acknowledged too.
		framed := false
		if at := a.start.Add(time.Duration(a.small.Load())); at.After(sent) && !sent.IsZero() {
			framed, sent, next = true, at, at.Add(native.AliveEvery(a.period))
		}
		if stats := a.conn.ConnectionStats(); stats.PacketsReceived != packets {
			packets = stats.PacketsReceived
			// The answer's own moment is not known. It came after the last look, which
			// is near enough where that was not long ago, and all that is sure where frames
			// were sent since; else how long answers take tells it: if the last Alive can
			// have none yet, it was to one before.
			answered := looked
			if !watched && !framed {
				for answered = sent.Add(stats.LatestRTT); answered.After(now); {
					answered = answered.Add(-native.AliveEvery(a.period))
				}
			}
			if answered.After(a.heardAt()) {
				a.hear(answered)
			}
		}
		looked, watched = now, a.held.Load()
		if !now.Before(next) {
			sent, next = now, now.Add(native.AliveEvery(a.period))
			if err := a.alive(); err != nil {
				a.lost(err)
				return
			}
		}
		wake := next
		if often := now.Add(a.period / 5); watched && often.Before(wake) {
			wake = often
		}
		silence := now.Sub(a.heardAt())
		if silence < told {
			told = 0
		}
		for _, limit := range [2]time.Duration{native.SilentAfter(a.period), slowAfter(a.period)} {
			switch {
			case silence < limit:
				// While nothing is held down, it is early enough to look when an Alive
				// has not been answered; timers are late now and then.
				if at := a.heardAt().Add(limit); (watched || silence >= unanswered) && at.Before(wake) {
					wake = at
				}
			case told < limit:
				told = limit
				a.in.SetReadDeadline(now)
			}
		}
		alarm.Reset(time.Until(wake))
		select {
		case <-rang: // it is time for something
		case <-asked:
			if answer := sent.Add(a.period / 5); answer.Before(next) {
				next = answer // ours was late there
			}
		case <-a.conn.Context().Done():
			a.lost(context.Cause(a.conn.Context()))
			return
		}
	}
}

// datagrams hears the terminal's Alive, which asks for ours.
func (a *attachment) datagrams(asked chan<- struct{}) {
	for {
		b, err := a.conn.ReceiveDatagram(a.conn.Context())
		if err != nil {
			return
		}
		if _, ok := native.ParseAlive(b); ok {
			a.hear(time.Now())
			poke(asked)
		}
	}
}

// alive says Alive.
func (a *attachment) alive() error {
	if a.late.Load() {
		return a.conn.SendDatagram(native.AppendAliveLate(nil, a.period))
	}
	return a.conn.SendDatagram(native.AppendAlive(nil, a.period))
}

// poke leaves something to receive in a channel of capacity 1.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// clip makes a reason fit for the wire and the log.
func clip(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), native.MaxReason)], "?")
}
