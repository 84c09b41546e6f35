package dirty

import (
	"image"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestMerge(t *testing.T) {
	bounds := image.Rect(0, 0, 1000, 1000)
	for _, c := range []struct {
		name      string
		in, wants []image.Rectangle
	}{
		{"nothing", nil, nil},
		{"outside", []image.Rectangle{image.Rect(1000, 0, 1100, 10)}, nil},
		{"clipped", []image.Rectangle{image.Rect(-5, 990, 5, 1100)}, []image.Rectangle{image.Rect(0, 990, 5, 1000)}},
		{"near", []image.Rectangle{image.Rect(0, 0, 8, 16), image.Rect(10, 0, 18, 16)}, []image.Rectangle{image.Rect(0, 0, 18, 16)}},
		{"far", []image.Rectangle{image.Rect(0, 0, 8, 16), image.Rect(900, 900, 908, 916)},
			[]image.Rectangle{image.Rect(0, 0, 8, 16), image.Rect(900, 900, 908, 916)}},
		{"inside", []image.Rectangle{image.Rect(0, 0, 500, 500), image.Rect(100, 100, 200, 200)}, []image.Rectangle{image.Rect(0, 0, 500, 500)}},
	} {
		if got := Merge(c.in, bounds); !slices.Equal(got, c.wants) {
			t.Errorf("%s: %v, want %v", c.name, got, c.wants)
		}
	}
}

func TestMergeCovers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bounds := image.Rect(0, 0, 4000, 3000)
		rects := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) image.Rectangle {
			x, y := rapid.IntRange(-100, 4100).Draw(t, "x"), rapid.IntRange(-100, 3100).Draw(t, "y")
			return image.Rect(x, y, x+rapid.IntRange(0, 300).Draw(t, "w"), y+rapid.IntRange(0, 300).Draw(t, "h"))
		}), 0, 200).Draw(t, "rects")
		got := Merge(slices.Clone(rects), bounds)
		if len(got) > Most {
			t.Fatalf("%d rectangles", len(got))
		}
		for _, r := range got {
			if r.Empty() || !r.In(bounds) {
				t.Fatalf("%v is empty or out of bounds", r)
			}
		}
		for _, r := range rects {
			r = r.Intersect(bounds)
			covered := slices.ContainsFunc(got, func(g image.Rectangle) bool { return r.In(g) })
			if !r.Empty() && !covered {
				t.Fatalf("%v is in none of %v", r, got)
			}
		}
	})
}
