package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	dtu "hotdesk/dtu/app"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/native"
	"hotdesk/tools/internal/lab"
)

// A fort is a host under attack and a well-behaved terminal at it, whose
// picture and typing are watched meanwhile.
type fort struct {
	*world
	t       *testing.T
	host    *lab.Host
	good    *lab.Terminal
	before  dtu.Status
	colours int
	roots   *x509.CertPool
}

// The terminals have small screens, which the race detector's programs draw in
// reasonable time; the corner shows the root window.
const small, corner = "800x640", "pixel=790,630,"

func newFort(t *testing.T, flags ...string) *fort {
	t.Helper()
	w := openWorld(t)
	f := &fort{world: w, t: t, roots: x509.NewCertPool()}
	var err error
	if f.host, err = w.lab.Host(w.ctx, "north", flags...); f.host != nil {
		w.hosts["north"] = f.host
	}
	f.must(err)
	f.good, err = w.lab.Terminal(w.ctx, "good", "-server", f.host.Addr, "-size", small)
	f.must(err)
	f.ctl("insert", "card1")
	f.ctl("wait", "-timeout", patience.String(), "picture", "pixel=400,300,"+xtermColour)
	_, err = f.good.Rest(w.ctx, patience)
	f.must(err)
	pem, err := os.ReadFile(w.lab.Authority())
	f.must(err)
	f.roots.AppendCertsFromPEM(pem)
	f.works()
	f.before = f.status()
	return f
}

func (f *fort) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fort) ctl(args ...string) string {
	f.t.Helper()
	out, err := f.good.Ctl(f.ctx, args...)
	f.must(err)
	return out
}

func (f *fort) status() (st dtu.Status) {
	f.t.Helper()
	f.must(json.Unmarshal([]byte(f.ctl("status", "-json")), &st))
	return st
}

// works types something into the well-behaved terminal's session and waits for
// what that does to its picture.
func (f *fort) works() {
	f.t.Helper()
	f.colours++
	colour := fmt.Sprintf("%06x", (0x204060+0x30517*f.colours)&0xffffff)
	f.ctl("type", "xsetroot -solid '#"+colour+"'\n")
	f.ctl("wait", "-timeout", patience.String(), corner+colour)
}

// during runs an attack and uses the well-behaved terminal meanwhile and after
// it; nothing that it has may have been interrupted.
func (f *fort) during(attack func()) {
	f.t.Helper()
	over := make(chan struct{})
	go func() { defer close(over); attack() }()
	for done := false; !done; {
		f.works()
		select {
		case <-over:
			done = true
		default:
		}
	}
	f.works()
	f.unharmed()
}

func (f *fort) unharmed() {
	f.t.Helper()
	now := f.status()
	if now.Session != f.before.Session || now.Gen != f.before.Gen || now.Counters != f.before.Counters || !now.Control {
		f.t.Errorf("the terminal beside the attack was disturbed:\nbefore %+v\nafter  %+v", f.before, now)
	}
}

// log is what the host's programs and sessions have written.
func (f *fort) log() string {
	f.t.Helper()
	var text strings.Builder
	for _, p := range []string{f.lab.Path("log", "*-north.log"), f.lab.Path("north", "sessions", "*", "*.log")} {
		files, err := filepath.Glob(p)
		f.must(err)
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil && !errors.Is(err, os.ErrNotExist) { // its session has ended
				f.t.Fatal(err)
			}
			text.Write(b)
		}
	}
	return text.String()
}

// logged counts the lines with all these words.
func (f *fort) logged(words ...string) int {
	f.t.Helper()
	n := 0
lines:
	for line := range strings.Lines(f.log()) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue lines
			}
		}
		n++
	}
	return n
}

// once waits for exactly one such line.
func (f *fort) once(words ...string) {
	f.t.Helper()
	for until := time.Now().Add(patience); f.logged(words...) == 0 && time.Now().Before(until); {
		pause()
	}
	if n := f.logged(words...); n != 1 {
		f.t.Errorf("%d log lines with %q, want 1", n, words)
	}
}

