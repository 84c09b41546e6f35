package auth

import (
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
