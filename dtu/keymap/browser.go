package keymap

import (
	"encoding/json"
	"fmt"
	"maps"
)

// codes has the KeyboardEvent.code of each key, by usage.
var codes = func() map[string]uint16 {
	m := map[string]uint16{
		"Digit0": 0x27, "Enter": 0x28, "Escape": 0x29, "Backspace": 0x2A, "Tab": 0x2B, "Space": 0x2C,
		"Minus": 0x2D, "Equal": 0x2E, "BracketLeft": 0x2F, "BracketRight": 0x30, "Backslash": 0x31, "IntlHash": 0x32,
		"Semicolon": 0x33, "Quote": 0x34, "Backquote": 0x35, "Comma": 0x36, "Period": 0x37, "Slash": 0x38,
		"CapsLock": 0x39, "PrintScreen": 0x46, "ScrollLock": 0x47, "Pause": 0x48,
		"Insert": 0x49, "Home": 0x4A, "PageUp": 0x4B, "Delete": 0x4C, "End": 0x4D, "PageDown": 0x4E,
		"ArrowRight": 0x4F, "ArrowLeft": 0x50, "ArrowDown": 0x51, "ArrowUp": 0x52,
		"NumLock": 0x53, "NumpadDivide": 0x54, "NumpadMultiply": 0x55, "NumpadSubtract": 0x56, "NumpadAdd": 0x57,
		"NumpadEnter": 0x58, "Numpad0": 0x62, "NumpadDecimal": 0x63,
		"IntlBackslash": 0x64, "ContextMenu": 0x65, "Power": 0x66, "NumpadEqual": 0x67,
		"Open": 0x74, "Help": 0x75, "Props": 0x76, "Select": 0x77, "Again": 0x79, "Undo": 0x7A,
		"Cut": 0x7B, "Copy": 0x7C, "Paste": 0x7D, "Find": 0x7E,
		"AudioVolumeMute": 0x7F, "AudioVolumeUp": 0x80, "AudioVolumeDown": 0x81,
		"VolumeMute": 0x7F, "VolumeUp": 0x80, "VolumeDown": 0x81, // older Firefox
		"NumpadComma": 0x85, "IntlRo": 0x87, "KanaMode": 0x88, "IntlYen": 0x89, "Convert": 0x8A, "NonConvert": 0x8B,
		"Lang1": 0x90, "Lang2": 0x91, "Lang3": 0x92, "Lang4": 0x93, "Lang5": 0x94,
		"NumpadParenLeft": 0xB6, "NumpadParenRight": 0xB7,
		"ControlLeft": 0xE0, "ShiftLeft": 0xE1, "AltLeft": 0xE2, "MetaLeft": 0xE3,
		"ControlRight": 0xE4, "ShiftRight": 0xE5, "AltRight": 0xE6, "MetaRight": 0xE7,
		"OSLeft": 0xE3, "OSRight": 0xE7, // older Firefox
	}
	for i := range uint16(26) {
		m["Key"+string(rune('A'+i))] = 0x04 + i
	}
	for i := range uint16(9) {
		m[fmt.Sprintf("Digit%d", 1+i)] = 0x1E + i
		m[fmt.Sprintf("Numpad%d", 1+i)] = 0x59 + i
	}
	for i := range uint16(12) {
		m[fmt.Sprintf("F%d", 1+i)] = 0x3A + i
		m[fmt.Sprintf("F%d", 13+i)] = 0x68 + i
	}
	return m
}()

// Codes returns the usage of each KeyboardEvent.code that browsers have.
func Codes() map[string]uint16 { return maps.Clone(codes) }

// CodesJSON returns Codes as a JSON object, for a page.
func CodesJSON() []byte {
	b, err := json.Marshal(codes)
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	return b
}
