package screen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/huff0"

	"hotdesk/protocol/draw"
)

// muchToRestore is how many pixels of photos are worth more than one core.
const muchToRestore = 1 << 18

// maxPacked is how many PHOTOs may wait to be filled: each takes more memory
// than the operation that a peer makes of few bytes.
const maxPacked = 1 << 10

// photos is the memory for the PHOTOs of one frame: of each its three planes,
// one after the other.
type photos struct {
	planes []byte
	flags  [][3]byte // of each
	fields [][5]int  // of each LOSSY, whose fields are among the planes: their lengths
	packed []packed  // PHOTOs of which the planes are still to be filled
	pixels int       // of them
	huff   []*huff0.Scratch

	filling chan error // of a fill that goes on by itself, with all of this; nil: there is none
	failed  error      // what came of it
}

// packed is a PHOTO whose planes begin at a place among all.
type packed struct {
	op    draw.Op
	at    int
	flags *[3]byte
	err   error
}

// reset forgets them and keeps the memory.
func (p *photos) reset() {
	p.planes, p.flags, p.fields, p.failed = p.planes[:0], p.flags[:0], p.fields[:0], nil
	p.forget()
}

func (p *photos) forget() {
	clear(p.packed)
	p.packed, p.pixels = p.packed[:0], 0
}

var errPhoto = errors.New("bad photo")

// add makes room for the planes of op, which fill fills: this call if many wait.
func (p *photos) add(op draw.Op) error {
	n := op.W * op.H
	if len(p.planes)+3*n > draw.MaxRaw {
		return fmt.Errorf("%w: more than %d bytes of them", errPhoto, draw.MaxRaw)
	}
	p.packed = append(p.packed, packed{op: op, at: len(p.planes)})
	p.pixels += n
	p.grow(3 * n)
	if len(p.packed) < maxPacked {
		return nil
	}
	return p.fill()
}

// enoughToBegin is how many pixels of photos are worth being restored by
// themselves.
const enoughToBegin = 1 << 15

// begin fills by itself where there is enough to do; wait must follow, and busy
// be false, before anything else is done here.
func (p *photos) begin() {
	if p.pixels < enoughToBegin || p.failed != nil {
		return
	}
	done := make(chan error, 1)
	p.filling = done
	go func() { done <- p.fill() }()
}

// busy reports whether what begin has begun goes on.
func (p *photos) busy() bool {
	if p.filling == nil {
		return false
	}
	select {
	case p.failed = <-p.filling:
		p.filling = nil
		return false
	default:
		return true
	}
}

// wait waits till it has ended.
func (p *photos) wait() {
	if p.filling != nil {
		p.failed = <-p.filling
		p.filling = nil
	}
}

// fill unpacks the PHOTOs that were added since the last fill and undoes
// prediction, on all cores where there are many pixels.
func (p *photos) fill() error {
	n := len(p.packed)
	if n == 0 || p.failed != nil {
		return p.failed
	}
	before := len(p.flags)
	p.flags = slices.Grow(p.flags, n)[:before+n]
	for i := range p.packed {
		p.packed[i].flags = &p.flags[before+i]
	}
	cores := min(runtime.GOMAXPROCS(0), n)
	if p.pixels < muchToRestore {
		cores = 1
	}
	for len(p.huff) < cores {
		p.huff = append(p.huff, new(huff0.Scratch))
	}
	if cores == 1 {
		for i := range p.packed {
			p.packed[i].fill(p.planes, p.huff[0])
		}
	} else {
		var next atomic.Int64
		var wg sync.WaitGroup
		for k := range cores {
			wg.Go(func() {
				for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
					p.packed[i].fill(p.planes, p.huff[k])
				}
			})
		}
		wg.Wait()
	}
	for i := range p.packed {
		if err := p.packed[i].err; err != nil {
			return err
		}
	}
	p.forget()
	return nil
}

