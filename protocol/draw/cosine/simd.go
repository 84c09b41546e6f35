//go:build video && goexperiment.simd && amd64

package cosine

import (
	"math/bits"
	"simd/archsimd"
)

// vectors says that this machine has AVX2.
var vectors = archsimd.X86.AVX2()

type vec = archsimd.Int32x8

// row is the nth eight values of c, and at has them in a vector.
func row(c *[64]int32, n int) *[8]int32 { return (*[8]int32)(c[n*8:]) }
func at(c *[64]int32, n int) vec        { return archsimd.LoadInt32x8(row(c, n)) }

func load(b *Block, pix []byte, stride int) {
	if !vectors {
		loadPlain(b, pix, stride)
		return
	}
	low := archsimd.BroadcastInt32x8(255)
	loadRow(b, 0, pix, low)
	loadRow(b, 1, pix[stride:], low)
	loadRow(b, 2, pix[2*stride:], low)
	loadRow(b, 3, pix[3*stride:], low)
	loadRow(b, 4, pix[4*stride:], low)
	loadRow(b, 5, pix[5*stride:], low)
	loadRow(b, 6, pix[6*stride:], low)
	loadRow(b, 7, pix[7*stride:], low)
}

func loadRow(b *Block, y int, pix []byte, low vec) {
	px := archsimd.LoadUint8x32((*[32]uint8)(pix)).AsInt32x8()
	blue := px.And(low)
	co := px.ShiftAllRight(16).And(low).Sub(blue)
	t := blue.Add(co.ShiftAllRight(1))
	cg := px.ShiftAllRight(8).And(low).Sub(t)
	t.Add(cg.ShiftAllRight(1)).Store(row(&b[0], y))
	co.Store(row(&b[1], y))
	cg.Store(row(&b[2], y))
}

func store(b, before *Block, pix []byte, stride int) {
	if !vectors {
		storePlain(b, before, pix, stride, 8, 8)
		return
	}
	none, most := archsimd.BroadcastInt32x8(0), archsimd.BroadcastInt32x8(255)
	storeRow(b, before, 0, pix, none, most)
	storeRow(b, before, 1, pix[stride:], none, most)
	storeRow(b, before, 2, pix[2*stride:], none, most)
	storeRow(b, before, 3, pix[3*stride:], none, most)
	storeRow(b, before, 4, pix[4*stride:], none, most)
	storeRow(b, before, 5, pix[5*stride:], none, most)
	storeRow(b, before, 6, pix[6*stride:], none, most)
	storeRow(b, before, 7, pix[7*stride:], none, most)
}

func storeRow(b, before *Block, y int, pix []byte, none, most vec) {
	co, cg := at(&b[1], y).Add(at(&before[1], y)), at(&b[2], y).Add(at(&before[2], y))
	t := at(&b[0], y).Add(at(&before[0], y)).Sub(cg.ShiftAllRight(1))
	green := cg.Add(t)
	blue := t.Sub(co.ShiftAllRight(1))
	red := blue.Add(co)
	green, blue, red = green.Max(none).Min(most), blue.Max(none).Min(most), red.Max(none).Min(most)
	px := blue.Or(green.ShiftAllLeft(8)).Or(red.ShiftAllLeft(16))
	px.AsUint32x8().AsUint8x32().Store((*[32]uint8)(pix))
}

func less(b, before *Block) bool {
	if !vectors {
		return lessPlain(b, before)
	}
	var s sums
	s = s.add(b, before, 0).add(b, before, 1).add(b, before, 2).add(b, before, 3)
	s = s.add(b, before, 4).add(b, before, 5).add(b, before, 6).add(b, before, 7)
	sum := total(s.all)
	mean := (sum + 32) >> 6
	if total(s.differ) >= total(s.squares)-mean*(2*sum-64*mean) {
		return false
	}
	for k := range b {
		c, d := &b[k], &before[k]
		at(c, 0).Sub(at(d, 0)).Store(row(c, 0))
		at(c, 1).Sub(at(d, 1)).Store(row(c, 1))
		at(c, 2).Sub(at(d, 2)).Store(row(c, 2))
		at(c, 3).Sub(at(d, 3)).Store(row(c, 3))
		at(c, 4).Sub(at(d, 4)).Store(row(c, 4))
		at(c, 5).Sub(at(d, 5)).Store(row(c, 5))
		at(c, 6).Sub(at(d, 6)).Store(row(c, 6))
		at(c, 7).Sub(at(d, 7)).Store(row(c, 7))
	}
	return true
}

