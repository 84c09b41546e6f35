// Package piv is the commands and data objects of a PIV card: who it is, its
// certificates, its PIN and the proof that it holds a key.
//
// Source: NIST SP 800-73-4 part 1 (objects, section 3 and appendix A) and part 2
// (commands, section 3); SP 800-78-4 table 6-2 (algorithms).
//
// Invariants:
//  1. Parsers accept what AppendX writes; their errors name the object.
//
// The package does no I/O. Limits: those of package apdu; MaxPIN, MaxCert.
package piv

import (
	"bytes"
	"compress/gzip"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"

	"hotdesk/smartcard/apdu"
)

// AID is the PIV card application without its version, as SELECT takes it.
var AID = []byte{0xA0, 0x00, 0x00, 0x03, 0x08, 0x00, 0x00, 0x10, 0x00}

// Version follows AID.
var Version = []byte{0x01, 0x00}

// Objects.
const (
	CCC       = 0x5FC107 // card capability container
	CHUID     = 0x5FC102 // card holder unique identifier
	Cert9A    = 0x5FC105 // PIV authentication
	Cert9E    = 0x5FC101 // card authentication
	Discovery = 0x7E
)

// Keys.
const (
	Authentication     = 0x9A // needs the PIN
	CardAuthentication = 0x9E // needs none
)

// CardAuthenticationUsage is the extended key usage of certificates of the key
// 9E, and of no other (FIPS 201-3 section 4.2.2.2): by it a verifier knows that
// no PIN was needed.
var CardAuthenticationUsage = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 6, 8}

// Algorithms of keys.
const (
	RSA2048 = 0x07
	RSA3072 = 0x05
	P256    = 0x11
	P384    = 0x14
)

// Sizes in bytes.
const (
	GUIDSize  = 16
	FASCNSize = 25
	MaxPIN    = 8
	MinPIN    = 6
	RSASize   = 256 // of a challenge for RSA-2048, padded by the caller
	HashSize  = 32  // of a challenge for P-256

	// MaxCert bounds a certificate that was compressed. Cards keep up to 3 kB.
	MaxCert = 16 << 10

	RSA3072Size = 384 // of a challenge for RSA-3072
	Hash384Size = 48  // of a challenge for P-384
)

// ErrObject is wrapped by the errors of the parsers.
var ErrObject = errors.New("piv: bad object")

// CertObject is the object with the certificate of a key; 0 if there is none.
func CertObject(key byte) uint32 {
	switch key {
	case Authentication:
		return Cert9A
	case CardAuthentication:
		return Cert9E
	}
	return 0
}

// Select selects the application.
func Select() apdu.Command { return apdu.Select(AID) }

// Get is GET DATA of one object.
func Get(object uint32) apdu.Command {
	tag := apdu.AppendTLV(nil, object, nil)
	list := apdu.AppendTLV(nil, 0x5C, tag[:len(tag)-1])
	return apdu.Command{INS: apdu.InsGetDataObject, P1: 0x3F, P2: 0xFF, Data: list, Le: apdu.MaxShortLe}
}

// Verify is VERIFY of the card's PIN, six to eight digits. The command holds
// the PIN: it does not belong into logs.
func Verify(pin string) (apdu.Command, error) {
	if len(pin) < MinPIN || len(pin) > MaxPIN {
		return apdu.Command{}, fmt.Errorf("piv: a PIN has %d to %d digits", MinPIN, MaxPIN)
	}
	data := append([]byte(pin), bytes.Repeat([]byte{0xFF}, MaxPIN-len(pin))...)
	return apdu.Command{INS: apdu.InsVerify, P2: 0x80, Data: data}, nil
}

// Forget takes a verified PIN back (SP 800-73-4 part 2, section 3.2.1).
func Forget() apdu.Command { return apdu.Command{INS: apdu.InsVerify, P1: 0xFF, P2: 0x80} }

// Tries asks how many tries the PIN has left, see apdu.Tries; 9000: verified.
func Tries() apdu.Command { return apdu.Command{INS: apdu.InsVerify, P2: 0x80} }

// Authenticate asks the card to sign: for P-256 a hash of HashSize bytes, for
// RSA-2048 a padded block of RSASize bytes.
func Authenticate(algorithm, key byte, challenge []byte) apdu.Command {
	inner := apdu.AppendTLV(apdu.AppendTLV(nil, 0x82, nil), 0x81, challenge)
	return apdu.Command{INS: apdu.InsGeneralAuthenticate, P1: algorithm, P2: key, Data: apdu.AppendTLV(nil, 0x7C, inner), Le: apdu.MaxShortLe}
}

