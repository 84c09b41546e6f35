package viewer_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hotdesk/dtu/screen"
	"hotdesk/dtu/viewer"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/draw"
	"hotdesk/protocol/input"
	"hotdesk/protocol/native"
	"hotdesk/server/session/attach"
	"hotdesk/server/session/attach/attachtest"
	"hotdesk/server/session/encode"
)

const terminal = alp.TerminalID("0200c0a80001")

// patience bounds waits for what must come; only a failing test waits it out.
const patience = 20 * time.Second

// An end is a media end on loopback.
type end struct {
	t    testing.TB
	ep   *attach.Endpoint
	id   *attach.Identity
	conn *net.UDPConn
	log  *logLines
	stop func()
}

func newEnd(t testing.TB, id *attach.Identity, addr netip.AddrPort) *end {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	if id == nil {
		if id, err = attach.NewIdentity(); err != nil {
			t.Fatal(err)
		}
	}
	e := &end{t: t, id: id, conn: conn, log: new(logLines)}
	e.ep, err = attach.New(attach.Config{Conn: conn, Identity: id, Log: slog.New(slog.NewTextHandler(e.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- e.ep.Serve(ctx) }()
	e.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		conn.Close()
	})
	t.Cleanup(func() { e.stop() })
	return e
}

func loopback(port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))
}

func (e *end) addr() netip.AddrPort { return loopback(e.ep.Port()) }

// A shown is a source and a sink on offer.
type shown struct {
	source   *attachtest.Source
	sink     *attachtest.Sink
	attached chan struct{}
	detached chan string
	spec     attach.Spec
}

func newShown(w, h int) *shown {
	s := &shown{source: attachtest.NewSource(w, h), sink: attachtest.NewSink(), attached: make(chan struct{}, 100), detached: make(chan string, 100)}
	s.spec = attach.Spec{Terminal: terminal, Addr: netip.MustParseAddr("127.0.0.1"), Gen: 1, Source: s.source, Sink: s.sink,
		Attached: func() { s.attached <- struct{}{} }, Detached: func(r string) { s.detached <- r }}
	return s
}

// config is what a terminal that was given the ticket of spec dials with.
func (e *end) config(spec attach.Spec, s *screen.Screen) viewer.Config {
	e.t.Helper()
	ticket, err := e.ep.Offer(spec)
	if err != nil {
		e.t.Fatal(err)
	}
	return viewer.Config{Addr: e.addr(), Cert: e.id.CertHash(), Decoder: s.Attach(),
		Hello: native.Hello{Ticket: [32]byte(ticket), Gen: spec.Gen, Terminal: spec.Terminal, Width: 640, Height: 480}}
}

func dial(t testing.TB, c viewer.Config) *viewer.Viewer {
	t.Helper()
	v, err := viewer.Dial(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close("test over"); <-v.Done() })
	return v
}

func wait[T any](t testing.TB, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("no %s", what)
	}
	return v
}

func expect(t testing.TB, s *attachtest.Sink, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := s.Next(); got != w {
			t.Fatalf("sink got %q, want %q", got, w)
		}
	}
}

type logLines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logLines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

// A watched decoder tells after each frame.
type watched struct {
	viewer.Decoder
	frames chan uint32
}

func (w watched) Decode(r *bufio.Reader) (uint32, error) {
	seq, err := w.Decoder.Decode(r)
	if err == nil {
		w.frames <- seq
	}
	return seq, err
}

func same(a, b *draw.Pixmap) bool {
	if a.W != b.W || a.H != b.H {
		return false
	}
	for y := range a.H {
		ra, rb := a.Row(y, 0, a.W), b.Row(y, 0, b.W)
		for i := range ra {
			if i%4 != 3 && ra[i] != rb[i] {
				return false
			}
		}
	}
	return true
}

