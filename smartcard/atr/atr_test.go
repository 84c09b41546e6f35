package atr

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// lines are the fields of a file of testdata/atr.
func lines(t testing.TB, name string) [][]string {
	t.Helper()
	text, err := os.ReadFile("../../testdata/atr/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var list [][]string
	for line := range strings.Lines(string(text)) {
		if line[0] != '#' {
			list = append(list, strings.Split(strings.TrimSpace(line), " | "))
		}
	}
	return list
}

// TestKnownCards: cards that exist are read and written back (invariant 1).
func TestKnownCards(t *testing.T) {
	known := lines(t, "known.txt")
	if len(known) < 30 {
		t.Fatalf("%d cards", len(known))
	}
	for _, f := range known {
		b := unhex(t, f[0])
		a, err := Parse(b)
		if err != nil {
			t.Errorf("%s: %v", f[1], err)
			continue
		}
		if got := a.Append([]byte{0xee}); !bytes.Equal(got[1:], b) || got[0] != 0xee {
			t.Errorf("%s: written %x", f[1], got)
		}
		if !reflect.DeepEqual(a.Seal(), a) {
			t.Errorf("%s: sealed %x", f[1], a.Seal().Append(nil))
		}
		if _, err := a.T1(); a.Offers(1) && err != nil {
			t.Errorf("%s: %v", f[1], err)
		}
	}
	for _, f := range lines(t, "broken.txt") {
		if a, err := Parse(unhex(t, f[0])); !errors.Is(err, ErrATR) || !strings.Contains(err.Error(), f[2]) || a.Levels != nil {
			t.Errorf("%s: %v", f[1], err)
		}
	}
}

func TestErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "TS and T0",
		"3b":                     "TS and T0",
		strings.Repeat("3b", 34): "at most 33",
		"0300":                   "inverse convention",
		"3c00":                   "3B or 3F",
		"3b10":                   "before TA1",
		"3bf0110203":             "before TD1",
		"3b8081":                 "before TD2",
		"3b02aa":                 "2 historical bytes announced, 1 there",
		"3b0000":                 "1 bytes too many",
		"3b8001":                 "0 bytes after the historical bytes; exactly TCK",
		"3b80010000":             "2 bytes after",
		"3b800100":               "TCK is 00, must be 81",
		"3b808f0f00":             "TD1 names T=15",
		"3b80818000":             "TD2 names T=0 after T=1",
	} {
		a, err := Parse(unhex(t, in))
		if !errors.Is(err, ErrATR) || !strings.Contains(err.Error(), want) || !reflect.DeepEqual(a, ATR{}) {
			t.Errorf("%s: %+v, %v; want %q", in, a, err, want)
		}
	}
}

// TestFields: each interface byte is read where it stands.
func TestFields(t *testing.T) {
	// TA1 TC1 TD1(T=0, TC2 TD2) TC2 TD2(T=1, TA3 TB3 TC3 TD3) ... TD3(T=15, TA4 TB4)
	a := ATR{TS: Direct, Levels: []Level{
		{Has: HasTA | HasTC | HasTD, TA: 0x96, TC: 7, Protocol: 0},
		{Has: HasTA | HasTC | HasTD, TA: 0x91, TC: 20, Protocol: 1},
		{Has: HasTA | HasTB | HasTC | HasTD, TA: 0xfe, TB: 0x45, TC: 1, Protocol: 15},
		{Has: HasTA | HasTB, TA: 0xc3, TB: 0x81},
	}, Historical: []byte{0x80, 0x73, 0, 0, 0xc0}}.Seal()
	b := a.Append(nil)
	if got := hex.EncodeToString(b); got != "3bd59607d091"+"14f1fe45013fc381807300"+"00c0"+hex.EncodeToString([]byte{a.TCK}) {
		t.Fatalf("written %s", got)
	}
	got, err := Parse(b)
	if err != nil || !reflect.DeepEqual(got, a) {
		t.Fatalf("%+v, %v", got, err)
	}
	if s := a.Speed(); s != (Speed{512, 32, 5000}) {
		t.Errorf("%+v", s)
	}
	if a.ExtraGuard() != 7 || a.WI() != 20 || !slices.Equal(a.Protocols(), []int{0, 1}) || !a.Offers(1) || a.Offers(2) {
		t.Error("TC1, TC2 or the protocols")
	}
	if p, implicit, ok := a.Specific(); p != 1 || !implicit || !ok {
		t.Error("TA2")
	}
	p, err := a.T1()
	if p != (BlockParams{254, 4, 5, true}) || err != nil {
		t.Errorf("%+v, %v", p, err)
	}
	if g := a.Global(); g != (Global{3, 3, 0x81, true}) {
		t.Errorf("%+v", g)
	}
	id, ok, err := a.Identify()
	if !ok || err != nil || !id.Extended() || !id.Chaining() {
		t.Errorf("%+v, %v", id, err)
	}
}

