// Package media is the process that shows a session on a terminal: it joins
// the session's X server to the media connection, and the session's programs to
// the card at the terminal, and does nothing else, so that losing it loses
// nothing.
//
// Source: design sections 1 and 2; package mediaapi for what the keeper says.
//
// Invariants:
//  1. Nothing is opened before the keeper's setup, which comes once.
//  2. At most one terminal is attached: a newer one ends the older. Keys and
//     buttons are up, and the screen has the terminal's size and layout, before
//     its first frame is completed: what was made of it in advance is on its way
//     meanwhile.
//  3. Every attached event is followed by its detached event, and the answer to
//     a detach comes after that.
//  4. The process cannot be looked into by others of the same user.
//  5. While no terminal is attached the first picture of the next is made; what
//     that terminal gets is the screen as it is then. A terminal that has come
//     waits at most for one that is in the making, which is its own first one.
//  6. Programs are served a card (package pcsclite, on Setup's CardSocket) while
//     a terminal that has the session's card is attached; without one the reader
//     is there, and empty. A program that says what it must not loses its own
//     connection.
//
// Run is called once in a process: package xgb's tables and the settings of the
// garbage collector and of the scheduler are the process's.
package media

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"log/slog"
	"net"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"hotdesk/protocol/native"
	"hotdesk/protocol/rpc"
	"hotdesk/server/session/attach"
	"hotdesk/server/session/client"
	"hotdesk/server/session/encode"
	"hotdesk/server/session/mediaapi"
	"hotdesk/server/session/rawsock"
	"hotdesk/server/session/xdisplay"
)

// gcPercent trades a little time for memory: there is a process for each
// session, and most are idle.
const gcPercent = 50

// Run serves a keeper on control, and terminals on udp, until the keeper closes
// control or ctx ends (nil), or the X server is gone. It closes control.
func Run(ctx context.Context, control net.Conn, udp net.PacketConn, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("media: making the process opaque: %w", err)
	}
	debug.SetGCPercent(gcPercent)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	m := &media{udp: udp, log: log, fail: cancel, quiet: make(chan struct{}, 1), live: map[uint64]chan struct{}{}}
	m.conn = rpc.New(control, m.handle)
	m.serving.Go(func() { m.tidy(ctx) })
	err := m.conn.Serve(ctx)
	cancel(nil)
	m.serving.Wait()
	if m.display != nil {
		m.display.Close()
	}
	if m.ahead != nil {
		m.ahead.take() // it ends, for no screen is left that it could wait for
	}
	if m.recorder != nil {
		m.recorder.Stop()
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	if err != nil {
		return fmt.Errorf("media: the keeper: %w", err)
	}
	return nil
}

type media struct {
	udp     net.PacketConn
	log     *slog.Logger
	fail    context.CancelCauseFunc
	conn    *rpc.Conn
	serving sync.WaitGroup
	quiet   chan struct{} // something to receive after a terminal has gone, a picture was made, or all rests

	// Set by setup, and read by what the keeper asks after it.
	display  *xdisplay.Display
	screen   encode.Source // the display, as the terminals see it
	cores    *cores
	ahead    *ahead    // nil: no picture is made in advance
	recorder *recorder // nil: nobody wants to know why frames are late
	endpoint *attach.Endpoint
	port     int
	cert     []byte
	cards    *cards // nil: the session's programs reach no card
	terms    encode.Terms

	mu   sync.Mutex
	live map[uint64]chan struct{} // attachments by number, closed when they are over
}

// handle answers the keeper. rpc calls it for one request at a time.
func (m *media) handle(ctx context.Context, op string, body json.RawMessage) (any, error) {
	switch op {
	case mediaapi.OpSetup:
		var s mediaapi.Setup
		if err := rpc.Decode(body, &s); err != nil {
			return nil, err
		}
		return mediaapi.Ready{}, m.setup(ctx, s)
	case mediaapi.OpOffer:
		var o mediaapi.Offer
		if err := rpc.Decode(body, &o); err != nil {
			return nil, err
		}
		return m.offer(o)
	case mediaapi.OpDetach:
		var d client.Detach
		if err := rpc.Decode(body, &d); err != nil {
			return nil, err
		}
		return nil, m.detach(ctx, d.Gen)
	}
	return nil, fmt.Errorf("media: unknown request %.40q", op)
}