func TestAttachDrawType(t *testing.T) {
	e := newEnd(t, nil, loopback(0))
	s := newShown(640, 480)
	s.source.Dot(3, 4, 200)
	scr := screen.New(640, 480)
	c := e.config(s.spec, scr)
	w := watched{c.Decoder, make(chan uint32, 100)}
	c.Decoder = w
	v := dial(t, c)
	wait(t, "first picture", v.Drawn())
	wait(t, "attached", s.attached)
	<-w.frames
	if p := scr.SnapshotBare(); p.Row(4, 3, 4)[0] != 200 {
		t.Error("the first frame does not show the picture")
	}
	expect(t, s.sink, "resize 640 480")
	for _, r := range []input.Record{
		{Type: input.Key, Usage: 4, Down: true},
		{Type: input.Key, Usage: 4},
		{Type: input.Pointer, X: 5, Y: 6, Buttons: 1},
		{Type: input.Pointer, X: 7, Y: 8},
		{Type: input.Wheel, X: 0, Y: -1},
		{Type: input.Resize, X: 800, Y: 600},
		{Type: input.Release},
	} {
		v.Send(r)
	}
	expect(t, s.sink, "key 4 true", "key 4 false", "pointer 5 6 1", "pointer 7 8 0", "wheel 0 -1", "resize 800 600", "release")
	s.source.Dot(10, 11, 99)
	<-w.frames
	if p := scr.SnapshotBare(); p.Row(11, 10, 11)[0] != 99 {
		t.Error("the change is not shown")
	}
	v.Close("card out")
	if r := wait(t, "detached", s.detached); r != "closed by the terminal: card out" {
		t.Errorf("detached: %s", r)
	}
	expect(t, s.sink, "release")
	v.Send(input.Record{Type: input.Key, Usage: 5, Down: true})
	<-v.Done()
	if !errors.Is(v.Err(), viewer.ErrClosed) {
		t.Error(v.Err())
	}
	if more := s.sink.Pending(); len(more) > 0 {
		t.Errorf("after the close the sink got %q", more)
	}
}

// A card is pulled and put in again while the screen changes, and the next first
// picture is made in between: no terminal ever shows what was there before it
// came, and nothing older after something newer.
func TestAheadShowsNothingOld(t *testing.T) {
	const w, h, laps = 200, 100, 40
	e := newEnd(t, nil, loopback(0))
	s := newShown(w, h)
	var count, least atomic.Uint32
	change := func() { // a number in two corners, and much or little between them
		n := count.Add(1)
		s.source.Change(image.Rect(0, 0, w, h), func(p *draw.Pixmap) {
			binary.LittleEndian.PutUint32(p.Row(0, 0, 1), n)
			for y := range int(n % h) {
				p.Row(y, 100, 101)[0] = byte(n)
			}
			binary.LittleEndian.PutUint32(p.Row(h-1, w-1, w), n)
		})
	}
	change()
	scr := screen.New(w, h)
	shown := 0
	defer scr.Each(func(read func(image.Rectangle, []byte, int)) {
		var first, last [4]byte
		read(image.Rect(0, 0, 1, 1), first[:], 4)
		read(image.Rect(w-1, h-1, w, h), last[:], 4)
		a, b := binary.LittleEndian.Uint32(first[:])&0xffffff, binary.LittleEndian.Uint32(last[:])&0xffffff
		if a == 0 && b == 0 {
			return // blank
		}
		shown++
		if a != b || a < least.Load() {
			t.Errorf("it shows %d and %d, %d was on the screen before", a, b, least.Load())
		}
		least.Store(max(a, least.Load()))
	})()
	var made *encode.Encoder
	taken := 0
	s.spec.Ahead = func() (enc *encode.Encoder) {
		if enc, made = made, nil; enc != nil {
			taken++
		}
		return enc
	}
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		busy := time.NewTicker(time.Millisecond)
		defer busy.Stop()
		for !done.Load() {
			change()
			<-busy.C
		}
	})
	for lap := range laps {
		s.spec.Gen++
		least.Store(max(least.Load(), count.Load()-1)) // the last one may not be drawn yet
		c := e.config(s.spec, scr)
		if lap%2 == 0 { // what was made is sent before all is ready
			c.Hello.Width, c.Hello.Height = w, h
		}
		v := dial(t, c)
		wait(t, "picture", v.Drawn())
		v.Close("card out")
		scr.Blank(nil)
		wait(t, "detached", s.detached)
		<-v.Done()
		if lap%4 == 3 {
			continue // none was made
		}
		enc, err := encode.NewEncoder()
		if err != nil {
			t.Fatal(err)
		}
		for range lap % 3 {
			s.source.View(func(v encode.View) { enc.Prepare(v) })
		}
		made = enc
	}
	done.Store(true)
	wg.Wait()
	if shown < laps || taken < laps/2 {
		t.Errorf("%d frames shown, %d pictures made in advance were taken", shown, taken)
	}
}

