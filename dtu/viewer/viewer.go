// Package viewer is the terminal's end of a media connection: it shows what a
// media end sends and tells it what the person does.
//
// Source: design sections 2 and 8; protocol/native for what is on the wire.
//
// Invariants:
//  1. The media end's certificate has exactly the SHA-256 that was asked for.
//     There is no way round that.
//  2. Input is sent in the order of Send. A pointer motion replaces the motion
//     just before it that is still waiting; nothing else is merged or moved.
//  3. After Close has returned no input is sent.
//  4. The session reaches its card (Config.Card) while the connection lasts, and
//     nothing that goes wrong with it costs the picture.
//  5. Done is closed when the socket is closed and all goroutines have ended.
//
// A Viewer is safe for concurrent use; it has a socket of its own. Limits:
// MaxQueue, the windows below.
package viewer

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"

	"hotdesk/protocol/input"
	"hotdesk/protocol/native"
)

const (
	// DialWithin is how long a media end may take to answer.
	DialWithin = 4 * time.Second
	// FirstWithin is how long it may then take for its first word.
	FirstWithin = 5 * time.Second
	// PictureWithin is how long nothing of a picture may come from one that is
	// alive before the first one is whole. A session that stands still has no
	// picture either; to come anew costs little.
	PictureWithin = 30 * time.Second

	// nearWindow is how many bytes of picture may be on their way from a media
	// end in the same building. quic-go drops what exceeds 256 packets that a
	// connection has not looked at, and the loss of a burst's tail costs 25 ms:
	// this is less than 256 packets, and more than such a path ever holds.
	nearWindow = 256 << 10
	// farWindow is the same where a round trip takes farRTT or longer: enough
	// for a whole picture. It is memory only while the decoder is behind.
	farWindow = 8 << 20
	farRTT    = 5 * time.Millisecond
	// readBuffer is the decoder's.
	readBuffer = 16 << 10
	// maxIncomingStreams bounds the streams a media end has open.
	maxIncomingStreams = 4
)

// A Decoder draws a display stream.
type Decoder interface {
	// Decode reads one frame, draws it and returns its number.
	Decode(r *bufio.Reader) (seq uint32, err error)
}

// A Config says which media end to show, and where.
type Config struct {
	Addr    netip.AddrPort
	Cert    [sha256.Size]byte // SHA-256 of the media end's certificate
	Hello   native.Hello
	Decoder Decoder
	Card    Card         // what the session's programs may use; nil: none
	Log     *slog.Logger // nil: silent
	// Wrap gives what the packets go through instead of the socket alone, which
	// it takes over; nil: nothing.
	Wrap func(net.PacketConn) net.PacketConn
}

// Closed is the error of a connection that the media end closed.
type Closed struct {
	Code   native.CloseCode
	Reason string
}

func (c *Closed) Error() string {
	return fmt.Sprintf("viewer: closed by the media end: %s (code %d)", c.Reason, c.Code)
}

// Why a connection is lost or not made; wrapped by errors that say more.
var (
	ErrCertificate = errors.New("viewer: the media end is not the one that was announced")
	ErrSilent      = errors.New("viewer: the media end is silent")
	ErrNoPicture   = errors.New("viewer: the media end sends no picture")
	ErrGone        = errors.New("viewer: the media end is gone")
	ErrClosed      = errors.New("viewer: closed")
)

// A Viewer is one media connection.
type Viewer struct {
	conf Config
	log  *slog.Logger
	conn *quic.Conn
	tr   *quic.Transport
	sock net.PacketConn
	out  *quic.SendStream

	start   time.Time
	heard   atomic.Int64 // when anything last came, after start; 0: nothing yet
	drawing atomic.Int64 // when anything of a picture last came; 0: nothing yet
	period  atomic.Int64 // of the media end's Alive
	far     atomic.Bool
	late    atomic.Bool // native.AcksLate

	q     queue
	touch chan struct{} // capacity 1
	quiet chan struct{} // capacity 1
	drawn chan struct{}
	done  chan struct{}
	line  cardLine

	once sync.Once
	err  error // before over is closed
	over chan struct{}
}

