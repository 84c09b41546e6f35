package media_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/quic-go/quic-go"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/draw"
	"hotdesk/protocol/input"
	"hotdesk/protocol/native"
	"hotdesk/server/session/client"
	"hotdesk/server/session/encode/encodetest"
)

// A terminal is the other end of a media connection, as plain as can be.
type terminal struct {
	t    *testing.T
	conn *quic.Conn
	in   *quic.SendStream
	done chan struct{} // the connection has ended

	mu     sync.Mutex
	more   *sync.Cond
	pic    *draw.Pixmap
	screen encodetest.Terminal
	err    error // why the display ended
}

// attach redeems an offer.
func attach(t *testing.T, id alp.TerminalID, o client.Offer, w, h int) *terminal {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := quic.DialAddr(ctx, fmt.Sprintf("127.0.0.1:%d", o.Port), &tls.Config{
		NextProtos:         []string{native.ALPN},
		InsecureSkipVerify: true, // pinned below
		VerifyConnection: func(s tls.ConnectionState) error {
			if sha256.Sum256(s.PeerCertificates[0].Raw) != [32]byte(o.Cert) {
				return errors.New("not the certificate of the offer")
			}
			return nil
		},
	}, &quic.Config{EnableDatagrams: true})
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, conn: conn, done: make(chan struct{})}
	x.more = sync.NewCond(&x.mu)
	if x.in, err = conn.OpenUniStream(); err != nil {
		t.Fatal(err)
	}
	hello := native.Hello{Ticket: [32]byte(o.Ticket), Gen: o.Gen, Terminal: id, Width: w, Height: h}
	if _, err := x.in.Write(hello.Append([]byte{byte(native.StreamInput)})); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(x.alive)
	wg.Go(func() {
		err := x.display()
		x.mu.Lock()
		x.err = err
		x.mu.Unlock()
		x.more.Broadcast()
	})
	go func() { wg.Wait(); close(x.done) }()
	t.Cleanup(func() { conn.CloseWithError(0, "the test is over"); <-x.done })
	return x
}

func (x *terminal) alive() {
	tick := time.NewTicker(native.MinAlivePeriod)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = x.conn.SendDatagram(native.AppendAlive(nil, native.AlivePeriod)) // best effort
		case <-x.conn.Context().Done():
			return
		}
	}
}

// display draws the frames that come.
func (x *terminal) display() error {
	s, err := x.conn.AcceptUniStream(context.Background())
	if err != nil {
		return err
	}
	r := bufio.NewReader(s)
	if kind, err := r.ReadByte(); err != nil || native.Kind(kind) != native.StreamDisplay {
		return fmt.Errorf("stream of kind %d: %w", kind, err)
	}
	p := &packed{r: r}
	z, err := zstd.NewReader(p, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer z.Close()
	for {
		h, err := header(r)
		if err != nil {
			return err
		}
		p.left = h.Packed
		ops := make([]byte, h.Raw)
		if _, err := io.ReadFull(z, ops); err != nil {
			return err
		}
		x.mu.Lock()
		for err == nil && len(ops) > 0 {
			var op draw.Op
			if op, ops, err = draw.Next(ops); err == nil {
				x.apply(op)
			}
		}
		x.mu.Unlock()
		if err != nil {
			return err
		}
		x.more.Broadcast()
		x.send(input.Record{Type: input.Ack, Seq: h.Seq})
	}
}

func (x *terminal) apply(op draw.Op) {
	if err := x.screen.Draw(op); err != nil {
		x.t.Error(err)
	}
	x.pic = x.screen.Picture
}

// packed is the packed bytes of one frame and no more.
type packed struct {
	r    *bufio.Reader
	left int
}

func (p *packed) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.ErrNoProgress
	}
	n, err := p.r.Read(b[:min(len(b), p.left)])
	p.left -= n
	return n, err
}

func header(r *bufio.Reader) (draw.Header, error) {
	var b []byte
	for {
		c, err := r.ReadByte()
		if err != nil {
			return draw.Header{}, err
		}
		b = append(b, c)
		if h, _, err := draw.ParseHeader(b); err != draw.ErrShort {
			return h, err
		}
	}
}

func (x *terminal) send(r input.Record) {
	_, _ = x.in.Write(r.Append(nil)) // a closed connection shows elsewhere
}

// await waits for a picture that ok likes.
func (x *terminal) await(what string, ok func(*draw.Pixmap) bool) {
	x.t.Helper()
	late := time.AfterFunc(patience, func() { x.conn.CloseWithError(1, "the test has waited too long") })
	defer late.Stop()
	x.mu.Lock()
	defer x.mu.Unlock()
	for x.pic == nil || !ok(x.pic) {
		if x.err != nil {
			x.t.Fatalf("%s is never seen: %v", what, x.err)
		}
		x.more.Wait()
	}
}

// closed waits for the end of the connection and returns its code.
func (x *terminal) closed() native.CloseCode {
	x.t.Helper()
	select {
	case <-x.conn.Context().Done():
	case <-time.After(patience):
		x.t.Fatal("the connection stays open")
	}
	app, ok := errors.AsType[*quic.ApplicationError](context.Cause(x.conn.Context()))
	if !ok || !app.Remote {
		x.t.Fatalf("ended by %v", context.Cause(x.conn.Context()))
	}
	return native.CloseCode(app.ErrorCode)
}

func colour(p *draw.Pixmap, x, y int) uint32 {
	return binary.LittleEndian.Uint32(p.Row(y, x, x+1)) & 0xffffff
}
