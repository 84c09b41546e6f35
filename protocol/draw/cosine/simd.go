//go:build video && goexperiment.simd && amd64

package cosine

import (
	"math/bits"
	"simd/archsimd"
)

// vectors says that this machine has AVX2.
var vectors = archsimd.X86.AVX2()

type vec = archsimd.Int32x8

// row is the nth eight values of c.
func row(c *[64]int32, n int) *[8]int32 { return (*[8]int32)(c[n*8:]) }

func load(b *Block, pix []byte, stride int) {
	if !vectors {
		loadPlain(b, pix, stride)
		return
	}
	low := archsimd.BroadcastInt32x8(255)
	for y := range 8 {
		px := archsimd.LoadUint8x32((*[32]uint8)(pix[y*stride:])).AsInt32x8()
		blue, green, red := px.And(low), px.ShiftAllRight(8).And(low), px.ShiftAllRight(16).And(low)
		co := red.Sub(blue)
		t := blue.Add(co.ShiftAllRight(1))
		cg := green.Sub(t)
		t.Add(cg.ShiftAllRight(1)).Store(row(&b[0], y))
		co.Store(row(&b[1], y))
		cg.Store(row(&b[2], y))
	}
}

func store(b, before *Block, pix []byte, stride int) {
	if !vectors {
		storePlain(b, before, pix, stride)
		return
	}
	none, most := archsimd.BroadcastInt32x8(0), archsimd.BroadcastInt32x8(255)
	sum := func(k, y int) vec {
		return archsimd.LoadInt32x8(row(&b[k], y)).Add(archsimd.LoadInt32x8(row(&before[k], y)))
	}
	for y := range 8 {
		co, cg := sum(1, y), sum(2, y)
		t := sum(0, y).Sub(cg.ShiftAllRight(1))
		green := cg.Add(t)
		blue := t.Sub(co.ShiftAllRight(1))
		red := blue.Add(co)
		green, blue, red = green.Max(none).Min(most), blue.Max(none).Min(most), red.Max(none).Min(most)
		px := blue.Or(green.ShiftAllLeft(8)).Or(red.ShiftAllLeft(16))
		px.AsUint32x8().AsUint8x32().Store((*[32]uint8)(pix[y*stride:]))
	}
}

func less(b, before *Block) bool {
	if !vectors {
		return lessPlain(b, before)
	}
	sum := archsimd.BroadcastInt32x8(0)
	alone, to := sum, sum
	for y := range 8 {
		sum = sum.Add(archsimd.LoadInt32x8(row(&b[0], y)))
	}
	mean := archsimd.BroadcastInt32x8((total(sum) + 32) >> 6)
	for y := range 8 {
		v := archsimd.LoadInt32x8(row(&b[0], y))
		a, d := v.Sub(mean), v.Sub(archsimd.LoadInt32x8(row(&before[0], y)))
		alone, to = alone.Add(a.Mul(a)), to.Add(d.Mul(d))
	}
	if total(to) >= total(alone) {
		return false
	}
	for k := range b {
		for y := range 8 {
			archsimd.LoadInt32x8(row(&b[k], y)).Sub(archsimd.LoadInt32x8(row(&before[k], y))).Store(row(&b[k], y))
		}
	}
	return true
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
	found := uint64(0)
	for x := range 8 {
		found |= uint64(archsimd.LoadInt32x8(row(c, x)).Abs().Greater(limit).ToBits()) << (8 * x)
	}
	for ; found != 0; found &= found - 1 {
		mask |= 1 << place[bits.TrailingZeros64(found)]
	}
	return mask
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
	forwardPass(from, fixBits-passBits)
	transpose(to, from)
	forwardPass(to, fixBits+passBits)
}

// forwardPass transforms each column.
func forwardPass(c *[64]int32, down uint64) {
	s0, s1, s2, s3 := archsimd.LoadInt32x8(row(c, 0)), archsimd.LoadInt32x8(row(c, 1)), archsimd.LoadInt32x8(row(c, 2)), archsimd.LoadInt32x8(row(c, 3))
	s4, s5, s6, s7 := archsimd.LoadInt32x8(row(c, 4)), archsimd.LoadInt32x8(row(c, 5)), archsimd.LoadInt32x8(row(c, 6)), archsimd.LoadInt32x8(row(c, 7))
	half := archsimd.BroadcastInt32x8(1 << (down - 1))
	t0, t7 := s0.Add(s7), s0.Sub(s7)
	t1, t6 := s1.Add(s6), s1.Sub(s6)
	t2, t5 := s2.Add(s5), s2.Sub(s5)
	t3, t4 := s3.Add(s4), s3.Sub(s4)
	a0, a3, a1, a2 := t0.Add(t3), t0.Sub(t3), t1.Add(t2), t1.Sub(t2)
	a0.Add(a1).ShiftAllLeft(fixBits).Add(half).ShiftAllRight(down).Store(row(c, 0))
	a0.Sub(a1).ShiftAllLeft(fixBits).Add(half).ShiftAllRight(down).Store(row(c, 4))
	z1 := a2.Add(a3).Mul(times(is0541)).Add(half)
	z1.Add(a3.Mul(times(is0765))).ShiftAllRight(down).Store(row(c, 2))
	z1.Sub(a2.Mul(times(is1847))).ShiftAllRight(down).Store(row(c, 6))
	z3, z4 := t4.Add(t6), t5.Add(t7)
	z5 := z3.Add(z4).Mul(times(is1175)).Add(half)
	z1, z2 := t4.Add(t7).Mul(times(is0899)), t5.Add(t6).Mul(times(is2562))
	z3, z4 = z5.Sub(z3.Mul(times(is1961))), z5.Sub(z4.Mul(times(is0390)))
	t4.Mul(times(is0298)).Sub(z1).Add(z3).ShiftAllRight(down).Store(row(c, 7))
	t5.Mul(times(is2053)).Sub(z2).Add(z4).ShiftAllRight(down).Store(row(c, 5))
	t6.Mul(times(is3072)).Sub(z2).Add(z3).ShiftAllRight(down).Store(row(c, 3))
	t7.Mul(times(is1501)).Sub(z1).Add(z4).ShiftAllRight(down).Store(row(c, 1))
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
	if !vectors || !archsimd.LoadInt32x8(row(c, 0)).Add(archsimd.BroadcastInt32x8(large)).AsUint32x8().ShiftAllRight(32-fixBits).IsZero() {
		inversePlain(c)
		return
	}
	inversePass(c, fixBits-passBits)
	transpose(c, c)
	inversePass(c, fixBits+passBits+3)
	transpose(c, c)
}

