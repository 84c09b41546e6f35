package control

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/smartcard/identity"
)

// A conn is one control connection. Its fields from t on are the owner's.
type conn struct {
	nc   net.Conn // below TLS: closing it waits for nothing
	addr netip.Addr
	out  chan []byte // to the writer; closed by the owner at the end

	channel [identity.ChannelSize]byte // the connection's name within TLS
	key     terminalKey                // that the terminal has shown there

	t       *terminal // nil until it named one
	proven  proven
	told    time.Time // by which rules cards are named; zero: it was not
	pinning bool      // its key is being registered
	closed  bool
	refused error // why its owner may not be the terminal that it named
	bad     int   // lines that were wrong
}

// serve is the reader of one connection, from its handshake on.
func (s *Server) serve(ctx context.Context, nc net.Conn) {
	defer nc.Close()
	peer := nc.RemoteAddr().String()
	seat, err := s.gate.enter(ctx, nc)
	if err != nil {
		s.gate.notes.note(func(more ...any) {
			s.log.Warn("control connection refused", append([]any{"peer", peer, "reason", err.Error()}, more...)...)
		})
		return
	}
	defer s.gate.leave(seat)
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	nc.SetDeadline(time.Now().Add(GreetWithin))
	stream := nc
	var name [identity.ChannelSize]byte
	var key terminalKey
	if s.conf.TLS != nil {
		sec := tls.Server(nc, s.conf.TLS)
		if err := sec.HandshakeContext(ctx); err != nil {
			s.lost(ctx, seat, peer, fmt.Errorf("handshake: %w", err))
			return
		}
		p := sec.ConnectionState().NegotiatedProtocol
		if p == adminapi.PeerALPN && s.conf.Peers != nil {
			s.gate.named(seat) // by its certificate
			nc.SetDeadline(time.Time{})
			s.conf.Peers(sec)
			return
		}
		if p != alp.ALPN { // it named none
			s.lost(ctx, seat, peer, errNoALPN)
			return
		}
		if name, err = channel(sec); err != nil {
			s.lost(ctx, seat, peer, fmt.Errorf("handshake: %w", err))
			return
		}
		key = keyOf(sec.ConnectionState())
		stream = sec
	}
	c := &conn{nc: nc, addr: address(nc), out: make(chan []byte, maxQueued), channel: name, key: key}
	if !s.post(func() { s.conns[c] = struct{}{} }) {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.write(c, stream) })
	err = s.read(c, stream, seat)
	s.lost(ctx, seat, peer, err)
	if !s.post(func() { s.connLost(c) }) && !c.closed {
		close(c.out) // the owner has stopped and will not
	}
	wg.Wait()
}

// lost logs why a connection ended: quietly where it was nobody's, so that
// strangers cannot fill the log.
func (s *Server) lost(ctx context.Context, seat *seat, peer string, err error) {
	if ctx.Err() != nil {
		return
	}
	reason := "closed by the terminal"
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		reason = "nothing came for too long"
	case errors.Is(err, errClosing):
		return // whoever closed it has logged why
	case errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe):
		if !seat.evicted() {
			return
		}
		reason = "too many connections that say nothing"
	case err != io.EOF:
		reason = err.Error()
	}
	if seat.named {
		s.notes.note(func(more ...any) {
			s.log.Info("control connection ended", append([]any{"terminal", seat.terminal, "peer", peer, "reason", reason}, more...)...)
		})
		return
	}
	s.gate.notes.note(func(more ...any) {
		s.log.Info("control connection of no terminal ended", append([]any{"peer", peer, "reason", reason}, more...)...)
	})
}

var (
	errNoALPN   = errors.New("handshake: the peer does not speak " + alp.ALPN)
	errClosing  = errors.New("control: closing")
	errTooLong  = fmt.Errorf("control: a line of more than %d bytes", alp.MaxLine)
	errTooMany  = errors.New("control: too many connections")
	errNoFinish = errors.New("control: the line ends in the middle")
)

// read hands lines to the owner until the connection ends.
func (s *Server) read(c *conn, stream net.Conn, seat *seat) error {
	r := bufio.NewReaderSize(stream, alp.MaxLine)
	pace := pace{n: lineBurst, at: time.Now()}
	for {
		line, err := readLine(r)
		if err != nil && err != errTooLong {
			return err
		}
		var m alp.Message
		if err == nil {
			m, err = alp.Parse(line)
		}
		if wait := pace.next(time.Now()); wait > 0 {
			select {
			case <-time.After(wait):
			case <-s.stopped:
				return errClosing
			}
		}
		// The owner answers before the next line is read, so that a peer
		// that does not read cannot make work.
		done := make(chan alp.TerminalID, 1)
		if !s.post(func() { done <- s.line(c, m, err) }) {
			return errClosing
		}
		select {
		case id := <-done:
			switch {
			case id == "" && err == errTooLong:
				return errClosing
			case id != "" && !seat.named:
				seat.terminal, seat.named = id, true
				s.gate.named(seat)
			}
		case <-s.stopped:
			return errClosing
		}
		if seat.named {
			c.nc.SetReadDeadline(time.Now().Add(SilentAfter))
		}
	}
}

