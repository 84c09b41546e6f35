// Package attach is the media end of the connection between a terminal and
// what is shown on it: tickets, the QUIC connections that redeem them, the
// display going out and the input coming in.
//
// Source: design sections 2 and 8; protocol/native for what is on the wire.
//
// Invariants:
//  1. A ticket attaches once, within native.TicketLife, for the terminal,
//     address and generation it was made for. A refused ticket changes nothing.
//  2. At most one attachment has a Source: a newer one ends the older and
//     begins when that has released its input.
//  3. Calls to a Spec's Sink come from one goroutine, in the order of the
//     input; Release is the last of them.
//  4. At most MaxUnacked pictures (on a slow link MaxUnackedSlow) are on their
//     way, each a frame or, of a large change, several, and none is encoded before it may be sent, so that what is sent is
//     the screen as it is: a first picture made in advance (Spec.Ahead) too, for
//     it is completed then, and shown in one frame with what has changed.
//  5. Input never waits for output: they share no lock and no goroutine.
//  6. A Spec's Cards is called at most once, and returns before Detached.
//
// An Endpoint is safe for concurrent use; Serve is its life. Limits: those
// below, and package native's.
package attach

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"reflect"
	"runtime"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/native"
	"hotdesk/server/session/encode"
	"hotdesk/server/session/rawsock"
)

const (
	// MaxTickets bounds the tickets that wait for their terminals.
	MaxTickets = 16384
	// MaxPending bounds connections that have not redeemed a ticket.
	MaxPending = 256
	// MaxStrangers bounds those of them that come from an address no ticket is
	// waiting for.
	MaxStrangers = 16
	// GreetWithin is how long a connection may take for its handshake, and
	// again for its Hello.
	GreetWithin = 2 * time.Second
	// SlowAfter is the least silence after which an attachment is closed.
	SlowAfter = 5 * time.Second
	// MaxUnacked bounds the pictures that the terminal has not yet drawn.
	MaxUnacked = 2
	// MaxUnackedSlow is that on a slow link, where pictures are small.
	MaxUnackedSlow = 4
	// FrameInterval is the least time between the starts of two pictures.
	FrameInterval = 16 * time.Millisecond

	// maxHeld bounds the keys that are known to be down.
	maxHeld = 64
	// inputWindow is how many bytes of input a terminal may be ahead of us:
	// several hundred records.
	inputWindow = 16 << 10
	// maxIncomingStreams bounds the streams a terminal has open.
	maxIncomingStreams = 2
	// connIDLength is the longest that QUIC has, so that even a terminal's
	// shortest packet is long enough to be answered with a stateless reset
	// when this end was restarted (it must be longer than the reset).
	connIDLength = 20
)

// A Sink is what a terminal's input acts on. Calls come from one goroutine.
type Sink interface {
	Key(usage uint16, down bool)
	Pointer(x, y int, buttons byte)
	Wheel(right, down int)
	Release()        // every key and button is up
	Resize(w, h int) // the terminal's screen has this size

	// Hold says whether more comes at once: while it does, calls need have no
	// effect. It is true for what came together, and false after that.
	Hold(more bool)
}

// A Config says where an Endpoint listens and as whom.
type Config struct {
	Conn        net.PacketConn // open for the life of Serve, and not closed by it
	Identity    *Identity
	AlivePeriod time.Duration // 0: native.AlivePeriod
	Log         *slog.Logger  // nil: silent
	// NewAlarm makes what calls f when its time has come; nil: a time.Timer.
	NewAlarm func(f func()) (Alarm, error)
}

// An Alarm wakes an attachment at a time: when its next frame may be made, or
// where nothing happens to it.
type Alarm interface {
	Reset(d time.Duration)
	Stop()
}

// A timer is an Alarm of package time's.
type timer struct{ *time.Timer }

func newTimer(f func()) (Alarm, error) {
	t := time.AfterFunc(time.Hour, f) // more than anybody waits
	return timer{t}, nil
}

func (t timer) Reset(d time.Duration) { t.Timer.Reset(d) }
func (t timer) Stop()                 { t.Timer.Stop() }

// A Spec is an attachment that may come. Attached and Detached may be nil.
type Spec struct {
	Terminal alp.TerminalID
	Addr     netip.Addr // the only one the ticket is good from; zero: any
	Gen      uint64
	Source   encode.Source // of a comparable type: one Source has one attachment
	Sink     Sink
	Terms    encode.Terms           // how near pictures may be; on a slow link its Motion has less
	Still    bool                   // it hardly ever changes: between changes it costs no memory
	Awake    func() bool            // if not nil and true after a change, a Still one is about to change again
	Cards    CardServer             // nil: nobody wants the terminal's card
	Ahead    func() *encode.Encoder // if not nil, and it gives one, that of the display: with a picture made in advance; beside Attached
	Attached func()                 // before the first frame
	Detached func(reason string)    // after the last call of Sink; only if Attached was called
	Rested   func()                 // if not nil: nothing has changed for a while, and what rests is packed
}

// An Endpoint is one media end: a session's, or a gateway's.
type Endpoint struct {
	conf Config
	log  *slog.Logger
	loud limiter // of lines that strangers can cause

	// makers bounds the frames of still screens that are made at the same time:
	// each needs megabytes, and after a power cut a thousand terminals come at
	// once. Who is slow to take a frame holds none of these.
	makers chan struct{}

	mu        sync.Mutex
	tickets   tickets
	live      map[*attachment]struct{}
	pending   int
	strangers int
	closed    bool
}

