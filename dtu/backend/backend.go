// Package backend is what a terminal needs of a display: somewhere to show its
// picture, and the hands of the person in front of it.
//
// Source: design section 6. Implementations are the sibling folders; package
// screen is the Picture and package app the Hands.
package backend

import (
	"context"
	"image"
)

// A Picture is the terminal's screen as a display sees it: the session's
// picture or the on-screen display, with the pointer drawn in. Safe for
// concurrent use.
type Picture interface {
	// Size is the terminal's screen size in pixels.
	Size() (w, h int)
	// Read copies the pixels of r, clipped to the screen, to pix: B G R X, rows
	// stride bytes apart, r's top left corner at pix[0].
	Read(r image.Rectangle, pix []byte, stride int)
	// Watch returns a new watch, which begins with the whole screen changed.
	Watch() Watch
}

// A Watch collects what has changed for one display. Take never blocks; what
// changes faster than the display takes is merged, nothing queues up.
type Watch interface {
	// Changed has something to receive after a change.
	Changed() <-chan struct{}
	// Take returns the rectangles that changed since the last Take.
	Take() []image.Rectangle
	// Close ends the watch.
	Close()
}

// CardInfo is an emulated card that the person has.
type CardInfo struct {
	Name     string `json:"name"`
	Inserted bool   `json:"inserted"`
}

// Hands are what a person can do at a terminal. Safe for concurrent use; calls
// return at once.
type Hands interface {
	// Key is a key pressed or let go, as HID usage. Displays tell real presses
	// only: repeating is the session's work.
	Key(usage uint16, down bool)
	// Pointer is where the pointer is, in pixels, and which buttons of
	// protocol/input are down.
	Pointer(x, y int, buttons byte)
	// Wheel is notches turned right and down.
	Wheel(right, down int)
	// Release lets go of every key and button: the display lost the focus.
	Release()
	// Resize says that the display has another size now.
	Resize(w, h int)
	// Cards lists the emulated cards.
	Cards() []CardInfo
	// Insert puts an emulated card in; one that is in comes out first.
	Insert(card string) error
	// Remove pulls the card out.
	Remove() error
	// PowerCycle turns the terminal off and on.
	PowerCycle()
}

// A Display shows a picture until ctx ends or the person closes it (nil).
type Display interface {
	Run(ctx context.Context, p Picture, h Hands) error
}
