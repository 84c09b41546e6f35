package apdu

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
)

func TestTLV(t *testing.T) {
	for _, tc := range []struct {
		tag  uint32
		n    int
		head string
	}{{0x5a, 0, "5a00"}, {0x5fc102, 3, "5fc10203"}, {0x7f49, 0x7f, "7f497f"}, {0x53, 0x80, "538180"}, {0x53, 0x100, "53820100"}} {
		want := append([]byte{}, long(tc.n)...)
		b := AppendTLV([]byte{0xee}, tc.tag, want)
		if got := hex.EncodeToString(b[1 : len(b)-tc.n]); got != tc.head {
			t.Errorf("%x of %d: %s", tc.tag, tc.n, got)
		}
		tag, v, rest, err := ParseTLV(append(b[1:], 9))
		if tag != tc.tag || !bytes.Equal(v, want) || len(rest) != 1 || err != nil {
			t.Errorf("%x of %d: %x, %d bytes, %v", tc.tag, tc.n, tag, len(v), err)
		}
	}
	for _, in := range []string{"", "5a", "5a02ff", "5f", "5fff", "5fffffff00", "5a80", "5a84", "5a82ff", "5aff"} {
		b, _ := hex.DecodeString(in)
		if tag, v, rest, err := ParseTLV(b); !errors.Is(err, ErrTLV) || tag != 0 || v != nil || rest != nil {
			t.Errorf("%s: %x %x %v", in, tag, v, err)
		}
	}
	b := AppendTLV(AppendTLV(nil, 0x30, []byte{1}), 0x34, []byte{2})
	if v, err := FindTLV(b, 0x34); err != nil || !bytes.Equal(v, []byte{2}) {
		t.Errorf("%x, %v", v, err)
	}
	if v, err := FindTLV(b, 0x35); !errors.Is(err, ErrTLV) || v != nil {
		t.Errorf("%x, %v", v, err)
	}
}

func FuzzTLV(f *testing.F) {
	f.Add(AppendTLV(nil, 0x5fc102, long(300)))
	f.Add(AppendTLV(nil, 0x7c, AppendTLV(nil, 0x82, nil)))
	f.Fuzz(func(t *testing.T, b []byte) {
		tag, v, rest, err := ParseTLV(b)
		if err != nil {
			return
		}
		canonical := AppendTLV(nil, tag, v[:min(len(v), MaxData)])
		tag2, v2, _, err := ParseTLV(canonical)
		if err != nil || len(v) <= MaxData && (!bytes.Equal(v, v2) || tag != 0 && tag2 != tag && b[0] != 0) || len(rest) > len(b) {
			t.Fatalf("%x: %x and %x, %v", b, tag, tag2, err)
		}
	})
}
