package screen

import (
	"image"
	"slices"

	"hotdesk/dtu/backend"
)

// maxRects bounds a region's rectangles; more are merged.
const maxRects = 32

// A region is rectangles that cover all that was added, and perhaps more.
type region []image.Rectangle

func (g *region) add(r image.Rectangle) {
	best, least := -1, 0
	for i, q := range *g {
		u := q.Union(r)
		waste := area(u) - area(q) - area(r)
		if u == q {
			return
		}
		if best < 0 || waste < least {
			best, least = i, waste
		}
	}
	if best < 0 || least > 0 && len(*g) < maxRects {
		*g = append(*g, r)
		return
	}
	(*g)[best] = (*g)[best].Union(r)
}

// touches reports whether r may overlap what was added.
func (g region) touches(r image.Rectangle) bool {
	return slices.ContainsFunc(g, r.Overlaps)
}

func area(r image.Rectangle) int { return r.Dx() * r.Dy() }

// A watch is one display's.
type watch struct {
	s     *Screen
	wake  chan struct{}
	rects region // guarded by s.mu
	each  func() // not nil: instead of the others
}

// tell takes in a change. s.mu is held.
func (w *watch) tell(r image.Rectangle) {
	if w.each != nil {
		w.each()
		return
	}
	w.rects.add(r)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Each calls f after every single change till stop is called, and nothing is
// drawn before f returns: for tests that must miss no frame. f reads pixels as
// with Screen.Read, by what it is given; it must not call the Screen.
func (s *Screen) Each(f func(read func(r image.Rectangle, pix []byte, stride int))) (stop func()) {
	w := &watch{s: s}
	w.each = func() {
		f(func(r image.Rectangle, pix []byte, stride int) {
			if r.In(s.bounds()) {
				s.read(r, pix, stride)
			}
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watches = append(s.watches, w)
	return w.Close
}

// Watch returns a new watch, which begins with the whole screen changed.
func (s *Screen) Watch() backend.Watch {
	w := &watch{s: s, wake: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watches = append(s.watches, w)
	w.rects.add(s.bounds())
	w.wake <- struct{}{}
	return w
}

// Changed has something to receive after a change.
func (w *watch) Changed() <-chan struct{} { return w.wake }

// Take returns the rectangles that changed since the last Take.
func (w *watch) Take() []image.Rectangle {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	var rects []image.Rectangle
	for _, r := range w.rects {
		// The screen may have become smaller since.
		if r = r.Intersect(w.s.bounds()); !r.Empty() {
			rects = append(rects, r)
		}
	}
	w.rects = w.rects[:0]
	return rects
}

// Close ends the watch.
func (w *watch) Close() {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.watches = slices.DeleteFunc(w.s.watches, func(o *watch) bool { return o == w })
}
