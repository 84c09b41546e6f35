package app

import (
	"sync"

	"hotdesk/dtu/terminal"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/input"
)

// USB HID usages of the hot keys.
const (
	usageHome      = 0x4a
	usageEnd       = 0x4d
	usageLeftCtrl  = 0xe0
	usageLeftAlt   = 0xe2
	usageRightCtrl = 0xe4
	usageRightAlt  = 0xe6
)

// hotkeys are keys whose chords are the terminal's, whatever shows its picture:
// Ctrl+Alt+Home asks for another session, Ctrl+Alt+End leaves the one that is
// shown. Its methods are safe for concurrent use.
type hotkeys struct {
	mu     sync.Mutex
	down   map[uint16]bool // of the modifiers
	hidden map[uint16]bool // keys of chords, that the session never saw go down
}

// key takes in a key, and reports whether it is the terminal's, and what is
// wished with it.
func (k *hotkeys) key(usage uint16, down bool) (ours bool, wish alp.Wish) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.down == nil {
		k.down, k.hidden = map[uint16]bool{}, map[uint16]bool{}
	}
	switch usage {
	case usageLeftCtrl, usageRightCtrl, usageLeftAlt, usageRightAlt:
		k.down[usage] = down
	case usageHome, usageEnd:
		switch {
		case !down && k.hidden[usage]:
			delete(k.hidden, usage)
			return true, ""
		case !down || !k.down[usageLeftCtrl] && !k.down[usageRightCtrl] || !k.down[usageLeftAlt] && !k.down[usageRightAlt]:
		case k.hidden[usage]: // repeated
			return true, ""
		case usage == usageHome:
			k.hidden[usage] = true
			return true, alp.WishSwitch
		default:
			k.hidden[usage] = true
			return true, alp.WishLeave
		}
	}
	return false, ""
}

// release forgets what is down.
func (k *hotkeys) release() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down, k.hidden = nil, nil
}

// hot takes a key that is the terminal's own.
func (h hands) hot(usage uint16, down bool) bool {
	ours, wish := h.s.hotkeys.key(usage, down)
	if wish != "" {
		h.s.log.Info("hot key", "wish", string(wish))
		h.send(input.Record{Type: input.Release}) // the session saw Ctrl and Alt go down
		h.s.fromHere(terminal.Wished{Wish: wish})
	}
	return ours
}
