package encode

import (
	"encoding/binary"
	"errors"

	"github.com/klauspost/compress/huff0"

	"hotdesk/protocol/draw"
	"hotdesk/protocol/draw/planes"
)

// photo is the memory for PHOTO.
type photo struct {
	plane [3][]byte // of residues
	flags [3]byte   // of each
	rows  [2]rows   // the one that is predicted, and that above
	huff  huff0.Scratch
}

// rows are one row of each plane: green, blue, red.
type rows [3][]byte

// photo makes the operation of a of p, at most draw.MaxPhoto pixels.
func (c *coder) photo(p *draw.Pixmap, a area) {
	if c.pic == nil {
		c.pic = new(photo)
		c.pic.huff.Reuse = huff0.ReusePolicyNone
	}
	c.pic.residues(p, a)
	c.buf = head(c.buf[:0], draw.Photo, a)
	c.buf = append(c.buf, 0, 0, 0, 0)
	body := len(c.buf)
	for k, plane := range c.pic.plane {
		c.buf = c.pic.append(c.buf, plane, c.pic.flags[k])
	}
	binary.BigEndian.PutUint32(c.buf[body-4:], uint32(len(c.buf)-body))
}

// append codes one plane.
func (p *photo) append(b, plane []byte, flags byte) []byte {
	out, _, err := huff0.Compress4X(plane, &p.huff)
	switch {
	case err == nil && 3+len(out) <= len(plane): // its length counts, too
		return append(append(b, flags|draw.PlaneHuff, byte(len(out)>>16), byte(len(out)>>8), byte(len(out))), out...)
	case errors.Is(err, huff0.ErrUseRLE):
		return append(b, flags|draw.PlaneFlat, plane[0])
	}
	return append(append(b, flags|draw.PlaneRaw), plane...)
}

// residues fills the planes with what prediction leaves.
func (p *photo) residues(src *draw.Pixmap, a area) {
	w, h := a.x1-a.x0, a.y1-a.y0
	for k := range p.plane {
		if cap(p.plane[k]) < w*h {
			p.plane[k] = make([]byte, max(w*h, 1<<14))
		}
		p.plane[k] = p.plane[k][:w*h]
	}
	for i := range p.rows {
		for k := range p.rows[i] {
			if cap(p.rows[i][k]) < w {
				p.rows[i][k] = make([]byte, max(w, 2048))
			}
			p.rows[i][k] = p.rows[i][k][:w]
		}
	}
	p.choose(src, a)
	for y := range h {
		rows, above := &p.rows[y&1], &p.rows[1-y&1]
		p.split(rows, src.Row(a.y0+y, a.x0, a.x1))
		for k := range p.plane {
			out := p.plane[k][y*w:][:w]
			if y == 0 {
				planes.First(out, rows[k])
			} else {
				planes.Predict(out, rows[k], above[k], p.flags[k]&draw.PlaneMean != 0)
			}
		}
	}
}

// split makes the planes of one row of pixels.
func (p *photo) split(rows *rows, px []byte) {
	planes.Split(rows[0], rows[1], rows[2], px, p.flags[1]&draw.PlaneAlone != 0, p.flags[2]&draw.PlaneAlone != 0)
}

// choose looks at parts of a few rows and says how to send each plane: colours
// that follow the green one go less it, and noise is predicted best by a mean.
func (p *photo) choose(src *draw.Pixmap, a area) {
	const samples, most = 3, 256
	var cost [2][3][2]int // less green and alone, of each plane, by median and by mean
	w, h := a.x1-a.x0, a.y1-a.y0
	n := min(w, most)
	for alone := range cost {
		p.flags[1], p.flags[2] = byte(alone)*draw.PlaneAlone, byte(alone)*draw.PlaneAlone
		for i := range min(samples, h-1) {
			x, y := a.x0+(w-n)*i/(samples-1), a.y0+1+i*(h-1)/samples
			var above, row rows
			for k := range row {
				above[k], row[k] = p.rows[0][k][:n], p.rows[1][k][:n]
			}
			p.split(&above, src.Row(y-1, x, x+n))
			p.split(&row, src.Row(y, x, x+n))
			for k := range row {
				for by := range cost[alone][k] {
					out := p.plane[0][:n]
					planes.Predict(out, row[k], above[k], by == 1)
					cost[alone][k][by] += size(out)
				}
			}
		}
	}
	for k := range p.flags {
		p.flags[k] = 0
		c := cost[0][k]
		if other := cost[1][k]; min(other[0], other[1]) < min(c[0], c[1]) {
			c = other
			p.flags[k] = draw.PlaneAlone
		}
		if c[1] < c[0] {
			p.flags[k] |= draw.PlaneMean
		}
	}
}

// size is the sum of residues without their signs.
func size(residues []byte) (n int) {
	for _, r := range residues {
		v := int(int8(r))
		n += max(v, -v)
	}
	return n
}
