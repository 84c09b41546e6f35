package rfb

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
)

func (c *Client) compact() (int, error) {
	n := 0
	for s := range 3 {
		b, err := c.br.ReadByte()
		if err != nil {
			return 0, err
		}
		if s == 2 {
			return n | int(b)<<14, nil
		}
		n |= int(b&127) << (7 * s)
		if b&128 == 0 {
			break
		}
	}
	return n, nil
}

func (c *Client) tightData(stream, n int) ([]byte, error) {
	if n < 12 {
		return c.full(n)
	}
	l, err := c.compact()
	if err != nil {
		return nil, err
	}
	src, err := c.full(l)
	if err != nil {
		return nil, err
	}
	if cap(c.buf2) < n {
		c.buf2 = make([]byte, n+n/2)
	}
	d := c.buf2[:n]
	return d, c.tight[stream].inflate(src, d)
}

func (c *Client) tightRect(r rect) error {
	ctl, err := c.br.ReadByte()
	if err != nil {
		return err
	}
	for i := range 4 {
		if ctl&(1<<i) != 0 {
			c.tight[i].reset()
		}
	}
	switch {
	case ctl>>4 == 8:
		b, err := c.full(3)
		if err != nil {
			return err
		}
		c.fill(r.x, r.y, r.w, r.h, uint32(b[0])<<16|uint32(b[1])<<8|uint32(b[2]))
		return nil
	case ctl>>4 == 9:
		n, err := c.compact()
		if err != nil {
			return err
		}
		b, err := c.full(n)
		if err != nil {
			return err
		}
		c.JPEGRects.Add(1)
		c.JPEGPixels.Add(int64(r.w * r.h))
		return c.jpeg(r, b)
	case ctl>>4 > 9:
		return fmt.Errorf("tight control %x", ctl)
	}
	stream := int(ctl>>4) & 3
	filter := byte(0)
	if ctl&0x40 != 0 {
		if filter, err = c.br.ReadByte(); err != nil {
			return err
		}
	}
	switch filter {
	case 1:
		n, err := c.br.ReadByte()
		if err != nil {
			return err
		}
		var pal [256]uint32
		b, err := c.full((int(n) + 1) * 3)
		if err != nil {
			return err
		}
		for i := 0; i <= int(n); i++ {
			pal[i] = uint32(b[i*3])<<16 | uint32(b[i*3+1])<<8 | uint32(b[i*3+2])
		}
		if n == 1 {
			rb := (r.w + 7) / 8
			d, err := c.tightData(stream, rb*r.h)
			if err != nil {
				return err
			}
			for y := 0; y < r.h; y++ {
				row := c.FB[((r.y+y)*c.W+r.x)*4:]
				for x := 0; x < r.w; x++ {
					binary.LittleEndian.PutUint32(row[x*4:], pal[d[y*rb+x/8]>>(7-x&7)&1])
				}
			}
			return nil
		}
		d, err := c.tightData(stream, r.w*r.h)
		if err != nil {
			return err
		}
		for y := 0; y < r.h; y++ {
			row := c.FB[((r.y+y)*c.W+r.x)*4:]
			for x := 0; x < r.w; x++ {
				binary.LittleEndian.PutUint32(row[x*4:], pal[d[y*r.w+x]])
			}
		}
	case 0, 2:
		d, err := c.tightData(stream, r.w*r.h*3)
		if err != nil {
			return err
		}
		if filter == 2 {
			prev := make([]byte, r.w*3)
			for y := 0; y < r.h; y++ {
				row := d[y*r.w*3:][:r.w*3]
				for x := 0; x < r.w; x++ {
					for k := range 3 {
						v := int(prev[x*3+k])
						if x > 0 {
							v += int(row[x*3-3+k]) - int(prev[x*3-3+k])
						}
						row[x*3+k] += byte(max(0, min(255, v)))
					}
				}
				prev = row
			}
		}
		for y := 0; y < r.h; y++ {
			row := c.FB[((r.y+y)*c.W+r.x)*4:][:r.w*4]
			s := d[y*r.w*3:][:r.w*3]
			for x, k := 0, 0; x < len(row); x, k = x+4, k+3 {
				row[x], row[x+1], row[x+2], row[x+3] = s[k+2], s[k+1], s[k], 0
			}
		}
	default:
		return fmt.Errorf("tight filter %d", filter)
	}
	return nil
}

func (c *Client) jpeg(r rect, b []byte) error {
	m, err := jpeg.Decode(bytes.NewReader(b))
	if err != nil {
		return err
	}
	y, ok := m.(*image.YCbCr)
	if !ok || y.Rect.Dx() < r.w || y.Rect.Dy() < r.h {
		return fmt.Errorf("jpeg: %T of %v for %dx%d", m, m.Bounds(), r.w, r.h)
	}
	for j := range r.h {
		row := c.FB[((r.y+j)*c.W+r.x)*4:][:r.w*4]
		for i := range r.w {
			o := y.COffset(i, j)
			red, green, blue := color.YCbCrToRGB(y.Y[y.YOffset(i, j)], y.Cb[o], y.Cr[o])
			row[i*4], row[i*4+1], row[i*4+2], row[i*4+3] = blue, green, red, 0
		}
	}
	return nil
}
