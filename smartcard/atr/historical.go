package atr

import (
	"bytes"
	"fmt"
)

// Category indicators, the first historical byte.
const (
	StatusLast = 0x00 // compact-TLV objects, then three bytes of status
	DirRef     = 0x10 // a reference to the card's DIR
	CompactTLV = 0x80 // compact-TLV objects, status among them
)

// Tags of compact-TLV objects.
const (
	TagCountry      = 1
	TagIssuer       = 2
	TagService      = 3
	TagInitial      = 4
	TagIssuerData   = 5
	TagPreIssuing   = 6
	TagCapabilities = 7
	TagStatus       = 8
	TagAID          = 15
)

// An Object is one compact-TLV object.
type Object struct {
	Tag   byte
	Value []byte
}

// Identification is what the historical bytes say.
type Identification struct {
	Category    byte
	Proprietary []byte // all bytes after a category that ISO 7816-4 does not define
	Objects     []Object
	Status      []byte // after the objects: life cycle and two status bytes
}

// Identify reads the historical bytes. It returns false if there are none.
func (a ATR) Identify() (id Identification, ok bool, err error) {
	h := a.Historical
	if len(h) == 0 {
		return Identification{}, false, nil
	}
	id.Category, h = h[0], h[1:]
	switch id.Category {
	case StatusLast:
		if len(h) < 3 {
			return Identification{}, false, fmt.Errorf("%w: category 00 and %d bytes; three of status are needed", ErrATR, len(h))
		}
		n := len(h) - 3
		id.Status, h = h[n:], h[:n]
	case CompactTLV:
		if len(h) >= 2 && h[0] == 0x4F && int(h[1]) == len(h)-2 && bytes.HasPrefix(h[2:], pcscRID) {
			// The one object with a length byte of its own.
			id.Objects = []Object{{TagInitial, h[2:]}}
			return id, true, nil
		}
	default: // DirRef too: its one byte is the reference
		id.Proprietary = h
		return id, true, nil
	}
	for len(h) > 0 {
		tag, n := h[0]>>4, int(h[0]&15)
		if n > len(h)-1 {
			return Identification{}, false, fmt.Errorf("%w: historical object %X announces %d bytes, %d are left", ErrATR, tag, n, len(h)-1)
		}
		id.Objects = append(id.Objects, Object{tag, h[1 : 1+n : 1+n]})
		h = h[1+n:]
	}
	return id, true, nil
}

// Find returns the first object with the tag.
func (id Identification) Find(tag byte) ([]byte, bool) {
	for _, o := range id.Objects {
		if o.Tag == tag {
			return o.Value, true
		}
	}
	return nil, false
}

// Extended reports whether the card says that it takes the extended form of
// APDUs (third byte of the capabilities, bit 7), and Chaining the same of
// command chaining (bit 8).
func (id Identification) Extended() bool { return id.capability()&0x40 != 0 }

// Chaining: see Extended.
func (id Identification) Chaining() bool { return id.capability()&0x80 != 0 }

func (id Identification) capability() byte {
	if v, _ := id.Find(TagCapabilities); len(v) >= 3 {
		return v[2]
	}
	return 0
}

// pcscRID begins what a PC/SC reader makes up for a contactless storage card.
var pcscRID = []byte{0xA0, 0x00, 0x00, 0x03, 0x06}

// Storage reports whether the ATR was made up by a reader for a contactless
// storage card (PC/SC part 3, section 3.1.3.2.3.2), and the card's name in
// PC/SC's register.
func (a ATR) Storage() (name uint16, ok bool) {
	id, _, err := a.Identify()
	if err != nil || id.Category != CompactTLV {
		return 0, false
	}
	v, ok := id.Find(TagInitial)
	if !ok || len(v) < len(pcscRID)+3 || !bytes.HasPrefix(v, pcscRID) {
		return 0, false
	}
	return uint16(v[len(pcscRID)+1])<<8 | uint16(v[len(pcscRID)+2]), true
}
