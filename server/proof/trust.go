package proof

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/smartcard/piv"
)

// Bounds of what an admin's files hold.
const (
	MaxAuthorities = 256
	MaxLists       = 64
	maxChain       = 6 // certificates from a card's to its authority's, both counted
)

// Trust is who may issue cards, and what they have revoked. Its zero value
// believes nobody. It is not changed once made, and safe for concurrent use.
type Trust struct {
	roots, between *x509.CertPool
	count          int
	lists          []*x509.RevocationList
	AllowExpired   bool // revocation lists whose time is over, or not said, count too
}

// ErrTrust is wrapped by the errors of ParseTrust.
var ErrTrust = errors.New("proof: bad authority or revocation list")

// ParseTrust reads the contents of files: authorities as PEM certificates (of
// those that did not sign themselves the chain goes on), revocation lists in
// PEM or DER.
func ParseTrust(authorities, lists [][]byte) (*Trust, error) {
	t := &Trust{roots: x509.NewCertPool(), between: x509.NewCertPool()}
	signed := false // by itself
	for _, text := range authorities {
		found := 0
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "CERTIFICATE" {
				return nil, fmt.Errorf("%w: a PEM block %q, where certificates belong", ErrTrust, block.Type)
			}
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrTrust, err)
			}
			if found, t.count = found+1, t.count+1; t.count > MaxAuthorities {
				return nil, fmt.Errorf("%w: more than %d certificates", ErrTrust, MaxAuthorities)
			}
			if !c.IsCA {
				return nil, fmt.Errorf("%w: %q may not issue certificates", ErrTrust, c.Subject)
			}
			if bytes.Equal(c.RawIssuer, c.RawSubject) {
				t.roots.AddCert(c)
				signed = true
			} else {
				t.between.AddCert(c)
			}
		}
		if found == 0 {
			return nil, fmt.Errorf("%w: no PEM certificate in it", ErrTrust)
		}
	}
	for _, data := range lists {
		if len(t.lists) == MaxLists {
			return nil, fmt.Errorf("%w: more than %d revocation lists", ErrTrust, MaxLists)
		}
		if block, _ := pem.Decode(data); block != nil {
			data = block.Bytes
		}
		l, err := x509.ParseRevocationList(data)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrTrust, err)
		}
		if err := whole(l); err != nil {
			return nil, err
		}
		t.lists = append(t.lists, l)
	}
	if t.count > 0 && !signed {
		return nil, fmt.Errorf("%w: none of the authorities signed itself, so no chain ends; name the root's certificate as well", ErrTrust)
	}
	return t, nil
}

// whole refuses a list that does not speak of all that its issuer has revoked:
// one of changes, or of some kinds of certificates or places only. It says so by
// a critical extension, and would hide the whole list that is older (RFC 5280
// section 5.2: a list with a critical extension that is not known is not used).
func whole(l *x509.RevocationList) error {
	for _, e := range l.Extensions {
		if e.Critical {
			return fmt.Errorf("%w: the revocation list of %q has the critical extension %v: it is one of changes (2.5.29.27) or of a part (2.5.29.28), and the whole list is needed", ErrTrust, l.Issuer, e.Id)
		}
	}
	for _, c := range l.RevokedCertificateEntries {
		for _, e := range c.Extensions {
			if e.Critical {
				return fmt.Errorf("%w: the revocation list of %q speaks of others' certificates (critical extension %v of an entry): each issuer's own list is needed", ErrTrust, l.Issuer, e.Id)
			}
		}
	}
	return nil
}

// A refusal is why a proof does not hold: for the user, and for the log.
type refusal struct{ reason, detail string }

func (r *refusal) Error() string { return "proof: " + r.detail }

func refuse(reason, format string, a ...any) *refusal {
	return &refusal{reason, fmt.Sprintf(format, a...)}
}

// What users are told.
const (
	sayUnknown = "The card was issued by an authority that this system does not accept. Use another card, or ask the administrator."
	sayExpired = "The card's certificate has expired or is not valid yet. Ask the administrator for a new card."
	sayRevoked = "The card has been revoked. Ask the administrator for a new card."
	sayLists   = "The server cannot tell now whether the card has been revoked. Tell the administrator."
	sayUnbound = "The card's certificate belongs to another card. Use your own card, or ask the administrator."
	sayKey     = "The card's key or certificate cannot be used here. Ask the administrator for a new card."
	sayNoCert  = "The card has no certificate for this. Ask the administrator for a new card."
	sayProof   = "The card could not prove that it is genuine. Use your own card, or ask the administrator."
	saySecret  = "The card is not known here. Ask the administrator to register it."
	sayOther   = "This kind of card cannot prove who it is. Ask the administrator."
	saySilent  = "The card does not answer. Take it out, and insert it again, chip first and all the way."
	sayBroken  = "The card's answer makes no sense. Take it out, clean its chip and insert it again."
)

// check verifies a card's certificate at a time: chain, validity, revocation.
func (t *Trust) check(c *x509.Certificate, now time.Time) error {
	if t == nil || t.count == 0 {
		return refuse(sayUnknown, "no authority is configured")
	}
	if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return refuse(sayKey, "the certificate's key is not for signatures")
	}
	leaf := *c
	// SANs of FASC-N alone are critical and unknown to crypto/x509: bound reads them.
	leaf.UnhandledCriticalExtensions = nil
	for _, id := range c.UnhandledCriticalExtensions {
		if !id.Equal(oidSAN) {
			return refuse(sayKey, "the certificate has a critical extension %v that nobody here knows", id)
		}
	}
	chains, err := leaf.Verify(x509.VerifyOptions{Roots: t.roots, Intermediates: t.between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return refuse(sayExpired, "%v", err)
	}
	if err != nil {
		return refuse(sayUnknown, "%v", err)
	}
	var last error
	for _, chain := range chains {
		if len(chain) > maxChain {
			last = refuse(sayUnknown, "a chain of %d certificates", len(chain))
			continue
		}
		if last = t.revoked(chain, now); last == nil {
			return nil
		}
	}
	return last
}

