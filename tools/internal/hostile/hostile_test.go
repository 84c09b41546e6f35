package hostile

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"hotdesk/protocol/group"
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

// What strangers murmur is the same in every run, is no name twice, and is what
// the group's port takes for a message, or nearly.
func TestMurmur(t *testing.T) {
	names, kinds := map[string]bool{}, map[string]int{}
	for n := range 8 {
		for word := range 8 {
			b := Murmur(n, word)
			if !bytes.Equal(b, Murmur(n, word)) || len(b) == 0 || len(b) > group.MaxPacket {
				t.Fatalf("%d, %d: %q", n, word, b)
			}
			switch h, err := group.ParseHost(b); {
			case err == nil && names[h.Name]:
				t.Errorf("%s twice", h.Name)
			case err == nil:
				names[h.Name] = true
				kinds["whole"]++
			default:
				kinds[group.Kind(b)]++
			}
		}
	}
	if kinds["whole"] != 16 || kinds[group.CmdServerQ] != 16 || kinds[group.CmdTokenQ] != 16 || kinds[group.CmdHost] != 16 {
		t.Errorf("%v", kinds)
	}
}
