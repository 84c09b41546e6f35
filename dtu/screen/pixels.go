package screen

import (
	"encoding/binary"
	"image"

	"hotdesk/protocol/draw"
)

// A shape is the pointer's picture.
type shape struct {
	size, hot image.Point
	pix       []byte // B G R A, alpha premultiplied, rows without padding
}

// blend draws over, B G R A premultiplied and placed at r, on pix, which shows
// the rectangle on.
func blend(on image.Rectangle, pix []byte, stride int, over []byte, r image.Rectangle) {
	c := on.Intersect(r)
	for y := c.Min.Y; y < c.Max.Y; y++ {
		dst := pix[(y-on.Min.Y)*stride+(c.Min.X-on.Min.X)*4:][:c.Dx()*4]
		src := over[((y-r.Min.Y)*r.Dx()+c.Min.X-r.Min.X)*4:][:len(dst)]
		for i := 0; i < len(dst); i += 4 {
			clearness := 255 - uint32(src[i+3])
			for j := i; j < i+3; j++ {
				// min: a peer's colours may exceed their alpha.
				dst[j] = byte(min(uint32(src[j])+(uint32(dst[j])*clearness+127)/255, 255))
			}
		}
	}
}

// fromImage copies the top left part of m, at most w by h, as B G R A
// premultiplied.
func fromImage(m image.Image, w, h int) *draw.Pixmap {
	size := m.Bounds().Size()
	w, h = min(w, size.X), min(h, size.Y)
	if w <= 0 || h <= 0 {
		return nil
	}
	p := draw.NewPixmap(w, h)
	convert(p, image.Rect(0, 0, w, h), m)
	return p
}

// convert writes the top left part of m, which is as large as r, to r of p, as
// B G R A premultiplied.
func convert(p *draw.Pixmap, r image.Rectangle, m image.Image) {
	from := m.Bounds().Min
	rgba, ok := m.(*image.RGBA)
	for y := range r.Dy() {
		dst := p.Row(r.Min.Y+y, r.Min.X, r.Max.X)
		if ok {
			src := rgba.Pix[rgba.PixOffset(from.X, from.Y+y):][:len(dst)]
			for i := 0; i < len(dst); i += 4 {
				dst[i], dst[i+1], dst[i+2], dst[i+3] = src[i+2], src[i+1], src[i], src[i+3]
			}
			continue
		}
		for x := range r.Dx() {
			red, green, blue, alpha := m.At(from.X+x, from.Y+y).RGBA()
			dst[x*4], dst[x*4+1], dst[x*4+2], dst[x*4+3] = byte(blue>>8), byte(green>>8), byte(red>>8), byte(alpha>>8)
		}
	}
}

// unpack writes src, B G R, to dst, B G R X.
func unpack(dst, src []byte) {
	// One load of four bytes and one store a pixel; the last pixel has no
	// fourth byte to load.
	for len(src) >= 4 && len(dst) >= 4 {
		binary.LittleEndian.PutUint32(dst, binary.LittleEndian.Uint32(src)&0xffffff)
		src, dst = src[3:], dst[4:]
	}
	if len(src) == 3 && len(dst) >= 4 {
		dst[0], dst[1], dst[2], dst[3] = src[0], src[1], src[2], 0
	}
}

// fill writes one colour to a rectangle of p.
func fill(p *draw.Pixmap, x, y, w, h int, b, g, r byte) {
	first := p.Row(y, x, x+w)
	first[0], first[1], first[2], first[3] = b, g, r, 0
	for n := 4; n < len(first); n *= 2 {
		copy(first[n:], first[:n])
	}
	for i := 1; i < h; i++ {
		copy(p.Row(y+i, x, x+w), first)
	}
}

// move copies a rectangle of p to another place in it, as if through a buffer.
func move(p *draw.Pixmap, x, y, w, h, fromX, fromY int) {
	if y > fromY { // from the bottom up, so that no row is overwritten before it is read
		for i := h - 1; i >= 0; i-- {
			copy(p.Row(y+i, x, x+w), p.Row(fromY+i, fromX, fromX+w))
		}
		return
	}
	for i := range h {
		copy(p.Row(y+i, x, x+w), p.Row(fromY+i, fromX, fromX+w))
	}
}