// fill makes the planes of one PHOTO, and leaves in err what is wrong with it.
func (p *packed) fill(planes []byte, huff *huff0.Scratch) {
	n, b := p.op.W*p.op.H, p.op.Pix
	planes = planes[p.at:][:3*n]
	for k := range 3 {
		if len(b) < 2 {
			p.err = fmt.Errorf("%w: cut short", errPhoto)
			return
		}
		p.flags[k] = b[0] & (draw.PlaneAlone | draw.PlaneMean)
		kind := b[0] &^ p.flags[k]
		if k == 0 && p.flags[k]&draw.PlaneAlone != 0 {
			p.err = fmt.Errorf("%w: green less itself", errPhoto)
			return
		}
		if b, p.err = unpackPlane(planes[k*n:(k+1)*n:(k+1)*n], kind, b[1:], huff); p.err != nil {
			return
		}
	}
	if len(b) > 0 {
		p.err = fmt.Errorf("%w: %d bytes too many", errPhoto, len(b))
		return
	}
	unpredictAll(planes, p.op.W, p.op.H, *p.flags)
}

// unpackPlane fills plane from the front of b and returns what follows.
func unpackPlane(plane []byte, kind byte, b []byte, huff *huff0.Scratch) (rest []byte, err error) {
	switch kind {
	case draw.PlaneRaw:
		if copy(plane, b) < len(plane) {
			return nil, fmt.Errorf("%w: cut short", errPhoto)
		}
		return b[len(plane):], nil
	case draw.PlaneFlat:
		if len(b) == 0 {
			return nil, fmt.Errorf("%w: cut short", errPhoto)
		}
		for i := range plane {
			plane[i] = b[0]
		}
		return b[1:], nil
	case draw.PlaneHuff:
		if len(b) < 3 {
			return nil, fmt.Errorf("%w: cut short", errPhoto)
		}
		size := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		if b = b[3:]; size > len(b) {
			return nil, fmt.Errorf("%w: cut short", errPhoto)
		}
		return b[size:], inflate(plane, b[:size], huff)
	}
	return nil, fmt.Errorf("%w: plane of kind %d", errPhoto, kind)
}

// addBlocks unpacks the fields of op and checks them.
func (p *photos) addBlocks(op draw.Op) error {
	b, blocks := op.Pix, draw.BlocksOf(op.W, op.H)
	var size [5]int
	if len(p.huff) == 0 {
		p.huff = append(p.huff, new(huff0.Scratch))
	}
	at := len(p.planes)
	for k := range size {
		if len(b) < 4 {
			return fmt.Errorf("%w: cut short", errPhoto)
		}
		kind, n := b[0], int(b[1])<<16|int(b[2])<<8|int(b[3])
		if n > draw.MaxBlockBytes*blocks || len(p.planes)+n > draw.MaxRaw {
			return fmt.Errorf("%w: %d bytes in a field of %d blocks", errPhoto, n, blocks)
		}
		from := len(p.planes)
		p.grow(n)
		rest, err := unpackPlane(p.planes[from:from+n:from+n], kind, b[4:], p.huff[0])
		if err != nil {
			return err
		}
		size[k], b = n, rest
	}
	if len(b) > 0 {
		return fmt.Errorf("%w: %d bytes too many", errPhoto, len(b))
	}
	if err := blocksOf(p.planes[at:], size).Check(blocks); err != nil {
		return fmt.Errorf("%w: %w", errPhoto, err)
	}
	p.fields = append(p.fields, size)
	return nil
}

// blocksOf are the fields at the front of b.
func blocksOf(b []byte, size [5]int) draw.Blocks {
	var f [5][]byte
	for k, n := range size {
		f[k], b = b[:n], b[n:]
	}
	return draw.Blocks{Shape: f[0], DC: f[1], AC: f[2], Chroma: f[3], Big: f[4]}
}

// grow makes room for n bytes more.
func (p *photos) grow(n int) {
	if need := len(p.planes) + n; need > cap(p.planes) {
		p.planes = append(make([]byte, 0, min(max(need, 2*cap(p.planes)), draw.MaxRaw)), p.planes...)
	}
	p.planes = p.planes[:len(p.planes)+n]
}

