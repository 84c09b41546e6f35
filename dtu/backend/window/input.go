package window

import (
	"image"

	"github.com/BurntSushi/xgb"
	"github.com/BurntSushi/xgb/xproto"

	"hotdesk/dtu/backend"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/input"
)

// buttons are those of protocol/input by X button number.
var buttons = map[xproto.Button]byte{
	1: input.ButtonLeft, 2: input.ButtonMiddle, 3: input.ButtonRight, 8: input.ButtonBack, 9: input.ButtonForward,
}

// wheel has the notches right and down of the X buttons that are a wheel.
var wheel = map[xproto.Button][2]int{4: {0, -1}, 5: {0, 1}, 6: {-1, 0}, 7: {1, 0}}

// input tells h of a key, button, motion or focus event; o is the picture's
// top left corner in the window.
func (w *Window) input(e xgb.Event, h backend.Hands, o image.Point) {
	switch e := e.(type) {
	case xproto.KeyPressEvent:
		w.keys.press(e.Detail, e.Time, h)
	case xproto.KeyReleaseEvent:
		w.keys.release(e.Detail, e.Time, h)
	case xproto.MotionNotifyEvent:
		w.point(e.EventX, e.EventY, o, h)
	case xproto.ButtonPressEvent:
		if turn, is := wheel[e.Detail]; is {
			h.Wheel(turn[0], turn[1])
			return
		}
		w.down |= buttons[e.Detail]
		w.point(e.EventX, e.EventY, o, h)
	case xproto.ButtonReleaseEvent:
		if _, is := wheel[e.Detail]; is {
			return
		}
		w.down &^= buttons[e.Detail]
		w.point(e.EventX, e.EventY, o, h)
	case xproto.FocusOutEvent:
		// Keys let go while a window manager has grabbed the keyboard are not
		// told either, so that a grab counts. NotifyPointer is a focus that
		// followed the pointer elsewhere and never was ours.
		if e.Detail != xproto.NotifyDetailPointer {
			w.keys.forget()
			w.down = 0
			h.Release()
		}
	}
}

func (w *Window) point(x, y int16, o image.Point, h backend.Hands) {
	clamp := func(v int) int { return min(max(v, 0), alp.MaxSide-1) }
	h.Pointer(clamp(int(x)-o.X), clamp(int(y)-o.Y), w.down)
}

// A keyboard tells real strokes from the X server's repeats. A repeat is a
// release and a press of one time, made at once by the X server. So a release
// waits for the mark that is sent to ourselves through the X server: what has
// not come before it does not come.
type keyboard struct {
	mark    func(serial uint32) // sends one
	held    [256]bool
	pending xproto.Keycode // released, and its mark has not come; 0 is none
	at      xproto.Timestamp
	serial  uint32 // of its mark
}

func (k *keyboard) tell(code xproto.Keycode, down bool, h backend.Hands) {
	if usage, ok := input.Usage(uint16(code) - 8); ok && k.held[code] != down {
		k.held[code] = down
		h.Key(usage, down)
	}
}

func (k *keyboard) release(code xproto.Keycode, at xproto.Timestamp, h backend.Hands) {
	k.settle(h)
	if !k.held[code] {
		return // pressed elsewhere: a press that comes now is no repeat
	}
	k.serial++
	k.pending, k.at = code, at
	k.mark(k.serial)
}

func (k *keyboard) press(code xproto.Keycode, at xproto.Timestamp, h backend.Hands) {
	if k.pending == code && k.at == at {
		k.pending = 0 // a repeat
		return
	}
	k.settle(h)
	k.tell(code, true, h)
}

// marked hears of a mark that has come back.
func (k *keyboard) marked(serial uint32, h backend.Hands) {
	if serial == k.serial {
		k.settle(h)
	}
}

// settle lets go of the key that turned out not to repeat.
func (k *keyboard) settle(h backend.Hands) {
	if k.pending != 0 {
		k.tell(k.pending, false, h)
		k.pending = 0
	}
}

// forget takes all keys for up; who looks on has been told.
func (k *keyboard) forget() {
	k.held = [256]bool{}
	k.pending = 0
}
