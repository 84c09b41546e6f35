package cosine

import (
	"math/rand/v2"
	"testing"
)

// someBlock has values of -most..most-1.
func someBlock(r *rand.Rand, most int) (b Block) {
	for k := range b {
		for i := range b[k] {
			b[k][i] = int32(r.Int64N(2*int64(most)) - int64(most))
		}
	}
	return b
}

// Inverse undoes Forward, but for rounding.
func TestInverse(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		b := someBlock(r, 510)[0]
		was := b
		var c, back [64]int32
		Forward(&c, &b)
		for n, i := range Zagzig {
			back[Zigzag[n]] = (c[i] + 4) >> 3
		}
		Inverse(&back)
		for i, v := range back {
			if d := v - was[i]; d < -2 || d > 2 {
				t.Fatalf("sample %d is %d, was %d", i, v, was[i])
			}
		}
	}
	for _, dc := range []int32{0, 1, -1, 500, -2000, 1 << 20} {
		a, b := [64]int32{dc}, [64]int32{}
		Inverse(&a)
		if Flat(&b, dc); a != b {
			t.Errorf("flat %d: %d, inverse %d", dc, b[0], a[0])
		}
	}
}

// A block that is drawn is what it was loaded from.
func TestStore(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	const stride = 44
	for w := 1; w <= 8; w++ {
		for h := 1; h <= 8; h++ {
			var from, to [8 * stride]byte
			for i := range from {
				from[i] = byte(r.Uint32())
			}
			before := someBlock(r, 256)
			var b Block
			b.Load(from[:(h-1)*stride+w*4], stride, w, h)
			for k := range b {
				for i := range b[k] {
					if at := min(i/8, h-1)*8 + min(i%8, w-1); b[k][i] != b[k][at] {
						t.Fatalf("%dx%d: component %d at %d is %d, not that at %d", w, h, k, i, b[k][i], at)
					}
				}
				for i := range b[k] {
					b[k][i] -= before[k][i]
				}
			}
			b.Store(to[:(h-1)*stride+w*4], stride, w, h, &before)
			for i, v := range to {
				switch inside := i/stride < h && i%stride < w*4; {
				case !inside && v != 0:
					t.Fatalf("%dx%d: drew at %d", w, h, i)
				case inside && i%4 != 3 && v != from[i]:
					t.Fatalf("%dx%d: byte %d is %d, want %d", w, h, i, v, from[i])
				}
			}
		}
	}
	var b Block
	var one [4]byte
	if b.Store(one[:], 4, 1, 1, nil); one != [4]byte{128, 128, 128, 0} {
		t.Errorf("nothing on nothing is %v", one)
	}
}

// Values come in zigzag order, and those at the limit are not beyond it.
func TestBeyond(t *testing.T) {
	for n := range 64 {
		for v, want := range map[int32]uint64{5: 0, -5: 0, 6: 1 << n, -6: 1 << n, 1 << 30: 1 << n, -1 << 30: 1 << n} {
			var c [64]int32
			c[Zigzag[n]%8*8+Zigzag[n]/8] = v
			if got := Beyond(&c, 5); got != want {
				t.Fatalf("value %d, %d: %b", n, v, got)
			}
		}
	}
}

// What this machine does at once is what the plain loops do.
func TestPlain(t *testing.T) {
	for seed := range uint64(2000) {
		for _, most := range []uint32{1, 8, 256, 1023, 1<<18 + 4, 1<<31 - 1} {
			asPlain(t, seed, most, int32(most/2))
		}
	}
}

func FuzzPlain(f *testing.F) {
	for _, most := range []uint32{1, 256, 1 << 18, 1<<31 - 1} {
		f.Add(uint64(most), most, int32(most/4))
	}
	f.Fuzz(asPlain)
}

// asPlain compares both with blocks of seed, of values less than most, and with
// a dead zone.
func asPlain(t *testing.T, seed uint64, most uint32, dead int32) {
	r := rand.New(rand.NewPCG(seed, 7))
	most = most%(1<<31-1) + 1
	dead &= 1<<30 - 1
	values := someBlock(r, int(most))[0]
	for i := range values {
		if seed>>i&1 != 0 && r.IntN(3) > 0 { // few values, as a rule
			values[i] = 0
		}
	}
	if got, want := beyond(&values, dead), beyondPlain(&values, dead); got != want {
		t.Fatalf("beyond %d: %x, want %x", dead, got, want)
	}
	got, want := values, values
	flat(&got, values[0])
	if flatPlain(&want, values[0]); got != want {
		t.Fatalf("flat %d: %v", values[0], got)
	}
	got, want = values, values
	inverse(&got)
	if inversePlain(&want); got != want {
		t.Fatalf("inverse of %v:\n%v, want\n%v", values, got, want)
	}
	samples := someBlock(r, min(int(most), 1024))
	a, b := samples, samples
	got, want = [64]int32{}, [64]int32{}
	forward(&got, &a[0])
	if forwardPlain(&want, &b[0]); got != want {
		t.Fatalf("forward of %v:\n%v, want\n%v", samples[0], got, want)
	}
	const stride = 40
	var pix [8 * stride]byte
	for i := range pix {
		pix[i] = byte(r.Uint32())
	}
	load(&a, pix[:7*stride+32], stride)
	if loadPlain(&b, pix[:7*stride+32], stride); a != b {
		t.Fatalf("load %v: %v, want %v", pix, a, b)
	}
	one, other := pix, pix
	store(&samples, &a, one[:7*stride+32], stride)
	if storePlain(&samples, &a, other[:7*stride+32], stride, 8, 8); one != other {
		t.Fatalf("store %v on %v: %v, want %v", samples, a, one, other)
	}
	if r.IntN(2) > 0 { // nearly what was before
		for k := range samples {
			for i := range samples[k] {
				samples[k][i] = a[k][i] + samples[k][i]>>(r.IntN(3)+4)
			}
		}
	}
	b = samples
	is := less(&samples, &a)
	if want := lessPlain(&b, &a); is != want || samples != b {
		t.Fatalf("less is %v, want %v, or leaves something else", is, want)
	}
}

func BenchmarkBlock(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	var pix [8 * 32]byte
	for i := range pix {
		pix[i] = byte(r.Uint32())
	}
	was := someBlock(r, 200)
	var block Block
	block.Load(pix[:], 32, 8, 8)
	samples := block[0]
	var values [64]int32
	for i := range 10 {
		values[Zigzag[i]] = int32(300 - 50*i)
	}
	for _, part := range []struct {
		name string
		run  func()
	}{
		{"load", func() { block.Load(pix[:], 32, 8, 8) }},
		{"less", func() { block.Less(&was) }},
		{"forward", func() { s := samples; var to [64]int32; Forward(&to, &s) }},
		{"beyond", func() { Beyond(&values, 70) }},
		{"inverse", func() { c := values; Inverse(&c) }},
		{"store", func() { block.Store(pix[:], 32, 8, 8, &was) }},
	} {
		b.Run(part.name, func(b *testing.B) {
			for b.Loop() {
				part.run()
			}
		})
	}
}
