package framebuf

import (
	"errors"
	"fmt"
	"image"
)

const (
	// maxSide bounds the screen's sides in pixels, maxStride its rows in bytes.
	maxSide   = 16384
	maxStride = 4 * maxSide
)

// A field is where a colour is in a pixel, in bits.
type field struct{ offset, length uint32 }

// A format says how the picture lies in the frame buffer.
type format struct {
	w, h             int
	stride           int // bytes from row to row
	start            int // of the visible part
	bytes            int // of a pixel
	red, green, blue field
}

var errFormat = errors.New("framebuf: a frame buffer of a kind that is not supported")

// check refuses what cannot be drawn on, in size bytes of memory.
func (f format) check(size int) error {
	switch {
	case f.w < 1 || f.h < 1 || f.w > maxSide || f.h > maxSide:
		return fmt.Errorf("%w: %dx%d pixels", errFormat, f.w, f.h)
	case f.bytes < 2 || f.bytes > 4:
		return fmt.Errorf("%w: %d bits a pixel; 16, 24 and 32 are", errFormat, 8*f.bytes)
	case f.stride < f.w*f.bytes || f.stride > maxStride:
		return fmt.Errorf("%w: rows of %d bytes", errFormat, f.stride)
	case f.start < 0 || f.start+f.stride*(f.h-1)+f.w*f.bytes > size:
		return fmt.Errorf("%w: %d bytes of memory are too few", errFormat, size)
	}
	for _, c := range []field{f.red, f.green, f.blue} {
		if c.length < 1 || c.length > 8 || c.offset > 32 || int(c.offset+c.length) > 8*f.bytes {
			return fmt.Errorf("%w: colours of %d bits at bit %d", errFormat, c.length, c.offset)
		}
	}
	return nil
}

// plain reports whether pixels are B G R X, as pictures have them.
func (f format) plain() bool {
	return f.bytes == 4 && f.red == field{16, 8} && f.green == field{8, 8} && f.blue == field{0, 8}
}

// put draws r of the picture, whose pixels lie at pix in rows of stride bytes,
// B G R X.
func (f format) put(mem []byte, r image.Rectangle, pix []byte, stride int) {
	plain := f.plain()
	for y := r.Min.Y; y < r.Max.Y; y++ {
		from := pix[(y-r.Min.Y)*stride:][:4*r.Dx()]
		to := mem[f.start+y*f.stride+r.Min.X*f.bytes:][:f.bytes*r.Dx()]
		if plain {
			copy(to, from)
			continue
		}
		for ; len(from) > 0; from, to = from[4:], to[f.bytes:] {
			v := f.blue.of(from[0]) | f.green.of(from[1]) | f.red.of(from[2])
			for i := range f.bytes {
				to[i] = byte(v >> (8 * i))
			}
		}
	}
}

// of puts a colour's upper bits into their place.
func (c field) of(v byte) uint32 { return uint32(v) >> (8 - c.length) << c.offset }
