package roundtrip

import (
	"bufio"
	"context"
	"crypto/tls"
	"image"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/testutils/simnet"

	"hotdesk/dtu/screen"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/draw"
	"hotdesk/protocol/input"
	"hotdesk/protocol/native"
	"hotdesk/server/session/attach"
	"hotdesk/server/session/attach/attachtest"
	"hotdesk/server/session/encode"
)

// A link is a slow one in memory, in synctest's time: each way so many bytes a
// second, a queue of so long, a delay, and loss.
type link struct {
	rate  float64
	queue time.Duration
	delay time.Duration
	loss  float64
	seed  uint64

	mu    sync.Mutex
	rand  *rand.Rand
	nodes map[string]simnet.PacketReceiver
	busy  map[string]time.Time // until when, by receiver
	bytes map[string]int       // that arrived
}

func (l *link) AddNode(a net.Addr, r simnet.PacketReceiver) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes[a.String()] = r
}

func (l *link) SendPacket(p simnet.Packet) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	to, now := p.To.String(), time.Now()
	start := l.busy[to]
	if start.Before(now) {
		start = now
	}
	if start.Sub(now) > l.queue || l.rand.Float64() < l.loss {
		return nil
	}
	start = start.Add(time.Duration(float64(len(p.Data)+28) / l.rate * float64(time.Second)))
	l.busy[to] = start
	l.bytes[to] += len(p.Data)
	r := l.nodes[to]
	time.AfterFunc(start.Add(l.delay).Sub(now), func() { r.RecvPacket(p) })
	return nil
}

// echoing is a sink that shows each key as a letter.
type echoing struct {
	*attachtest.Sink
	source *attachtest.Source
	n      int
}

func (e *echoing) Key(_ uint16, down bool) {
	if !down {
		return
	}
	e.n++
	r := letterAt(e.n)
	e.source.Change(r, func(p *draw.Pixmap) {
		for y := r.Min.Y; y < r.Max.Y; y++ {
			row := p.Row(y, r.Min.X, r.Max.X)
			for x := range row {
				if (y*7+x/4*3+e.n)%3 == 0 {
					row[x] = 0xff
				}
			}
			row[0] = 0xff
		}
	})
}

// letterAt is where the nth key shows.
func letterAt(n int) image.Rectangle {
	return image.Rect(0, 0, 9, 15).Add(image.Pt(20+n%70*10, 10+n/70*20))
}

// A stay is what a user of a slow link saw.
type stay struct {
	echo   []time.Duration // of each key
	frames int             // of the film, that were seen
	exact  time.Duration   // from its last picture to an exact screen
	down   int
}

