package rfb

import (
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
)

func (c *Client) zrleRect(r rect) error {
	h, err := c.full(4)
	if err != nil {
		return err
	}
	src, err := c.full(int(binary.BigEndian.Uint32(h)))
	if err != nil {
		return err
	}
	z := &c.zrle
	z.in.Write(src)
	if z.zr == nil {
		if z.zr, err = zlib.NewReader(z); err != nil {
			return err
		}
	}
	zr := zrd{r: z.zr}
	for ty := 0; ty < r.h; ty += 64 {
		th := min(64, r.h-ty)
		for tx := 0; tx < r.w; tx += 64 {
			tw := min(64, r.w-tx)
			if err := c.zrleTile(&zr, r.x+tx, r.y+ty, tw, th); err != nil {
				return err
			}
		}
	}
	return nil
}

type zrd struct {
	r   io.Reader
	b   [1]byte
	tmp []byte
}

func (z *zrd) byte() (byte, error) { _, err := io.ReadFull(z.r, z.b[:]); return z.b[0], err }
func (z *zrd) bytes(n int) ([]byte, error) {
	if cap(z.tmp) < n {
		z.tmp = make([]byte, n+4096)
	}
	_, err := io.ReadFull(z.r, z.tmp[:n])
	return z.tmp[:n], err
}
func (z *zrd) pix() (uint32, error) {
	b, err := z.bytes(3)
	return uint32(b[2])<<16 | uint32(b[1])<<8 | uint32(b[0]), err
}
func (z *zrd) run() (int, error) {
	n := 1
	for {
		b, err := z.byte()
		if err != nil {
			return 0, err
		}
		n += int(b)
		if b != 255 {
			return n, nil
		}
	}
}

func (c *Client) zrleTile(z *zrd, x0, y0, w, h int) error {
	s, err := z.byte()
	if err != nil {
		return err
	}
	put := func(i int, p uint32) {
		binary.LittleEndian.PutUint32(c.FB[((y0+i/w)*c.W+x0+i%w)*4:], p)
	}
	var pal [128]uint32
	np := 0
	if s >= 1 && s <= 16 {
		np = int(s)
	} else if s >= 130 {
		np = int(s) - 128
	}
	for i := 0; i < np; i++ {
		if pal[i], err = z.pix(); err != nil {
			return err
		}
	}
	switch {
	case s == 0:
		b, err := z.bytes(w * h * 3)
		if err != nil {
			return err
		}
		for y, k := 0, 0; y < h; y++ {
			row := c.FB[((y0+y)*c.W+x0)*4:][:w*4]
			for x := 0; x < len(row); x, k = x+4, k+3 {
				row[x], row[x+1], row[x+2], row[x+3] = b[k], b[k+1], b[k+2], 0
			}
		}
	case s == 1:
		c.fill(x0, y0, w, h, pal[0])
	case s <= 16:
		bits := 4
		if np == 2 {
			bits = 1
		} else if np <= 4 {
			bits = 2
		}
		rb := (w*bits + 7) / 8
		b, err := z.bytes(rb * h)
		if err != nil {
			return err
		}
		m := byte(1<<bits - 1)
		for y := range h {
			row := c.FB[((y0+y)*c.W+x0)*4:]
			for x := range w {
				o := x * bits
				binary.LittleEndian.PutUint32(row[x*4:], pal[b[y*rb+o/8]>>(8-bits-o%8)&m])
			}
		}
	case s == 128:
		for i := 0; i < w*h; {
			p, err := z.pix()
			if err != nil {
				return err
			}
			n, err := z.run()
			if err != nil {
				return err
			}
			for ; n > 0 && i < w*h; n, i = n-1, i+1 {
				put(i, p)
			}
		}
	case s >= 130:
		for i := 0; i < w*h; {
			k, err := z.byte()
			if err != nil {
				return err
			}
			n := 1
			if k&128 != 0 {
				if n, err = z.run(); err != nil {
					return err
				}
			}
			for ; n > 0 && i < w*h; n, i = n-1, i+1 {
				put(i, pal[k&127])
			}
		}
	default:
		return fmt.Errorf("zrle subencoding %d", s)
	}
	return nil
}
