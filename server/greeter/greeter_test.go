package greeter

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"image"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/quic-go/quic-go"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/draw"
	"hotdesk/protocol/input"
	"hotdesk/protocol/native"
	"hotdesk/server/session/client"
	"hotdesk/server/session/encode"
	"hotdesk/server/session/encode/encodetest"
)

const unit = alp.TerminalID("080020c0ffee")

var loopback = netip.MustParseAddr("127.0.0.1")

// serve starts a greeter on a free port.
func serve(t *testing.T) *Greeter {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g, err := New(Config{Conn: pc, Host: "desk-a", Most: image.Pt(1920, 1200)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		pc.Close()
	})
	return g
}

// A viewer is the terminal's end, as package native says.
type viewer struct {
	t        *testing.T
	conn     *quic.Conn
	input    *quic.SendStream
	display  *bufio.Reader
	packed   *io.PipeWriter
	raw      *zstd.Decoder
	terminal encodetest.Terminal
	picture  *draw.Pixmap // the terminal's
}

func dial(t *testing.T, o client.Offer, w, h int) (*viewer, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conf := &tls.Config{
		InsecureSkipVerify: true, // pinned instead
		NextProtos:         []string{native.ALPN},
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			if sum := sha256.Sum256(raw[0]); !bytes.Equal(sum[:], o.Cert) {
				return errors.New("another certificate")
			}
			return nil
		},
	}
	addr := netip.AddrPortFrom(loopback, uint16(o.Port)).String()
	conn, err := quic.DialAddr(ctx, addr, conf, &quic.Config{EnableDatagrams: true})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.CloseWithError(0, "") })
	in, err := conn.OpenUniStream()
	if err != nil {
		return nil, err
	}
	hello := native.Hello{Gen: o.Gen, Terminal: unit, Width: w, Height: h}
	copy(hello.Ticket[:], o.Ticket)
	if _, err := in.Write(hello.Append([]byte{byte(native.StreamInput)})); err != nil {
		return nil, err
	}
	display, err := conn.AcceptUniStream(ctx)
	if err != nil {
		return nil, err
	}
	pr, pw := io.Pipe()
	z, err := zstd.NewReader(pr, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { pw.Close(); z.Close() })
	v := &viewer{t: t, conn: conn, input: in, display: bufio.NewReaderSize(display, 1<<16), packed: pw, raw: z}
	if kind, err := v.display.ReadByte(); err != nil || native.Kind(kind) != native.StreamDisplay {
		t.Fatalf("stream of kind %d, %v", kind, err)
	}
	return v, nil
}

// frame reads and draws one frame.
func (v *viewer) frame() {
	v.t.Helper()
	var head draw.Header
	for n := 1; ; n++ {
		b, err := v.display.Peek(n)
		if err != nil {
			v.t.Fatal(err)
		}
		h, rest, err := draw.ParseHeader(b)
		if err == nil {
			v.display.Discard(n - len(rest))
			head = h
			break
		}
		if !errors.Is(err, draw.ErrShort) {
			v.t.Fatal(err)
		}
	}
	packed := make([]byte, head.Packed)
	if _, err := io.ReadFull(v.display, packed); err != nil {
		v.t.Fatal(err)
	}
	go v.packed.Write(packed)
	raw := make([]byte, head.Raw)
	if _, err := io.ReadFull(v.raw, raw); err != nil {
		v.t.Fatal(err)
	}
	for len(raw) > 0 {
		op, rest, err := draw.Next(raw)
		if err != nil {
			v.t.Fatal(err)
		}
		raw = rest
		v.draw(op)
	}
	if _, err := v.input.Write(input.Record{Type: input.Ack, Seq: head.Seq}.Append(nil)); err != nil {
		v.t.Fatal(err)
	}
}

func (v *viewer) draw(op draw.Op) {
	if err := v.terminal.Draw(op); err != nil {
		v.t.Fatal(err)
	}
	v.picture = v.terminal.Picture
}

// until draws frames until the picture is want.
func (v *viewer) until(want *draw.Pixmap) {
	v.t.Helper()
	for range 100 {
		v.frame()
		if v.picture != nil && v.picture.W == want.W && v.picture.H == want.H && samePixels(v.picture, want) {
			return
		}
	}
	v.t.Fatal("the picture never came")
}

func samePixels(a, b *draw.Pixmap) bool {
	for i := 0; i < len(a.Pix); i += 4 {
		if !bytes.Equal(a.Pix[i:i+3], b.Pix[i:i+3]) {
			return false
		}
	}
	return true
}

