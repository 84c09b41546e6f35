// Package auth is the group authority and the certificates that it gives to
// hosts: what terminals pin, and what the control connection is served with.
//
// Source: design section 2, "Group authority". X.509 (RFC 5280), ECDSA over
// P-256.
//
// Files of a state directory:
//
//	authority.pem       certificate of the authority: terminals pin it
//	authority.key       its private key, 0600
//	host-<name>.pem     certificate of one host, for the DNS name alp.ServerName,
//	                    and the authority's, which terminals see at first use
//	host-<name>.key     its private key, 0600
//
// Invariants:
//  1. Several programs may make what is missing at the same time: all end up
//     with the same authority. A file appears whole or not at all.
//  2. A private key that others can read is refused, not used.
//  3. A host certificate that does not fit the authority, its key or the date
//     is replaced by a new one; an authority never is.
//  4. An authority can vouch for the name alp.ServerName only, so that whoever
//     installs it elsewhere gives it no power over other servers.
//
// The package reads and writes those files only; it reads the clock for the
// dates of certificates. Limit: MaxFile.
package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hotdesk/protocol/alp"
)

// MaxFile bounds a file of the state directory, in bytes.
const MaxFile = 64 << 10

const (
	authorityLife = 20 * 365 * 24 * time.Hour
	hostLife      = 2 * 365 * 24 * time.Hour
	renewBefore   = 90 * 24 * time.Hour
	backdate      = 24 * time.Hour // clocks of terminals are not exact
)

// Names of the authority's files in a state directory.
const (
	AuthorityFile = "authority.pem"
	AuthorityKey  = "authority.key"
)

// An Authority is the group's, with its private key.
type Authority struct {
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
}

// Fingerprint is the SHA-256 of the authority's certificate in hex, for people
// to compare.
func (a *Authority) Fingerprint() string { return fmt.Sprintf("%x", sha256.Sum256(a.cert.Raw)) }

// File is what terminals pin.
func (a *Authority) File() string { return filepath.Join(a.dir, AuthorityFile) }

// Open reads the authority of a state directory.
func Open(dir string) (*Authority, error) {
	key, err := readKey(filepath.Join(dir, AuthorityKey))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("auth: no authority in %s: copy %s and %s from another host of the group, or make a new one with -new-authority: %w", dir, AuthorityFile, AuthorityKey, err)
	}
	if err != nil {
		return nil, err
	}
	cert, err := readCertificate(filepath.Join(dir, AuthorityFile))
	if err != nil {
		return nil, err
	}
	if !fits(cert, key) {
		return nil, fmt.Errorf("auth: %s and %s in %s do not belong together: copy both from the same host", AuthorityFile, AuthorityKey, dir)
	}
	return &Authority{dir, cert, key}, nil
}

// Create makes what is missing of an authority in dir, which it makes too, and
// opens it. Any number of callers may do so at the same time.
func Create(dir string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	// The key comes first and the certificate is made from the key that is in
	// the directory then: whichever of several certificates wins, it fits.
	keyPath, certPath := filepath.Join(dir, AuthorityKey), filepath.Join(dir, AuthorityFile)
	if _, err := os.Lstat(keyPath); errors.Is(err, fs.ErrNotExist) {
		if orphan(certPath, keyPath) {
			return nil, fmt.Errorf("auth: %s has %s without %s: put the key back, or take the certificate away to make a new authority", dir, AuthorityFile, AuthorityKey)
		}
		_, text, err := newKey()
		if err != nil {
			return nil, err
		}
		if err := place(keyPath, text, 0o600, false); err != nil {
			return nil, err
		}
	}
	if _, err := os.Lstat(certPath); errors.Is(err, fs.ErrNotExist) {
		key, err := readKey(keyPath)
		if err != nil {
			return nil, err
		}
		t := template("Hotdesk group authority", authorityLife)
		t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero = true, true, true
		t.KeyUsage = x509.KeyUsageCertSign
		t.PermittedDNSDomainsCritical, t.PermittedDNSDomains = true, []string{alp.ServerName}
		t.ExcludedIPRanges = []*net.IPNet{{IP: net.IPv4zero, Mask: make(net.IPMask, net.IPv4len)}, {IP: net.IPv6zero, Mask: make(net.IPMask, net.IPv6len)}}
		der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
		if err != nil {
			return nil, fmt.Errorf("auth: %w", err)
		}
		if err := place(certPath, encode("CERTIFICATE", der), 0o644, false); err != nil {
			return nil, err
		}
	}
	return Open(dir)
}

