package screen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/huff0"

	"hotdesk/protocol/draw"
	"hotdesk/protocol/draw/planes"
)

// muchToRestore is how many pixels of photos are worth more than one core.
const muchToRestore = 1 << 18

// maxPacked is how many PHOTOs may wait to be filled: each takes more memory
// than the operation that a peer makes of few bytes.
const maxPacked = 1 << 10

// photos is the memory for the PHOTOs and LOSSYs of one frame.
type photos struct {
	unpacked []byte   // one after the other: of each PHOTO its pixels, of each LOSSY its fields
	counted  int      // bytes of planes and fields, which draw.MaxRaw bounds
	fields   [][5]int // of each LOSSY: their lengths
	packed   []packed // PHOTOs that are still to be filled
	pixels   int      // of them
	helpers  []*helper

	filling chan error // of a fill that goes on by itself, with all of this; nil: there is none
	failed  error      // what came of it
}

// helper is what one core needs to fill PHOTOs.
type helper struct {
	huff   huff0.Scratch
	planes []byte // one after the other
	planes.Restorer
}

// packed is a PHOTO whose pixels begin at a place among all.
type packed struct {
	op  draw.Op
	at  int
	err error
}

// reset forgets them and keeps the memory.
func (p *photos) reset() {
	p.unpacked, p.counted, p.fields, p.failed = p.unpacked[:0], 0, p.fields[:0], nil
	p.forget()
}

// release is reset that keeps no memory.
func (p *photos) release() { *p = photos{} }

func (p *photos) forget() {
	clear(p.packed)
	p.packed, p.pixels = p.packed[:0], 0
}

var errPhoto = errors.New("bad photo")

// count counts n bytes that something unpacks to.
func (p *photos) count(n int) error {
	if p.counted += n; p.counted > draw.MaxRaw {
		return fmt.Errorf("%w: more than %d bytes of them", errPhoto, draw.MaxRaw)
	}
	return nil
}

// add makes room for the pixels of op, which fill fills: this call if many wait.
func (p *photos) add(op draw.Op) error {
	n := op.W * op.H
	if err := p.count(3 * n); err != nil {
		return err
	}
	p.packed = append(p.packed, packed{op: op, at: len(p.unpacked)})
	p.pixels += n
	p.grow(4 * n)
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
	cores := min(runtime.GOMAXPROCS(0), n)
	if p.pixels < muchToRestore {
		cores = 1
	}
	for len(p.helpers) < cores {
		p.helpers = append(p.helpers, new(helper))
	}
	if cores == 1 {
		for i := range p.packed {
			p.packed[i].fill(p.unpacked, p.helpers[0])
		}
	} else {
		var next atomic.Int64
		var wg sync.WaitGroup
		for k := range cores {
			wg.Go(func() {
				for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
					p.packed[i].fill(p.unpacked, p.helpers[k])
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

// fill makes the pixels of one PHOTO, and leaves in err what is wrong with it.
func (p *packed) fill(unpacked []byte, h *helper) {
	n, b := p.op.W*p.op.H, p.op.Pix
	if cap(h.planes) < 3*n {
		h.planes = make([]byte, 3*n)
	}
	h.planes = h.planes[:3*n]
	var flags [3]byte
	for k := range flags {
		if len(b) < 2 {
			p.err = fmt.Errorf("%w: cut short", errPhoto)
			return
		}
		flags[k] = b[0] & (draw.PlaneAlone | draw.PlaneMean)
		kind := b[0] &^ flags[k]
		if k == 0 && flags[k]&draw.PlaneAlone != 0 {
			p.err = fmt.Errorf("%w: green less itself", errPhoto)
			return
		}
		if b, p.err = unpackPlane(h.planes[k*n:(k+1)*n:(k+1)*n], kind, b[1:], &h.huff); p.err != nil {
			return
		}
	}
	if len(b) > 0 {
		p.err = fmt.Errorf("%w: %d bytes too many", errPhoto, len(b))
		return
	}
	has := func(k int, flag byte) bool { return flags[k]&flag != 0 }
	h.Restore(unpacked[p.at:][:4*n], h.planes, planes.Photo{
		W: p.op.W, H: p.op.H,
		Mean:   [3]bool{has(0, draw.PlaneMean), has(1, draw.PlaneMean), has(2, draw.PlaneMean)},
		AloneB: has(1, draw.PlaneAlone), AloneR: has(2, draw.PlaneAlone),
	})
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
	if len(p.helpers) == 0 {
		p.helpers = append(p.helpers, new(helper))
	}
	at := len(p.unpacked)
	for k := range size {
		if len(b) < 4 {
			return fmt.Errorf("%w: cut short", errPhoto)
		}
		kind, n := b[0], int(b[1])<<16|int(b[2])<<8|int(b[3])
		if n > draw.MaxBlockBytes*blocks {
			return fmt.Errorf("%w: %d bytes in a field of %d blocks", errPhoto, n, blocks)
		}
		if err := p.count(n); err != nil {
			return err
		}
		from := len(p.unpacked)
		p.grow(n)
		rest, err := unpackPlane(p.unpacked[from:from+n:from+n], kind, b[4:], &p.helpers[0].huff)
		if err != nil {
			return err
		}
		size[k], b = n, rest
	}
	if len(b) > 0 {
		return fmt.Errorf("%w: %d bytes too many", errPhoto, len(b))
	}
	if err := blocksOf(p.unpacked[at:], size).Check(blocks); err != nil {
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
	if need := len(p.unpacked) + n; need > cap(p.unpacked) {
		p.unpacked = append(make([]byte, 0, max(need, min(2*cap(p.unpacked), draw.MaxRaw))), p.unpacked...)
	}
	p.unpacked = p.unpacked[:len(p.unpacked)+n]
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
