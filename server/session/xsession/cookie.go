package xsession

import (
	"crypto/rand"
	"encoding/binary"
)

const (
	cookieName = "MIT-MAGIC-COOKIE-1"
	cookieSize = 16
	// familyWild makes an entry good for any display (Xauth.h, FamilyWild):
	// the number is not known before the server runs, and the file holds
	// nothing else.
	familyWild = 0xffff
)

// newCookie returns an Xauthority file with one fresh cookie. Its format is
// Xau(3)'s: family, then address, number, name and data, each a big-endian
// length and bytes.
func newCookie() []byte {
	data := make([]byte, cookieSize)
	rand.Read(data) // never fails (crypto/rand)
	b := binary.BigEndian.AppendUint16(nil, familyWild)
	for _, field := range [][]byte{nil, nil, []byte(cookieName), data} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(field)))
		b = append(b, field...)
	}
	return b
}
