package emulated_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/atr"
	"hotdesk/smartcard/identity"
	"hotdesk/smartcard/piv"
	"hotdesk/smartcard/reader"
	"hotdesk/smartcard/reader/emulated"
	"hotdesk/smartcard/reader/emulated/issuer"
)

const pin = "123456"

// fresh is a reader with the cards ec and rsa, made by one issuer.
func fresh(t *testing.T) (*emulated.Reader, *issuer.Issuer, fstest.MapFS) {
	t.Helper()
	i, err := issuer.New(time.Unix(1800000000, 0))
	if err != nil {
		t.Fatal(err)
	}
	cards := fstest.MapFS{}
	for _, s := range []issuer.Spec{{Name: "ec", PIN: pin}, {Name: "rsa", PIN: pin, RSA: true}} {
		files, err := i.Card(s)
		if err != nil {
			t.Fatal(err)
		}
		for name, b := range files {
			cards[name] = &fstest.MapFile{Data: b}
		}
	}
	r := emulated.New(cards)
	t.Cleanup(func() { r.Close() })
	return r, i, cards
}

func insert(t *testing.T, r *emulated.Reader, name string) *emulated.Card {
	t.Helper()
	c, err := r.Insert(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// do has a dialog with a card.
func do(t *testing.T, c reader.Card, cmd apdu.Command, extended bool) apdu.Response {
	t.Helper()
	d := apdu.NewDialog(cmd, extended)
	for {
		b, err := c.Transmit(t.Context(), d.Command().Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		r, err := apdu.ParseResponse(b)
		if err != nil {
			t.Fatal(err)
		}
		whole, done, err := d.Take(r)
		if err != nil {
			t.Fatal(err)
		}
		if done {
			return whole
		}
	}
}

func expect(t *testing.T, c reader.Card, cmd apdu.Command, status uint16) []byte {
	t.Helper()
	r := do(t, c, cmd, false)
	if r.Status != status {
		t.Errorf("%02x %02x %02x: %04x (%s), want %04x", cmd.INS, cmd.P1, cmd.P2, r.Status, apdu.StatusText(r.Status), status)
	}
	return r.Data
}

func verify(t *testing.T, c reader.Card, pin string, status uint16) {
	t.Helper()
	cmd, err := piv.Verify(pin)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, c, cmd, status)
}

func certificate(t *testing.T, c reader.Card, i *issuer.Issuer, key byte) *x509.Certificate {
	t.Helper()
	der, err := piv.ParseCert(expect(t, c, piv.Get(piv.CertObject(key)), apdu.OK))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.CheckSignatureFrom(i.Authority); err != nil {
		t.Error(err)
	}
	return cert
}

func TestPIVProof(t *testing.T) {
	r, i, _ := fresh(t)
	hash := sha256.Sum256([]byte("a challenge"))

	c := insert(t, r, "ec")
	expect(t, c, piv.Get(piv.CHUID), apdu.ConditionsNotMet)
	expect(t, c, piv.Select(), apdu.OK)
	holder, err := piv.ParseHolder(expect(t, c, piv.Get(piv.CHUID), apdu.OK))
	if err != nil || holder.GUID == [16]byte{} {
		t.Errorf("%+v, %v", holder, err)
	}
	tok, err := identity.Identify(t.Context(), c, identity.Rules())
	if err != nil || tok.Type != "piv" || tok.ID != fmt.Sprintf("%x", holder.GUID) {
		t.Errorf("%+v, %v", tok, err)
	}
	expect(t, c, piv.Get(piv.CCC), apdu.OK)
	expect(t, c, piv.Get(piv.Discovery), apdu.OK)
	expect(t, c, piv.Get(0x5FC10A), apdu.FileNotFound)

	proof := func(key byte) {
		t.Helper()
		sig, err := piv.ParseSignature(expect(t, c, piv.Authenticate(piv.P256, key, hash[:]), apdu.OK))
		if err != nil || !ecdsa.VerifyASN1(certificate(t, c, i, key).PublicKey.(*ecdsa.PublicKey), hash[:], sig) {
			t.Errorf("%x: %x, %v", key, sig, err)
		}
	}
	proof(piv.CardAuthentication) // no PIN
	expect(t, c, piv.Authenticate(piv.P256, piv.Authentication, hash[:]), apdu.SecurityNotSatisfied)
	verify(t, c, pin, apdu.OK)
	proof(piv.Authentication)
	expect(t, c, piv.Authenticate(piv.RSA2048, piv.Authentication, hash[:]), apdu.WrongParameters)
	expect(t, c, piv.Authenticate(piv.P256, piv.Authentication, hash[:31]), apdu.WrongData)
	expect(t, c, piv.Authenticate(piv.P256, 0x9c, hash[:]), apdu.DataNotFound)
	c.Reset()
	expect(t, c, piv.Select(), apdu.OK)
	expect(t, c, piv.Authenticate(piv.P256, piv.Authentication, hash[:]), apdu.SecurityNotSatisfied)

	c = insert(t, r, "rsa")
	expect(t, c, piv.Select(), apdu.OK)
	verify(t, c, pin, apdu.OK)
	key := certificate(t, c, i, piv.Authentication).PublicKey.(*rsa.PublicKey)
	block := pkcs1(t, hash[:])
	for _, extended := range []bool{false, true} { // in a chain of short commands, and whole
		a := do(t, c, piv.Authenticate(piv.RSA2048, piv.Authentication, block), extended)
		sig, err := piv.ParseSignature(a.Data)
		if a.Status != apdu.OK || err != nil || rsa.VerifyPKCS1v15(key, crypto.SHA256, hash[:], sig) != nil {
			t.Errorf("extended %v: %04x, %x, %v", extended, a.Status, sig, err)
		}
	}
	expect(t, c, piv.Authenticate(piv.RSA2048, piv.Authentication, block[:255]), apdu.WrongData)
	expect(t, c, piv.Authenticate(piv.RSA2048, piv.Authentication, bytes.Repeat([]byte{0xff}, 256)), apdu.WrongData)
}

// pkcs1 is the padded block of a hash, taken out of a signature by a key that
// nobody keeps: crypto/rsa has no padding by itself.
func pkcs1(t *testing.T, hash []byte) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, hash)
	if err != nil {
		t.Fatal(err)
	}
	return new(big.Int).Exp(new(big.Int).SetBytes(sig), big.NewInt(int64(key.E)), key.N).FillBytes(make([]byte, 256))
}