func closedWith(t *testing.T, v *viewer.Viewer, code native.CloseCode, reason string) {
	t.Helper()
	wait(t, "end", v.Done())
	c, ok := errors.AsType[*viewer.Closed](v.Err())
	if !ok || c.Code != code || !strings.Contains(c.Reason, reason) {
		t.Errorf("ended with %v, want code %d, %q", v.Err(), code, reason)
	}
}

func TestRefusedTickets(t *testing.T) {
	e := newEnd(t, nil, loopback(0))
	good := newShown(64, 64)
	c := e.config(good.spec, screen.New(64, 64))
	v := dial(t, c)
	wait(t, "first picture", v.Drawn())

	other := newShown(64, 64)
	other.spec.Terminal = "0200c0a80002"
	away := newShown(64, 64)
	away.spec.Terminal, away.spec.Addr = "0200c0a80003", netip.MustParseAddr("127.0.0.77")
	forged, forOther, forAway := c, e.config(other.spec, screen.New(64, 64)), e.config(away.spec, screen.New(64, 64))
	binary.BigEndian.PutUint64(forged.Hello.Ticket[:], 7)
	stolen := forOther
	stolen.Hello.Terminal = "0200c0a80009"
	wrongGen := forOther
	wrongGen.Hello.Gen++
	for i, x := range []struct {
		name   string
		c      viewer.Config
		reason string
	}{
		{"replayed", c, "ticket already used"},
		{"forged", forged, "unknown ticket"},
		{"another terminal's", stolen, "ticket of another terminal"},
		{"another address's", forAway, "ticket of another address"},
		{"another attachment's", wrongGen, "ticket of another attachment"},
	} {
		t.Run(x.name, func(t *testing.T) {
			x.c.Decoder = screen.New(64, 64).Attach()
			closedWith(t, dial(t, x.c), native.CloseTicket, x.reason)
			if n := e.log.count("media ticket refused"); n != i+1 {
				t.Errorf("%d refusals logged, want %d", n, i+1)
			}
		})
	}
	// Nobody else has noticed, and the tickets are still good for whom they
	// were made.
	wait(t, "the other's picture", dial(t, forOther).Drawn())
	v.Send(input.Record{Type: input.Key, Usage: 4, Down: true})
	expect(t, good.sink, "resize 640 480", "key 4 true")

	withdrawn := newShown(64, 64)
	withdrawn.spec.Terminal = "0200c0a80004"
	c = e.config(withdrawn.spec, screen.New(64, 64))
	e.ep.Detach(1, withdrawn.spec.Terminal, native.CloseDetached, "gone")
	closedWith(t, dial(t, c), native.CloseTicket, "ticket withdrawn")
}