// Dial connects, checks the certificate and sends the Hello. ctx is for
// dialling alone.
func Dial(ctx context.Context, conf Config) (*Viewer, error) {
	quietQUIC()
	udp, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(conf.Addr))
	if err != nil {
		return nil, fmt.Errorf("viewer: %w", err)
	}
	if conf.Wrap != nil {
		return dial(ctx, conf, conf.Wrap(wrapped{udp}))
	}
	return dial(ctx, conf, connected{udp})
}

// dial takes sock over.
func dial(ctx context.Context, conf Config, sock net.PacketConn) (*Viewer, error) {
	if conf.Log == nil {
		conf.Log = slog.New(slog.DiscardHandler)
	}
	v := &Viewer{
		conf: conf, log: conf.Log.With("peer", conf.Addr.String()),
		tr: &quic.Transport{Conn: sock}, sock: sock,
		q:     queue{more: make(chan struct{}, 1)},
		touch: make(chan struct{}, 1), quiet: make(chan struct{}, 1),
		drawn: make(chan struct{}), done: make(chan struct{}), over: make(chan struct{}),
		line: cardLine{ask: make(chan *quic.ReceiveStream, 1)},
	}
	v.period.Store(int64(native.AlivePeriod))
	fail := func(err error) (*Viewer, error) {
		v.tr.Close()
		sock.Close()
		return nil, v.explain(err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, DialWithin, fmt.Errorf("%w: no answer from %v within %v", ErrSilent, conf.Addr, DialWithin))
	defer cancel()
	var err error
	v.conn, err = v.tr.Dial(ctx, net.UDPAddrFromAddrPort(conf.Addr), v.tls(), &quic.Config{
		Versions:                       []quic.Version{quic.Version1},
		HandshakeIdleTimeout:           DialWithin,
		MaxIdleTimeout:                 2 * native.SilentAfter(native.MaxAlivePeriod), // silence is noticed by ourselves
		InitialStreamReceiveWindow:     nearWindow,
		MaxStreamReceiveWindow:         farWindow,
		InitialConnectionReceiveWindow: nearWindow,
		MaxConnectionReceiveWindow:     farWindow,
		AllowConnectionWindowIncrease:  func(*quic.Conn, uint64) bool { return v.far.Load() },
		MaxIncomingStreams:             -1,
		MaxIncomingUniStreams:          maxIncomingStreams,
		EnableDatagrams:                true,
	})
	if err != nil {
		return fail(err)
	}
	v.start = time.Now()
	v.far.Store(v.conn.ConnectionStats().MinRTT >= farRTT)
	if v.out, err = v.conn.OpenUniStream(); err == nil {
		_, err = v.out.Write(conf.Hello.Append([]byte{byte(native.StreamInput)}))
	}
	if err != nil {
		v.conn.CloseWithError(quic.ApplicationErrorCode(native.CloseDetached), "not greeted")
		return fail(err)
	}
	var wg sync.WaitGroup
	wg.Go(v.display)
	wg.Go(v.input)
	wg.Go(v.liveness)
	wg.Go(v.touches)
	if conf.Card != nil {
		wg.Go(v.card)
	}
	go func() {
		wg.Wait()
		v.tr.Close()
		v.sock.Close()
		close(v.done)
	}()
	return v, nil
}

// tls pins the certificate. Nothing else is verified: the pin came over the
// control connection, which is.
func (v *Viewer) tls() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{native.ALPN},
		ServerName:         "media",
		CurvePreferences:   []tls.CurveID{tls.X25519MLKEM768, tls.X25519},
		InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return &pinError{"it has no certificate"}
			}
			got := sha256.Sum256(s.PeerCertificates[0].Raw)
			if subtle.ConstantTimeCompare(got[:], v.conf.Cert[:]) != 1 {
				return &pinError{fmt.Sprintf("the certificate at %v is %x, announced was %x", v.conf.Addr, got, v.conf.Cert)}
			}
			return nil
		},
	}
}

type pinError struct{ text string }

func (p *pinError) Error() string { return ErrCertificate.Error() + ": " + p.text }
func (p *pinError) Unwrap() error { return ErrCertificate }

