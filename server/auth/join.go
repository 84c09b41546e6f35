package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"hotdesk/protocol/alp"
)

// What a host has that joined a group: a certificate, and no authority's key.
// The first host signs what the joining one asks for, whose key never leaves
// it.

// hostName tells whether a name can be a host's, as part of a file's name too.
func hostName(name string) error {
	if name == "" || strings.Contains(name, "/") || strings.ContainsFunc(name, unicode.IsControl) || !utf8.ValidString(name) || len(name) > 128 {
		return fmt.Errorf("auth: %q is no name for a host", name)
	}
	return nil
}

// hostCertificate is what every host's certificate says; the caller signs it.
func (a *Authority) hostCertificate(name string) *x509.Certificate {
	t := template("Hotdesk host "+name, hostLife)
	if t.NotAfter.After(a.cert.NotAfter) {
		t.NotAfter = a.cert.NotAfter
	}
	t.DNSNames = []string{alp.ServerName}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} // a client of the registry
	return t
}

// Request makes a key for a host and the request for its certificate (DER, a
// PKCS #10). The key, PEM, is for Install.
func Request(name string) (key, request []byte, err error) {
	if err := hostName(name); err != nil {
		return nil, nil, err
	}
	signer, text, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	request, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, signer)
	if err != nil {
		return nil, nil, fmt.Errorf("auth: %w", err)
	}
	return text, request, nil
}

// Sign makes a host's certificate of a request, of which nothing but the key is
// taken. It returns the certificate and the authority's (PEM).
func (a *Authority) Sign(name string, request []byte) ([]byte, error) {
	if err := hostName(name); err != nil {
		return nil, err
	}
	r, err := x509.ParseCertificateRequest(request)
	if err == nil {
		err = r.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("auth: the request for a certificate: %w", err)
	}
	public, ok := r.PublicKey.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return nil, errors.New("auth: the request for a certificate has another kind of key than ECDSA on P-256")
	}
	der, err := x509.CreateCertificate(rand.Reader, a.hostCertificate(name), a.cert, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	return append(encode("CERTIFICATE", der), encode("CERTIFICATE", a.cert.Raw)...), nil
}

// Install puts what Sign returned, and the key of Request, into dir, which
// holds no other authority: the authority must have the fingerprint.
func Install(dir, name, fingerprint string, key, chain []byte) error {
	if err := hostName(name); err != nil {
		return err
	}
	var der [][]byte
	for block, rest := pem.Decode(chain); block != nil && len(der) < 3; block, rest = pem.Decode(rest) {
		der = append(der, block.Bytes)
	}
	if len(der) != 2 || fmt.Sprintf("%x", sha256.Sum256(der[1])) != fingerprint {
		return errors.New("auth: the certificate is not of the authority that was named: the join was tampered with, or is of another group")
	}
	if have, err := readCertificate(filepath.Join(dir, AuthorityFile)); err == nil && fmt.Sprintf("%x", sha256.Sum256(have.Raw)) != fingerprint {
		return fmt.Errorf("auth: %s holds another authority: put it aside first if this host is to leave its group", filepath.Join(dir, AuthorityFile))
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := place(filepath.Join(dir, AuthorityFile), encode("CERTIFICATE", der[1]), 0o644, true); err != nil {
		return err
	}
	if err := place(filepath.Join(dir, "host-"+name+".key"), key, 0o600, true); err != nil {
		return err
	}
	if err := place(filepath.Join(dir, "host-"+name+".pem"), chain, 0o644, true); err != nil {
		return err
	}
	_, _, _, err := Joined(dir, name)
	return err
}

// ErrNotJoined means that a host has no certificate from another one.
var ErrNotJoined = errors.New("auth: this host has not joined a group")

// Joined returns the files of a host that has a certificate and not the
// authority's key, and the authority's fingerprint. It is ErrNotJoined where
// there is no certificate; one that has run out, or does not fit, is an error
// that says what to do.
func Joined(dir, name string) (certFile, keyFile, fingerprint string, err error) {
	certFile, keyFile = filepath.Join(dir, "host-"+name+".pem"), filepath.Join(dir, "host-"+name+".key")
	if _, err := os.Lstat(certFile); err != nil || hostName(name) != nil {
		return "", "", "", ErrNotJoined
	}
	top, err := readCertificate(filepath.Join(dir, AuthorityFile))
	if err != nil {
		return "", "", "", err
	}
	a := &Authority{dir: dir, cert: top}
	if !a.fits(certFile, keyFile) {
		return "", "", "", fmt.Errorf("auth: %s has run out, or does not fit %s: join the group again with `hotdesk setup join`", certFile, AuthorityFile)
	}
	return certFile, keyFile, a.Fingerprint(), nil
}

// fits reports whether a host's files can be served today.
func (a *Authority) fits(certFile, keyFile string) bool {
	left, ok := a.left(certFile, keyFile)
	return ok && left > 0
}

// left is how long a host's certificate lasts; ok tells that it is this
// authority's, fits its key and says what it should.
func (a *Authority) left(certFile, keyFile string) (left time.Duration, ok bool) {
	key, err := readKey(keyFile)
	if err != nil {
		return 0, false
	}
	cert, top, err := readChain(certFile)
	if err != nil || !fits(cert, key) || !top.Equal(a.cert) {
		return 0, false
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: alp.ServerName, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
			return 0, false
		}
	}
	return time.Until(cert.NotAfter), true
}
