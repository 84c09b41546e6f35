package xdisplay

import (
	"image"

	"github.com/BurntSushi/xgb"
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
	at    map[xproto.Window]image.Point
	moved []image.Point // since the last View
}

// event takes what the X server says of a window.
func (w *windows) event(ev xgb.Event) {
	switch ev := ev.(type) {
	case xproto.CreateNotifyEvent:
		w.put(ev.Window, image.Pt(int(ev.X), int(ev.Y)))
	case xproto.ConfigureNotifyEvent:
		w.put(ev.Window, image.Pt(int(ev.X), int(ev.Y)))
	case xproto.DestroyNotifyEvent:
		delete(w.at, ev.Window)
	}
}

// put says where a window is now.
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
