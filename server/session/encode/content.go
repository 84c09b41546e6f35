package encode

import (
	"encoding/binary"
	"math/bits"

	"hotdesk/protocol/draw"
)

// palettePixels bounds one PALETTE, and photoPixels is draw.MaxPhoto: larger
// areas are cut into strips of rows.
const palettePixels = 1 << 17

// leastPacked is the smallest area, in pixels, that is worth looking whether it
// has two colours.
const leastPacked = 64

// content says how an area is sent.
type content byte

const (
	plain  content = iota // SET
	few                   // PALETTE
	smooth                // PHOTO
)

// colours counts up to draw.MaxColours colours and gives each a number.
type colours struct {
	list  [draw.MaxColours]uint32
	n     int
	slots [4 * draw.MaxColours]struct {
		colour uint32
		index  int16 // 1 is the first colour's; 0: empty
	}
	used [draw.MaxColours]int16 // slots to clear
}

func (c *colours) reset() {
	for _, s := range c.used[:c.n] {
		c.slots[s].index = 0
	}
	c.n = 0
}

// index is the number of a colour, not ok where there are too many.
func (c *colours) index(colour uint32) (i int, ok bool) {
	s := colour * 0x9e3779b1 >> 22
	for ; c.slots[s].index != 0; s = (s + 1) % uint32(len(c.slots)) {
		if c.slots[s].colour == colour {
			return int(c.slots[s].index) - 1, true
		}
	}
	if c.n == len(c.list) {
		return 0, false
	}
	c.slots[s].colour, c.slots[s].index = colour, int16(c.n+1)
	c.list[c.n], c.used[c.n] = colour, int16(s)
	c.n++
	return c.n - 1, true
}

// A coder makes the operation of a strip.
type coder struct {
	colours colours
	indices []byte   // of PALETTE's pixels, column by column
	packed  bool     // as PALETTE has them; if not, one in a byte
	pairs   []uint64 // of columns, for twoColours
	pic     *photo   // nil: none was needed yet
	buf     []byte   // the operation, or one row packed
}

// look decides how to send a of p, and leaves in c.indices what PALETTE needs.
func (c *coder) look(p *draw.Pixmap, a area) content {
	w, h := a.x1-a.x0, a.y1-a.y0
	c.colours.reset()
	if cap(c.indices) < w*h {
		c.indices = make([]byte, w*h)
	}
	if c.packed = c.twoColours(p, a); c.packed {
		return few
	}
	c.indices = c.indices[:w*h]
	for y := range h {
		row := p.Row(a.y0+y, a.x0, a.x1)
		const none = 1 << 24
		last, lastIndex := uint32(none), 0
		other, otherIndex := uint32(none), 0 // the one before: most change to and fro
		for x, o := 0, y; x < len(row); x, o = x+4, o+h {
			px := pixel(row[x:])
			if px != last {
				last, other, lastIndex, otherIndex = other, last, otherIndex, lastIndex
			}
			if px != last {
				var ok bool
				if lastIndex, ok = c.colours.index(px); !ok {
					return texture(p, a)
				}
				last = px
			}
			c.indices[o] = byte(lastIndex)
		}
	}
	// A few pixels of many colours are cheaper without a list of them.
	if n := c.colours.n; w*draw.IndexBits(n)*h/8+3*n >= 3*w*h {
		return plain
	}
	return few
}

