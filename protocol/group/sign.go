package group

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"log/slog"

	"hotdesk/protocol/alp"
)

// KeySize is the length of a derived key in bytes. The key is scrypt of a line
// of the key file; callers derive it, as this package knows only the standard
// library.
const KeySize = 32

// Alg names how a message is signed.
type Alg string

// Algorithms. A verifier takes both, whichever it signs with.
const (
	SHA1   Alg = "hmac-sha1" // as in the seed
	SHA256 Alg = "hmac-sha256"
)

func (a Alg) hash() func() hash.Hash {
	switch a {
	case SHA1:
		return sha1.New
	case SHA256:
		return sha256.New
	}
	return nil
}

// Valid reports whether a is a known algorithm.
func (a Alg) Valid() bool { return a.hash() != nil }

// A Key is one derived key of the group. It hides itself in logs.
type Key struct {
	id     string
	secret [KeySize]byte
}

// NewKey makes a Key of derived bytes. Its id tells keys apart in messages and
// logs and is made one-way from them.
func NewKey(secret [KeySize]byte) Key {
	mac := hmac.New(sha256.New, secret[:])
	mac.Write([]byte("hotdesk key id"))
	return Key{hex.EncodeToString(mac.Sum(nil)[:4]), secret}
}

// ID is the key's public name: eight hex digits.
func (k Key) ID() string { return k.id }

// String and LogValue keep the secret out of logs.
func (k Key) String() string       { return "key " + k.id }
func (k Key) GoString() string     { return k.String() }
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// A Ring is the keys of the key file in their order: the first one signs, each
// verifies, so that a key is rolled over without a moment of distrust.
type Ring []Key

// Errors of Verify.
var (
	ErrUnsigned  = errors.New("group: not signed")
	ErrOtherKey  = errors.New("group: signed with a key that is not in our key file")
	ErrSignature = errors.New("group: wrong signature")
)

// Sign appends alg, kid and sig to a message that Append wrote. With an empty
// ring it returns the message as it is.
func (r Ring) Sign(line []byte, a Alg) []byte {
	if len(r) == 0 {
		return line
	}
	line = bytes.TrimRight(line, "\n")
	line = fmt.Appendf(line, " alg=%s kid=%s", a, r[0].id)
	sum := r[0].sum(line, a)
	line = append(line, " sig="...)
	line = hex.AppendEncode(line, sum)
	return append(line, '\n')
}

func (k Key) sum(line []byte, a Alg) []byte {
	mac := hmac.New(a.hash(), k.secret[:])
	mac.Write(line)
	return mac.Sum(nil)
}

// Verify tells whether a key of the ring signed this datagram: nil, or one of
// the errors above.
func (r Ring) Verify(data []byte) error {
	data = bytes.TrimRight(data, "\r\n\x00")
	i := bytes.LastIndex(data, []byte(" sig="))
	if i < 0 || len(data) > MaxPacket {
		return ErrUnsigned
	}
	covered, sig := data[:i], data[i+len(" sig="):]
	j := bytes.LastIndex(covered, []byte(" alg="))
	if j < 0 {
		return ErrUnsigned
	}
	m, err := alp.Parse(append([]byte("x"), covered[j:]...))
	if err != nil || len(m.Keys) != 2 || m.Keys[0].Key != "alg" || m.Keys[1].Key != "kid" {
		return ErrUnsigned
	}
	a := Alg(m.Keys[0].Value)
	if !a.Valid() {
		return ErrUnsigned
	}
	got, err := hex.AppendDecode(nil, sig)
	if err != nil {
		return ErrSignature
	}
	known := false
	for _, k := range r {
		if k.id != m.Keys[1].Value {
			continue
		}
		known = true
		if hmac.Equal(got, k.sum(covered, a)) {
			return nil
		}
	}
	if !known {
		return ErrOtherKey
	}
	return ErrSignature
}
