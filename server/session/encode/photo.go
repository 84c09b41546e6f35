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
	rows  [2][3][]byte
	huff  huff0.Scratch
}

// photo writes a, at most draw.MaxPhoto pixels.
func (e *Encoder) photo(a area) {
	w, h := a.x1-a.x0, a.y1-a.y0
	if e.pic == nil {
		e.pic = new(photo)
		e.pic.huff.Reuse = huff0.ReusePolicyNone
	}
	e.pic.residues(&e.shadow, a)
	e.buf = head(e.buf[:0], draw.Photo, a)
	e.buf = append(e.buf, 0, 0, 0, 0)
	body := len(e.buf)
	for _, plane := range e.pic.plane {
		e.buf = e.pic.append(e.buf, plane)
	}
	binary.BigEndian.PutUint32(e.buf[body-4:], uint32(len(e.buf)-body))
	e.room(len(e.buf), w*h, w*h*3)
	e.write(e.buf)
}

// append codes one plane.
func (p *photo) append(b, plane []byte) []byte {
	out, _, err := huff0.Compress4X(plane, &p.huff)
	switch {
	case err == nil:
		return append(append(b, draw.PlaneHuff, byte(len(out)>>16), byte(len(out)>>8), byte(len(out))), out...)
	case errors.Is(err, huff0.ErrUseRLE):
		return append(b, draw.PlaneFlat, plane[0])
	}
	return append(append(b, draw.PlaneRaw), plane...)
}

// residues fills the planes with what prediction leaves.
func (p *photo) residues(src *draw.Pixmap, a area) {
	w, h := a.x1-a.x0, a.y1-a.y0
	for k := range p.plane {
		if cap(p.plane[k]) < w*h {
			p.plane[k] = make([]byte, max(w*h, 1<<14))
		}
		p.plane[k] = p.plane[k][:w*h]
		for i := range p.rows {
			if cap(p.rows[i][k]) < w {
				p.rows[i][k] = make([]byte, max(w, 2048))
			}
			p.rows[i][k] = p.rows[i][k][:w]
		}
	}
	for y := range h {
		split(p.rows[y&1], src.Row(a.y0+y, a.x0, a.x1))
		for k := range p.plane {
			predict(p.plane[k][y*w:][:w], p.rows[y&1][k], p.rows[1-y&1][k], y == 0)
		}
	}
}

// split makes the planes of one row of pixels.
func split(rows [3][]byte, px []byte) {
	g, b, r := rows[0], rows[1], rows[2]
	b, r = b[:len(g)], r[:len(g)]
	px = px[:len(g)*4]
	for i := range g {
		v := binary.LittleEndian.Uint32(px[i*4:])
		green := byte(v >> 8)
		g[i], b[i], r[i] = green, byte(v)-green+128, byte(v>>16)-green+128
	}
}

// predict leaves in out what the median of left, above, and left + above -
// above left does not tell of row.
func predict(out, row, above []byte, first bool) {
	if first {
		left := byte(0)
		for i, v := range row {
			out[i] = v - left
			left = v
		}
		return
	}
	above, out = above[:len(row)], out[:len(row)]
	out[0] = row[0] - above[0]
	a, c := int(row[0]), int(above[0])
	for i := 1; i < len(row); i++ {
		b, v := int(above[i]), int(row[i])
		out[i] = byte(v - max(min(a, b), min(max(a, b), a+b-c)))
		a, c = v, b
	}
}
