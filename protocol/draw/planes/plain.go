//go:build !(video && goexperiment.simd && amd64)

package planes

func split(g, b, r, px []byte, aloneB, aloneR bool) { splitPlain(g, b, r, px, aloneB, aloneR) }
func lessMean(out, row, above []byte)               { lessMeanPlain(out, row, above) }
func lessMedian(out, row, above []byte)             { lessMedianPlain(out, row, above) }