// Lines of one connection: so many at once, then so many a second.
const (
	lineBurst = 128
	lineRate  = 64
)

// A pace is how many lines a connection may have handled now.
type pace struct {
	n  float64
	at time.Time
}

// next takes one line and returns how long it has to wait.
func (p *pace) next(now time.Time) time.Duration {
	p.n = min(lineBurst, p.n+now.Sub(p.at).Seconds()*lineRate) - 1
	p.at = now
	return time.Duration(max(0, -p.n) / lineRate * float64(time.Second))
}

// readLine returns the next line that is not empty, without its end. What it
// returns is good until the next call.
func readLine(r *bufio.Reader) ([]byte, error) {
	line := make([]byte, 0, 256)
	for {
		b, err := r.ReadByte()
		switch {
		case err == io.EOF && len(line) > 0:
			return nil, errNoFinish
		case err != nil:
			return nil, err
		case b != '\n' && b != '\r' && b != 0:
			if len(line) == alp.MaxLine-1 {
				return nil, errTooLong
			}
			line = append(line, b)
		case len(line) > 0:
			return line, nil
		}
	}
}

// write sends lines until c.out is closed, then closes the connection.
func (s *Server) write(c *conn, stream net.Conn) {
	for line := range c.out {
		c.nc.SetWriteDeadline(time.Now().Add(WriteWithin))
		if _, err := stream.Write(line); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				s.log.Warn("control connection ended", "peer", c.nc.RemoteAddr().String(), "reason", "the terminal does not read")
			}
			break
		}
	}
	stream.Close()
	c.nc.Close()
	for range c.out { // until the owner knows
	}
}

func address(nc net.Conn) netip.Addr {
	ap, err := netip.ParseAddrPort(nc.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// A gate bounds the connections: all of them, and those that have not yet said
// who they are. Of the latter the oldest makes room when it must, of the
// address that has most: a flood from one address costs the others nothing. No
// address has more of all than are left, so that one alone has half of them at
// most, and each that does the same half of what the others left.
type gate struct {
	most, half int

	mu    sync.Mutex
	all   int
	held  map[netip.Addr]int // of them by address
	young []*seat            // half open, oldest first
	freed chan struct{}      // closed when young gets shorter

	notes notes // of what strangers cause
}

// A seat is a connection that was let in. named and terminal are the
// reader's.
type seat struct {
	nc       net.Conn
	addr     netip.Addr
	named    bool
	terminal alp.TerminalID
	gate     *gate
	out      bool // evicted; under gate.mu
}

func newGate(most, half int) *gate {
	return &gate{most: most, half: half, held: map[netip.Addr]int{}, freed: make(chan struct{}), notes: notes{burst: 20, rate: 1}}
}

// roomWithin is how long a new connection waits for the half-open ones before
// the oldest of them is closed.
const roomWithin = 100 * time.Millisecond

func (g *gate) enter(ctx context.Context, nc net.Conn) (*seat, error) {
	s := &seat{nc: nc, addr: address(nc), gate: g}
	g.mu.Lock()
	if g.all >= g.most || g.held[s.addr] >= g.most-g.all {
		g.mu.Unlock()
		return nil, errTooMany
	}
	g.all++
	g.held[s.addr]++
	if len(g.young) >= g.half {
		freed := g.freed
		g.mu.Unlock()
		select {
		case <-freed:
		case <-time.After(roomWithin):
		case <-ctx.Done():
		}
		g.mu.Lock()
	}
	defer g.mu.Unlock()
	if len(g.young) >= g.half {
		oldest := g.oldest()
		oldest.out = true
		g.drop(oldest)
		oldest.nc.Close()
	}
	g.young = append(g.young, s)
	return s, nil
}

// oldest is the first half-open one of the address that has most. g.mu is held.
func (g *gate) oldest() *seat {
	count := map[netip.Addr]int{}
	most := 0
	for _, s := range g.young {
		count[s.addr]++
		most = max(most, count[s.addr])
	}
	return g.young[slices.IndexFunc(g.young, func(s *seat) bool { return count[s.addr] == most })]
}

// drop takes s out of the half-open ones. g.mu is held.
func (g *gate) drop(s *seat) {
	if i := slices.Index(g.young, s); i >= 0 {
		g.young = slices.Delete(g.young, i, i+1)
		close(g.freed)
		g.freed = make(chan struct{})
	}
}

func (g *gate) named(s *seat) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drop(s)
}

func (g *gate) leave(s *seat) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.held[s.addr]--; g.held[s.addr] <= 0 {
		delete(g.held, s.addr)
	}
	g.drop(s)
}

func (s *seat) evicted() bool {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	return s.out
}
