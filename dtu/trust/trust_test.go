package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	name = "hotdesk"
	alpn = "test/1"
)

// A maker makes certificates.
type maker struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// make signs a certificate with m, or with its own key where m is nil.
func (m *maker) make(t testing.TB, subject string, change ...func(*x509.Certificate)) *maker {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: subject},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
	}
	for _, c := range change {
		c(tpl)
	}
	issuer, signer := tpl, key
	if m != nil {
		issuer, signer = m.cert, m.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, issuer, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &maker{cert, key}
}

func ca(c *x509.Certificate) {
	c.IsCA, c.BasicConstraintsValid, c.MaxPathLenZero, c.KeyUsage = true, true, true, x509.KeyUsageCertSign
}

func host(c *x509.Certificate) {
	c.DNSNames, c.KeyUsage, c.ExtKeyUsage = []string{name}, x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
}

func (m *maker) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.cert.Raw})
}

func write(t *testing.T, text []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "authority.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func open(t *testing.T, cfg Config) *Store {
	t.Helper()
	cfg.Name, cfg.ALPN = name, alpn
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func chain(list ...*maker) []*x509.Certificate {
	var all []*x509.Certificate
	for _, m := range list {
		all = append(all, m.cert)
	}
	return all
}

// TestOnlyAuthorities: what is no authority is pinned by no way (invariant 2).
func TestOnlyAuthorities(t *testing.T) {
	var none *maker
	group := none.make(t, "group", ca)
	for what, m := range map[string]*maker{
		"a server's, signed by the group":  group.make(t, "server", host),
		"a server's, signed by itself":     none.make(t, "server", host),
		"an authority below another":       group.make(t, "between", ca),
		"an authority that may not sign":   none.make(t, "mute", ca, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }),
		"nothing said, signed by itself":   none.make(t, "plain"),
		"a server's that says it may sign": none.make(t, "server", host, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }),
	} {
		if _, err := Parse(m.pem()); err == nil {
			t.Errorf("%s: taken from a file", what)
		}
		file := filepath.Join(t.TempDir(), "trusted.pem")
		s := open(t, Config{Mode: FirstUse, File: file})
		if err := s.Accept(&Unknown{m.cert, Of(m.cert)}); err == nil || s.Fingerprints() != nil {
			t.Errorf("%s: accepted", what)
		}
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			t.Errorf("%s: kept", what)
		}
		server := group.make(t, "server", host)
		if _, ok := errors.AsType[*Unknown](s.Verify(chain(server, m), time.Now())); ok {
			t.Errorf("%s: somebody is asked", what)
		}
	}
	if _, err := Parse(group.pem()); err != nil {
		t.Error(err)
	}
	for what, text := range map[string]string{"nothing": "", "a key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "noise": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
}