// A rogue is a terminal that does what it wants.
type rogue struct {
	f    *fort
	id   alp.TerminalID
	conn net.Conn
	in   *bufio.Reader
	seq  int
}

// dialer makes a rogue's TCP connection, from an address of its own if from is
// not empty.
func (f *fort) dialer(from string) net.Dialer {
	d := net.Dialer{Timeout: patience}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	return d
}

func (f *fort) tls() *tls.Config {
	return &tls.Config{RootCAs: f.roots, ServerName: alp.ServerName, NextProtos: []string{alp.ALPN}}
}

// rogue connects; its id is made of n.
func (f *fort) rogue(n int, from string) *rogue {
	f.t.Helper()
	d := tls.Dialer{NetDialer: new(f.dialer(from)), Config: f.tls()}
	conn, err := d.DialContext(f.ctx, "tcp", f.host.Addr)
	f.must(err)
	f.t.Cleanup(func() { conn.Close() })
	return &rogue{f: f, id: alp.TerminalID(fmt.Sprintf("0266%08x", n)), conn: conn, in: bufio.NewReader(conn)}
}

func (r *rogue) peer() string { return r.conn.LocalAddr().String() }

func (r *rogue) identity() alp.Identity {
	return alp.Identity{Firmware: "rogue", Hardware: "rogue", Terminal: r.id, Port: 1}
}

// event builds the next infoReq.
func (r *rogue) event(token alp.Token, remove bool) alp.Message {
	kind, id, _ := strings.Cut(string(token), ".")
	r.seq++
	return alp.InfoReq{Identity: r.identity(), Remove: remove, Type: kind, ID: id, Width: 800, Height: 600, TokenSeq: r.seq}.Message()
}

func (r *rogue) say(m alp.Message) { r.f.t.Helper(); r.raw(m.Append(nil)) }

func (r *rogue) raw(b []byte) {
	r.f.t.Helper()
	r.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := r.conn.Write(b); err != nil {
		r.f.t.Fatal(err)
	}
}

// next returns the next line of that command; the error is the connection's.
func (r *rogue) next(command string) (alp.Message, error) {
	r.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		line, err := r.in.ReadBytes('\n')
		if err != nil {
			return alp.Message{}, err
		}
		m, err := alp.Parse(line)
		if err != nil || m.Command == command {
			return m, err
		}
	}
}

// closed waits for the end of the connection, and for nothing but that.
func (r *rogue) closed() {
	r.f.t.Helper()
	if m, err := r.next("none"); !errors.Is(err, io.EOF) && !strings.Contains(fmt.Sprint(err), "reset") {
		r.f.t.Errorf("the connection ends with %v, %v", m, err)
	}
}

// offered inserts a token and waits for where its picture is.
func (r *rogue) offered(token alp.Token) alp.ConnInf {
	r.f.t.Helper()
	r.say(r.event(token, false))
	for {
		m, err := r.next(alp.CmdConnInf)
		r.f.must(err)
		c, err := alp.ParseConnInf(m)
		r.f.must(err)
		if c.TokenSeq != r.seq {
			continue
		}
		if !c.Allowed {
			r.f.t.Fatalf("%s is denied: %s", token, c.Cause)
		}
		return c
	}
}

// at is the media end of an offer.
func (r *rogue) at(c alp.ConnInf) netip.AddrPort {
	host := netip.MustParseAddrPort(r.conn.RemoteAddr().String()).Addr()
	return netip.AddrPortFrom(host, uint16(c.MediaPort))
}

func (r *rogue) hello(c alp.ConnInf) native.Hello {
	return native.Hello{Ticket: [alp.TicketSize]byte(c.Ticket), Gen: c.Gen, Terminal: r.id, Width: 800, Height: 600}
}

// A line to a media end that verifies nothing.
type media struct {
	sock net.PacketConn
	tr   *quic.Transport
	conn *quic.Conn
}