// revoked asks the lists about every certificate but the authority's own.
// Where no list is configured there is none to ask.
func (t *Trust) revoked(chain []*x509.Certificate, now time.Time) error {
	if len(t.lists) == 0 {
		return nil
	}
	for i, c := range chain[:len(chain)-1] {
		l, err := t.list(chain[i+1], now)
		if err != nil {
			return err
		}
		for _, e := range l.RevokedCertificateEntries {
			if e.SerialNumber.Cmp(c.SerialNumber) == 0 {
				return refuse(sayRevoked, "certificate %x of %q was revoked at %v", c.SerialNumber, c.Issuer, e.RevocationTime)
			}
		}
	}
	return nil
}

// list is the newest of an issuer that may be used.
func (t *Trust) list(issuer *x509.Certificate, now time.Time) (*x509.RevocationList, error) {
	var best *x509.RevocationList
	for _, l := range t.lists {
		if !bytes.Equal(l.RawIssuer, issuer.RawSubject) || l.CheckSignatureFrom(issuer) != nil || l.ThisUpdate.After(now.Add(clockSlack)) {
			continue
		}
		if best == nil || l.ThisUpdate.After(best.ThisUpdate) {
			best = l
		}
	}
	switch {
	case best == nil:
		return nil, refuse(sayLists, "there is no revocation list of %q", issuer.Subject)
	case t.AllowExpired:
	case best.NextUpdate.IsZero(): // against RFC 5280 section 5.1.2.5: any old one could be put in its place
		return nil, refuse(sayLists, "the revocation list of %q does not say until when it holds", issuer.Subject)
	case now.After(best.NextUpdate):
		return nil, refuse(sayLists, "the revocation list of %q has expired at %v", issuer.Subject, best.NextUpdate)
	}
	return best, nil
}

// fits checks that a certificate is one of the key that the proof is by. A card
// that was found signs with 9E for anybody: without this, whoever puts a program
// between it and its reader would have 9E's certificate and signature pass for
// those of 9A, and no PIN be needed.
func fits(c *x509.Certificate, kind Kind) error {
	marked := slices.ContainsFunc(c.UnknownExtKeyUsage, piv.CardAuthenticationUsage.Equal)
	switch {
	case kind == PIV && marked:
		return refuse(sayKey, "the certificate in the place of 9A's is of key 9E (extended key usage %v), which needs no PIN", piv.CardAuthenticationUsage)
	case kind == PIVCard && !marked:
		return refuse(sayKey, "the certificate of key 9E lacks the extended key usage %v (id-PIV-cardAuth), by which it is known from 9A's: issue it with that", piv.CardAuthenticationUsage)
	}
	return nil
}

// clockSlack is how far an issuer's clock may be ahead.
const clockSlack = 5 * time.Minute

var (
	oidSAN   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidFASCN = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 6, 6} // FIPS 201-3 appendix C.1.2
)

// bound reports whether a certificate names the card that the token is of: its
// UUID or its FASC-N (FIPS 201-3 section 4.2.1).
func bound(c *x509.Certificate, token alp.Token) bool {
	kind, id, _ := strings.Cut(string(token), ".")
	if kind != "piv" {
		return false
	}
	for _, u := range c.URIs {
		if uuid, ok := strings.CutPrefix(strings.ToLower(u.String()), "urn:uuid:"); ok && len(id) == 2*piv.GUIDSize && strings.ReplaceAll(uuid, "-", "") == id {
			return true
		}
	}
	for _, e := range c.Extensions {
		if e.Id.Equal(oidSAN) && len(id) == 2*piv.FASCNSize && fascn(e.Value) == id {
			return true
		}
	}
	return false
}

// fascn is the FASC-N among the names of a certificate, in hex, or "".
func fascn(der []byte) string {
	var names asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &names); err != nil || len(rest) > 0 || !names.IsCompound {
		return ""
	}
	for rest := names.Bytes; len(rest) > 0; {
		var name asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &name); err != nil {
			return ""
		}
		if name.Class != asn1.ClassContextSpecific || name.Tag != 0 {
			continue // not an otherName
		}
		var id asn1.ObjectIdentifier
		value, err := asn1.Unmarshal(name.Bytes, &id)
		if err != nil || !id.Equal(oidFASCN) {
			continue
		}
		var explicit asn1.RawValue
		var octets []byte
		if _, err := asn1.Unmarshal(value, &explicit); err != nil {
			continue
		}
		if _, err := asn1.Unmarshal(explicit.Bytes, &octets); err == nil && len(octets) == piv.FASCNSize {
			return hex.EncodeToString(octets)
		}
	}
	return ""
}

// algorithm is how a card signs with that key, 0 where it cannot.
func algorithm(key any) byte {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return piv.P256
		case elliptic.P384():
			return piv.P384
		}
	case *rsa.PublicKey:
		switch k.N.BitLen() {
		case 2048:
			return piv.RSA2048
		case 3072:
			return piv.RSA3072
		}
	}
	return 0
}

// Fingerprint names a key: SHA-256 of its SubjectPublicKeyInfo, in hex.
func Fingerprint(c *x509.Certificate) string {
	d := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(d[:])
}
