package attach

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/testutils/simnet"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/draw"
	"hotdesk/protocol/input"
	"hotdesk/protocol/native"
	"hotdesk/server/session/attach/attachtest"
)

const terminal = alp.TerminalID("0200c0a80001")

// A bubble is a media end and its terminals on a network in memory, where time
// is synctest's.
type bubble struct {
	t     *testing.T
	net   *network
	ep    *Endpoint
	addr  *net.UDPAddr
	log   *logLines
	hosts byte
}

// inBubble runs f with a media end.
func inBubble(t *testing.T, period time.Duration, f func(*bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{t: t, net: &network{nodes: map[string]simnet.PacketReceiver{}}, log: new(logLines)}
		b.addr = &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 40000}
		conn := simnet.NewBlockingSimConn(b.addr, b.net)
		id, err := NewIdentity()
		if err != nil {
			t.Fatal(err)
		}
		b.ep, err = New(Config{Conn: conn, Identity: id, AlivePeriod: period, Log: slog.New(slog.NewTextHandler(b.log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error)
		go func() { served <- b.ep.Serve(ctx) }()
		defer func() {
			cancel()
			if err := <-served; err != nil {
				t.Error(err)
			}
			conn.Close()
			if left := b.left(); left != [3]int{} {
				t.Errorf("left: %d pending, %d of them strangers, %d live", left[0], left[1], left[2])
			}
		}()
		f(b)
	})
}

// left counts pending connections, strangers and attachments when all is quiet.
func (b *bubble) left() [3]int {
	synctest.Wait()
	b.ep.mu.Lock()
	defer b.ep.mu.Unlock()
	return [3]int{b.ep.pending, b.ep.strangers, len(b.ep.live)}
}

// A network carries packets; cut ones vanish.
type network struct {
	mu    sync.Mutex
	nodes map[string]simnet.PacketReceiver
	cut   map[string]bool // by sender
	delay time.Duration   // each way
}

func (n *network) AddNode(a net.Addr, r simnet.PacketReceiver) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes[a.String()] = r
}

func (n *network) SendPacket(p simnet.Packet) error {
	n.mu.Lock()
	delay := n.delay
	n.mu.Unlock()
	if delay > 0 {
		time.AfterFunc(delay, func() { n.arrive(p) })
	} else {
		n.arrive(p)
	}
	return nil
}

func (n *network) arrive(p simnet.Packet) {
	n.mu.Lock()
	r := n.nodes[p.To.String()]
	cut := n.cut[p.From.String()]
	n.mu.Unlock()
	if r != nil && !cut {
		r.RecvPacket(p)
	}
}

// silence drops what arrives from c from now on; nil: nothing is dropped any more.
func (n *network) silence(c *client) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = nil
	if c != nil {
		n.cut = map[string]bool{c.sock.LocalAddr().String(): true}
	}
}

// far makes a round trip take as long.
func (n *network) far(rtt time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay = rtt / 2
}

// A client is a terminal that does only what a test tells it to.
type client struct {
	t    testing.TB
	sock *simnet.SimConn
	tr   *quic.Transport
	conn *quic.Conn
	out  *quic.SendStream
	r    *bufio.Reader
}

// dial connects from a new address.
func (b *bubble) dial() (*client, error) {
	b.hosts++
	c := &client{t: b.t, sock: simnet.NewBlockingSimConn(b.host(b.hosts), b.net)}
	c.tr = &quic.Transport{Conn: c.sock}
	var err error
	c.conn, err = c.tr.Dial(context.Background(), b.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{native.ALPN}},
		&quic.Config{EnableDatagrams: true, MaxIdleTimeout: time.Minute})
	if err != nil {
		c.tr.Close()
		c.sock.Close()
	}
	return c, err
}

// host is the address of the nth client.
func (b *bubble) host(n byte) *net.UDPAddr {
	return &net.UDPAddr{IP: net.IPv4(10, 0, 1, n), Port: 5000}
}

