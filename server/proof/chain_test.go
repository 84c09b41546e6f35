package proof

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

// A link is an authority of a chain.
type link struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func sign(t *testing.T, serial int64, name string, ca bool, by *link, change func(*x509.Certificate)) link {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: epoch.Add(-time.Hour), NotAfter: epoch.AddDate(1, 0, 0)}
	if ca {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	}
	if change != nil {
		change(c)
	}
	if by == nil {
		by = &link{t, c, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return link{t, c, key}
}

func (l link) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: l.cert.Raw})
}

func (l link) list(revoked ...int64) []byte {
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: epoch, NextUpdate: epoch.AddDate(0, 1, 0)}
	for _, n := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(n), RevocationTime: epoch})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, l.cert, l.key)
	if err != nil {
		l.t.Fatal(err)
	}
	return der
}

func TestChains(t *testing.T) {
	root := sign(t, 1, "root", true, nil, nil)
	between := sign(t, 2, "between", true, &root, nil)
	leaf := sign(t, 3, "card", false, &between, nil)
	other := sign(t, 1, "root", true, nil, nil) // of the same name
	encipher := sign(t, 4, "card", false, &between, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })
	byLeaf := sign(t, 5, "card", false, &leaf, nil)
	critical := sign(t, 6, "card", false, &between, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
	})
	all := [][]byte{root.pem(), between.pem()}
	for _, tc := range []struct {
		name        string
		cert        *x509.Certificate
		authorities [][]byte
		lists       [][]byte
		want        string
	}{
		{"whole", leaf.cert, all, nil, ""},
		{"with lists", leaf.cert, all, [][]byte{root.list(), between.list(9)}, ""},
		{"PEM list", leaf.cert, all, [][]byte{root.list(), pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: between.list(3)})}, sayRevoked},
		{"revoked", leaf.cert, all, [][]byte{root.list(), between.list(3)}, sayRevoked},
		{"its issuer revoked", leaf.cert, all, [][]byte{root.list(2), between.list()}, sayRevoked},
		{"no list of the root", leaf.cert, all, [][]byte{between.list()}, sayLists},
		{"no list of the issuer", leaf.cert, all, [][]byte{root.list()}, sayLists},
		{"a list that another signed", leaf.cert, all, [][]byte{other.list(), between.list()}, sayLists},
		{"no issuer", leaf.cert, [][]byte{root.pem()}, nil, sayUnknown},
		{"an issuer and no root", leaf.cert, [][]byte{between.pem()}, nil, sayUnknown},
		{"a root of the same name", leaf.cert, [][]byte{other.pem(), between.pem()}, nil, sayUnknown},
		{"not for signatures", encipher.cert, all, nil, sayKey},
		{"issued by a card", byLeaf.cert, all, nil, sayUnknown},
		{"critical and unknown", critical.cert, all, nil, sayKey},
	} {
		trust, err := ParseTrust(tc.authorities, tc.lists)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := trust.check(tc.cert, epoch); err != nil {
			got = err.(*refusal).reason
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}
