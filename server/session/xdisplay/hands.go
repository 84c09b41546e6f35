package xdisplay

import (
	"encoding/binary"
	"image"
	"math/bits"
	"sync"

	"github.com/BurntSushi/xgb/xproto"

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

// fake adds an input to what told sends.
func (d *Display) fake(kind, detail byte, x, y int) {
	a := d.asker
	a.mu.Lock()
	defer a.mu.Unlock()
	a.request(a.ops.xtest, xtestFakeInput, uint32(kind)|uint32(detail)<<8, 0, uint32(d.root), 0, 0, uint32(uint16(x))|uint32(uint16(y))<<16, 0, 0)
}

// told sends what was faked, unless more is to come.
func (d *Display) told() {
	a := d.asker
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.more {
		d.failed(a.flush())
	}
}

// Hold says whether more input comes at once. While it does the X server may hear
// of none; then it hears of all of it in one piece.
func (d *Display) Hold(more bool) {
	a := d.asker
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.more = more; !more {
		d.failed(a.flush())
	}
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
	d.told()
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
	d.told()
}

// press makes the buttons be as given, when that is told. hands is locked.
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
	d.told()
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
	d.told()
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
	d.told()
	return nil
}

// A pointerQuestion is a QueryPointer under way.
type pointerQuestion struct {
	seq   uint16
	put   image.Point // where we had put the pointer when we asked
	known bool
}

// askPointer asks where the pointer is. hands and the asker's mu are held.
func (d *Display) askPointer() pointerQuestion {
	return pointerQuestion{d.asker.request(opQueryPointer, 0, uint32(d.root)), d.hands.at, d.hands.known}
}

// movedPointer returns where a program has moved the pointer since we last
// knew, or nil. answer is that to q.
func (d *Display) movedPointer(q pointerQuestion, answer []byte) *image.Point {
	p := image.Pt(int(int16(binary.LittleEndian.Uint16(answer[16:]))), int(int16(binary.LittleEndian.Uint16(answer[18:]))))
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
