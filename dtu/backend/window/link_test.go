package window

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// entry is one of an authority file.
func entry(family uint16, fields ...string) []byte {
	b := binary.BigEndian.AppendUint16(nil, family)
	for _, f := range fields {
		b = binary.BigEndian.AppendUint16(b, uint16(len(f)))
		b = append(b, f...)
	}
	return b
}

func TestFindCookie(t *testing.T) {
	file := bytes.Join([][]byte{
		entry(0, "\x7f\x00\x00\x01", "7", cookieName, "of-an-address"),
		entry(256, "desk", "7", "XDM-AUTHORIZATION-1", "another way"),
		entry(256, "desk", "8", cookieName, "of-display-8"),
		entry(256, "desk", "7", cookieName, "of-display-7"),
		entry(65535, "", "", cookieName, "of-any"),
	}, nil)
	for _, c := range []struct{ host, number, want string }{
		{"desk", "7", "of-display-7"}, {"desk", "8", "of-display-8"}, {"desk", "9", "of-any"}, {"other", "7", "of-any"},
	} {
		if got := findCookie(file, c.host, c.number); string(got) != c.want {
			t.Errorf("%s:%s: %q, want %q", c.host, c.number, got, c.want)
		}
	}
	if got := findCookie(file[:len(file)-1], "other", "7"); got != nil {
		t.Errorf("cut short: %q", got)
	}
}

func TestSetupRequest(t *testing.T) {
	if got, want := setupRequest(nil), []byte{'l', 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0}; !bytes.Equal(got, want) {
		t.Errorf("% x", got)
	}
	got := setupRequest([]byte("0123456789abcdef"))
	want := append([]byte{'l', 0, 11, 0, 0, 0, 18, 0, 16, 0, 0, 0}, "MIT-MAGIC-COOKIE-1\x00\x000123456789abcdef"...)
	if !bytes.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func FuzzFindCookie(f *testing.F) {
	f.Add(entry(256, "desk", "7", cookieName, "0123456789abcdef"))
	f.Add(append(entry(0, "\x7f\x00\x00\x01", "0", "XDM-AUTHORIZATION-1", "x"), entry(65535, "", "", cookieName, "y")...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c := findCookie(b, "desk", "7"); len(c) > len(b) {
			t.Errorf("%d bytes out of %d", len(c), len(b))
		}
	})
}
