package app

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/quic-go/quic-go"

	"hotdesk/dtu/trust"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/draw"
	"hotdesk/protocol/input"
	"hotdesk/protocol/native"
	"hotdesk/testdata"
)

// patience is when a test gives up; nothing is decided by it.
const patience = 30 * time.Second

// certificate makes a certificate, signed by parent or by itself.
func certificate(t *testing.T, name string, parent *tls.Certificate) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: parent == nil, BasicConstraintsValid: true,
	}
	issuer, signer := tpl, any(key)
	if parent != nil {
		issuer, signer = parent.Leaf, parent.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, issuer, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// A gateway is a server whose every word the test says.
type gateway struct {
	t     *testing.T
	addr  netip.AddrPort
	file  string // authority.pem
	print trust.Print
	conns chan net.Conn
}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	authority := certificate(t, "authority", nil)
	file := filepath.Join(t.TempDir(), "authority.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Certificate[0]})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	host := certificate(t, alp.ServerName, authority)
	host.Certificate = append(host.Certificate, authority.Certificate[0])
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{alp.ALPN},
		Certificates: []tls.Certificate{*host},
	})
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{t: t, addr: l.Addr().(*net.TCPAddr).AddrPort(), file: file, print: trust.Of(authority.Leaf), conns: make(chan net.Conn, 16)}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				if c.(*tls.Conn).Handshake() == nil {
					g.conns <- c
				}
			}()
		}
	}()
	return g
}

// A line is one control connection, seen from the gateway.
type line struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func (g *gateway) accept() *line {
	g.t.Helper()
	select {
	case c := <-g.conns:
		g.t.Cleanup(func() { c.Close() })
		c.SetReadDeadline(time.Now().Add(patience))
		return &line{g.t, c, bufio.NewReader(c)}
	case <-time.After(patience):
		g.t.Fatal("no terminal connects")
		return nil
	}
}

// expect reads the next line, which must be that command. The keepAliveReq that
// goes before a presentation is answered.
func (l *line) expect(command string) alp.Message {
	l.t.Helper()
	text, err := l.r.ReadBytes('\n')
	if err != nil {
		l.t.Fatalf("waiting for %s: %v", command, err)
	}
	m, err := alp.Parse(text)
	if err == nil && command == alp.CmdInfoReq && m.Command == alp.CmdKeepAliveReq {
		l.send(alp.KeepAliveCnf())
		return l.expect(command)
	}
	if err != nil || m.Command != command {
		l.t.Fatalf("%q instead of %s (%v)", text, command, err)
	}
	return m
}

// presented reads the next infoReq.
func (l *line) presented() alp.InfoReq {
	l.t.Helper()
	r, err := alp.ParseInfoReq(l.expect(alp.CmdInfoReq))
	if err != nil {
		l.t.Fatal(err)
	}
	return r
}

func (l *line) send(m alp.Message) {
	l.t.Helper()
	if _, err := l.conn.Write(m.Append(nil)); err != nil {
		l.t.Fatal(err)
	}
}

// ended waits for the terminal to close, whatever it says until then.
func (l *line) ended() {
	l.t.Helper()
	if _, err := io.Copy(io.Discard, l.r); err != nil && !strings.Contains(err.Error(), "reset") {
		l.t.Fatalf("waiting for the end: %v", err)
	}
}

// A mediaEnd shows one colour to each terminal that comes.
type mediaEnd struct {
	t     *testing.T
	port  int
	hash  [32]byte
	views chan *view
	gen   uint64
	shown chan colour
}

type colour struct{ r, g, b byte }

// A view is one attached terminal.
type view struct {
	hello   native.Hello
	conn    *quic.Conn
	records chan input.Record
}

func newMediaEnd(t *testing.T) *mediaEnd {
	t.Helper()
	cert := certificate(t, "media", nil)
	l, err := quic.ListenAddr("127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{native.ALPN}, Certificates: []tls.Certificate{*cert},
	}, &quic.Config{EnableDatagrams: true, MaxIncomingUniStreams: 4})
	if err != nil {
		t.Fatal(err)
	}
	m := &mediaEnd{t: t, port: l.Addr().(*net.UDPAddr).Port, hash: sha256.Sum256(cert.Certificate[0]),
		views: make(chan *view, 16), shown: make(chan colour, 16)}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept(context.Background())
			if err != nil {
				return
			}
			go m.serve(c)
		}
	}()
	return m
}

// serve shows a terminal the colour that is next.
func (m *mediaEnd) serve(c *quic.Conn) {
	in, err := c.AcceptUniStream(c.Context())
	if err != nil {
		return
	}
	buf := make([]byte, 1+native.HelloSize)
	if _, err := io.ReadFull(in, buf); err != nil {
		return
	}
	h, _, err := native.ParseHello(buf[1:])
	if err != nil {
		c.CloseWithError(quic.ApplicationErrorCode(native.CloseProtocol), err.Error())
		return
	}
	out, err := c.OpenUniStream()
	if err != nil {
		return
	}
	// Rarely, so that one word at the start is enough.
	c.SendDatagram(native.AppendAlive(nil, native.MaxAlivePeriod))
	v := &view{h, c, make(chan input.Record, 4096)}
	out.Write(append([]byte{byte(native.StreamDisplay)}, frame(h.Width, h.Height, <-m.shown)...))
	m.views <- v
	r := bufio.NewReader(in)
	var rest []byte
	for {
		b, err := r.ReadByte()
		if err != nil {
			close(v.records)
			return
		}
		rest = append(rest, b)
		for {
			rec, left, err := input.Next(rest)
			if err != nil {
				break
			}
			rest = left
			if rec.Type != input.Ack {
				v.records <- rec
			}
		}
	}
}

