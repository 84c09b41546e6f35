package greeter

import (
	"image"
	"image/color"
	stddraw "image/draw"
	"math"
	"strings"
	"sync"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gomedium"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"

	"hotdesk/protocol/draw"
)

// Colours of the gateway's screens.
var (
	top     = color.RGBA{0x1d, 0x2b, 0x3a, 0xff}
	bottom  = color.RGBA{0x12, 0x1a, 0x24, 0xff}
	bright  = color.RGBA{0xf2, 0xf5, 0xf7, 0xff}
	soft    = color.RGBA{0xa3, 0xb3, 0xc2, 0xff}
	faint   = color.RGBA{0x8a, 0x9b, 0xab, 0xff}
	paper   = color.RGBA{0xe9, 0xee, 0xf2, 0xff}
	shade   = color.RGBA{0xcb, 0xd5, 0xde, 0xff}
	gold    = color.RGBA{0xd9, 0xb2, 0x5f, 0xff}
	etched  = color.RGBA{0xa8, 0x84, 0x3b, 0xff}
	slot    = color.RGBA{0x0a, 0x0f, 0x15, 0xff}
	edge    = color.RGBA{0x35, 0x48, 0x5b, 0xff}
	accent  = color.RGBA{0x6f, 0xc3, 0xd6, 0xff}
	warning = color.RGBA{0xe0, 0x9a, 0x6a, 0xff}
)

var fonts = sync.OnceValues(func() (*opentype.Font, *opentype.Font) {
	must := func(ttf []byte) *opentype.Font {
		f, err := opentype.Parse(ttf)
		if err != nil {
			panic(err) // the fonts are compiled in
		}
		return f
	}
	return must(goregular.TTF), must(gomedium.TTF)
})

// A canvas is a picture in the making. Lengths are pixels.
type canvas struct {
	img  *image.RGBA
	w, h float64
	u    float64 // the unit that everything is sized by: one hundredth of the picture
}

func newCanvas(w, h int) *canvas {
	c := &canvas{img: image.NewRGBA(image.Rect(0, 0, w, h)), w: float64(w), h: float64(h)}
	c.u = math.Min(c.w*0.75, c.h) / 100
	return c
}

// paint draws a screen of w by h pixels.
func paint(s Screen, host string, w, h int) *draw.Pixmap {
	c := newCanvas(w, h)
	c.background()
	switch s.Kind {
	case InsertCard:
		c.card(c.w/2, c.h*0.34)
		y := c.text("Insert your card", 5.4, bright, true, c.h*0.655)
		c.text("Your desktop appears here as you left it.", 2.7, soft, false, y+1.2*c.u)
	case Question:
		c.sign(c.w/2, c.h*0.2)
		y := c.text("Your desktop cannot be shown yet", 5, bright, true, c.h*0.36)
		c.text(s.Text, 2.7, soft, false, y+1.4*c.u)
		c.questions(s)
	case Denied:
		c.sign(c.w/2, c.h*0.33)
		y := c.text("Your desktop cannot be shown", 5, bright, true, c.h*0.57)
		y = c.text(s.Text, 2.7, soft, false, y+1.4*c.u)
		c.text("Take the card out when you have read this.", 2.2, faint, false, y+2.2*c.u)
	}
	if host != "" {
		c.text(host, 1.9, faint, false, c.h-6.2*c.u)
	}
	return pixmap(c.img)
}

func pixmap(img *image.RGBA) *draw.Pixmap {
	p := draw.NewPixmap(img.Rect.Dx(), img.Rect.Dy())
	for i := 0; i < len(p.Pix); i += 4 {
		p.Pix[i], p.Pix[i+1], p.Pix[i+2] = img.Pix[i+2], img.Pix[i+1], img.Pix[i]
	}
	return p
}

// background is one colour a row, which costs next to nothing to send.
func (c *canvas) background() {
	h := c.img.Rect.Dy()
	for y := range h {
		t := float64(y) / float64(h)
		row := image.NewUniform(mix(top, bottom, t*t*(3-2*t)))
		stddraw.Draw(c.img, image.Rect(0, y, c.img.Rect.Dx(), y+1), row, image.Point{}, stddraw.Src)
	}
}