// twoColours packs the indices of a where it has exactly two colours, as most
// text has: two pixels at a time, with no branch for each.
func (c *coder) twoColours(p *draw.Pixmap, a area) bool {
	w, h := a.x1-a.x0, a.y1-a.y0
	if w*h < leastPacked {
		return false
	}
	first := pixel(p.Row(a.y0, a.x0, a.x1))
	second := first
	for y := a.y0; y < a.y1 && second == first; y++ {
		row := p.Row(y, a.x0, a.x1)
		for x := 0; x < len(row) && second == first; x += 4 {
			second = pixel(row[x:])
		}
	}
	if second == first {
		return false
	}
	const ones, mask = 1<<32 | 1, 0xffffff<<32 | 0xffffff
	differ := uint64(first ^ second)
	at := bits.TrailingZeros64(differ) & 31
	firsts := uint64(first) * ones
	if n := (w + 1) / 2; cap(c.pairs) < n {
		c.pairs = make([]uint64, n)
	}
	pairs := c.pairs[:(w+1)/2]
	size := (h + 7) / 8
	out := c.indices[:w*size]
	for y := 0; y < h; y += 8 {
		clear(pairs)
		for k := range min(8, h-y) {
			row, others, shift := p.Row(a.y0+y+k, a.x0, a.x1), uint64(0), 7-k
			for i := 0; len(row) >= 8 && i < len(pairs); i++ {
				d := binary.LittleEndian.Uint64(row)&mask ^ firsts
				index := d >> at & ones // 1 where it is the second, if it is one of both
				others |= d ^ index*differ
				pairs[i] |= index << shift
				row = row[8:]
			}
			if len(row) > 0 {
				d := uint64(pixel(row) ^ first)
				index := d >> at & 1
				others |= d ^ index*differ
				pairs[len(pairs)-1] |= index << shift
			}
			if others != 0 {
				return false
			}
		}
		o := y / 8
		for _, pair := range pairs[:w/2] {
			out[o], out[o+size] = byte(pair), byte(pair>>32)
			o += 2 * size
		}
		if w&1 != 0 {
			out[o] = byte(pairs[w/2])
		}
	}
	c.indices = out
	c.colours.index(first)
	c.colours.index(second)
	return true
}

// texture tells photos from drawings of many colours: where hardly any pixel
// is as its left neighbour, prediction compresses better than repetition.
func texture(p *draw.Pixmap, a area) content {
	if a.pixels() < 256 {
		return plain
	}
	looked, equal := 0, 0
	for y := a.y0; y < a.y1; y += 4 {
		row := p.Row(y, a.x0, a.x1)
		for x := 4; x < len(row); x += 4 {
			if same(row[x:], row[x-4:]) {
				equal++
			}
		}
		looked += len(row)/4 - 1
	}
	if equal*5 < looked*2 {
		return smooth
	}
	return plain
}

// palette makes the operation of a, which look has seen.
func (c *coder) palette(a area) {
	w, h := a.x1-a.x0, a.y1-a.y0
	n := c.colours.n
	c.buf = head(c.buf[:0], draw.Palette, a)
	c.buf = append(c.buf, byte(n-1))
	for _, c1 := range c.colours.list[:n] {
		c.buf = append(c.buf, byte(c1), byte(c1>>8), byte(c1>>16))
	}
	if c.packed {
		c.buf = append(c.buf, c.indices...)
		return
	}
	size := draw.IndexBits(n)
	for x := range w {
		column := c.indices[x*h:][:h]
		switch size {
		case 8:
			c.buf = append(c.buf, column...)
		case 1:
			for ; len(column) >= 8; column = column[8:] {
				v := binary.LittleEndian.Uint64(column)
				c.buf = append(c.buf, byte(v*0x8040201008040201>>56)) // the eight low bits, the first highest
			}
			fallthrough
		default:
			for len(column) > 0 {
				k := min(8/size, len(column))
				v := byte(0)
				for i, index := range column[:k] {
					v |= index << (8 - size*(i+1))
				}
				c.buf, column = append(c.buf, v), column[k:]
			}
		}
	}
}

// head writes an operation's code and rectangle.
func head(b []byte, code draw.Code, a area) []byte {
	u16 := binary.BigEndian.AppendUint16
	b = append(b, byte(code))
	return u16(u16(u16(u16(b, uint16(a.x0)), uint16(a.y0)), uint16(a.x1-a.x0)), uint16(a.y1-a.y0))
}
