package app

import (
	"encoding/json"
	"image/png"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
	"hotdesk/protocol/input"
)

const session = alp.SessionID("00000000000000aa")

var (
	red   = colour{0xff, 0, 0}
	green = colour{0, 0xff, 0}
	blue  = colour{0, 0, 0xff}
)

// idle starts a terminal and shows it a red screen without a session.
func idle(t *testing.T, g *gateway, m *mediaEnd) (*bench, *line) {
	t.Helper()
	b := start(t, func(c *Config) { c.Servers, c.Authority = []netip.AddrPort{g.addr}, g.file })
	l := g.accept()
	r := l.presented()
	if r.Token() != "pseudo.02005e000001" || r.Remove || r.Connected || r.TokenSeq != 1 || r.Width != 320 || r.Height != 240 || r.Layout != "us" {
		t.Fatalf("presented %+v", r)
	}
	l.send(m.allow(r, "", red))
	l.expect(alp.CmdConnRsp)
	m.next()
	b.ctl("wait", "picture", "pixel=100,100,ff0000")
	return b, l
}

// withCard goes on with card1, whose session is green.
func withCard(t *testing.T, g *gateway, m *mediaEnd) (*bench, *line, *view) {
	t.Helper()
	b, l := idle(t, g, m)
	b.ctl("insert", "card1")
	if r := l.presented(); !r.Remove || r.Type != "pseudo" {
		t.Fatalf("first %+v", r)
	}
	r := l.presented()
	if r.Token() != "simple.4d01"+alp.Token(r.ID[4:]) || len(r.ATR) == 0 || r.TokenSeq != 2 {
		t.Fatalf("presented %+v", r)
	}
	l.send(m.allow(r, session, green))
	l.expect(alp.CmdConnRsp)
	v := m.next()
	b.ctl("wait", "picture", "pixel=100,100,00ff00", "session="+string(session))
	return b, l, v
}

func (b *bench) status() Status {
	b.t.Helper()
	var s Status
	if err := json.Unmarshal([]byte(b.ctl("status", "-json")), &s); err != nil {
		b.t.Fatal(err)
	}
	return s
}

func TestCardInAndOut(t *testing.T) {
	g, m := newGateway(t), newMediaEnd(t)
	b, l, v := withCard(t, g, m)

	b.ctl("type", "aB")
	var keys []uint16
	for _, r := range v.typed(t, 6) {
		keys = append(keys, r.Usage)
	}
	if want := []uint16{0x04, 0x04, 0xe1, 0x05, 0x05, 0xe1}; !slices.Equal(keys, want) {
		t.Errorf("typed %x, want %x", keys, want)
	}
	b.ctl("click", "10", "20", "3")
	for _, want := range []byte{0, input.ButtonRight, 0} {
		if r := <-v.records; r.Type != input.Pointer || r.X != 10 || r.Y != 20 || r.Buttons != want {
			t.Errorf("pointer %+v, want buttons %d", r, want)
		}
	}
	before := b.ctl("hash")

	b.ctl("remove")
	// When the command returns, and when the server hears of it, nothing of the
	// session is on the screen and its media connection is closed.
	if s := b.status(); s.State != "waiting" || s.Code != 22 || s.Session != "" || s.Card != "" {
		t.Errorf("after the removal %+v", s)
	}
	if b.ctl("hash") == before {
		t.Error("the picture is still there")
	}
	if r := l.presented(); !r.Remove || r.Type != "simple" || r.Session != session || r.Gen != 2 {
		t.Errorf("removal %+v", r)
	}
	if r := l.presented(); r.Remove || r.Type != "pseudo" || r.TokenSeq != 3 {
		t.Errorf("then %+v", r)
	}
	for range v.records {
		t.Error("input after the removal")
	}
	if _, _, code := b.try("type", "x"); code != 1 {
		t.Errorf("typing at no picture: exit code %d", code)
	}
}

