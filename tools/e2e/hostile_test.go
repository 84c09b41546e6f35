package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hotdesk/groupmgr/app"
	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
	"hotdesk/server/session/keeperapi"
	"hotdesk/tools/internal/hostile"
	"hotdesk/tools/internal/lab"
)

// hostileSeed is what a run in CI has; a long one has a new one.
func hostileSeed(t *testing.T, few, many int) (seed uint64, rounds int) {
	t.Helper()
	seed, rounds = 7, few
	if os.Getenv("HOTDESK_LONG") == "1" {
		seed, rounds = rand.Uint64N(1<<32), many
	}
	t.Logf("seed %d", seed)
	return seed, rounds
}

// A terminal and its gateway whose lines are spoilt on the way, in both
// directions: a rogue to each of them. Neither ends, nobody else is disturbed,
// the log stays short, and with true lines all is well again.
func TestHostileLines(t *testing.T) {
	f := newFort(t)
	seed, pulls := hostileSeed(t, 25, 2000)
	gateway, err := f.host.Gateway()
	f.must(err)
	at := netip.MustParseAddrPort(f.host.Addr)
	file := f.lab.Path("state", "host-"+at.Addr().String())
	pair, err := tls.LoadX509KeyPair(file+".pem", file+".key")
	f.must(err)
	relay := &hostile.Relay{
		To: f.host.Addr, Seed: seed, Client: f.tls(),
		Server: &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: f.tls().NextProtos, MinVersion: tls.VersionTLS13},
	}
	// Media is where control is: the relay has the gateway's address.
	l, err := net.Listen("tcp", net.JoinHostPort(at.Addr().String(), "0"))
	f.must(err)
	var relaying sync.WaitGroup
	relaying.Go(func() { relay.Run(f.ctx, l) })
	defer relaying.Wait()
	defer l.Close()
	victim, err := f.lab.Terminal(f.ctx, "victim", "-server", l.Addr().String(), "-size", small)
	f.must(err)
	ctl := func(args ...string) {
		t.Helper()
		_, err := victim.Ctl(f.ctx, args...)
		f.must(err)
	}
	ctl("insert", "card2")
	ctl("wait", "-timeout", patience.String(), "picture", "pixel=400,300,"+xtermColour)
	h := newHand(t, f.ctx, victim)
	f.during(func() {
		relay.Wrong.Store(300)
		rng := rand.New(rand.NewPCG(seed, 1))
		for range pulls {
			if err := h.remove(f.ctx); err != nil {
				t.Error(err)
			}
			<-time.After(time.Duration(1+rng.IntN(40)) * time.Millisecond)
			if err := h.insert(f.ctx, "card2"); err != nil {
				t.Error(err)
			}
			<-time.After(time.Duration(1+rng.IntN(40)) * time.Millisecond)
		}
		relay.Wrong.Store(0)
	})
	ctl("remove")
	ctl("insert", "card2")
	ctl("wait", "-timeout", patience.String(), "picture", "pixel=400,300,"+xtermColour)
	ctl("type", "xsetroot -solid '#345678'\n")
	ctl("wait", "-timeout", patience.String(), corner+"345678")
	if now, err := f.host.Gateway(); err != nil || now != gateway {
		t.Errorf("the gateway is process %d, %v; before it was %d", now, err, gateway)
	}
	if relay.Spoilt.Load() == 0 {
		t.Error("nothing was spoilt")
	}
	if n := f.logged("level=WARN"); n > 100+pulls {
		t.Errorf("%d spoilt lines left %d warnings", relay.Spoilt.Load(), n)
	}
	t.Logf("%d lines spoilt", relay.Spoilt.Load())
}

// A host of the group that has its key and speaks nonsense: the others go on,
// and say little of it.
func TestHostileHost(t *testing.T) {
	f := newFort(t)
	seed, messages := hostileSeed(t, 2000, 200_000)
	text, err := os.ReadFile(f.lab.Path("state", "group.key"))
	f.must(err)
	var ring group.Ring
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			key, err := app.DeriveKey(line)
			f.must(err)
			ring = append(ring, key)
		}
	}
	f.during(func() {
		d := net.Dialer{Control: broadcast, LocalAddr: &net.UDPAddr{IP: net.ParseIP("127.0.66.7")}}
		conn, err := d.DialContext(f.ctx, "udp4", net.JoinHostPort("127.255.255.255", fmt.Sprint(f.lab.GroupPort)))
		f.must(err)
		defer conn.Close()
		f.must(hostile.Host{Name: "hostile", Addr: netip.MustParseAddr("127.0.66.7"), Ring: ring, Seed: seed}.Talk(conn, messages))
	})
	finder, err := f.lab.Terminal(f.ctx, "finder", "-size", small)
	f.must(err)
	_, err = finder.Ctl(f.ctx, "wait", "-timeout", patience.String(), "picture")
	f.must(err)
	if n := strings.Count(f.host.GroupMgr.Log(), "\n"); n > 100 {
		t.Errorf("%d messages left %d log lines of the group manager", 2*messages, n)
	}
}

