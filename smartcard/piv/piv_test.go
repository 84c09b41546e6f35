package piv

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"errors"
	"testing"

	"hotdesk/smartcard/apdu"
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

// zipped is a certificate object with a gzip stream of n bytes, the last of which
// are cut off.
func zipped(t testing.TB, n, cut int) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(bytes.Repeat([]byte{7}, n)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	v := apdu.AppendTLV(apdu.AppendTLV(nil, 0x70, b.Bytes()[:b.Len()-cut]), 0x71, []byte{1})
	return apdu.AppendTLV(nil, 0x53, apdu.AppendTLV(v, 0xfe, nil))
}

func TestCompressedCert(t *testing.T) {
	for n, ok := range map[int]bool{1: true, 1500: true, MaxCert: true, MaxCert + 1: false, 1 << 20: false} {
		der, err := ParseCert(zipped(t, n, 0))
		if ok && (err != nil || len(der) != n) || !ok && (!errors.Is(err, ErrObject) || der != nil) {
			t.Errorf("%d bytes: %d came, %v", n, len(der), err)
		}
	}
	if der, err := ParseCert(zipped(t, 1500, 4)); !errors.Is(err, ErrObject) || der != nil {
		t.Errorf("cut short: %d bytes, %v", len(der), err)
	}
}

func FuzzObjects(f *testing.F) {
	f.Add(AppendHolder(nil, Holder{Expiry: "20301231"}))
	f.Add(AppendCert(nil, []byte{1, 2, 3}))
	f.Add(AppendSignature(nil, []byte{1}))
	f.Add(zipped(f, 1500, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := ParseHolder(b); err == nil {
			if again, err := ParseHolder(AppendHolder(nil, h)); err != nil || again.GUID != h.GUID {
				t.Fatalf("%x: %+v, %v", b, again, err)
			}
		}
		if der, _ := ParseCert(b); len(der) > max(len(b), MaxCert) {
			t.Fatalf("%d bytes of %d", len(der), len(b))
		}
		ParseSignature(b)
		ParseAuthenticate(b)
	})
}
