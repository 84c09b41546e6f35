//go:build video && goexperiment.simd && amd64

package planes

import "simd/archsimd"

// vectors says that this machine has AVX2.
var vectors = archsimd.X86.AVX2()

type vec = archsimd.Uint8x32

// wide is how many bytes a vector has.
const wide = 32

func vecAt(b []byte, i int) vec     { return archsimd.LoadUint8x32((*[wide]byte)(b[i : i+wide : i+wide])) }
func putVec(b []byte, i int, v vec) { v.Store((*[wide]byte)(b[i : i+wide : i+wide])) }

func lessMean(out, row, above []byte) {
	if !vectors || len(row) <= wide {
		lessMeanPlain(out, row, above)
		return
	}
	n := len(row) - 1
	left, row, above, out := row[:n], row[1:], above[1:n+1], out[1:n+1]
	one := archsimd.BroadcastUint8x32(1)
	for i := 0; i <= n-wide; i += wide {
		putVec(out, i, vecAt(row, i).Sub(meanVec(vecAt(left, i), vecAt(above, i), one)))
	}
	i := n - wide // some are done twice
	putVec(out, i, vecAt(row, i).Sub(meanVec(vecAt(left, i), vecAt(above, i), one)))
}

// meanVec is mean; what Average rounds up is taken off.
func meanVec(x, y, one vec) vec { return x.Average(y).Sub(x.Xor(y).And(one)) }

func lessMedian(out, row, above []byte) {
	if !vectors || len(row) <= wide {
		lessMedianPlain(out, row, above)
		return
	}
	n := len(row) - 1
	left, row, corner, above, out := row[:n], row[1:], above[:n], above[1:n+1], out[1:n+1]
	for i := 0; i <= n-wide; i += wide {
		putVec(out, i, vecAt(row, i).Sub(medianVec(vecAt(left, i), vecAt(above, i), vecAt(corner, i))))
	}
	i := n - wide
	putVec(out, i, vecAt(row, i).Sub(medianVec(vecAt(left, i), vecAt(above, i), vecAt(corner, i))))
}

// medianVec is median: x + y less the median of x, y and c.
func medianVec(x, y, c vec) vec {
	return x.Add(y).Sub(c.Max(x.Min(y)).Min(x.Max(y)))
}

// byPlane puts the bytes of four pixels, in each half of a vector, together by
// plane, and inOrder what InterleaveLoGrouped leaves of eight such halves.
var (
	byPlane = [32]int8{0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15}
	inOrder = [8]uint32{0, 4, 1, 5, 2, 6, 3, 7}
)

func split(g, b, r, px []byte, aloneB, aloneR bool) {
	n := len(g)
	if !vectors || n < wide {
		splitPlain(g, b, r, px, aloneB, aloneR)
		return
	}
	b, r, px = b[:n], r[:n], px[:n*4]
	lessB, plusB := lessGreen(aloneB)
	lessR, plusR := lessGreen(aloneR)
	ofB, ofR := archsimd.BroadcastUint8x32(byte(lessB)), archsimd.BroadcastUint8x32(byte(lessR))
	upB, upR := archsimd.BroadcastUint8x32(byte(plusB)), archsimd.BroadcastUint8x32(byte(plusR))
	planes, order := archsimd.LoadInt8x32(&byPlane), archsimd.LoadUint32x8(&inOrder)
	for i := 0; ; i += wide {
		i = min(i, n-wide)
		in := px[i*4 : i*4+4*wide : i*4+4*wide]
		p0, p1 := vecAt(in, 0).PermuteOrZeroGrouped(planes).AsUint32x8(), vecAt(in, 32).PermuteOrZeroGrouped(planes).AsUint32x8()
		p2, p3 := vecAt(in, 64).PermuteOrZeroGrouped(planes).AsUint32x8(), vecAt(in, 96).PermuteOrZeroGrouped(planes).AsUint32x8()
		bg0, bg1 := p0.InterleaveLoGrouped(p1).AsUint64x4(), p2.InterleaveLoGrouped(p3).AsUint64x4()
		rx0, rx1 := p0.InterleaveHiGrouped(p1).AsUint64x4(), p2.InterleaveHiGrouped(p3).AsUint64x4()
		blue := bg0.InterleaveLoGrouped(bg1).AsUint32x8().Permute(order).AsUint8x32()
		green := bg0.InterleaveHiGrouped(bg1).AsUint32x8().Permute(order).AsUint8x32()
		red := rx0.InterleaveLoGrouped(rx1).AsUint32x8().Permute(order).AsUint8x32()
		putVec(g, i, green)
		putVec(b, i, blue.Sub(green.And(ofB)).Add(upB))
		putVec(r, i, red.Sub(green.And(ofR)).Add(upR))
		if i == n-wide {
			return
		}
	}
}
