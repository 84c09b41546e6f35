package apdu

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// long is n bytes that differ from their neighbours.
func long(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

var commands = []struct {
	name string
	hex  string
	c    Command
}{
	{"select", "00a4040009f0484f544445534b0100", Select(SimpleAID)},
	{"get data", "00ca010100", GetData(SimpleID)},
	{"get response", "00c0000010", GetResponse(0x10, 16)},
	{"case 1", "00200080", Command{INS: 0x20, P2: 0x80}},
	{"case 2S", "00b0000010", Command{INS: 0xb0, Le: 16}},
	{"case 2S, 256", "00b0000000", Command{INS: 0xb0, Le: 256}},
	{"case 3S", "002000800431323334", Command{INS: 0x20, P2: 0x80, Data: []byte("1234")}},
	{"case 3S, 255", "00d60000ff" + hex.EncodeToString(long(255)), Command{INS: 0xd6, Data: long(255)}},
	{"case 4S", "0088000002abcd08", Command{INS: 0x88, Data: []byte{0xab, 0xcd}, Le: 8}},
	{"case 2E", "00b00000000101", Command{INS: 0xb0, Le: 257, Extended: true}},
	{"case 2E, small", "00b00000000001", Command{INS: 0xb0, Le: 1, Extended: true}},
	{"case 2E, 65536", "00b00000000000", Command{INS: 0xb0, Le: 65536, Extended: true}},
	{"case 3E", "00d60000000100" + hex.EncodeToString(long(256)), Command{INS: 0xd6, Data: long(256), Extended: true}},
	{"case 3E, small", "00d60000000002abcd", Command{INS: 0xd6, Data: []byte{0xab, 0xcd}, Extended: true}},
	{"case 3E, 65535", "00d6000000ffff" + hex.EncodeToString(long(65535)), Command{INS: 0xd6, Data: long(65535), Extended: true}},
	{"case 4E", "0087119a000002abcd0000", Command{INS: 0x87, P1: 0x11, P2: 0x9a, Data: []byte{0xab, 0xcd}, Le: 65536, Extended: true}},
	{"case 4E, long", "0087119a000101" + hex.EncodeToString(long(257)) + "0100", Command{INS: 0x87, P1: 0x11, P2: 0x9a, Data: long(257), Le: 256, Extended: true}},
}

func TestCommands(t *testing.T) {
	for _, tc := range commands {
		got := hex.EncodeToString(tc.c.Append([]byte{0xee}))
		if got != "ee"+tc.hex {
			t.Errorf("%s: written %.60s, want ee%.60s", tc.name, got, tc.hex)
		}
		b, _ := hex.DecodeString(tc.hex)
		if c, err := ParseCommand(b); err != nil || !reflect.DeepEqual(c, tc.c) {
			t.Errorf("%s: read %+v, %v", tc.name, c, err)
		}
		if tc.c.Extended && !tc.c.Short() {
			c := tc.c
			c.Extended = false
			if got := hex.EncodeToString(c.Append(nil)); got != tc.hex {
				t.Errorf("%s: the form is not chosen by length: %.60s", tc.name, got)
			}
		}
	}
}

func TestBadCommands(t *testing.T) {
	for in, want := range map[string]string{
		"00a404":             "3 bytes",
		"00a4040009f048":     "announces 9",
		"00b000000001":       "cut short",
		"00d6000000000001":   "Lc of 0",
		"00d60000000002ab":   "announces 2",
		"00d600000001ab01":   "announces 427",
		"00a40400020102ffff": "announces 2",
	} {
		b, _ := hex.DecodeString(in)
		c, err := ParseCommand(b)
		if !errors.Is(err, ErrCommand) || !strings.Contains(err.Error(), want) || !reflect.DeepEqual(c, Command{}) {
			t.Errorf("%s: %+v, %v; want an error with %q", in, c, err, want)
		}
	}
}

func TestAppendPanicsOnBugs(t *testing.T) {
	for _, c := range []Command{{Data: make([]byte, MaxData+1)}, {Le: MaxLe + 1}, {Le: -1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%d bytes, Le %d: written", len(c.Data), c.Le)
				}
			}()
			c.Append(nil)
		}()
	}
}

