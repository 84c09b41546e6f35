package roundtrip

import (
	"fmt"
	"image"
	"image/color"
	imagedraw "image/draw"
	"math/rand/v2"
	"strings"
	"sync"

	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"

	"hotdesk/protocol/draw"
)

// proportional is an anti-aliased face, as browsers and mail programs show.
var proportional = sync.OnceValue(func() font.Face {
	f, err := opentype.Parse(goregular.TTF)
	if err != nil {
		panic(err)
	}
	face, err := opentype.NewFace(f, &opentype.FaceOptions{Size: 13, DPI: 72})
	if err != nil {
		panic(err)
	}
	return face
})

// desktop draws a screen as offices have it: two terminals with bitmap
// letters, a window of anti-aliased text, title bars on a plain ground.
func desktop(w, h int) *draw.Pixmap {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	r := rand.New(rand.NewPCG(1, 2))
	box := func(x0, y0, x1, y1 int, c color.Color) {
		imagedraw.Draw(m, image.Rect(x0, y0, x1, y1), image.NewUniform(c), image.Point{}, imagedraw.Src)
	}
	words := strings.Fields("the terminal shows what its session draws and forgets it when the card goes " +
		"go test ./... drwxr-xr-x root 4096 main.go func return error nil if err != for range package import 0x1f README")
	text := func(f font.Face, x0, y0, x1, y1, step int, c color.Color) {
		d := font.Drawer{Dst: m.SubImage(image.Rect(x0, y0, x1, y1)).(*image.RGBA), Src: image.NewUniform(c), Face: f}
		for y := y0 + step; y < y1; y += step {
			d.Dot = fixed.P(x0+4, y)
			for range r.IntN(14) {
				d.DrawString(words[r.IntN(len(words))] + " ")
			}
		}
	}
	box(0, 0, w, h, color.RGBA{0x30, 0x50, 0x70, 0xff})
	window := func(x, y, ww, hh int, ground, ink color.Color, f font.Face, step int) {
		box(x, y, x+ww, y+20, color.RGBA{0x44, 0x88, 0xcc, 0xff})
		box(x, y+20, x+ww, y+hh, ground)
		text(f, x, y, x+ww, y+18, 15, color.White)
		text(f, x, y+22, x+ww, y+hh, step, ink)
	}
	window(w/64, h/64, w*46/100, h*9/10, color.White, color.Black, basicfont.Face7x13, 13)
	window(w/2, h/64, w*48/100, h*45/100, color.Black, color.RGBA{0xd0, 0xd0, 0xd0, 0xff}, basicfont.Face7x13, 13)
	window(w/2, h/2, w*48/100, h*45/100, color.White, color.RGBA{0x20, 0x20, 0x20, 0xff}, proportional(), 17)
	return pixmap(m)
}

// photo is what does not compress: noise.
func photo(w, h int) *draw.Pixmap {
	p := draw.NewPixmap(w, h)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range p.Pix {
		p.Pix[i] = byte(r.Uint32())
	}
	return p
}

// clouds is a soft picture with a little noise, which drifts from frame to
// frame.
func clouds(w, h, frame int) *draw.Pixmap {
	p := draw.NewPixmap(w, h)
	r := rand.New(rand.NewPCG(7, uint64(frame)))
	for i := 0; i < len(p.Pix); i += 4 {
		x, y := i/4%w+2*frame, i/4/w
		n := r.IntN(5)
		p.Pix[i], p.Pix[i+1], p.Pix[i+2] = byte(x+y+n), byte(200-x+n), byte(2*y+n)
	}
	return p
}

func pixmap(m *image.RGBA) *draw.Pixmap {
	p := draw.NewPixmap(m.Rect.Dx(), m.Rect.Dy())
	for i := 0; i < len(p.Pix); i += 4 {
		p.Pix[i], p.Pix[i+1], p.Pix[i+2] = m.Pix[i+2], m.Pix[i+1], m.Pix[i]
	}
	return p
}

// typed writes a letter into a terminal's cell, black on white.
func typed(p *draw.Pixmap, at image.Point, letter rune) image.Rectangle {
	m := image.NewRGBA(image.Rect(0, 0, 7, 13))
	imagedraw.Draw(m, m.Rect, image.White, image.Point{}, imagedraw.Src)
	d := font.Drawer{Dst: m, Src: image.Black, Face: basicfont.Face7x13, Dot: fixed.P(0, 11)}
	d.DrawString(fmt.Sprintf("%c", letter))
	cell := pixmap(m)
	for y := range cell.H {
		copy(p.Row(at.Y+y, at.X, at.X+cell.W), cell.Row(y, 0, cell.W))
	}
	return cell.Bounds().Add(at)
}