// TestPINTries: wrong PINs count on the card, also when it is pulled; a right
// one sets the count back; the last one blocks it.
func TestPINTries(t *testing.T) {
	r, _, _ := fresh(t)
	c := insert(t, r, "ec")
	expect(t, c, piv.Select(), apdu.OK)
	expect(t, c, piv.Tries(), 0x63c3)
	verify(t, c, "654321", 0x63c2)
	verify(t, c, pin, apdu.OK)
	expect(t, c, piv.Tries(), apdu.OK)
	verify(t, c, "654321", 0x63c2)
	expect(t, c, piv.Tries(), 0x63c2)
	verify(t, c, "1234567", 0x63c1)
	c = insert(t, r, "ec")
	expect(t, c, piv.Select(), apdu.OK)
	expect(t, c, piv.Tries(), 0x63c1)
	verify(t, c, "654321", apdu.Blocked)
	verify(t, c, pin, apdu.Blocked)
	expect(t, c, piv.Tries(), apdu.Blocked)
	c = insert(t, r, "rsa")
	expect(t, c, piv.Select(), apdu.OK)
	verify(t, c, pin, apdu.OK)
	expect(t, c, apdu.Command{INS: apdu.InsVerify, P2: 0}, apdu.DataNotFound)
	expect(t, c, apdu.Command{INS: apdu.InsVerify, P2: 0x80, Data: []byte("1234")}, apdu.WrongData)
}

