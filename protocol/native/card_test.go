package native

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
)

var cardMessages = []struct {
	name string
	m    CardMessage
	hex  string
}{
	{"inserted", CardMessage{Type: CardInserted, Card: 7, Data: []byte{0x3b, 0x80, 0x01, 0x81}}, "01" + "00000007" + "00000000" + "00000004" + "3b800181"},
	{"inserted mute", CardMessage{Type: CardInserted, Card: 1 << 31}, "01" + "80000000" + "00000000" + "00000000"},
	{"removed", CardMessage{Type: CardRemoved, Card: 7}, "02" + "00000007" + "00000000" + "00000000"},
	{"answer", CardMessage{Type: CardAnswer, Card: 7, Seq: 258, Data: []byte{0x90, 0}}, "03" + "00000007" + "00000102" + "00000002" + "9000"},
	{"failed", CardMessage{Type: CardFailed, Card: 7, Seq: 1, Data: []byte{byte(CardMute)}}, "04" + "00000007" + "00000001" + "00000001" + "02"},
	{"transmit", CardMessage{Type: CardTransmit, Card: 7, Seq: 1, Data: []byte{0, 0xb0, 0, 0, 0}}, "05" + "00000007" + "00000001" + "00000005" + "00b0000000"},
	{"reset", CardMessage{Type: CardReset, Card: 7, Seq: 2}, "06" + "00000007" + "00000002" + "00000000"},
	{"hold", CardMessage{Type: CardHold, Card: 7}, "07" + "00000007" + "00000000" + "00000000"},
	{"release", CardMessage{Type: CardRelease, Card: 7}, "08" + "00000007" + "00000000" + "00000000"},
	{"later version's", CardMessage{Type: 99, Card: 7, Data: []byte{1}}, "63" + "00000007" + "00000000" + "00000001" + "01"},
}

func TestCardMessages(t *testing.T) {
	for _, x := range cardMessages {
		t.Run(x.name, func(t *testing.T) {
			b := x.m.Append([]byte("before"))[len("before"):]
			if got := hex.EncodeToString(b); got != x.hex {
				t.Errorf("Append is %s, want %s", got, x.hex)
			}
			m, rest, err := ParseCard(append(b, 1, 2))
			if err != nil || !reflect.DeepEqual(m, x.m) || !bytes.Equal(rest, []byte{1, 2}) {
				t.Errorf("Parse is %+v, % x, %v", m, rest, err)
			}
			for n := range b {
				if _, _, err := ParseCard(b[:n]); !errors.Is(err, ErrCardShort) {
					t.Errorf("%d bytes of it: %v", n, err)
				}
			}
		})
	}
}

func TestBadCardMessages(t *testing.T) {
	for name, text := range map[string]string{
		"long ATR":      "01" + "00000001" + "00000000" + "00000022",
		"long APDU":     "05" + "00000001" + "00000000" + "0001000a",
		"no APDU":       "05" + "00000001" + "00000000" + "00000000",
		"largest size":  "05" + "00000001" + "00000000" + "ffffffff",
		"reset, data":   "06" + "00000001" + "00000000" + "00000001" + "00",
		"fault, 2 byte": "04" + "00000001" + "00000000" + "00000002" + "0101",
		"unknown, long": "63" + "00000001" + "00000000" + "7fffffff",
	} {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if m, rest, err := ParseCard(b); !errors.Is(err, ErrCard) || !reflect.DeepEqual(m, CardMessage{}) || rest != nil {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

func FuzzParseCard(f *testing.F) {
	seeds := 0
	for _, x := range cardMessages {
		b, err := hex.DecodeString(x.hex)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		seeds++
	}
	f.Add([]byte(strings.Repeat("\xff", 20)))
	if seeds == 0 {
		f.Fatal("no seeds")
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, rest, err := ParseCard(b)
		if err != nil {
			if rest != nil || !reflect.DeepEqual(m, CardMessage{}) {
				t.Fatal("an error with results")
			}
			return
		}
		if again := m.Append(nil); !bytes.Equal(append(again, rest...), b) {
			t.Fatalf("% x became % x", b, again)
		}
	})
}
