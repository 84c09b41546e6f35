package ccid

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"hotdesk/smartcard/atr"
)

// qemuReader is the file "descriptors" of qemu's usb-ccid, as Linux shows it:
// the device, its configuration, the interface, the class descriptor and three
// endpoints.
const qemuReader = "12010002000000 40e6083344000001020301" +
	"09025d000101 04 e032" + "0904000003 0b000005" +
	"3621 1001 00 07 03000000 a00f0000 a00f0000 00 80250000 00c20100 00 fe000000 00000000 00000000 fe040100 12000100 ff ff 0000 00 01" +
	"07058103400 0ff" + "0705820240 0000" + "0705030240 0000"

func TestInterfaces(t *testing.T) {
	raw := unhex(t, qemuReader)
	list, err := Interfaces(raw)
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	i := list[0]
	if i.Configuration != 1 || i.Number != 0 || i.In != (Endpoint{0x82, 64}) || i.Out != (Endpoint{0x03, 64}) || i.Notify != (Endpoint{0x81, 64}) || i.Class.Level() != TPDU {
		t.Errorf("%+v", i)
	}
	for name, change := range map[string]func([]byte) []byte{
		"cut short":      func(b []byte) []byte { return b[:len(b)-1] },
		"length 0":       func(b []byte) []byte { b[18+9] = 0; return b },
		"no bulk in":     func(b []byte) []byte { return b[:18+9+9+54+7] },
		"two levels":     func(b []byte) []byte { b[18+9+9+42] |= 6; return b },
		"no class":       func(b []byte) []byte { return append(b[:18+18:18+18], b[18+18+54:]...) },
		"no packet size": func(b []byte) []byte { b[18+18+54+7+4] = 0; return b },
	} {
		if list, err := Interfaces(change(bytes.Clone(raw))); !errors.Is(err, ErrMessage) || len(list) != 0 {
			t.Errorf("%s: %+v, %v", name, list, err)
		}
	}
	if list, err := Interfaces(append(bytes.Clone(raw[:18+9]), unhex(t, "0904000001 03010100 07058103080 0ff")...)); err != nil || list != nil {
		t.Errorf("a keyboard: %+v, %v", list, err)
	}
	if _, err := Interfaces(make([]byte, MaxDescriptors+1)); !errors.Is(err, ErrMessage) {
		t.Errorf("%v", err)
	}
}

// TestChoose: what is sent, byte for byte, for cards and readers of all kinds.
func TestChoose(t *testing.T) {
	plain := Descriptor{Protocols: 3, DefaultClock: 4000, MaxDataRate: 344086, Features: levelTPDU}
	auto, own, fixed := plain, plain, plain
	auto.Features |= AutoNegotiate
	own.Features |= AutoPPS
	fixed.MaxDataRate = 10752
	t0only := plain
	t0only.Protocols = 1
	for _, tc := range []struct {
		name            string
		d               Descriptor
		atr             string
		slow            bool
		protocol        byte
		pps, parameters string
		err             string
	}{
		{"T=0 of nothing said", plain, "3b020102", false, 0, "", "1100000a00", ""},
		{"T=0, TA1", plain, "3b12950102", false, 0, "ff10957a", "9500000a00", ""},
		{"T=0, TA1, slow", plain, "3b12950102", true, 0, "", "1100000a00", ""},
		{"T=0, TA1 too fast for the reader", fixed, "3b12950102", false, 0, "", "1100000a00", ""},
		{"T=1", plain, "3b800181", false, 1, "", "1110004d002000", ""},
		{"T=0 first, T=1 as well", plain, "3b80800101", false, 1, "ff1111ff", "1110004d002000", ""},
		{"T=0 first, T=1 as well, a reader of T=0", t0only, "3b80800101", false, 0, "", "1100000a00", ""},
		{"the reader negotiates", auto, "3b80800101", false, 1, "", "", ""},
		{"inverse convention", plain, "3f020102", false, 0, "", "1102000a00", ""},
		{"extra guard time", plain, "3b42ff0102", false, 0, "", "1100ff0a00", ""},
		{"T=1 with CRC", plain, "3b8081410141", false, 1, "", "1111004d002000", ""},
		{"specific mode", plain, "3b9095110115", false, 1, "", "9510004d002000", ""},
		{"specific mode, the speed agreed beforehand", plain, "3b9095111105", false, 1, "", "1110004d002000", ""},
		{"specific mode, a reader of T=0", t0only, "3b80110190", false, 0, "", "", "offers"},
		{"a speed without meaning", plain, "3b12750102", false, 0, "", "1100000a00", ""},
		{"a block size without meaning", plain, "3b8081110010", false, 0, "", "", "IFSC 00"},
		{"T=14", plain, "3b800e8e", false, 0, "", "", "offers"},
	} {
		a, err := atr.Parse(unhex(t, tc.atr))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		c, err := Choose(tc.d, a, tc.slow)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		pps, parameters := strings.ReplaceAll(tc.pps, " ", ""), strings.ReplaceAll(tc.parameters, " ", "")
		if err != nil || c.Protocol != tc.protocol || hex.EncodeToString(c.PPS) != pps || hex.EncodeToString(c.Parameters) != parameters {
			t.Errorf("%s: T=%d, PPS %x, parameters %x, %v", tc.name, c.Protocol, c.PPS, c.Parameters, err)
		}
		if c.PPS != nil && (!c.Agreed(c.PPS) || c.Agreed(c.PPS[:3])) {
			t.Errorf("%s: agreement", tc.name)
		}
	}
}

func FuzzInterfaces(f *testing.F) {
	f.Add(unhex(f, qemuReader))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, _ := Interfaces(b)
		for _, i := range list {
			if i.In.Packet == 0 || i.Out.Packet == 0 || i.Class.MaxMessage <= HeaderSize {
				t.Fatalf("%+v", i)
			}
		}
	})
}
