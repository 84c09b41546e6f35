package apdu

import (
	"errors"
	"fmt"
)

// ErrTLV is wrapped by the errors of ParseTLV and FindTLV.
var ErrTLV = errors.New("apdu: bad BER-TLV object")

// AppendTLV writes a BER-TLV object (ISO 7816-4 section 5.2.2) with a tag of one
// to three bytes, as 0x5A, 0x7F49 or 0x5FC102. It panics on more than MaxData
// bytes (a caller's bug).
func AppendTLV(b []byte, tag uint32, value []byte) []byte {
	if len(value) > MaxData {
		panic(fmt.Sprintf("apdu: object %x of %d bytes", tag, len(value)))
	}
	for shift := 16; shift >= 0; shift -= 8 {
		if v := byte(tag >> shift); v != 0 || shift == 0 {
			b = append(b, v)
		}
	}
	switch n := len(value); {
	case n < 0x80:
		b = append(b, byte(n))
	case n < 0x100:
		b = append(b, 0x81, byte(n))
	default:
		b = append(b, 0x82, byte(n>>8), byte(n))
	}
	return append(b, value...)
}

// ParseTLV reads the object at the beginning of b.
func ParseTLV(b []byte) (tag uint32, value, rest []byte, err error) {
	fail := func(format string, args ...any) (uint32, []byte, []byte, error) {
		return 0, nil, nil, fmt.Errorf("%w: %s", ErrTLV, fmt.Sprintf(format, args...))
	}
	if len(b) < 2 {
		return fail("%d bytes", len(b))
	}
	tag, b = uint32(b[0]), b[1:]
	if tag&0x1f == 0x1f {
		for i := 0; ; i++ {
			if len(b) == 0 || i == 2 {
				return fail("tag %x does not end", tag)
			}
			v := b[0]
			tag, b = tag<<8|uint32(v), b[1:]
			if v&0x80 == 0 {
				break
			}
		}
	}
	if len(b) == 0 {
		return fail("tag %x without a length", tag)
	}
	n, size := int(b[0]), 0
	if n > 0x80 && n <= 0x83 {
		size = n - 0x80
		n = 0
	} else if n >= 0x80 {
		return fail("tag %x with a length that begins with %02x", tag, n)
	}
	b = b[1:]
	if len(b) < size {
		return fail("tag %x with half a length", tag)
	}
	for _, v := range b[:size] {
		n = n<<8 | int(v)
	}
	b = b[size:]
	if n > len(b) {
		return fail("tag %x announces %d bytes, %d are left", tag, n, len(b))
	}
	return tag, b[:n:n], b[n:], nil
}

// FindTLV finds the first object of a tag among those that b consists of.
func FindTLV(b []byte, tag uint32) ([]byte, error) {
	for len(b) > 0 {
		t, v, rest, err := ParseTLV(b)
		if err != nil {
			return nil, err
		}
		if t == tag {
			return v, nil
		}
		b = rest
	}
	return nil, fmt.Errorf("%w: no object %x", ErrTLV, tag)
}