func mix(a, b color.RGBA, t float64) color.RGBA {
	m := func(x, y uint8) uint8 { return uint8(math.Round(float64(x) + (float64(y)-float64(x))*t)) }
	return color.RGBA{m(a.R, b.R), m(a.G, b.G), m(a.B, b.B), 0xff}
}

// card is a card on its way into a reader's slot, centred at x, y.
func (c *canvas) card(x, y float64) {
	u := c.u
	const w, h = 25.0, 31.0 // an upright card, partly in the slot
	left, right, topY, line := x-w/2*u, x+w/2*u, y-(h/2+2)*u, y+(h/2-4.5)*u
	// The slot, behind the card; what is below its line hides the card.
	c.rounded(x-20*u, line-1.5*u, x+20*u, line+1.5*u, 1.5*u, edge)
	c.rounded(x-18.8*u, line-0.7*u, x+18.8*u, line+0.7*u, 0.7*u, slot)
	c.sheet(left, topY, right, line, 1.8*u, paper)
	c.rect(left, line-0.9*u, right, line, shade) // the slot's shadow on it
	// The chip.
	chipL, chipT := x-3.6*u, topY+15.2*u
	c.rounded(chipL, chipT, chipL+7.2*u, chipT+6*u, 1.1*u, gold)
	t := math.Max(1, 0.22*u)
	for _, dy := range []float64{2, 4} {
		c.rect(chipL, chipT+dy*u-t/2, chipL+2.4*u, chipT+dy*u+t/2, etched)
		c.rect(chipL+4.8*u, chipT+dy*u-t/2, chipL+7.2*u, chipT+dy*u+t/2, etched)
	}
	c.rect(chipL+2.4*u-t/2, chipT, chipL+2.4*u+t/2, chipT+6*u, etched)
	c.rect(chipL+4.8*u-t/2, chipT, chipL+4.8*u+t/2, chipT+6*u, etched)
	// Its name, as lines.
	c.rounded(left+3*u, topY+3.2*u, left+12*u, topY+4.6*u, 0.7*u, accent)
	c.rounded(left+3*u, topY+6.2*u, left+17*u, topY+7.2*u, 0.5*u, shade)
	// The way in.
	c.chevron(x, line+5*u, 2.3*u, mix(accent, bottom, 0.15))
	c.chevron(x, line+7.6*u, 2.3*u, mix(accent, bottom, 0.55))
}

// sign is a ring with a bar, centred at x, y.
func (c *canvas) sign(x, y float64) {
	u := c.u
	c.rounded(x-9*u, y-9*u, x+9*u, y+9*u, 9*u, warning)
	c.rounded(x-7.3*u, y-7.3*u, x+7.3*u, y+7.3*u, 7.3*u, mix(top, bottom, 0.25))
	c.rounded(x-4.4*u, y-0.85*u, x+4.4*u, y+0.85*u, 0.85*u, warning)
}

func (c *canvas) rect(x0, y0, x1, y1 float64, col color.RGBA) { c.sheet(x0, y0, x1, y1, 0, col) }

// rounded fills a rectangle with round corners.
func (c *canvas) rounded(x0, y0, x1, y1, r float64, col color.RGBA) {
	c.shape(x0, y0, x1, y1, r, r, col)
}

// sheet fills a rectangle whose upper corners are round.
func (c *canvas) sheet(x0, y0, x1, y1, r float64, col color.RGBA) {
	c.shape(x0, y0, x1, y1, r, 0, col)
}

// shape fills a rectangle with corners of radius r above and s below.
func (c *canvas) shape(x0, y0, x1, y1, r, s float64, col color.RGBA) {
	c.fill(x0, y0, x1, y1, col, func(z *pen) {
		z.move(x0+r, y0)
		z.line(x1-r, y0)
		z.corner(x1, y0, x1, y0+r)
		z.line(x1, y1-s)
		z.corner(x1, y1, x1-s, y1)
		z.line(x0+s, y1)
		z.corner(x0, y1, x0, y1-s)
		z.line(x0, y0+r)
		z.corner(x0, y0, x0+r, y0)
	})
}

