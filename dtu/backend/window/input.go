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
		w.keys.release(e.Detail, e.Time, w.isDown(e.Detail), h)
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
			w.keys = keyboard{}
			w.down = 0
			h.Release()
		}
	}
}

func (w *Window) point(x, y int16, o image.Point, h backend.Hands) {
	clamp := func(v int) int { return min(max(v, 0), alp.MaxSide-1) }
	h.Pointer(clamp(int(x)-o.X), clamp(int(y)-o.Y), w.down)
}

// isDown asks the X server whether a key is down after its release was told.
func (w *Window) isDown(k xproto.Keycode) (down bool) {
	w.wait(func() {
		if r, err := xproto.QueryKeymap(w.x).Reply(); err == nil {
			down = r.Keys[k/8]&(1<<(k%8)) != 0
		}
	})
	return down
}

// A keyboard tells real strokes from the X server's repeats.
type keyboard struct {
	held    [256]bool
	pending xproto.Keycode // released, but the server has it down again; 0 is none
	at      xproto.Timestamp
}

func (k *keyboard) tell(code xproto.Keycode, down bool, h backend.Hands) {
	if usage, ok := input.Usage(uint16(code) - 8); ok && k.held[code] != down {
		k.held[code] = down
		h.Key(usage, down)
	}
}

// release hears of a release. stillDown says that the server's key map has the
// key down now: it repeats, or has been pressed again already; either way a
// press follows, whose time tells.
func (k *keyboard) release(code xproto.Keycode, at xproto.Timestamp, stillDown bool, h backend.Hands) {
	k.settle(h)
	if stillDown {
		k.pending, k.at = code, at
		return
	}
	k.tell(code, false, h)
}

func (k *keyboard) press(code xproto.Keycode, at xproto.Timestamp, h backend.Hands) {
	if k.pending == code && k.at == at {
		k.pending = 0 // a repeat
		return
	}
	k.settle(h)
	k.tell(code, true, h)
}

// settle lets go of the key that turned out not to repeat.
func (k *keyboard) settle(h backend.Hands) {
	if k.pending != 0 {
		k.tell(k.pending, false, h)
		k.pending = 0
	}
}