// watch types for so many seconds, five keys a second, while a film plays, and
// then waits till the picture is exact.
func watch(t *testing.T, l *link, seconds int) (s stay) {
	l.nodes, l.busy, l.bytes = map[string]simnet.PacketReceiver{}, map[string]time.Time{}, map[string]int{}
	l.rand = rand.New(rand.NewPCG(8, l.seed))
	at := image.Rect(120, 120, 120+480, 120+272)
	film := make([]*draw.Pixmap, 24)
	for i := range film {
		film[i] = clouds(at.Dx(), at.Dy(), i)
	}
	synctest.Test(t, func(t *testing.T) {
		server := simnet.NewBlockingSimConn(&net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 40000}, l)
		id, err := attach.NewIdentity()
		if err != nil {
			t.Fatal(err)
		}
		ep, err := attach.New(attach.Config{Conn: server, Identity: id})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error)
		go func() { served <- ep.Serve(ctx) }()
		src := attachtest.NewSource(800, 600)
		const terminal = alp.TerminalID("0200c0a80001")
		ticket, err := ep.Offer(attach.Spec{Terminal: terminal, Gen: 1, Source: src, Terms: encode.Terms{Motion: true},
			Sink: &echoing{Sink: attachtest.NewSink(), source: src}})
		if err != nil {
			t.Fatal(err)
		}
		sock := simnet.NewBlockingSimConn(&net.UDPAddr{IP: net.IPv4(10, 0, 1, 1), Port: 5000}, l)
		tr := &quic.Transport{Conn: sock}
		conn, err := tr.Dial(ctx, server.LocalAddr(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{native.ALPN}},
			&quic.Config{EnableDatagrams: true, KeepAlivePeriod: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		out, err := conn.OpenUniStream()
		if err != nil {
			t.Fatal(err)
		}
		h := native.Hello{Ticket: [alp.TicketSize]byte(ticket), Gen: 1, Terminal: terminal, Width: 800, Height: 600}
		out.Write(h.Append([]byte{byte(native.StreamInput)}))
		stream, err := conn.AcceptUniStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		scr := screen.New(800, 600)
		dec, in := scr.Attach(), bufio.NewReader(stream)
		in.ReadByte()
		var mu sync.Mutex // guards out
		drawn := make(chan struct{}, 1)
		read := make(chan struct{})
		go func() {
			defer close(read)
			for {
				seq, err := dec.Decode(in)
				if err != nil {
					return
				}
				mu.Lock()
				out.Write(input.Record{Type: input.Ack, Seq: seq}.Append(nil))
				mu.Unlock()
				select {
				case drawn <- struct{}{}:
				default:
				}
			}
		}()
		<-drawn
		begin := time.Now()
		showFrame := func(i int) {
			src.Change(at, func(p *draw.Pixmap) {
				for y := range at.Dy() {
					copy(p.Row(at.Min.Y+y, at.Min.X, at.Max.X), film[i%len(film)].Row(y, 0, at.Dx()))
				}
			})
		}
		frame, key := time.NewTicker(time.Second/24), time.NewTicker(200*time.Millisecond)
		i, pressed, waiting := 0, time.Time{}, 0
		n := 0
		before := [16]byte{}
		for now := begin; now.Sub(begin) < time.Duration(seconds)*time.Second; now = time.Now() {
			select {
			case <-frame.C:
				showFrame(i)
				i++
			case <-key.C:
				if waiting > 0 {
					continue // the last is not there yet
				}
				n++
				waiting, pressed = n, now
				mu.Lock()
				out.Write(input.Record{Type: input.Key, Usage: 4}.Append(input.Record{Type: input.Key, Usage: 4, Down: true}.Append(nil)))
				mu.Unlock()
			case <-drawn:
				p := scr.SnapshotBare()
				if r := letterAt(waiting); waiting > 0 && p.Row(r.Min.Y, r.Min.X, r.Max.X)[0] == 0xff {
					s.echo = append(s.echo, time.Since(pressed))
					waiting = 0
				}
				if now := [16]byte(p.Row(at.Min.Y+136, at.Min.X+100, at.Min.X+104)); now != before {
					before = now
					s.frames++
				}
			}
		}
		frame.Stop()
		key.Stop()
		rested := time.Now()
		for {
			got, exact := scr.SnapshotBare(), false
			src.Change(image.Rectangle{}, func(p *draw.Pixmap) { exact = exactly(got, p) }) // the last key may still be on its way
			if exact {
				break
			}
			select {
			case <-drawn:
			case <-time.After(30 * time.Second):
				t.Fatal("the picture never becomes exact")
			}
		}
		s.exact = time.Since(rested)
		l.mu.Lock()
		s.down = l.bytes[sock.LocalAddr().String()]
		l.mu.Unlock()
		conn.CloseWithError(0, "")
		<-read
		cancel()
		<-served
		tr.Close()
		sock.Close()
		server.Close()
	})
	slices.Sort(s.echo)
	return s
}

func exactly(a, b *draw.Pixmap) bool {
	for y := range b.H {
		ra, rb := a.Row(y, 0, b.W), b.Row(y, 0, b.W)
		for i := range rb {
			if i%4 != 3 && ra[i] != rb[i] {
				return false
			}
		}
	}
	return true
}

// On a slow and lossy link every key is echoed while a film plays, the film goes
// on, and the picture is exact when it rests. How quickly is told, not judged:
// which packets are lost is not the same in each run.
func TestSlowLink(t *testing.T) {
	for _, c := range []struct {
		name string
		link *link
	}{
		{"1 Mbit/s, 50 ms there and back, 2 % loss", &link{rate: 125e3, queue: 200 * time.Millisecond, delay: 25 * time.Millisecond, loss: 0.02, seed: 8}},
		{"10 % loss", &link{rate: 125e3, queue: 200 * time.Millisecond, delay: 25 * time.Millisecond, loss: 0.1, seed: 8}},
		{"100 Mbit/s", &link{rate: 12.5e6, queue: 200 * time.Millisecond, delay: time.Millisecond}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := watch(t, c.link, 10)
			n := len(s.echo)
			if n == 0 {
				t.Fatal("no key was echoed")
			}
			t.Logf("%d keys, echo %v, p90 %v, worst %v; %d pictures; exact after %v; %d bytes", n, s.echo[n/2], s.echo[n*9/10], s.echo[n-1], s.frames, s.exact, s.down)
			if s.frames == 0 {
				t.Error("the film stood still")
			}
		})
	}
}
