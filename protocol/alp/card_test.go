package alp

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

var nonce = bytes.Repeat([]byte{0xa5}, NonceSize)

var cardMessages = []messageCase{
	{"apdu", ControlSmartCard{TokenSeq: 4, Tag: "p4.1", INS: 0xa4, P1: 4, Data: []byte{0xa0, 0, 0}, Le: 256}.Message(),
		"controlSmartCard tag=p4.1 command=apduInf head=00a40400 tdata=a00000 rlen=256 tokenSeq=4\n",
		ControlSmartCard{TokenSeq: 4, Tag: "p4.1", INS: 0xa4, P1: 4, Data: []byte{0xa0, 0, 0}, Le: 256}, reads(ParseControlSmartCard)},
	{"challenge", ControlSmartCard{TokenSeq: 4, Tag: "p4.2", INS: 0x88, Data: []byte{1}, Purpose: "first", Nonce: nonce, Time: 1000000000}.Message(),
		"controlSmartCard tag=p4.2 command=apduInf head=00880000 tdata=01 rlen=0 tokenSeq=4 purpose=first nonce=" + strings.Repeat("a5", 32) + " time=1000000000\n",
		ControlSmartCard{TokenSeq: 4, Tag: "p4.2", INS: 0x88, Data: []byte{1}, Purpose: "first", Nonce: nonce, Time: 1000000000}, reads(ParseControlSmartCard)},
	{"pin", ControlSmartCard{TokenSeq: 4, Tag: "p4.3", PIN: true}.Message(), "controlSmartCard tag=p4.3 command=pinReq tokenSeq=4\n",
		ControlSmartCard{TokenSeq: 4, Tag: "p4.3", PIN: true}, reads(ParseControlSmartCard)},
	{"answer", InfoSmartCard{Tag: "p4.1", OK: true, Data: []byte{1, 2}, Status: 0x9000}.Message(),
		"infoSmartCard tag=p4.1 apdu_result=1 rec_data=0102 rec_len=2 status=9000\n",
		InfoSmartCard{Tag: "p4.1", OK: true, Data: []byte{1, 2}, Status: 0x9000}, reads(ParseInfoSmartCard)},
	{"no answer", InfoSmartCard{Tag: "p4.1", Cause: "card out"}.Message(), "infoSmartCard tag=p4.1 apdu_result=0 cause=card\\ out\n",
		InfoSmartCard{Tag: "p4.1", Cause: "card out"}, reads(ParseInfoSmartCard)},
	{"rules", CardRules{"0a1b2c3d", "piv,file:a000000001:0005:0:4:badge"}.Message(),
		"cardRulesInf version=0a1b2c3d rules=piv,file:a000000001:0005:0:4:badge\n",
		CardRules{"0a1b2c3d", "piv,file:a000000001:0005:0:4:badge"}, reads(ParseCardRules)},
}

func TestCardMessagesExact(t *testing.T) {
	for _, c := range cardMessages {
		if got := string(c.m.Append(nil)); got != c.line {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, c.line)
		}
		m, err := Parse([]byte(c.line))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.read(m); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: read %+v, %v\nwant %+v", c.name, got, err, c.want)
		}
	}
	longest := ControlSmartCard{TokenSeq: 1<<31 - 1, Tag: strings.Repeat("t", MaxTag), Data: make([]byte, MaxCardData), Le: 256, Purpose: strings.Repeat("p", MaxPurpose), Nonce: nonce, Time: 1 << 62}
	if n := len(longest.Message().Append(nil)); n > MaxLine {
		t.Errorf("the longest command takes %d bytes", n)
	}
	if n := len(CardRules{"1", strings.Repeat(",", MaxRulesList)}.Message().Append(nil)); n > MaxLine {
		t.Errorf("the longest list takes %d bytes", n)
	}
}

func TestCardReadersRefuse(t *testing.T) {
	for _, c := range []struct{ name, key, value string }{
		{"apdu", "tag", ""}, {"apdu", "tag", "a b"}, {"apdu", "tag", strings.Repeat("t", MaxTag+1)}, {"apdu", "command", "format"},
		{"apdu", "head", "00a404"}, {"apdu", "tdata", strings.Repeat("00", MaxCardData+1)}, {"apdu", "tdata", "0"}, {"apdu", "rlen", "257"},
		{"apdu", "rlen", "-1"}, {"apdu", "tokenSeq", ""}, {"apdu", "nonce", "00"},
		{"challenge", "nonce", "zz"}, {"challenge", "time", "x"}, {"challenge", "time", "-1"}, {"challenge", "purpose", ""}, {"challenge", "purpose", strings.Repeat("p", MaxPurpose+1)},
		{"answer", "tag", ""}, {"answer", "rec_len", "3"}, {"answer", "rec_len", ""}, {"answer", "rec_data", strings.Repeat("00", MaxCardReply+1)},
		{"answer", "status", "90"}, {"answer", "status", "900000"}, {"no answer", "cause", strings.Repeat("c", MaxText+1)},
		{"rules", "version", ""}, {"rules", "version", strings.Repeat("v", MaxRulesName+1)}, {"rules", "rules", strings.Repeat("r", MaxRulesList+1)},
	} {
		for _, from := range cardMessages {
			if from.name != c.name {
				continue
			}
			m := from.m
			m.Keys = append(append([]Pair{}, m.Keys...), Pair{c.key, c.value})
			if v, err := from.read(m); err == nil || !reflect.ValueOf(v).IsZero() {
				t.Errorf("%s with %s=%q: %+v, %v", c.name, c.key, c.value, v, err)
			}
		}
	}
}

// FuzzCardMessages: what a reader accepts it writes and reads again as the same.
func FuzzCardMessages(f *testing.F) {
	for _, c := range cardMessages {
		f.Add([]byte(c.line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := Parse(line)
		if err != nil {
			return
		}
		if c, err := ParseControlSmartCard(m); err == nil {
			if again, err := ParseControlSmartCard(c.Message()); err != nil || !reflect.DeepEqual(again, c) {
				t.Fatalf("%+v\n%+v, %v", c, again, err)
			}
		}
		if i, err := ParseInfoSmartCard(m); err == nil {
			if again, err := ParseInfoSmartCard(i.Message()); err != nil || !reflect.DeepEqual(again, i) {
				t.Fatalf("%+v\n%+v, %v", i, again, err)
			}
		}
		if r, err := ParseCardRules(m); err == nil {
			if again, err := ParseCardRules(r.Message()); err != nil || again != r {
				t.Fatalf("%+v\n%+v, %v", r, again, err)
			}
		}
	})
}
