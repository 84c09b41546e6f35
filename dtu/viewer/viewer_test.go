package viewer

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"image"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/testutils/simnet"

	"hotdesk/dtu/screen"
	"hotdesk/protocol/draw"
	"hotdesk/protocol/input"
	"hotdesk/protocol/native"
	"hotdesk/server/session/attach"
	"hotdesk/server/session/attach/attachtest"
	"hotdesk/server/session/encode"
)

func taken(t *testing.T, q *queue) []input.Record {
	t.Helper()
	var list []input.Record
	b := q.take(nil)
	for len(b) > 0 {
		r, rest, err := input.Next(b)
		if err != nil {
			t.Fatal(err)
		}
		list, b = append(list, r), rest
	}
	return list
}

// Invariant 2.
func TestQueue(t *testing.T) {
	at := func(x int, buttons byte) input.Record {
		return input.Record{Type: input.Pointer, X: x, Buttons: buttons}
	}
	key := func(down bool) input.Record { return input.Record{Type: input.Key, Usage: 4, Down: down} }
	size := func(w int) input.Record { return input.Record{Type: input.Resize, X: w, Y: 480} }
	ack := func(n uint32) input.Record { return input.Record{Type: input.Ack, Seq: n} }
	for _, x := range []struct {
		name      string
		add, want []input.Record
	}{
		{"motions merge", []input.Record{at(1, 0), at(2, 0), at(3, 0)}, []input.Record{at(3, 0)}},
		{"not across a key", []input.Record{at(1, 0), key(true), at(2, 0)}, []input.Record{at(1, 0), key(true), at(2, 0)}},
		{"not across a button", []input.Record{at(1, 0), at(2, 1), at(3, 1), at(3, 0)}, []input.Record{at(1, 0), at(3, 1), at(3, 0)}},
		{"keys never", []input.Record{key(true), key(true), key(false)}, []input.Record{key(true), key(true), key(false)}},
		{"sizes merge", []input.Record{size(640), size(800)}, []input.Record{size(800)}},
		{"the newest acknowledgement alone, and first", []input.Record{ack(1), key(true), ack(2)}, []input.Record{ack(2), key(true)}},
	} {
		t.Run(x.name, func(t *testing.T) {
			q := queue{more: make(chan struct{}, 1)}
			for _, r := range x.add {
				if r.Type == input.Ack {
					q.drawn(r.Seq, false)
				} else {
					q.add(r)
				}
			}
			if got := taken(t, &q); fmt.Sprint(got) != fmt.Sprint(x.want) {
				t.Errorf("sent %v, want %v", got, x.want)
			}
			if got := taken(t, &q); len(got) > 0 {
				t.Errorf("sent again: %v", got)
			}
		})
	}
	t.Run("overflow", func(t *testing.T) {
		q := queue{more: make(chan struct{}, 1)}
		for range MaxQueue {
			if n := q.add(key(true)); n != 0 {
				t.Fatal("dropped early")
			}
		}
		if n := q.add(key(false)); n != MaxQueue {
			t.Errorf("%d dropped", n)
		}
		if got := taken(t, &q); len(got) != 2 || got[0].Type != input.Release || got[1] != key(false) {
			t.Errorf("sent %v", got)
		}
	})
	t.Run("closed", func(t *testing.T) { // invariant 3
		q := queue{more: make(chan struct{}, 1)}
		q.add(key(true))
		q.close()
		q.add(key(false))
		q.drawn(3, false)
		if got := taken(t, &q); len(got) > 0 {
			t.Errorf("sent %v", got)
		}
	})
}

