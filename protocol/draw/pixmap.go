package draw

import "image"

// A Pixmap is a picture as X servers keep it: four bytes a pixel, B G R and
// one that does not count, rows Stride bytes apart. With an Order what lies between
// Left and Right may be in any other's place: who goes by Stride from row to row, as
// Blocks.Draw does, needs it to be nil.
type Pixmap struct {
	Pix         []byte
	Stride      int
	W, H        int
	Order       []int32 // in which row of Pix each one is there; nil: each in that of its number
	Left, Right int
}

// NewPixmap returns a black picture.
func NewPixmap(w, h int) *Pixmap {
	return &Pixmap{Pix: make([]byte, w*h*4), Stride: w * 4, W: w, H: h}
}

// Row returns the pixels x0..x1 of row y, which must be in one place: see Whole.
func (p *Pixmap) Row(y, x0, x1 int) []byte {
	if p.Order != nil && x0 >= p.Left && x1 <= p.Right {
		y = int(p.Order[y])
	}
	return p.Pix[y*p.Stride+x0*4 : y*p.Stride+x1*4]
}

// Whole reports whether what lies between x0 and x1 is in one place in each row.
func (p *Pixmap) Whole(x0, x1 int) bool {
	return p.Order == nil || x0 >= p.Left && x1 <= p.Right || x1 <= p.Left || x0 >= p.Right
}

// Bounds is the picture's rectangle.
func (p *Pixmap) Bounds() image.Rectangle { return image.Rect(0, 0, p.W, p.H) }

// CopyFrom copies a rectangle, which is inside both, from q.
func (p *Pixmap) CopyFrom(q *Pixmap, r image.Rectangle) {
	for y := r.Min.Y; y < r.Max.Y; y++ {
		copy(p.Row(y, r.Min.X, r.Max.X), q.Row(y, r.Min.X, r.Max.X))
	}
}

// SwapWith exchanges a rectangle, which is inside both, with q.
func (p *Pixmap) SwapWith(q *Pixmap, r image.Rectangle) {
	var room [1024]byte
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for a, b := p.Row(y, r.Min.X, r.Max.X), q.Row(y, r.Min.X, r.Max.X); len(a) > 0; {
			n := copy(room[:], a)
			copy(a, b[:n])
			copy(b, room[:n])
			a, b = a[n:], b[n:]
		}
	}
}

// RGBA returns an opaque copy for the image packages.
func (p *Pixmap) RGBA() *image.RGBA {
	m := image.NewRGBA(p.Bounds())
	for y := range p.H {
		src, dst := p.Row(y, 0, p.W), m.Pix[y*m.Stride:]
		for x := 0; x < len(src); x += 4 {
			dst[x], dst[x+1], dst[x+2], dst[x+3] = src[x+2], src[x+1], src[x], 0xff
		}
	}
	return m
}
