package greeter

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Usages of keys that forms know (USB HID Usage Tables, section 10).
const (
	keyReturn    = 0x28
	keyEscape    = 0x29
	keyBackspace = 0x2A
	keyTab       = 0x2B
	keySpace     = 0x2C
	keyCaps      = 0x39
	keyHome      = 0x4A
	keyDelete    = 0x4C
	keyEnd       = 0x4D
	keyRight     = 0x4F
	keyLeft      = 0x50
	keyDown      = 0x51
	keyUp        = 0x52
	keyPadEnter  = 0x58
	keyU         = 0x18
)

// layoutKeys are the keys of layouts, row by row: the one left of 1 to =, Q to
// ], A to \, and the 102nd to /.
var layoutKeys = [...]uint16{
	0x35, 0x1E, 0x1F, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x2D, 0x2E,
	0x14, 0x1A, 0x08, 0x15, 0x17, 0x1C, 0x18, 0x0C, 0x12, 0x13, 0x2F, 0x30,
	0x04, 0x16, 0x07, 0x09, 0x0A, 0x0B, 0x0D, 0x0E, 0x0F, 0x33, 0x34, 0x31,
	0x64, 0x1D, 0x1B, 0x06, 0x19, 0x05, 0x11, 0x10, 0x36, 0x37, 0x38,
}

// pad has the characters of the keypad, whose Num Lock is taken to be on.
var pad = map[uint16]rune{
	0x54: '/', 0x55: '*', 0x56: '-', 0x57: '+', 0x59: '1', 0x5A: '2', 0x5B: '3', 0x5C: '4',
	0x5D: '5', 0x5E: '6', 0x5F: '7', 0x60: '8', 0x61: '9', 0x62: '0', 0x63: '.',
}

// levels is layouts by key.
var levels = func() map[string]map[uint16][4]rune {
	m := map[string]map[uint16][4]rune{}
	for name, rows := range layouts {
		keys := map[uint16][4]rune{}
		for level, row := range rows {
			i := 0
			for _, c := range row {
				if i == len(layoutKeys) {
					break
				}
				four := keys[layoutKeys[i]]
				if four[level] = c; c == ' ' {
					four[level] = 0
				}
				keys[layoutKeys[i]] = four
				i++
			}
		}
		m[name] = keys
	}
	return m
}()

// HasLayout reports whether forms know a keyboard layout; they take others for
// us.
func HasLayout(name string) bool { return levels[name] != nil }

// A keyboard makes characters of keys.
type keyboard struct {
	layout string
	down   map[uint16]bool // modifiers
	caps   bool
	dead   rune // a combining character, for the next letter
}

func (k *keyboard) shift() bool { return k.down[0xE1] || k.down[0xE5] }
func (k *keyboard) ctrl() bool  { return k.down[0xE0] || k.down[0xE4] }

// release lets all modifiers go.
func (k *keyboard) release() { k.down, k.dead = nil, 0 }

// modifier notes a modifier's state and reports whether usage is one.
func (k *keyboard) modifier(usage uint16, down bool) bool {
	if usage == keyCaps {
		if down {
			k.caps = !k.caps
		}
		return true
	}
	if usage < 0xE0 || usage > 0xE7 {
		return false
	}
	if k.down == nil {
		k.down = map[uint16]bool{}
	}
	k.down[usage] = down
	return true
}

// char returns what a key types, 0 for nothing.
func (k *keyboard) char(usage uint16) rune {
	if k.ctrl() || k.down[0xE2] || k.down[0xE3] || k.down[0xE7] {
		return 0
	}
	c, ok := pad[usage]
	switch {
	case ok:
	case usage == keySpace:
		c = ' '
	default:
		table := levels[k.layout]
		if table == nil {
			table = levels["us"]
		}
		four := table[usage]
		level := 0
		if k.down[0xE6] {
			level = 2
		}
		up := k.shift()
		if k.caps && unicode.IsLower(four[level]) && unicode.IsUpper(four[level+1]) {
			up = !up
		}
		if up {
			level++
		}
		c = four[level]
	}
	return k.compose(c)
}

// compose puts a dead key on what follows it, as X clients do.
func (k *keyboard) compose(c rune) rune {
	dead := k.dead
	switch {
	case c == 0:
		return 0
	case dead == 0 && unicode.Is(unicode.Mn, c):
		k.dead = c
		return 0
	case dead == 0:
		return c
	}
	k.dead = 0
	if c == ' ' || c == dead {
		return spacing[dead]
	}
	both := norm.NFC.String(string([]rune{c, dead}))
	if r, n := utf8.DecodeRuneInString(both); n == len(both) {
		return r
	}
	return 0
}

// spacing are dead keys typed twice, or with a space after them.
var spacing = map[rune]rune{
	'\u0300': '`', '\u0301': '´', '\u0302': '^', '\u0303': '~', '\u0304': '¯', '\u0306': '˘', '\u0307': '˙',
	'\u0308': '¨', '\u030a': '°', '\u030b': '˝', '\u030c': 'ˇ', '\u0327': '¸', '\u0328': '˛',
}

// Layouts are the keyboards that forms know, for a choice among them.
func Layouts() []Option {
	return []Option{
		{"us", "English (US)"}, {"gb", "English (UK)"}, {"de", "Deutsch"}, {"ch", "Schweiz"}, {"fr", "Français"}, {"be", "Belgique"},
		{"es", "Español"}, {"it", "Italiano"}, {"pt", "Português"}, {"br", "Português (Brasil)"}, {"nl", "Nederlands"}, {"dk", "Dansk"},
		{"no", "Norsk"}, {"se", "Svenska"}, {"fi", "Suomi"}, {"pl", "Polski"}, {"cz", "Čeština"}, {"hu", "Magyar"}, {"tr", "Türkçe"},
	}
}