func TestDefaults(t *testing.T) {
	a, err := Parse(unhex(t, "3b00"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.T1()
	if a.Speed() != (Speed{372, 1, 5000}) || a.WI() != 10 || a.ExtraGuard() != 0 || p != (BlockParams{32, 4, 13, false}) || err != nil || a.Global().Classes != 1 {
		t.Errorf("%+v %+v %v", a.Speed(), p, err)
	}
	if _, _, ok := a.Specific(); ok {
		t.Error("TA2 out of nothing")
	}
	if _, ok, err := a.Identify(); ok || err != nil {
		t.Error("historical bytes out of nothing")
	}
	// ISO 7816-3 section 11.4.3: BWI 4 at 3.5712 MHz is 1.6 s and 11 etu.
	if got := p.BlockWait(a.Speed(), 3571200); got.Round(time.Millisecond) != 1601*time.Millisecond {
		t.Errorf("BWT %v", got)
	}
	if got := a.Speed().Etu(3571200).Round(time.Microsecond); got != 104*time.Microsecond {
		t.Errorf("etu %v", got)
	}
}

func TestT1Refuses(t *testing.T) {
	for _, l := range []Level{{Has: HasTA, TA: 0}, {Has: HasTA, TA: 0xff}, {Has: HasTB, TB: 0xa0}} {
		a := ATR{TS: Direct, Levels: []Level{{Has: HasTD, Protocol: 1}, {Has: HasTD, Protocol: 1}, l}}
		if p, err := a.T1(); !errors.Is(err, ErrATR) || p != (BlockParams{}) {
			t.Errorf("%+v: %+v, %v", l, p, err)
		}
	}
}

func TestHistorical(t *testing.T) {
	for _, tc := range []struct {
		bytes string
		want  Identification
		err   string
	}{
		{"0031c1739600 9000", Identification{}, "7 announces"},
		{"0031c1079000", Identification{Category: 0, Objects: []Object{{3, []byte{0xc1}}}, Status: []byte{7, 0x90, 0}}, ""},
		{"80 31c1 82 9000", Identification{Category: 0x80, Objects: []Object{{3, []byte{0xc1}}, {8, []byte{0x90, 0}}}}, ""},
		{"10 05", Identification{Category: 0x10, Proprietary: []byte{5}}, ""},
		{"4a434f50", Identification{Category: 0x4a, Proprietary: []byte("COP")}, ""},
		{"00 9000", Identification{}, "status"},
		{"80 71", Identification{}, "announces 1"},
	} {
		h := unhex(t, strings.ReplaceAll(tc.bytes, " ", ""))
		id, ok, err := ATR{Historical: h}.Identify()
		if tc.err != "" {
			if !errors.Is(err, ErrATR) || !strings.Contains(err.Error(), tc.err) || ok {
				t.Errorf("%s: %+v, %v", tc.bytes, id, err)
			}
			continue
		}
		if err != nil || !ok || !reflect.DeepEqual(id, tc.want) {
			t.Errorf("%s: %+v, %v", tc.bytes, id, err)
		}
	}
}

// TestStorage: MIFARE Classic 1K as a PC/SC reader shows it, and a card that
// is none.
func TestStorage(t *testing.T) {
	a, err := Parse(unhex(t, "3b8f8001804f0ca000000306030001000000006a"))
	if err != nil {
		t.Fatal(err)
	}
	if name, ok := a.Storage(); name != 1 || !ok {
		t.Errorf("%04x, %v", name, ok)
	}
	a, _ = Parse(unhex(t, "3b00"))
	if _, ok := a.Storage(); ok {
		t.Error("storage")
	}
}

func FuzzATR(f *testing.F) {
	known := lines(f, "known.txt")
	if len(known) == 0 {
		f.Fatal("no seeds")
	}
	for _, l := range slices.Concat(known, lines(f, "broken.txt")) {
		f.Add(unhex(f, l[0]))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := Parse(b)
		if err != nil {
			if !reflect.DeepEqual(a, ATR{}) {
				t.Fatalf("%+v beside %v", a, err)
			}
			return
		}
		if !bytes.Equal(a.Append(nil), b) {
			t.Fatalf("%x became %x", b, a.Append(nil))
		}
		a.Protocols()
		a.Speed().Etu(4e6)
		a.Global()
		a.Specific()
		a.Storage()
		if p, err := a.T1(); err == nil && p.BlockWait(a.Speed(), 1e6) <= 0 {
			t.Fatal("no time to wait")
		}
		if id, ok, _ := a.Identify(); ok {
			id.Extended()
		}
	})
}
