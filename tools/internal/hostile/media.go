package hostile

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/quic-go/quic-go"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/native"
)

const (
	// piece is how much of a stream is handed on at once.
	piece = 2 << 10
	// maxEnds bounds the media ends that are remembered.
	maxEnds = 4096
)

// A Media is a media end to terminals and a terminal to media ends: it hands on
// their streams and datagrams, in both directions, and spoils some. A Relay
// sends terminals to it.
type Media struct {
	Cert tls.Certificate // it shows this to terminals
	Seed uint64

	// Wrong is how many pieces of a thousand are spoilt; 0 in the beginning.
	Wrong atomic.Int32
	// Spoilt counts them.
	Spoilt atomic.Int64

	port uint16
	turn atomic.Uint64
	mu   sync.Mutex
	ends map[[alp.TicketSize]byte]netip.AddrPort
}

// Run relays till ctx ends. Terminals are sent to the port of sock.
func (m *Media) Run(ctx context.Context, sock net.PacketConn) error {
	tr := &quic.Transport{Conn: sock}
	defer tr.Close()
	l, err := tr.Listen(&tls.Config{Certificates: []tls.Certificate{m.Cert}, NextProtos: []string{native.ALPN}, MinVersion: tls.VersionTLS13}, m.config())
	if err != nil {
		return err
	}
	defer l.Close()
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		term, err := l.Accept(ctx)
		if err != nil {
			return nil
		}
		all.Go(func() { m.relay(ctx, term) })
	}
}

// Listen says which port terminals are sent to, before Run.
func (m *Media) Listen(at netip.Addr) (net.PacketConn, error) {
	sock, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
	if err == nil {
		m.port, m.ends = sock.LocalAddr().(*net.UDPAddr).AddrPort().Port(), map[[alp.TicketSize]byte]netip.AddrPort{}
	}
	return sock, err
}

func (m *Media) config() *quic.Config { return &quic.Config{EnableDatagrams: true} }

// divert has a line that offers a picture offer it here.
func (m *Media) divert(line []byte, host netip.Addr) []byte {
	msg, err := alp.Parse(line)
	if err != nil || msg.Command != alp.CmdConnInf {
		return line
	}
	inf, err := alp.ParseConnInf(msg)
	if err != nil || inf.MediaPort == 0 || len(inf.Ticket) != alp.TicketSize {
		return line
	}
	m.mu.Lock()
	if len(m.ends) < maxEnds {
		m.ends[[alp.TicketSize]byte(inf.Ticket)] = netip.AddrPortFrom(host, uint16(inf.MediaPort))
	}
	m.mu.Unlock()
	hash := sha256.Sum256(m.Cert.Certificate[0])
	for i := range msg.Keys {
		switch k := &msg.Keys[i]; k.Key {
		case "mediaPort":
			k.Value = strconv.Itoa(int(m.port))
		case "mediaCert":
			k.Value = hex.EncodeToString(hash[:])
		}
	}
	return msg.Append(nil)
}

// rng is one of its own for each stream.
func (m *Media) rng() *rand.Rand { return rand.New(rand.NewPCG(m.Seed, m.turn.Add(1))) }