func TestWrongCertificate(t *testing.T) {
	e := newEnd(t, nil, loopback(0))
	s := newShown(64, 64)
	c := e.config(s.spec, screen.New(64, 64))
	right := c.Cert
	c.Cert[31] ^= 1
	_, err := viewer.Dial(t.Context(), c)
	if !errors.Is(err, viewer.ErrCertificate) || !strings.Contains(fmt.Sprint(err), fmt.Sprintf("%x", right)) {
		t.Fatalf("dial: %v", err)
	}
	c.Cert = right
	wait(t, "picture with the same ticket", dial(t, c).Drawn())
}

func TestNobodyListens(t *testing.T) {
	e := newEnd(t, nil, loopback(0))
	c := e.config(newShown(64, 64).spec, screen.New(64, 64))
	e.stop()
	if _, err := viewer.Dial(t.Context(), c); !errors.Is(err, viewer.ErrGone) {
		t.Errorf("dial: %v", err)
	}
}

func TestDetachAndShownElsewhere(t *testing.T) {
	e := newEnd(t, nil, loopback(0))
	s := newShown(64, 64)
	v := dial(t, e.config(s.spec, screen.New(64, 64)))
	wait(t, "picture", v.Drawn())

	spec := s.spec
	spec.Terminal, spec.Gen = "0200c0a80002", 2
	v2 := dial(t, e.config(spec, screen.New(64, 64)))
	closedWith(t, v, native.CloseDetached, "shown elsewhere")
	wait(t, "detached", s.detached)
	wait(t, "picture", v2.Drawn())

	e.ep.Detach(1, "", native.CloseDetached, "late removal")
	v2.Send(input.Record{Type: input.Key, Usage: 4, Down: true})
	expect(t, s.sink, "resize 640 480", "release", "resize 640 480", "key 4 true")
	e.ep.Detach(2, "", native.CloseEnded, "the session has ended")
	closedWith(t, v2, native.CloseEnded, "the session has ended")
	wait(t, "detached", s.detached)
	expect(t, s.sink, "release")
}

func TestGoodbyeOfTheMediaEnd(t *testing.T) {
	e := newEnd(t, nil, loopback(0))
	v := dial(t, e.config(newShown(64, 64).spec, screen.New(64, 64)))
	wait(t, "picture", v.Drawn())
	// Keeper and parent hold the socket longer than whoever serves it: the
	// goodbye is not overtaken by word of a port that is closed.
	held, err := e.conn.File()
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	e.stop()
	closedWith(t, v, native.CloseRestart, "going away")
}

// A media end that died and was started again with the same identity on the
// same port resets what its predecessor left: at the viewer's next packet,
// not after a silence.
func TestMediaEndRestarted(t *testing.T) {
	e := newEnd(t, nil, loopback(0))
	s := newShown(64, 64)
	v := dial(t, e.config(s.spec, screen.New(64, 64)))
	wait(t, "picture", v.Drawn())
	// It dies without a word: nothing of it reaches the network any more.
	raw, err := e.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	addr := e.addr()
	mute(t, raw)
	e.stop()
	next := newEnd(t, e.id, addr)
	v.Send(input.Record{Type: input.Key, Usage: 4, Down: true})
	wait(t, "end", v.Done())
	if !errors.Is(v.Err(), viewer.ErrGone) || !strings.Contains(v.Err().Error(), "was restarted") {
		t.Errorf("ended with %v", v.Err())
	}
	wait(t, "picture of the new one", dial(t, next.config(newShown(64, 64).spec, screen.New(64, 64))).Drawn())
}

// The same when it is not started again.
func TestMediaEndKilled(t *testing.T) {
	e := newEnd(t, nil, loopback(0))
	v := dial(t, e.config(newShown(64, 64).spec, screen.New(64, 64)))
	wait(t, "picture", v.Drawn())
	raw, err := e.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	mute(t, raw)
	e.stop()
	v.Touch()
	wait(t, "end", v.Done())
	if !errors.Is(v.Err(), viewer.ErrGone) || !strings.Contains(v.Err().Error(), "nobody listens") {
		t.Errorf("ended with %v", v.Err())
	}
}