// inversePass transforms each column back.
func inversePass(c *[64]int32, down uint64) {
	s0, s1, s2, s3 := archsimd.LoadInt32x8(row(c, 0)), archsimd.LoadInt32x8(row(c, 1)), archsimd.LoadInt32x8(row(c, 2)), archsimd.LoadInt32x8(row(c, 3))
	s4, s5, s6, s7 := archsimd.LoadInt32x8(row(c, 4)), archsimd.LoadInt32x8(row(c, 5)), archsimd.LoadInt32x8(row(c, 6)), archsimd.LoadInt32x8(row(c, 7))
	half := archsimd.BroadcastInt32x8(1 << (down - 1))
	z3, z4 := s7.Add(s3), s5.Add(s1)
	z5 := z3.Add(z4).Mul(times(is1175))
	z1, z2 := s7.Add(s1).Mul(times(is0899)), s5.Add(s3).Mul(times(is2562))
	z3, z4 = z5.Sub(z3.Mul(times(is1961))), z5.Sub(z4.Mul(times(is0390)))
	o0, o1 := s7.Mul(times(is0298)).Sub(z1).Add(z3), s5.Mul(times(is2053)).Sub(z2).Add(z4)
	o2, o3 := s3.Mul(times(is3072)).Sub(z2).Add(z3), s1.Mul(times(is1501)).Sub(z1).Add(z4)
	z1 = s2.Add(s6).Mul(times(is0541))
	t2, t3 := z1.Sub(s6.Mul(times(is1847))), z1.Add(s2.Mul(times(is0765)))
	t0, t1 := s0.Add(s4).ShiftAllLeft(fixBits).Add(half), s0.Sub(s4).ShiftAllLeft(fixBits).Add(half)
	a0, a3, a1, a2 := t0.Add(t3), t0.Sub(t3), t1.Add(t2), t1.Sub(t2)
	a0.Add(o3).ShiftAllRight(down).Store(row(c, 0))
	a0.Sub(o3).ShiftAllRight(down).Store(row(c, 7))
	a1.Add(o2).ShiftAllRight(down).Store(row(c, 1))
	a1.Sub(o2).ShiftAllRight(down).Store(row(c, 6))
	a2.Add(o1).ShiftAllRight(down).Store(row(c, 2))
	a2.Sub(o1).ShiftAllRight(down).Store(row(c, 5))
	a3.Add(o0).ShiftAllRight(down).Store(row(c, 3))
	a3.Sub(o0).ShiftAllRight(down).Store(row(c, 4))
}

// transpose makes rows of columns; to may be from.
func transpose(to, from *[64]int32) {
	at := func(n int) vec { return archsimd.LoadInt32x8(row(from, n)) }
	r0, r1, r2, r3 := at(0), at(1), at(2), at(3)
	a0, a1 := r0.InterleaveLoGrouped(r1).AsInt64x4(), r0.InterleaveHiGrouped(r1).AsInt64x4()
	a2, a3 := r2.InterleaveLoGrouped(r3).AsInt64x4(), r2.InterleaveHiGrouped(r3).AsInt64x4()
	b0, b1 := a0.InterleaveLoGrouped(a2).AsInt32x8(), a0.InterleaveHiGrouped(a2).AsInt32x8()
	b2, b3 := a1.InterleaveLoGrouped(a3).AsInt32x8(), a1.InterleaveHiGrouped(a3).AsInt32x8()
	r0, r1, r2, r3 = at(4), at(5), at(6), at(7)
	a0, a1 = r0.InterleaveLoGrouped(r1).AsInt64x4(), r0.InterleaveHiGrouped(r1).AsInt64x4()
	a2, a3 = r2.InterleaveLoGrouped(r3).AsInt64x4(), r2.InterleaveHiGrouped(r3).AsInt64x4()
	c0, c1 := a0.InterleaveLoGrouped(a2).AsInt32x8(), a0.InterleaveHiGrouped(a2).AsInt32x8()
	c2, c3 := a1.InterleaveLoGrouped(a3).AsInt32x8(), a1.InterleaveHiGrouped(a3).AsInt32x8()
	b0.Select128FromPair(0, 2, c0).Store(row(to, 0))
	b1.Select128FromPair(0, 2, c1).Store(row(to, 1))
	b2.Select128FromPair(0, 2, c2).Store(row(to, 2))
	b3.Select128FromPair(0, 2, c3).Store(row(to, 3))
	b0.Select128FromPair(1, 3, c0).Store(row(to, 4))
	b1.Select128FromPair(1, 3, c1).Store(row(to, 5))
	b2.Select128FromPair(1, 3, c2).Store(row(to, 6))
	b3.Select128FromPair(1, 3, c3).Store(row(to, 7))
}