func TestControlLostMediaAlive(t *testing.T) {
	g, m := newGateway(t), newMediaEnd(t)
	b, l, v := withCard(t, g, m)
	l.conn.Close()
	b.ctl("wait", "state=reconnecting", "pixel=100,100,00ff00")
	b.ctl("type", "a")
	v.typed(t, 2)
	l = g.accept()
	r := l.presented()
	if !r.Connected || r.Session != session || r.Gen != 2 || r.TokenSeq != 3 {
		t.Fatalf("presented %+v", r)
	}
	b.ctl("type", "b")
	v.typed(t, 2)
	inf := alp.ConnInf{TokenSeq: 3, Allowed: true, Token: r.Token(), Module: "test", MediaPort: m.port, MediaCert: m.hash, Gen: 2, Session: session}
	l.send(inf.Message())
	l.expect(alp.CmdConnRsp)
	if s := b.status(); s.State != "picture" || s.Counters.Attaches != 2 || s.Gen != 2 {
		t.Errorf("%+v", s)
	}
	b.ctl("type", "c")
	v.typed(t, 2)
}

func TestMediaLost(t *testing.T) {
	g, m := newGateway(t), newMediaEnd(t)
	b, l, v := withCard(t, g, m)
	v.conn.CloseWithError(4, "media is being restarted")
	l.expect(alp.CmdKeepAliveReq)
	l.send(alp.KeepAliveCnf())
	r := l.presented()
	l.send(m.allow(r, session, blue))
	l.expect(alp.CmdConnRsp)
	m.next()
	b.ctl("wait", "picture", "pixel=100,100,0000ff")
}

func TestBothLost(t *testing.T) {
	g, m := newGateway(t), newMediaEnd(t)
	b, l, v := withCard(t, g, m)
	l.conn.Close()
	b.ctl("wait", "state=reconnecting")
	v.conn.CloseWithError(4, "the host goes down")
	l = g.accept()
	for r := l.presented(); r.Connected; r = l.presented() {
		// It may have come back before it noticed the loss of media.
		l.expect(alp.CmdKeepAliveReq)
	}
	b.ctl("wait", "state=waiting")
	if got := b.ctl("wait", "hash!="+strings.Repeat("0", 64)); got != "" {
		t.Errorf("wait printed %q", got)
	}
}

func TestRedirect(t *testing.T) {
	g, other, m := newGateway(t), newGateway(t), newMediaEnd(t)
	b, l := idle(t, g, m)
	_ = other
	b.ctl("insert", "card2")
	l.presented()
	r := l.presented()
	l.send(alp.RedirectInf{TokenSeq: r.TokenSeq, Addr: g.addr.Addr(), Port: int(g.addr.Port()), Props: "proof"}.Message())
	l.expect(alp.CmdDiscReq)
	l.ended()
	l = g.accept()
	if r = l.presented(); !r.Redirect || r.Props != "proof" || r.Type != "simple" {
		t.Fatalf("presented %+v", r)
	}
	// There, it is sent to a server of another group: refused.
	l.send(alp.RedirectInf{TokenSeq: r.TokenSeq, Addr: other.addr.Addr(), Port: int(other.addr.Port())}.Message())
	b.ctl("wait", "osd=15")
}

func TestUntrustedServer(t *testing.T) {
	pinned, other := newGateway(t), newGateway(t)
	b := start(t, func(c *Config) { c.Servers, c.Authority = []netip.AddrPort{other.addr}, pinned.file })
	b.ctl("wait", "osd=15")
	if s := b.status(); s.Control || s.TokenSeq != 0 {
		t.Errorf("something was said to it: %+v", s)
	}
}