// An acknowledgement that may be late goes with what is said next, or before the
// second frame's would be late too.
func TestLateAcknowledgements(t *testing.T) {
	q := queue{more: make(chan struct{}, 1)}
	sends := func(what string, want ...input.Record) {
		t.Helper()
		select {
		case <-q.more:
			if got := taken(t, &q); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: sent %v, want %v", what, got, want)
			}
		default:
			if want != nil {
				t.Errorf("%s: nothing is sent, want %v", what, want)
			}
		}
	}
	key := input.Record{Type: input.Key, Usage: 4, Down: true}
	ack := func(n uint32) input.Record { return input.Record{Type: input.Ack, Seq: n} }
	q.drawn(1, false)
	sends("at once", ack(1))
	q.drawn(2, true)
	sends("one that may wait")
	q.add(key)
	sends("a key", ack(2), key)
	q.add(key)
	sends("another key", key)
	q.drawn(3, true)
	sends("the next that may wait")
	q.drawn(4, true)
	sends("a second one", ack(4))
	q.drawn(5, true)
	q.drawn(6, false)
	sends("a large one", ack(6))
	q.hurry()
	sends("no more patience, and nothing waits")
	q.drawn(7, true)
	q.hurry()
	sends("no more patience", ack(7))
}

// A network carries packets between two sockets until it is cut.
type network struct {
	mu    sync.Mutex
	nodes map[string]simnet.PacketReceiver
	cut   bool
	lose  int // so many of the media end's next packets
	bytes int // sent so far, with the headers of Ethernet, IPv4 and UDP
}

func (n *network) AddNode(a net.Addr, r simnet.PacketReceiver) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes[a.String()] = r
}

func (n *network) SendPacket(p simnet.Packet) error {
	n.mu.Lock()
	r, cut := n.nodes[p.To.String()], n.cut
	if n.lose > 0 && p.From.String() == serverAddr.String() {
		n.lose--
		cut = true
	}
	n.bytes += len(p.Data) + 14 + 4 + 20 + 8
	n.mu.Unlock()
	if r != nil && !cut {
		r.RecvPacket(p)
	}
	return nil
}

func (n *network) sever() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = true
}

var (
	serverAddr = netip.MustParseAddrPort("10.0.0.1:40000")
	clientAddr = netip.MustParseAddrPort("10.0.0.2:5000")
)

func socket(n *network, a netip.AddrPort) *simnet.SimConn {
	return simnet.NewBlockingSimConn(net.UDPAddrFromAddrPort(a), n)
}

// inBubble runs f with a viewer that shows something, where time is
// synctest's.
func inBubble(t *testing.T, period time.Duration, f func(*testing.T, *network, *attachtest.Source, *Viewer)) {
	attached(t, period, 0, func(t *testing.T, n *network, d *dark, v *Viewer) {
		<-v.Drawn()
		f(t, n, d.Source, v)
	})
}

// attached runs f with a viewer of what is dark the first so many times.
func attached(t *testing.T, period time.Duration, till int32, f func(*testing.T, *network, *dark, *Viewer)) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{nodes: map[string]simnet.PacketReceiver{}}
		id, err := attach.NewIdentity()
		if err != nil {
			t.Fatal(err)
		}
		conn := socket(n, serverAddr)
		ep, err := attach.New(attach.Config{Conn: conn, Identity: id, AlivePeriod: period})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error)
		go func() { served <- ep.Serve(ctx) }()
		defer func() {
			cancel()
			if err := <-served; err != nil {
				t.Error(err)
			}
			conn.Close()
		}()
		source := &dark{Source: attachtest.NewSource(64, 64), till: till}
		ticket, err := ep.Offer(attach.Spec{Terminal: "0200c0a80001", Gen: 1, Source: source, Sink: attachtest.NewSink()})
		if err != nil {
			t.Fatal(err)
		}
		c := config(id.CertHash())
		c.Hello.Ticket = [32]byte(ticket)
		v, err := dial(context.Background(), c, socket(n, clientAddr))
		if err != nil {
			t.Fatal(err)
		}
		f(t, n, source, v)
		v.Close("test over")
		<-v.Done()
	})
}

func config(cert [sha256.Size]byte) Config {
	return Config{Addr: serverAddr, Cert: cert, Decoder: screen.New(64, 64).Attach(),
		Hello: native.Hello{Gen: 1, Terminal: "0200c0a80001", Width: 64, Height: 64}}
}