func (m *media) setup(ctx context.Context, s mediaapi.Setup) error {
	if m.endpoint != nil {
		return errors.New("media: set up already")
	}
	id := new(attach.Identity)
	if err := id.UnmarshalBinary(s.Identity); err != nil {
		return fmt.Errorf("media: %w", err)
	}
	switch s.Pictures {
	case "", mediaapi.PicturesMotion:
		m.terms.Motion = true
	case mediaapi.PicturesFirst:
		m.terms.Motion, m.terms.First = true, true
	case mediaapi.PicturesExact:
	default:
		return fmt.Errorf("media: unknown kind of pictures %.40q", s.Pictures)
	}
	log := m.log.With("session", string(s.Session))
	e, err := attach.New(attach.Config{Conn: m.udp, Identity: id, Log: log,
		NewAlarm: func(f func()) (attach.Alarm, error) { return rawsock.NewAlarm(f) }})
	if err != nil {
		return fmt.Errorf("media: %w", err)
	}
	d, err := xdisplay.Open(xdisplay.Config{
		Display: s.Display, Authority: s.Authority, FrameBuffer: s.FrameBuffer,
		Max: image.Pt(s.MaxWidth, s.MaxHeight), Log: log,
	})
	if err != nil {
		return fmt.Errorf("media: %w", err)
	}
	if s.CardSocket != "" {
		// Without cards a session is still one.
		if m.cards, err = newCards(s.CardSocket, log); err != nil {
			log.Error("the session's programs reach no card", "err", err)
		} else {
			m.serving.Go(func() { m.cards.run(ctx) })
		}
	} else {
		log.Warn("the session's programs reach no card: the path of its directory is too long for a socket; choose a shorter -fb")
	}
	hash := id.CertHash()
	m.log, m.display, m.cores, m.endpoint, m.port, m.cert = log, d, newCores(d), e, s.Port, hash[:]
	m.screen = m.cores
	if !m.terms.First { // what is made in advance is exact
		m.ahead = &ahead{source: d, made: m.rest, log: log}
	}
	if s.FrameBudget > 0 {
		// Without traces a session is still one.
		if m.recorder, err = newRecorder(m.screen, s.FrameBudget, s.TraceDir, log); err != nil {
			log.Error("late frames leave no trace", "err", err)
		} else {
			m.screen = m.recorder
		}
	}
	m.serving.Go(func() {
		if err := e.Serve(ctx); err != nil {
			m.fail(fmt.Errorf("media: %w", err))
		}
	})
	m.serving.Go(func() {
		select {
		case <-d.Done():
			e.Detach(^uint64(0), "", native.CloseEnded, "the session has ended")
			m.fail(fmt.Errorf("media: %w", d.Err()))
		case <-ctx.Done():
		}
	})
	return nil
}

var errNotSetUp = errors.New("media: not set up yet")

// defaultLayout is that of a terminal that names none.
const defaultLayout = "us"