// Send queues a record. It never blocks; after the connection has ended it
// does nothing.
func (v *Viewer) Send(r input.Record) {
	if dropped := v.q.add(r); dropped > 0 {
		v.log.Warn("media input dropped", "records", dropped)
	}
}

// Waiting is the number of records that are not on their way yet.
func (v *Viewer) Waiting() int { return v.q.len() }

// Drawn is closed after the first frame is drawn.
func (v *Viewer) Drawn() <-chan struct{} { return v.drawn }

// Quiet has something to receive after the media end's sign of life was late.
func (v *Viewer) Quiet() <-chan struct{} { return v.quiet }

// Touch sends something to the media end. Where nobody listens there any more
// its host says so, and the connection ends at once.
func (v *Viewer) Touch() { poke(v.touch) }

// poke leaves something to receive in a channel of capacity 1.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Done is closed when the connection has ended and everything is freed.
func (v *Viewer) Done() <-chan struct{} { return v.done }

// Err says why the connection has ended: a *Closed when the media end closed
// it, ErrClosed after Close, nil while it lives.
func (v *Viewer) Err() error {
	select {
	case <-v.over:
		return v.err
	default:
		return nil
	}
}

// Close ends the connection at once.
func (v *Viewer) Close(reason string) {
	v.end(native.CloseDetached, ErrClosed, reason)
}

// end is the only way to end; the first reason counts.
func (v *Viewer) end(code native.CloseCode, err error, reason string) {
	v.once.Do(func() {
		v.q.close()
		v.err = err
		close(v.over)
		v.conn.CloseWithError(quic.ApplicationErrorCode(code), reason[:min(len(reason), native.MaxReason)])
		v.log.Debug("media connection ended", "reason", err.Error())
	})
}

// lost is end for an error of the connection.
func (v *Viewer) lost(err error) {
	if cause := context.Cause(v.conn.Context()); cause != nil {
		err = cause // of which err is a consequence
	}
	err = v.explain(err)
	v.end(native.CloseDetached, err, "connection lost")
}

// explain makes an error of QUIC one that says what to think of it.
func (v *Viewer) explain(err error) error {
	if app, ok := errors.AsType[*quic.ApplicationError](err); ok && app.Remote {
		return &Closed{native.CloseCode(app.ErrorCode), strings.ToValidUTF8(app.ErrorMessage, "?")}
	}
	if t, ok := errors.AsType[*quic.TransportError](err); ok {
		if pin, ok := errors.AsType[*pinError](err); ok {
			return pin // without QUIC's words round it
		}
		if t.Remote && t.ErrorCode == quic.ConnectionRefused {
			return fmt.Errorf("%w: %v takes no more connections now; try again", ErrGone, v.conf.Addr)
		}
	}
	_, reset := errors.AsType[*quic.StatelessResetError](err)
	_, idle := errors.AsType[*quic.IdleTimeoutError](err)
	_, late := errors.AsType[*quic.HandshakeTimeoutError](err)
	switch {
	case reset:
		return fmt.Errorf("%w: %v was restarted", ErrGone, v.conf.Addr)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nobody listens at %v", ErrGone, v.conf.Addr)
	case idle, late:
		return fmt.Errorf("%w: no answer from %v", ErrSilent, v.conf.Addr)
	case strings.HasPrefix(err.Error(), "viewer: "):
		return err
	}
	return fmt.Errorf("viewer: %w", err)
}

// quietQUIC stops quic-go from writing to the standard logger what it thinks
// of the socket's buffers; they are best effort here.
var quietQUIC = sync.OnceFunc(func() { os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true") })

// wrapped is a connected UDP socket for programs that put something round it.
type wrapped struct{ *net.UDPConn }

func (w wrapped) WriteTo(b []byte, _ net.Addr) (int, error) { return w.Write(b) }

// connected is a connected UDP socket in the form that quic-go wants: it is
// told at once when nobody listens at the other end any more.
type connected struct{ *net.UDPConn }

func (c connected) WriteTo(b []byte, _ net.Addr) (int, error) { return c.Write(b) }

func (c connected) WriteMsgUDP(b, oob []byte, _ *net.UDPAddr) (n, oobn int, err error) {
	return c.UDPConn.WriteMsgUDP(b, oob, nil)
}
