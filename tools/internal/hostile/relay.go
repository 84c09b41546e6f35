package hostile

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// A Relay is a gateway to terminals and a terminal to the gateway. It hands on
// their lines, and spoils some.
type Relay struct {
	To     string      // the gateway
	Server *tls.Config // it shows this to terminals
	Client *tls.Config // and this to the gateway
	Media  *Media      // terminals are sent there for their pictures; nil: where the gateway says
	Seed   uint64

	// Wrong is how many lines of a thousand are spoilt, dropped, said twice,
	// or are replaced by an older one; 0 in the beginning.
	Wrong atomic.Int32
	// Spoilt counts them.
	Spoilt atomic.Int64
}

// Run relays till ctx ends or the listener is closed.
func (r *Relay) Run(ctx context.Context, l net.Listener) {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for n := uint64(0); ; n++ {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		all.Go(func() { r.relay(ctx, tls.Server(conn, r.Server), n) })
	}
}

func (r *Relay) relay(ctx context.Context, term net.Conn, n uint64) {
	defer term.Close()
	d := tls.Dialer{Config: r.Client}
	gate, err := d.DialContext(ctx, "tcp", r.To)
	if err != nil {
		return
	}
	defer gate.Close()
	defer context.AfterFunc(ctx, func() { term.Close(); gate.Close() })()
	var ways sync.WaitGroup
	for way, c := range [][2]net.Conn{{term, gate}, {gate, term}} {
		ways.Go(func() {
			defer c[0].Close()
			defer c[1].Close()
			r.pump(c[0], c[1], rand.New(rand.NewPCG(r.Seed, n<<1|uint64(way))))
		})
	}
	ways.Wait()
}

// pump hands on the lines of one way.
func (r *Relay) pump(from, to net.Conn, rng *rand.Rand) {
	in := bufio.NewReaderSize(from, MaxSpoilt)
	peer, err := netip.ParseAddrPort(from.RemoteAddr().String())
	if err != nil {
		return
	}
	var old [][]byte
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		if r.Media != nil { // terminals offer nothing
			line = r.Media.divert(line, peer.Addr())
		}
		out := line
		if rng.IntN(1000) < int(r.Wrong.Load()) {
			r.Spoilt.Add(1)
			switch rng.IntN(5) {
			case 0:
				out = nil
			case 1:
				out = bytes.Repeat(line, 2)
			case 2:
				if len(old) > 0 {
					out = old[rng.IntN(len(old))]
					break
				}
				fallthrough
			default:
				out = append(Spoil(rng, bytes.TrimSuffix(line, []byte("\n"))), '\n')
			}
		}
		if len(old) < 32 {
			old = append(old, bytes.Clone(line))
		}
		if _, err := to.Write(out); err != nil {
			return
		}
	}
}