// weight is the memory of a process, in MB.
func (f *fort) weight(pid int) float64 {
	f.t.Helper()
	kb, err := lab.PSS(pid)
	f.must(err)
	return float64(kb) / 1000
}

// A media end and a terminal whose pictures, keys and cards are spoilt on the
// way, in both directions: a rogue to each of them, that has shaken hands and
// shown its ticket. Neither ends or grows, nobody else is disturbed, and with
// true words all is well again.
func TestHostileMedia(t *testing.T) {
	f := newFort(t)
	seed, pulls := hostileSeed(t, 12, 600)
	at := netip.MustParseAddrPort(f.host.Addr)
	file := f.lab.Path("state", "host-"+at.Addr().String())
	pair, err := tls.LoadX509KeyPair(file+".pem", file+".key")
	f.must(err)
	spoiler := &hostile.Media{Cert: pair, Seed: seed}
	sock, err := spoiler.Listen(at.Addr())
	f.must(err)
	relay := &hostile.Relay{
		To: f.host.Addr, Seed: seed, Client: f.tls(), Media: spoiler,
		Server: &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: f.tls().NextProtos, MinVersion: tls.VersionTLS13},
	}
	l, err := net.Listen("tcp", net.JoinHostPort(at.Addr().String(), "0"))
	f.must(err)
	ctx, cancel := context.WithCancel(f.ctx)
	var relaying sync.WaitGroup
	relaying.Go(func() { relay.Run(ctx, l) })
	relaying.Go(func() {
		if err := spoiler.Run(ctx, sock); err != nil {
			t.Error(err)
		}
	})
	defer relaying.Wait()
	defer cancel()
	victim, err := f.lab.Terminal(f.ctx, "victim", "-server", l.Addr().String(), "-size", small)
	f.must(err)
	ctl := func(args ...string) {
		t.Helper()
		_, err := victim.Ctl(f.ctx, args...)
		f.must(err)
	}
	picture := func() {
		t.Helper()
		ctl("insert", "card2")
		ctl("wait", "-timeout", patience.String(), "picture", "pixel=400,300,"+xtermColour)
	}
	picture()
	id, err := victim.Status(f.ctx, "session")
	f.must(err)
	was, keeper, err := f.host.Keeper(f.ctx, alp.SessionID(id))
	f.must(err)
	before := map[int]float64{victim.Proc.PID(): f.weight(victim.Proc.PID()), was.Media: f.weight(was.Media), keeper: f.weight(keeper)}
	h := newHand(t, f.ctx, victim)
	f.during(func() {
		rng := rand.New(rand.NewPCG(seed, 1))
		for n := range pulls {
			// A little at first, so that the picture comes and what is spoilt is
			// far into it; then more.
			spoiler.Wrong.Store([]int32{60, 200, 500}[n%3])
			if err := h.remove(f.ctx); err != nil {
				t.Error(err)
			}
			if err := h.insert(f.ctx, "card2"); err != nil {
				t.Error(err)
			}
			for range 1 + rng.IntN(4) {
				// What it types may come as anything, but in that session.
				_, _ = victim.Ctl(f.ctx, "type", "#xyz")
				<-time.After(time.Duration(1+rng.IntN(100)) * time.Millisecond)
			}
		}
		spoiler.Wrong.Store(0)
	})
	ctl("remove")
	picture()
	now, _, err := f.host.Keeper(f.ctx, alp.SessionID(id))
	f.must(err)
	if now.Media != was.Media {
		t.Errorf("the media end was process %d and is %d", was.Media, now.Media)
	}
	for pid, mb := range before {
		if grown := f.weight(pid) - mb; grown > 100 {
			t.Errorf("process %d has grown by %.0f MB from %.0f", pid, grown, mb)
		}
	}
	if spoiler.Spoilt.Load() == 0 {
		t.Error("nothing was spoilt")
	}
	if n := f.logged("level=WARN"); n > 100+10*pulls {
		t.Errorf("%d pieces spoilt left %d warnings", spoiler.Spoilt.Load(), n)
	}
	t.Logf("%d pieces spoilt", spoiler.Spoilt.Load())
}

// A gate is a listener that slow peers besiege.
type gate struct {
	name, network, to, say string
	from                   func(int) net.Addr
	works                  func() error // it serves others
}