func TestBadLines(t *testing.T) {
	for name, text := range map[string]string{
		"oversized":      "connInf cause=" + strings.Repeat("x", alp.MaxLine) + "\n",
		"without an end": strings.Repeat("x", 4*alp.MaxLine),
		"malformed":      "=\n",
		"bad connInf":    "connInf tokenSeq=1 access=perhaps\n",
	} {
		t.Run(name, func(t *testing.T) {
			g, m := newGateway(t), newMediaEnd(t)
			b := start(t, func(c *Config) { c.Servers, c.Authority = []netip.AddrPort{g.addr}, g.file })
			l := g.accept()
			l.presented()
			l.conn.Write([]byte(text))
			l.ended()
			l = g.accept()
			l.send(m.allow(l.presented(), "", blue))
			b.ctl("wait", "picture", "pixel=1,1,0000ff")
		})
	}
}

// TestHandsBeforeServer: a server that talks without end and reads nothing
// holds up no hand.
func TestHandsBeforeServer(t *testing.T) {
	g, m := newGateway(t), newMediaEnd(t)
	b, l, _ := withCard(t, g, m)
	flood := make(chan struct{})
	go func() {
		defer close(flood)
		text := []byte(strings.Repeat("keepAliveCnf\n", 1000))
		for {
			if _, err := l.conn.Write(text); err != nil {
				return
			}
		}
	}()
	b.ctl("remove")
	if s := b.status(); s.State == "picture" || s.Card != "" {
		t.Errorf("%+v", s)
	}
	for range 50 {
		b.ctl("insert", "card1")
		b.ctl("remove")
	}
	b.off()
	<-flood
}

func TestBroadcast(t *testing.T) {
	g, m := newGateway(t), newMediaEnd(t)
	group7009, err := net.ListenUDP("udp4", &net.UDPAddr{})
	if err != nil {
		t.Fatal(err)
	}
	defer group7009.Close()
	go func() {
		buf := make([]byte, group.MaxPacket)
		for {
			n, from, err := group7009.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			q, err := group.ParseServerQ(buf[:n])
			if err != nil {
				t.Errorf("%q: %v", buf[:n], err)
				continue
			}
			r := group.ServerR{Addr: g.addr.Addr(), Port: int(g.addr.Port()), Terminal: q.Terminal, ID: q.ID, Host: "test"}
			group7009.WriteToUDPAddrPort([]byte("serverR nonsense\n"), from)
			group7009.WriteToUDPAddrPort(r.Append(nil), from)
		}
	}()
	b := start(t, func(c *Config) {
		c.GroupPort, c.Authority = group7009.LocalAddr().(*net.UDPAddr).Port, g.file
	})
	l := g.accept()
	l.send(m.allow(l.presented(), "", green))
	b.ctl("wait", "picture", "server="+g.addr.String())
}