// inflate decodes one plane, of exactly the length of dst.
func inflate(dst, src []byte, huff *huff0.Scratch) error {
	_, rest, err := huff0.ReadTable(src, huff)
	if err != nil {
		return fmt.Errorf("%w: %w", errPhoto, err)
	}
	out, err := huff.Decoder().Decompress4X(dst[:0:len(dst)], rest)
	if err != nil {
		return fmt.Errorf("%w: %w", errPhoto, err)
	}
	if len(out) != len(dst) {
		return fmt.Errorf("%w: %d bytes in a plane of %d", errPhoto, len(out), len(dst))
	}
	return nil
}

// unpredictAll makes the planes of a photo of w by h pixels of their residues.
func unpredictAll(planes []byte, w, h int, flags [3]byte) {
	n := w * h
	for y := range h {
		g, b, r := planes[y*w:][:w], planes[n+y*w:][:w], planes[2*n+y*w:][:w]
		switch {
		case y == 0:
			for i := 1; i < w; i++ {
				g[i], b[i], r[i] = g[i]+g[i-1], b[i]+b[i-1], r[i]+r[i-1]
			}
		case (flags[0]|flags[1]|flags[2])&draw.PlaneMean == 0:
			unpredict3(g, b, r, planes[(y-1)*w:][:w], planes[n+(y-1)*w:][:w], planes[2*n+(y-1)*w:][:w])
		default:
			for k, row := range [3][]byte{g, b, r} {
				above := planes[k*n+(y-1)*w:][:w]
				if flags[k]&draw.PlaneMean != 0 {
					unmean(row, above)
				} else {
					unpredict(row, above)
				}
			}
		}
	}
}

// restore draws op from its planes.
func restore(p *draw.Pixmap, op draw.Op, planes []byte, flags [3]byte) {
	w, n := op.W, op.W*op.H
	lessB, lessR := -(flags[1] & draw.PlaneAlone >> 2), -(flags[2] & draw.PlaneAlone >> 2)
	lessB, lessR = ^lessB, ^lessR // all bits where green is to be added
	for y := range op.H {
		g, b, r := planes[y*w:][:w], planes[n+y*w:][:w], planes[2*n+y*w:][:w]
		row := p.Row(op.Y+y, op.X, op.X+w)
		b, r, row = b[:len(g)], r[:len(g)], row[:len(g)*4]
		for i, green := range g {
			less := green - 128
			binary.LittleEndian.PutUint32(row[i*4:], uint32(b[i]+less&lessB)|uint32(green)<<8|uint32(r[i]+less&lessR)<<16)
		}
	}
}

// unpredict makes a row of its residues and the row above.
func unpredict(row, above []byte) {
	above = above[:len(row)]
	row[0] += above[0]
	a, c := int(row[0]), int(above[0])
	for i := 1; i < len(row); i++ {
		b := int(above[i])
		v := row[i] + byte(max(min(a, b), min(max(a, b), a+b-c)))
		row[i] = v
		a, c = int(v), b
	}
}

// unpredict3 is unpredict for three planes at once: each waits for the pixel
// before, so three take hardly longer than one.
func unpredict3(r0, r1, r2, above0, above1, above2 []byte) {
	n := len(r0)
	r1, r2, above0, above1, above2 = r1[:n], r2[:n], above0[:n], above1[:n], above2[:n]
	r0[0] += above0[0]
	r1[0] += above1[0]
	r2[0] += above2[0]
	a0, a1, a2 := int(r0[0]), int(r1[0]), int(r2[0])
	c0, c1, c2 := int(above0[0]), int(above1[0]), int(above2[0])
	for i := 1; i < n; i++ {
		b0, b1, b2 := int(above0[i]), int(above1[i]), int(above2[i])
		a0 = int(r0[i] + byte(max(min(a0, b0), min(max(a0, b0), a0+b0-c0))))
		a1 = int(r1[i] + byte(max(min(a1, b1), min(max(a1, b1), a1+b1-c1))))
		a2 = int(r2[i] + byte(max(min(a2, b2), min(max(a2, b2), a2+b2-c2))))
		r0[i], r1[i], r2[i] = byte(a0), byte(a1), byte(a2)
		c0, c1, c2 = b0, b1, b2
	}
}

