package auth

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"hotdesk/protocol/alp"
)

// TestCreateRace: whoever comes first, all have the same authority.
func TestCreateRace(t *testing.T) {
	for range 8 {
		dir := filepath.Join(t.TempDir(), "state")
		var wg sync.WaitGroup
		prints := make([]string, 8)
		for i := range prints {
			wg.Go(func() {
				a, err := Create(dir)
				if err != nil {
					t.Error(err)
					return
				}
				prints[i] = a.Fingerprint()
				if _, _, err := a.Host("127.0.0.2"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, p := range prints {
			if p != prints[0] || len(p) != 64 {
				t.Fatalf("fingerprints %q", prints)
			}
		}
		left, err := filepath.Glob(filepath.Join(dir, ".*"))
		if err != nil || len(left) != 0 {
			t.Errorf("left over: %v, %v", left, err)
		}
		for _, f := range []string{"authority.key", "host-127.0.0.2.key"} {
			st, err := os.Stat(filepath.Join(dir, f))
			if err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", f, st, err)
			}
		}
	}
}

func create(t *testing.T) (*Authority, string) {
	t.Helper()
	dir := t.TempDir()
	a, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	return a, dir
}

func TestOpenRefuses(t *testing.T) {
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "-new-authority") {
		t.Errorf("no authority: %v", err)
	}
	for name, spoil := range map[string]func(dir string) error{
		"key that others read": func(d string) error { return os.Chmod(filepath.Join(d, "authority.key"), 0o640) },
		"no certificate":       func(d string) error { return os.Remove(filepath.Join(d, "authority.pem")) },
		"not a key":            func(d string) error { return os.WriteFile(filepath.Join(d, "authority.key"), []byte("x"), 0o600) },
		"another's certificate": func(d string) error {
			_, other := create(t)
			b, err := os.ReadFile(filepath.Join(other, "authority.pem"))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(d, "authority.pem"), b, 0o644)
		},
	} {
		_, dir := create(t)
		if err := spoil(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil || !strings.HasPrefix(err.Error(), "auth: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, dir := create(t)
	if err := os.Remove(filepath.Join(dir, "authority.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(dir); err == nil {
		t.Error("an authority without its key was replaced")
	}
}

// TestHost: a certificate that fits is kept, one that does not is made anew.
func TestHost(t *testing.T) {
	a, dir := create(t)
	cert, key, err := a.Host("h1")
	if err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	same := func() bool {
		t.Helper()
		if _, _, err := a.Host("h1"); err != nil {
			t.Fatal(err)
		}
		now, err := os.ReadFile(cert)
		if err != nil {
			t.Fatal(err)
		}
		was := first
		first = now
		return bytes.Equal(was, now)
	}
	if !same() {
		t.Error("a good certificate was replaced")
	}
	if err := os.WriteFile(key, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if same() {
		t.Error("a certificate without key was kept")
	}
	for _, f := range []string{"authority.key", "authority.pem"} {
		if err := os.Remove(filepath.Join(dir, f)); err != nil {
			t.Fatal(err)
		}
	}
	if a, err = Create(dir); err != nil {
		t.Fatal(err)
	}
	if same() {
		t.Error("a certificate of another authority was kept")
	}
	for _, name := range []string{"", "../x", strings.Repeat("h", 200)} {
		if _, _, err := a.Host(name); err == nil {
			t.Errorf("host %q", name)
		}
	}
}

// TestHandshake: real TLS over a real socket, as terminals do it and as they
// must not.
func TestHandshake(t *testing.T) {
	a, dir := create(t)
	other, _ := create(t)
	certFile, keyFile, err := a.Host("h1")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := os.Open(certFile)
	if err != nil {
		t.Fatal(err)
	}
	defer cert.Close()
	key, err := os.Open(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	conf, err := ServerConfig(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer nc.Close()
				c := tls.Server(nc, conf)
				if c.HandshakeContext(t.Context()) == nil {
					c.Write([]byte("in\n"))
				}
			})
		}
	})
	defer wg.Wait()
	defer ln.Close()

	text, err := os.ReadFile(filepath.Join(dir, AuthorityFile))
	if err != nil {
		t.Fatal(err)
	}
	pinned := x509.NewCertPool()
	if !pinned.AppendCertsFromPEM(text) {
		t.Fatal("the authority's file is no certificate")
	}
	others := x509.NewCertPool()
	others.AddCert(other.cert)
	good := tls.Config{RootCAs: pinned, ServerName: alp.ServerName, NextProtos: []string{alp.ALPN}}
	for _, c := range []struct {
		name   string
		change func(*tls.Config)
		ok     bool
	}{
		{"as it should be", func(*tls.Config) {}, true},
		{"another authority pinned", func(c *tls.Config) { c.RootCAs = others }, false},
		{"another name", func(c *tls.Config) { c.ServerName = "example.org" }, false},
		{"another protocol", func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }, false},
		{"TLS 1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, false},
	} {
		conf := good.Clone()
		c.change(conf)
		conn, err := tls.Dial("tcp", ln.Addr().String(), conf)
		if err == nil {
			b := make([]byte, 3)
			_, err = conn.Read(b)
			if st := conn.ConnectionState(); err == nil && (st.Version != tls.VersionTLS13 || st.NegotiatedProtocol != alp.ALPN) {
				t.Errorf("%s: version %x, protocol %q", c.name, st.Version, st.NegotiatedProtocol)
			}
			conn.Close()
		}
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
