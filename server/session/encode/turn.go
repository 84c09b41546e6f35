package encode

import (
	"image"
	"time"
)

// What scrolls on and on is not moved in memory with each line, which would take
// longer than all else: rows of the copy change places instead, between the columns
// of what is damaged, or all of each where that is hardly more; and only what is
// beside what scrolls there, and stays, is moved.

const (
	// maxTurn bounds by how many rows what scrolls may move.
	maxTurn = 64
	// turnCost is the part of what moves that is copied at most: else all of it is.
	turnCost = 0.4
	// straightFor is how long after something wanted the rows in their places, or
	// pixels of more columns, they stay there.
	straightFor = time.Second
)

// A turning is what a copy needs whose rows change places.
type turning struct {
	order        []int32       // memory for the shadow's Order
	saved        []byte        // what is beside the last rows
	straightTill time.Duration // rows stay in their places
}

// turns reports whether m, which was found in box, is made by changing places, and
// between which columns: it moves up or down, again and again, and most of what is
// between them, and nobody has wanted rows in order lately.
func (e *Encoder) turns(m move, box image.Rectangle) (left, right int, ok bool) {
	p, k, w := &e.shadow, max(m.d.Y, -m.d.Y), m.to.Dx()
	if !e.again || m.d.X != 0 || k == 0 || k > maxTurn || m.to.Dy() < 4*k || e.terms.Now < e.straightTill {
		return 0, 0, false
	}
	cheap := func(left, right int) bool {
		cost := (right-left-w)*(m.to.Dy()+k) + w*k
		return float64(cost) <= turnCost*float64(w*m.to.Dy())
	}
	switch {
	case p.Order != nil:
		left, right = p.Left, p.Right
		if m.to.Min.X < left || m.to.Max.X > right || !cheap(left, right) { // something else scrolls
			e.straight()
			return 0, 0, false
		}
		return left, right, true
	case cheap(0, p.W):
		return 0, p.W, true
	}
	return box.Min.X, box.Max.X, cheap(box.Min.X, box.Max.X)
}

// turn does to the shadow what COPY does, between the columns that turns has said.
func (e *Encoder) turn(m move, left, right int) {
	p := &e.shadow
	if p.Order == nil {
		if len(e.order) != p.H {
			e.order = make([]int32, p.H)
		}
		for y := range e.order {
			e.order[y] = int32(y)
		}
		p.Order, p.Left, p.Right = e.order, left, right
	}
	// Rows by their numbers from where what moves goes to: each becomes the k-th
	// after it where m is, and stays as it is beside that; the last k stay whole.
	k, first, step := -m.d.Y, m.to.Min.Y, 1
	if k < 0 {
		k, first, step = -k, m.to.Max.Y-1, -1
	}
	n := m.to.Dy() + k
	at := func(i int) int { return first + i*step }
	beside := func(y int) [2][]byte {
		return [2][]byte{p.Row(y, p.Left, m.to.Min.X), p.Row(y, m.to.Max.X, p.Right)}
	}

	e.saved = e.saved[:0]
	for i := n - k; i < n; i++ {
		b := beside(at(i))
		e.saved = append(append(e.saved, b[0]...), b[1]...)
	}
	for i := n - k - 1; i >= 0; i-- {
		from, to := beside(at(i)), beside(at(i+k))
		copy(to[0], from[0])
		copy(to[1], from[1])
	}
	var gone [maxTurn]int32 // what has moved out of sight takes the last rows' places
	for i := range k {
		gone[i] = p.Order[at(i)]
	}
	for i := range n - k {
		p.Order[at(i)] = p.Order[at(i+k)]
	}
	rest := e.saved
	for i := range k {
		y := at(n - k + i)
		was := p.Row(y, m.to.Min.X, m.to.Max.X)
		p.Order[y] = gone[i]
		copy(p.Row(y, m.to.Min.X, m.to.Max.X), was)
		b := beside(y)
		rest = rest[copy(b[0], rest):]
		rest = rest[copy(b[1], rest):]
	}
}

// whole has each row between the columns of r in one place.
func (e *Encoder) whole(r image.Rectangle) {
	if !e.shadow.Whole(r.Min.X, r.Max.X) {
		e.straight()
	}
}

// columns is r, cut where rows are in two places.
func (e *Encoder) columns(r image.Rectangle) [3]image.Rectangle {
	p := &e.shadow
	if p.Whole(r.Min.X, r.Max.X) {
		return [3]image.Rectangle{r}
	}
	between := func(x0, x1 int) image.Rectangle { return r.Intersect(image.Rect(x0, r.Min.Y, x1, r.Max.Y)) }
	return [3]image.Rectangle{between(0, p.Left), between(p.Left, p.Right), between(p.Right, p.W)}
}

// straight has the rows of the shadow in their places, for a while.
func (e *Encoder) straight() {
	e.straighten()
	e.straightTill = e.terms.Now + straightFor
}

// straighten has the rows of the shadow in their places.
func (e *Encoder) straighten() {
	p := &e.shadow
	order, left, right := p.Order, p.Left, p.Right
	if order == nil {
		return
	}
	p.Order = nil // rows are those of Pix from here on
	for y := range order {
		if int(order[y]) == y {
			continue
		}
		e.saved = append(e.saved[:0], p.Row(y, left, right)...)
		for at := y; ; {
			from := int(order[at])
			order[at] = int32(at)
			if from == y {
				copy(p.Row(at, left, right), e.saved)
				break
			}
			copy(p.Row(at, left, right), p.Row(from, left, right))
			at = from
		}
	}
	e.saved = nil
}