// relay is the life of a terminal's connection.
func (m *Media) relay(ctx context.Context, term *quic.Conn) {
	end := func(c *quic.Conn, why error) {
		code := quic.ApplicationErrorCode(native.CloseDetached)
		reason := ""
		if app, ok := errors.AsType[*quic.ApplicationError](why); ok {
			code, reason = app.ErrorCode, app.ErrorMessage
		}
		c.CloseWithError(code, reason)
	}
	var all sync.WaitGroup
	defer all.Wait()
	defer context.AfterFunc(ctx, func() { end(term, nil) })()
	in, err := term.AcceptUniStream(ctx)
	if err != nil {
		return
	}
	var hello [1 + native.HelloSize]byte
	if _, err := io.ReadFull(in, hello[:]); err != nil {
		end(term, err)
		return
	}
	h, _, err := native.ParseHello(hello[1:])
	m.mu.Lock()
	to, known := m.ends[h.Ticket]
	m.mu.Unlock()
	if err != nil || !known {
		end(term, nil)
		return
	}
	real, err := quic.DialAddr(ctx, to.String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{native.ALPN}}, m.config())
	if err != nil {
		end(term, err)
		return
	}
	defer context.AfterFunc(ctx, func() { end(real, nil) })()
	all.Go(func() { m.pump(in, real, hello[:]) })
	for _, way := range [][2]*quic.Conn{{term, real}, {real, term}} {
		from, to := way[0], way[1]
		all.Go(func() { // datagrams
			rng := m.rng()
			for {
				b, err := from.ReceiveDatagram(ctx)
				if err != nil {
					return
				}
				if m.wrong(rng) {
					b = flip(rng, b)
				}
				_ = to.SendDatagram(b) // some get lost
			}
		})
		all.Go(func() {
			for {
				s, err := from.AcceptUniStream(ctx)
				if err != nil {
					end(to, context.Cause(from.Context()))
					return
				}
				all.Go(func() { m.pump(s, to, nil) })
			}
		})
	}
}

func (m *Media) wrong(rng *rand.Rand) bool {
	if rng.IntN(1000) >= int(m.Wrong.Load()) {
		return false
	}
	m.Spoilt.Add(1)
	return true
}

// pump hands on one stream, of which first has been read already.
func (m *Media) pump(in *quic.ReceiveStream, to *quic.Conn, first []byte) {
	rng := m.rng()
	out, err := to.OpenUniStreamSync(to.Context())
	if err != nil {
		in.CancelRead(0)
		return
	}
	buf := make([]byte, piece)
	var old []byte
	n := copy(buf, first)
	for {
		if n == 0 {
			if n, err = in.Read(buf); err != nil && n == 0 {
				break
			}
		}
		b := buf[:n]
		n = 0
		if m.wrong(rng) {
			switch rng.IntN(10) {
			case 0: // it ends in the middle
				in.CancelRead(0)
				out.Close()
				return
			case 1:
				in.CancelRead(0)
				out.CancelWrite(quic.StreamErrorCode(rng.Uint32N(9)))
				return
			case 2: // a stream that nobody asked for
				if s, err := to.OpenUniStream(); err == nil {
					_, _ = s.Write(append([]byte{byte(rng.IntN(8))}, noise(rng, 1+rng.IntN(piece))...))
					if rng.IntN(2) == 0 {
						s.Close()
					}
				}
				_ = to.SendDatagram(noise(rng, 1+rng.IntN(1000)))
			case 3: // older words again
				b = old
			case 4: // a piece less
				b = nil
			case 5:
				b = append(append([]byte(nil), b...), b...)
			case 6:
				b = append(append([]byte(nil), b...), noise(rng, 1+rng.IntN(16*piece))...)
			default:
				b = flip(rng, b)
			}
		}
		if len(old) == 0 || rng.IntN(8) == 0 {
			old = append([]byte(nil), b...)
		}
		if _, err := out.Write(b); err != nil {
			in.CancelRead(0)
			return
		}
	}
	if errors.Is(err, io.EOF) {
		out.Close()
		return
	}
	out.CancelWrite(0)
}

// flip changes a bit, a byte, or a run of bytes to what lengths and numbers
// must not be.
func flip(rng *rand.Rand, b []byte) []byte {
	if len(b) == 0 {
		return []byte{byte(rng.Uint32())}
	}
	b = append([]byte(nil), b...)
	n := rng.IntN(len(b))
	switch rng.IntN(4) {
	case 0:
		b[n] ^= 1 << rng.IntN(8)
	case 1:
		b[n] = byte(rng.Uint32())
	case 2:
		for i := n; i < min(n+4, len(b)); i++ {
			b[i] = 0xff
		}
	case 3:
		b = b[:n]
	}
	return b
}

func noise(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}
