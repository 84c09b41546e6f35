package e2e

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"hotdesk/protocol/alp"
)

// A stranger is a terminal that says what it likes, on a machine of its own.
type stranger struct {
	r    *realm
	id   alp.TerminalID
	conn *tls.Conn
	in   *bufio.Reader
	seq  int
}

func (r *realm) stranger(machine string, id alp.TerminalID, host string) *stranger {
	r.t.Helper()
	pem, err := os.ReadFile(r.lab.Authority())
	r.must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	var raw net.Conn
	r.must(r.node(machine).Do(func() (err error) {
		raw, err = net.DialTimeout("tcp4", r.at(host), patience)
		return err
	}))
	conn := tls.Client(raw, &tls.Config{RootCAs: roots, ServerName: alp.ServerName, NextProtos: []string{alp.ALPN}})
	r.t.Cleanup(func() { conn.Close() })
	r.must(conn.HandshakeContext(r.ctx))
	return &stranger{r: r, id: id, conn: conn, in: bufio.NewReader(conn)}
}

// insert presents a token, with a redirect's proof where there is one, and
// returns the answer.
func (s *stranger) insert(token alp.Token, props string) alp.Message {
	s.r.t.Helper()
	kind, id, _ := strings.Cut(string(token), ".")
	s.seq++
	q := alp.InfoReq{Identity: alp.Identity{Firmware: "stranger", Hardware: "stranger", Terminal: s.id, Port: 1},
		Type: kind, ID: id, Width: 800, Height: 640, TokenSeq: s.seq, Redirect: props != "", Props: props}
	s.r.must(s.conn.SetDeadline(time.Now().Add(patience)))
	_, err := s.conn.Write(q.Message().Append(nil))
	s.r.must(err)
	for {
		line, err := s.in.ReadBytes('\n')
		s.r.must(err)
		m, err := alp.Parse(line)
		s.r.must(err)
		if m.Command == alp.CmdConnInf || m.Command == alp.CmdRedirectInf {
			return m
		}
	}
}

// A redirect's proof is worth something to the terminal that it was made for,
// with the token and at the host that it names, for some seconds; to everybody
// else the token is one without proof.
func TestNetnsReplayedProof(t *testing.T) {
	r := newRealm(t, []string{"north", "south", "a", "evil"})
	for _, h := range []string{"north", "south"} {
		r.host(h, nil)
	}
	r.together("north", "south")
	a := r.terminal("a")
	r.see(a, "picture")
	r.hands(a, "insert", "card1")
	r.desk(a)
	token := alp.Token(r.status(a, "token"))
	has, other := "north", "south"
	if r.status(a, "server") != r.at(has) {
		has, other = other, has
	}
	refused := func(host, why string, times int) {
		t.Helper()
		r.eventually(host+" refuses: "+why, func() (bool, string) {
			n := 0
			for line := range strings.Lines(r.hosts[host].Server.Log()) {
				if strings.Contains(line, "redirect without proof") && strings.Contains(line, why) {
					n++
				}
			}
			return n == times, r.hosts[host].Server.Log()
		})
	}

	// What a terminal is sent on with, it can keep, and give away.
	const id, elsewhere = "02660000000e", "02660000000f"
	m := r.stranger("evil", id, other).insert(token, "")
	sent, err := alp.ParseRedirectInf(m)
	r.must(err)
	if sent.Addr != r.node(has).Addr || sent.Props == "" {
		t.Fatalf("sent on to %v with %q", sent.Addr, sent.Props)
	}
	good := r.stranger("evil", id, has)
	if m := good.insert(token, sent.Props); m.Command != alp.CmdConnInf || m.Get("session") == "" {
		t.Errorf("the one that it was made for got %v", m.Command)
	}
	refused(has, "", 0)

	r.stranger("evil", elsewhere, has).insert(token, sent.Props)
	refused(has, "another terminal", 1)
	good = r.stranger("evil", id, has)
	good.insert(token+"0", sent.Props)
	refused(has, "another token", 1)
	r.stranger("evil", id, other).insert(token, sent.Props)
	refused(other, "the proof is for host "+has, 1)
	forged := []byte(sent.Props)
	forged[len(forged)-1] ^= 1
	good.insert(token, string(forged))
	refused(has, "group:", 1)

	// Later it is worth nothing to its own terminal either. The host logs no more
	// than some lines of a terminal's.
	var asked time.Time
	r.eventually("the proof grows old", func() (bool, string) {
		if time.Since(asked) > 500*time.Millisecond {
			asked = time.Now()
			good.insert(token, sent.Props)
		}
		return strings.Contains(r.hosts[has].Server.Log(), "the proof is too old"), ""
	})
	if r.sessions() > 2 { // card1's, and the other token's
		t.Errorf("%d sessions", r.sessions())
	}
}