// sums are those of a block's Y, of its squares, and of the squares of what it
// is more than another's.
type sums struct{ all, squares, differ vec }

func (s sums) add(b, before *Block, y int) sums {
	v := at(&b[0], y)
	d := v.Sub(at(&before[0], y))
	return sums{s.all.Add(v), s.squares.Add(v.Mul(v)), s.differ.Add(d.Mul(d))}
}

// total is the sum of eight.
func total(v vec) int32 {
	s := v.GetLo().Add(v.GetHi())
	s = s.Add(s.PermuteScalars(2, 3, 0, 1))
	return s.GetElem(0) + s.GetElem(1)
}

func beyond(c *[64]int32, dead int32) (mask uint64) {
	if !vectors {
		return beyondPlain(c, dead)
	}
	limit := archsimd.BroadcastInt32x8(dead)
	found := alive(c, 0, limit) | alive(c, 1, limit)<<8 | alive(c, 2, limit)<<16 | alive(c, 3, limit)<<24 |
		alive(c, 4, limit)<<32 | alive(c, 5, limit)<<40 | alive(c, 6, limit)<<48 | alive(c, 7, limit)<<56
	for ; found != 0; found &= found - 1 {
		mask |= 1 << place[bits.TrailingZeros64(found)]
	}
	return mask
}

func alive(c *[64]int32, n int, limit vec) uint64 {
	return uint64(at(c, n).Abs().Greater(limit).ToBits())
}

// place is where in Zigzag's order a value is of those column by column.
var place = func() (t [64]uint8) {
	for n, i := range Zagzig {
		t[i] = uint8(n)
	}
	return t
}()

func forward(to, from *[64]int32) {
	if !vectors {
		forwardPlain(to, from)
		return
	}
	const down = fixBits - passBits
	s0, s1, s2, s3, s4, s5, s6, s7 := at(from, 0), at(from, 1), at(from, 2), at(from, 3), at(from, 4), at(from, 5), at(from, 6), at(from, 7)
	r0, r2, r4, r6 := forwardEvens(s0.Add(s7), s1.Add(s6), s2.Add(s5), s3.Add(s4), down)
	r1, r3, r5, r7 := forwardOdds(s3.Sub(s4), s2.Sub(s5), s1.Sub(s6), s0.Sub(s7), down)
	s0, s1, s2, s3, s4, s5, s6, s7 = transpose(r0, r1, r2, r3, r4, r5, r6, r7)
	r0, r2, r4, r6 = forwardEvens(s0.Add(s7), s1.Add(s6), s2.Add(s5), s3.Add(s4), fixBits+passBits)
	r1, r3, r5, r7 = forwardOdds(s3.Sub(s4), s2.Sub(s5), s1.Sub(s6), s0.Sub(s7), fixBits+passBits)
	r0.Store(row(to, 0))
	r1.Store(row(to, 1))
	r2.Store(row(to, 2))
	r3.Store(row(to, 3))
	r4.Store(row(to, 4))
	r5.Store(row(to, 5))
	r6.Store(row(to, 6))
	r7.Store(row(to, 7))
}

