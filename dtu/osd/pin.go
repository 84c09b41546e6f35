package osd

import (
	"image"
	"image/color"
	"image/draw"
)

// MaxPlaces bounds the digits of a PIN that are shown.
const MaxPlaces = 16

// A place is where one digit of a PIN is shown: that it was typed, not which.
type place struct {
	at    image.Rectangle
	typed bool
}

// places lays out the places of m from x on, below y, and returns where the
// card ends with them. They get smaller where there is no room for them.
func places(em float64, x, room, right, y, bottom int, m Message) (all []place, newRight, newY, newBottom int) {
	n := min(m.Places, MaxPlaces)
	if n <= 0 {
		return nil, right, y, bottom
	}
	side, gap := int(1.7*em+0.5), int(0.4*em+0.5)
	if most := (room - (n-1)*gap) / n; most < side {
		side = max(most, 4)
	}
	y += int(0.3 * em)
	for i := range n {
		left := x + i*(side+gap)
		all = append(all, place{image.Rect(left, y, left+side, y+side), i < m.Typed})
	}
	y += side
	return all, max(right, x+n*side+(n-1)*gap), y, max(bottom, y)
}

func (q place) draw(img *image.RGBA, p image.Point) {
	fill := func(r image.Rectangle, radius float32, colour color.RGBA) {
		draw.DrawMask(img, r.Add(p), image.NewUniform(colour), image.Point{}, round(r.Size(), radius), image.Point{}, draw.Over)
	}
	side := q.at.Dx()
	line := max(side/14, 1)
	fill(q.at, float32(side)/5, faint)
	fill(q.at.Inset(line), float32(side)/5, Background)
	if q.typed {
		dot := q.at.Inset(side / 3)
		fill(dot, float32(dot.Dx())/2, strong)
	}
}