func (m *media) offer(o mediaapi.Offer) (client.Offer, error) {
	if m.endpoint == nil {
		return client.Offer{}, errNotSetUp
	}
	change := client.Change{Terminal: o.Terminal, Gen: o.Gen}
	sink, begin, end := m.watched(o.Quiet, change)
	ticket, err := m.endpoint.Offer(attach.Spec{
		Terminal: o.Terminal,
		Addr:     o.Addr,
		Gen:      o.Gen,
		Source:   m.screen,
		Sink:     sink,
		Terms:    m.terms,
		Cards:    m.cardServer(),
		Ahead:    m.first,
		Attached: func() {
			m.mu.Lock()
			m.live[o.Gen] = make(chan struct{})
			m.mu.Unlock()
			m.tell(mediaapi.EventAttached, change)
			m.display.Release()
			m.display.Resize(o.Width, o.Height)
			if o.Layout == "" {
				o.Layout = defaultLayout
			}
			if err := m.display.SetLayout(o.Layout); err != nil {
				m.log.Warn("the keyboard keeps its layout", "err", err, "terminal", string(o.Terminal))
			}
			begin()
		},
		Detached: func(reason string) {
			end()
			change.Reason = reason
			m.tell(mediaapi.EventDetached, change)
			m.mu.Lock()
			close(m.live[o.Gen])
			delete(m.live, o.Gen)
			m.mu.Unlock()
			m.rest()
			if m.ahead != nil {
				m.ahead.gone()
			}
		},
		Rested: func() {
			if spare() >= muchSpare {
				m.rest()
			}
		},
	})
	if err != nil {
		return client.Offer{}, fmt.Errorf("media: %w", err)
	}
	return client.Offer{Port: m.port, Cert: m.cert, Ticket: ticket, Gen: o.Gen}, nil
}

// first gives the first picture that was made in advance. Where there is none,
// there is much to do.
func (m *media) first() *encode.Encoder {
	if m.ahead != nil {
		if enc := m.ahead.take(); enc != nil {
			return enc
		}
	}
	m.cores.expect()
	return nil
}

// rest says that memory is to be tidied when nothing happens for a while.
func (m *media) rest() {
	select {
	case m.quiet <- struct{}{}:
	default:
	}
}

// watched is the display, with its vigil where one is wanted.
func (m *media) watched(quiet int64, c client.Change) (s attach.Sink, begin, end func()) {
	if quiet <= 0 {
		return m.display, func() {}, func() {}
	}
	v := &vigil{Sink: m.display, after: time.Duration(quiet) * time.Millisecond, tell: func(quiet bool) {
		event := mediaapi.EventStirred
		if quiet {
			event = mediaapi.EventQuiet
		}
		m.tell(event, c)
	}}
	return v, v.begin, v.end
}

// tell reports to the keeper; where it is gone, Serve ends.
func (m *media) tell(event string, c client.Change) {
	if err := m.conn.Notify(event, c); err != nil {
		m.log.Debug("the keeper was not told", "event", event, "err", err)
	}
}

// detach ends the attachments up to gen and waits until they are over.
func (m *media) detach(ctx context.Context, gen uint64) error {
	if m.endpoint == nil {
		return errNotSetUp
	}
	m.endpoint.Detach(gen, "", native.CloseDetached, "detached")
	var over []chan struct{}
	m.mu.Lock()
	for g, c := range m.live {
		if g <= gen {
			over = append(over, c)
		}
	}
	m.mu.Unlock()
	for _, c := range over {
		select {
		case <-c:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

const (
	// tidyAfter is how long no terminal must have come or gone before memory is
	// given back: a card on its way to the next terminal is not held up by it.
	tidyAfter = 5 * time.Second
	// muchSpare is what must be to give back, in bytes, while a terminal is there:
	// collecting it takes milliseconds.
	muchSpare = 1 << 20
)

// spare is about how much memory holds nothing that is needed, in bytes: what the
// heap has beside what was needed when it was collected last.
func spare() uint64 {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(heap)
	has, needs := uint64(0), heap[3].Value.Uint64()
	for _, part := range heap[:3] {
		has += part.Value.Uint64()
	}
	return has - min(has, needs)
}

// tidy gives memory back to the system when a terminal has gone, or all rests.
func (m *media) tidy(ctx context.Context) {
	rest := time.NewTimer(tidyAfter)
	rest.Stop() // a process that has just begun has nothing to give back
	defer rest.Stop()
	for {
		select {
		case <-m.quiet:
			rest.Reset(tidyAfter)
		case <-rest.C:
			runtime.GC() // what pools hold goes with the second
			debug.FreeOSMemory()
		case <-ctx.Done():
			return
		}
	}
}