func TestUnreadableAndUnknownCards(t *testing.T) {
	g, m := newGateway(t), newMediaEnd(t)
	b, l := idle(t, g, m)
	dir := filepath.Dir(b.socket)
	if err := os.WriteFile(filepath.Join(dir, "cards", "mute.card"), []byte("type = plain\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.ctl("insert", "mute")
	b.ctl("wait", "state=unreadable", "osd=5", "card=mute")
	if r := l.presented(); !r.Remove || r.Type != "pseudo" {
		t.Errorf("%+v", r)
	}
	_, errs, code := b.try("insert", "nosuch")
	if code != 1 || !strings.Contains(errs, "card1 card2") {
		t.Errorf("exit code %d, %s", code, errs)
	}
	if got := b.ctl("cards"); !strings.Contains(got, "mute (in)\n") || !strings.HasPrefix(got, "card1\ncard2\n") {
		t.Errorf("cards: %s", got)
	}
	b.ctl("remove")
	if _, errs, code := b.try("remove"); code != 1 || !strings.Contains(errs, "none is in the reader") {
		t.Errorf("exit code %d, %s", code, errs)
	}
}

func TestPowerCycle(t *testing.T) {
	g, m := newGateway(t), newMediaEnd(t)
	b, l, v := withCard(t, g, m)
	b.ctl("power-cycle")
	l.ended()
	l = g.accept()
	if r := l.presented(); r.Type != "simple" || r.Connected || r.TokenSeq != 3 {
		t.Errorf("%+v", r)
	}
	<-v.conn.Context().Done()
	b.ctl("wait", "state=waiting")
}

func TestScreenshot(t *testing.T) {
	g, m := newGateway(t), newMediaEnd(t)
	b, _, _ := withCard(t, g, m)
	file := filepath.Join(t.TempDir(), "x.png")
	b.ctl("screenshot", file, "-bare")
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range [][2]int{{0, 0}, {319, 239}} {
		if r, g, b, a := img.At(p[0], p[1]).RGBA(); r != 0 || g != 0xffff || b != 0 || a != 0xffff {
			t.Errorf("pixel %v is %x %x %x %x", p, r, g, b, a)
		}
	}
	if img.Bounds().Dx() != 320 || img.Bounds().Dy() != 240 {
		t.Errorf("%v", img.Bounds())
	}
}

func TestWait(t *testing.T) {
	g, m := newGateway(t), newMediaEnd(t)
	b, _ := idle(t, g, m)
	b.ctl("wait", "control=up", "card=none", "size=320x240", "token=pseudo.02005e000001", "hash="+strings.TrimSpace(b.ctl("hash")))
	if _, errs, code := b.try("wait", "osd=48", "-timeout", "1ms"); code != 1 || !strings.Contains(errs, "waited 1ms for osd=48; the terminal is in state picture") {
		t.Errorf("exit code %d, %s", code, errs)
	}
	for _, bad := range []string{"osd=x", "picture=1", "sunshine", "control=maybe", "pixel=1"} {
		if _, errs, code := b.try("wait", bad); code != 1 || !strings.Contains(errs, "unknown condition") {
			t.Errorf("%s: exit code %d, %s", bad, code, errs)
		}
	}
}

func TestCommandLine(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-local"}, 2, "no -authority"},
		{[]string{"-authority", "/nonexistent"}, 1, "no such file; a server makes it"},
		{[]string{"-authority", empty}, 1, "no certificate"},
		{[]string{"-authority", empty, "-group-port", "0"}, 2, "nothing to find a server by"},
		{[]string{"-server", "somewhere"}, 2, "not IPv4:PORT"},
		{[]string{"-display", "cinema"}, 2, "none of headless"},
		{[]string{"-size", "10x10"}, 2, "sides must be"},
		{[]string{"-size", "1024x768x"}, 2, "not WIDTHxHEIGHT"},
		{[]string{"-mac", "xyz"}, 2, "not 12 hex digits"},
		{[]string{"-layout", "xx"}, 2, "none of de, fr, us"},
		{[]string{"stray"}, 2, "unknown argument"},
		{[]string{"ctl"}, 2, "no command"},
		{[]string{"ctl", "status"}, 2, "no -socket"},
		{[]string{"ctl", "fly"}, 2, "unknown command"},
		{[]string{"ctl", "click", "1"}, 2, "it is: click X Y"},
		{[]string{"ctl", "click", "1", "y"}, 2, "not a number"},
		{[]string{"ctl", "screenshot", "-bare"}, 2, "it is: screenshot FILE.png"},
		{[]string{"ctl", "status", "-socket", "/nonexistent/s"}, 1, "is the terminal running"},
		{[]string{"-h"}, 0, "-authority FILE"},
		{[]string{"ctl", "-h"}, 0, "screenshot FILE.png"},
	} {
		var out strings.Builder
		if code := Main(tc.args, &out, &out); code != tc.code || !strings.Contains(out.String(), tc.want) {
			t.Errorf("dtu %q: exit code %d, %s", tc.args, code, out.String())
		}
	}
}

func TestOwnSocketOnly(t *testing.T) {
	g, m := newGateway(t), newMediaEnd(t)
	b, _ := idle(t, g, m)
	info, err := os.Stat(b.socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	var out strings.Builder
	if code := Main([]string{"-local", "-authority", g.file, "-ctl", b.socket}, &out, &out); code != 1 || !strings.Contains(out.String(), "another terminal listens there") {
		t.Errorf("exit code %d, %s", code, out.String())
	}
	b.off()
	if _, err := os.Stat(b.socket); !os.IsNotExist(err) {
		t.Errorf("the socket stays: %v", err)
	}
}

func TestRandomMAC(t *testing.T) {
	a, b := randomMAC(), randomMAC()
	if !a.Valid() || a == b || !strings.Contains("26ae", string(a[1:2])) {
		t.Errorf("%s %s", a, b)
	}
}

// TestHands drives a terminal as a display does.
func TestHands(t *testing.T) {
	g, m := newGateway(t), newMediaEnd(t)
	s, _ := startShell(t, small(g))
	h := hands{s}
	h.Resize(640, 480) // before there is anybody to be told
	if err := s.wait(t.Context(), []string{"size=640x480"}, patience); err != nil {
		t.Fatal(err)
	}
	l := g.accept()
	r := l.presented()
	l.send(m.allow(r, session, green))
	v := m.next()
	if err := s.wait(t.Context(), []string{"picture"}, patience); err != nil {
		t.Fatal(err)
	}
	record := func() input.Record {
		t.Helper()
		select {
		case r := <-v.records:
			return r
		case <-time.After(patience):
			t.Fatal("no record")
			return input.Record{}
		}
	}
	h.Key(0, true) // no key
	h.Key(input.MaxUsage+1, true)
	h.Wheel(0, 0)
	h.Wheel(1000, -1000)
	h.Pointer(-5, 5000, 0xff)
	h.Release()
	h.Key(4, true)
	h.Resize(1, 9999)
	for _, want := range []input.Record{
		{Type: input.Wheel, X: input.MaxWheel, Y: -input.MaxWheel},
		{Type: input.Pointer, X: 0, Y: v.hello.Height - 1, Buttons: 0x1f},
		{Type: input.Release},
		{Type: input.Key, Usage: 4, Down: true},
		{Type: input.Resize, X: alp.MinSide, Y: alp.MaxSide},
	} {
		if got := record(); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	if err := h.Insert("card1"); err != errNoReader || h.Cards() != nil {
		t.Errorf("no reader: %v, %v", err, h.Cards())
	}
	if err := h.Remove(); err != errNoReader {
		t.Error(err)
	}
}

// TestWaitSeesWhatDidNotLast: states that come and go within one step of the
// loop are not missed by who waits for them.
func TestWaitSeesWhatDidNotLast(t *testing.T) {
	b := newBoard()
	before := b.latest()
	for code := range 2 * maxPast {
		b.write(Status{Code: code + 1}, nil)
	}
	news, count, _ := b.since(before)
	if len(news) != maxPast || count != 2*maxPast || news[len(news)-1].Code != 2*maxPast {
		t.Errorf("%d statuses of %d, the last %+v", len(news), count, news[len(news)-1])
	}
	if news, _, changed := b.since(count - 1); len(news) != 1 {
		t.Errorf("%d statuses", len(news))
	} else {
		b.write(news[0], nil) // the same
		b.write(Status{Code: 1}, nil)
		<-changed
	}
	if news, _, _ := b.since(count); len(news) != 1 || news[0].Code != 1 {
		t.Errorf("%+v", news)
	}
	// Without news the last one is told, with what is closed at the one after it:
	// who looked at the two apart slept through what came between.
	news, count, changed := b.since(b.latest())
	if len(news) != 1 || news[0].Code != 1 {
		t.Errorf("%+v", news)
	}
	b.write(Status{Code: 2}, nil)
	<-changed
	if news, _, _ = b.since(count); len(news) != 1 || news[0].Code != 2 {
		t.Errorf("%+v", news)
	}
}
