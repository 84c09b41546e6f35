// Package attachtest is a screen and an input in memory, for tests of media
// connections.
//
// Source: the interfaces encode.Source and attach.Sink.
//
// Invariants: a Sink's events are in the order of its calls, none is lost.
//
// Both types are safe for concurrent use. Limits: none.
package attachtest

import (
	"fmt"
	"image"
	"sync"

	"hotdesk/protocol/draw"
	"hotdesk/server/session/encode"
)

// A Source is a picture that a test changes.
type Source struct {
	changed chan struct{}

	mu      sync.Mutex
	picture *draw.Pixmap
	damage  []image.Rectangle
	views   int
}

// NewSource returns a black picture.
func NewSource(w, h int) *Source {
	return &Source{changed: make(chan struct{}, 1), picture: draw.NewPixmap(w, h)}
}

// Changed implements encode.Source.
func (s *Source) Changed() <-chan struct{} { return s.changed }

// View implements encode.Source.
func (s *Source) View(f func(encode.View)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.views++
	f(encode.View{Picture: s.picture, Damage: s.damage})
	s.damage = nil
}

// Views is how often the picture was looked at.
func (s *Source) Views() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.views
}

// Change lets f draw within r.
func (s *Source) Change(r image.Rectangle, f func(*draw.Pixmap)) {
	s.mu.Lock()
	f(s.picture)
	s.damage = append(s.damage, r)
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Dot sets one pixel's blue.
func (s *Source) Dot(x, y int, blue byte) {
	s.Change(image.Rect(x, y, x+1, y+1), func(p *draw.Pixmap) { p.Row(y, x, x+1)[0] = blue })
}

// A Sink remembers what it was told.
type Sink struct {
	mu     sync.Mutex
	events []string
	more   chan struct{}
}

// NewSink returns an empty one.
func NewSink() *Sink { return &Sink{more: make(chan struct{}, 1)} }

// Next waits for the next event and takes it.
func (s *Sink) Next() string {
	for {
		s.mu.Lock()
		if len(s.events) > 0 {
			e := s.events[0]
			s.events = s.events[1:]
			s.mu.Unlock()
			return e
		}
		s.mu.Unlock()
		<-s.more
	}
}

// Pending takes all events that are there.
func (s *Sink) Pending() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.events
	s.events = nil
	return e
}

func (s *Sink) add(format string, v ...any) {
	s.mu.Lock()
	s.events = append(s.events, fmt.Sprintf(format, v...))
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// Key implements attach.Sink.
func (s *Sink) Key(usage uint16, down bool) { s.add("key %d %v", usage, down) }

// Pointer implements attach.Sink.
func (s *Sink) Pointer(x, y int, buttons byte) { s.add("pointer %d %d %d", x, y, buttons) }

// Wheel implements attach.Sink.
func (s *Sink) Wheel(right, down int) { s.add("wheel %d %d", right, down) }

// Release implements attach.Sink.
func (s *Sink) Release() { s.add("release") }

// Hold implements attach.Sink: nothing is kept.
func (s *Sink) Hold(bool) {}

// Resize implements attach.Sink.
func (s *Sink) Resize(w, h int) { s.add("resize %d %d", w, h) }