// TestVerify: which servers a terminal with a pinned authority believes.
func TestVerify(t *testing.T) {
	var none *maker
	group, other := none.make(t, "group", ca), none.make(t, "other", ca)
	limited := none.make(t, "limited", ca, func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.org"}, true
	})
	wide := none.make(t, "wide", ca, func(c *x509.Certificate) { c.MaxPathLenZero = false })
	between := wide.make(t, "between", ca)
	below := group.make(t, "below", ca)
	server := group.make(t, "server", host)
	in := time.Now()
	for _, c := range []struct {
		what   string
		pinned *maker
		shown  []*x509.Certificate
		at     time.Time
		ok     bool
	}{
		{"its server", group, chain(server, group), in, true},
		{"its server, without the authority", group, chain(server), in, true},
		{"another group's", group, chain(other.make(t, "server", host), other), in, false},
		{"another group's that shows ours too", group, chain(other.make(t, "server", host), group), in, false},
		{"one that signed itself", group, chain(none.make(t, "server", host)), in, false},
		{"the authority itself as a server", group, chain(group), in, false},
		{"a certificate that was a server's as authority", group, chain(server.make(t, "server", host), server, group), in, false},
		{"an authority below, which none may be", group, chain(below.make(t, "server", host), below, group), in, false},
		{"an authority below, where one may be", wide, chain(between.make(t, "server", host), between, wide), in, true},
		{"another name", group, chain(group.make(t, "server", host, func(c *x509.Certificate) { c.DNSNames = []string{"bank.example"} })), in, false},
		{"a client's", group, chain(group.make(t, "server", host, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })), in, false},
		{"a name outside the authority's constraints", limited, chain(limited.make(t, "server", host), limited), in, false},
		{"later", group, chain(server, group), in.Add(2 * time.Hour), false},
		{"nothing", group, nil, in, false},
		{"too many", group, chain(server, group, group, group, group), in, false},
	} {
		s := open(t, Config{Mode: Configured, Authority: write(t, c.pinned.pem())})
		err := s.Verify(c.shown, c.at)
		if _, refused := errors.AsType[*Refused](err); (err == nil) != c.ok || err != nil && !refused {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// TestNeverChanges: what was accepted stays, and another is refused by name
// (invariant 4).
func TestNeverChanges(t *testing.T) {
	var none *maker
	group, other := none.make(t, "group", ca), none.make(t, "other", ca)
	file := filepath.Join(t.TempDir(), "trusted.pem")
	s := open(t, Config{Mode: FirstUse, File: file})
	unknown, ok := errors.AsType[*Unknown](s.Verify(chain(group.make(t, "server", host), group), time.Now()))
	if !ok || unknown.Print != Of(group.cert) {
		t.Fatalf("first use: %v", unknown)
	}
	if err := s.Accept(unknown); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	for _, s := range []*Store{s, open(t, Config{Mode: FirstUse, File: file}), open(t, Config{Mode: DHCP, File: file})} {
		s.Named(Of(other.cert))
		if err := s.Verify(chain(group.make(t, "server", host), group), time.Now()); err != nil {
			t.Errorf("its own: %v", err)
		}
		err := s.Verify(chain(other.make(t, "server", host), other), time.Now())
		if _, ok := errors.AsType[*Refused](err); !ok || !strings.Contains(err.Error(), Of(group.cert).String()) || !strings.Contains(err.Error(), Of(other.cert).String()) {
			t.Errorf("another: %v", err)
		}
		if err := s.Accept(&Unknown{other.cert, Of(other.cert)}); err == nil {
			t.Error("another was accepted")
		}
	}
	// Two terminals with one file: the second cannot bring another in.
	late := &Store{mode: FirstUse, file: file, name: name}
	if err := late.Accept(&Unknown{other.cert, Of(other.cert)}); err == nil || late.Fingerprints()[0] != Of(group.cert) {
		t.Errorf("a second terminal: %v, %v", err, late.Fingerprints())
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != string(group.pem()) {
		t.Errorf("the file changed: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(file), ".*"))
	if err != nil || left != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestDHCP: the first server whose authority has the fingerprint is believed,
// and none before DHCP has spoken.
func TestDHCP(t *testing.T) {
	var none *maker
	group, other := none.make(t, "group", ca), none.make(t, "other", ca)
	file := filepath.Join(t.TempDir(), "trusted.pem")
	s := open(t, Config{Mode: DHCP, File: file})
	good, bad := chain(group.make(t, "server", host), group), chain(other.make(t, "server", host), other)
	if err := s.Verify(good, time.Now()); err == nil || !strings.Contains(err.Error(), "DHCP has named no fingerprint") {
		t.Errorf("before: %v", err)
	}
	s.Named(Of(group.cert))
	err := s.Verify(bad, time.Now())
	if err == nil || !strings.Contains(err.Error(), Of(group.cert).String()) || !strings.Contains(err.Error(), Of(other.cert).String()) {
		t.Errorf("another: %v", err)
	}
	if err := s.Verify(chain(other.make(t, "server", host), group), time.Now()); err == nil {
		t.Error("another's server that shows the right authority was believed")
	}
	if err := s.Accept(&Unknown{other.cert, Of(other.cert)}); err == nil {
		t.Error("somebody accepted")
	}
	if err := s.Verify(good, time.Now()); err != nil {
		t.Errorf("the right one: %v", err)
	}
	s.Named(Of(other.cert))
	if err := s.Verify(bad, time.Now()); err == nil {
		t.Error("DHCP changed what is trusted")
	}
	if all := open(t, Config{Mode: DHCP, File: file}).Fingerprints(); len(all) != 1 || all[0] != Of(group.cert) {
		t.Errorf("kept %v", all)
	}
}

// TestHandshake: over a real connection not a byte of a server is read that is
// not believed, and it reads none of ours.
func TestHandshake(t *testing.T) {
	var none *maker
	group, other := none.make(t, "group", ca), none.make(t, "other", ca)
	server := group.make(t, "server", host)
	cert := tls.Certificate{Certificate: [][]byte{server.cert.Raw, group.cert.Raw}, PrivateKey: server.key}
	for _, c := range []struct {
		what   string
		pinned *maker
		server *tls.Config
		ok     bool
	}{
		{"its server", group, &tls.Config{NextProtos: []string{alpn}}, true},
		{"another's", other, &tls.Config{NextProtos: []string{alpn}}, false},
		{"TLS 1.2", group, &tls.Config{NextProtos: []string{alpn}, MaxVersion: tls.VersionTLS12}, false},
		{"another protocol", group, &tls.Config{NextProtos: []string{"http/1.1"}}, false},
	} {
		s := open(t, Config{Mode: Configured, Authority: write(t, c.pinned.pem())})
		near, far := net.Pipe()
		c.server.Certificates = []tls.Certificate{cert}
		ended := make(chan error, 1)
		go func() {
			conn := tls.Server(far, c.server)
			_, err := conn.Read(make([]byte, 1))
			far.Close()
			ended <- err
		}()
		conn := tls.Client(near, s.TLS())
		err := conn.HandshakeContext(t.Context())
		if err == nil {
			_, err = conn.Write([]byte{1})
		}
		near.Close()
		if got := <-ended; (err == nil) != c.ok || (got == nil) != c.ok {
			t.Errorf("%s: %v, the server: %v", c.what, err, got)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	var none *maker
	server := none.make(t, "group", ca).make(t, "server", host)
	for what, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"no file":                {Config{Mode: Configured, Authority: "/nowhere/authority.pem"}, "-state"},
		"a server's":             {Config{Mode: Configured, Authority: write(t, server.pem())}, "is a server's, not an authority's"},
		"a server's, kept":       {Config{Mode: FirstUse, File: write(t, server.pem())}, "take the file away"},
		"a damaged file":         {Config{Mode: FirstUse, File: write(t, []byte("x"))}, "take the file away"},
		"a file that is too big": {Config{Mode: Configured, Authority: write(t, make([]byte, MaxFile+1))}, "larger"},
	} {
		if s, err := Open(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v", what, s, err)
		}
	}
}

func TestPrint(t *testing.T) {
	var p Print
	p[0], p[31] = 0xab, 0x01
	for _, s := range []string{p.String(), p.Spaced(), strings.ReplaceAll(p.Spaced(), " ", ":")} {
		if got, err := ParsePrint(s); err != nil || got != p {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "ab", p.String() + "00", strings.Repeat("x", 64)} {
		if _, err := ParsePrint(s); err == nil {
			t.Errorf("%q", s)
		}
	}
}

// FuzzParse: what is read from a file is authorities or nothing.
func FuzzParse(f *testing.F) {
	var none *maker
	group := none.make(f, "group", ca)
	f.Add(group.pem())
	f.Add(append(group.pem(), group.make(f, "server", host).pem()...))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := Parse(b)
		if err != nil && all != nil || err == nil && len(all) == 0 {
			t.Fatalf("%v, %v", all, err)
		}
		for _, c := range all {
			if !c.IsCA {
				t.Fatal("not an authority")
			}
		}
	})
}