// Peers of every listener that begin to speak and come to no end, hundreds of
// each, and with HOTDESK_LONG ten thousand at the control port: all listeners
// serve others meanwhile, memory is bounded, the log is short, and afterwards
// everything is given back.
func TestHostileSlow(t *testing.T) {
	f := newFort(t)
	_, many := hostileSeed(t, 600, 10_000)
	few := min(many, 600)
	page, err := f.lab.Terminal(f.ctx, "page", "-server", f.host.Addr, "-size", small, "-display", "workbench", "-card-socket", f.lab.Path("vpcd"))
	f.must(err)
	web, err := url.Parse(page.Ready["url"])
	f.must(err)
	gateway, err := f.host.Gateway()
	f.must(err)
	st, keeper, err := f.host.Keeper(f.ctx, f.before.Session)
	f.must(err)
	admin := func() error {
		var s adminapi.Status
		return f.host.Admin(f.ctx, "/status", &s)
	}
	ctl := func(term *lab.Terminal) func() error {
		return func() error {
			_, err := term.Status(f.ctx, "state")
			return err
		}
	}
	group := func() error {
		var table local.Table
		return f.host.Admin(f.ctx, "/group", &table)
	}
	session := func() error {
		_, _, err := f.host.Keeper(f.ctx, f.before.Session)
		return err
	}
	const http = "GET / HTTP/1.1\r\nHost: slow\r\nX: "
	frame := "\x00\x00\x00\x00\x00\x00\x10\x00" // of which nothing more comes
	gates := []gate{
		{"control", "tcp", f.host.Addr, "\x16\x03\x01\x3f\xff\x01\x00\x3f\xf0" + strings.Repeat("\x00", 64), ofMany, func() error {
			_, err := f.host.Greets(f.ctx)
			return err
		}},
		{"admin", "unix", filepath.Join(f.host.Runtime, adminapi.Socket), http, nil, admin},
		{"group manager", "unix", filepath.Join(f.host.Runtime, "groupmgr.sock"), frame, nil, group},
		{"keeper", "unix", keeperapi.Socket(f.host.Runtime, f.before.Session), frame, nil, session},
		{"terminal", "unix", page.Socket(), http, nil, ctl(page)},
		{"page", "tcp", web.Host, http, nil, ctl(page)},
		{"session's cards", "unix", filepath.Join(f.host.FrameBuffers(), string(f.before.Session), "run", "pcscd.comm"), frame, nil, session},
		{"card programs", "unix", f.lab.Path("vpcd"), "\x00", nil, ctl(page)},
	}
	pids := map[string]int{"gateway": gateway, "server": f.host.Server.PID(), "group manager": f.host.GroupMgr.PID(), "keeper": keeper, "media": st.Media,
		"terminal": f.good.Proc.PID(), "page": page.Proc.PID()}
	weigh := func() map[string]float64 {
		all := map[string]float64{}
		for name, pid := range pids {
			all[name] = f.weight(pid)
		}
		return all
	}
	descriptors := func() map[string]int {
		all := map[string]int{}
		for name, pid := range pids {
			list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
			f.must(err)
			all[name] = len(list)
		}
		return all
	}
	open, light, lines := descriptors(), weigh(), strings.Count(f.log(), "\n")
	f.during(func() {
		ctx, cancel := context.WithCancel(f.ctx)
		defer cancel()
		var siege sync.WaitGroup
		defer siege.Wait()
		defer cancel()
		for _, g := range gates {
			count := few
			if g.name == "control" {
				count = many
			}
			s := &hostile.Slow{Network: g.network, To: g.to, Say: g.say, Count: count, From: g.from}
			siege.Go(func() { s.Hold(ctx) })
			until(t, "the siege of "+g.name, func() string {
				if n := int(s.All.Load()); n < count {
					return fmt.Sprintf("%d of %d", n, count)
				}
				return ""
			})
			t.Logf("%s: %d tried, %d held", g.name, count, s.Held.Load())
		}
		for _, g := range gates {
			if err := g.works(); err != nil {
				t.Errorf("%s is besieged: %v", g.name, err)
			}
		}
		for name, mb := range weigh() {
			t.Logf("%s: %.0f MB, before %.0f", name, mb, light[name])
			if mb-light[name] > mostGrown {
				t.Errorf("%s has grown by %.0f MB", name, mb-light[name])
			}
		}
	})
	until(t, "descriptors are given back", func() string {
		for name, n := range descriptors() {
			if n > open[name]+4 {
				return fmt.Sprintf("%s has %d, before %d", name, n, open[name])
			}
		}
		return ""
	})
	if n := strings.Count(f.log(), "\n") - lines; n > 400 {
		t.Errorf("slow peers left %d log lines", n)
	}
}