func (c *client) close() {
	c.conn.CloseWithError(0, "the test is over")
	c.tr.Close()
	c.sock.Close()
}

// send writes to the input stream.
func (c *client) send(b []byte) {
	c.t.Helper()
	if c.out == nil {
		var err error
		if c.out, err = c.conn.OpenUniStream(); err != nil {
			c.t.Fatal(err)
		}
	}
	if _, err := c.out.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) record(r input.Record) { c.t.Helper(); c.send(r.Append(nil)) }

func (c *client) ack(seq uint32) { c.t.Helper(); c.record(input.Record{Type: input.Ack, Seq: seq}) }

// frame reads the next frame without acknowledging it.
func (c *client) frame() draw.Header {
	c.t.Helper()
	if c.r == nil {
		s, err := c.conn.AcceptUniStream(context.Background())
		if err != nil {
			c.t.Fatal(err)
		}
		c.r = bufio.NewReader(s)
		if k, err := c.r.ReadByte(); err != nil || native.Kind(k) != native.StreamDisplay {
			c.t.Fatalf("the first stream is of kind %d, %v", k, err)
		}
	}
	var b []byte
	for {
		x, err := c.r.ReadByte()
		if err != nil {
			c.t.Fatal(err)
		}
		b = append(b, x)
		if h, _, err := draw.ParseHeader(b); err == nil {
			if _, err := io.CopyN(io.Discard, c.r, int64(h.Packed)); err != nil {
				c.t.Fatal(err)
			}
			return h
		}
	}
}

// closed waits for the media end to close the connection.
func (c *client) closed(code native.CloseCode, reason string) {
	c.t.Helper()
	<-c.conn.Context().Done()
	app, ok := context.Cause(c.conn.Context()).(*quic.ApplicationError)
	if !ok || !app.Remote || native.CloseCode(app.ErrorCode) != code || !strings.Contains(app.ErrorMessage, reason) {
		c.t.Errorf("closed with %v, want code %d, %q", context.Cause(c.conn.Context()), code, reason)
	}
	c.close()
}

// A shown is a source and a sink on offer.
type shown struct {
	source *attachtest.Source
	sink   *attachtest.Sink
	spec   Spec
	events chan string
}

func newShown(gen uint64) *shown {
	s := &shown{source: attachtest.NewSource(64, 64), sink: attachtest.NewSink(), events: make(chan string, 100)}
	s.spec = Spec{Terminal: terminal, Gen: gen, Source: s.source, Sink: s.sink,
		Attached: func() { s.events <- "attached" }, Detached: func(r string) { s.events <- "detached: " + r }}
	return s
}

func hello(spec Spec, ticket []byte) []byte {
	h := native.Hello{Ticket: [alp.TicketSize]byte(ticket), Gen: spec.Gen, Terminal: spec.Terminal, Width: 640, Height: 480}
	return h.Append([]byte{byte(native.StreamInput)})
}

// attach connects a client to s and reads the first frame.
func (b *bubble) attach(s *shown) *client {
	b.t.Helper()
	ticket, err := b.ep.Offer(s.spec)
	if err != nil {
		b.t.Fatal(err)
	}
	c, err := b.dial()
	if err != nil {
		b.t.Fatal(err)
	}
	c.send(hello(s.spec, ticket))
	if h := c.frame(); h.Seq != 1 {
		b.t.Fatalf("the first frame is %d", h.Seq)
	}
	s.event(b.t, "attached")
	return c
}

func (s *shown) event(t *testing.T, want string) {
	t.Helper()
	if got := <-s.events; !strings.HasPrefix(got, want) {
		t.Errorf("event %q, want %q", got, want)
	}
}

func expect(t *testing.T, s *attachtest.Sink, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := s.Next(); got != w {
			t.Fatalf("sink got %q, want %q", got, w)
		}
	}
}

// pass lets d of the bubble's time go by, and everything happen that then can.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func addr4(a *net.UDPAddr) netip.Addr { return a.AddrPort().Addr().Unmap() }

type logLines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
