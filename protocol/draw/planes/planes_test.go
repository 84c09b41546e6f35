package planes

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// bytesOf are n bytes: noise, or as photos are, or of those that matter to carries.
func bytesOf(r *rand.Rand, n int) []byte {
	b, kind, last := make([]byte, n), r.IntN(3), byte(r.Uint32())
	for i := range b {
		switch kind {
		case 0:
			b[i] = byte(r.Uint32())
		case 1:
			last += byte(r.IntN(9) - 4)
			b[i] = last
		case 2:
			b[i] = [8]byte{0, 1, 127, 128, 129, 254, 255, 64}[r.IntN(8)]
		}
	}
	return b
}

func TestSplit(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 200 {
		px := bytesOf(r, 4*n)
		aloneB, aloneR := r.IntN(2) == 0, r.IntN(2) == 0
		var got, want [3][]byte
		for k := range got {
			got[k], want[k] = make([]byte, n), make([]byte, n)
		}
		for i := range n {
			b, g, r := px[i*4], px[i*4+1], px[i*4+2]
			if !aloneB {
				b += 128 - g
			}
			if !aloneR {
				r += 128 - g
			}
			want[0][i], want[1][i], want[2][i] = g, b, r
		}
		for name, f := range map[string]func(g, b, r, px []byte, aloneB, aloneR bool){"here": Split, "plain": splitPlain} {
			if f(got[0], got[1], got[2], px, aloneB, aloneR); !bytes.Equal(bytes.Join(got[:], nil), bytes.Join(want[:], nil)) {
				t.Fatalf("%s: %d pixels, alone %v %v: %v, want %v", name, n, aloneB, aloneR, got, want)
			}
		}
	}
}

func TestPredict(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for round := range 3000 {
		n := 1 + round%150
		row, above := bytesOf(r, n), bytesOf(r, n)
		for _, mean := range []bool{false, true} {
			got, want := make([]byte, n), make([]byte, n)
			want[0] = row[0] - above[0]
			predictShort(want, row, above, mean)
			if Predict(got, row, above, mean); !bytes.Equal(got, want) {
				t.Fatalf("mean %v of\n%v\n%v:\n%v, want\n%v", mean, row, above, got, want)
			}
			if n < 9 {
				continue
			}
			plain := lessMedianPlain
			if mean {
				plain = lessMeanPlain
			}
			clear(got[1:])
			if plain(got, row, above); !bytes.Equal(got, want) {
				t.Fatalf("plain, mean %v of\n%v\n%v:\n%v, want\n%v", mean, row, above, got, want)
			}
		}
	}
}

func benchRows(b *testing.B, f func(out, row, above, px []byte)) {
	const n = 1280
	r := rand.New(rand.NewPCG(5, 6))
	out, row, above, px := make([]byte, 3*n), bytesOf(r, n), bytesOf(r, n), bytesOf(r, 4*n)
	b.SetBytes(n)
	for b.Loop() {
		f(out, row, above, px)
	}
}

func BenchmarkPlanes(b *testing.B) {
	const n = 1280
	b.Run("split", func(b *testing.B) {
		benchRows(b, func(out, row, above, px []byte) { Split(out[:n], out[n:2*n], out[2*n:], px, false, true) })
	})
	b.Run("mean", func(b *testing.B) { benchRows(b, func(out, row, above, px []byte) { Predict(out, row, above, true) }) })
	b.Run("median", func(b *testing.B) { benchRows(b, func(out, row, above, px []byte) { Predict(out, row, above, false) }) })
}

// photoOf are random pixels, and their residues by the encoder's functions.
func photoOf(r *rand.Rand, p Photo) (pix, residues []byte) {
	n := p.W * p.H
	pix, residues = bytesOf(r, 4*n), make([]byte, 3*n)
	var row, above [3][]byte
	for k := range row {
		row[k], above[k] = make([]byte, p.W), make([]byte, p.W)
	}
	for y := range p.H {
		row, above = above, row
		Split(row[0], row[1], row[2], pix[y*p.W*4:][:p.W*4], p.AloneB, p.AloneR)
		for k := range row {
			out := residues[k*n+y*p.W:][:p.W]
			if y == 0 {
				First(out, row[k])
			} else {
				Predict(out, row[k], above[k], p.Mean[k])
			}
		}
	}
	for i := range n {
		pix[4*i+3] = 0
	}
	return pix, residues
}

func TestRestore(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	var s Restorer
	for round := range 2000 {
		flag := func(bit int) bool { return round>>bit&1 != 0 }
		p := Photo{W: 1 + r.IntN(90), H: 1 + r.IntN(40), Mean: [3]bool{flag(0), flag(1), flag(2)}, AloneB: flag(3), AloneR: flag(4)}
		want, residues := photoOf(r, p)
		got := make([]byte, len(want))
		if s.Restore(got, residues, p); !bytes.Equal(got, want) {
			t.Fatalf("%+v is another", p)
		}
	}
}

func BenchmarkRestore(b *testing.B) {
	for name, mean := range map[string][3]bool{"median": {}, "mean": {true, true, true}, "mixed": {true, false, true}} {
		b.Run(name, func(b *testing.B) {
			p := Photo{W: 1280, H: 64, Mean: mean, AloneB: true}
			pix, residues := photoOf(rand.New(rand.NewPCG(9, 10)), p)
			var s Restorer
			b.SetBytes(int64(p.W * p.H))
			for b.Loop() {
				s.Restore(pix, residues, p)
			}
		})
	}
}
