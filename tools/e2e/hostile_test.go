package e2e

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"hotdesk/groupmgr/app"
	"hotdesk/protocol/group"
	"hotdesk/tools/internal/hostile"
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
	finder, err := f.lab.Terminal(f.ctx, "finder")
	f.must(err)
	_, err = finder.Ctl(f.ctx, "wait", "-timeout", patience.String(), "picture")
	f.must(err)
	if n := strings.Count(f.host.GroupMgr.Log(), "\n"); n > 100 {
		t.Errorf("%d messages left %d log lines of the group manager", 2*messages, n)
	}
}
