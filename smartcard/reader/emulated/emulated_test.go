package emulated

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
	"testing/fstest"

	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/identity"
	"hotdesk/smartcard/reader"
	"hotdesk/smartcard/reader/readertest"
	"hotdesk/testdata"
)

var _ reader.Source = (*Reader)(nil)

const good = `# a card
atr = 3b0400112233
type = simple
id = 0123456789abcdef
secret = 00112233445566778899aabbccddeeff
name = Ada Lovelace
`

func TestConformance(t *testing.T) {
	readertest.Run(t, func(t *testing.T) readertest.Bench {
		r := New(fstest.MapFS{"a.card": {Data: []byte(good)}})
		t.Cleanup(func() { r.Close() })
		return readertest.Bench{
			Open: func(*testing.T) reader.Source { return r },
			Insert: func(t *testing.T) {
				if _, err := r.Insert("a"); err != nil {
					t.Error(err)
				}
			},
			Remove: func(t *testing.T) {
				if _, err := r.Remove(); err != nil {
					t.Error(err)
				}
			},
			ID:  []byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef},
			ATR: []byte{0x3b, 0x04, 0x00, 0x11, 0x22, 0x33},
		}
	})
}

func TestParse(t *testing.T) {
	p, err := Parse(good)
	if err != nil || p.Name != "Ada Lovelace" || p.Type != "simple" || p.ID[7] != 0xef || p.Secret[15] != 0xff {
		t.Errorf("%+v, %v", p, err)
	}
	without := func(key string) string {
		var b strings.Builder
		for line := range strings.Lines(good) {
			if !strings.HasPrefix(line, key) {
				b.WriteString(line)
			}
		}
		return b.String()
	}
	for text, want := range map[string]string{
		without("id"):                       "needs id and secret",
		without("secret"):                   "needs id and secret",
		good + "id = 0123456789abcdef":      "twice",
		good + "colour = blue":              "unknown key",
		good + "nonsense":                   "not 'key = value'",
		"type = gold":                       "known are simple, piv and plain",
		"atr = 3":                           "not hex",
		"atr = " + strings.Repeat("3b", 34): "more than 33 bytes",
		"id = 012345678":                    "16 hex digits",
		"secret = 0123456789abcdefzz":       "32 hex digits",
		"name = a\x01b":                     "printable",
		strings.Repeat("#", MaxFile+1):      "larger than",
	} {
		p, err := Parse(text)
		if !errors.Is(err, ErrFile) || !strings.Contains(err.Error(), want) || p.Type != "" {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "cdefzz") {
			t.Errorf("an error shows the secret: %v", err)
		}
	}
}

func TestSecretsHide(t *testing.T) {
	p, _ := Parse(good)
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("card", "plastic", p, "secret", p.Secret)
	if text := b.String() + fmt.Sprintf("%v %+v %#v %s", p, p, p.Secret, p.Secret); strings.Contains(text, "238") || strings.Contains(text, "0x22") {
		t.Errorf("shown: %s", text)
	}
}

func TestAnswers(t *testing.T) {
	p, err := Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	c := chip{Plastic: p}
	get := apdu.GetData(apdu.SimpleID)
	for i, tc := range []struct {
		cmd  apdu.Command
		want uint16
		n    int
	}{
		{get, apdu.ConditionsNotMet, 0},
		{apdu.Select([]byte{0xa0, 0, 0}), apdu.FileNotFound, 0},
		{apdu.Select(apdu.SimpleAID), apdu.OK, 0},
		{get, apdu.OK, 8},
		{apdu.GetData(0x0102), apdu.DataNotFound, 0},
		{apdu.Command{INS: apdu.InsGetData, P1: 1, P2: 1, Le: 4}, apdu.WrongLength, 0},
		{apdu.Command{INS: 0x20}, apdu.InsNotSupported, 0},
		{apdu.Command{CLA: 0x80, INS: apdu.InsGetData}, apdu.ClassNotSupported, 0},
		{apdu.Select([]byte{0xa0, 0, 0}), apdu.FileNotFound, 0},
		{get, apdu.ConditionsNotMet, 0},
	} {
		if r := c.answer(tc.cmd); r.Status != tc.want || len(r.Data) != tc.n {
			t.Errorf("%d: %04x with %d bytes, want %04x with %d", i, r.Status, len(r.Data), tc.want, tc.n)
		}
	}
}

func TestNames(t *testing.T) {
	r := New(fstest.MapFS{"b.card": {Data: []byte(good)}, "a.card": {Data: []byte("what")}, "readme.txt": {}, "d/c.card": {}})
	defer r.Close()
	names, err := r.Names()
	if err != nil || strings.Join(names, " ") != "a b" {
		t.Errorf("%q, %v", names, err)
	}
	for name, want := range map[string]error{"a": ErrFile, "c": ErrNoCard, "d/c": ErrNoCard, "../b": ErrNoCard, "": ErrNoCard} {
		if _, err := r.Insert(name); !errors.Is(err, want) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := r.Remove(); !errors.Is(err, ErrNoCard) {
		t.Errorf("nothing in: %v", err)
	}
	if c, err := r.Insert("b"); err != nil || r.Inserted() != c || c.Name() != "b" {
		t.Errorf("%v, %v", c, err)
	}
	if _, err := r.Insert("c"); err == nil || r.Inserted() == nil {
		t.Error("a card that is not there pushed the other one out")
	}
}

// TestSharedCards: the cards of testdata are what they are for.
func TestSharedCards(t *testing.T) {
	cards, err := fs.Sub(testdata.Cards, "cards")
	if err != nil {
		t.Fatal(err)
	}
	r := New(cards)
	defer r.Close()
	names, err := r.Names()
	if err != nil || len(names) < 2 {
		t.Fatalf("%q, %v", names, err)
	}
	ids := map[string]bool{}
	for _, n := range names {
		c, err := r.Insert(n)
		if err != nil {
			t.Error(err)
			continue
		}
		tok, err := identity.Identify(t.Context(), c, identity.Rules())
		if err != nil || tok.Type != "simple" || ids[tok.ID] {
			t.Errorf("%s: %+v, %v", n, tok, err)
		}
		ids[tok.ID] = true
	}
}

func FuzzParse(f *testing.F) {
	f.Add(good)
	files, err := fs.Glob(testdata.Cards, "cards/*")
	if err != nil || len(files) == 0 {
		f.Fatal("no cards", err)
	}
	for _, file := range files {
		text, err := fs.ReadFile(testdata.Cards, file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text)
		if err != nil {
			if p.Type != "" || p.ATR != nil || p.Name != "" {
				t.Fatalf("%+v beside %v", p, err)
			}
			return
		}
		c := chip{Plastic: p}
		c.answer(apdu.Select(apdu.SimpleAID))
		if r := c.answer(apdu.GetData(apdu.SimpleID)); (r.Status == apdu.OK) != (p.Type == "simple") {
			t.Fatalf("%+v answers %04x", p, r.Status)
		}
	})
}