// chevron points down, its tip at x, y+r.
func (c *canvas) chevron(x, y, r float64, col color.RGBA) {
	t := r * 0.42
	c.fill(x-r-1, y-1, x+r+1, y+r+t+1, col, func(z *pen) {
		z.move(x-r, y)
		z.line(x, y+r)
		z.line(x+r, y)
		z.line(x+r, y+t)
		z.line(x, y+r+t)
		z.line(x-r, y+t)
	})
}

// A pen draws an outline relative to the corner of its part of the picture.
type pen struct {
	r      *vector.Rasterizer
	dx, dy float64
}

func (p *pen) move(x, y float64) { p.r.MoveTo(float32(x-p.dx), float32(y-p.dy)) }
func (p *pen) line(x, y float64) { p.r.LineTo(float32(x-p.dx), float32(y-p.dy)) }

// corner is a quarter circle to x, y round the corner at cx, cy.
func (p *pen) corner(cx, cy, x, y float64) {
	const k = 0.5523 // of a cubic that is a quarter circle
	px, py := p.r.Pen()
	fx, fy := float64(px)+p.dx, float64(py)+p.dy
	p.r.CubeTo(
		float32(fx+(cx-fx)*k-p.dx), float32(fy+(cy-fy)*k-p.dy),
		float32(x+(cx-x)*k-p.dx), float32(y+(cy-y)*k-p.dy),
		float32(x-p.dx), float32(y-p.dy))
}

// fill draws an outline within the given bounds.
func (c *canvas) fill(x0, y0, x1, y1 float64, col color.RGBA, outline func(*pen)) {
	area := image.Rect(int(math.Floor(x0)), int(math.Floor(y0)), int(math.Ceil(x1)), int(math.Ceil(y1)))
	if area.Empty() || !area.Overlaps(c.img.Rect) {
		return
	}
	z := vector.NewRasterizer(area.Dx(), area.Dy())
	outline(&pen{z, float64(area.Min.X), float64(area.Min.Y)})
	z.ClosePath()
	z.Draw(c.img, area, image.NewUniform(col), image.Point{})
}

// text writes s centred below y, size units high, in as many lines as it
// needs, and returns where it ends.
func (c *canvas) text(s string, size float64, col color.RGBA, heavy bool, y float64) float64 {
	regular, medium := fonts()
	f := regular
	if heavy {
		f = medium
	}
	px := math.Max(size*c.u, 11)
	face, err := opentype.NewFace(f, &opentype.FaceOptions{Size: px, DPI: 72, Hinting: font.HintingNone})
	if err != nil {
		return y // only for a size that is no size
	}
	defer face.Close()
	d := font.Drawer{Dst: c.img, Src: image.NewUniform(col), Face: face}
	for _, line := range wrap(&d, s, fixed.I(int(c.w*0.8))) {
		d.Dot = fixed.Point26_6{X: (fixed.I(int(c.w)) - d.MeasureString(line)) / 2, Y: fixed.I(int(y + px))}
		d.DrawString(line)
		y += px * 1.4
	}
	return y
}

// wrap cuts s into lines that fit; a word that does not fit is cut.
func wrap(d *font.Drawer, s string, width fixed.Int26_6) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(s) {
		for d.MeasureString(word) > width {
			cut := len(word)
			for i := range word {
				if i > 0 && d.MeasureString(word[:i]) > width {
					break
				}
				if i > 0 {
					cut = i
				}
			}
			if cut == len(word) {
				break // a single letter wider than the screen
			}
			if line != "" {
				lines = append(lines, line)
				line = ""
			}
			lines = append(lines, word[:cut])
			word = word[cut:]
		}
		switch next := strings.TrimSpace(line + " " + word); {
		case line == "" || d.MeasureString(next) <= width:
			line = next
		default:
			lines = append(lines, line)
			line = word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
