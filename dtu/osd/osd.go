// Package osd draws what a terminal shows when no session does: a card that
// says what it waits for or what went wrong, with the code to tell a help desk.
//
// Source: reference/alp.md section 10 (codes and letters). Fonts: the Go fonts.
//
// Invariants:
//  1. No text is cut off by an edge: where it does not fit it gets smaller,
//     and on the smallest screens first what helps least is left out.
//  2. Text has a contrast of at least 4.5:1 with what is behind it.
//
// The functions are safe for concurrent use and keep nothing but the parsed
// fonts, made at the first use. Limits: MaxRunes of each text, draw.MaxSide.
package osd

import (
	"image"
	"image/color"
	"image/draw"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"hotdesk/protocol/alp"
	limits "hotdesk/protocol/draw"
)

// MaxRunes bounds each text of a Message; the rest is not shown.
const MaxRunes = 400

// A Message is what a card says. Empty fields are left out.
type Message struct {
	Code        int    // 0: none
	Letter      string // what DHCP gave, A to D
	Title, Text string
	Terminal    alp.TerminalID
	Addr        string // the terminal's own
	Server      string

	Typed, Places int // of a PIN: how many digits there are, of how many at most; 0, 0: none is asked for
}

// Background is what a card lies on.
var Background = color.RGBA{0x0d, 0x12, 0x18, 0xff}

// The colours. Each text colour is used on card only.
var (
	card      = color.RGBA{0x1a, 0x23, 0x2e, 0xff}
	rule      = color.RGBA{0x33, 0x41, 0x52, 0xff}
	strong    = color.RGBA{0xf2, 0xf6, 0xfa, 0xff}
	plain     = color.RGBA{0xc4, 0xd0, 0xdc, 0xff}
	faint     = color.RGBA{0x93, 0xa5, 0xb8, 0xff}
	calm      = color.RGBA{0x62, 0xb5, 0xf5, 0xff}
	attention = color.RGBA{0xf2, 0xb8, 0x4b, 0xff}
	trouble   = color.RGBA{0xff, 0x8a, 0x80, 0xff}
)

// accent is the colour of a code: what is under way, what waits for somebody,
// what has failed.
func accent(code int) color.RGBA {
	switch code {
	case 4, 6, 7, 9, 14, 15, 23, 34:
		return trouble
	case 1, 5, 8, 12, 13, 16, 24, 31, 32, 48:
		return attention
	}
	return calm
}

// Draw returns a card with m, for the middle of a screen of w by h pixels; nil
// where the screen is too small for any.
func Draw(w, h int, m Message) *image.RGBA {
	c, ok := fit(min(max(w, 1), limits.MaxSide), min(max(h, 1), limits.MaxSide), clean(m))
	if !ok {
		return nil
	}
	img := image.NewRGBA(image.Rectangle{Max: c.size})
	draw.Draw(img, img.Bounds(), image.NewUniform(Background), image.Point{}, draw.Src)
	c.draw(img, image.Point{})
	return img
}

// Whole reports whether Draw shows all of m's title and text on a screen of w by
// h pixels. Where a person decides by what they read, nothing less will do.
func Whole(w, h int, m Message) bool {
	if max(utf8.RuneCountInString(m.Title), utf8.RuneCountInString(m.Text)) > MaxRunes {
		return false
	}
	c, ok := fit(min(max(w, 1), limits.MaxSide), min(max(h, 1), limits.MaxSide), clean(m))
	return ok && !c.cut
}

// Corner returns a small notice with m's code and title, for a corner of the
// screen while a session is shown.
func Corner(m Message) *image.RGBA {
	m = clean(m)
	c := compose(cornerEm, cornerWidth, Message{Code: m.Code, Letter: m.Letter, Title: m.Title})
	img := image.NewRGBA(image.Rectangle{Max: c.size})
	c.draw(img, image.Point{})
	return img
}

const (
	cornerEm    = 15  // pixels
	cornerWidth = 420 // pixels at most
	smallestEm  = 6
	usualEm     = 14 // the smallest where the screen has room
)

// fit finds the largest card that fits the screen, of the size that suits it
// at most. It leaves out the details, then the text, then the title.
func fit(w, h int, m Message) (composed, bool) {
	em := max(float64(min(w/58, h/44)), min(usualEm, float64(w)/22))
	small := []Message{
		m,
		{Code: m.Code, Letter: m.Letter, Title: m.Title, Text: m.Text, Typed: m.Typed, Places: m.Places},
		{Code: m.Code, Letter: m.Letter, Title: m.Title, Typed: m.Typed, Places: m.Places},
		{Code: m.Code, Letter: m.Letter},
	}
	for left, m := range small {
		for e := max(em, smallestEm); e >= smallestEm; e *= 0.92 {
			margin := int(e)
			c := compose(e, min(int(36*e), w-2*margin), m)
			if c.size.X <= w-2*margin && c.size.Y <= h-2*margin {
				c.cut = left > 1
				return c, true
			}
		}
	}
	return composed{}, false
}

// clean bounds the texts and takes out what cannot be shown.
func clean(m Message) Message {
	m.Letter, m.Title, m.Text = text(m.Letter), text(m.Title), text(m.Text)
	m.Terminal, m.Addr, m.Server = alp.TerminalID(text(string(m.Terminal))), text(m.Addr), text(m.Server)
	return m
}

func text(s string) string {
	n := 0
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		n++
		switch {
		case n > MaxRunes:
			return -1
		case r == '\n' || unicode.IsPrint(r):
			return r
		}
		return ' '
	}, s))
}

// code is the code as it is shown, without its letter.
func (m Message) code() string {
	if m.Code == 0 {
		return ""
	}
	return strconv.Itoa(m.Code)
}
