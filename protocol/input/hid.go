package input

// Keys travel as usages of the USB HID keyboard page; X servers on Linux and
// X11 windows name the same keys by Linux key codes (X keycode = code + 8).
// The table is hid_keyboard of the kernel's drivers/hid/hid-input.c with the
// names of linux/input-event-codes.h, so that a key is the same key whether
// the kernel, an X11 window or a browser tells of it.

// keyCodes is indexed by usage; 0 is no key.
var keyCodes = [MaxUsage + 1]byte{
	0x04: 30, 48, 46, 32, 18, 33, 34, 35, 23, 36, 37, 38, 50, // A to M
	0x11: 49, 24, 25, 16, 19, 31, 20, 22, 47, 17, 45, 21, 44, // N to Z
	0x1E: 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, // 1 to 0
	0x28: 28, 1, 14, 15, 57, // Enter, Esc, Backspace, Tab, Space
	0x2D: 12, 13, 26, 27, // - = [ ]
	0x31: 43,                     // \ of ANSI keyboards
	0x32: 43,                     // # of ISO keyboards: the same place, the same code
	0x33: 39, 40, 41, 51, 52, 53, // ; ' ` , . /
	0x39: 58,                                             // Caps Lock
	0x3A: 59, 60, 61, 62, 63, 64, 65, 66, 67, 68, 87, 88, // F1 to F12
	0x46: 99, 70, 119, // Print Screen, Scroll Lock, Pause
	0x49: 110, 102, 104, 111, 107, 109, // Insert, Home, Page Up, Delete, End, Page Down
	0x4F: 106, 105, 108, 103, // Right, Left, Down, Up
	0x53: 69,             // Num Lock
	0x54: 98, 55, 74, 78, // keypad / * - +
	0x58: 96,                                     // keypad Enter
	0x59: 79, 80, 81, 75, 76, 77, 71, 72, 73, 82, // keypad 1 to 0
	0x63: 83,                                                         // keypad .
	0x64: 86,                                                         // the 102nd key, left of Z
	0x65: 127,                                                        // Compose (Menu)
	0x66: 116,                                                        // Power
	0x67: 117,                                                        // keypad =
	0x68: 183, 184, 185, 186, 187, 188, 189, 190, 191, 192, 193, 194, // F13 to F24
	0x74: 134, 138, 130, 132, // Open (Execute), Help, Props (Menu), Front (Select)
	0x78: 128, 129, 131, 137, 133, 135, 136, // Stop, Again, Undo, Cut, Copy, Paste, Find
	0x7F: 113, 115, 114, // Mute, Volume Up, Volume Down
	0x85: 121,             // keypad ,
	0x87: 89, 93, 124, 92, // International 1 to 4: Ro, Katakana/Hiragana, Yen, Henkan
	0x8B: 94, 95, // International 5, 6: Muhenkan, keypad , of Japanese keyboards
	0x90: 122, 123, 90, 91, 85, // Language 1 to 5: Hangeul, Hanja, Katakana, Hiragana, Zenkaku/Hankaku
	0x9C: 111,      // Clear: Delete for the kernel
	0xB6: 179, 180, // keypad ( )
	0xE0: 29, 42, 56, 125, // left Ctrl, Shift, Alt, Meta
	0xE4: 97, 54, 100, 126, // right Ctrl, Shift, Alt, Meta
}

// usages is the inverse of keyCodes; of two usages with one code it has the
// lower.
var usages = func() (inverse [256]uint16) {
	for usage := len(keyCodes) - 1; usage > 0; usage-- {
		inverse[keyCodes[usage]] = uint16(usage)
	}
	inverse[0] = 0
	return inverse
}()

// Evdev returns the Linux key code of a usage of the keyboard page.
func Evdev(usage uint16) (code uint16, ok bool) {
	if int(usage) >= len(keyCodes) {
		return 0, false
	}
	code = uint16(keyCodes[usage])
	return code, code != 0
}

// Usage returns the usage of a Linux key code.
func Usage(evdev uint16) (usage uint16, ok bool) {
	if int(evdev) >= len(usages) {
		return 0, false
	}
	usage = usages[evdev]
	return usage, usage != 0
}
