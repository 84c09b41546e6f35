package greeter

import (
	"fmt"
	"image"
)

// MaxAnswers bounds the answers to a Question.
const MaxAnswers = 3

// USB HID usages that a question takes.
const (
	usageOne      = 0x1e // 1, and 2 and 3 after it
	usageReturn   = 0x28
	usageDown     = 0x51
	usageUp       = 0x52
	usagePadEnter = 0x58
	usagePadOne   = 0x59
)

// options is how many a screen has.
func (s Screen) answers() int {
	n := 0
	for n < MaxAnswers && s.Answers[n] != "" {
		n++
	}
	return n
}

// row is where option i of a question is on a picture of w by h.
func row(i, w, h int) image.Rectangle {
	u := min(float64(w)*0.75, float64(h)) / 100
	top := float64(h)*0.64 + float64(i)*8.4*u
	half := min(46*u, float64(w)/2)
	return image.Rect(int(float64(w)/2-half), int(top), int(float64(w)/2+half), int(top+7*u))
}

// questions draws the options; the marked one stands out. The pointer is not
// shown: rows are as wide as they look, and a click is answered by what follows.
func (c *canvas) questions(s Screen) {
	w, h := c.img.Rect.Dx(), c.img.Rect.Dy()
	for i := range s.answers() {
		r := row(i, w, h)
		x0, y0, x1, y1 := float64(r.Min.X), float64(r.Min.Y), float64(r.Max.X), float64(r.Max.Y)
		ink := soft
		if i == s.Marked {
			c.rounded(x0, y0, x1, y1, 1.2*c.u, accent)
			ink = bright
		} else {
			c.rounded(x0, y0, x1, y1, 1.2*c.u, edge)
		}
		c.rounded(x0+0.35*c.u, y0+0.35*c.u, x1-0.35*c.u, y1-0.35*c.u, c.u, bottom)
		c.text(fmt.Sprintf("%d   %s", i+1, s.Answers[i]), 2.5, ink, i == s.Marked, y0+1.6*c.u)
	}
}

// A chooser is the input of a Question: a digit or an arrow marks an option,
// Return takes the marked one, a click the one under the pointer. One is taken
// at most, so that what is typed ahead decides nothing else.
type chooser struct {
	*feed
	take    func(option int)
	taken   bool
	pressed bool
}

func (c *chooser) Key(usage uint16, down bool) {
	n := c.screen.answers()
	if !down || c.taken {
		return
	}
	digit := func(first uint16) (int, bool) { return int(usage) - int(first), usage >= first && int(usage-first) < n }
	if i, ok := digit(usageOne); ok {
		c.mark(i)
	} else if i, ok := digit(usagePadOne); ok {
		c.mark(i)
	}
	switch usage {
	case usageDown:
		c.mark(min(c.marked()+1, n-1))
	case usageUp:
		c.mark(max(c.marked()-1, 0))
	case usageReturn, usagePadEnter:
		c.taken = true
		c.take(c.marked())
	}
}

func (c *chooser) Pointer(x, y int, buttons byte) {
	was := c.pressed
	c.pressed = buttons&1 != 0
	if c.taken || was || !c.pressed {
		return
	}
	c.mu.Lock()
	w, h := c.w, c.h
	c.mu.Unlock()
	for i := range c.screen.answers() {
		if image.Pt(x, y).In(row(i, w, h)) {
			c.mark(i)
			c.taken = true
			c.take(i)
			return
		}
	}
}

func (c *chooser) marked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.screen.Marked
}

// mark makes an option stand out.
func (c *chooser) mark(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i == c.screen.Marked {
		return
	}
	c.screen.Marked, c.new = i, true
	select {
	case c.changed <- struct{}{}:
	default:
	}
}
