package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"hotdesk/protocol/alp"
)

// RenewBefore is how long before its end a certificate is renewed.
const RenewBefore = renewBefore

// PublicSize is the size of a host's public key: a point of P-256, uncompressed.
const PublicSize = 65

// Renew makes a further certificate for a host that has one, by its name and
// its public key. Whoever calls it has seen that the host has that key.
func (a *Authority) Renew(name string, public []byte) ([]byte, error) {
	if err := hostName(name); err != nil {
		return nil, err
	}
	if len(public) != PublicSize {
		return nil, fmt.Errorf("auth: a public key of %d bytes, want %d", len(public), PublicSize)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), public)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, a.hostCertificate(name), a.cert, key, a.key)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	return append(encode("CERTIFICATE", der), encode("CERTIFICATE", a.cert.Raw)...), nil
}

// HostCert is what a host's certificate says. It does not look at the date.
func HostCert(chain, key []byte) (host, top *x509.Certificate, err error) {
	if len(chain) > MaxFile {
		return nil, nil, fmt.Errorf("auth: a certificate of more than %d bytes", MaxFile)
	}
	if _, err := tls.X509KeyPair(chain, key); err != nil { // they belong together
		return nil, nil, fmt.Errorf("auth: the host's certificate: %w", err)
	}
	var all []*x509.Certificate
	for block, rest := pem.Decode(chain); block != nil && len(all) < 3; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, fmt.Errorf("auth: %w", err)
		}
		all = append(all, c)
	}
	if len(all) != 2 {
		return nil, nil, errors.New("auth: not a host's certificate and its authority's")
	}
	return all[0], all[1], nil
}

// Better reports whether chain, which another host gave, can take the place of
// old: it is of the same authority and the same key, good at now, and lasts
// longer.
func Better(old, chain, key []byte, now time.Time) error {
	have, top, err := HostCert(old, key)
	if err != nil {
		return err
	}
	host, other, err := HostCert(chain, key)
	if err != nil {
		return err
	}
	if !other.Equal(top) {
		return errors.New("auth: the certificate is of another authority")
	}
	roots := x509.NewCertPool()
	roots.AddCert(top)
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := host.Verify(x509.VerifyOptions{Roots: roots, DNSName: alp.ServerName, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
			return fmt.Errorf("auth: %w", err)
		}
	}
	if !host.NotAfter.After(have.NotAfter) {
		return errors.New("auth: the certificate ends no later than the one that is there")
	}
	return nil
}

// Place makes a certificate appear whole in a file.
func Place(path string, chain []byte) error { return place(path, chain, 0o644, true) }
