// Package cosine takes pictures apart into blocks of 8x8 pixels and makes the
// discrete cosine transform of them, and back.
//
// Source: Loeffler, Ligtenberg and Moschytz (ICASSP 1989) in fixed point, as the
// Independent JPEG Group's jfdctint and jidctint do it; YCoCg-R for colours.
//
// Invariants:
//  1. Load, Inverse, Flat and Store give the same everywhere: a server knows by
//     them what its terminals have. Arithmetic is that of int32, which may
//     overflow where a peer asks for it.
//  2. What has a twin named plain gives the same as that. Built with
//     GOEXPERIMENT=simd and the tag video for amd64, and where the machine has
//     AVX2, it is several times as fast.
//
// The package does no I/O and reads no clock; its functions are safe for
// concurrent use on different blocks.
package cosine

import "encoding/binary"

// A Block is 8x8 pixels as their components Y, Co and Cg, each row by row.
type Block [3][64]int32

// grey is what Store adds to where nothing was before.
var grey = func() (b Block) {
	for i := range b[0] {
		b[0][i] = 128
	}
	return b
}()

// Load takes w by h pixels, at most 8 by 8, of rows stride bytes apart, and fills
// the block up with their last column and row.
func (b *Block) Load(pix []byte, stride, w, h int) {
	if w >= 8 && h >= 8 {
		load(b, pix, stride)
		return
	}
	for y := range 8 {
		row := pix[min(y, h-1)*stride:][:w*4]
		for x := range 8 {
			i := y*8 + x
			b[0][i], b[1][i], b[2][i] = components(binary.LittleEndian.Uint32(row[min(x, w-1)*4:]))
		}
	}
}

// Store draws w by h pixels: b, and what was before; nil is a grey of Y = 128.
func (b *Block) Store(pix []byte, stride, w, h int, before *Block) {
	if before == nil {
		before = &grey
	}
	if w >= 8 && h >= 8 {
		store(b, before, pix, stride)
		return
	}
	storePlain(b, before, pix, stride, w, h)
}

func loadPlain(b *Block, pix []byte, stride int) {
	for y := range 8 {
		row := (*[32]byte)(pix[y*stride:])
		for x := range 8 {
			i := (y*8 + x) & 63
			b[0][i], b[1][i], b[2][i] = components(binary.LittleEndian.Uint32(row[x*4:]))
		}
	}
}

func storePlain(b, before *Block, pix []byte, stride, w, h int) {
	for y := range h {
		row := pix[y*stride:][:w*4]
		for i := y * 8; len(row) >= 4; i++ {
			cg := b[2][i&63] + before[2][i&63]
			t := b[0][i&63] + before[0][i&63] - cg>>1
			green := cg + t
			co := b[1][i&63] + before[1][i&63]
			blue := t - co>>1
			red := blue + co
			if uint32(green|blue|red) > 255 {
				green, blue, red = clamp(green), clamp(blue), clamp(red)
			}
			binary.LittleEndian.PutUint32(row, uint32(blue|green<<8|red<<16))
			row = row[4:]
		}
	}
}

func clamp(v int32) int32 { return min(max(v, 0), 255) }

// components are those of a pixel.
func components(px uint32) (y, co, cg int32) {
	b, g, r := int32(px&255), int32(px>>8&255), int32(px>>16&255)
	co = r - b
	t := b + co>>1
	cg = g - t
	return t + cg>>1, co, cg
}

// Less makes b what it is more than before, if that tells more of its Y than the
// mean does, and reports whether.
func (b *Block) Less(before *Block) bool { return less(b, before) }

func lessPlain(b, before *Block) bool {
	mean := int32(32)
	for _, v := range b[0] {
		mean += v
	}
	mean >>= 6
	alone, to := int32(0), int32(0)
	for i, v := range b[0] {
		a, d := v-mean, v-before[0][i]
		alone += a * a
		to += d * d
	}
	if to >= alone {
		return false
	}
	for k := range b {
		for i := range b[k] {
			b[k][i] -= before[k][i]
		}
	}
	return true
}

// Beyond are the values of c, as Forward leaves them, that are more than dead
// from 0: bit n is the nth in Zigzag's order.
func Beyond(c *[64]int32, dead int32) uint64 { return beyond(c, dead) }

func beyondPlain(c *[64]int32, dead int32) (mask uint64) {
	d, most := uint32(dead), 2*uint64(dead)
	for _, i := range Zagzig {
		// The highest bit is the sign of a difference.
		mask = mask>>1 | (most-uint64(uint32(c[i&63])+d))&(1<<63)
	}
	return mask
}

// Zigzag is where in a block, row by row, the nth value is.
var Zigzag = [64]uint8{
	0, 1, 8, 16, 9, 2, 3, 10,
	17, 24, 32, 25, 18, 11, 4, 5,
	12, 19, 26, 33, 40, 48, 41, 34,
	27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36,
	29, 22, 15, 23, 30, 37, 44, 51,
	58, 59, 52, 45, 38, 31, 39, 46,
	53, 60, 61, 54, 47, 55, 62, 63,
}

// Zagzig is where it is column by column.
var Zagzig = func() (t [64]uint8) {
	for n, i := range Zigzag {
		t[n] = i&7<<3 | i>>3
	}
	return t
}()
