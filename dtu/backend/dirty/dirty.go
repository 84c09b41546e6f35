// Package dirty makes a few rectangles out of many, for displays that pay for
// each rectangle and for each pixel.
//
// Source: ours.
//
// Invariants:
//  1. Every pixel of the input that lies within bounds is in one of the
//     results, and every result lies within bounds.
//  2. There are at most Most results, none of them empty.
//
// The package is pure. Limits: Most.
package dirty

import "image"

// Most is the largest number of rectangles that Merge returns.
const Most = 24

// worth is how many more pixels a display rather takes than one more
// rectangle.
const worth = 4096

// Merge returns rectangles that cover rects within bounds.
func Merge(rects []image.Rectangle, bounds image.Rectangle) []image.Rectangle {
	var out []image.Rectangle
	for _, r := range rects {
		if r = r.Intersect(bounds); r.Empty() {
			continue
		}
		out = add(out, r)
		if len(out) > Most {
			all := image.Rectangle{}
			for _, r := range out {
				all = all.Union(r)
			}
			out = append(out[:0], all)
		}
	}
	return out
}

// add puts r to rects, together with those that are cheaper as one with it.
func add(rects []image.Rectangle, r image.Rectangle) []image.Rectangle {
	for i := 0; i < len(rects); {
		u := rects[i].Union(r)
		if area(u) > area(rects[i])+area(r)+worth {
			i++
			continue
		}
		r = u
		rects[i] = rects[len(rects)-1]
		rects = rects[:len(rects)-1]
		i = 0
	}
	return append(rects, r)
}

func area(r image.Rectangle) int { return r.Dx() * r.Dy() }
