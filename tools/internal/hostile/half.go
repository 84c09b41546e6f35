package hostile

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"hotdesk/protocol/native"
)

// A Half is many peers of a media end that begin a connection and come to no
// end: they fall silent in the middle of their first word, or of the handshake,
// or greet a byte at a time. Who is let go begins anew.
type Half struct {
	To    string // ADDRESS:PORT
	Count int
	From  func(n int) net.Addr // the local UDP address of one

	All  atomic.Int32 // connections that were begun
	Done atomic.Int32 // handshakes that were finished
}

// haveDone is how long a peer waits for what it does not want.
const haveDone = 5 * time.Second

// few are the datagrams after which a peer is silent; 0: not before it has
// shaken hands.
var few = []int32{1, 2, 3, 4, 0}

// quietQUIC stops quic-go from writing to the standard logger what it thinks
// of the socket's buffers.
var quietQUIC = sync.OnceFunc(func() { os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true") })

// Hold makes the connections, again and again, till ctx ends.
func (h *Half) Hold(ctx context.Context) {
	quietQUIC()
	var all sync.WaitGroup
	defer all.Wait()
	for n := range h.Count {
		all.Go(func() {
			for ctx.Err() == nil {
				h.begin(ctx, n)
				pause(ctx, slowWord)
			}
		})
	}
}

func (h *Half) begin(ctx context.Context, n int) {
	to, err := net.ResolveUDPAddr("udp4", h.To)
	if err != nil {
		return
	}
	sock, err := net.ListenPacket("udp4", h.From(n).String())
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, haveDone)
	defer cancel()
	falls := &falling{PacketConn: sock}
	falls.left.Store(few[n%len(few)])
	tr := &quic.Transport{Conn: falls}
	defer tr.Close()
	defer sock.Close() // first, so that nobody is told
	h.All.Add(1)
	conn, err := tr.Dial(ctx, to, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{native.ALPN}}, nil)
	if err != nil {
		return
	}
	h.Done.Add(1)
	out, err := conn.OpenUniStream()
	if err != nil {
		return
	}
	for word := append([]byte{byte(native.StreamInput)}, make([]byte, native.HelloSize-1)...); len(word) > 0; word = word[1:] {
		if _, err := out.Write(word[:1]); err != nil {
			return
		}
		pause(conn.Context(), slowWord)
	}
	pause(ctx, haveDone)
}

// A falling socket hears everything, and sends so many datagrams and no more.
type falling struct {
	net.PacketConn
	left atomic.Int32 // 0: there is no end
}

func (f *falling) WriteTo(b []byte, to net.Addr) (int, error) {
	switch f.left.Load() {
	case 0:
		return f.PacketConn.WriteTo(b, to)
	case -1:
		return len(b), nil
	case 1:
		f.left.Store(-1)
	default:
		f.left.Add(-1)
	}
	return f.PacketConn.WriteTo(b, to)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
