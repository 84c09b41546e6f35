package input

import "testing"

func TestKeyCodes(t *testing.T) {
	// Codes as linux/input-event-codes.h names them.
	for _, k := range []struct {
		name        string
		usage, code uint16
	}{
		{"KEY_A", 0x04, 30}, {"KEY_M", 0x10, 50}, {"KEY_N", 0x11, 49}, {"KEY_Z", 0x1D, 44},
		{"KEY_1", 0x1E, 2}, {"KEY_0", 0x27, 11}, {"KEY_ENTER", 0x28, 28}, {"KEY_SPACE", 0x2C, 57},
		{"KEY_BACKSLASH", 0x31, 43}, {"KEY_GRAVE", 0x35, 41}, {"KEY_SLASH", 0x38, 53},
		{"KEY_CAPSLOCK", 0x39, 58}, {"KEY_F1", 0x3A, 59}, {"KEY_F10", 0x43, 68}, {"KEY_F11", 0x44, 87},
		{"KEY_F12", 0x45, 88}, {"KEY_SYSRQ", 0x46, 99}, {"KEY_PAUSE", 0x48, 119}, {"KEY_PAGEDOWN", 0x4E, 109},
		{"KEY_RIGHT", 0x4F, 106}, {"KEY_UP", 0x52, 103}, {"KEY_NUMLOCK", 0x53, 69}, {"KEY_KPENTER", 0x58, 96},
		{"KEY_KP1", 0x59, 79}, {"KEY_KP0", 0x62, 82}, {"KEY_KPDOT", 0x63, 83}, {"KEY_102ND", 0x64, 86},
		{"KEY_COMPOSE", 0x65, 127}, {"KEY_F13", 0x68, 183}, {"KEY_F24", 0x73, 194}, {"KEY_FIND", 0x7E, 136},
		{"KEY_MUTE", 0x7F, 113}, {"KEY_VOLUMEDOWN", 0x81, 114}, {"KEY_RO", 0x87, 89}, {"KEY_YEN", 0x89, 124},
		{"KEY_MUHENKAN", 0x8B, 94}, {"KEY_HANGEUL", 0x90, 122}, {"KEY_ZENKAKUHANKAKU", 0x94, 85},
		{"KEY_LEFTCTRL", 0xE0, 29}, {"KEY_LEFTMETA", 0xE3, 125}, {"KEY_RIGHTCTRL", 0xE4, 97}, {"KEY_RIGHTALT", 0xE6, 100},
		{"KEY_RIGHTMETA", 0xE7, 126},
	} {
		if code, ok := Evdev(k.usage); !ok || code != k.code {
			t.Errorf("Evdev(%#x) = %d, %v; want %s %d", k.usage, code, ok, k.name, k.code)
		}
		if usage, ok := Usage(k.code); !ok || usage != k.usage {
			t.Errorf("Usage(%s) = %#x, %v; want %#x", k.name, usage, ok, k.usage)
		}
	}
	// Two usages share a code: the ISO key and Clear come back as their twins.
	for usage, twin := range map[uint16]uint16{0x32: 0x31, 0x9C: 0x4C} {
		code, ok := Evdev(usage)
		if back, _ := Usage(code); !ok || back != twin {
			t.Errorf("usage %#x comes back as %#x, want %#x", usage, back, twin)
		}
	}
	for _, usage := range []uint16{0, 1, 3, 0x82, 0xA0, 0xDF, 0xE8, 0xFFFF} {
		if code, ok := Evdev(usage); ok {
			t.Errorf("Evdev(%#x) = %d, want none", usage, code)
		}
	}
	for _, code := range []uint16{0, 84, 255, 256, 0xFFFF} {
		if usage, ok := Usage(code); ok {
			t.Errorf("Usage(%d) = %#x, want none", code, usage)
		}
	}
}

// Every usage that has a code comes back from it as itself or as the lower one
// of its pair, and every code is within what an X keycode can carry.
func TestKeyCodesRoundTrip(t *testing.T) {
	keys := 0
	for usage := range uint16(0x200) {
		code, ok := Evdev(usage)
		if !ok {
			continue
		}
		keys++
		back, ok := Usage(code)
		if again, _ := Evdev(back); !ok || back > usage || again != code || code+8 > 255 {
			t.Errorf("usage %#x, code %d, usage %#x, code %d", usage, code, back, again)
		}
	}
	if keys < 104 {
		t.Errorf("%d keys", keys)
	}
}