// ParseAuthenticate reads the challenge of an Authenticate's data.
func ParseAuthenticate(data []byte) ([]byte, error) {
	inner, err := unwrap(data, 0x7C)
	if err != nil {
		return nil, err
	}
	if _, err := apdu.FindTLV(inner, 0x82); err != nil {
		return nil, fmt.Errorf("%w: authentication template asks for no answer (%w)", ErrObject, err)
	}
	challenge, err := apdu.FindTLV(inner, 0x81)
	if err != nil {
		return nil, fmt.Errorf("%w: authentication template (%w)", ErrObject, err)
	}
	return challenge, nil
}

// AppendSignature writes the answer to Authenticate.
func AppendSignature(b, signature []byte) []byte {
	return apdu.AppendTLV(b, 0x7C, apdu.AppendTLV(nil, 0x82, signature))
}

// ParseSignature reads the answer to Authenticate: an ASN.1 ECDSA signature,
// or RSASize bytes.
func ParseSignature(b []byte) ([]byte, error) {
	inner, err := unwrap(b, 0x7C)
	if err != nil {
		return nil, err
	}
	signature, err := apdu.FindTLV(inner, 0x82)
	if err != nil {
		return nil, fmt.Errorf("%w: answer to the challenge (%w)", ErrObject, err)
	}
	return signature, nil
}

// AppendCert writes a certificate object.
func AppendCert(b, der []byte) []byte {
	v := apdu.AppendTLV(nil, 0x70, der)
	v = apdu.AppendTLV(v, 0x71, []byte{0})
	return apdu.AppendTLV(b, 0x53, apdu.AppendTLV(v, 0xFE, nil))
}

// ParseCert reads a certificate object: DER, which many issuers compress to fit
// the card (SP 800-73-4 part 1, appendix A, CertInfo).
func ParseCert(b []byte) ([]byte, error) {
	v, err := unwrap(b, 0x53)
	if err != nil {
		return nil, err
	}
	der, err := apdu.FindTLV(v, 0x70)
	if err != nil {
		return nil, fmt.Errorf("%w: certificate (%w)", ErrObject, err)
	}
	info, err := apdu.FindTLV(v, 0x71)
	if err != nil || len(info) != 1 || info[0]&compressed == 0 {
		return der, nil
	}
	r, err := gzip.NewReader(bytes.NewReader(der))
	if err != nil {
		return nil, fmt.Errorf("%w: compressed certificate (%w)", ErrObject, err)
	}
	der, err = io.ReadAll(io.LimitReader(r, MaxCert+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: compressed certificate (%w)", ErrObject, err)
	case len(der) > MaxCert:
		return nil, fmt.Errorf("%w: compressed certificate of more than %d bytes", ErrObject, MaxCert)
	}
	return der, nil
}

// compressed is the bit of CertInfo that says that the certificate is a gzip
// stream.
const compressed = 0x01

// Holder is the CHUID.
type Holder struct {
	FASCN  [FASCNSize]byte
	GUID   [GUIDSize]byte
	Expiry string // YYYYMMDD
}

// AppendHolder writes a CHUID object.
func AppendHolder(b []byte, h Holder) []byte {
	v := apdu.AppendTLV(nil, 0x30, h.FASCN[:])
	v = apdu.AppendTLV(v, 0x34, h.GUID[:])
	v = apdu.AppendTLV(v, 0x35, []byte(h.Expiry))
	v = apdu.AppendTLV(v, 0x3E, nil)
	return apdu.AppendTLV(b, 0x53, apdu.AppendTLV(v, 0xFE, nil))
}

// ParseHolder reads a CHUID object.
func ParseHolder(b []byte) (Holder, error) {
	v, err := unwrap(b, 0x53)
	if err != nil {
		return Holder{}, err
	}
	var h Holder
	guid, err := apdu.FindTLV(v, 0x34)
	if err != nil || len(guid) != GUIDSize {
		return Holder{}, fmt.Errorf("%w: CHUID with a GUID of %d bytes", ErrObject, len(guid))
	}
	copy(h.GUID[:], guid)
	if f, err := apdu.FindTLV(v, 0x30); err == nil && len(f) == FASCNSize {
		copy(h.FASCN[:], f)
	}
	if e, err := apdu.FindTLV(v, 0x35); err == nil && len(e) == 8 {
		h.Expiry = string(e)
	}
	return h, nil
}

func unwrap(b []byte, tag uint32) ([]byte, error) {
	t, v, _, err := apdu.ParseTLV(b)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrObject, err)
	}
	if t != tag {
		return nil, fmt.Errorf("%w: begins with %x; %x expected", ErrObject, t, tag)
	}
	return v, nil
}
