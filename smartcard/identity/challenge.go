package identity

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"

	"hotdesk/protocol/alp"
	"hotdesk/smartcard/piv"
)

// ChannelLabel names the value that both ends of a control connection take
// from its TLS keys (RFC 8446 section 7.5), ChannelSize bytes: the connection's
// own name, which nobody in the middle can have too.
const (
	ChannelLabel = "EXPORTER-hotdesk-card-proof"
	ChannelSize  = 32
)

// A Statement is what a card signs when it proves itself: which card, at which
// terminal, on which connection, for which question, when and what for. Both
// ends write it down themselves, so that an answer is worth nothing elsewhere
// and a server cannot have a card sign anything else.
type Statement struct {
	Token    alp.Token
	Terminal alp.TerminalID
	Channel  [ChannelSize]byte
	Nonce    [alp.NonceSize]byte
	Time     int64 // Unix seconds, the server's
	Purpose  string
}

// statementLabel begins every statement, so that it means nothing else.
const statementLabel = "hotdesk card proof 1\x00"

// Append writes s: the label, then each part, those of changing length with two
// bytes of length before them.
func (s Statement) Append(b []byte) []byte {
	b = append(b, statementLabel...)
	for _, part := range []string{s.Purpose, string(s.Token), string(s.Terminal)} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(part)))
		b = append(b, part...)
	}
	b = append(b, s.Channel[:]...)
	b = append(b, s.Nonce[:]...)
	return binary.BigEndian.AppendUint64(b, uint64(s.Time))
}

// Digest is s for an algorithm of package piv, or for the simple card (0), and
// the hash that it is of.
func (s Statement) Digest(algorithm byte) ([]byte, crypto.Hash) {
	if algorithm == piv.P384 {
		d := sha512.Sum384(s.Append(nil))
		return d[:], crypto.SHA384
	}
	d := sha256.Sum256(s.Append(nil))
	return d[:], crypto.SHA256
}

// sha256Info is the head of a SHA-256 hash in a signature (RFC 8017 section
// 9.2, note 1).
var sha256Info = []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}

// Block is what GENERAL AUTHENTICATE takes for that algorithm: the hash, for RSA
// padded as EMSA-PKCS1-v1_5.
func (s Statement) Block(algorithm byte) ([]byte, error) {
	digest, _ := s.Digest(algorithm)
	size := 0
	switch algorithm {
	case piv.P256, piv.P384:
		return digest, nil
	case piv.RSA2048:
		size = 2048 / 8
	case piv.RSA3072:
		size = 3072 / 8
	default:
		return nil, fmt.Errorf("identity: cards do not sign by algorithm %02x here", algorithm)
	}
	fill := bytes.Repeat([]byte{0xff}, size-3-len(sha256Info)-len(digest))
	b := append([]byte{0, 1}, fill...)
	b = append(append(b, 0), sha256Info...)
	return append(b, digest...), nil
}
