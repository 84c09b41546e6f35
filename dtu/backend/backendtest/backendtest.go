// Package backendtest has a Picture to show and Hands that write down what
// they are told, for tests of displays.
//
// Source: package backend, whose contract it keeps.
//
// Safe for concurrent use. Limit: a test that lets more than EventsKept events
// lie unread panics.
package backendtest

import (
	"fmt"
	"image"
	"image/color"
	"slices"
	"sync"

	"hotdesk/dtu/backend"
)

// A Picture is a screen that a test paints.
type Picture struct {
	mu      sync.Mutex
	w, h    int
	pix     []byte
	watches map[*watch]bool
}

// NewPicture returns a black screen.
func NewPicture(w, h int) *Picture {
	return &Picture{w: w, h: h, pix: make([]byte, w*h*4), watches: map[*watch]bool{}}
}

// Fill paints a rectangle.
func (p *Picture) Fill(r image.Rectangle, c color.RGBA) {
	p.Draw(r, image.NewUniform(c))
}

// Draw paints m's pixels of r.
func (p *Picture) Draw(r image.Rectangle, m image.Image) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r = r.Intersect(image.Rect(0, 0, p.w, p.h))
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			c := color.RGBAModel.Convert(m.At(x, y)).(color.RGBA)
			copy(p.pix[(y*p.w+x)*4:], []byte{c.B, c.G, c.R, 0x5a}) // the fourth byte counts for nothing
		}
	}
	p.changed(r)
}

// Resize makes the screen black and of another size.
func (p *Picture) Resize(w, h int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.w, p.h, p.pix = w, h, make([]byte, w*h*4)
	p.changed(image.Rect(0, 0, w, h))
}

func (p *Picture) changed(r image.Rectangle) {
	for w := range p.watches {
		w.rects = append(w.rects, r)
		select {
		case w.c <- struct{}{}:
		default:
		}
	}
}

// Size is the screen's size.
func (p *Picture) Size() (w, h int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.w, p.h
}

// Read copies pixels, B G R X.
func (p *Picture) Read(r image.Rectangle, pix []byte, stride int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := r.Intersect(image.Rect(0, 0, p.w, p.h))
	for y := c.Min.Y; y < c.Max.Y; y++ {
		copy(pix[(y-r.Min.Y)*stride+(c.Min.X-r.Min.X)*4:], p.pix[(y*p.w+c.Min.X)*4:(y*p.w+c.Max.X)*4])
	}
}

// Watch begins with everything changed.
func (p *Picture) Watch() backend.Watch {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &watch{p: p, c: make(chan struct{}, 1), rects: []image.Rectangle{image.Rect(0, 0, p.w, p.h)}}
	w.c <- struct{}{}
	p.watches[w] = true
	return w
}

// Watched is the number of watches that are not closed.
func (p *Picture) Watched() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.watches)
}

type watch struct {
	p     *Picture
	c     chan struct{}
	rects []image.Rectangle
}

func (w *watch) Changed() <-chan struct{} { return w.c }

func (w *watch) Take() []image.Rectangle {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	rects := w.rects
	w.rects = nil
	return rects
}

func (w *watch) Close() {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	delete(w.p.watches, w)
}

// EventsKept is how many events wait for the test.
const EventsKept = 10000

// Hands write down each call as a line: "key 0x04 down", "pointer 3,4 1",
// "wheel 0,-1", "release", "resize 640x480", "insert ada", "remove", "power".
type Hands struct {
	Events chan string

	mu    sync.Mutex
	cards []backend.CardInfo
}

// NewHands has these cards, none of them in.
func NewHands(cards ...string) *Hands {
	h := &Hands{Events: make(chan string, EventsKept)}
	for _, c := range cards {
		h.cards = append(h.cards, backend.CardInfo{Name: c})
	}
	return h
}

func (h *Hands) note(format string, a ...any) {
	select {
	case h.Events <- fmt.Sprintf(format, a...):
	default:
		panic("backendtest: nobody reads the events")
	}
}

// Key notes a key.
func (h *Hands) Key(usage uint16, down bool) {
	if down {
		h.note("key %#02x down", usage)
	} else {
		h.note("key %#02x up", usage)
	}
}

// Pointer notes where the pointer is.
func (h *Hands) Pointer(x, y int, buttons byte) { h.note("pointer %d,%d %d", x, y, buttons) }

// Wheel notes notches.
func (h *Hands) Wheel(right, down int) { h.note("wheel %d,%d", right, down) }

// Release notes that the focus was lost.
func (h *Hands) Release() { h.note("release") }

// Resize notes a size.
func (h *Hands) Resize(width, height int) { h.note("resize %dx%d", width, height) }

// PowerCycle notes the button.
func (h *Hands) PowerCycle() { h.note("power") }

// Cards lists the cards.
func (h *Hands) Cards() []backend.CardInfo {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.cards)
}

// Insert puts a card in, instead of one that is in.
func (h *Hands) Insert(card string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.ContainsFunc(h.cards, func(c backend.CardInfo) bool { return c.Name == card }) {
		return fmt.Errorf("backendtest: no card %q", card)
	}
	for i := range h.cards {
		h.cards[i].Inserted = h.cards[i].Name == card
	}
	h.note("insert %s", card)
	return nil
}

// Remove pulls the card that is in.
func (h *Hands) Remove() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.cards {
		if h.cards[i].Inserted {
			h.cards[i].Inserted = false
			h.note("remove")
			return nil
		}
	}
	return fmt.Errorf("backendtest: no card is in")
}