func TestIssuedATR(t *testing.T) {
	a, err := atr.Parse(issuer.ATR())
	if err != nil {
		t.Fatal(err)
	}
	id, ok, err := a.Identify()
	if !ok || err != nil || !id.Extended() || !id.Chaining() || !a.Offers(1) {
		t.Errorf("%+v, %v", id, err)
	}
}

// TestBadKeyFiles: a card file whose keys cannot be used says so when the card
// is put in.
func TestBadKeyFiles(t *testing.T) {
	r, _, cards := fresh(t)
	for _, tc := range []struct {
		file, data, want string
	}{
		{"ec-9a.pem", "nothing", "no PEM block"},
		{"ec-9a.key.pem", string(cards["ec-9a.pem"].Data), `"PRIVATE KEY"`},
		{"ec-9a.pem", string(cards["ec-9e.pem"].Data), "is not the certificate of"},
		{"ec-9a.key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "not a PKCS #8 key"},
	} {
		before := cards[tc.file]
		cards[tc.file] = &fstest.MapFile{Data: []byte(tc.data)}
		if _, err := r.Insert("ec"); !errors.Is(err, emulated.ErrFile) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.file, err, tc.want)
		}
		cards[tc.file] = before
	}
	delete(cards, "ec-9a.pem")
	if _, err := r.Insert("ec"); err == nil {
		t.Error("a certificate that is not there")
	}
	for text, want := range map[string]string{
		"type = piv\npin = 123456":                                                         "needs guid and pin",
		"type = piv\nguid = 00112233445566778899aabbccddeeff":                              "needs guid and pin",
		"type = piv\nguid = 00112233445566778899aabbccddeeff\npin = 12345":                 "6 to 8 digits",
		"type = piv\nguid = 00112233445566778899aabbccddeeff\npin = 123456\nkey9a = a":     "go together",
		"type = piv\nguid = 00112233445566778899aabbccddeeff\npin = 123456\ncert9e = ../a": "not the name",
		"type = piv\nguid = 00112233445566778899aabbccddeeff\npin = 123456\ntries = 16":    "1 to 15",
		"uid = 0102": "8 to 20",
	} {
		if _, err := emulated.Parse(text); !errors.Is(err, emulated.ErrFile) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestSimpleProof(t *testing.T) {
	text := "atr = 3b0400112233\ntype = simple\nid = 0123456789abcdef\nsecret = 00112233445566778899aabbccddeeff\nuid = 04a1b2c3\n"
	r := emulated.New(fstest.MapFS{"a.card": {Data: []byte(text)}})
	defer r.Close()
	c := insert(t, r, "a")
	nonce := bytes.Repeat([]byte{7}, 32)
	expect(t, c, apdu.SimpleChallenge(nonce), apdu.ConditionsNotMet)
	expect(t, c, apdu.Select(apdu.SimpleAID), apdu.OK)
	mac := hmac.New(sha256.New, []byte{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff})
	mac.Write(append([]byte("hotdesk simple card 1\x00"), nonce...))
	if got := expect(t, c, apdu.SimpleChallenge(nonce), apdu.OK); !hmac.Equal(got, mac.Sum(nil)) {
		t.Errorf("%x", got)
	}
	for _, n := range []int{0, apdu.MinChallenge - 1, apdu.MaxChallenge + 1} {
		expect(t, c, apdu.SimpleChallenge(make([]byte, n)), apdu.WrongLength)
	}
	if got := expect(t, c, apdu.Command{CLA: 0xff, INS: apdu.InsGetData, Le: 256}, apdu.OK); !bytes.Equal(got, []byte{4, 0xa1, 0xb2, 0xc3}) {
		t.Errorf("uid %x", got)
	}
}
