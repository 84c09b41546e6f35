package attach

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"time"

	"github.com/quic-go/quic-go"
)

// MaxIdentity bounds a marshalled Identity, in bytes.
const MaxIdentity = 2048

// identityVersion is the first byte of a marshalled Identity.
const identityVersion = 1

// An Identity is who a media end is: a certificate that terminals pin by its
// hash, and the keys that let a restarted media end reset what its predecessor
// left. It is secret but for CertHash, and hides itself in logs.
type Identity struct {
	cert  tls.Certificate
	reset quic.StatelessResetKey
	token quic.TokenGeneratorKey
}

// NewIdentity makes one of its own.
func NewIdentity() (*Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	// Nobody checks these times: the certificate is pinned as it is, and
	// terminals have no clock to trust.
	template := &x509.Certificate{SerialNumber: serial, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	id := &Identity{cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}
	rand.Read(id.reset[:])
	rand.Read(id.token[:])
	return id, nil
}

// CertHash is the SHA-256 of the certificate: connInf's mediaCert.
func (id *Identity) CertHash() [sha256.Size]byte { return sha256.Sum256(id.cert.Certificate[0]) }

// LogValue hides the keys.
func (id *Identity) LogValue() slog.Value { return slog.StringValue("media identity") }

// String hides the keys.
func (id *Identity) String() string { return "media identity" }

// MarshalBinary writes id with its keys, for the media end that comes after
// this one.
func (id *Identity) MarshalBinary() ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(id.cert.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	b := append([]byte{identityVersion}, id.reset[:]...)
	b = append(b, id.token[:]...)
	for _, part := range [][]byte{key, id.cert.Certificate[0]} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(part)))
		b = append(b, part...)
	}
	return b, nil
}

// UnmarshalBinary reads what MarshalBinary wrote.
func (id *Identity) UnmarshalBinary(b []byte) error {
	bad := errors.New("attach: that is no identity")
	fixed := 1 + len(id.reset) + len(id.token)
	if len(b) < fixed || len(b) > MaxIdentity || b[0] != identityVersion {
		return bad
	}
	var read Identity
	b = b[1:]
	b = b[copy(read.reset[:], b):]
	b = b[copy(read.token[:], b):]
	var parts [2][]byte
	for i := range parts {
		if len(b) < 2 {
			return bad
		}
		n := int(binary.BigEndian.Uint16(b))
		if b = b[2:]; len(b) < n {
			return bad
		}
		parts[i], b = b[:n:n], b[n:]
	}
	if len(b) > 0 {
		return bad
	}
	key, err := x509.ParsePKCS8PrivateKey(parts[0])
	if err != nil {
		return bad
	}
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return bad
	}
	cert, err := x509.ParseCertificate(parts[1])
	if err != nil || !private.PublicKey.Equal(cert.PublicKey) {
		return bad
	}
	read.cert = tls.Certificate{Certificate: [][]byte{append([]byte(nil), parts[1]...)}, PrivateKey: private}
	*id = read
	return nil
}