func TestShow(t *testing.T) {
	g := serve(t)
	came, gone := make(chan uint64, 1), make(chan uint64, 1)
	card := Screen{Kind: InsertCard}
	o, err := g.Show(Request{Terminal: unit, Addr: loopback, Width: 640, Height: 480, Screen: card,
		Came: func(gen uint64) { came <- gen }, Gone: func(gen uint64) { gone <- gen }})
	if err != nil {
		t.Fatal(err)
	}
	v, err := dial(t, o, 640, 480)
	if err != nil {
		t.Fatal(err)
	}
	if gen := <-came; gen != o.Gen {
		t.Errorf("came %d, offered %d", gen, o.Gen)
	}
	v.until(paint(card, "desk-a", 640, 480))

	keys := input.Record{Type: input.Key, Usage: 4, Down: true}.Append(nil)
	keys = input.Record{Type: input.Pointer, X: 3, Y: 4, Buttons: 1}.Append(keys)
	keys = input.Record{Type: input.Resize, X: 800, Y: 600}.Append(keys)
	if _, err := v.input.Write(keys); err != nil {
		t.Fatal(err)
	}
	v.until(paint(card, "desk-a", 800, 600))

	g.Hide(unit, o.Gen)
	if gen := <-gone; gen != o.Gen {
		t.Errorf("gone %d, offered %d", gen, o.Gen)
	}
	<-v.conn.Context().Done()
	closed, ok := errors.AsType[*quic.ApplicationError](context.Cause(v.conn.Context()))
	if !ok || native.CloseCode(closed.ErrorCode) != native.CloseDetached {
		t.Errorf("closed with %v", context.Cause(v.conn.Context()))
	}
	if again, err := dial(t, o, 640, 480); err == nil {
		t.Errorf("the ticket was good twice: %+v", again)
	}
}

// TestDenied: two terminals that are told different things.
func TestDenied(t *testing.T) {
	g := serve(t)
	s := Screen{Kind: Denied, Text: "No."}
	o, err := g.Show(Request{Terminal: unit, Addr: loopback, Width: 1280, Height: 1024, Screen: s})
	if err != nil {
		t.Fatal(err)
	}
	v, err := dial(t, o, 1280, 1024)
	if err != nil {
		t.Fatal(err)
	}
	v.until(paint(s, "desk-a", 1280, 1024))
}

// TestPictures: shared, few, and no larger than may be.
func TestPictures(t *testing.T) {
	g := serve(t)
	card := Screen{Kind: InsertCard}
	one, two := g.picture(card, 640, 480), g.picture(card, 640, 480)
	if one != two {
		t.Error("the same screen was drawn twice")
	}
	for n := range 2 * MaxPictures {
		g.picture(card, 100+n, 100)
	}
	if len(g.pictures) != MaxPictures {
		t.Errorf("%d pictures are kept", len(g.pictures))
	}
	f := &feed{g: g, screen: card, changed: make(chan struct{}, 1)}
	f.Resize(alp.MaxSide, alp.MaxSide)
	f.View(func(v encode.View) {
		if v.Picture.W != 1920 || v.Picture.H != 1200 || !slices.Equal(v.Damage, []image.Rectangle{image.Rect(0, 0, 1920, 1200)}) {
			t.Errorf("%dx%d, damage %v", v.Picture.W, v.Picture.H, v.Damage)
		}
	})
	f.View(func(v encode.View) {
		if len(v.Damage) != 0 {
			t.Errorf("damage %v of nothing", v.Damage)
		}
	})
}

// TestPaintAnything: sizes and texts at their limits.
func TestPaintAnything(t *testing.T) {
	long := string(bytes.Repeat([]byte("a"), MaxText))
	for _, size := range [][2]int{{alp.MinSide, alp.MinSide}, {alp.MinSide, 1200}, {1920, alp.MinSide}, {641, 479}} {
		for _, s := range []Screen{{Kind: InsertCard}, {Kind: Denied}, {Kind: Denied, Text: long}, {Kind: Denied, Text: "\xff\xfe \x00 ok \U0001f600"}} {
			if p := paint(s, long, size[0], size[1]); p.W != size[0] || p.H != size[1] {
				t.Errorf("%v: %dx%d", size, p.W, p.H)
			}
		}
	}
}

func BenchmarkPaint(b *testing.B) {
	for b.Loop() {
		paint(Screen{Kind: InsertCard}, "desk-a", 1920, 1080)
	}
}