func (f *fort) dialMedia(ctx context.Context, at netip.AddrPort, from string) (*media, error) {
	sock, err := net.ListenPacket("udp4", net.JoinHostPort(from, "0"))
	f.must(err)
	m := &media{sock: sock, tr: &quic.Transport{Conn: sock}}
	f.t.Cleanup(m.cut)
	m.conn, err = m.tr.Dial(ctx, net.UDPAddrFromAddrPort(at), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{native.ALPN}},
		&quic.Config{EnableDatagrams: true})
	return m, err
}

// cut ends it without a word to the other side.
func (m *media) cut() {
	m.sock.Close()
	m.tr.Close()
}

// greet says hello at a media end and waits for the first bytes of a picture,
// or for the refusal.
func (f *fort) greet(at netip.AddrPort, from string, hello native.Hello) (*media, error) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, patience)
	defer cancel()
	m, err := f.dialMedia(ctx, at, from)
	f.must(err)
	out, err := m.conn.OpenUniStream()
	f.must(err)
	_, err = out.Write(hello.Append([]byte{byte(native.StreamInput)}))
	f.must(err)
	in, err := m.conn.AcceptUniStream(ctx)
	if err == nil {
		_, err = in.Read(make([]byte, 16))
	}
	if err != nil {
		if cause := context.Cause(m.conn.Context()); cause != nil {
			err = cause
		}
	}
	return m, err
}

// refused checks that a media end closes with this code and reason.
func (f *fort) refused(err error, code native.CloseCode, reason string) {
	f.t.Helper()
	app, ok := errors.AsType[*quic.ApplicationError](err)
	if !ok || !app.Remote || native.CloseCode(app.ErrorCode) != code || !strings.Contains(app.ErrorMessage, reason) {
		f.t.Errorf("the media end says %v, want code %d, %q", err, code, reason)
	}
}

const (
	home = "127.0.0.1"
	away = "127.0.66.6"
)

// Tickets that are not for whoever shows them.
func TestAttackTickets(t *testing.T) {
	f := newFort(t)
	f.during(func() {
		one, two := f.rogue(1, ""), f.rogue(2, "")
		a, b := one.offered("simple.attack1"), two.offered("simple.attack2")
		if a.Session == b.Session || a.MediaPort == b.MediaPort {
			t.Errorf("two tokens have one session: %v, %v", a, b)
		}
		show := func(at netip.AddrPort, from string, h native.Hello, reason string) {
			t.Helper()
			m, err := f.greet(at, from, h)
			f.refused(err, native.CloseTicket, reason)
			f.once("media ticket refused", reason, "peer="+net.JoinHostPort(from, fmt.Sprint(m.sock.LocalAddr().(*net.UDPAddr).Port)))
			m.cut()
		}
		wrong := one.hello(a)
		wrong.Ticket[7] ^= 1
		show(one.at(a), home, wrong, "unknown ticket")
		show(one.at(a), home, two.hello(b), "unknown ticket") // of another session
		stolen := one.hello(a)
		stolen.Terminal = two.id
		show(one.at(a), home, stolen, "ticket of another terminal")
		show(one.at(a), away, one.hello(a), "ticket of another address")
		old := one.hello(a)
		old.Gen++
		show(one.at(a), home, old, "ticket of another attachment")

		// All that has not spoilt it for the terminal that it was made for.
		m, err := f.greet(one.at(a), home, one.hello(a))
		f.must(err)
		show(one.at(a), home, one.hello(a), "ticket already used")
		select {
		case <-m.conn.Context().Done():
			t.Errorf("a replayed ticket ended the attachment: %v", context.Cause(m.conn.Context()))
		default:
		}
		two.say(two.event("simple.attack2", true))
		c := two.offered("pseudo." + alp.Token(two.id))
		m, err = f.greet(two.at(b), home, two.hello(b))
		if err == nil { // it came before the word of the removal, which ends it
			select {
			case <-m.conn.Context().Done():
				err = context.Cause(m.conn.Context())
			case <-time.After(patience):
				t.Error("an attachment outlives the removal of its token")
			}
		}
		if app, ok := errors.AsType[*quic.ApplicationError](err); !ok || native.CloseCode(app.ErrorCode) != native.CloseDetached {
			f.refused(err, native.CloseTicket, "ticket withdrawn")
		}
		show(two.at(c), home, one.hello(a), "unknown ticket") // at the gateway's own screens
	})
}

