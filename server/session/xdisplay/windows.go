package xdisplay

import (
	"encoding/binary"
	"image"
	"sync"

	"github.com/BurntSushi/xgb/xproto"
)

const (
	// maxWindows bounds the windows whose places are known.
	maxWindows = 1024
	// maxMoved bounds the moves that one View tells.
	maxMoved = 4
)

// windows knows where the windows on the root are: with a window manager those
// are its frames. How they move is a hint for the encoder, and nothing else.
type windows struct {
	sync.Mutex
	at    map[xproto.Window]image.Point
	moved []image.Point // since the last View
}

// event takes what the X server says of a window, and reports whether it did.
func (w *windows) event(m []byte) bool {
	at := func(i int) int { return int(int16(binary.LittleEndian.Uint16(m[i:]))) }
	id := xproto.Window(binary.LittleEndian.Uint32(m[8:]))
	w.Lock()
	defer w.Unlock()
	switch m[0] {
	case xproto.CreateNotify:
		w.put(id, image.Pt(at(12), at(14)))
	case xproto.ConfigureNotify:
		w.put(id, image.Pt(at(16), at(18)))
	case xproto.DestroyNotify:
		delete(w.at, id)
	default:
		return false
	}
	return true
}

// since appends the moves since the last View to b.
func (w *windows) since(b []image.Point) []image.Point {
	w.Lock()
	defer w.Unlock()
	return append(b, w.moved...)
}

// shown forgets the first n moves.
func (w *windows) shown(n int) {
	w.Lock()
	defer w.Unlock()
	w.moved = w.moved[:copy(w.moved, w.moved[n:])]
}

// put says where a window is now. w is locked.
func (w *windows) put(id xproto.Window, p image.Point) {
	old, known := w.at[id]
	switch {
	case known && p != old && len(w.moved) < maxMoved:
		w.moved = append(w.moved, p.Sub(old))
	case known:
	case len(w.at) >= maxWindows:
		return
	case w.at == nil:
		w.at = map[xproto.Window]image.Point{}
	}
	w.at[id] = p
}
