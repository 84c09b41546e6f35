package pcsclite

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
)

func reader(name string) (b [MaxName]byte) {
	copy(b[:], name)
	return b
}

// bodies are the messages one by one, little-endian; the numbers are chosen so
// that none can stand at another's place.
var bodies = []struct {
	name string
	m    Body
	hex  string // of the request; "|" before the data
}{
	{"version", &Version{Major: 4, Minor: 4}, "0c000000 11000000 04000000 04000000 00000000"},
	{"establish", &Establish{Scope: 2, Context: 0x01020304}, "0c000000 01000000 02000000 04030201 00000000"},
	{"release", &Release{Context: 0x01020304}, "08000000 02000000 04030201 00000000"},
	{"connect", &Connect{Context: 1, Reader: reader("R 00 00"), Share: Shared, Protocols: T0 | T1, Card: 5, Active: T1, RV: RemovedCard},
		"98000000 04000000 01000000 522030302030 30" + strings.Repeat("00", MaxName-7) + "02000000 03000000 05000000 02000000 69001080"},
	{"reconnect", &Reconnect{Card: 9, Share: Exclusive, Protocols: T1, Init: Unpower, Active: T0, RV: ResetCard},
		"18000000 05000000 09000000 01000000 02000000 02000000 01000000 68001080"},
	{"disconnect", &Disconnect{Card: 9, Disposition: Reset}, "0c000000 06000000 09000000 01000000 00000000"},
	{"begin", &Begin{Card: 9, RV: SharingViolation}, "08000000 07000000 09000000 0b001080"},
	{"end", &End{Card: 9, Disposition: Leave, RV: NotTransacted}, "0c000000 08000000 09000000 00000000 16001080"},
	{"transmit", &Transmit{Card: 9, SendProtocol: T1, SendPCI: 16, SendLength: 5, ReceiveProtocol: T0, RecvPCI: 17, ReceiveLength: 258, Data: []byte{0, 0xb0, 0, 0, 0}},
		"20000000 09000000 09000000 02000000 10000000 05000000 01000000 11000000 02010000 00000000|00b0000000"},
	{"control", &Control{Card: 9, Code: ControlFeatures, SendLength: 1, ReceiveLength: 258, Data: []byte{7}},
		"18000000 0a000000 09000000 480d0042 01000000 02010000 00000000 00000000|07"},
	{"status", &Status{Card: 9}, "08000000 0b000000 09000000 00000000"},
	{"cancel", &Cancel{Context: 7}, "08000000 0d000000 07000000 00000000"},
	{"attribute", &Attrib{Card: 9, ID: AttribATR, Value: [MaxAttrib]byte{1, 2}, Length: 33},
		"18010000 0f000000 09000000 03030900 0102" + strings.Repeat("00", MaxAttrib-2) + "21000000 00000000"},
	{"set attribute", &Attrib{Set: true, Card: 9, ID: AttribATR, Length: 1},
		"18010000 10000000 09000000 03030900" + strings.Repeat("00", MaxAttrib) + "01000000 00000000"},
	{"states", &ReaderStates{}, "00000000 12000000"},
	{"wait", &Wait{}, "00000000 13000000"},
	{"stop", &StopWaiting{}, "00000000 14000000"},
}

func TestBodies(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Log("this machine is big-endian, the table is not")
		return
	}
	for _, x := range bodies {
		t.Run(x.name, func(t *testing.T) {
			body, data, _ := strings.Cut(strings.ReplaceAll(x.hex, " ", ""), "|")
			b := AppendRequest([]byte("before"), x.m)[len("before"):]
			if got := hex.EncodeToString(b); got != body+data {
				t.Errorf("AppendRequest is\n%s, want\n%s", got, body+data)
			}
			m, rest, err := ParseRequest(append(b[:len(b):len(b)], 1, 2))
			if err != nil || !reflect.DeepEqual(m, x.m) || !bytes.Equal(rest, []byte{1, 2}) {
				t.Errorf("ParseRequest is %+v, % x, %v", m, rest, err)
			}
			if got := hex.EncodeToString(AppendBody(nil, x.m)); got != body[2*HeaderSize:] {
				t.Errorf("AppendBody is\n%s, want\n%s", got, body[2*HeaderSize:])
			}
		})
	}
}

func TestState(t *testing.T) {
	s := ReaderState{Name: "R 00 00", Events: 0x0102, State: StatePresent | StatePowered, Sharing: -1, ATR: []byte{0x3b, 0}, Protocol: T1}
	want := hex.EncodeToString([]byte("R 00 00")) + strings.Repeat("00", MaxName-7) +
		"02010000" + "14000000" + "ffffffff" + "3b" + strings.Repeat("00", MaxATR-1) + "000000" + "02000000" + "02000000"
	b := AppendStates(nil, s)
	if len(b) != 2944 || hex.EncodeToString(b[:StateSize]) != want || len(bytes.Trim(b[StateSize:], "\x00")) != 0 {
		t.Errorf("AppendStates is %d bytes, % x", len(b), b[:StateSize])
	}
	got, rest, err := ParseState(b)
	if err != nil || !reflect.DeepEqual(got, s) || len(rest) != len(b)-StateSize {
		t.Errorf("ParseState is %+v, %v", got, err)
	}
	if got := hex.EncodeToString(AppendSignal(nil, Cancelled)); got != "0000000002001080" {
		t.Errorf("AppendSignal is %s", got)
	}
}
