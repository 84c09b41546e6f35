package encode

import (
	"encoding/binary"
	"errors"
	"image"

	"github.com/klauspost/compress/huff0"

	"hotdesk/protocol/draw"
)

// lossy is the memory for LOSSY.
type lossy struct {
	blocks draw.Blocks
	now    [3][64]int32 // a block's components
	before [3][64]int32 // of what the terminal has there
	huff   huff0.Scratch
}

// quant divides by a step: what is less than two thirds of one becomes none,
// for it costs more than it shows.
type quant struct {
	dead, half uint32
	times      uint32 // 1<<quantBits / (8*step)
	step       int32
}

const (
	quantBits = 22
	// leastStep is the smallest with which a value times a quant's fits 32 bits.
	leastStep = 4
	bias      = 1 << 13 // more than any value: division rounds down
)

func quants(step byte) (q [3]quant) {
	for k, s := range draw.Steps(step) {
		u := uint32(8 * s)
		q[k] = quant{dead: u * 5 / 8, half: u * 3 / 8, times: (1<<quantBits + u - 1) / u, step: s}
	}
	return q
}

func (q *quant) value(c int32) int32 {
	if c < 0 {
		return -int32((uint32(-c) + q.half) * q.times >> quantBits)
	}
	return int32((uint32(c) + q.half) * q.times >> quantBits)
}

// lossy writes r of src, which may change meanwhile, nearly, and makes the
// shadow what the terminal then has. inter says that the shadow has there what
// was before, and is not src. It returns how many bytes that took, and whether
// anything was worth it.
func (e *Encoder) lossy(src *draw.Pixmap, r image.Rectangle, step byte, inter bool) (n int, changed bool) {
	if e.near == nil {
		e.near = new(lossy)
		e.near.huff.Reuse = huff0.ReusePolicyNone
	}
	l, step := e.near, max(step, leastStep)
	if !l.code(src, &e.shadow, r, step, inter) {
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
	l.blocks.Draw(&e.shadow, r, step)
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

// code makes l.blocks of r, and reports whether there is any but what leaves
// things as they are.
func (l *lossy) code(src, old *draw.Pixmap, r image.Rectangle, step byte, inter bool) (any bool) {
	b := &l.blocks
	b.Shape, b.DC, b.AC, b.Chroma, b.Big = b.Shape[:0], b.DC[:0], b.AC[:0], b.Chroma[:0], b.Big[:0]
	q := quants(step)
	var last [3]int32
	for y := r.Min.Y; y < r.Max.Y; y += 8 {
		y1 := min(y+8, r.Max.Y)
		for x := r.Min.X; x < r.Max.X; x += 8 {
			x1 := min(x+8, r.Max.X)
			load(&l.now, src, x, y, x1, y1)
			shape := byte(0)
			if inter {
				load(&l.before, old, x, y, x1, y1)
				if l.nearer() {
					shape = draw.Inter
				}
			}
			for k := range 3 {
				c := &l.now[k]
				if shape == 0 && k == 0 {
					for i := range c {
						c[i] -= 128
					}
				}
				draw.Forward(c)
				dc := q[k].value(c[0])
				if shape&draw.Inter == 0 {
					// Without a dead zone: a step in a flat ground shows.
					half := q[k].step * 4
					dc = (c[0]+half+bias*8*q[k].step)/(8*q[k].step) - bias
					dc, last[k] = dc-last[k], dc
				}
				if dc != 0 {
					shape |= draw.HasDC << k
					b.DC = draw.AppendValue(b.DC, dc)
				}
				if k == 0 {
					var some bool
					if b.AC, some = l.tokens(b.AC, c, &q[k]); some {
						shape |= draw.HasAC << k
					}
				} else {
					var some bool
					if b.Chroma, some = l.tokens(b.Chroma, c, &q[k]); some {
						shape |= draw.HasAC << k
					}
				}
			}
			b.Shape = append(b.Shape, shape)
			any = any || shape != draw.Inter
		}
	}
	return any
}

// tokens writes the AC of a block.
func (l *lossy) tokens(b []byte, c *[64]int32, q *quant) (out []byte, some bool) {
	dead, limit := q.dead, 2*q.dead
	run, at := 0, 0
	for i := 1; i < 64; i++ {
		v := c[draw.Zigzag[i]&63]
		if uint32(v)+dead <= limit {
			run++
			continue
		}
		v = q.value(v)
		if v == 0 {
			run++
			continue
		}
		if run >= draw.ZeroRun {
			b, run = append(b, draw.TokenZeros), run-draw.ZeroRun
		}
		class := draw.Classes - 1
		switch {
		case v > 0 && v <= 3:
			class = int(2*v - 2)
		case v < 0 && v >= -3:
			class = int(-2*v - 1)
		default:
			l.blocks.Big = draw.AppendValue(l.blocks.Big, v)
		}
		b = append(b, byte(run*draw.Classes+class+1))
		run, at, some = 0, i, true
	}
	if some && at < 63 {
		b = append(b, draw.TokenEnd)
	}
	return b, some
}

// load makes the components of the block x0,y0..x1,y1, filled up with its last
// column and row.
func load(to *[3][64]int32, p *draw.Pixmap, x0, y0, x1, y1 int) {
	for y := range 8 {
		row := p.Row(min(y0+y, y1-1), x0, x1)
		o := y * 8
		if len(row) == 32 {
			row := (*[32]byte)(row)
			for x := range 8 {
				to[0][(o+x)&63], to[1][(o+x)&63], to[2][(o+x)&63] = draw.YCoCg(binary.LittleEndian.Uint32(row[x*4:]))
			}
			continue
		}
		for x := range 8 {
			to[0][(o+x)&63], to[1][(o+x)&63], to[2][(o+x)&63] = draw.YCoCg(binary.LittleEndian.Uint32(row[min(x*4, len(row)-4):]))
		}
	}
}

// nearer decides whether what was before tells more of a block than its mean
// does, and leaves the difference to it.
func (l *lossy) nearer() bool {
	mean := int32(32)
	for i := range l.now[0] {
		mean += l.now[0][i]
	}
	mean >>= 6
	alone, to := int32(0), int32(0)
	for i := range l.now[0] {
		v := l.now[0][i]
		a, d := v-mean, v-l.before[0][i]
		alone += a * a
		to += d * d
	}
	if to >= alone {
		return false
	}
	for k := range 3 {
		for i := range l.now[k] {
			l.now[k][i] -= l.before[k][i]
		}
	}
	return true
}
