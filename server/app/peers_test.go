package app

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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
	at, err := newPassport(north, filepath.Join(t.TempDir(), renewedFile), slog.New(slog.DiscardHandler))
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
		server := tls.Server(b, at.serverConfig())
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

// A certificate is renewed before it ends, by the host that has the authority's
// key, also after some minutes in which nobody could; connections that begin later
// have it, and so has a gateway that is started again.
func TestRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		log := slog.New(slog.DiscardHandler)
		first := keysOf(t, dir, "south")
		path := filepath.Join(t.TempDir(), renewedFile)
		p, err := newPassport(first, path, log)
		if err != nil {
			t.Fatal(err)
		}
		until := p.now.Load().until
		a, err := auth.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		var all []time.Duration // before the end
		asked := func() []time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(all)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			p.keep(ctx, func(context.Context, string, []byte) ([]byte, error) { return nil, errors.New("the key is elsewhere") },
				func(context.Context) ([]byte, error) {
					now := p.now.Load()
					mu.Lock()
					all = append(all, time.Until(now.until))
					mu.Unlock()
					switch len(asked()) {
					case 1:
						return nil, errors.New("nobody answers")
					case 2: // a taken-over host: of another authority
						other, err := auth.Create(filepath.Join(dir, "other"))
						if err != nil {
							return nil, err
						}
						return other.Renew(now.name, now.public)
					case 3: // what it has
						return now.keys.cert, nil
					}
					return a.Renew(now.name, now.public)
				})
		})
		step := func(d time.Duration) { <-time.After(d); synctest.Wait() }
		step(time.Until(until) - auth.RenewBefore - time.Hour)
		if len(asked()) != 0 {
			t.Errorf("asked %v before the end", asked())
		}
		step(24 * time.Hour)
		if len(asked()) != 4 {
			t.Fatalf("asked %v", asked())
		}
		if d := asked()[0] - asked()[3]; d != 7*renewAgain {
			t.Errorf("asked again after %v", d)
		}
		now := p.now.Load()
		if now.until.Sub(until) < 600*24*time.Hour || now.name != "south" || string(now.keys.key) != string(first.key) {
			t.Errorf("renewed until %v, was %v", now.until, until)
		}
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o644 {
			t.Errorf("%v, %v", st, err)
		}
		// The first one has run out: who asks now is shown the newer one.
		step(time.Until(until) + time.Hour)
		again, err := newPassport(first, path, log)
		if err != nil || !again.now.Load().until.Equal(now.until) {
			t.Errorf("started again: %v", err)
		}
		x, y := net.Pipe()
		server, client := tls.Server(y, again.serverConfig()), tls.Client(x, p.now.Load().ask)
		done := make(chan error, 1)
		go func() { done <- server.Handshake() }()
		if err := errors.Join(client.Handshake(), <-done); err != nil {
			t.Error(err)
		}
		x.Close()
		y.Close()
		if len(asked()) != 4 {
			t.Errorf("asked %v", asked())
		}
		cancel()
		wg.Wait()

		// Where the authority's key is, the parent signs; elsewhere it does not.
		north := Config{State: dir, Log: log}
		chain, err := north.sign("south", now.public)
		if err != nil || auth.Better(first.cert, chain, first.key, time.Now()) != nil {
			t.Errorf("sign: %v", err)
		}
		south := Config{State: t.TempDir(), Log: log}
		if _, err := south.sign("south", now.public); err == nil {
			t.Error("a host without the authority's key signs")
		}
		for name, public := range map[string][]byte{"": now.public, "a/b": now.public, "short": now.public[:64], "none": make([]byte, auth.PublicSize), "long": make([]byte, 1000)} {
			if _, err := north.sign(name, public); err == nil {
				t.Errorf("%q with a key of %d bytes is signed", name, len(public))
			}
		}
	})
}
