package keymap

import (
	"fmt"
	"strings"
)

// named has the keys that a chord names by more than the character on a us
// keyboard.
var named = func() map[string]uint16 {
	m := map[string]uint16{
		"ctrl": 0xE0, "control": 0xE0, "shift": leftShift, "alt": 0xE2, "super": 0xE3, "meta": 0xE3,
		"rctrl": 0xE4, "rshift": 0xE5, "altgr": rightAlt, "ralt": rightAlt, "rsuper": 0xE7,
		"enter": 0x28, "return": 0x28, "esc": 0x29, "escape": 0x29, "backspace": 0x2A, "tab": 0x2B, "space": space,
		"plus": 0x2E, "capslock": 0x39, "print": 0x46, "scrolllock": 0x47, "pause": 0x48,
		"insert": 0x49, "home": 0x4A, "pageup": 0x4B, "delete": 0x4C, "end": 0x4D, "pagedown": 0x4E,
		"right": 0x4F, "left": 0x50, "down": 0x51, "up": 0x52,
		"numlock": 0x53, "kp/": 0x54, "kp*": 0x55, "kp-": 0x56, "kpplus": 0x57, "kpenter": 0x58, "kp0": 0x62, "kp.": 0x63,
		"102nd": 0x64, "menu": 0x65,
	}
	for i := range uint16(12) {
		m[fmt.Sprintf("f%d", 1+i)] = 0x3A + i
		m[fmt.Sprintf("f%d", 13+i)] = 0x68 + i
	}
	for i := range uint16(9) {
		m[fmt.Sprintf("kp%d", 1+i)] = 0x59 + i
	}
	return m
}()

// Key returns the usage of a key's name: a character as on a us keyboard
// without Shift, or a name such as ctrl, altgr, enter, f5, kp7, 102nd.
func Key(name string) (usage uint16, ok bool) {
	name = strings.ToLower(name)
	if u, ok := named[name]; ok {
		return u, true
	}
	if c := []rune(name); len(c) == 1 {
		if p, ok := layouts["us"][c[0]]; ok && p.level == 0 {
			return p.usage, true
		}
	}
	return 0, false
}

// Chord returns the strokes of keys pressed together, such as "ctrl+alt+t" or
// "enter". Keys are named by where they are on a us keyboard, whatever layout
// the session has.
func Chord(chord string) ([]Stroke, error) {
	var usages []uint16
	for name := range strings.SplitSeq(chord, "+") {
		u, ok := Key(name)
		if !ok {
			return nil, fmt.Errorf("keymap: no key %q in %q: a character without Shift, or a name such as ctrl, altgr, enter, f5, plus, kp7", name, chord)
		}
		usages = append(usages, u)
	}
	return press(nil, usages), nil
}