func TestSilence(t *testing.T) {
	inBubble(t, 0, func(t *testing.T, n *network, _ *attachtest.Source, v *Viewer) {
		<-time.After(time.Minute)
		if err := v.Err(); err != nil {
			t.Fatalf("after a minute in which nothing happened: %v", err)
		}
		at := time.Now()
		n.sever()
		<-v.Done()
		if d := time.Since(at); !errors.Is(v.Err(), ErrSilent) || d > native.DeadAfter || d < native.DeadAfter-native.AlivePeriod {
			t.Errorf("ended after %v with %v", d, v.Err())
		}
	})
}

// A dark source has nothing to show, for a time.
type dark struct {
	*attachtest.Source
	views atomic.Int32
	till  int32
}

func (d *dark) View(f func(encode.View)) {
	if d.views.Add(1) > d.till {
		d.Source.View(f)
	}
}

// TestNoPicture: a media end that lives and sends no picture is left in bounded
// time, and not where the picture is late, or where it never changes again.
func TestNoPicture(t *testing.T) {
	attached(t, 0, 1<<20, func(t *testing.T, _ *network, _ *dark, v *Viewer) {
		at := time.Now()
		<-v.Done()
		if d := time.Since(at); !errors.Is(v.Err(), ErrNoPicture) || d < PictureWithin || d > PictureWithin+native.AlivePeriod {
			t.Errorf("ended after %v with %v", d, v.Err())
		}
	})
	attached(t, 0, 1, func(t *testing.T, _ *network, late *dark, v *Viewer) {
		<-time.After(PictureWithin - native.AlivePeriod)
		late.Change(image.Rect(0, 0, 8, 8), func(*draw.Pixmap) {})
		<-v.Drawn()
		<-time.After(2 * PictureWithin)
		if err := v.Err(); err != nil {
			t.Error(err)
		}
	})
}

// TestQuiet: a sign of life that is late is told before silence ends it, and
// only then.
func TestQuiet(t *testing.T) {
	inBubble(t, 0, func(t *testing.T, n *network, _ *attachtest.Source, v *Viewer) {
		<-time.After(time.Minute)
		select {
		case <-v.Quiet():
			t.Error("quiet though Alive came in time")
		default:
		}
		at := time.Now()
		n.sever()
		<-v.Quiet()
		if d := time.Since(at); d > native.QuietAfter(native.AlivePeriod) {
			t.Errorf("told after %v", d)
		}
		<-v.Done()
	})
}

// TestOneLost: of the Alive any one may be lost.
func TestOneLost(t *testing.T) {
	inBubble(t, 0, func(t *testing.T, n *network, _ *attachtest.Source, v *Viewer) {
		for range 100 {
			n.mu.Lock()
			n.lose = 1
			n.mu.Unlock()
			<-time.After(3 * native.AlivePeriod)
		}
		if err := v.Err(); err != nil {
			t.Error(err)
		}
		select {
		case <-v.Quiet():
		default:
			t.Error("nothing was lost")
		}
	})
}

// TestIdleCost: what a session that is shown and rests costs on the wire, both
// ways. Control adds a keepAliveReq and its answer every 20 s.
func TestIdleCost(t *testing.T) {
	inBubble(t, 0, func(t *testing.T, n *network, _ *attachtest.Source, v *Viewer) {
		<-time.After(time.Minute) // QUIC has found the size of the path's packets
		count := func() int { n.mu.Lock(); defer n.mu.Unlock(); return n.bytes }
		const minutes = 10
		before := count()
		<-time.After(minutes * time.Minute)
		media := float64(count()-before) * 8 / (minutes * 60)
		const line, tcp = 200, 14 + 4 + 20 + 32 + 22 // at most; headers of Ethernet, IPv4, TCP and TLS
		control := float64(2*(line+tcp)+2*tcp) * 8 / 20
		t.Logf("media %.0f bit/s, control at most %.0f bit/s", media, control)
		if media+control > 3000 {
			t.Errorf("an idle terminal costs %.0f bit/s", media+control)
		}
	})
}

