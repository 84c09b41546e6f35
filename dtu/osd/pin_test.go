package osd

import (
	"image"
	"testing"
)

// The places of a PIN are on the screen, whatever its size, and one that was
// typed looks different.
func TestPlaces(t *testing.T) {
	m := Message{Code: 8, Title: "Wrong PIN: 1 try left", Text: "If the next PIN is wrong too, the card is blocked.",
		Terminal: "080020c0ffee", Addr: "10.0.0.17", Server: "10.0.0.2:7443", Places: 8}
	for _, size := range []image.Point{{160, 120}, {320, 240}, {640, 480}, {1280, 1024}, {2560, 1600}} {
		c, ok := fit(size.X, size.Y, m)
		if !ok || len(c.places) != 8 && size.X > 160 {
			t.Errorf("%v: %d places", size, len(c.places))
		}
		for _, q := range c.places {
			if !q.at.In(image.Rectangle{Max: c.size}) {
				t.Errorf("%v: the place %v is off the card of %v", size, q.at, c.size)
			}
		}
		one := m
		one.Typed = 1
		if size.X > 160 && string(Draw(size.X, size.Y, m).Pix) == string(Draw(size.X, size.Y, one).Pix) {
			t.Errorf("%v: a digit cannot be seen", size)
		}
	}
}
