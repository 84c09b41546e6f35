package identity

import (
	"context"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"hotdesk/smartcard/reader"
)

// card answers commands from a table, in hex; another command is mute.
type card struct {
	atr     string
	answers map[string]string
	err     error
	sent    []string
}

func (c *card) ATR() []byte              { b, _ := hex.DecodeString(c.atr); return b }
func (c *card) Removed() <-chan struct{} { return nil }
func (c *card) Transmit(_ context.Context, cmd []byte) ([]byte, error) {
	c.sent = append(c.sent, hex.EncodeToString(cmd))
	if c.err != nil {
		return nil, c.err
	}
	a, ok := c.answers[hex.EncodeToString(cmd)]
	if !ok {
		return nil, reader.ErrMute
	}
	return hex.DecodeString(a)
}

const (
	sel = "00a4040009f0484f544445534b0100"
	get = "00ca010100"
	atr = "3b0400112233"
)

func TestIdentify(t *testing.T) {
	atrOf := func(s string) []byte { b, _ := hex.DecodeString(s); return b }
	for _, tc := range []struct {
		name string
		card card
		want Token
		err  error
	}{
		{"simple", card{atr: atr, answers: map[string]string{sel: "9000", get: "0123456789abcdef9000"}}, Token{"simple", "0123456789abcdef", atrOf(atr)}, nil},
		{"short id", card{atr: atr, answers: map[string]string{sel: "9000", get: "01239000"}}, Token{}, ErrUnreadable},
		{"mute, but it has an ATR", card{atr: atr}, Token{}, ErrUnreadable},
		{"mute from the start", card{}, Token{}, ErrUnreadable},
		{"no answer worth it", card{answers: map[string]string{sel: "90"}}, Token{}, ErrUnreadable},
		{"pulled", card{atr: atr, err: reader.ErrRemoved}, Token{}, reader.ErrRemoved},
	} {
		got, err := Identify(t.Context(), &tc.card, Rules())
		if !errors.Is(err, tc.err) || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %+v, %v; want %+v, %v", tc.name, got, err, tc.want, tc.err)
		}
	}
}

// A card that is silent where it could have had a name gets none by a later rule:
// the same card would be another one, in another session, when its contacts are
// dirty.
func TestSilent(t *testing.T) {
	answers := map[string]string{"ffca000000": "04a1b2c39000"}
	for list, want := range map[string]string{
		"piv,uid,atr": "", "piv,atr": "", "iccsn,atr": "", "openpgp,atr": "", "file:a000000001:0005:4:6:badge,atr": "",
		"uid,piv": "uid.04a1b2c3", "atr,piv": "atr." + atr,
	} {
		rules, err := ParseRules(list)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Identify(t.Context(), &card{atr: atr, answers: answers}, rules)
		if want == "" && !errors.Is(err, ErrUnreadable) || want != "" && (err != nil || got.Type+"."+got.ID != want) {
			t.Errorf("%s: %+v, %v", list, got, err)
		}
	}
	// The class FF is a contactless reader's own; a card need not answer it.
	rules, err := ParseRules("uid,atr")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Identify(t.Context(), &card{atr: atr}, rules); err != nil || got.Type != "atr" {
		t.Errorf("a card without a UID: %+v, %v", got, err)
	}
	if _, err := Identify(t.Context(), &card{atr: atr, err: reader.ErrRemoved}, rules); !errors.Is(err, reader.ErrRemoved) {
		t.Errorf("pulled: %v", err)
	}
}

func TestFirstMatchWins(t *testing.T) {
	c := &card{atr: atr, answers: map[string]string{sel: "9000", get: "0123456789abcdef9000"}}
	if _, err := Identify(t.Context(), c, Rules()); err != nil {
		t.Fatal(err)
	}
	if want := []string{sel, get}; !reflect.DeepEqual(c.sent, want) {
		t.Errorf("sent %q, want %q", c.sent, want)
	}
}

// refusing answers what its table lacks with "not found".
type refusing struct{ card }

func (c *refusing) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	b, err := c.card.Transmit(ctx, cmd)
	if errors.Is(err, reader.ErrMute) {
		return []byte{0x6a, 0x82}, nil
	}
	return b, err
}

