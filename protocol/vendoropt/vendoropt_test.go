package vendoropt

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// recorded is the reply of a Sun server that alp.md section 10 shows, with the
// addresses filled in and 29 characters of firmware version.
const recorded = "1f04c0a80080" + "2103676530" +
	"171d" + "475549342e305f34385f323030372e30382e30362e31362e31352e3030" +
	"1504c0a80080" + "16021b61" + "1804c0a80080" +
	"190106" + "1a0106" + "1b0106" + "1c0106" + "1d0106"

func realSet() Set {
	h := addr("192.168.0.128")
	return Set{AuthSrvr: h, AuthPort: 7009, NewTVer: "GUI4.0_48_2007.08.06.16.15.00", LogHost: h,
		Levels: Levels{6, 6, 6, 6, 6}, FWSrvr: h, Intf: "ge0"}
}

func TestRealReply(t *testing.T) {
	s, err := Parse(unhex(t, recorded))
	if err != nil || !reflect.DeepEqual(s, realSet()) {
		t.Errorf("%+v, %v", s, err)
	}
}

// vectors are sets and their exact bytes, in canonical form.
func vectors() []struct {
	set Set
	hex string
} {
	full := realSet()
	full.NewTBW, full.NewTDispIndx, full.NewTFlags, full.BarrierLevel = 10_000_000, 1, 2, 420
	full.AltAuth = []netip.Addr{addr("10.0.0.1"), addr("10.0.0.2")}
	full.Fingerprint, full.ControlPort = bytes.Repeat([]byte{0xab}, 32), 7443
	one := New()
	one.AuthSrvr = addr("10.99.0.1")
	level := New()
	level.Levels.USB = 0
	return []struct {
		set Set
		hex string
	}{
		{New(), ""},
		{one, "15040a630001"},
		{level, "1b0100"},
		{full, "1504c0a80080 16021b61 171d475549342e305f34385f323030372e30382e30362e31362e31352e3030 1804c0a80080" +
			"190106 1a0106 1b0106 1c0106 1d0106 1e0400989680 1f04c0a80080 200400000001 2103676530 220400000002" +
			"23080a0000010a000002 2404000001a4 e020" + strings.Repeat("ab", 32) + "e1021d13"},
	}
}

func TestExactBytes(t *testing.T) {
	for _, v := range vectors() {
		want := append([]byte("before"), unhex(t, v.hex)...)
		if got := v.set.Append([]byte("before")); !bytes.Equal(got, want) {
			t.Errorf("%+v:\n%x, want\n%x", v.set, got, want)
		}
		if got, err := Parse(want[6:]); err != nil || !reflect.DeepEqual(got, v.set) {
			t.Errorf("%s: %+v, %v", v.hex, got, err)
		}
	}
}

func TestTolerant(t *testing.T) {
	port := New()
	port.AuthPort = 7009
	finger := New()
	finger.Fingerprint = bytes.Repeat([]byte{0xab}, 32)
	text := New()
	text.Intf = "ge0"
	one := New()
	one.AuthSrvr = addr("10.99.0.1")
	bad := one
	bad.Bad = []byte{CodeAltAuth, CodeAuthPort}
	for name, c := range map[string]struct {
		in   string
		want Set
	}{
		"a port in four bytes":         {"160400001b61", port},
		"a fingerprint in hex":         {"e040" + strings.Repeat("6142", 32), finger},
		"a text that ends in NUL":      {"210567653000 00", text},
		"padding and an end":           {"00 15040a630001 00 ff 1504", one},
		"the last of two counts":       {"15040a630002 15040a630001", one},
		"an unknown one":               {"fe03aabbcc 15040a630001", one},
		"values that cannot be meant":  {"2303616263 15040a630001 1603000000 160101 16020000", func() Set { s := bad; s.AuthPort = 1; return s }()},
		"nowhere, everywhere, nothing": {"150400000000 1504ffffffff 1504e0000001 2300 2104676530 0a", func() Set { s := New(); s.Bad = []byte{CodeAuthSrvr, CodeAltAuth, CodeIntf}; return s }()},
		"a level of eight":             {"190108", func() Set { s := New(); s.Bad = []byte{CodeLogKern}; return s }()},
		"too many servers":             {"2344" + strings.Repeat("0a000001", 17), func() Set { s := New(); s.Bad = []byte{CodeAltAuth}; return s }()},
	} {
		if got, err := Parse(unhex(t, c.in)); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, in := range map[string][]byte{
		"a code alone":    {21},
		"a short value":   {21, 4, 10, 0, 0},
		"a long length":   {21, 255, 10, 0, 0, 1},
		"more than there": make([]byte, MaxSize+1),
	} {
		if s, err := Parse(in); err == nil || !reflect.DeepEqual(s, Set{}) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

// FuzzParse: no panic, and what was understood survives in canonical form.
func FuzzParse(f *testing.F) {
	f.Add(unhex(f, recorded))
	for _, v := range vectors() {
		f.Add(unhex(f, v.hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			return
		}
		s.Bad = nil
		again, err := Parse(s.Append(nil))
		if err != nil || !reflect.DeepEqual(again, s) {
			t.Fatalf("%+v, again %+v, %v", s, again, err)
		}
	})
}
