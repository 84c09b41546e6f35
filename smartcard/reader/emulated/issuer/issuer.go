// Package issuer makes emulated PIV cards with an authority of their own, for
// tests and demonstrations.
//
// Source: package emulated (the card file); NIST SP 800-73-4 (which keys a card
// has); RFC 5280.
//
// Invariants: every card that Card makes can be put into an emulated reader,
// and its certificates chain to Authority.
//
// An Issuer is not safe for concurrent use. It writes nothing: files are handed
// out by name.
package issuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"

	"hotdesk/smartcard/atr"
	"hotdesk/smartcard/piv"
	"hotdesk/smartcard/reader/emulated"
)

// An Issuer makes cards and signs their certificates.
type Issuer struct {
	Authority *x509.Certificate
	key       *ecdsa.PrivateKey
	serial    int64
	now       time.Time
	start     time.Time // of New
}

// New makes an issuer whose certificates are valid for a year around now.
func New(now time.Time) (*Issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	i := &Issuer{key: key, now: now, start: now, serial: 1}
	t := i.template("Hotdesk test cards")
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	if i.Authority, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	return i, nil
}

// A Spec is a card to make.
type Spec struct {
	Name string // of the card file and of its holder
	PIN  string
	RSA  bool      // 9A is RSA-2048, otherwise P-256; 9E is P-256
	Now  time.Time // certificates are valid for a year around it; zero: that of New

	Algorithm byte               // of both keys, of package piv; 0: as RSA says
	GUID      [piv.GUIDSize]byte // zero: a new one
	Unbound   bool               // the certificates do not name the card
}

// ATR is that of every card: T=1, compact-TLV, chaining and extended length.
func ATR() []byte {
	a := atr.ATR{TS: atr.Direct, Levels: []atr.Level{{Has: atr.HasTD, Protocol: 1}, {}},
		Historical: append([]byte{atr.CompactTLV, atr.TagIssuerData<<4 | 5}, append([]byte("HDPIV"), atr.TagCapabilities<<4|3, 0, 0, 0xC0)...)}
	return a.Seal().Append(nil)
}

// Card makes a card: the files of its folder, by name.
func (i *Issuer) Card(s Spec) (map[string][]byte, error) {
	if !s.Now.IsZero() {
		i.now = s.Now
	}
	guid := s.GUID
	if guid == [piv.GUIDSize]byte{} {
		rand.Read(guid[:])
		guid[6], guid[8] = guid[6]&0x0f|0x40, guid[8]&0x3f|0x80 // a random UUID, RFC 4122
	}
	var names []*url.URL
	if !s.Unbound {
		// FIPS 201-3 section 4.2.1: the card's UUID, as a URN.
		names = []*url.URL{{Scheme: "urn", Opaque: fmt.Sprintf("uuid:%x-%x-%x-%x-%x", guid[:4], guid[4:6], guid[6:8], guid[8:10], guid[10:])}}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "# An emulated PIV card, made for tests.\natr = %s\ntype = piv\nname = %s\nguid = %s\npin = %s\n",
		hex.EncodeToString(ATR()), s.Name, hex.EncodeToString(guid[:]), s.PIN)
	files := map[string][]byte{}
	first, second := byte(piv.P256), byte(piv.P256)
	if s.RSA {
		first = piv.RSA2048
	}
	if s.Algorithm != 0 {
		first, second = s.Algorithm, s.Algorithm
	}
	for _, slot := range []struct {
		name           string
		ref, algorithm byte
	}{{"9a", piv.Authentication, first}, {"9e", piv.CardAuthentication, second}} {
		key, cert, err := i.pair(s.Name+" "+slot.name, slot.ref, slot.algorithm, names)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, fmt.Errorf("issuer: %w", err)
		}
		keyFile, certFile := s.Name+"-"+slot.name+".key.pem", s.Name+"-"+slot.name+".pem"
		files[keyFile] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		files[certFile] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
		fmt.Fprintf(&text, "key%s = %s\ncert%s = %s\n", slot.name, keyFile, slot.name, certFile)
	}
	files[s.Name+emulated.Suffix] = []byte(text.String())
	return files, nil
}

func (i *Issuer) pair(name string, ref, algorithm byte, names []*url.URL) (crypto.Signer, []byte, error) {
	var key crypto.Signer
	var err error
	switch algorithm {
	case piv.RSA2048:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case piv.RSA3072:
		key, err = rsa.GenerateKey(rand.Reader, 3072)
	case piv.P384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	default:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("issuer: %w", err)
	}
	t := i.template(name)
	t.URIs = names
	t.KeyUsage = x509.KeyUsageDigitalSignature
	if ref == piv.CardAuthentication {
		t.UnknownExtKeyUsage = []asn1.ObjectIdentifier{piv.CardAuthenticationUsage}
	} else {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, i.Authority, key.Public(), i.key)
	if err != nil {
		return nil, nil, fmt.Errorf("issuer: %w", err)
	}
	return key, der, nil
}

func (i *Issuer) template(name string) *x509.Certificate {
	i.serial++
	return &x509.Certificate{
		SerialNumber: big.NewInt(i.serial), Subject: pkix.Name{CommonName: name, Organization: []string{"Hotdesk"}},
		NotBefore: i.now.Add(-time.Hour), NotAfter: i.now.AddDate(1, 0, 0),
	}
}

// Revoke makes a revocation list of the certificates, good for a month.
func (i *Issuer) Revoke(certs ...*x509.Certificate) ([]byte, error) {
	return i.RevokeAt(i.start, certs...)
}

// RevokeAt makes a list that was made at that time.
func (i *Issuer) RevokeAt(now time.Time, certs ...*x509.Certificate) ([]byte, error) {
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.AddDate(0, 1, 0)}
	for _, c := range certs {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: now})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, i.Authority, i.key)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	return der, nil
}
