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
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
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
}

// New makes an issuer whose certificates are valid for a year around now.
func New(now time.Time) (*Issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	i := &Issuer{key: key, now: now, serial: 1}
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
	var guid [piv.GUIDSize]byte
	rand.Read(guid[:])
	guid[6], guid[8] = guid[6]&0x0f|0x40, guid[8]&0x3f|0x80 // a random UUID, RFC 4122
	var text strings.Builder
	fmt.Fprintf(&text, "# An emulated PIV card, made for tests.\natr = %s\ntype = piv\nname = %s\nguid = %s\npin = %s\n",
		hex.EncodeToString(ATR()), s.Name, hex.EncodeToString(guid[:]), s.PIN)
	files := map[string][]byte{}
	for _, slot := range []struct {
		name string
		rsa  bool
	}{{"9a", s.RSA}, {"9e", false}} {
		key, cert, err := i.pair(s.Name+" "+slot.name, slot.rsa)
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

func (i *Issuer) pair(name string, asRSA bool) (crypto.Signer, []byte, error) {
	var key crypto.Signer
	var err error
	if asRSA {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("issuer: %w", err)
	}
	t := i.template(name)
	t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
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

// Revoke makes a revocation list of the certificates.
func (i *Issuer) Revoke(certs ...*x509.Certificate) ([]byte, error) {
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: i.now, NextUpdate: i.now.AddDate(0, 1, 0)}
	for _, c := range certs {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: i.now})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, i.Authority, i.key)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	return der, nil
}
