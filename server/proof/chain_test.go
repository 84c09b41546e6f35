package proof

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/smartcard/piv"
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

func (l link) list(revoked ...int64) []byte { return l.listWith(nil, revoked...) }

func (l link) listWith(change func(*x509.RevocationList), revoked ...int64) []byte {
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: epoch, NextUpdate: epoch.AddDate(0, 1, 0)}
	for _, n := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(n), RevocationTime: epoch})
	}
	if change != nil {
		change(list)
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, l.cert, l.key)
	if err != nil {
		l.t.Fatal(err)
	}
	return der
}

// endless is an empty list that does not say when the next one comes.
func (l link) endless() []byte {
	var list struct {
		TBS struct {
			Raw        asn1.RawContent
			Version    int
			Algorithm  pkix.AlgorithmIdentifier
			Issuer     asn1.RawValue
			ThisUpdate time.Time
			NextUpdate time.Time       `asn1:"optional"`
			Extensions []asn1.RawValue `asn1:"tag:0,explicit"`
		}
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(l.list(), &list); err != nil {
		l.t.Fatal(err)
	}
	list.TBS.Raw, list.TBS.NextUpdate = nil, time.Time{}
	tbs, err := asn1.Marshal(list.TBS)
	if err != nil {
		l.t.Fatal(err)
	}
	digest := sha256.Sum256(tbs)
	if list.Signature.Bytes, err = l.key.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
		l.t.Fatal(err)
	}
	list.Signature.BitLength = 8 * len(list.Signature.Bytes)
	der, err := asn1.Marshal(list)
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
		{"a newer list", leaf.cert, all, [][]byte{root.list(), between.list(), between.listWith(func(l *x509.RevocationList) { l.ThisUpdate = epoch.Add(time.Minute) }, 3)}, sayRevoked},
		{"a newer list without it", leaf.cert, all, [][]byte{root.list(), between.list(3), between.listWith(func(l *x509.RevocationList) { l.ThisUpdate = epoch.Add(time.Minute) })}, ""},
		{"a list of tomorrow", leaf.cert, all, [][]byte{root.list(), between.list(3), between.listWith(func(l *x509.RevocationList) { l.ThisUpdate = epoch.AddDate(0, 0, 1) })}, sayRevoked},
		{"a list without an end", leaf.cert, all, [][]byte{root.list(), between.endless()}, sayLists},
		{"no issuer", leaf.cert, [][]byte{root.pem()}, nil, sayUnknown},
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
	trust, err := ParseTrust(all, [][]byte{root.list(), between.endless()})
	if err != nil {
		t.Fatal(err)
	}
	trust.AllowExpired = true
	if err := trust.check(leaf.cert, epoch); err != nil {
		t.Errorf("a list without an end, allowed: %v", err)
	}
}

// TestPartialLists: a list that is not its issuer's whole one is refused where it
// is read, as it is newer than the whole one and knows less.
func TestPartialLists(t *testing.T) {
	root := sign(t, 1, "root", true, nil, nil)
	extension := func(id ...int) []pkix.Extension {
		return []pkix.Extension{{Id: id, Critical: true, Value: []byte{0x30, 0}}}
	}
	for name, change := range map[string]func(*x509.RevocationList){
		"changes": func(l *x509.RevocationList) { l.ExtraExtensions = extension(2, 5, 29, 27) },
		"a part":  func(l *x509.RevocationList) { l.ExtraExtensions = extension(2, 5, 29, 28) },
		"others'": func(l *x509.RevocationList) {
			l.RevokedCertificateEntries[0].ExtraExtensions = extension(2, 5, 29, 29)
		},
	} {
		list := root.listWith(func(l *x509.RevocationList) { l.ThisUpdate = epoch.Add(time.Minute); change(l) }, 7)
		if trust, err := ParseTrust([][]byte{root.pem()}, [][]byte{root.list(3), list}); !errors.Is(err, ErrTrust) || !strings.Contains(err.Error(), "needed") || trust != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBound: certificates name a card by its UUID or its FASC-N, also where that
// is the only name, and then in an extension that must be understood.
func TestBound(t *testing.T) {
	root := sign(t, 1, "root", true, nil, nil)
	trust, err := ParseTrust([][]byte{root.pem()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	number := strings.Repeat("d4", 25)
	san, err := hex.DecodeString("3029a027060860864801650306" + "06a01b0419" + number)
	if err != nil {
		t.Fatal(err)
	}
	byNumber := sign(t, 2, "card", false, &root, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: oidSAN, Critical: true, Value: san}}
	})
	byUUID := sign(t, 3, "card", false, &root, func(c *x509.Certificate) {
		c.URIs = []*url.URL{{Scheme: "urn", Opaque: "uuid:00112233-4455-6677-8899-AABBCCDDEEFF"}}
	})
	for _, l := range []link{byNumber, byUUID} {
		if err := trust.check(l.cert, epoch); err != nil {
			t.Errorf("%q: %v", l.cert.URIs, err)
		}
	}
	for _, tc := range []struct {
		cert  *x509.Certificate
		token alp.Token
		want  bool
	}{
		{byNumber.cert, alp.Token("piv." + number), true},
		{byNumber.cert, alp.Token("piv." + strings.Repeat("d5", 25)), false},
		{byNumber.cert, "piv.00112233445566778899aabbccddeeff", false},
		{byNumber.cert, alp.Token("badge." + number), false},
		{byUUID.cert, "piv.00112233445566778899aabbccddeeff", true},
		{byUUID.cert, "piv.00112233445566778899aabbccddeefe", false},
		{byUUID.cert, "openpgp.00112233445566778899aabbccddeeff", false},
		{byUUID.cert, "piv.", false},
	} {
		if got := bound(tc.cert, tc.token); got != tc.want {
			t.Errorf("%s: %v", tc.token, got)
		}
	}
}

// TestKeys: a key that cards here do not sign by is refused before anybody is
// asked for a PIN.
func TestKeys(t *testing.T) {
	root := sign(t, 1, "root", true, nil, nil)
	trust, err := ParseTrust([][]byte{root.pem()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	odd, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: epoch.Add(-time.Hour), NotAfter: epoch.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, c, root.cert, odd.Public(), root.key)
	if err != nil {
		t.Fatal(err)
	}
	m := New(config(PIV, "piv.00000000000000000000000000000001", trust))
	m.Begin(epoch)
	m.at = epoch
	if s := m.certificate(piv.AppendCert(nil, der)); s.Ask != nil || s.End == nil || s.End.Outcome != Refused || s.End.Reason != sayKey {
		t.Errorf("%+v", s)
	}
}
