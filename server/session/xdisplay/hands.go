package xdisplay

import (
	"image"
	"math/bits"
	"sync"

	"github.com/BurntSushi/xgb/xproto"
	"github.com/BurntSushi/xgb/xtest"

	"hotdesk/protocol/input"
)

// hands is what the person at the terminal holds and where they point.
type hands struct {
	sync.Mutex
	keys    [256]bool   // X key codes that are down
	buttons byte        // of protocol/input that are down
	at      image.Point // where the pointer was put, or last seen
	known   bool        // at counts
}

// evdevOffset is between Linux key codes and X key codes under the rules
// "evdev", which SetLayout sees to.
const evdevOffset = 8

// buttons are the X buttons of protocol/input's bits, from bit 0.
var buttons = [...]byte{1, 2, 3, 8, 9}

// X buttons that a notch of the wheel clicks.
const (
	wheelUp    = 4
	wheelDown  = 5
	wheelLeft  = 6
	wheelRight = 7
)

func (d *Display) fake(kind, detail byte, x, y int) {
	xtest.FakeInput(d.conn, kind, detail, 0, d.root, int16(x), int16(y), 0)
}

// Key presses a key or lets it go. While it is down, the X server repeats it.
// A key that is as asked already, or that X has no code for, changes nothing.
func (d *Display) Key(usage uint16, down bool) {
	code, ok := input.Evdev(usage)
	if !ok || code+evdevOffset > 255 {
		return
	}
	key := byte(code + evdevOffset)
	d.layout.Lock() // not between two maps
	defer d.layout.Unlock()
	h := &d.hands
	h.Lock()
	defer h.Unlock()
	if h.keys[key] == down {
		return
	}
	h.keys[key] = down
	if down {
		d.fake(xproto.KeyPress, key, 0, 0)
	} else {
		d.fake(xproto.KeyRelease, key, 0, 0)
	}
}

// Pointer puts the pointer somewhere and makes the buttons be as given. Places
// off the screen are those at its edge.
func (d *Display) Pointer(x, y int, buttons byte) {
	d.screen.Lock()
	size := d.screen.size
	d.screen.Unlock()
	p := image.Pt(min(max(x, 0), size.X-1), min(max(y, 0), size.Y-1))
	h := &d.hands
	h.Lock()
	defer h.Unlock()
	// The motion goes before a button even where it says nothing new: the person
	// clicks on what they see, wherever a program has moved the pointer since.
	h.at, h.known = p, true
	d.fake(xproto.MotionNotify, 0, p.X, p.Y)
	d.press(buttons)
}

// press makes the buttons be as given. hands is locked.
func (d *Display) press(now byte) {
	now &= 1<<len(buttons) - 1
	for diff := now ^ d.hands.buttons; diff != 0; diff &= diff - 1 {
		i := bits.TrailingZeros8(diff)
		if now&(1<<i) != 0 {
			d.fake(xproto.ButtonPress, buttons[i], 0, 0)
		} else {
			d.fake(xproto.ButtonRelease, buttons[i], 0, 0)
		}
	}
	d.hands.buttons = now
}

// Wheel turns by notches right and down; negative is left and up.
func (d *Display) Wheel(right, down int) {
	d.click(down, wheelDown, wheelUp)
	d.click(right, wheelRight, wheelLeft)
}

func (d *Display) click(n int, positive, negative byte) {
	button := positive
	if n < 0 {
		n, button = -n, negative
	}
	for range min(n, input.MaxWheel) {
		d.fake(xproto.ButtonPress, button, 0, 0)
		d.fake(xproto.ButtonRelease, button, 0, 0)
	}
}

// Release lets go of every key and button that was pressed here.
func (d *Display) Release() {
	h := &d.hands
	h.Lock()
	defer h.Unlock()
	d.press(0)
	for key, down := range h.keys {
		if down {
			d.fake(xproto.KeyRelease, byte(key), 0, 0)
			h.keys[key] = false
		}
	}
}

// releaseLeft lets go of what a media process that was killed left down: the
// X server would repeat it for ever.
func (d *Display) releaseLeft() error {
	keys := xproto.QueryKeymap(d.conn)
	pointer := xproto.QueryPointer(d.conn, d.root)
	k, err := keys.Reply()
	if err != nil {
		return err
	}
	p, err := pointer.Reply()
	if err != nil {
		return err
	}
	for key := range 256 {
		if k.Keys[key/8]&(1<<(key%8)) != 0 {
			d.fake(xproto.KeyRelease, byte(key), 0, 0)
		}
	}
	// The mask tells of the first five alone; letting go of one that is up is
	// nothing.
	for _, b := range buttons {
		if b > 5 || p.Mask&(xproto.KeyButMaskButton1<<(b-1)) != 0 {
			d.fake(xproto.ButtonRelease, b, 0, 0)
		}
	}
	return nil
}

// A pointerQuestion is a QueryPointer under way.
type pointerQuestion struct {
	cookie xproto.QueryPointerCookie
	put    image.Point // where we had put the pointer when we asked
	known  bool
}

// askPointer asks where the pointer is.
func (d *Display) askPointer() pointerQuestion {
	d.hands.Lock()
	defer d.hands.Unlock()
	return pointerQuestion{xproto.QueryPointer(d.conn, d.root), d.hands.at, d.hands.known}
}

// movedPointer returns where a program has moved the pointer since we last
// knew, or nil.
func (d *Display) movedPointer(q pointerQuestion) *image.Point {
	r, err := q.cookie.Reply()
	if err != nil {
		return nil
	}
	p := image.Pt(int(r.RootX), int(r.RootY))
	h := &d.hands
	h.Lock()
	defer h.Unlock()
	// Where the person has moved it since we asked, they are ahead.
	if p == q.put || h.at != q.put {
		return nil
	}
	h.at, h.known = p, true
	if !q.known {
		return nil
	}
	return &p
}