// Lines that are none. Each is answered with what is wrong with it, logged
// once, and the third ends the connection; one that is too long does at once.
func TestAttackLines(t *testing.T) {
	f := newFort(t)
	id := func(n int) alp.Identity {
		return alp.Identity{Firmware: "f", Hardware: "h", Terminal: alp.TerminalID(fmt.Sprintf("0266%08x", n)), Port: 1}
	}
	insert := func(change func(*alp.InfoReq)) string {
		r := alp.InfoReq{Identity: id(1), Type: "simple", ID: "attack", Width: 800, Height: 600, TokenSeq: 1}
		change(&r)
		return string(r.Message().Append(nil))
	}
	var keys strings.Builder
	for n := range 2000 {
		fmt.Fprintf(&keys, " k%d=v", n)
	}
	cases := []struct {
		name, line, cause string
		ends              bool
	}{
		{"noise", "\x01\x02\xff\xfe\x80\\\n", "backslash", false},
		{"a key for a command", "=x y=z\n", "'=' without a key", false},
		{"too many keys", "infoReq" + strings.Repeat(" k=v", alp.MaxKeys+1) + "\n", "more than 64 keys", false},
		{"a value too long", "infoReq k=" + strings.Repeat("v", alp.MaxValue+1) + "\n", "longer than 1024", false},
		{"an octal number too large", "infoReq k=\\777\n", "octal", false},
		{"no terminal", insert(func(r *alp.InfoReq) { r.Terminal = "../../etc/pass" }), "bad sn", false},
		{"no token", insert(func(r *alp.InfoReq) { r.ID = "x\ny=z; rm -rf" }), "bad token", false},
		{"no screen", insert(func(r *alp.InfoReq) { r.Width = 1 << 30 }), "bad startRes", false},
		{"a layout that is a command", insert(func(r *alp.InfoReq) { r.Layout = "us;reboot" }), "bad kbd", false},
		{"a session that is a path", insert(func(r *alp.InfoReq) { r.Session = "../../../tmp/xxx" }), "bad session", false},
		{"thousands of keys", "infoReq" + keys.String() + "\n", "a line of more than 2048 bytes", true},
		{"a line that is too long", "infoReq " + strings.Repeat("x", alp.MaxLine) + "\n", "a line of more than 2048 bytes", true},
		{"a megabyte without an end", strings.Repeat("A", 1<<20), "a line of more than 2048 bytes", true},
	}
	f.during(func() {
		for n, x := range cases {
			r := f.rogue(n, "")
			go io.Copy(r.conn, strings.NewReader(x.line)) // the end may come before it is taken
			m, err := r.next(alp.CmdProtocolError)
			if err != nil || !strings.Contains(m.Get("cause"), x.cause) {
				t.Errorf("%s: answered %v, %v; want %q", x.name, m, err, x.cause)
				continue
			}
			if x.ends {
				r.closed()
			}
			f.seen("peer="+r.peer(), x.cause)
			r.conn.Close()
		}
		r := f.rogue(99, "")
		r.raw([]byte("a b\\\nc d\\\ne f\\\ninfoReq"))
		for range 3 {
			if _, err := r.next(alp.CmdProtocolError); err != nil {
				t.Error(err)
			}
		}
		r.closed()

		// A connection stays its terminal's.
		r = f.rogue(100, "")
		r.say(id(100).KeepAliveReq(false))
		r.say(id(101).KeepAliveReq(false))
		m, err := r.next(alp.CmdProtocolError)
		if err != nil || !strings.Contains(m.Get("cause"), "this connection is 026600000064's") {
			t.Errorf("another terminal's line is answered %v, %v", m, err)
		}
		r.conn.Close()

		r = f.rogue(102, "")
		r.raw([]byte("infoReq half a li"))
		r.conn.Close()
		f.seen("peer="+r.peer(), "ends in the middle")
	})
}

