package apdu

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
)

var commands = []struct {
	name string
	hex  string
	c    Command
}{
	{"select", "00a4040009f0484f544445534b0100", Select(SimpleAID)},
	{"get data", "00ca010100", GetData(SimpleID)},
	{"case 1", "00200080", Command{INS: 0x20, P2: 0x80}},
	{"case 2", "00b0000010", Command{INS: 0xb0, Le: 16}},
	{"case 3", "002000800431323334", Command{INS: 0x20, P2: 0x80, Data: []byte("1234")}},
	{"case 4", "0088000002abcd08", Command{INS: 0x88, Data: []byte{0xab, 0xcd}, Le: 8}},
}

func TestCommands(t *testing.T) {
	for _, tc := range commands {
		got := hex.EncodeToString(tc.c.Append([]byte{0xee}))
		if got != "ee"+tc.hex {
			t.Errorf("%s: written %s, want ee%s", tc.name, got, tc.hex)
		}
		b, _ := hex.DecodeString(tc.hex)
		if c, err := ParseCommand(b); err != nil || !reflect.DeepEqual(c, tc.c) {
			t.Errorf("%s: read %+v, %v", tc.name, c, err)
		}
	}
}

func TestBadCommands(t *testing.T) {
	for in, want := range map[string]string{
		"00a404":             "3 bytes",
		"00a4040009f048":     "announced",
		"00b00000000100":     "extended",
		"00a40400020102ffff": "announced",
	} {
		b, _ := hex.DecodeString(in)
		c, err := ParseCommand(b)
		if !errors.Is(err, ErrCommand) || !strings.Contains(err.Error(), want) || !reflect.DeepEqual(c, Command{}) {
			t.Errorf("%s: %+v, %v; want an error with %q", in, c, err, want)
		}
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
