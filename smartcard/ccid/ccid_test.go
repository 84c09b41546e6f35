package ccid

import (
	"bytes"
	"encoding/hex"
	"errors"
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

var commands = []struct {
	name, hex string
	c         Command
}{
	{"SetParameters T=0", "61 05000000 01 02 000000 1800000a00", SetProtocol(1, 2, 0, ParametersT0{0x18, 0, 0, 10, 0}.Append(nil))},
	{"SetParameters T=1", "61 07000000 01 03 010000 181000450 0fe00", SetProtocol(1, 3, 1, ParametersT1{0x18, 0x10, 0, 0x45, 0, 254, 0}.Append(nil))},
	{"IccPowerOn", "62 00000000 00 01 020000", PowerOn(0, 1, Volt3)},
	{"IccPowerOff", "63 00000000 00 ff 000000", Simple(IccPowerOff, 0, 255)},
	{"GetSlotStatus", "65 00000000 03 00 000000", Simple(GetSlotStatus, 3, 0)},
	{"Secure", "69 02000000 00 04 050000 0001", Command{Type: Secure, Seq: 4, Param: [3]byte{5}, Data: []byte{0, 1}}},
	{"T0APDU", "6a 00000000 00 05 03ffff", Command{Type: T0APDU, Seq: 5, Param: [3]byte{3, 0xff, 0xff}}},
	{"Escape", "6b 01000000 00 06 000000 aa", Command{Type: Escape, Seq: 6, Data: []byte{0xaa}}},
	{"GetParameters", "6c 00000000 00 07 000000", Simple(GetParameters, 0, 7)},
	{"ResetParameters", "6d 00000000 00 08 000000", Simple(ResetParameters, 0, 8)},
	{"IccClock", "6e 00000000 00 09 010000", Command{Type: IccClock, Seq: 9, Param: [3]byte{1}}},
	{"XfrBlock", "6f 05000000 00 0a 000000 00ca010100", Transfer(0, 10, 0, Whole, []byte{0, 0xca, 1, 1, 0})},
	{"XfrBlock, time and level", "6f 00000000 00 0b 031000", Transfer(0, 11, 3, Next, nil)},
	{"Mechanical", "71 00000000 00 0c 030000", Command{Type: Mechanical, Seq: 12, Param: [3]byte{3}}},
	{"Abort", "72 00000000 00 0d 000000", Simple(Abort, 0, 13)},
	{"SetDataRateAndClockFrequency", "73 08000000 00 0e 000000 a00f0000 002a0000", SetRate(0, 14, 4000, 10752)},
}

var answers = []struct {
	name, hex string
	a         Answer
}{
	{"DataBlock, an ATR", "80 04000000 00 01 00 00 00 3b020102", Answer{Type: DataBlock, Seq: 1, Data: []byte{0x3b, 2, 1, 2}}},
	{"DataBlock, goes on", "80 02000000 00 01 00 00 01 0102", Answer{Type: DataBlock, Seq: 1, Param: First, Data: []byte{1, 2}}},
	{"DataBlock, wait", "80 00000000 00 01 80 03 00", Answer{Type: DataBlock, Seq: 1, Status: 0x80, Error: 3}},
	{"SlotStatus, absent", "81 00000000 01 02 42 fe 00", Answer{Type: SlotStatus, Slot: 1, Seq: 2, Status: 0x42, Error: IccMute}},
	{"Parameters T=1", "82 07000000 00 03 00 00 01 1810004500fe00", Answer{Type: Parameters, Seq: 3, Param: 1, Data: []byte{0x18, 0x10, 0, 0x45, 0, 254, 0}}},
	{"Escape", "83 01000000 00 04 00 00 00 55", Answer{Type: EscapeAnswer, Seq: 4, Data: []byte{0x55}}},
	{"DataRateAndClockFrequency", "84 08000000 00 05 00 00 00 a00f0000 002a0000", Answer{Type: RateAndFrequency, Seq: 5, Data: []byte{0xa0, 0x0f, 0, 0, 0, 0x2a, 0, 0}}},
}

func TestCommands(t *testing.T) {
	for _, tc := range commands {
		b := unhex(t, tc.hex)
		if got := tc.c.Append([]byte{0xee}); !bytes.Equal(got[1:], b) {
			t.Errorf("%s: written %x, want %x", tc.name, got[1:], b)
		}
		if c, err := ParseCommand(b); err != nil || !reflect.DeepEqual(c, tc.c) {
			t.Errorf("%s: read %+v, %v", tc.name, c, err)
		}
		if _, err := ParseAnswer(b); !errors.Is(err, ErrMessage) {
			t.Errorf("%s: taken for an answer", tc.name)
		}
		if n, err := Announced(b); n != len(b) || err != nil {
			t.Errorf("%s: %d, %v", tc.name, n, err)
		}
	}
}

func TestAnswers(t *testing.T) {
	for _, tc := range answers {
		b := unhex(t, tc.hex)
		if got := tc.a.Append([]byte{0xee}); !bytes.Equal(got[1:], b) {
			t.Errorf("%s: written %x, want %x", tc.name, got[1:], b)
		}
		if a, err := ParseAnswer(b); err != nil || !reflect.DeepEqual(a, tc.a) {
			t.Errorf("%s: read %+v, %v", tc.name, a, err)
		}
		if _, err := ParseCommand(b); !errors.Is(err, ErrMessage) {
			t.Errorf("%s: taken for a command", tc.name)
		}
	}
}

func TestBadMessages(t *testing.T) {
	for in, want := range map[string]string{
		"80 00000000 00 01 00 00":                              "9 bytes",
		"80 01000000 00 01 00 00 00":                           "1 bytes of data announced, 0 there",
		"80 00000000 00 01 00 00 00 aa":                        "0 bytes of data announced, 1 there",
		"80 ffffffff 00 01 00 00 00 aa":                        "4294967295 bytes of data announced",
		"81 01000000 00 01 00 00 00 aa":                        "0 to 0",
		"84 09000000 00 01 00 00 00" + strings.Repeat("00", 9): "0 to 8",
		"85 00000000 00 01 00 00 00":                           "type 85",
		"62 00000000 00 01 00 00 00":                           "type 62",
	} {
		a, err := ParseAnswer(unhex(t, in))
		if !errors.Is(err, ErrMessage) || !strings.Contains(err.Error(), want) || !reflect.DeepEqual(a, Answer{}) {
			t.Errorf("%s: %+v, %v; want %q", in, a, err, want)
		}
	}
	for _, in := range []string{"", "80 00", "80 ffffff7f 0000000000", "80 09000100 0000000000"} {
		if n, err := Announced(unhex(t, in)); !errors.Is(err, ErrMessage) || n != 0 {
			t.Errorf("%s: %d, %v", in, n, err)
		}
	}
	if n, err := Announced(unhex(t, "80 08000100 0000000000")); n != MaxMessage || err != nil {
		t.Errorf("the largest: %d, %v", n, err)
	}
}

func TestSlotErrors(t *testing.T) {
	for _, tc := range []struct {
		status, code byte
		want         string
	}{
		{0x00, 0x00, ""}, {0x80, 0x01, ""},
		{0x40, IccMute, "does not answer"}, {0x41, CmdSlotBusy, "busy"}, {0x42, IccMute, "no card"},
		{0x40, 7, "byte 7"}, {0x40, 0, "does not know"}, {0x40, 0x90, "maker"}, {0x40, 0xd0, "does not define"},
	} {
		err := Answer{Type: SlotStatus, Status: tc.status, Error: tc.code}.Err()
		var slot *SlotError
		if tc.want == "" {
			if err != nil {
				t.Errorf("%02x %02x: %v", tc.status, tc.code, err)
			}
			continue
		}
		if !errors.As(err, &slot) || !strings.Contains(err.Error(), tc.want) || slot.Code != tc.code {
			t.Errorf("%02x %02x: %v, want %q", tc.status, tc.code, err, tc.want)
		}
	}
}

func TestInterrupts(t *testing.T) {
	in := AppendSlotChange(nil, []Change{{true, true}})
	if got := hex.EncodeToString(in); got != "5003" { // as qemu's reader says it
		t.Errorf("insert is %s", got)
	}
	five := []Change{{true, true}, {false, true}, {}, {true, false}, {true, true}}
	b := AppendSlotChange(nil, five)
	if got := hex.EncodeToString(b); got != "504b03" {
		t.Errorf("five slots are %s", got)
	}
	i, err := ParseInterrupt(b)
	if err != nil || len(i.Slots) != 8 || !reflect.DeepEqual(i.Slots[:5], five) || i.Fault != nil {
		t.Errorf("%+v, %v", i, err)
	}
	fault := Fault{1, 2, Overcurrent}
	if i, err = ParseInterrupt(fault.Append(nil)); err != nil || *i.Fault != fault {
		t.Errorf("%+v, %v", i, err)
	}
	for _, bad := range []string{"", "50", "5101", "5201", "50" + strings.Repeat("00", MaxSlots/4+1)} {
		if i, err := ParseInterrupt(unhex(t, bad)); !errors.Is(err, ErrMessage) || i.Slots != nil {
			t.Errorf("%s: %+v, %v", bad, i, err)
		}
	}
}

// descriptor is one TPDU reader's, field by field as in table 5.1-1.
const descriptor = "36 21 1001 00 07 03000000 a00f0000 a00f0000 00 002a0000 002a0000 00 fe000000 00000000 00000000 fe040100 0a000100 ff ff 0000 00 01"

func TestDescriptor(t *testing.T) {
	b := unhex(t, descriptor)
	d, err := ParseDescriptor(b)
	if err != nil {
		t.Fatal(err)
	}
	if d.Version != 0x110 || d.Voltages != 7 || d.Protocols != 3 || d.DefaultClock != 4000 || d.DataRate != 10752 || d.MaxIFSD != 254 ||
		d.Features != 0x104fe || d.Level() != TPDU || d.MaxMessage != 65546 || d.MaxBusyAtATime != 1 || d.Features&AutoIFSD == 0 {
		t.Errorf("%+v", d)
	}
	if got := d.Append(nil); !bytes.Equal(got, b) {
		t.Errorf("written %x", got)
	}
	for features, want := range map[uint32]Level{0: Character, 0x10000: TPDU, 0x20000: ShortAPDU, 0x40000: ExtendedAPDU} {
		if got := (Descriptor{Features: features}).Level(); got != want || got.String() == "" {
			t.Errorf("%x: %v", features, got)
		}
	}
	// as it stands in a configuration: after the interface, before an endpoint
	config := append(unhex(t, "09 04 00 00 03 0b 00 00 00"), b...)
	config = append(config, unhex(t, "07 05 82 02 4000 00")...)
	if got, err := FindDescriptor(config); err != nil || got != d {
		t.Errorf("%+v, %v", got, err)
	}
	two, small := d, d
	two.Features |= levelShortAPDU
	small.MaxMessage = HeaderSize
	for _, bad := range [][]byte{nil, {1, 2}, {9, 4}, {2, 4}, b[:53], two.Append(nil), small.Append(nil)} {
		if d, err := FindDescriptor(bad); !errors.Is(err, ErrMessage) || d != (Descriptor{}) {
			t.Errorf("%x: %+v, %v", bad, d, err)
		}
	}
}

func FuzzMessages(f *testing.F) {
	for _, tc := range commands {
		f.Add(unhex(f, tc.hex))
	}
	for _, tc := range answers {
		f.Add(unhex(f, tc.hex))
	}
	f.Add(AppendSlotChange(nil, make([]Change, 5)))
	f.Add(unhex(f, descriptor))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseCommand(b); err == nil && !bytes.Equal(c.Append(nil), b) {
			t.Fatalf("%x became %x", b, c.Append(nil))
		}
		if a, err := ParseAnswer(b); err == nil {
			if !bytes.Equal(a.Append(nil), b) {
				t.Fatalf("%x became %x", b, a.Append(nil))
			}
			if err := a.Err(); err != nil && err.Error() == "ccid: " {
				t.Fatal("an error without a text")
			}
		}
		if i, err := ParseInterrupt(b); err == nil {
			got := AppendSlotChange(nil, append(i.Slots, Change{})[:max(1, len(i.Slots))])
			if i.Fault != nil {
				got = i.Fault.Append(nil)
			}
			if !bytes.Equal(got, b) {
				t.Fatalf("%x became %x", b, got)
			}
		}
		if d, err := ParseDescriptor(b); err == nil && !bytes.Equal(d.Append(nil), b) {
			t.Fatalf("%x became %x", b, d.Append(nil))
		}
		FindDescriptor(b)
	})
}
