package piv

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
)

func TestCommands(t *testing.T) {
	verify, err := Verify("123456")
	if err != nil {
		t.Fatal(err)
	}
	for want, got := range map[string][]byte{
		"00a4040009a0000003080000100000": Select().Append(nil),
		"00cb3fff055c035fc10200":         Get(CHUID).Append(nil),
		"00cb3fff035c017e00":             Get(Discovery).Append(nil),
		"0020008008313233343536ffff":     verify.Append(nil),
		"00200080":                       Tries().Append(nil),
		"0087119e087c0682008102abcd00":   Authenticate(P256, CardAuthentication, []byte{0xab, 0xcd}).Append(nil),
		"7c048202abcd":                   AppendSignature(nil, []byte{0xab, 0xcd}),
		"53097002abcd710100fe00":         AppendCert(nil, []byte{0xab, 0xcd}),
	} {
		if hex.EncodeToString(got) != want {
			t.Errorf("%x, want %s", got, want)
		}
	}
	for _, pin := range []string{"", "12345", "123456789"} {
		if _, err := Verify(pin); err == nil {
			t.Errorf("PIN of %d digits", len(pin))
		}
	}
}

func TestObjects(t *testing.T) {
	h := Holder{GUID: [16]byte{1, 2}, FASCN: [25]byte{3}, Expiry: "20301231"}
	if got, err := ParseHolder(AppendHolder(nil, h)); got != h || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := ParseCert(AppendCert(nil, []byte{1})); !bytes.Equal(got, []byte{1}) || err != nil {
		t.Errorf("%x, %v", got, err)
	}
	if got, err := ParseSignature(AppendSignature(nil, []byte{1})); !bytes.Equal(got, []byte{1}) || err != nil {
		t.Errorf("%x, %v", got, err)
	}
	if got, err := ParseAuthenticate(Authenticate(P256, 0x9a, []byte{7}).Data); !bytes.Equal(got, []byte{7}) || err != nil {
		t.Errorf("%x, %v", got, err)
	}
	for _, bad := range [][]byte{nil, {0x53, 0}, {0x7c, 0}, {0x53, 2, 0x34, 0}, {0x53, 5, 0x70, 0, 0x71, 1, 1}, {0x53, 9}} {
		_, e1 := ParseHolder(bad)
		_, e2 := ParseCert(bad)
		_, e3 := ParseSignature(bad)
		_, e4 := ParseAuthenticate(bad)
		for _, err := range []error{e1, e2, e3, e4} {
			if !errors.Is(err, ErrObject) {
				t.Errorf("%x: %v", bad, err)
			}
		}
	}
}

func FuzzObjects(f *testing.F) {
	f.Add(AppendHolder(nil, Holder{Expiry: "20301231"}))
	f.Add(AppendCert(nil, []byte{1, 2, 3}))
	f.Add(AppendSignature(nil, []byte{1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := ParseHolder(b); err == nil {
			if again, err := ParseHolder(AppendHolder(nil, h)); err != nil || again.GUID != h.GUID {
				t.Fatalf("%x: %+v, %v", b, again, err)
			}
		}
		ParseCert(b)
		ParseSignature(b)
		ParseAuthenticate(b)
	})
}