// mute makes a socket send nothing more, as that of a killed process: what is
// written to it goes to a port nobody has.
func mute(t *testing.T, raw syscall.RawConn) {
	t.Helper()
	var sockErr error
	err := raw.Control(func(fd uintptr) { sockErr = syscall.Shutdown(int(fd), syscall.SHUT_WR) })
	if err == nil && sockErr != nil && sockErr != syscall.ENOTCONN {
		err = sockErr
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestGarbage(t *testing.T) {
	e := newEnd(t, nil, loopback(0))
	s := newShown(64, 64)
	v := dial(t, e.config(s.spec, screen.New(64, 64)))
	wait(t, "picture", v.Drawn())
	noise, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(e.addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer noise.Close()
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 2000 {
		b := make([]byte, r.IntN(1500))
		for j := range b {
			b[j] = byte(r.Uint32())
		}
		if len(b) > 5 && i%2 == 0 { // as if the start of a connection
			copy(b, []byte{0xc0, 0, 0, 0, 1})
		}
		noise.Write(b) // ICMP may say that the socket is full: never mind
	}
	v.Send(input.Record{Type: input.Key, Usage: 4, Down: true})
	expect(t, s.sink, "resize 640 480", "key 4 true")
	wait(t, "picture of a new one", dial(t, e.config(newShown(64, 64).spec, screen.New(64, 64))).Drawn())
}

// A thousand changes end in the last one's picture, whatever was left out.
func TestNewestWins(t *testing.T) {
	e := newEnd(t, nil, loopback(0))
	s := newShown(64, 64)
	scr := screen.New(64, 64)
	c := e.config(s.spec, scr)
	w := watched{c.Decoder, make(chan uint32, 2000)}
	c.Decoder = w
	dial(t, c)
	for i := range 1000 {
		s.source.Dot(i%64, i/64, byte(i)|1)
	}
	s.source.Dot(0, 0, 77)
	var want *draw.Pixmap
	s.source.View(func(v encode.View) {
		want = draw.NewPixmap(64, 64)
		copy(want.Pix, v.Picture.Pix)
	})
	s.source.Change(want.Bounds(), func(*draw.Pixmap) {}) // View took the damage
	for deadline := time.After(patience); !same(scr.SnapshotBare(), want); {
		select {
		case <-w.frames:
		case <-deadline:
			t.Fatal("the last picture is not shown")
		}
	}
}

// badDecoder finds no picture in what comes.
type badDecoder struct{}

func (badDecoder) Decode(*bufio.Reader) (uint32, error) { return 0, errors.New("no picture") }

func TestPictureNotDrawn(t *testing.T) {
	e := newEnd(t, nil, loopback(0))
	s := newShown(64, 64)
	c := e.config(s.spec, screen.New(64, 64))
	c.Decoder = badDecoder{}
	v := dial(t, c)
	wait(t, "end", v.Done())
	if err := v.Err(); err == nil || !strings.Contains(err.Error(), "viewer: picture not drawn: no picture") {
		t.Error(err)
	}
	if r := wait(t, "detached", s.detached); !strings.Contains(r, "picture not drawn") {
		t.Error(r)
	}
}

// The screen is taken away first, as at a card's removal: that is good order.
func TestScreenTakenAway(t *testing.T) {
	e := newEnd(t, nil, loopback(0))
	s := newShown(64, 64)
	scr := screen.New(64, 64)
	v := dial(t, e.config(s.spec, scr))
	wait(t, "picture", v.Drawn())
	scr.Blank(nil)
	s.source.Dot(1, 1, 1)
	wait(t, "end", v.Done())
	if !errors.Is(v.Err(), viewer.ErrClosed) {
		t.Error(v.Err())
	}
	if r := wait(t, "detached", s.detached); r != "closed by the terminal: the screen was taken away" {
		t.Error(r)
	}
}