func TestResponses(t *testing.T) {
	for in, want := range map[string]Response{
		"9000":                 {Status: OK},
		"00112233445566779000": {Data: []byte{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77}, Status: OK},
		"6a82":                 {Status: FileNotFound},
	} {
		b, _ := hex.DecodeString(in)
		if r, err := ParseResponse(b); err != nil || !reflect.DeepEqual(r, want) {
			t.Errorf("%s: %+v, %v", in, r, err)
		}
		if got := want.Append(nil); !bytes.Equal(got, b) {
			t.Errorf("%s: written %x", in, got)
		}
	}
	for _, n := range []int{0, 1, MaxLe + 3} {
		if _, err := ParseResponse(make([]byte, n)); !errors.Is(err, ErrResponse) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestStatusText(t *testing.T) {
	for status, want := range map[uint16]string{
		OK: "done", Blocked: "no tries left", 0x63c2: "2 tries left", 0x6110: "16 more", 0x6100: "256 more",
		0x6c08: "8 bytes", 0x6a99: "wrong parameters (6a99)", 0x9100: "not a status", 0x6283: "deactivated",
	} {
		if got := StatusText(status); !strings.Contains(got, want) {
			t.Errorf("%04x: %q, want %q", status, got, want)
		}
	}
	if n, ok := Tries(0x63c3); n != 3 || !ok {
		t.Error("63c3")
	}
	if n, ok := Tries(Blocked); n != 0 || !ok {
		t.Error("6983")
	}
	if _, ok := Tries(OK); ok {
		t.Error("9000")
	}
}

func TestChain(t *testing.T) {
	c := Command{CLA: 0x01, INS: 0x87, P1: 2, P2: 3, Data: long(7), Le: MaxLe, Extended: true}
	var got []string
	for _, p := range Chain(c, 3) {
		got = append(got, hex.EncodeToString(p.Append(nil)))
	}
	want := []string{"1187020303" + hex.EncodeToString(long(7)[:3]), "1187020303" + hex.EncodeToString(long(7)[3:6]), "0187020301" + hex.EncodeToString(long(7)[6:]) + "00"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if one := Chain(Command{INS: 1}, 255); len(one) != 1 {
		t.Errorf("%+v", one)
	}
}

// talk has a dialog with a script of "command answer" lines in hex.
func talk(t *testing.T, c Command, extended bool, script ...string) (Response, error) {
	t.Helper()
	d := NewDialog(c, extended)
	for i, line := range script {
		out, in, _ := strings.Cut(line, " ")
		if got := hex.EncodeToString(d.Command().Append(nil)); got != out {
			t.Fatalf("step %d: sends %.80s, want %.80s", i, got, out)
		}
		b, _ := hex.DecodeString(in)
		r, err := ParseResponse(b)
		if err != nil {
			t.Fatal(err)
		}
		whole, done, err := d.Take(r)
		if done != (i == len(script)-1) {
			t.Fatalf("step %d: done %v, %v", i, done, err)
		}
		if done {
			return whole, err
		}
	}
	return Response{}, nil
}

func TestDialog(t *testing.T) {
	data := hex.EncodeToString(long(300))
	for _, tc := range []struct {
		name     string
		c        Command
		extended bool
		script   []string
		want     string
		err      bool
	}{
		{"plain", Command{INS: 0xb0, Le: 4}, false, []string{"00b0000004 010203049000"}, "010203049000", false},
		{"get response", Command{CLA: 1, INS: 0xb0, Le: 256}, false, []string{"01b0000000 01026103", "01c0000003 0304056101", "01c0000001 069000"}, "0102030405069000", false},
		{"right Le", Command{INS: 0xb0, Le: 256}, false, []string{"00b0000000 6c02", "00b0000002 01029000"}, "01029000", false},
		{"right Le of get response", Command{INS: 0xb0, Le: 256}, false, []string{"00b0000000 6105", "00c0000005 6c02", "00c0000002 01029000"}, "01029000", false},
		{"wrong Le twice", Command{INS: 0xb0, Le: 256}, false, []string{"00b0000000 6c02", "00b0000002 6c03"}, "6c03", false},
		{"chain", Command{INS: 0x87, Data: long(300), Le: 256}, false, []string{"10870000ff" + data[:510] + " 9000", "008700002d" + data[510:] + "00 019000"}, "019000", false},
		{"chain refused", Command{INS: 0x87, Data: long(300)}, false, []string{"10870000ff" + data[:510] + " 6884"}, "6884", false},
		{"extended", Command{INS: 0x87, Data: long(300), Le: 256}, true, []string{"0087000000012c" + data + "0100 019000"}, "019000", false},
		{"data in a chain", Command{INS: 0x87, Data: long(300)}, false, []string{"10870000ff" + data[:510] + " 019000"}, "", true},
		{"nothing more", Command{INS: 0xb0, Le: 256}, false, []string{"00b0000000 6105", "00c0000005 6105"}, "", true},
	} {
		r, err := talk(t, tc.c, tc.extended, tc.script...)
		if tc.err {
			if !errors.Is(err, ErrDialog) || r.Status != 0 {
				t.Errorf("%s: %+v, %v", tc.name, r, err)
			}
			continue
		}
		if got := hex.EncodeToString(r.Append(nil)); err != nil || got != tc.want {
			t.Errorf("%s: %s, %v; want %s", tc.name, got, err, tc.want)
		}
	}
}

// TestDialogEnds: a card that says 61xx for ever loses (invariant 3).
func TestDialogEnds(t *testing.T) {
	for _, r := range []Response{{Data: []byte{1}, Status: 0x6101}, {Data: make([]byte, 256), Status: 0x6100}} {
		d := NewDialog(Command{INS: 0xb0, Le: 256}, false)
		for i := 0; ; i++ {
			_, done, err := d.Take(r)
			if done && errors.Is(err, ErrDialog) {
				break
			}
			if i > MaxSteps {
				t.Fatal("no end")
			}
		}
	}
}

// TestBothEnds: what a Dialog cuts an Assembler joins, and back.
func TestBothEnds(t *testing.T) {
	for _, n := range []int{0, 1, 255, 256, 511, 3000} {
		for _, extended := range []bool{false, true} {
			c := Command{INS: 0x87, P1: 1, P2: 2, Data: long(n), Le: 256}
			want := long(n + 5)
			var a Assembler
			d := NewDialog(c, extended)
			for {
				cmd, r, whole := a.Command(d.Command())
				if whole {
					if !bytes.Equal(cmd.Data, c.Data) || cmd.CLA != 0 {
						t.Fatalf("%d: came as %d bytes", n, len(cmd.Data))
					}
					r = a.Answer(cmd, Response{want, OK})
				}
				got, done, err := d.Take(r)
				if err != nil {
					t.Fatal(err)
				}
				if done {
					if !bytes.Equal(got.Data, want) || got.Status != OK {
						t.Fatalf("%d: %d bytes, %04x", n, len(got.Data), got.Status)
					}
					break
				}
			}
		}
	}
}

func TestAssemblerRefuses(t *testing.T) {
	var a Assembler
	if _, r, ok := a.Command(GetResponse(0, 1)); ok || r.Status != ConditionsNotMet {
		t.Errorf("%+v", r)
	}
	a.Command(Command{CLA: ChainBit, INS: 0x87, Data: []byte{1}})
	if _, r, ok := a.Command(Command{INS: 0x88}); ok || r.Status != LastExpected {
		t.Errorf("%+v", r)
	}
	for i := 0; ; i++ {
		_, r, _ := a.Command(Command{CLA: ChainBit, INS: 0x87, Data: make([]byte, 255)})
		if r.Status == WrongLength {
			break
		}
		if i > MaxData/255 {
			t.Fatal("a chain without end")
		}
	}
	if c, _, ok := a.Command(Command{INS: 0x87, Data: []byte{7}}); !ok || len(c.Data) != 1 {
		t.Error("a refused chain left something behind")
	}
}

func FuzzCommand(f *testing.F) {
	for _, tc := range commands {
		b, err := hex.DecodeString(tc.hex)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCommand(b)
		if err == nil && !bytes.Equal(c.Append(nil), b) {
			t.Fatalf("%x became %x", b, c.Append(nil))
		}
	})
}

func FuzzResponse(f *testing.F) {
	f.Add([]byte{0x90, 0x00})
	f.Add([]byte{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x90, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseResponse(b)
		if err == nil && !bytes.Equal(r.Append(nil), b) {
			t.Fatalf("%x became %x", b, r.Append(nil))
		}
	})
}