// frame is the first frame of a stream: one colour all over.
func frame(w, h int, c colour) []byte {
	raw := draw.Op{Code: draw.Size, W: w, H: h}.Append(nil)
	raw = draw.Op{Code: draw.Fill, W: w, H: h, B: c.b, G: c.g, R: c.r}.Append(raw)
	var packed bytes.Buffer
	z, err := zstd.NewWriter(&packed, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(draw.Window))
	if err != nil {
		panic(err)
	}
	z.Write(raw)
	z.Flush()
	return append(draw.Header{Seq: 1, Packed: packed.Len(), Raw: len(raw)}.Append(nil), packed.Bytes()...)
}

// next waits for a terminal that has attached.
func (m *mediaEnd) next() *view {
	m.t.Helper()
	select {
	case v := <-m.views:
		return v
	case <-time.After(patience):
		m.t.Fatal("no terminal attaches")
		return nil
	}
}

// typed waits for n key records.
func (v *view) typed(t *testing.T, n int) []input.Record {
	t.Helper()
	var got []input.Record
	for len(got) < n {
		select {
		case r, ok := <-v.records:
			if !ok {
				t.Fatalf("attachment ended after %v", got)
			}
			if r.Type == input.Key {
				got = append(got, r)
			}
		case <-time.After(patience):
			t.Fatalf("only %v came", got)
		}
	}
	return got
}

// allow answers a presentation with an attachment that shows c.
func (m *mediaEnd) allow(r alp.InfoReq, session alp.SessionID, c colour) alp.Message {
	m.gen++
	m.shown <- c
	inf := alp.ConnInf{
		TokenSeq: r.TokenSeq, Allowed: true, Token: r.Token(), Module: "test", MediaPort: m.port,
		MediaCert: m.hash, Ticket: bytes.Repeat([]byte{7}, alp.TicketSize), Gen: m.gen, Session: session,
	}
	return inf.Message()
}

// A bench is a running terminal.
type bench struct {
	t      *testing.T
	socket string
	stop   context.CancelFunc
	ended  chan error
}

// start runs a terminal with the shared test cards.
func start(t *testing.T, change func(*Config)) *bench {
	t.Helper()
	dir, err := os.MkdirTemp("", "hd") // unix socket paths are short
	if err != nil {
		t.Fatal(err)
	}
	cards := filepath.Join(dir, "cards")
	sub, err := fs.Sub(testdata.Cards, "cards")
	if err == nil {
		err = os.CopyFS(cards, sub)
	}
	if err != nil {
		t.Fatal(err)
	}
	cfg := Default()
	cfg.Local, cfg.MAC, cfg.GroupPort = true, "02005e000001", 0
	cfg.Width, cfg.Height = 320, 240
	cfg.Cards, cfg.Ctl = cards, filepath.Join(dir, "ctl")
	listening, out := io.Pipe()
	cfg.Stdout = out
	change(&cfg)
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	ctx, cancel := context.WithCancel(context.Background())
	b := &bench{t, cfg.Ctl, cancel, make(chan error, 1)}
	go func() {
		err := Run(ctx, cfg)
		out.CloseWithError(io.EOF)
		b.ended <- err
	}()
	text, err := bufio.NewReader(listening).ReadString('\n')
	if err != nil || !strings.HasPrefix(text, "dtu: ready terminal=02005e000001 ") {
		t.Fatalf("ready line %q, %v; %v", text, err, <-b.ended)
	}
	go io.Copy(io.Discard, listening)
	t.Cleanup(func() {
		b.off()
		os.RemoveAll(dir)
	})
	return b
}

// off stops the terminal.
func (b *bench) off() {
	b.stop()
	select {
	case err := <-b.ended:
		b.ended <- err
		if err != nil {
			b.t.Errorf("the terminal ended with %v", err)
		}
	case <-time.After(patience):
		b.t.Error("the terminal does not end")
	}
}

// try is `dtu ctl ...`.
func (b *bench) try(args ...string) (out, errs string, code int) {
	var stdout, stderr strings.Builder
	code = Main(append([]string{"ctl", "-socket", b.socket}, args...), &stdout, &stderr)
	return stdout.String(), stderr.String(), code
}

// ctl is `dtu ctl ...`, which must work.
func (b *bench) ctl(args ...string) string {
	b.t.Helper()
	out, errs, code := b.try(args...)
	if code != 0 {
		b.t.Fatalf("dtu ctl %q: exit code %d, %s", args, code, errs)
	}
	return out
}

// small is a terminal with a small screen that knows g.
func small(g *gateway) Config {
	cfg := Default()
	cfg.Authority, cfg.Servers, cfg.GroupPort, cfg.Width, cfg.Height = g.file, []netip.AddrPort{g.addr}, 0, 320, 240
	return cfg
}

// newShellOf is the shell of a terminal without readers.
func newShellOf(t *testing.T, cfg Config) *shell {
	t.Helper()
	if err := cfg.check(); err != nil {
		t.Fatal(err)
	}
	store, err := cfg.openTrust()
	if err != nil {
		t.Fatal(err)
	}
	return newShell(cfg, store, readerSet{})
}

// startShell runs one until the test ends.
func startShell(t *testing.T, cfg Config) (s *shell, ended <-chan struct{}) {
	t.Helper()
	s = newShellOf(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return s, done
}
