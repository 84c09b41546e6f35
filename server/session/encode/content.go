package encode

import (
	"encoding/binary"

	"hotdesk/protocol/draw"
)

// palettePixels bounds one PALETTE, and photoPixels is draw.MaxPhoto: larger
// areas are cut into strips of rows.
const palettePixels = 1 << 17

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

// look decides how to send a, and leaves in e.indices what PALETTE needs: the
// pixels' numbers, column by column.
func (e *Encoder) look(a area) content {
	w, h := a.x1-a.x0, a.y1-a.y0
	c := &e.colours
	c.reset()
	if cap(e.indices) < w*h {
		e.indices = make([]byte, w*h)
	}
	e.indices = e.indices[:w*h]
	for y := range h {
		row := e.shadow.Row(a.y0+y, a.x0, a.x1)
		last, lastIndex := pixel(row)+1, 0 // none
		for x, o := 0, y; x < len(row); x, o = x+4, o+h {
			px := pixel(row[x:])
			if px != last {
				var ok bool
				if lastIndex, ok = c.index(px); !ok {
					return e.texture(a)
				}
				last = px
			}
			e.indices[o] = byte(lastIndex)
		}
	}
	// A few pixels of many colours are cheaper without a list of them.
	if w*draw.IndexBits(c.n)*h/8+3*c.n >= 3*w*h {
		return plain
	}
	return few
}

// texture tells photos from drawings of many colours: where hardly any pixel
// is as its left neighbour, prediction compresses better than repetition.
func (e *Encoder) texture(a area) content {
	if a.pixels() < 256 {
		return plain
	}
	looked, equal := 0, 0
	for y := a.y0; y < a.y1; y += 4 {
		row := e.shadow.Row(y, a.x0, a.x1)
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

// palette writes a, which look has seen.
func (e *Encoder) palette(a area) {
	w, h := a.x1-a.x0, a.y1-a.y0
	n := e.colours.n
	e.buf = head(e.buf[:0], draw.Palette, a)
	e.buf = append(e.buf, byte(n-1))
	for _, c := range e.colours.list[:n] {
		e.buf = append(e.buf, byte(c), byte(c>>8), byte(c>>16))
	}
	bits := draw.IndexBits(n)
	for x := range w {
		column := e.indices[x*h:][:h]
		switch bits {
		case 8:
			e.buf = append(e.buf, column...)
		case 1:
			for ; len(column) >= 8; column = column[8:] {
				v := binary.LittleEndian.Uint64(column)
				e.buf = append(e.buf, byte(v*0x8040201008040201>>56)) // the eight low bits, the first highest
			}
			fallthrough
		default:
			for len(column) > 0 {
				k := min(8/bits, len(column))
				v := byte(0)
				for i, index := range column[:k] {
					v |= index << (8 - bits*(i+1))
				}
				e.buf, column = append(e.buf, v), column[k:]
			}
		}
	}
	e.room(len(e.buf), w*h, 0)
	e.write(e.buf)
}

// head writes an operation's code and rectangle.
func head(b []byte, code draw.Code, a area) []byte {
	u16 := binary.BigEndian.AppendUint16
	b = append(b, byte(code))
	return u16(u16(u16(u16(b, uint16(a.x0)), uint16(a.y0)), uint16(a.x1-a.x0)), uint16(a.y1-a.y0))
}