func TestRules(t *testing.T) {
	const (
		piv   = "00a4040009a0000003080000100000"
		chuid = "00cb3fff055c035fc10200"
		pgp   = "00a4040006d2760001240100"
		mf    = "00a4000c023f00"
		gdo   = "00a4020c022f02"
		all   = DefaultRules
		fascn = "d4e739da739ced39ce739da1685a1082108ce73984108ce739"
	)
	for _, tc := range []struct {
		name, list string
		answers    map[string]string
		want       string // type.id, or what the error says
	}{
		{"PIV", all, map[string]string{piv: "9000", chuid: "53123410000102030405060708090a0b0c0d0e0f9000"}, "piv.000102030405060708090a0b0c0d0e0f"},
		{"PIV in pieces", all, map[string]string{piv: "9000", chuid: "531234106110", "00c0000010": "000102030405060708090a0b0c0d0e0f9000"}, "piv.000102030405060708090a0b0c0d0e0f"},
		{"PIV without a CHUID", all, map[string]string{piv: "9000"}, "atr." + atr},
		{"PIV with a bad CHUID", all, map[string]string{piv: "9000", chuid: "5302ffff9000"}, "\"piv\": identity: the card stopped"},
		{"PIV without a GUID", all, map[string]string{piv: "9000", chuid: "532d3019" + fascn + "3410" + strings.Repeat("00", 16) + "9000"}, "piv." + fascn},
		{"PIV with neither", all, map[string]string{piv: "9000", chuid: "53123410" + strings.Repeat("00", 16) + "9000"}, "atr." + atr},
		{"OpenPGP, cut short", all, map[string]string{pgp: "9000", "00ca004f00": "d2760001240103049000"}, "8 bytes"},
		{"OpenPGP", all, map[string]string{pgp: "9000", "00ca004f00": "d276000124010304000612345678" + "00009000"}, "openpgp.000612345678"},
		{"GDO", all, map[string]string{mf: "9000", gdo: "9000", "00b0000000": "5a0a802760010112345678909000"}, "iccsn.80276001011234567890"},
		{"GDO, end of file", all, map[string]string{"00a4000c": "9000", gdo: "9000", "00b0000000": "5a04010203046282"}, "iccsn.01020304"},
		{"GDO of another meaning", all, map[string]string{mf: "9000", gdo: "9000", "00b0000000": "3102abcd9000"}, "atr." + atr},
		{"GDO without end", all, map[string]string{mf: "9000", gdo: "9000", "00b0000000": "5a84ffffffff9000"}, "atr." + atr},
		{"UID of four bytes", all, map[string]string{"ffca000000": "04a1b2c39000"}, "uid.04a1b2c3"},
		{"UID of ten", all, map[string]string{"ffca000000": "040102030405060708099000"}, "uid.04010203040506070809"},
		{"UID too short", all, map[string]string{"ffca000000": "0401029000"}, "atr." + atr},
		{"UID too long", all, map[string]string{"ffca000000": "04010203040506070809109000"}, "atr." + atr},
		{"a reader without UIDs", all, map[string]string{"ffca000000": "6a81"}, "atr." + atr},
		{"UID", all, map[string]string{"ffca000000": "04a1b2c3d4e5f69000"}, "uid.04a1b2c3d4e5f6"},
		{"UID made up", all, map[string]string{"ffca000000": "08a1b2c39000"}, "atr." + atr},
		{"file", "file:a000000001:0005:4:6:badge,atr", map[string]string{"00a4040005a00000000100": "9000", "00a4020c020005": "9000", "00b0000406": "1122334455669000"}, "badge.112233445566"},
		{"file too short", "file:a000000001:0005:4:6:badge,atr", map[string]string{"00a4040005a00000000100": "9000", "00a4020c020005": "9000", "00b0000406": "11229000"}, "2 bytes at 4, 6 wanted"},
		{"file of another application", "file:a000000001:0005:4:6:badge,atr", map[string]string{"00a4040005a00000000100": "6a82"}, "atr." + atr},
		{"file that is not there", "file:a000000001:0005:4:6:badge,atr", map[string]string{"00a4040005a00000000100": "9000", "00a4020c020005": "6a82"}, "0 bytes at 4, 6 wanted"},
		{"file far in", "file:a000000001:0005:32767:32:badge", map[string]string{"00a4040005a00000000100": "9000", "00a4020c020005": "9000", "00b07fff20": strings.Repeat("ab", 32) + "9000"}, "badge." + strings.Repeat("ab", 32)},
		{"order", "uid, piv", map[string]string{piv: "9000", chuid: "53123410000102030405060708090a0b0c0d0e0f9000", "ffca000000": "04a1b2c39000"}, "uid.04a1b2c3"},
		{"none", "simple,piv", nil, "no naming rule knows this card"},
	} {
		rules, err := ParseRules(tc.list)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Identify(t.Context(), &refusing{card{atr: atr, answers: tc.answers}}, rules)
		if err != nil && (!errors.Is(err, ErrUnreadable) || !strings.Contains(err.Error(), tc.want)) || err == nil && got.Type+"."+got.ID != tc.want {
			t.Errorf("%s: %s.%s, %v; want %s", tc.name, got.Type, got.ID, err, tc.want)
		}
	}
	for list, want := range map[string]string{
		"":                                 "no rule",
		"gold":                             "no rule",
		"atr,":                             "no rule",
		strings.Repeat("atr,", 16) + "atr": "more than",
		"file:a0":                          "1 parts",
		"file:a0:0005:0:4:x":               "AID",
		"file:a000000001:5:0:4:x":          "four hex",
		"file:a000000001:0005:40000:4:x":   "offset",
		"file:a000000001:0005:0:33:x":      "length",
		"file:a000000001:0005:0:4:X.y":     "type",
	} {
		if r, err := ParseRules(list); !errors.Is(err, ErrRules) || !strings.Contains(err.Error(), want) || r != nil {
			t.Errorf("%q: %v, want %q", list, err, want)
		}
	}
}

func FuzzParseRules(f *testing.F) {
	f.Add(DefaultRules)
	f.Add("file:a000000001:0005:4:6:badge,atr")
	f.Fuzz(func(t *testing.T, list string) {
		if rules, err := ParseRules(list); (err == nil) != (len(rules) > 0) || len(rules) > MaxRules {
			t.Fatalf("%q: %d rules, %v", list, len(rules), err)
		}
	})
}

func TestGivesUpWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := &card{atr: atr, err: context.Canceled}
	if _, err := Identify(ctx, c, Rules()); !errors.Is(err, ErrUnreadable) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