func TestSilenceAtAnIdleScreen(t *testing.T) {
	inBubble(t, native.AlivePeriodIdle, func(t *testing.T, n *network, _ *attachtest.Source, v *Viewer) {
		<-time.After(10 * time.Minute)
		if err := v.Err(); err != nil {
			t.Fatalf("after ten minutes in which nothing happened: %v", err)
		}
		at := time.Now()
		n.sever()
		<-v.Done()
		if d := time.Since(at); !errors.Is(v.Err(), ErrSilent) || d > native.SilentAfter(native.AlivePeriodIdle) || d < native.SilentAfter(native.AlivePeriodIdle)-native.AlivePeriodIdle {
			t.Errorf("ended after %v with %v", d, v.Err())
		}
	})
}

func TestNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{nodes: map[string]simnet.PacketReceiver{}}
		at := time.Now()
		_, err := dial(context.Background(), config([sha256.Size]byte{}), socket(n, clientAddr))
		if d := time.Since(at); !errors.Is(err, ErrSilent) || d != DialWithin {
			t.Errorf("after %v: %v", d, err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		if _, err := dial(ctx, config([sha256.Size]byte{}), socket(n, clientAddr)); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

// A media end that shakes hands and does what its script says.
func withScript(t *testing.T, script func(*quic.Conn), f func(*testing.T, *Viewer)) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{nodes: map[string]simnet.PacketReceiver{}}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		conn := socket(n, serverAddr)
		tr := &quic.Transport{Conn: conn}
		ln, err := tr.Listen(&tls.Config{NextProtos: []string{native.ALPN},
			Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &quic.Config{EnableDatagrams: true})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			c, err := ln.Accept(context.Background())
			if err != nil {
				t.Error(err)
				return
			}
			script(c)
			<-c.Context().Done()
		})
		v, err := dial(context.Background(), config(sha256.Sum256(der)), socket(n, clientAddr))
		if err != nil {
			t.Fatal(err)
		}
		f(t, v)
		v.Close("test over")
		<-v.Done()
		wg.Wait()
		tr.Close()
		conn.Close()
	})
}

func TestSilentFromTheStart(t *testing.T) {
	withScript(t, func(*quic.Conn) {}, func(t *testing.T, v *Viewer) {
		at := time.Now()
		<-v.Done()
		if d := time.Since(at); !errors.Is(v.Err(), ErrSilent) || d != FirstWithin {
			t.Errorf("after %v: %v", d, v.Err())
		}
	})
}

func TestDisplayStreamEnds(t *testing.T) {
	withScript(t, func(c *quic.Conn) {
		later, _ := c.OpenUniStream() // of a kind that this version does not know
		later.Write([]byte{99, 1, 2, 3})
		<-later.Context().Done()
		s, _ := c.OpenUniStream()
		s.Write([]byte{byte(native.StreamDisplay)})
		s.Close()
	}, func(t *testing.T, v *Viewer) {
		<-v.Done()
		if err := v.Err(); err == nil || err.Error() != "viewer: the media end has stopped sending the picture" {
			t.Error(err)
		}
	})
}

func TestHelloAndInputOnTheWire(t *testing.T) {
	got := make(chan []byte, 1)
	withScript(t, func(c *quic.Conn) {
		in, err := c.AcceptUniStream(context.Background())
		if err != nil {
			return
		}
		b := make([]byte, 1+native.HelloSize+5)
		io.ReadFull(bufio.NewReader(in), b)
		got <- b
	}, func(t *testing.T, v *Viewer) {
		v.Send(input.Record{Type: input.Wheel, Y: -2})
		want := config([sha256.Size]byte{}).Hello.Append([]byte{byte(native.StreamInput)})
		want = append(want, 3, 0, 0, 0xff, 0xfe)
		if b := <-got; string(b) != string(want) {
			t.Errorf("sent % x\nwant % x", b, want)
		}
	})
}