func forwardEvens(t0, t1, t2, t3 vec, down uint64) (r0, r2, r4, r6 vec) {
	half := archsimd.BroadcastInt32x8(1 << (down - 1))
	a0, a3, a1, a2 := t0.Add(t3), t0.Sub(t3), t1.Add(t2), t1.Sub(t2)
	r0 = a0.Add(a1).ShiftAllLeft(fixBits).Add(half).ShiftAllRight(down)
	r4 = a0.Sub(a1).ShiftAllLeft(fixBits).Add(half).ShiftAllRight(down)
	z1 := a2.Add(a3).Mul(times(is0541)).Add(half)
	r2 = z1.Add(a3.Mul(times(is0765))).ShiftAllRight(down)
	r6 = z1.Sub(a2.Mul(times(is1847))).ShiftAllRight(down)
	return r0, r2, r4, r6
}

func forwardOdds(t4, t5, t6, t7 vec, down uint64) (r1, r3, r5, r7 vec) {
	half := archsimd.BroadcastInt32x8(1 << (down - 1))
	z3, z4 := t4.Add(t6), t5.Add(t7)
	z5 := z3.Add(z4).Mul(times(is1175)).Add(half)
	z1, z2 := t4.Add(t7).Mul(times(is0899)), t5.Add(t6).Mul(times(is2562))
	z3, z4 = z5.Sub(z3.Mul(times(is1961))), z5.Sub(z4.Mul(times(is0390)))
	r7 = t4.Mul(times(is0298)).Sub(z1).Add(z3).ShiftAllRight(down)
	r5 = t5.Mul(times(is2053)).Sub(z2).Add(z4).ShiftAllRight(down)
	r3 = t6.Mul(times(is3072)).Sub(z2).Add(z3).ShiftAllRight(down)
	r1 = t7.Mul(times(is1501)).Sub(z1).Add(z4).ShiftAllRight(down)
	return r1, r3, r5, r7
}

// The numbers that are multiplied with, in vectors.
const (
	is0298 = iota
	is0390
	is0541
	is0765
	is0899
	is1175
	is1501
	is1847
	is1961
	is2053
	is2562
	is3072
	multipliers
)

var multiplier = func() (t [multipliers][8]int32) {
	for i, v := range [multipliers]int32{fix0298, fix0390, fix0541, fix0765, fix0899, fix1175, fix1501, fix1847, fix1961, fix2053, fix2562, fix3072} {
		for k := range t[i] {
			t[i][k] = v
		}
	}
	return t
}()

func times(i int) vec { return archsimd.LoadInt32x8(&multiplier[i]) }

// large is the least of first values that the shortcut in inversePlain, which
// shifts them less, makes others of.
const large = 1 << (31 - fixBits)

func inverse(c *[64]int32) {
	if !vectors || !at(c, 0).Add(archsimd.BroadcastInt32x8(large)).AsUint32x8().ShiftAllRight(32-fixBits).IsZero() {
		inversePlain(c)
		return
	}
	const down = fixBits - passBits
	a0, a1, a2, a3 := inverseEvens(at(c, 0), at(c, 2), at(c, 4), at(c, 6), down)
	o0, o1, o2, o3 := inverseOdds(at(c, 7), at(c, 5), at(c, 3), at(c, 1))
	s0, s1, s2, s3, s4, s5, s6, s7 := transpose(join(a0, a1, a2, a3, o0, o1, o2, o3, down))
	a0, a1, a2, a3 = inverseEvens(s0, s2, s4, s6, fixBits+passBits+3)
	o0, o1, o2, o3 = inverseOdds(s7, s5, s3, s1)
	s0, s1, s2, s3, s4, s5, s6, s7 = transpose(join(a0, a1, a2, a3, o0, o1, o2, o3, fixBits+passBits+3))
	s0.Store(row(c, 0))
	s1.Store(row(c, 1))
	s2.Store(row(c, 2))
	s3.Store(row(c, 3))
	s4.Store(row(c, 4))
	s5.Store(row(c, 5))
	s6.Store(row(c, 6))
	s7.Store(row(c, 7))
}

func inverseEvens(s0, s2, s4, s6 vec, down uint64) (a0, a1, a2, a3 vec) {
	half := archsimd.BroadcastInt32x8(1 << (down - 1))
	z1 := s2.Add(s6).Mul(times(is0541))
	t2, t3 := z1.Sub(s6.Mul(times(is1847))), z1.Add(s2.Mul(times(is0765)))
	t0, t1 := s0.Add(s4).ShiftAllLeft(fixBits).Add(half), s0.Sub(s4).ShiftAllLeft(fixBits).Add(half)
	return t0.Add(t3), t1.Add(t2), t1.Sub(t2), t0.Sub(t3)
}

