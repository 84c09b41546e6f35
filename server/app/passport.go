package app

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/server/auth"
)

// renewedFile holds, in the gateway's own directory, a certificate that took the
// place of the one which the parent passes on: same key, same authority, later
// end.
const renewedFile = "host.pem"

const (
	renewEvery = 12 * time.Hour // between two looks at the date
	renewAgain = time.Minute    // where nobody could renew it; it doubles up to renewMost
	renewMost  = time.Hour
	renewTime  = time.Minute // for one attempt
)

// A passport is this host's certificate, which is renewed while the gateway
// runs: connections that begin later have the newer one.
type passport struct {
	path string // of the renewed one
	dir  string // of what etcd reads, "": it reads none
	log  *slog.Logger
	now  atomic.Pointer[papers]
}

// papers are what one certificate makes.
type papers struct {
	keys              hostKeys
	base, answer, ask *tls.Config // for terminals, for hosts that ask, for asking
	name              string
	public            []byte
	until             time.Time
}

// newPassport takes the certificate that the parent gave, or the one that has
// taken its place.
func newPassport(keys hostKeys, path string, log *slog.Logger) (*passport, error) {
	i := &passport{path: path, log: log}
	if chain, err := readSmall(path); err == nil {
		if err := auth.Better(keys.cert, chain, keys.key, time.Now()); err == nil {
			keys.cert = chain
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		log.Error("renewed certificate cannot be read", "err", err)
	}
	return i, i.take(keys)
}

// take begins to use a certificate.
func (i *passport) take(keys hostKeys) error {
	host, _, err := auth.HostCert(keys.cert, keys.key)
	if err != nil {
		return err
	}
	p := &papers{keys: keys, name: strings.TrimPrefix(host.Subject.CommonName, "Hotdesk host "), until: host.NotAfter}
	public, ok := host.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return errors.New("server: the host's key is none of ECDSA")
	}
	if p.public, err = public.Bytes(); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	if p.base, err = auth.ServerConfig(bytes.NewReader(keys.cert), bytes.NewReader(keys.key)); err != nil {
		return err
	}
	if p.answer, p.ask, err = keys.peerConfigs(); err != nil {
		return err
	}
	i.now.Store(p)
	return nil
}

// keep renews the certificate before it ends, until ctx ends. sign asks this
// host's authority, ask those of other hosts.
func (i *passport) keep(ctx context.Context, sign func(context.Context, string, []byte) ([]byte, error), ask func(context.Context) ([]byte, error)) {
	again := renewAgain
	for {
		wait := renewEvery
		if p := i.now.Load(); time.Until(p.until) < auth.RenewBefore {
			within, cancel := context.WithTimeout(ctx, renewTime)
			chain, err := sign(within, p.name, p.public)
			if err != nil {
				chain, err = ask(within)
			}
			cancel()
			if err == nil {
				err = i.renew(p, chain)
			}
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				i.log.Warn("certificate cannot be renewed", "until", p.until, "err", err)
				wait = again
				again = min(2*again, renewMost)
			} else {
				again = renewAgain
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// renew puts a certificate in the place of p's.
func (i *passport) renew(p *papers, chain []byte) error {
	if err := auth.Better(p.keys.cert, chain, p.keys.key, time.Now()); err != nil {
		return err
	}
	if err := auth.Place(i.path, chain); err != nil {
		return err
	}
	keys := hostKeys{cert: chain, key: p.keys.key}
	if i.dir != "" {
		if _, _, _, err := keys.files(i.dir); err != nil {
			return err
		}
	}
	if err := i.take(keys); err != nil {
		return err
	}
	i.log.Info("certificate renewed", "until", i.now.Load().until)
	return nil
}

// sign makes a further certificate for a host of the group, where the
// authority's key is. It runs in the parent: of what the gateway says it takes a
// name and a point of a curve, and what it makes is of no other use than what a
// gateway that was taken over has already, this host's own.
func (c *Config) sign(name string, public []byte) ([]byte, error) {
	if _, err := os.Lstat(filepath.Join(c.State, auth.AuthorityKey)); err != nil {
		return nil, errors.New("server: the authority's key is on another host")
	}
	a, err := auth.Open(c.State)
	if err != nil {
		return nil, err
	}
	chain, err := a.Renew(name, public)
	if err == nil {
		c.Log.Info("certificate renewed for a host", "name", name)
	}
	return chain, err
}

// renewed reports whether a certificate that has run out has one in its place,
// which the gateway will look at.
func (c *Config) renewed(certFile, keyFile string) bool {
	cert, err1 := readSmall(certFile)
	key, err2 := readSmall(keyFile)
	if err1 != nil || err2 != nil {
		return false
	}
	if _, _, err := auth.HostCert(cert, key); err != nil {
		return false
	}
	_, err := os.Lstat(filepath.Join(c.dataDir(), renewedFile))
	return err == nil
}

// serverConfig is for terminals and for hosts that ask.
func (i *passport) serverConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		p := i.now.Load()
		if slices.Contains(hello.SupportedProtos, adminapi.PeerALPN) {
			return p.answer, nil
		}
		return p.base, nil
	}}
}