// orphan reports whether there is a certificate without a key. The key is
// looked for last: another program may be making both, the key first.
func orphan(certPath, keyPath string) bool {
	_, certErr := os.Lstat(certPath)
	_, keyErr := os.Lstat(keyPath)
	return certErr == nil && errors.Is(keyErr, fs.ErrNotExist)
}

// Host returns the certificate and key files of a host of that name, made or
// renewed where necessary.
func (a *Authority) Host(name string) (certFile, keyFile string, err error) {
	if err := hostName(name); err != nil {
		return "", "", err
	}
	certFile = filepath.Join(a.dir, "host-"+name+".pem")
	keyFile = filepath.Join(a.dir, "host-"+name+".key")
	if a.good(certFile, keyFile) {
		return certFile, keyFile, nil
	}
	key, text, err := newKey()
	if err != nil {
		return "", "", err
	}
	der, err := x509.CreateCertificate(rand.Reader, a.hostCertificate(name), a.cert, key.Public(), a.key)
	if err != nil {
		return "", "", fmt.Errorf("auth: %w", err)
	}
	if err := place(keyFile, text, 0o600, true); err != nil {
		return "", "", err
	}
	both := append(encode("CERTIFICATE", der), encode("CERTIFICATE", a.cert.Raw)...)
	return certFile, keyFile, place(certFile, both, 0o644, true)
}

// good reports whether a host's files can be served for a good while.
func (a *Authority) good(certFile, keyFile string) bool {
	left, ok := a.left(certFile, keyFile)
	if !ok {
		return false
	}
	return left > renewBefore || time.Until(a.cert.NotAfter) <= left
}

// ServerConfig is how the control connection is served: TLS 1.3 only, that one
// protocol, that one certificate.
func ServerConfig(cert, key io.Reader) (*tls.Config, error) {
	c, err := io.ReadAll(io.LimitReader(cert, MaxFile))
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	k, err := io.ReadAll(io.LimitReader(key, MaxFile))
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	pair, err := tls.X509KeyPair(c, k)
	if err != nil {
		return nil, fmt.Errorf("auth: the host's certificate: %w", err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{alp.ALPN},
		// A resumed connection would skip the certificate that the terminal
		// pins: a full handshake costs less than a millisecond.
		SessionTicketsDisabled: true,
		// A terminal may have a key of its own; nobody has to vouch for it.
		ClientAuth: tls.RequestClientCert,
	}, nil
}

func template(name string, life time.Duration) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(life),
	}
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("auth: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("auth: %w", err)
	}
	return key, encode("PRIVATE KEY", der), nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func fits(cert *x509.Certificate, key crypto.Signer) bool {
	public, ok := key.Public().(*ecdsa.PublicKey)
	return ok && public.Equal(cert.PublicKey)
}

func readKey(path string) (crypto.Signer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("auth: others can read or write the private key %s: chmod 600 it, or replace it if they may have", path)
	}
	der, err := readPEM(f, path, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("auth: %s: %w", path, err)
	}
	signer, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("auth: %s is not an ECDSA key", path)
	}
	return signer, nil
}

// readChain reads a host's certificate and its authority's.
func readChain(path string) (host, top *x509.Certificate, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("auth: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxFile))
	if err != nil {
		return nil, nil, fmt.Errorf("auth: %w", err)
	}
	var der []byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		der = append(der, block.Bytes...)
	}
	chain, err := x509.ParseCertificates(der)
	if err != nil || len(chain) != 2 {
		return nil, nil, fmt.Errorf("auth: %s does not hold a host's certificate and its authority's", path)
	}
	return chain[0], chain[1], nil
}

func readCertificate(path string) (*x509.Certificate, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	defer f.Close()
	der, err := readPEM(f, path, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("auth: %s: %w", path, err)
	}
	return cert, nil
}

func readPEM(r io.Reader, path, kind string) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxFile))
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != kind || len(bytes.TrimSpace(rest)) != 0 {
		return nil, fmt.Errorf("auth: %s does not hold one %s", path, strings.ToLower(kind))
	}
	return block.Bytes, nil
}

// place makes a file appear whole. Where replace is not set, one that is there
// already stays, and that is no error.
func place(path string, text []byte, mode fs.FileMode, replace bool) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(text)
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if e := tmp.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	if replace {
		err = os.Rename(tmp.Name(), path)
	} else if err = os.Link(tmp.Name(), path); errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	return nil
}
