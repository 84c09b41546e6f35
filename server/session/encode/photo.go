package encode

import (
	"encoding/binary"
	"errors"

	"github.com/klauspost/compress/huff0"

	"hotdesk/protocol/draw"
)

// photo is the memory for PHOTO.
type photo struct {
	plane [3][]byte // of residues
	flags [3]byte   // of each
	rows  [2][planes][]byte
	huff  huff0.Scratch
}

// The planes that are looked at: three are sent.
const (
	green = iota
	blueLess
	redLess // less green
	blueAlone
	redAlone
	planes
)

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
	use := p.choose(src, a)
	for y := range h {
		rows, above := &p.rows[y&1], &p.rows[1-y&1]
		split(rows, src.Row(a.y0+y, a.x0, a.x1))
		for k, u := range use {
			out := p.plane[k][y*w:][:w]
			switch {
			case y == 0:
				left(out, rows[u])
			case p.flags[k]&draw.PlaneMean != 0:
				mean(out, rows[u], above[u])
			default:
				predict(out, rows[u], above[u])
			}
		}
	}
}

// choose looks at a few rows and says which planes to send: colours that
// follow the green one go less it, and noise is predicted best by a mean.
func (p *photo) choose(src *draw.Pixmap, a area) (use [3]int) {
	const samples = 3
	var cost [planes][2]int // by median, by mean
	h := a.y1 - a.y0
	out := p.plane[0][:a.x1-a.x0]
	for i := range min(samples, h-1) {
		y := a.y0 + 1 + i*(h-1)/samples
		split(&p.rows[0], src.Row(y-1, a.x0, a.x1))
		split(&p.rows[1], src.Row(y, a.x0, a.x1))
		for k := range planes {
			predict(out, p.rows[1][k], p.rows[0][k])
			cost[k][0] += size(out)
			mean(out, p.rows[1][k], p.rows[0][k])
			cost[k][1] += size(out)
		}
	}
	use = [3]int{green, blueLess, redLess}
	for i := range use {
		p.flags[i] = 0
		if k := use[i] + 2; i > 0 && min(cost[k][0], cost[k][1]) < min(cost[use[i]][0], cost[use[i]][1]) {
			use[i] = k
			p.flags[i] = draw.PlaneAlone
		}
		if cost[use[i]][1] < cost[use[i]][0] {
			p.flags[i] |= draw.PlaneMean
		}
	}
	return use
}

// size is the sum of residues without their signs.
func size(residues []byte) (n int) {
	for _, r := range residues {
		v := int(int8(r))
		n += max(v, -v)
	}
	return n
}

// split makes the planes of one row of pixels.
func split(rows *[planes][]byte, px []byte) {
	g, b, r, bb, rr := rows[green], rows[blueLess], rows[redLess], rows[blueAlone], rows[redAlone]
	b, r, bb, rr = b[:len(g)], r[:len(g)], bb[:len(g)], rr[:len(g)]
	px = px[:len(g)*4]
	for i := range g {
		v := binary.LittleEndian.Uint32(px[i*4:])
		green := byte(v >> 8)
		g[i], b[i], r[i] = green, byte(v)-green+128, byte(v>>16)-green+128
		bb[i], rr[i] = byte(v), byte(v>>16)
	}
}

// left leaves in out what the pixel before does not tell of row.
func left(out, row []byte) {
	l := byte(0)
	for i, v := range row {
		out[i] = v - l
		l = v
	}
}

// mean leaves what the mean of left and above does not tell.
func mean(out, row, above []byte) {
	above, out = above[:len(row)], out[:len(row)]
	out[0] = row[0] - above[0]
	a := uint(row[0])
	for i := 1; i < len(row); i++ {
		v := row[i]
		out[i] = v - byte((a+uint(above[i]))>>1)
		a = uint(v)
	}
}

// predict leaves in out what the median of left, above, and left + above -
// above left does not tell of row.
func predict(out, row, above []byte) {
	above, out = above[:len(row)], out[:len(row)]
	out[0] = row[0] - above[0]
	a, c := int(row[0]), int(above[0])
	for i := 1; i < len(row); i++ {
		b, v := int(above[i]), int(row[i])
		out[i] = byte(v - max(min(a, b), min(max(a, b), a+b-c)))
		a, c = v, b
	}
}
