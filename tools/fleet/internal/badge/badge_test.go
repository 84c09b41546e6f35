package badge

import (
	"image"
	"testing"
)

func TestFind(t *testing.T) {
	b := Badge{Owner: 300, Nonce: 0xdeadbeef, Count: 77, Typed: 1 << 20, Flags: Playing, Last: 38}
	pix := b.Pixels()
	if got, ok := Find(pix); !ok || got != b {
		t.Fatalf("found %+v, %v", got, ok)
	}
	// One pixel of another colour, one square of the other, half a picture, and
	// nothing at all are no badge.
	spot := append([]byte(nil), pix...)
	spot[(50*Width+50)*4+1] ^= 1
	other := append([]byte(nil), pix...)
	for y := range Cell {
		for x := range Cell {
			for c := range 3 {
				other[((y+2*Cell)*Width+x)*4+c] ^= 0xff
			}
		}
	}
	b.Count++
	half := append([]byte(nil), pix[:len(pix)/2]...)
	half = append(half, b.Pixels()[len(pix)/2:]...)
	for what, pix := range map[string][]byte{"spot": spot, "square": other, "half": half, "black": make([]byte, len(pix)), "short": pix[4:], "none": nil} {
		if got, ok := Find(pix); ok {
			t.Errorf("%s: found %+v", what, got)
		}
	}
}

func TestName(t *testing.T) {
	typed := func(n *Name, digits []byte, last byte) (owner uint16) {
		for _, c := range append(append([]byte{Begin}, digits...), last) {
			var used bool
			if owner, used = n.Key(c); !used {
				t.Fatalf("key %d was not of the name", c)
			}
		}
		return owner
	}
	codes := func(owner uint16) (all []byte) {
		for _, d := range Digits(owner) {
			all = append(all, one+(d+9)%10)
		}
		return all
	}
	var n Name
	for _, owner := range []uint16{1, 42, 305, 9999} {
		c := codes(owner)
		if got := typed(&n, c, End); got != owner {
			t.Errorf("%d was read as %d", owner, got)
		}
		for lost := range c {
			less := append(append([]byte(nil), c[:lost]...), c[lost+1:]...)
			if got := typed(&n, less, End); got != 0 {
				t.Errorf("%d without its digit %d was read as %d", owner, lost, got)
			}
		}
	}
	if _, used := n.Key(38); used {
		t.Error("a letter was of a name")
	}
	n.Key(Begin)
	if owner, used := n.Key(38); owner != 0 || used {
		t.Error("a letter within a name does not end it")
	}
}

// Sessions are told apart by colour; places do not overlap.
func TestColours(t *testing.T) {
	seen := map[uint32]bool{}
	same := 0
	for n := range uint32(1000) {
		c := Colour(n*7919 + 1)
		if seen[c] {
			same++
		}
		seen[c] = true
	}
	if same > 5 {
		t.Errorf("%d of 1000 colours are another's", same)
	}
	if Rect.Overlaps(Video) || !Video.In(image.Rect(0, 0, 640, 480)) {
		t.Errorf("badge %v, video %v", Rect, Video)
	}
}
