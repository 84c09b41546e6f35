package vm

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Keys presses and releases keys together, by qemu's names joined with "+":
// "ctrl+alt+delete", "a", "ret".
func (m *Machine) Keys(ctx context.Context, chord string) error {
	var down, up []dict
	for name := range strings.SplitSeq(chord, "+") {
		down = append(down, key(name, true))
		up = append([]dict{key(name, false)}, up...)
	}
	if err := m.input(ctx, down); err != nil {
		return err
	}
	return m.input(ctx, up)
}

// Key presses or releases one key.
func (m *Machine) Key(ctx context.Context, name string, down bool) error {
	return m.input(ctx, []dict{key(name, down)})
}

func key(name string, down bool) dict {
	return dict{"type": "key", "data": dict{"down": down, "key": dict{"type": "qcode", "data": name}}}
}

// strokePause passes between key strokes: qemu's keyboard keeps sixteen events
// for its driver and drops what comes when they are full.
const strokePause = 30 * time.Millisecond

// Type types text as on an American keyboard, as fast as a very fast person.
func (m *Machine) Type(ctx context.Context, text string) error {
	pause := time.NewTicker(strokePause)
	defer pause.Stop()
	for _, r := range text {
		chord, ok := chords[r]
		if !ok {
			return fmt.Errorf("vm: no key for %q", r)
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := m.Keys(ctx, chord); err != nil {
			return err
		}
	}
	return nil
}

// chords are the keys of an American keyboard.
var chords = func() map[rune]string {
	t := map[rune]string{' ': "spc", '\n': "ret", '\t': "tab", '\b': "backspace"}
	for r := 'a'; r <= 'z'; r++ {
		t[r], t[r-'a'+'A'] = string(r), "shift+"+string(r)
	}
	for i, r := range ")!@#$%^&*(" {
		t['0'+rune(i)], t[r] = string('0'+rune(i)), "shift+"+string('0'+rune(i))
	}
	for _, k := range []struct {
		plain, shifted rune
		name           string
	}{
		{'-', '_', "minus"}, {'=', '+', "equal"}, {'[', '{', "bracket_left"}, {']', '}', "bracket_right"},
		{';', ':', "semicolon"}, {'\'', '"', "apostrophe"}, {'`', '~', "grave_accent"}, {'\\', '|', "backslash"},
		{',', '<', "comma"}, {'.', '>', "dot"}, {'/', '?', "slash"},
	} {
		t[k.plain], t[k.shifted] = k.name, "shift+"+k.name
	}
	return t
}()

// Point moves the tablet to a place on a screen of w by h pixels.
func (m *Machine) Point(ctx context.Context, x, y, w, h int) error {
	// qemu's tablet has 0x7fff steps each way.
	at := func(axis string, v, of int) dict {
		return dict{"type": "abs", "data": dict{"axis": axis, "value": (v*2 + 1) * 0x7fff / (of * 2)}}
	}
	return m.input(ctx, []dict{at("x", x, w), at("y", y, h)})
}

// Move moves the mouse by so much.
func (m *Machine) Move(ctx context.Context, dx, dy int) error {
	by := func(axis string, v int) dict {
		return dict{"type": "rel", "data": dict{"axis": axis, "value": v}}
	}
	return m.input(ctx, []dict{by("x", dx), by("y", dy)})
}

// Button presses or releases a button: left, middle, right, wheel-up,
// wheel-down.
func (m *Machine) Button(ctx context.Context, name string, down bool) error {
	return m.input(ctx, []dict{{"type": "btn", "data": dict{"down": down, "button": name}}})
}

func (m *Machine) input(ctx context.Context, events []dict) error {
	return m.QMP(ctx, "input-send-event", dict{"events": events}, nil)
}
