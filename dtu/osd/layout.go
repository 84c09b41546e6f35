package osd

import (
	"image"
	"image/color"
	"image/draw"
	"strings"
	"sync"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

var (
	bold    = sync.OnceValue(func() *opentype.Font { return parse(gobold.TTF) })
	regular = sync.OnceValue(func() *opentype.Font { return parse(goregular.TTF) })
	mono    = sync.OnceValue(func() *opentype.Font { return parse(gomono.TTF) })
)

func parse(ttf []byte) *opentype.Font {
	f, err := opentype.Parse(ttf)
	if err != nil {
		panic("osd: " + err.Error()) // it is in the program
	}
	return f
}

func face(f *opentype.Font, pixels float64) font.Face {
	c, err := opentype.NewFace(f, &opentype.FaceOptions{Size: pixels, DPI: 72, Hinting: font.HintingNone})
	if err != nil {
		panic("osd: " + err.Error()) // only options can be wrong
	}
	return c
}

// A line is one line of text at its place on the card.
type line struct {
	x, y   int // of the baseline's start
	face   font.Face
	colour color.RGBA
	text   string
}

// A composed card is ready to be drawn.
type composed struct {
	size   image.Point
	lines  []line
	rules  []image.Rectangle
	stripe image.Rectangle
	accent color.RGBA
	radius float32
	places []place
	cut    bool // text was left out, or the title
}

// compose lays m out, in letters of em pixels, on a card at most width wide.
// The card is larger where not even one letter fits.
func compose(em float64, width int, m Message) composed {
	px := func(ems float64) int { return int(ems*em + 0.5) }
	c := composed{accent: accent(m.Code), radius: float32(0.5 * em)}
	stripe, pad, gap := max(px(0.3), 2), px(1.5), px(1.4)
	left := stripe + pad
	x, y := left, pad // where the texts begin

	// The code stands left of the title, as tall as the title's first line
	// and half of the next.
	bottom := y
	if code := m.code(); code != "" {
		big, small := face(bold(), 2.6*em), face(regular(), 1.5*em)
		base := y + capHeight(big)
		c.lines = append(c.lines, line{x, base, big, c.accent, code})
		x += advance(big, code)
		if m.Letter != "" {
			x += px(0.15)
			c.lines = append(c.lines, line{x, base, small, c.accent, m.Letter})
			x += advance(small, m.Letter)
		}
		bottom = base
		if m.Title != "" || m.Text != "" {
			x += gap
		}
	}
	right := x // of all there is
	room := max(width-pad-x, px(1))
	put := func(f font.Face, ems float64, colour color.RGBA, s string) {
		if s == "" {
			return
		}
		for i, t := range wrap(f, s, room) {
			if i == 0 {
				y += capHeight(f)
			} else {
				y += px(ems * 1.35)
			}
			c.lines = append(c.lines, line{x, y, f, colour, t})
			right = max(right, x+advance(f, t))
		}
		bottom = max(bottom, y)
		y += px(0.95)
	}
	put(face(bold(), 1.35*em), 1.35, strong, m.Title)
	put(face(regular(), em), 1, plain, m.Text)
	c.places, right, y, bottom = places(em, x, room, right, y, bottom, m)

	// Below a rule the details, each with its name.
	label, value := face(regular(), 0.85*em), face(mono(), 0.85*em)
	details := [][2]string{{"Terminal", string(m.Terminal)}, {"Address", m.Addr}, {"Server", m.Server}}
	names := 0
	for _, d := range details {
		if d[1] != "" {
			names = max(names, advance(label, d[0])+px(1))
		}
	}
	y = bottom + px(1.3)
	if names > 0 {
		c.rules = append(c.rules, image.Rect(left, y, width-pad, y+max(px(0.07), 1)))
		right = max(right, width-pad)
		y += px(1.2)
	}
	first := true
	for _, d := range details {
		if d[1] == "" {
			continue
		}
		for i, t := range wrap(value, d[1], max(width-pad-left-names, px(1))) {
			if first {
				y += capHeight(label)
			} else {
				y += px(1.45)
			}
			first = false
			if i == 0 {
				c.lines = append(c.lines, line{left, y, label, faint, d[0]})
			}
			c.lines = append(c.lines, line{left + names, y, value, plain, t})
			right = max(right, left+names+advance(value, t))
		}
		bottom = y
	}
	c.size = image.Pt(right+pad, bottom+max(pad, px(0.4)))
	c.stripe = image.Rect(0, 0, stripe, c.size.Y)
	return c
}

// draw draws the card with its top left corner at p.
func (c composed) draw(img *image.RGBA, p image.Point) {
	shape := round(c.size, c.radius)
	for _, part := range []struct {
		r      image.Rectangle
		colour color.RGBA
	}{
		{image.Rectangle{Max: c.size}, card},
		{c.stripe, c.accent},
	} {
		draw.DrawMask(img, part.r.Add(p), image.NewUniform(part.colour), image.Point{}, shape, part.r.Min, draw.Over)
	}
	for _, q := range c.rules {
		draw.Draw(img, q.Add(p), image.NewUniform(rule), image.Point{}, draw.Src)
	}
	for _, q := range c.places {
		q.draw(img, p)
	}
	for _, l := range c.lines {
		d := font.Drawer{Dst: img, Src: image.NewUniform(l.colour), Face: l.face, Dot: fixed.P(p.X+l.x, p.Y+l.y)}
		d.DrawString(l.text)
	}
}

// round is a mask with round corners.
func round(size image.Point, radius float32) *image.Alpha {
	w, h := float32(size.X), float32(size.Y)
	// k: where a cubic's control points make it a quarter of a circle.
	k := radius * (1 - 0.5523)
	v := vector.NewRasterizer(size.X, size.Y)
	v.MoveTo(radius, 0)
	v.LineTo(w-radius, 0)
	v.CubeTo(w-k, 0, w, k, w, radius)
	v.LineTo(w, h-radius)
	v.CubeTo(w, h-k, w-k, h, w-radius, h)
	v.LineTo(radius, h)
	v.CubeTo(k, h, 0, h-k, 0, h-radius)
	v.LineTo(0, radius)
	v.CubeTo(0, k, k, 0, radius, 0)
	v.ClosePath()
	m := image.NewAlpha(image.Rectangle{Max: size})
	v.Draw(m, m.Bounds(), image.Opaque, image.Point{})
	return m
}

// advance is how wide s is.
func advance(f font.Face, s string) int { return font.MeasureString(f, s).Ceil() }

// capHeight is how tall capitals are.
func capHeight(f font.Face) int { return f.Metrics().CapHeight.Ceil() }

// wrap cuts s into lines at most width wide, between words where it can.
func wrap(f font.Face, s string, width int) []string {
	var lines []string
	for paragraph := range strings.SplitSeq(s, "\n") {
		now := ""
		for word := range strings.FieldsSeq(paragraph) {
			if now != "" && advance(f, now+" "+word) <= width {
				now += " " + word
				continue
			}
			if now != "" {
				lines = append(lines, now)
			}
			now = word
			for advance(f, now) > width {
				n := cut(f, now, width)
				if n == len(now) {
					break
				}
				lines, now = append(lines, now[:n]), now[n:]
			}
		}
		if now != "" {
			lines = append(lines, now)
		}
	}
	return lines
}

// cut is how many bytes of s, at least one letter, are at most width wide.
func cut(f font.Face, s string, width int) int {
	n := 0
	for i, r := range s {
		end := i + len(string(r))
		if n > 0 && advance(f, s[:end]) > width {
			break
		}
		n = end
	}
	return n
}
