package draw

import (
	"encoding/binary"
	"errors"
	"image"

	"hotdesk/protocol/draw/cosine"
)

// A Blocks is what a Lossy says, unpacked: its rectangle in blocks of 8x8
// pixels from left to right and from the top, those at the right and the bottom
// filled up.
//
// A pixel is Y, Co and Cg (YCoCg-R: Co = R-B, t = B + Co>>1, Cg = G-t, Y = t +
// Cg>>1; intra, Y is less 128), a component of a block the discrete cosine
// transform (package cosine) of its samples, or (inter) of the difference to what
// is in the picture, divided by its step and rounded. The steps of Co and Cg are 5/2 and
// 2 times that of Y, since errors in them make so much smaller ones in pixels.
//
//	Shape     a byte for each block: bit 0 inter, bits 1 to 3 a DC of Y, Co, Cg
//	          follows, bits 4 to 6 an AC of each; 1 leaves the block as it is
//	DC        values, never 0: intra what the DC is more than that of the intra
//	          block before
//	AC, Chroma  tokens of Y, and of Co and Cg, in zigzag order: 0 ends the
//	          component, as its 63rd value does; 253 is 36 zeros; t = 1..252 is
//	          (t-1)/7 zeros and then 1, -1, 2, -2, 3, -3 or the next of Big
//	Big       values
//
// A value is a byte, 2v-1 for v > 0 and -2v for others; 255 is followed by v as
// two bytes. Arithmetic is that of int32 everywhere, so that all machines draw
// the same.
type Blocks struct {
	Shape, DC, AC, Chroma, Big []byte
}

// The bits of a shape.
const (
	Inter   = 1
	HasDC   = 2  // << component
	HasAC   = 16 // << component
	shapeIn = 1<<7 - 1
)

// Tokens of AC and Chroma.
const (
	TokenEnd   = 0
	TokenZeros = 253 // so many zeros as ZeroRun
	ZeroRun    = 36
	Classes    = 7 // of values in a token; the last is that of Big
)

// BlocksOf is the number of blocks of a picture of that size.
func BlocksOf(w, h int) int { return (w + 7) / 8 * ((h + 7) / 8) }

// Steps are those of Y, Co and Cg.
func Steps(step byte) [3]int32 {
	s := int32(step)
	return [3]int32{s, s * 5 / 2, s * 2}
}

var errBlocks = errors.New("draw: bad blocks")

// Check reports whether b is exactly so many blocks.
func (b Blocks) Check(blocks int) error {
	if len(b.Shape) != blocks {
		return errBlocks
	}
	r := reader{b: b}
	for _, shape := range b.Shape {
		if shape > shapeIn {
			return errBlocks
		}
		for k := range 3 {
			if shape&(HasDC<<k) != 0 {
				r.value(&r.b.DC)
			}
			if shape&(HasAC<<k) != 0 {
				r.skipAC(k)
			}
		}
		if r.bad {
			return errBlocks
		}
	}
	if len(r.b.DC)+len(r.b.AC)+len(r.b.Chroma)+len(r.b.Big) > 0 {
		return errBlocks
	}
	return nil
}

// reader takes blocks apart from their front.
type reader struct {
	b   Blocks
	bad bool
}

// value takes one value; 0 where there is none.
func (r *reader) value(from *[]byte) int32 {
	b := *from
	if len(b) == 0 || b[0] == 255 && len(b) < 3 {
		r.bad = true
		return 0
	}
	if b[0] == 255 {
		*from = b[3:]
		return int32(int16(binary.BigEndian.Uint16(b[1:])))
	}
	*from = b[1:]
	z := int32(b[0])
	return -(z>>1 ^ -(z & 1))
}

// AppendValue writes v as reader.value reads it.
func AppendValue(b []byte, v int32) []byte {
	// Without a branch for the sign, which nothing foretells.
	if z := uint32(-v)<<1 ^ uint32(-v>>31); z < 255 {
		return append(b, byte(z))
	}
	return append(b, 255, byte(v>>8), byte(v))
}

func (r *reader) tokens(k int) *[]byte {
	if k == 0 {
		return &r.b.AC
	}
	return &r.b.Chroma
}

// skipAC checks the AC of a component.
func (r *reader) skipAC(k int) {
	from := r.tokens(k)
	t := *from
	for at := 0; at < 63; {
		if len(t) == 0 || t[0] > TokenZeros {
			r.bad = true
			return
		}
		c := int(t[0])
		t = t[1:]
		if c == TokenEnd {
			break
		}
		if c == TokenZeros {
			at += ZeroRun
			if at >= 63 { // nothing would follow
				r.bad = true
				return
			}
			continue
		}
		at += (c-1)/Classes + 1
		if (c-1)%Classes == Classes-1 {
			r.value(&r.b.Big)
		}
		if at > 63 {
			r.bad = true
			return
		}
	}
	*from = t
}

var tokenRun, tokenValue = func() (run [256]uint8, value [256]int8) {
	for c := 1; c < TokenZeros; c++ {
		run[c] = uint8((c - 1) / Classes)
		value[c] = [Classes]int8{1, -1, 2, -2, 3, -3, 0}[(c-1)%Classes]
	}
	return run, value
}()

// readAC puts the AC of a component, which Check has accepted, in c.
func (r *reader) readAC(k int, c *[64]int32, step int32) {
	from := r.tokens(k)
	t := *from
	for at := 0; at < 63; {
		token := t[0]
		t = t[1:]
		if token == TokenEnd {
			break
		}
		if token == TokenZeros {
			at += ZeroRun
			continue
		}
		at += int(tokenRun[token]) + 1
		v := int32(tokenValue[token])
		if v == 0 {
			v = r.value(&r.b.Big)
		}
		c[cosine.Zigzag[at&63]&63] = v * step
	}
	*from = t
}

// Draw draws the blocks, which Check has accepted, on r of p.
func (b Blocks) Draw(p *Pixmap, r image.Rectangle, step byte) {
	steps := Steps(step)
	in := reader{b: b}
	var last [3]int32
	var block, was cosine.Block
	i := 0
	for y := r.Min.Y; y < r.Max.Y; y += 8 {
		for x := r.Min.X; x < r.Max.X; x, i = x+8, i+1 {
			shape := b.Shape[i]
			if shape == Inter {
				continue
			}
			for k := range 3 {
				dc := int32(0)
				if shape&(HasDC<<k) != 0 {
					dc = in.value(&in.b.DC)
				}
				if shape&Inter == 0 {
					last[k] += dc
					dc = last[k]
				}
				c := &block[k]
				if shape&(HasAC<<k) == 0 {
					cosine.Flat(c, dc*steps[k])
					continue
				}
				*c = [64]int32{}
				c[0] = dc * steps[k]
				in.readAC(k, c, steps[k])
				cosine.Inverse(c)
			}
			pix, w, h := p.Pix[y*p.Stride+x*4:], min(8, r.Max.X-x), min(8, r.Max.Y-y)
			if shape&Inter == 0 {
				block.Store(pix, p.Stride, w, h, nil)
				continue
			}
			was.Load(pix, p.Stride, w, h)
			block.Store(pix, p.Stride, w, h, &was)
		}
	}
}