// unmean is unpredict for planes that the mean was taken off.
func unmean(row, above []byte) {
	above = above[:len(row)]
	row[0] += above[0]
	a := uint(row[0])
	for i := 1; i < len(row); i++ {
		v := row[i] + byte((a+uint(above[i]))>>1)
		row[i] = v
		a = uint(v)
	}
}

// paint draws a PALETTE.
func paint(p *draw.Pixmap, op draw.Op) {
	n := len(op.Colours) / 3
	var table [draw.MaxColours]uint32
	for i := range n {
		c := op.Colours[i*3:]
		table[i] = uint32(c[0]) | uint32(c[1])<<8 | uint32(c[2])<<16
	}
	bits := draw.IndexBits(n)
	mask := byte(1<<bits - 1)
	size := (op.H*bits + 7) / 8
	left := 0 // of here on
	if bits == 1 {
		left = paintTwo(p, op, table[0], table[1], size)
	}
	// Row by row in the picture: a column is few bytes, and stays at hand.
	for y := range op.H {
		row := p.Row(op.Y+y, op.X+left, op.X+op.W)
		at, down := left*size+y*bits/8, 8-bits-y*bits%8
		for x := 0; x < len(row); x, at = x+4, at+size {
			binary.LittleEndian.PutUint32(row[x:], table[op.Pix[at]>>down&mask])
		}
	}
}

// paintTwo draws all of a PALETTE of two colours but the last few columns, and
// returns where these begin: eight rows of eight columns at a time, four pixels
// of a row by a look into a table.
func paintTwo(p *draw.Pixmap, op draw.Op, first, second uint32, size int) (left int) {
	var four [16][2]uint64
	for i := range four {
		for k := range 4 {
			c := first
			if i>>(3-k)&1 != 0 {
				c = second
			}
			four[i][k/2] |= uint64(c) << (32 * (k & 1))
		}
	}
	left = op.W &^ 7
	for y := 0; y < op.H; y += 8 {
		var rows [8][]byte
		n := min(8, op.H-y)
		for k := range n {
			rows[k] = p.Row(op.Y+y+k, op.X, op.X+left)
		}
		for x := 0; x < left; x += 8 {
			in := op.Pix[x*size+y/8:]
			in = in[:7*size+1]
			square := transpose(uint64(in[0])<<56 | uint64(in[size])<<48 | uint64(in[2*size])<<40 | uint64(in[3*size])<<32 |
				uint64(in[4*size])<<24 | uint64(in[5*size])<<16 | uint64(in[6*size])<<8 | uint64(in[7*size]))
			for k := range n {
				row := rows[k][x*4:][:32]
				a, b := &four[square>>60], &four[square>>56&15]
				square <<= 8
				binary.LittleEndian.PutUint64(row, a[0])
				binary.LittleEndian.PutUint64(row[8:], a[1])
				binary.LittleEndian.PutUint64(row[16:], b[0])
				binary.LittleEndian.PutUint64(row[24:], b[1])
			}
		}
	}
	return left
}

// transpose makes columns of the rows of eight by eight bits, the first in the
// high byte (Hacker's Delight, 7-3).
func transpose(v uint64) uint64 {
	t := (v ^ v>>7) & 0x00aa00aa00aa00aa
	v ^= t ^ t<<7
	t = (v ^ v>>14) & 0x0000cccc0000cccc
	v ^= t ^ t<<14
	t = (v ^ v>>28) & 0x00000000f0f0f0f0
	return v ^ t ^ t<<28
}
