// Package planes takes rows of a photo apart into planes and leaves of these
// what prediction does not tell, and puts them together again.
//
// Source: protocol/draw, which says what the planes of a PHOTO are.
//
// Invariants:
//  1. Restore undoes what Split, First and Predict did.
//  2. What has a twin named plain gives the same as that. Built with
//     GOEXPERIMENT=simd and the tag video for amd64, and where the machine has
//     AVX2, it is several times as fast.
//
// The package does no I/O and reads no clock; its functions are safe for
// concurrent use on different memory.
package planes

import "encoding/binary"

// Eight bytes in one word each go on alone.
const (
	ones = 0x0101010101010101
	high = 0x80 * ones // of each the highest bit

	evens = 0x00ff00ff00ff00ff // of bytes
	half  = 0x0000ffff0000ffff
)

// at is the word at b[i:]; the third index spares the compiler looking whether
// that is past the end.
func at(b []byte, i int) uint64     { return binary.LittleEndian.Uint64(b[i : i+8 : i+8]) }
func put(b []byte, i int, v uint64) { binary.LittleEndian.PutUint64(b[i:i+8:i+8], v) }
func pixel(b []byte, i int) uint64  { return uint64(binary.LittleEndian.Uint32(b[i : i+4 : i+4])) }
func mean(x, y uint64) uint64       { return x&y + (x^y)>>1&^high }
func add(x, y uint64) uint64        { return (x&^high + y&^high) ^ (x^y)&high }
func sub(x, y uint64) uint64        { return (x | high - y&^high) ^ (x^y)&high ^ high }

// spread makes of each highest bit a whole byte.
func spread(x uint64) uint64 {
	x &= high
	return x | (x - x>>7)
}

// median is that of x, y and x + y - c.
func median(x, y, c uint64) uint64 {
	// What is left of differences without a borrow from one byte to the next,
	// and of each the highest bit where the first is not less than the second.
	xy, xc, yc := x|high-y&^high, x|high-c&^high, y|high-c&^high
	dxy, dxc, dyc := x^y, x^c, y^c
	moreXY, moreXC, moreYC := xy^dxy&(xy^x), xc^dxc&(xc^x), yc^dyc&(yc^y)
	// If c is between, the sum is; if it is the largest, the smaller of x and y.
	least := x ^ dxy&spread(moreXY^moreXC)
	sum := add(x, yc^dyc&high^high)
	return sum ^ (sum^least)&spread(^(moreXC^moreYC))
}

// Split makes the planes of one row of pixels B G R X: green, and blue and red
// less green plus 128, or as they are where they are to be alone.
func Split(g, b, r, px []byte, aloneB, aloneR bool) { split(g, b, r, px, aloneB, aloneR) }

// lessGreen says where green is taken off.
func lessGreen(alone bool) (mask, plus uint64) {
	if alone {
		return 0, 0
	}
	return ^uint64(0), high
}

func splitPlain(g, b, r, px []byte, aloneB, aloneR bool) {
	lessB, plusB := lessGreen(aloneB)
	lessR, plusR := lessGreen(aloneR)
	n := len(g)
	b, r, px = b[:n], r[:n], px[:n*4]
	i := 0
	for ; i <= n-8; i += 8 {
		// Pixels 0 and 4 in one word, and so on, so that all come to be in order.
		in := px[i*4 : i*4+32 : i*4+32]
		p0, p1 := pixel(in, 0)|pixel(in, 16)<<32, pixel(in, 4)|pixel(in, 20)<<32
		p2, p3 := pixel(in, 8)|pixel(in, 24)<<32, pixel(in, 12)|pixel(in, 28)<<32
		low, up := p0&evens|p1&evens<<8, p2&evens|p3&evens<<8
		blue, red := low&half|up&half<<16, low>>16&half|up&^half
		low, up = p0>>8&evens|p1&^evens, p2>>8&evens|p3&^evens
		green := low&half | up&half<<16
		put(g, i, green)
		put(b, i, sub(blue, green&lessB)^plusB)
		put(r, i, sub(red, green&lessR)^plusR)
	}
	for ; i < n; i++ {
		v := px[i*4 : i*4+3]
		g[i], b[i], r[i] = v[1], v[0]-v[1]&byte(lessB)+byte(plusB), v[2]-v[1]&byte(lessR)+byte(plusR)
	}
}

// First leaves in out what the pixel before does not tell of row.
func First(out, row []byte) {
	l := byte(0)
	for i, v := range row {
		out[i] = v - l
		l = v
	}
}

// Predict leaves in out what the row above and the pixel before do not tell of
// row: the mean of both, or the median of both and of left + above - above left.
func Predict(out, row, above []byte, mean bool) {
	above, out = above[:len(row)], out[:len(row)]
	out[0] = row[0] - above[0]
	switch {
	case len(row) <= 8:
		predictShort(out, row, above, mean)
	case mean:
		lessMean(out, row, above)
	default:
		lessMedian(out, row, above)
	}
}

// predictShort is for rows of less than eight pixels after the first.
func predictShort(out, row, above []byte, mean bool) {
	for i := 1; i < len(row); i++ {
		l, a := int(row[i-1]), int(above[i])
		p := (l + a) >> 1
		if !mean {
			p = max(min(l, a), min(max(l, a), l+a-int(above[i-1])))
		}
		out[i] = row[i] - byte(p)
	}
}

func lessMeanPlain(out, row, above []byte) {
	n := len(row) - 1
	left, row, above, out := row[:n], row[1:], above[1:n+1], out[1:n+1]
	for i := 0; i <= n-8; i += 8 {
		put(out, i, sub(at(row, i), mean(at(left, i), at(above, i))))
	}
	i := n - 8 // some are done twice
	put(out, i, sub(at(row, i), mean(at(left, i), at(above, i))))
}

func lessMedianPlain(out, row, above []byte) {
	n := len(row) - 1
	left, row, corner, above, out := row[:n], row[1:], above[:n], above[1:n+1], out[1:n+1]
	for i := 0; i <= n-8; i += 8 {
		put(out, i, sub(at(row, i), median(at(left, i), at(above, i), at(corner, i))))
	}
	i := n - 8
	put(out, i, sub(at(row, i), median(at(left, i), at(above, i), at(corner, i))))
}
