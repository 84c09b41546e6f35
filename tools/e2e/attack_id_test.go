package e2e

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	dtu "hotdesk/dtu/app"
	"hotdesk/protocol/alp"
)

// Somebody says the id of another's terminal, which has a key. They are told
// so, and the terminal notices nothing.
func TestAttackIdentity(t *testing.T) {
	f := newFort(t)
	kept, err := f.lab.Terminal(f.ctx, "kept", "-server", f.host.Addr, "-size", small, "-key-file", f.lab.Path("kept.key"))
	f.must(err)
	ctl := func(args ...string) string {
		t.Helper()
		out, err := kept.Ctl(f.ctx, args...)
		f.must(err)
		return out
	}
	look := func() (st dtu.Status) {
		t.Helper()
		f.must(json.Unmarshal([]byte(ctl("status", "-json")), &st))
		return st
	}
	ctl("insert", "card2")
	ctl("wait", "-timeout", patience.String(), "picture", "pixel=400,300,"+xtermColour)
	before := look()

	with := func(c *tls.Certificate) *rogue {
		t.Helper()
		conf := f.tls()
		if c != nil {
			conf.Certificates = []tls.Certificate{*c}
		}
		d := tls.Dialer{NetDialer: new(f.dialer("")), Config: conf}
		conn, err := d.DialContext(f.ctx, "tcp", f.host.Addr)
		f.must(err)
		t.Cleanup(func() { conn.Close() })
		return &rogue{f: f, id: before.Terminal, conn: conn, in: bufio.NewReader(conn)}
	}
	f.during(func() {
		own := selfSigned(t)
		for _, key := range []*tls.Certificate{nil, &own} {
			for _, token := range []alp.Token{"pseudo." + alp.Token(before.Terminal), "simple.4d02f7d472cfa2ed"} {
				r := with(key)
				for _, removal := range []bool{false, true} { // a removal in its name too
					r.say(r.event(token, removal))
					m, err := r.next(alp.CmdConnInf)
					f.must(err)
					if c, err := alp.ParseConnInf(m); err != nil || c.Allowed || !strings.Contains(c.Cause, "another key") {
						t.Errorf("the rogue gets %+v, %v", c, err)
					}
				}
				r.conn.Close()
			}
		}
	})
	if now := look(); now.Session != before.Session || now.Gen != before.Gen || now.Counters != before.Counters || !now.Control {
		t.Errorf("the terminal whose id was used was disturbed:\nbefore %+v\nafter  %+v", before, now)
	}
	ctl("type", "xsetroot -solid '#123456'\n")
	ctl("wait", "-timeout", patience.String(), corner+"123456")
}

// selfSigned is a key that anybody can make.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
