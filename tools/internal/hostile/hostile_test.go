package hostile

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// What is spoilt is bounded, is the seed's, and leaves the original alone.
func TestSpoil(t *testing.T) {
	line := []byte("infoReq event=insert type=simple id=4d013c7f33545165 startRes=800x600 tokenSeq=7")
	same := 0
	for seed := range uint64(20_000) {
		kept := bytes.Clone(line)
		a := Spoil(rand.New(rand.NewPCG(seed, 1)), kept)
		b := Spoil(rand.New(rand.NewPCG(seed, 1)), kept)
		if !bytes.Equal(kept, line) {
			t.Fatalf("seed %d changes the line", seed)
		}
		if !bytes.Equal(a, b) || len(a) > MaxSpoilt {
			t.Fatalf("seed %d: %d bytes, then %q, %q", seed, len(a), a, b)
		}
		if bytes.Equal(a, line) {
			same++
		}
	}
	if same > 1000 {
		t.Errorf("%d of 20,000 are unchanged", same)
	}
}