func inverseOdds(t0, t1, t2, t3 vec) (o0, o1, o2, o3 vec) {
	z3, z4 := t0.Add(t2), t1.Add(t3)
	z5 := z3.Add(z4).Mul(times(is1175))
	z1, z2 := t0.Add(t3).Mul(times(is0899)), t1.Add(t2).Mul(times(is2562))
	z3, z4 = z5.Sub(z3.Mul(times(is1961))), z5.Sub(z4.Mul(times(is0390)))
	return t0.Mul(times(is0298)).Sub(z1).Add(z3), t1.Mul(times(is2053)).Sub(z2).Add(z4),
		t2.Mul(times(is3072)).Sub(z2).Add(z3), t3.Mul(times(is1501)).Sub(z1).Add(z4)
}

func join(a0, a1, a2, a3, o0, o1, o2, o3 vec, down uint64) (r0, r1, r2, r3, r4, r5, r6, r7 vec) {
	r0, r7 = a0.Add(o3).ShiftAllRight(down), a0.Sub(o3).ShiftAllRight(down)
	r1, r6 = a1.Add(o2).ShiftAllRight(down), a1.Sub(o2).ShiftAllRight(down)
	r2, r5 = a2.Add(o1).ShiftAllRight(down), a2.Sub(o1).ShiftAllRight(down)
	r3, r4 = a3.Add(o0).ShiftAllRight(down), a3.Sub(o0).ShiftAllRight(down)
	return r0, r1, r2, r3, r4, r5, r6, r7
}

// transpose makes rows of columns.
func transpose(s0, s1, s2, s3, s4, s5, s6, s7 vec) (r0, r1, r2, r3, r4, r5, r6, r7 vec) {
	a0, a1 := s0.InterleaveLoGrouped(s1).AsInt64x4(), s0.InterleaveHiGrouped(s1).AsInt64x4()
	a2, a3 := s2.InterleaveLoGrouped(s3).AsInt64x4(), s2.InterleaveHiGrouped(s3).AsInt64x4()
	b0, b1 := a0.InterleaveLoGrouped(a2).AsInt32x8(), a0.InterleaveHiGrouped(a2).AsInt32x8()
	b2, b3 := a1.InterleaveLoGrouped(a3).AsInt32x8(), a1.InterleaveHiGrouped(a3).AsInt32x8()
	a0, a1 = s4.InterleaveLoGrouped(s5).AsInt64x4(), s4.InterleaveHiGrouped(s5).AsInt64x4()
	a2, a3 = s6.InterleaveLoGrouped(s7).AsInt64x4(), s6.InterleaveHiGrouped(s7).AsInt64x4()
	c0, c1 := a0.InterleaveLoGrouped(a2).AsInt32x8(), a0.InterleaveHiGrouped(a2).AsInt32x8()
	c2, c3 := a1.InterleaveLoGrouped(a3).AsInt32x8(), a1.InterleaveHiGrouped(a3).AsInt32x8()
	r0, r1, r2, r3 = b0.Select128FromPair(0, 2, c0), b1.Select128FromPair(0, 2, c1), b2.Select128FromPair(0, 2, c2), b3.Select128FromPair(0, 2, c3)
	r4, r5, r6, r7 = b0.Select128FromPair(1, 3, c0), b1.Select128FromPair(1, 3, c1), b2.Select128FromPair(1, 3, c2), b3.Select128FromPair(1, 3, c3)
	return r0, r1, r2, r3, r4, r5, r6, r7
}

func flat(c *[64]int32, v int32) {
	if !vectors {
		flatPlain(c, v)
		return
	}
	all := archsimd.BroadcastInt32x8(v)
	for n := range 8 {
		all.Store(row(c, n))
	}
}
