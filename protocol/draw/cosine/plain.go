//go:build !(video && goexperiment.simd && amd64)

package cosine

func load(b *Block, pix []byte, stride int)          { loadPlain(b, pix, stride) }
func store(b, before *Block, pix []byte, stride int) { storePlain(b, before, pix, stride, 8, 8) }
func less(b, before *Block) bool                     { return lessPlain(b, before) }
func beyond(c *[64]int32, dead int32) uint64         { return beyondPlain(c, dead) }
func forward(to, from *[64]int32)                    { forwardPlain(to, from) }
func inverse(c *[64]int32)                           { inversePlain(c) }
func flat(c *[64]int32, v int32)                     { flatPlain(c, v) }
