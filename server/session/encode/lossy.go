package encode

import (
	"encoding/binary"
	"errors"
	"image"
	"math/bits"
	"slices"

	"github.com/klauspost/compress/huff0"

	"hotdesk/protocol/draw"
	"hotdesk/protocol/draw/cosine"
)

// lossy is the memory for LOSSY.
type lossy struct {
	blocks draw.Blocks
	now    cosine.Block // what there is
	before cosine.Block // what the terminal has there,
	after  cosine.Block // and what is added to that
	values [64]int32
	strip  []byte // the pixels of a row of blocks: memory is quicker row by row
	huff   huff0.Scratch
}

// quant divides by a step: what is less than two thirds of one becomes none,
// for it costs more than it shows.
type quant struct {
	dead  int32
	half  uint32
	times uint32 // 1<<quantBits / (8*step)
	step  int32
}

const (
	quantBits = 22
	// leastStep is the smallest with which a value times a quant's fits 32 bits.
	leastStep = 4
	grey      = 128 * 64 // what less 128 is in the first value of Forward
)

func quants(step byte) (q [3]quant) {
	for k, s := range draw.Steps(step) {
		u := uint32(8 * s)
		q[k] = quant{dead: int32(u * 5 / 8), half: u * 3 / 8, times: (1<<quantBits + u - 1) / u, step: s}
	}
	return q
}

// value has no branch for the sign, which nothing foretells.
func (q *quant) value(c int32) int32 { return q.round(c, q.half) }

// nearest is value without a dead zone: a step in a flat ground shows.
func (q *quant) nearest(c int32) int32 { return q.round(c, uint32(q.step)*4) }

func (q *quant) round(c int32, half uint32) int32 {
	sign := c >> 31
	v := (uint32((c^sign)-sign) + half) * q.times >> quantBits
	return (int32(v) ^ sign) - sign
}

// lossy writes r of src nearly. If inter, the shadow has there what was before,
// src may change meanwhile, and the shadow becomes what the terminal then has; if
// not, src is the shadow and stays as it is: to know what is sent in a few tenths
// of a second anyway would take half as much time again. It returns how many
// bytes that took, and whether anything was worth it.
func (e *Encoder) lossy(src *draw.Pixmap, r image.Rectangle, step byte, inter bool) (n int, changed bool) {
	if e.near == nil {
		e.near = new(lossy)
		e.near.huff.Reuse = huff0.ReusePolicyNone
	}
	if inter {
		e.straight()
	}
	l, step := e.near, max(step, leastStep)
	if !l.code(src, &e.shadow, r, step, inter, &e.cells) {
		return 0, false
	}
	e.buf = head(e.buf[:0], draw.Lossy, area{x0: r.Min.X, y0: r.Min.Y, x1: r.Max.X, y1: r.Max.Y})
	e.buf = append(e.buf, step, 0, 0, 0, 0)
	body, unpacked := len(e.buf), 0
	for _, field := range [5][]byte{l.blocks.Shape, l.blocks.DC, l.blocks.AC, l.blocks.Chroma, l.blocks.Big} {
		e.buf = l.pack(e.buf, field)
		unpacked += len(field)
	}
	binary.BigEndian.PutUint32(e.buf[body-4:], uint32(len(e.buf)-body))
	e.room(len(e.buf), r.Dx()*r.Dy(), unpacked)
	e.write(e.buf)
	return len(e.buf), true
}

// pack codes one field.
func (l *lossy) pack(b, field []byte) []byte {
	n := len(field)
	u24 := func(b []byte, n int) []byte { return append(b, byte(n>>16), byte(n>>8), byte(n)) }
	out, _, err := huff0.Compress4X(field, &l.huff)
	switch {
	case n > 0 && err == nil && 3+len(out) <= n:
		return append(u24(u24(append(b, draw.PlaneHuff), n), len(out)), out...)
	case n > 0 && errors.Is(err, huff0.ErrUseRLE):
		return append(u24(append(b, draw.PlaneFlat), n), field[0])
	}
	return append(u24(append(b, draw.PlaneRaw), n), field...)
}

