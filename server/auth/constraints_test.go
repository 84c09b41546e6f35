package auth

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"hotdesk/protocol/alp"
)

// TestVouchesForNobodyElse: even where somebody installs a group's authority as
// one for everything, it has no power over other servers (invariant 4).
func TestVouchesForNobodyElse(t *testing.T) {
	a, _ := create(t)
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	for name, c := range map[string]struct {
		dns string
		ip  net.IP
		ok  bool
	}{
		"the group's servers": {dns: alp.ServerName, ok: true},
		"another name":        {dns: "bank.example"},
		"a longer name":       {dns: "example." + alp.ServerName + ".example"},
		"an address":          {ip: net.IPv4(192, 0, 2, 1)},
		"an IPv6 address":     {ip: net.ParseIP("2001:db8::1")},
	} {
		key, _, err := newKey()
		if err != nil {
			t.Fatal(err)
		}
		tpl := template("somebody", time.Hour)
		host := c.dns
		if c.ip != nil {
			tpl.IPAddresses, host = []net.IP{c.ip}, c.ip.String()
		} else {
			tpl.DNSNames = []string{c.dns}
		}
		der, err := x509.CreateCertificate(rand.Reader, tpl, a.cert, key.Public(), a.key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHostVouchesForNobody: what a host's key signs is of nobody's group. The
// host's certificate is no authority's, and would it say so, the group's
// authority lets none be below it.
func TestHostVouchesForNobody(t *testing.T) {
	a, _ := create(t)
	certFile, keyFile, err := a.Host("h1")
	if err != nil {
		t.Fatal(err)
	}
	host, _, err := readChain(certFile)
	if err != nil {
		t.Fatal(err)
	}
	if host.IsCA || host.KeyUsage&x509.KeyUsageCertSign != 0 {
		t.Error("a host's certificate says that it may sign others")
	}
	key, err := readKey(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(tpl, by *x509.Certificate, public any, with crypto.Signer) *x509.Certificate {
		t.Helper()
		der, err := x509.CreateCertificate(rand.Reader, tpl, by, public, with)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	below := a.hostCertificate("below")
	below.IsCA, below.BasicConstraintsValid, below.KeyUsage = true, true, x509.KeyUsageCertSign
	for name, by := range map[string]*x509.Certificate{"a host": host, "an authority of one's own": sign(below, a.cert, key.Public(), a.key)} {
		mine, _, err := newKey()
		if err != nil {
			t.Fatal(err)
		}
		forged := sign(a.hostCertificate("h2"), by, mine.Public(), key)
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(a.cert)
		between.AddCert(by)
		if _, err := forged.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: alp.ServerName}); err == nil {
			t.Errorf("%s vouches for another host", name)
		}
	}
}

// TestChain: a host's file shows its authority too, and one from before that
// was so is made anew.
func TestChain(t *testing.T) {
	a, _ := create(t)
	cert, _, err := a.Host("h1")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "BEGIN CERTIFICATE"); n != 2 {
		t.Errorf("%d certificates", n)
	}
	if _, top, err := readChain(cert); err != nil || !top.Equal(a.cert) {
		t.Errorf("%v", err)
	}
	alone := text[:strings.LastIndex(string(text), "-----BEGIN")]
	if err := os.WriteFile(cert, alone, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Host("h1"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := readChain(cert); err != nil {
		t.Errorf("not made anew: %v", err)
	}
}
