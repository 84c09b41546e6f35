package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/native"
	"hotdesk/tools/internal/lab"
)

// udpPort finds the port of a process's only UDP socket: an attacker who scans
// finds it too.
func udpPort(pid int) (int, error) {
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/udp", pid))
	if err != nil {
		return 0, err
	}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		link, _ := os.Readlink(f)
		inode, ok := strings.CutPrefix(link, "socket:[")
		if !ok {
			continue
		}
		for line := range strings.Lines(string(table)) {
			w := strings.Fields(line)
			if len(w) < 10 || w[9] != strings.TrimSuffix(inode, "]") {
				continue
			}
			var port int
			_, hex, _ := strings.Cut(w[1], ":")
			if _, err := fmt.Sscanf(hex, "%x", &port); err != nil {
				return 0, err
			}
			return port, nil
		}
	}
	return 0, fmt.Errorf("process %d has no UDP socket", pid)
}

// target is the media end that the well-behaved terminal looks at.
func (f *fort) target() netip.AddrPort {
	f.t.Helper()
	st, _, err := f.host.Keeper(f.ctx, f.before.Session)
	f.must(err)
	port, err := udpPort(st.Media)
	f.must(err)
	return netip.AddrPortFrom(netip.MustParseAddrPort(f.host.Addr).Addr(), uint16(port))
}

// A deaf socket sends and hears nothing.
type deaf struct{ net.PacketConn }

func (d deaf) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		if _, _, err := d.PacketConn.ReadFrom(b); err != nil {
			return 0, nil, err
		}
	}
}

// Datagrams of noise, forged connections' first packets and handshakes that
// are never finished, all at the media end that a terminal looks at.
func TestAttackMedia(t *testing.T) {
	f := newFort(t)
	at := f.target()
	f.during(func() {
		var attacks sync.WaitGroup
		attacks.Go(func() {
			c, err := net.Dial("udp", at.String())
			f.must(err)
			defer c.Close()
			b := make([]byte, 1400)
			rnd := rand.NewChaCha8([32]byte{1})
			for n := range 20_000 {
				rnd.Read(b)
				if n%2 == 0 { // of a connection's first packet: long header, version 1
					copy(b, []byte{0xc3, 0, 0, 0, 1, 8})
				}
				c.Write(b[:1+n%len(b)])
			}
		})
		for range 8 {
			attacks.Go(func() {
				for range 25 {
					sock, err := net.ListenPacket("udp4", "127.0.0.1:0")
					f.must(err)
					tr := &quic.Transport{Conn: deaf{sock}}
					ctx, cancel := context.WithTimeout(f.ctx, 50*time.Millisecond)
					_, err = tr.Dial(ctx, net.UDPAddrFromAddrPort(at), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{native.ALPN}}, nil)
					cancel()
					if err == nil {
						t.Error("a handshake came about without an answer")
					}
					tr.Close()
					sock.Close()
				}
			})
		}
		attacks.Go(func() { // connections that say no hello
			for range 40 {
				if m, err := f.dialMedia(f.ctx, at, home); err == nil {
					defer m.cut()
				}
			}
		})
		attacks.Wait()
	})
	if n := f.logged("media connection refused") + f.logged("media greeting refused"); n > 100 {
		t.Errorf("the flood left %d log lines", n)
	}
}

// Noise and forgeries at the group's port: the group manager answers
// afterwards as before, and says little.
func TestAttackGroup(t *testing.T) {
	f := newFort(t)
	addr := netip.MustParseAddrPort(f.host.Addr).Addr()
	f.during(func() {
		for _, to := range []string{addr.String(), "127.255.255.255"} {
			d := net.Dialer{Control: broadcast}
			c, err := d.DialContext(f.ctx, "udp4", net.JoinHostPort(to, fmt.Sprint(f.lab.GroupPort)))
			f.must(err)
			rnd := rand.NewChaCha8([32]byte{2})
			b := make([]byte, 2000)
			for n := range 5000 {
				rnd.Read(b)
				switch n % 4 {
				case 0:
					c.Write(b[:n%len(b)])
				case 1:
					fmt.Fprintf(c, "host name=forged%d %s sig=%x\n", n, strings.Repeat("k=v ", n%80), b[:20])
				case 2:
					fmt.Fprintf(c, "tokenQ token=simple.4d013c7f33545165 alg=hmac-sha1 kid=%x sig=%x\n", b[:4], b[:20])
				case 3:
					fmt.Fprintf(c, "serverQ %s", strings.Repeat("\\", n%1500))
				}
			}
			c.Close()
		}
	})
	other, err := f.lab.Terminal(f.ctx, "finder", "-size", small)
	f.must(err)
	_, err = other.Ctl(f.ctx, "wait", "-timeout", patience.String(), "picture")
	f.must(err)
	if n := strings.Count(f.host.GroupMgr.Log(), "\n"); n > 100 {
		t.Errorf("the flood left %d log lines of the group manager", n)
	}
}