// code makes l.blocks of r and, if inter, draws them on old, which has no Order, as
// the terminal will, and reports whether there is any but what leaves things as they are.
func (l *lossy) code(src, old *draw.Pixmap, r image.Rectangle, step byte, inter bool, g *cells) (any bool) {
	b := &l.blocks
	b.Shape, b.DC, b.AC, b.Chroma, b.Big = b.Shape[:0], b.DC[:0], b.AC[:0], b.Chroma[:0], b.Big[:0]
	q := quants(step)
	var last [3]int32
	owing := inter && !g.owing(r).Empty()
	for y := r.Min.Y; y < r.Max.Y; y += 8 {
		h := min(8, r.Max.Y-y)
		l.strip = l.strip[:0]
		for i := range h {
			l.strip = append(l.strip, src.Row(y+i, r.Min.X, r.Max.X)...)
		}
		for x := r.Min.X; x < r.Max.X; x += 8 {
			w := min(8, r.Max.X-x)
			there := old.Pix[y*old.Stride+x*4:]
			l.now.Load(l.strip[(x-r.Min.X)*4:], r.Dx()*4, w, h)
			shape, before := byte(0), (*cosine.Block)(nil)
			if inter && !(owing && !g.owing(image.Rect(x, y, x+w, y+h)).Empty()) {
				l.before.Load(there, old.Stride, w, h)
				if l.now.Less(&l.before) {
					shape, before = draw.Inter, &l.before
				}
			}
			var dc [3]int32
			for k := range 3 {
				c, q := &l.values, &q[k]
				cosine.Forward(c, &l.now[k])
				if before != nil {
					dc[k] = q.value(c[0])
				} else {
					if k == 0 {
						c[0] -= grey
					}
					dc[k] = q.nearest(c[0])
				}
				d := dc[k]
				if before == nil {
					d, last[k] = d-last[k], d
				}
				if d != 0 {
					shape |= draw.HasDC << k
					b.DC = draw.AppendValue(b.DC, d)
				}
				alive := cosine.Beyond(c, q.dead) &^ 1
				if alive == 0 {
					continue
				}
				shape |= draw.HasAC << k
				var after *[64]int32
				if inter {
					after = &l.after[k]
					*after = [64]int32{}
				}
				if k == 0 {
					b.AC = l.tokens(b.AC, alive, after, q)
				} else {
					b.Chroma = l.tokens(b.Chroma, alive, after, q)
				}
			}
			b.Shape = append(b.Shape, shape)
			if shape == draw.Inter {
				continue
			}
			any = true
			if !inter {
				continue
			}
			for k := range 3 {
				if shape&(draw.HasAC<<k) == 0 {
					cosine.Flat(&l.after[k], dc[k]*q[k].step)
					continue
				}
				l.after[k][0] = dc[k] * q[k].step
				cosine.Inverse(&l.after[k])
			}
			l.after.Store(there, old.Stride, w, h, before)
		}
	}
	return any
}

// classes are those of -3 to 3.
var classes = [7]uint8{5, 3, 1, draw.Classes - 1, 0, 2, 4}

// maxTokens is how many tokens a block's AC can take: one for each value, and one
// for each run of zeros that is too long for that.
const maxTokens = 63 + 63/draw.ZeroRun + 1

// tokens writes the AC of a block, of which those in alive, at least one, count,
// and leaves in c, unless it is nil, what the terminal makes of it.
func (l *lossy) tokens(b []byte, alive uint64, c *[64]int32, q *quant) []byte {
	b = slices.Grow(b, maxTokens)
	n := len(b)
	b = b[:n+maxTokens]
	at := 0
	for ; alive != 0; alive &= alive - 1 {
		i := bits.TrailingZeros64(alive)
		v := q.value(l.values[cosine.Zagzig[i]&63]) // not 0: it is beyond the dead zone
		run := i - at - 1
		if run >= draw.ZeroRun {
			b[n] = draw.TokenZeros
			n, run = n+1, run-draw.ZeroRun
		}
		class := draw.Classes - 1
		if uint32(v+3) < uint32(len(classes)) {
			class = int(classes[v+3])
		} else {
			l.blocks.Big = draw.AppendValue(l.blocks.Big, v)
		}
		b[n] = byte(run*draw.Classes + class + 1)
		n++
		at = i
		if c != nil {
			c[cosine.Zigzag[i]&63] = v * q.step
		}
	}
	if at < 63 {
		b[n] = draw.TokenEnd
		n++
	}
	return b[:n]
}
