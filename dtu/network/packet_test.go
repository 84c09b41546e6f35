package network

import (
	"encoding/hex"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"hotdesk/dtu/bootstrap"
)

var testMAC = net.HardwareAddr{2, 0, 0x5e, 0, 0, 0xaa}

// TestEncode: exact bytes of a request.
func TestEncode(t *testing.T) {
	got := hex.EncodeToString(encode(testMAC, bootstrap.Query{
		Kind: bootstrap.Request, ID: 0x01020304, Since: 5 * time.Second, Requested: addr("10.77.0.100"), Server: addr("10.77.0.1"),
	}))
	want := "01010600" + "01020304" + "0005" + "8000" + strings.Repeat("00", 16) + // to 0, nobody's address yet
		"02005e0000aa" + strings.Repeat("00", 10+64+128) + "63825363" +
		"32040a4d0064" + "350103" + "36040a4d0001" + "370b0103060f1a2b3142333a3b" + "390205c0" +
		"3c0e" + hex.EncodeToString([]byte("SUNW.NewT.SUNW")) + "3d0701" + "02005e0000aa" + "ff" + "0000" // 300 bytes at least (RFC 1542 section 2.1)
	if got != want {
		t.Errorf("\n%s, want\n%s", got, want)
	}
}

// offer is what dnsmasq 2.90 sent in a test.
const offer = "0201060001020304000080000000000" + "00a4d00640a4d0001" + "0000000002005e0000aa"