// A terminal that vanishes in the middle of its first picture: the session is
// free for the next one at once.
func TestAttackVanish(t *testing.T) {
	f := newFort(t)
	var token alp.Token = "simple.4d02f7d472cfa2ed" // card2
	f.during(func() {
		var id alp.SessionID
		for n := range 5 {
			r := f.rogue(n, "")
			c := r.offered(token)
			if id != "" && c.Session != id {
				t.Errorf("the session is %s, before it was %s", c.Session, id)
			}
			id = c.Session
			m, err := f.greet(r.at(c), home, r.hello(c))
			f.must(err)
			m.cut() // not a word
			r.conn.Close()
		}
		next, err := f.lab.Terminal(f.ctx, "next", "-server", f.host.Addr, "-size", small)
		f.must(err)
		for _, words := range [][]string{{"insert", "card2"},
			{"wait", "-timeout", patience.String(), "picture", "session=" + string(id), "pixel=400,300," + xtermColour}} {
			_, err = next.Ctl(f.ctx, words...)
			f.must(err)
		}
	})
}

// A session's keeper is killed: its terminal is told, and only that one.
func TestAttackKeeper(t *testing.T) {
	f := newFort(t)
	f.during(func() {
		r := f.rogue(1, "")
		c := r.offered("simple.attack")
		_, err := f.greet(r.at(c), home, r.hello(c))
		f.must(err)
		_, keeper, err := f.host.Keeper(f.ctx, c.Session)
		f.must(err)
		f.must(lab.Kill(f.ctx, keeper))
		m, err := r.next(alp.CmdDiscInf)
		f.must(err)
		if !strings.Contains(m.Get("cause"), "ended unexpectedly") {
			t.Errorf("the terminal is told %q", m.Get("cause"))
		}
		f.once(`msg="session ended"`, string(c.Session), "unexpectedly")
		f.once(`msg="keeper died"`, string(c.Session))
		if again := r.offered("simple.attack"); again.Session == c.Session {
			t.Error("the dead session is offered again")
		}
	})
}

// Tokens that come and go as fast as a connection carries them, from several
// terminals at once, all the same token.
func TestAttackEvents(t *testing.T) {
	f := newFort(t)
	const each = 150
	var token alp.Token = "simple.attack"
	var shown atomic.Int64
	before := len(f.log())
	f.during(func() {
		var floods sync.WaitGroup
		for n := range 8 {
			r := f.rogue(n, "")
			floods.Go(func() {
				for { // takes what comes
					m, err := r.next(alp.CmdConnInf)
					if err != nil {
						return
					}
					if m.Get("ticket") != "" {
						shown.Add(1)
					}
					if m.Get("tokenSeq") == fmt.Sprint(2*each+1) {
						r.conn.Close()
						return
					}
				}
			})
			var flood []byte
			for range each {
				flood = r.event(token, false).Append(flood)
				flood = r.event(token, true).Append(flood)
			}
			flood = r.event("pseudo."+alp.Token(r.id), false).Append(flood)
			r.raw(flood)
		}
		floods.Wait()
	})
	ids, err := f.host.Sessions()
	f.must(err)
	if len(ids) != 2 {
		t.Errorf("the sessions are %v, want the flood's one and the well-behaved terminal's", ids)
	}
	grown := len(f.log()) - before
	t.Logf("%d events, %d offers, %d bytes of log", 8*2*each, shown.Load(), grown)
	if grown > 8*32_000 {
		t.Errorf("the flood left %d bytes of log", grown)
	}
}