// Peers of every UDP port of a host that begin to speak and come to no end, or
// say ever other words, slowly: halves of QUIC handshakes, greetings a byte at a
// time, hosts that nobody knows. A card comes and goes meanwhile, a terminal finds
// its server, memory is bounded and the log is short.
func TestHostileSlowDatagrams(t *testing.T) {
	f := newFort(t)
	_, many := hostileSeed(t, 60, 600)
	guest, err := f.lab.Terminal(f.ctx, "guest", "-server", f.host.Addr, "-size", small)
	f.must(err)
	ctl := func(term *lab.Terminal, args ...string) {
		t.Helper()
		_, err := term.Ctl(f.ctx, args...)
		f.must(err)
	}
	comes := func() {
		t.Helper()
		ctl(guest, "insert", "card2")
		ctl(guest, "wait", "-timeout", patience.String(), "picture", "pixel=400,300,"+xtermColour)
	}
	comes()
	id, err := guest.Status(f.ctx, "session")
	f.must(err)
	st, _, err := f.host.Keeper(f.ctx, alp.SessionID(id))
	f.must(err)
	gateway, err := f.host.Gateway()
	f.must(err)
	addr := netip.MustParseAddrPort(f.host.Addr).Addr()
	pids := map[string]int{"gateway": gateway, "group manager": f.host.GroupMgr.PID(), "media": st.Media, "terminal": f.good.Proc.PID()}
	light := map[string]float64{}
	for name, pid := range pids {
		light[name] = f.weight(pid)
	}
	lines, strange := strings.Count(f.log(), "\n"), strings.Count(f.host.GroupMgr.Log(), "\n")
	began := time.Now()
	f.during(func() {
		ctx, cancel := context.WithCancel(f.ctx)
		defer cancel()
		var siege sync.WaitGroup
		defer siege.Wait()
		defer cancel()
		begun := func(name string, n *atomic.Int32) {
			until(t, "the siege of "+name, func() string {
				if n := int(n.Load()); n < many {
					return fmt.Sprintf("%d of %d", n, many)
				}
				return ""
			})
		}
		var halves []*hostile.Half
		for _, name := range []string{"gateway", "media"} {
			port, err := udpPort(pids[name])
			f.must(err)
			h := &hostile.Half{To: netip.AddrPortFrom(addr, uint16(port)).String(), Count: many, From: ofManyUDP}
			siege.Go(func() { h.Hold(ctx) })
			begun(name, &h.All)
			halves = append(halves, h)
			s := &hostile.Slow{Network: "udp4", To: h.To, Count: many, From: ofManyUDP, Say: "\xc3\x00\x00\x00\x01\x08"}
			siege.Go(func() { s.Hold(ctx) })
			begun(name, &s.All)
		}
		for _, to := range []string{addr.String(), "127.255.255.255"} { // terminals hear the second one too
			s := &hostile.Slow{Network: "udp4", To: net.JoinHostPort(to, fmt.Sprint(f.lab.GroupPort)), Count: many, From: ofManyUDP, Words: hostile.Murmur, Control: broadcast}
			siege.Go(func() { s.Hold(ctx) })
			begun(to, &s.All)
		}
		for range 3 {
			ctl(guest, "remove")
			comes()
		}
		finder, err := f.lab.Terminal(f.ctx, "finder", "-size", small)
		f.must(err)
		ctl(finder, "wait", "-timeout", patience.String(), "picture")
		for _, h := range halves {
			t.Logf("%s: %d connections begun, %d handshakes", h.To, h.All.Load(), h.Done.Load())
		}
		for name, pid := range pids {
			mb := f.weight(pid)
			t.Logf("%s: %.0f MB, before %.0f", name, mb, light[name])
			if mb-light[name] > mostGrown {
				t.Errorf("%s has grown by %.0f MB", name, mb-light[name])
			}
		}
	})
	if now, _, err := f.host.Keeper(f.ctx, alp.SessionID(id)); err != nil || now.Media != st.Media {
		t.Errorf("the media end was process %d and is %d, %v", st.Media, now.Media, err)
	}
	// A burst of each media end's, then a line a second; so many a minute of the group manager's.
	took := time.Since(began)
	if n := strings.Count(f.host.GroupMgr.Log(), "\n") - strange; n > 50+50*int(took.Minutes()) {
		t.Errorf("strangers left %d log lines of the group manager in %v", n, took)
	}
	if n := strings.Count(f.log(), "\n") - lines; n > 250+3*int(took.Seconds()) {
		t.Errorf("slow peers left %d log lines in %v", n, took)
	}
}

// mostGrown bounds, in MB, what slow peers cost a program while they are there:
// 65 of ten thousand were measured, and the race detector takes several times as
// much.
const mostGrown = 500

// ofMany and ofManyUDP are addresses of many machines.
func ofManyUDP(n int) net.Addr { return &net.UDPAddr{IP: net.IPv4(127, 8, byte(n>>8), byte(n))} }

func ofMany(n int) net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 8, byte(n>>8), byte(n))} }
