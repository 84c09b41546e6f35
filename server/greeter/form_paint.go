package greeter

import (
	"image"
	stddraw "image/draw"
	"math"
	"slices"

	"golang.org/x/image/font"
	"golang.org/x/image/math/fixed"

	"hotdesk/protocol/draw"
)

// A sheet is a form's picture in the making, with the plan that it shows.
type sheet struct {
	c     *canvas
	faces map[faceKey]font.Face
	plan  plan
}

// newSheet draws a whole form.
func newSheet(s *filling, host string, w, h int) *sheet {
	sh := &sheet{c: newCanvas(w, h), faces: map[faceKey]font.Face{}, plan: lay(s, w, h)}
	sh.c.background()
	if host != "" {
		sh.c.text(host, 1.9, faint, false, sh.c.h-6.2*sh.c.u)
	}
	sh.mark(sh.plan.sheet)
	for _, wi := range sh.plan.widgets {
		sh.widget(wi)
	}
	return sh
}

// resume goes on with a picture of a plan that was drawn before.
func resume(p *draw.Pixmap, was plan) *sheet {
	c := newCanvas(p.W, p.H)
	store(c.img, p)
	return &sheet{c: c, faces: map[faceKey]font.Face{}, plan: was}
}

// update draws what differs and returns where that is.
func (sh *sheet) update(s *filling) []image.Rectangle {
	next := lay(s, sh.c.img.Rect.Dx(), sh.c.img.Rect.Dy())
	if next.sheet != sh.plan.sheet || len(next.widgets) != len(sh.plan.widgets) {
		return nil
	}
	var damage []image.Rectangle
	for i, wi := range next.widgets {
		was := sh.plan.widgets[i]
		if wi.area == was.area && slices.Equal(wi.marks, was.marks) {
			continue
		}
		if wi.area != was.area {
			return nil
		}
		stddraw.Draw(sh.c.img, wi.area, image.NewUniform(sh.plan.sheet.col), image.Point{}, stddraw.Src)
		sh.widget(wi)
		damage = append(damage, wi.area)
	}
	sh.plan = next
	return damage
}

func (sh *sheet) widget(w widget) {
	for _, m := range w.marks {
		sh.mark(m)
	}
}

func (sh *sheet) mark(m mark) {
	if m.text == "" {
		r := math.Max(0, math.Min(m.round, math.Min(m.x1-m.x0, m.y1-m.y0)/2))
		sh.c.rounded(m.x0, m.y0, m.x1, m.y1, r, m.col)
		return
	}
	k := faceKey{m.px, m.heavy}
	face := sh.faces[k]
	if face == nil {
		face = newFace(m.px, m.heavy)
		sh.faces[k] = face
	}
	d := font.Drawer{Dst: sh.c.img, Src: image.NewUniform(m.col), Face: face}
	d.Dot = fixed.Point26_6{X: fixed.Int26_6(math.Round(m.x0) * 64), Y: fixed.I(int(math.Round(m.y0 + m.px*1.02)))}
	d.DrawString(m.text)
}

// put copies part of a picture to a pixmap.
func put(p *draw.Pixmap, img *image.RGBA, part image.Rectangle) {
	part = part.Intersect(img.Rect)
	for y := part.Min.Y; y < part.Max.Y; y++ {
		src := img.Pix[img.PixOffset(part.Min.X, y):img.PixOffset(part.Max.X, y)]
		swap(p.Row(y, part.Min.X, part.Max.X), src)
	}
}

// store copies a pixmap to a picture.
func store(img *image.RGBA, p *draw.Pixmap) {
	for y := range p.H {
		row := img.Pix[y*img.Stride:][:4*p.W]
		swap(row, p.Row(y, 0, p.W))
		for x := 3; x < len(row); x += 4 {
			row[x] = 0xff
		}
	}
}

// swap copies pixels with red and blue in each other's place.
func swap(dst, src []byte) {
	for i := 0; i+3 < len(src); i += 4 {
		dst[i], dst[i+1], dst[i+2], dst[i+3] = src[i+2], src[i+1], src[i], src[i+3]
	}
}
