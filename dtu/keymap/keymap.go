// Package keymap turns text and key names into the key strokes that a person
// would make, and browsers' key names into usages.
//
// Source: xkeyboard-config's us, de and fr layouts (symbols/us, de, fr, latin)
// on a pc105 keyboard, as an X server has them; dead keys as libX11's
// en_US.UTF-8 Compose file; UI Events KeyboardEvent code Values, section 3,
// for browsers.
//
// Invariants:
//  1. Strokes of Type and Chord come in pairs: every key that they press they
//     also let go, the last pressed first.
//  2. Typed under its layout, each character comes from one key at one level,
//     or from a dead key and what follows it.
//
// The package is pure. Limit: keys of a 105-key keyboard; what needs a Compose
// key or an input method is refused.
package keymap

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// A Stroke is one key going down or up.
type Stroke struct {
	Usage uint16
	Down  bool
}

// Usages of the modifiers that levels need.
const (
	leftShift = 0xE1
	rightAlt  = 0xE6
	space     = 0x2C
)

// place is where a layout has a character: a key, and the level that Shift (1)
// and AltGr (2) choose.
type place struct {
	usage uint16
	level int
}

// keys are the keys that layouts differ in, row by row: the one left of 1 to =,
// Q to ], A to \, and the 102nd to /. tables has their characters in this
// order.
var keys = [...]uint16{
	0x35, 0x1E, 0x1F, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x2D, 0x2E,
	0x14, 0x1A, 0x08, 0x15, 0x17, 0x1C, 0x18, 0x0C, 0x12, 0x13, 0x2F, 0x30,
	0x04, 0x16, 0x07, 0x09, 0x0A, 0x0B, 0x0D, 0x0E, 0x0F, 0x33, 0x34, 0x31,
	0x64, 0x1D, 0x1B, 0x06, 0x19, 0x05, 0x11, 0x10, 0x36, 0x37, 0x38,
}

// Dead keys stand in tables as the combining characters that they put on the
// next letter.
const (
	deadGrave      = '\u0300'
	deadAcute      = '\u0301'
	deadCircumflex = '\u0302'
	deadDiaeresis  = '\u0308'
)

// tables has, for each layout and level, a character for each of keys; a blank
// is none. The 102nd key of us is left out: keyboards of that layout have no
// such key.
var tables = map[string][]string{
	"us": {
		"`1234567890-=" + "qwertyuiop[]" + "asdfghjkl;'\\" + " zxcvbnm,./",
		"~!@#$%^&*()_+" + "QWERTYUIOP{}" + "ASDFGHJKL:\"|" + " ZXCVBNM<>?",
	},
	"de": {
		"\u03021234567890ß\u0301" + "qwertzuiopü+" + "asdfghjklöä#" + "<yxcvbnm,.-",
		"°!\"§$%&/()=?\u0300" + "QWERTZUIOPÜ*" + "ASDFGHJKLÖÄ'" + ">YXCVBNM;:_",
		"′¹²³¼½¬{[]}\\\u0327" + "@ſ€¶ŧ←↓→øþ\u0308~" + "æſðđŋħ\u0323ĸł\u030b\u0302’" + "|»«¢„“”µ·…–",
		"″¡⅛£¤⅜⅝⅞™±°¿\u0328" + "Ω§€®Ŧ¥↑ıØÞ\u030a¯" + "ÆẞÐªŊĦ\u0307&Ł\u0323\u030c\u0306" + "\u0331›‹©‚‘’º×÷—",
	},
	"fr": {
		"²&é\"'(-è_çà)=" + "azertyuiop\u0302$" + "qsdfghjklmù*" + "<wxcvbn,;:!",
		"~1234567890°+" + "AZERTYUIOP\u0308£" + "QSDFGHJKLM%µ" + ">WXCVBN?./§",
		"¬¹~#{[|`\\^@]}" + "æ«€¶ŧ←↓→øþ\u0308¤" + "@ßðđŋħ\u0309ĸłµ\u0302\u0300" + "|ł»¢„“”\u0301•·\u0323",
		"¬¡⅛£$⅜⅝⅞™±°¿\u0328" + "Æ<¢®Ŧ¥↑ıØÞ\u030a\u0304" + "ΩẞÐªŊĦ\u031b&Łº\u030c\u0306" + "¦Ł>©‚‘’\u030b×÷\u0307",
	},
}

// layouts has the first place of each character: the lowest level, there the
// first key.
var layouts = func() map[string]map[rune]place {
	all := map[string]map[rune]place{}
	for name, levels := range tables {
		l := map[rune]place{
			' ': {space, 0}, '\n': {0x28, 0}, '\t': {0x2B, 0}, '\b': {0x2A, 0}, '\x1b': {0x29, 0},
		}
		for level, characters := range levels {
			for i, c := range []rune(characters) {
				if _, has := l[c]; !has {
					l[c] = place{keys[i], level}
				}
			}
		}
		all[name] = l
	}
	return all
}()

// spacing has what is typed for an accent that stands alone: the dead key, then
// this. A dead acute and a space make an apostrophe, so that one is pressed
// twice.
var spacing = map[rune][2]rune{
	'^': {deadCircumflex, ' '},
	'`': {deadGrave, ' '},
	'´': {deadAcute, deadAcute},
	'¨': {deadDiaeresis, deadDiaeresis},
}

// Layouts returns the names that Type knows, sorted.
func Layouts() []string { return slices.Sorted(maps.Keys(layouts)) }

// Type returns the strokes that type text on a keyboard of this layout: us, de
// or fr. A newline is Enter, a tab Tab.
func Type(layout, text string) ([]Stroke, error) {
	l, ok := layouts[layout]
	if !ok {
		return nil, fmt.Errorf("keymap: no layout %q: one of %s", layout, strings.Join(Layouts(), ", "))
	}
	var strokes []Stroke
	for _, c := range norm.NFC.String(text) {
		places, ok := find(l, c)
		if !ok {
			return nil, fmt.Errorf("keymap: layout %s cannot type %q (U+%04X)", layout, c, c)
		}
		for _, p := range places {
			strokes = p.append(strokes)
		}
	}
	return strokes, nil
}

// find returns the keys that make c.
func find(l map[rune]place, c rune) ([]place, bool) {
	if dead(c) {
		return nil, false // alone, an accent is no character
	}
	if p, ok := l[c]; ok {
		return []place{p}, true
	}
	pair, ok := spacing[c]
	if !ok {
		parts := []rune(norm.NFD.String(string(c)))
		if len(parts) != 2 || !letter(parts[0]) {
			return nil, false
		}
		pair = [2]rune{parts[1], parts[0]}
	}
	accent, hasAccent := l[pair[0]]
	base, hasBase := l[pair[1]]
	return []place{accent, base}, hasAccent && hasBase
}

// dead says whether c stands for a dead key in tables.
func dead(c rune) bool { return c >= 0x300 && c < 0x370 }

func letter(c rune) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func (p place) append(s []Stroke) []Stroke {
	var held []uint16
	if p.level&1 != 0 {
		held = append(held, leftShift)
	}
	if p.level&2 != 0 {
		held = append(held, rightAlt)
	}
	return press(s, append(held, p.usage))
}

// press appends the keys going down in order and up in the opposite one.
func press(s []Stroke, usages []uint16) []Stroke {
	for _, u := range usages {
		s = append(s, Stroke{u, true})
	}
	for _, u := range slices.Backward(usages) {
		s = append(s, Stroke{u, false})
	}
	return s
}