func seed(t testing.TB) []byte {
	t.Helper()
	b, err := hex.DecodeString(offer + strings.Repeat("00", 10+64+128) + "63825363" +
		"350102" + "36040a4d0001" + "330400000078" + "3a040000003c" + "3b0400000069" + "0104ffffff00" + "1c040a4d00ff" +
		"06040a4d0001" + "420931302e37372e302e34" + "31040a4d0009" + "1a020578" + "0f0b6c61622e6578616d706c65" +
		"03040a4d0001" + "2b0615040a4d0005" + "ff")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecode(t *testing.T) {
	want := bootstrap.Reply{
		Kind: bootstrap.Offer, ID: 0x01020304, Server: addr("10.77.0.1"), Addr: addr("10.77.0.100"), Bits: 24,
		Lease: 2 * time.Minute, Renew: time.Minute, Rebind: 105 * time.Second, Domain: "lab.example", Firmware: "10.77.0.4", MTU: 1400,
		Vendor: []byte{21, 4, 10, 77, 0, 5},
	}
	want.Routers = append(want.Routers, addr("10.77.0.1"))
	want.DNS = append(want.DNS, addr("10.77.0.1"))
	want.Displays = append(want.Displays, addr("10.77.0.9"))
	if got, err := decode(testMAC, seed(t)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := decode(net.HardwareAddr{2, 0, 0, 0, 0, 1}, seed(t)); err == nil || !reflect.DeepEqual(got, bootstrap.Reply{}) {
		t.Errorf("for another: %+v", got)
	}
}

// TestOverloaded: options in the fields of names (RFC 2132 section 9.3), in the
// order of RFC 3396, good and bad.
func TestOverloaded(t *testing.T) {
	message := func(which []byte, file, name string) []byte {
		b := seed(t)
		b = append(b[:len(b)-1], append([]byte{52, byte(len(which))}, append(which, 255)...)...)
		clear(b[nameAt:cookieAt])
		copy(b[fileAt:cookieAt], file)
		copy(b[nameAt:fileAt], name)
		return b
	}
	// The vendor option of the seed goes on in file, and then in sname.
	const file, name = "\x2b\x06\x16\x04\x0a\x4d", "\x2b\x02\x00\x06\xff"
	for which, want := range map[byte]string{
		1: "\x15\x04\x0a\x4d\x00\x05\x16\x04\x0a\x4d",
		2: "\x15\x04\x0a\x4d\x00\x05\x00\x06",
		3: "\x15\x04\x0a\x4d\x00\x05\x16\x04\x0a\x4d\x00\x06",
	} {
		got, err := decode(testMAC, message([]byte{which}, "\x2b\x04\x16\x04\x0a\x4d\xff\x2b\x01x", name))
		if err != nil || string(got.Vendor) != want || !got.Overloaded {
			t.Errorf("overload %d: %q, %v", which, got.Vendor, err)
		}
	}
	for what, b := range map[string][]byte{
		"4":             message([]byte{4}, file, name),
		"0":             message([]byte{0}, file, name),
		"two bytes":     message([]byte{1, 1}, file, name),
		"an option cut": message([]byte{1}, strings.Repeat("\x00", 126)+"\x2b\x05", ""),
	} {
		if got, err := decode(testMAC, b); err == nil || !reflect.DeepEqual(got, bootstrap.Reply{}) {
			t.Errorf("%s: %+v", what, got)
		}
	}
	// One that says in the overloaded field that there is more is not followed.
	got, err := decode(testMAC, message([]byte{1}, "\x34\x01\x02\xff", name))
	if err != nil || len(got.Vendor) != 6 {
		t.Errorf("nested: %q, %v", got.Vendor, err)
	}
	if got, err := decode(testMAC, seed(t)); err != nil || got.Overloaded {
		t.Errorf("none: %+v, %v", got, err)
	}
}

func TestProbe(t *testing.T) {
	a, other := addr("10.77.0.100"), net.HardwareAddr{2, 0, 0x5e, 0, 0, 0xbb}
	probe := appendProbe(nil, testMAC, a)
	if got, want := hex.EncodeToString(probe), "0001080006040001"+"02005e0000aa"+"00000000"+"000000000000"+"0a4d0064"; got != want {
		t.Errorf("\n%s, want\n%s", got, want)
	}
	theirs := appendProbe(nil, other, a)
	answer := slices.Concat([]byte{0, 1, 8, 0, 6, 4, 0, 2}, other, a.AsSlice(), testMAC, make([]byte, 4), make([]byte, 18)) // padded, as on a cable
	asks := slices.Concat([]byte{0, 1, 8, 0, 6, 4, 0, 1}, other, addr("10.77.0.9").AsSlice(), make([]byte, 6), a.AsSlice())
	for what, c := range map[string]struct {
		packet []byte
		want   bool
	}{
		"an answer": {answer, true}, "another's probe": {theirs, true}, "our own, echoed": {probe, false},
		"about another address":              {appendProbe(nil, other, addr("10.77.0.101")), false},
		"a question by one that has another": {asks, false}, "short": {answer[:arpSize-1], false}, "nothing": {nil, false},
		"of another kind": {slices.Concat(answer[:7], []byte{3}, answer[8:]), false}, "not IPv4": {slices.Concat([]byte{0, 1, 0x86, 0xdd}, answer[4:]), false},
	} {
		if got := claims4(c.packet, testMAC, a); got != c.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}

func TestDomain(t *testing.T) {
	for in, want := range map[string]string{
		"lab.example": "lab.example", "lab.example.\x00": "lab.example", "": "", "a..b": "", "a b": "", "-_1.x": "-_1.x",
		strings.Repeat("a", 64): "", strings.Repeat("a.", 120): "",
	} {
		if got := domain(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// FuzzDecode: nothing from the network panics here or in the client, nor makes
// long lists.
func FuzzDecode(f *testing.F) {
	f.Add(seed(f))
	f.Add(encode(testMAC, bootstrap.Query{Kind: bootstrap.Discover}))
	full := seed(f)
	copy(full[fileAt:], "\x2b\x04\x16\x04\x0a\x4d\xff")
	f.Add(append(full[:len(full)-1], 52, 1, 3, 255))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decode(testMAC, b)
		if err != nil {
			return
		}
		if max(len(r.Routers), len(r.DNS), len(r.Displays)) > bootstrap.MaxServers || len(r.Domain) > 200 || r.Bits < 0 || r.Bits > 32 {
			t.Fatalf("%+v", r)
		}
		now := time.Unix(1e9, 0)
		c := bootstrap.NewClient(true, 1)
		for _, a := range c.Link(now, true, addr("10.77.0.9")) {
			r.ID = a.(bootstrap.Say).Query.ID
		}
		r.Kind = bootstrap.Offer
		c.Answer(now, r)
		now = now.Add(bootstrap.OfferWait)
		c.Tick(now)
		r.Kind = bootstrap.Ack
		c.Answer(now, r)
		l := c.Lease()
		if len(l.Servers()) > bootstrap.MaxServers {
			t.Fatalf("%d servers", len(l.Servers()))
		}
	})
}
