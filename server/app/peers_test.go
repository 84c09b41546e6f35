package app

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"testing"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/server/admin"
	"hotdesk/server/auth"
)

// keysOf are a host's of a group whose authority is in dir.
func keysOf(t *testing.T, dir, host string) hostKeys {
	t.Helper()
	a, err := auth.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, err := a.Host(host)
	if err != nil {
		t.Fatal(err)
	}
	cert, err1 := os.ReadFile(certFile)
	key, err2 := os.ReadFile(keyFile)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return hostKeys{cert, key}
}

// A gateway answers hosts with a certificate of the group's authority, and
// asks none but those; terminals need no certificate.
func TestPeerTrust(t *testing.T) {
	group, other := t.TempDir(), t.TempDir()
	north, south, strange := keysOf(t, group, "north"), keysOf(t, group, "south"), keysOf(t, other, "south")
	answer, _, err := north.peerConfigs()
	if err != nil {
		t.Fatal(err)
	}
	base, err := auth.ServerConfig(open(t, group, "host-north.pem"), open(t, group, "host-north.key"))
	if err != nil {
		t.Fatal(err)
	}
	asks := func(k hostKeys) *tls.Config {
		_, ask, err := k.peerConfigs()
		if err != nil {
			t.Fatal(err)
		}
		return ask
	}
	trusting := asks(strange).Clone() // a stranger who believes anybody
	trusting.InsecureSkipVerify = true
	bare := asks(south).Clone()
	bare.Certificates = nil
	terminal := bare.Clone()
	terminal.NextProtos = []string{alp.ALPN}
	for name, c := range map[string]struct {
		conf  *tls.Config
		proto string // "": refused
	}{
		"a host of the group":       {asks(south), adminapi.PeerALPN},
		"a host of another group":   {asks(strange), ""},
		"one that trusts everybody": {trusting, ""},
		"one without a certificate": {bare, ""},
		"a terminal":                {terminal, alp.ALPN},
	} {
		a, b := net.Pipe()
		server := tls.Server(b, withPeers(base, answer))
		done := make(chan error, 1)
		go func() {
			err := server.Handshake()
			if err != nil {
				b.Close()
			}
			done <- err
		}()
		client := tls.Client(a, c.conf)
		clientErr := client.Handshake()
		if clientErr != nil {
			a.Close()
		} else if c.proto == "" {
			_, clientErr = client.Read(make([]byte, 1)) // the server's refusal
		}
		err := <-done
		switch {
		case c.proto == "" && err == nil:
			t.Errorf("%s is taken", name)
		case c.proto != "" && (err != nil || clientErr != nil):
			t.Errorf("%s: %v, %v", name, err, clientErr)
		case c.proto != "" && server.ConnectionState().NegotiatedProtocol != c.proto:
			t.Errorf("%s speaks %q", name, server.ConnectionState().NegotiatedProtocol)
		case c.proto == adminapi.PeerALPN && admin.CertHost(server) != "south":
			t.Errorf("%s is called %q", name, admin.CertHost(server))
		}
		a.Close()
		b.Close()
	}
}

func open(t *testing.T, parts ...string) *os.File {
	t.Helper()
	f, err := os.Open(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
