package planes

import "encoding/binary"

// A Photo says how the planes of one were made.
type Photo struct {
	W, H           int
	Mean           [3]bool // of green, blue, red: predicted by Predict's mean
	AloneB, AloneR bool
}

// A Restorer restores photos; the zero value is ready. It is for one goroutine.
type Restorer struct{ above []uint64 }

// Restore makes of residues, plane after plane, the pixels B G R 0 of a photo. It
// uses their memory.
func (s *Restorer) Restore(pix, residues []byte, p Photo) {
	n := p.W * p.H
	green, blue, red := residues[:n:n], residues[n:2*n:2*n], residues[2*n:3*n:3*n]
	if p.Mean == [3]bool{true, true, true} {
		s.restoreMean(pix, green, blue, red, p)
		return
	}
	var above [3][]byte
	for ; len(green) > 0; pix, green, blue, red = pix[4*p.W:], green[p.W:], blue[p.W:], red[p.W:] {
		row := [3][]byte{green[:p.W], blue[:p.W], red[:p.W]}
		switch {
		case above[0] == nil:
			for _, b := range row {
				addFirst(b)
			}
		case p.Mean == [3]bool{}:
			addMedians(row[0], row[1], row[2], above[0], above[1], above[2])
		default:
			for k, b := range row {
				if p.Mean[k] {
					addMean(b, above[k])
				} else {
					addMedian(b, above[k])
				}
			}
		}
		join(pix[:4*p.W], row[0], row[1], row[2], p.AloneB, p.AloneR)
		above = row
	}
}

// addFirst undoes First.
func addFirst(row []byte) {
	v := byte(0)
	for i, r := range row {
		v += r
		row[i] = v
	}
}

// addMean and addMedian undo Predict.
func addMean(row, above []byte) {
	above = above[:len(row)]
	v := uint(above[0]) // so that the mean is what is above
	for i, a := range above {
		v = uint(row[i] + byte((v+uint(a))>>1))
		row[i] = byte(v)
	}
}

func addMedian(row, above []byte) {
	above = above[:len(row)]
	v, c := int(above[0]), int(above[0]) // so that the median is what is above
	for i, a := range above {
		a := int(a)
		v = int(row[i] + byte(max(min(v, a), min(max(v, a), v+a-c))))
		row[i] = byte(v)
		c = a
	}
}

// addMedians is addMedian for three planes at once: each waits for the pixel
// before, so three take hardly longer than one.
func addMedians(r0, r1, r2, above0, above1, above2 []byte) {
	n := len(r0)
	r1, r2, above0, above1, above2 = r1[:n], r2[:n], above0[:n], above1[:n], above2[:n]
	v0, v1, v2 := int(above0[0]), int(above1[0]), int(above2[0])
	c0, c1, c2 := v0, v1, v2
	for i, a := range above0 {
		a0, a1, a2 := int(a), int(above1[i]), int(above2[i])
		v0 = int(r0[i] + byte(max(min(v0, a0), min(max(v0, a0), v0+a0-c0))))
		v1 = int(r1[i] + byte(max(min(v1, a1), min(max(v1, a1), v1+a1-c1))))
		v2 = int(r2[i] + byte(max(min(v2, a2), min(max(v2, a2), v2+a2-c2))))
		r0[i], r1[i], r2[i] = byte(v0), byte(v1), byte(v2)
		c0, c1, c2 = a0, a1, a2
	}
}

// join undoes Split.
func join(px, g, b, r []byte, aloneB, aloneR bool) {
	const low = 0x000000ff000000ff
	moreB, plusB := lessGreen(aloneB)
	moreR, plusR := lessGreen(aloneR)
	n := len(g)
	b, r, px = b[:n], r[:n], px[:n*4]
	i := 0
	for ; i <= n-8; i += 8 {
		green := at(g, i)
		blue, red := add(at(b, i), green&moreB)^plusB, add(at(r, i), green&moreR)^plusR
		// Pixels 0 and 4 in one word, and so on, as in Split.
		lower, upper := blue&half|red&half<<16, blue>>16&half|red&^half
		out := px[i*4 : i*4+32 : i*4+32]
		putTwo(out, 0, lower&evens|green&low<<8)
		putTwo(out, 4, lower>>8&evens|green&(low<<8))
		putTwo(out, 8, upper&evens|green>>8&(low<<8))
		putTwo(out, 12, upper>>8&evens|green>>16&(low<<8))
	}
	for ; i < n; i++ {
		v := px[i*4 : i*4+4]
		v[0], v[1], v[2], v[3] = b[i]+g[i]&byte(moreB)+byte(plusB), g[i], r[i]+g[i]&byte(moreR)+byte(plusR), 0
	}
}

func put32(b []byte, i int, v uint32) { binary.LittleEndian.PutUint32(b[i:i+4:i+4], v) }

// putTwo writes two pixels, four apart.
func putTwo(b []byte, i int, v uint64) {
	put32(b, i, uint32(v))
	put32(b, i+16, uint32(v>>32))
}

// Three bytes in one word: blue lowest, red from bit 16, green from bit 32 on,
// so that what goes beyond one does not reach the next.
const (
	blueAndRed = 0x00ff00ff
	each       = 0xff<<32 | blueAndRed
)

// restoreMean is Restore where all planes are predicted by means: the three of a
// pixel at once.
func (s *Restorer) restoreMean(pix, green, blue, red []byte, p Photo) {
	if cap(s.above) < p.W {
		s.above = make([]uint64, max(p.W, 2048))
	}
	above := s.above[:p.W]
	less := uint32(blueAndRed) // where green is to be added, and 128
	if p.AloneB {
		less &^= 0xff
	}
	if p.AloneR {
		less &^= 0xff << 16
	}
	plus := less & (0x80<<16 | 0x80)
	n := len(green)
	blue, red, pix = blue[:n], red[:n], pix[:4*n]
	v := uint64(0)
	for i := range above {
		v = (v + uint64(green[i])<<32 + uint64(red[i])<<16 + uint64(blue[i])) & each
		above[i] = v
	}
	for i, v := range above {
		put32(pix, i*4, pixelOf(v, less, plus))
	}
	for at := p.W; at < n; at += p.W {
		v := above[0] // so that the mean is what is above
		g, b, r, px := green[at:at+p.W:at+p.W], blue[at:at+p.W:at+p.W], red[at:at+p.W:at+p.W], pix[at*4:at*4+p.W*4:at*4+p.W*4]
		for i, a := range above {
			// What is halved below bit 0 of one goes to bit 15 of the next.
			v = ((v+a)>>1 + uint64(g[i])<<32 + uint64(r[i])<<16 + uint64(b[i])) & each
			above[i] = v
			put32(px, i*4, pixelOf(v, less, plus))
		}
	}
}

// pixelOf makes a pixel of its planes.
func pixelOf(v uint64, less, plus uint32) uint32 {
	return (uint32(v)+uint32(v>>32)*0x10001&less+plus)&blueAndRed | uint32(v>>24)
}
