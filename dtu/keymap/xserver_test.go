package keymap

import (
	"bufio"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"hotdesk/dtu/backend/xvfbtest"
	"hotdesk/protocol/input"
)

// deadKeysyms has X's dead keys (X11/keysymdef.h) by the characters that stand
// for them in tables.
var deadKeysyms = map[rune]uint32{
	'\u0300': 0xfe50, '\u0301': 0xfe51, '\u0302': 0xfe52, '\u0303': 0xfe53, '\u0304': 0xfe54, '\u0306': 0xfe55, '\u0307': 0xfe56,
	'\u0308': 0xfe57, '\u030a': 0xfe58, '\u030b': 0xfe59, '\u030c': 0xfe5a, '\u0327': 0xfe5b, '\u0328': 0xfe5c,
	'\u0323': 0xfe60, '\u0309': 0xfe61, '\u031b': 0xfe62, '\u0331': 0xfe68,
}

// oldKeysyms has the characters of tables that X names by numbers from before
// Unicode (X11/keysymdef.h).
var oldKeysyms = map[rune]uint32{
	'⅛': 0x0ac3, '⅜': 0x0ac4, '⅝': 0x0ac5, '⅞': 0x0ac6, '™': 0x0ac9, 'Ω': 0x07d9, '€': 0x20ac, 'ŧ': 0x03bc, 'Ŧ': 0x03ac,
	'←': 0x08fb, '↑': 0x08fc, '→': 0x08fd, '↓': 0x08fe, 'ı': 0x02b9, 'đ': 0x01f0, 'Đ': 0x01d0, 'ŋ': 0x03bf, 'Ŋ': 0x03bd,
	'ħ': 0x02b1, 'Ħ': 0x02a1, 'ĸ': 0x03a2, 'ł': 0x01b3, 'Ł': 0x01a3, '’': 0x0ad1, '‘': 0x0ad0, '„': 0x0afe, '‚': 0x0afd,
	'“': 0x0ad2, '”': 0x0ad3, '…': 0x0aae, '–': 0x0aaa, '—': 0x0aa9,
	'\n': 0xff0d, '\t': 0xff09, '\b': 0xff08, '\x1b': 0xff1b,
}

func keysyms(c rune) []uint32 {
	if k, ok := deadKeysyms[c]; ok {
		return []uint32{k}
	}
	all := []uint32{uint32(0x1000000 + c)}
	if k, ok := oldKeysyms[c]; ok {
		all = append(all, k)
	}
	if c >= ' ' && c <= 0xff {
		all = append(all, uint32(c))
	}
	return all
}

// mapping asks an X server for the keysyms of each keycode, as its clients see
// them.
func mapping(t *testing.T, display string) map[int][]uint32 {
	t.Helper()
	out, err := exec.Command("xmodmap", "-display", display, "-pk").Output()
	if err != nil {
		t.Fatalf("xmodmap: %v; is the package x11-xserver-utils installed?", err)
	}
	line, column := regexp.MustCompile(`(?m)^ +(\d+) +\t(.*)$`), regexp.MustCompile(`0x([0-9a-f]+) \(`)
	m := map[int][]uint32{}
	for _, l := range line.FindAllStringSubmatch(string(out), -1) {
		code, err := strconv.Atoi(l[1])
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range column.FindAllStringSubmatch(l[2], -1) {
			keysym, err := strconv.ParseUint(c[1], 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			m[code] = append(m[code], uint32(keysym))
		}
	}
	return m
}

// Each character of each layout is where the table says on a real X server
// with that layout, at that level.
func TestLayoutsOnX(t *testing.T) {
	server := xvfbtest.Start(t, "64x64x24")
	for _, layout := range Layouts() {
		out, err := exec.Command("setxkbmap", "-display", server.Display, "-rules", "evdev", "-model", "pc105", "-layout", layout).CombinedOutput()
		if err != nil {
			t.Fatalf("setxkbmap: %v: %s; is the package x11-xkb-utils installed?", err, out)
		}
		m := mapping(t, server.Display)
		// The core protocol has levels 1 and 2 of two groups first; levels 3
		// and 4 of the first group follow.
		column := [4]int{0, 1, 4, 5}
		at := func(p place) uint32 {
			code, _ := input.Evdev(p.usage)
			if all := m[int(code)+8]; column[p.level] < len(all) {
				return all[column[p.level]]
			}
			return 0
		}
		checked := 0
		check := func(c rune, p place) {
			checked++
			got := at(p)
			if slices.Contains(keysyms(c), got) {
				return
			}
			t.Errorf("%s: %q (U+%04X) is not at usage %#x level %d: keysym %#x is", layout, c, c, p.usage, p.level, got)
		}
		for c, p := range layouts[layout] {
			check(c, p)
		}
		for level, characters := range tables[layout] {
			for i, c := range []rune(characters) {
				if c != ' ' {
					check(c, place{keys[i], level})
				}
			}
		}
		if checked < 190 {
			t.Errorf("%s: only %d characters", layout, checked)
		}
		// And AltGr is the key that chooses level 3.
		if layout != "us" {
			const levelShift3 = 0xfe03
			if got := at(place{rightAlt, 0}); got != levelShift3 {
				t.Errorf("%s: keysym %#x on AltGr", layout, got)
			}
		}
	}
}

// What Type makes of dead keys is what the X library makes of them.
func TestDeadKeysAsCompose(t *testing.T) {
	f, err := os.Open("/usr/share/X11/locale/en_US.UTF-8/Compose")
	if err != nil {
		t.Fatalf("%v; is the package libx11-data installed?", err)
	}
	defer f.Close()
	names := map[string]rune{
		"dead_grave": '\u0300', "dead_acute": '\u0301', "dead_circumflex": '\u0302', "dead_tilde": '\u0303', "dead_macron": '\u0304',
		"dead_breve": '\u0306', "dead_abovedot": '\u0307', "dead_diaeresis": '\u0308', "dead_hook": '\u0309', "dead_abovering": '\u030a',
		"dead_doubleacute": '\u030b', "dead_caron": '\u030c', "dead_horn": '\u031b', "dead_belowdot": '\u0323', "dead_cedilla": '\u0327',
		"dead_ogonek": '\u0328', "dead_belowmacron": '\u0331', "space": ' ',
	}
	rule := regexp.MustCompile(`^<(\w+)> <(\w+)>\s*: ("(?:[^"\\]|\\.)*")`)
	composed := map[[2]rune]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		m := rule.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		second, known := names[m[2]]
		if len(m[2]) == 1 {
			second, known = rune(m[2][0]), true
		}
		text, err := strconv.Unquote(m[3])
		if first := names[m[1]]; first != 0 && known && err == nil {
			composed[[2]rune{first, second}] = text
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	for _, layout := range Layouts() {
		back := map[place]rune{}
		for c, p := range layouts[layout] {
			back[p] = c
		}
		n := 0
		for c := rune(0x20); c < 0x2000; c++ {
			places, ok := find(layouts[layout], c)
			if !ok || len(places) != 2 {
				continue
			}
			n++
			pair := [2]rune{back[places[0]], back[places[1]]}
			if composed[pair] != string(c) {
				t.Errorf("%s: %q is typed as %q, which X makes %q", layout, c, pair, composed[pair])
			}
		}
		if want := map[string]int{"us": 0, "de": 50, "fr": 50}[layout]; n < want {
			t.Errorf("%s: only %d characters by dead keys", layout, n)
		}
	}
}