// New checks conf. Packets wait in the socket until Serve is called.
func New(conf Config) (*Endpoint, error) {
	if conf.Conn == nil || conf.Identity == nil {
		return nil, errors.New("attach: a socket and an identity are needed")
	}
	if conf.AlivePeriod == 0 {
		conf.AlivePeriod = native.AlivePeriod
	}
	if conf.AlivePeriod < native.MinAlivePeriod || conf.AlivePeriod > native.MaxAlivePeriod {
		return nil, fmt.Errorf("attach: alive period %v is not within %v..%v", conf.AlivePeriod, native.MinAlivePeriod, native.MaxAlivePeriod)
	}
	if conf.Log == nil {
		conf.Log = slog.New(slog.DiscardHandler)
	}
	if conf.NewAlarm == nil {
		conf.NewAlarm = newTimer
	}
	return &Endpoint{
		makers:  make(chan struct{}, 2*runtime.GOMAXPROCS(0)),
		conf:    conf,
		log:     conf.Log,
		loud:    limiter{log: conf.Log},
		tickets: newTickets(),
		live:    map[*attachment]struct{}{},
	}, nil
}

// Port is the UDP port terminals connect to, 0 if the socket has none.
func (e *Endpoint) Port() int {
	if a, ok := e.conf.Conn.LocalAddr().(*net.UDPAddr); ok {
		return a.Port
	}
	return 0
}

// ErrClosed is returned by Offer when Serve has ended.
var ErrClosed = errors.New("attach: the media end is closed")

// Offer makes a ticket for spec. An older ticket of the same terminal that was
// not redeemed is void.
func (e *Endpoint) Offer(spec Spec) (ticket []byte, err error) {
	switch {
	case !spec.Terminal.Valid():
		return nil, fmt.Errorf("attach: %q is no terminal", spec.Terminal)
	case spec.Source == nil || spec.Sink == nil:
		return nil, errors.New("attach: a source and a sink are needed")
	case !reflect.TypeOf(spec.Source).Comparable():
		return nil, fmt.Errorf("attach: source %T cannot be compared", spec.Source)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, ErrClosed
	}
	ticket, err = e.tickets.offer(spec, time.Now())
	if err == nil { // lets go of the source and the sink of one that never comes
		time.AfterFunc(native.TicketLife+time.Millisecond, e.sweep)
	}
	return ticket, err
}

func (e *Endpoint) sweep() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tickets.sweep(time.Now())
}

// Detach ends the attachments of terminal ("": of every one) up to generation
// gen, and voids its tickets up to gen. It does not wait for their Detached.
func (e *Endpoint) Detach(gen uint64, terminal alp.TerminalID, code native.CloseCode, reason string) {
	meant := func(s Spec) bool { return s.Gen <= gen && (terminal == "" || s.Terminal == terminal) }
	e.mu.Lock()
	e.tickets.void(meant)
	ending := e.choose(func(a *attachment) bool { return meant(a.spec) })
	e.mu.Unlock()
	for _, a := range ending {
		a.end(code, reason)
	}
}

// choose returns the live attachments that are meant. e.mu is held.
func (e *Endpoint) choose(meant func(*attachment) bool) []*attachment {
	var list []*attachment
	for a := range e.live {
		if meant(a) {
			list = append(list, a)
		}
	}
	return list
}

// Serve accepts terminals until ctx ends, then closes every attachment with
// native.CloseRestart and returns when all have ended. Its error is the
// socket's. It is called once.
func (e *Endpoint) Serve(ctx context.Context) error {
	quietQUIC()
	tr := &quic.Transport{
		Conn:                             rawsock.NewDatagrams(e.conf.Conn),
		ConnectionIDLength:               connIDLength,
		StatelessResetKey:                &e.conf.Identity.reset,
		TokenGeneratorKey:                &e.conf.Identity.token,
		DisableVersionNegotiationPackets: true,
		VerifySourceAddress:              e.mustProve,
		ConnContext:                      e.admit,
	}
	defer tr.Close()
	ln, err := tr.Listen(&tls.Config{
		Certificates:           []tls.Certificate{e.conf.Identity.cert},
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{native.ALPN},
		CurvePreferences:       []tls.CurveID{tls.X25519MLKEM768, tls.X25519},
		SessionTicketsDisabled: true, // a terminal comes once with each ticket
	}, &quic.Config{
		Versions:                       []quic.Version{quic.Version1},
		HandshakeIdleTimeout:           GreetWithin / 2, // quic-go allows twice this in all
		MaxIdleTimeout:                 2 * slowAfter(e.conf.AlivePeriod),
		InitialStreamReceiveWindow:     inputWindow,
		MaxStreamReceiveWindow:         inputWindow,
		InitialConnectionReceiveWindow: 2 * inputWindow,
		MaxConnectionReceiveWindow:     2 * inputWindow,
		MaxIncomingStreams:             -1,
		MaxIncomingUniStreams:          maxIncomingStreams,
		EnableDatagrams:                true,
	})
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	var wg sync.WaitGroup
	inner, cancel := context.WithCancel(ctx)
	for {
		conn, aerr := ln.Accept(ctx)
		if aerr != nil {
			err = aerr
			break
		}
		wg.Go(func() { e.serve(inner, conn) })
	}
	ln.Close()
	e.mu.Lock()
	e.closed = true
	e.tickets = newTickets()
	ending := e.choose(func(*attachment) bool { return true })
	e.mu.Unlock()
	cancel()
	for _, a := range ending {
		a.end(native.CloseRestart, "the media end is going away")
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("attach: the socket failed: %w", err)
}

// quietQUIC stops quic-go from writing to the standard logger what it thinks
// of the socket's buffers; they are best effort here.
var quietQUIC = sync.OnceFunc(func() { os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true") })