// seen waits for a log line that an attack must leave, or for word that lines
// were left out: what strangers cause is logged at a bounded rate.
func (f *fort) seen(words ...string) {
	f.t.Helper()
	// What strangers cause is logged 20 lines at once, then one a second.
	const burst = 20
	soon, until := time.Now().Add(time.Second), time.Now().Add(patience)
	for n := 0; n == 0; pause() {
		switch n = f.logged(words...); {
		case n > 1:
			f.t.Errorf("logged %d times: %q", n, words)
		case n == 1 || time.Now().After(soon) && f.logged("peer="+home) >= burst:
			return
		case time.Now().After(until):
			f.t.Errorf("%q is not in the log", words)
			return
		}
	}
}

// Peers that do not speak the protocol at all.
func TestAttackTLS(t *testing.T) {
	f := newFort(t)
	plain := func() net.Conn {
		d := f.dialer("")
		c, err := d.DialContext(f.ctx, "tcp", f.host.Addr)
		f.must(err)
		c.SetDeadline(time.Now().Add(patience))
		return c
	}
	f.during(func() {
		for _, x := range []struct {
			name, says, logs string
			change           func(*tls.Config)
		}{
			{"TLS 1.2", "protocol version", "unsupported versions", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }},
			{"another protocol", "no application protocol", "http/1.1", func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }},
			{"no protocol", "EOF", "does not speak " + alp.ALPN, func(c *tls.Config) { c.NextProtos = nil }},
		} {
			raw := plain()
			conf := f.tls()
			x.change(conf)
			c := tls.Client(raw, conf)
			err := c.HandshakeContext(f.ctx)
			if err == nil {
				_, err = c.Read(make([]byte, 1))
			}
			if err == nil || !strings.Contains(err.Error(), x.says) {
				t.Errorf("%s: %v, want %q", x.name, err, x.says)
			}
			f.once("peer="+raw.LocalAddr().String(), x.logs)
			raw.Close()
		}
		raw := plain()
		fmt.Fprint(raw, "infoReq event=insert\n")
		if _, err := io.ReadAll(raw); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("lines in the clear: %v", err)
		}
		f.once("peer="+raw.LocalAddr().String(), "does not look like a TLS handshake")
		raw.Close()
	})
}

// Several hundred connections that never say who they are, slowly spoken
// ones among them: others still get in, and afterwards all is given back.
func TestAttackHalfOpen(t *testing.T) {
	f := newFort(t)
	gateway, err := f.host.Gateway()
	f.must(err)
	fds := func() int {
		list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", gateway))
		f.must(err)
		return len(list)
	}
	before := fds()
	f.during(func() {
		var held []net.Conn
		stop := make(chan struct{})
		var slow sync.WaitGroup
		for n := range 600 {
			d := f.dialer("")
			c, err := d.DialContext(f.ctx, "tcp", f.host.Addr)
			f.must(err)
			held = append(held, c)
			if n%20 != 0 {
				continue
			}
			slow.Go(func() { // a ClientHello of 16 KB, byte by byte
				c.Write([]byte{22, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xf0})
				tick := time.NewTicker(20 * time.Millisecond)
				defer tick.Stop()
				for {
					select {
					case <-stop:
						return
					case <-tick.C:
						if _, err := c.Write([]byte{0}); err != nil {
							return
						}
					}
				}
			})
		}
		r := f.rogue(1, "")
		r.offered("pseudo." + alp.Token(r.id))
		close(stop)
		slow.Wait()
		for _, c := range held {
			c.Close()
		}
		r.conn.Close()
	})
	for until := time.Now().Add(patience); fds() > before && time.Now().Before(until); {
		pause()
	}
	if after := fds(); after > before {
		t.Errorf("the gateway has %d descriptors, before the attack it had %d", after, before)
	}
	if n := f.logged("control connection"); n > 60 {
		t.Errorf("600 connections left %d log lines", n)
	}
}
