package rfb

import (
	"encoding/binary"
	"io"
)

func (c *Client) raw(r rect) error {
	for y := r.y; y < r.y+r.h; y++ {
		o := (y*c.W + r.x) * 4
		if _, err := io.ReadFull(c.br, c.FB[o:o+r.w*4]); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) copyRect(r rect) error {
	b, err := c.full(4)
	if err != nil {
		return err
	}
	sx, sy := int(binary.BigEndian.Uint16(b)), int(binary.BigEndian.Uint16(b[2:]))
	if sy < r.y {
		for y := r.h - 1; y >= 0; y-- {
			copy(c.FB[((r.y+y)*c.W+r.x)*4:][:r.w*4], c.FB[((sy+y)*c.W+sx)*4:][:r.w*4])
		}
	} else {
		for y := 0; y < r.h; y++ {
			copy(c.FB[((r.y+y)*c.W+r.x)*4:][:r.w*4], c.FB[((sy+y)*c.W+sx)*4:][:r.w*4])
		}
	}
	return nil
}

func (c *Client) fill(x, y, w, h int, p uint32) {
	row := c.FB[(y*c.W+x)*4:][:w*4]
	for i := 0; i < w*4; i += 4 {
		binary.LittleEndian.PutUint32(row[i:], p)
	}
	for j := 1; j < h; j++ {
		copy(c.FB[((y+j)*c.W+x)*4:][:w*4], row)
	}
}

func (c *Client) hextile(r rect) error {
	var bg, fg uint32
	for ty := 0; ty < r.h; ty += 16 {
		th := min(16, r.h-ty)
		for tx := 0; tx < r.w; tx += 16 {
			tw := min(16, r.w-tx)
			f, err := c.br.ReadByte()
			if err != nil {
				return err
			}
			if f&1 != 0 {
				if err := c.raw(rect{r.x + tx, r.y + ty, tw, th}); err != nil {
					return err
				}
				continue
			}
			if f&2 != 0 {
				b, err := c.full(4)
				if err != nil {
					return err
				}
				bg = binary.LittleEndian.Uint32(b)
			}
			c.fill(r.x+tx, r.y+ty, tw, th, bg)
			if f&4 != 0 {
				b, err := c.full(4)
				if err != nil {
					return err
				}
				fg = binary.LittleEndian.Uint32(b)
			}
			if f&8 != 0 {
				n, err := c.br.ReadByte()
				if err != nil {
					return err
				}
				for i := 0; i < int(n); i++ {
					p := fg
					if f&16 != 0 {
						b, err := c.full(4)
						if err != nil {
							return err
						}
						p = binary.LittleEndian.Uint32(b)
					}
					b, err := c.full(2)
					if err != nil {
						return err
					}
					c.fill(r.x+tx+int(b[0]>>4), r.y+ty+int(b[0]&15), int(b[1]>>4)+1, int(b[1]&15)+1, p)
				}
			}
		}
	}
	return nil
}
