package keymap

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"hotdesk/protocol/input"
)

// spell writes strokes by what is printed on a us keyboard: +a down, -a up.
func spell(t *testing.T, strokes []Stroke) string {
	t.Helper()
	names := map[uint16]string{leftShift: "shift", rightAlt: "altgr", space: "space", 0xE0: "ctrl", 0xE2: "alt", 0x28: "enter", 0x2B: "tab"}
	for i := range uint16(26) {
		names[4+i] = string(rune('a' + i))
	}
	for i := range uint16(9) {
		names[0x1E+i] = string(rune('1' + i))
	}
	names[0x27], names[0x2D], names[0x2E], names[0x2F], names[0x30] = "0", "-", "=", "[", "]"
	names[0x31], names[0x33], names[0x34], names[0x35], names[0x64] = "\\", ";", "'", "`", "102nd"
	var out []string
	for _, s := range strokes {
		sign := "-"
		if s.Down {
			sign = "+"
		}
		name, ok := names[s.Usage]
		if !ok {
			t.Fatalf("usage %#x has no name in this test", s.Usage)
		}
		out = append(out, sign+name)
	}
	return strings.Join(out, " ")
}

func TestType(t *testing.T) {
	for _, c := range []struct{ layout, text, want string }{
		{"us", "", ""},
		{"us", "ab", "+a -a +b -b"},
		{"us", "A!", "+shift +a -a -shift +shift +1 -1 -shift"},
		{"us", "a\n\t", "+a -a +enter -enter +tab -tab"},
		{"us", "\\|", "+\\ -\\ +shift +\\ -\\ -shift"},
		{"de", "yZ", "+z -z +shift +y -y -shift"},
		{"de", "ß@", "+- -- +altgr +q -q -altgr"},
		{"de", "äÖ<|", "+' -' +shift +; -; -shift +102nd -102nd +altgr +102nd -102nd -altgr"},
		{"de", "^`´", "+` -` +space -space +shift += -= -shift +space -space += -= += -="},
		{"de", "é", "+= -= +e -e"},
		{"de", "e\u0301", "+= -= +e -e"}, // decomposed
		{"de", "È", "+shift += -= -shift +shift +e -e -shift"},
		{"de", "â", "+` -` +a -a"},
		{"fr", "a1é", "+q -q +shift +1 -1 -shift +2 -2"},
		{"fr", "ê", "+[ -[ +e -e"},
		{"fr", "ë", "+shift +[ -[ -shift +e -e"},
		{"fr", "€^`", "+altgr +e -e -altgr +altgr +9 -9 -altgr +altgr +7 -7 -altgr"},
	} {
		strokes, err := Type(c.layout, c.text)
		if err != nil {
			t.Errorf("%s %q: %v", c.layout, c.text, err)
			continue
		}
		if got := spell(t, strokes); got != c.want {
			t.Errorf("%s %q: %s, want %s", c.layout, c.text, got, c.want)
		}
	}
	for _, c := range []struct{ layout, text, names string }{
		{"us", "naïve", `'ï' (U+00EF)`},
		{"us", "€", `'€' (U+20AC)`},
		{"de", "日", `'日' (U+65E5)`},
		{"fr", "a\u0301\u0302", "U+0302"},
		{"us", "\u0301", "U+0301"},
		{"us", "\x00", "U+0000"},
		{"dvorak", "a", "one of de, fr, us"},
	} {
		if _, err := Type(c.layout, c.text); err == nil || !strings.Contains(err.Error(), c.names) {
			t.Errorf("%s %q: error %v, want one that says %s", c.layout, c.text, err, c.names)
		}
	}
}

func TestChord(t *testing.T) {
	got, err := Chord("Ctrl+alt+t")
	want := []Stroke{{0xE0, true}, {0xE2, true}, {0x17, true}, {0x17, false}, {0xE2, false}, {0xE0, false}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for name, usage := range map[string]uint16{"F12": 0x45, "f24": 0x73, "plus": 0x2E, "/": 0x38, "kp7": 0x5F, "kp0": 0x62, "102nd": 0x64, "altgr": 0xE6, "1": 0x1E, "A": 0x04} {
		if got, ok := Key(name); !ok || got != usage {
			t.Errorf("Key(%q) = %#x, %v; want %#x", name, got, ok, usage)
		}
	}
	for _, bad := range []string{"", "ctrl+", "+", "hyper+a", "!", "ctrl alt t"} {
		if got, err := Chord(bad); err == nil {
			t.Errorf("Chord(%q) = %v, want an error", bad, got)
		}
	}
}

// Every key that can be named, typed or pressed in a browser is a key of the
// session too.
func TestEveryUsageIsAKey(t *testing.T) {
	check := func(what string, usage uint16) {
		if _, ok := input.Evdev(usage); !ok {
			t.Errorf("%s: usage %#x is no key", what, usage)
		}
	}
	for name, usage := range named {
		check(name, usage)
	}
	for code, usage := range codes {
		check(code, usage)
	}
	for name, l := range layouts {
		for c, p := range l {
			check(name+" "+string(c), p.usage)
		}
	}
}

func TestCodesJSON(t *testing.T) {
	var got map[string]uint16
	if err := json.Unmarshal(CodesJSON(), &got); err != nil {
		t.Fatal(err)
	}
	for code, usage := range map[string]uint16{"KeyA": 0x04, "Digit1": 0x1E, "Digit0": 0x27, "Numpad1": 0x59, "Numpad0": 0x62, "F13": 0x68,
		"IntlBackslash": 0x64, "Backslash": 0x31, "MetaRight": 0xE7} {
		if got[code] != usage {
			t.Errorf("%s is %#x, want %#x", code, got[code], usage)
		}
	}
	if len(got) != len(Codes()) {
		t.Errorf("%d codes, want %d", len(got), len(Codes()))
	}
}

func TestTablesFitKeys(t *testing.T) {
	for name, levels := range tables {
		for i, l := range levels {
			if n := len([]rune(l)); n != len(keys) {
				t.Errorf("%s level %d has %d characters for %d keys", name, i, n, len(keys))
			}
		}
	}
}
