package encode

import "time"

// What scrolls on and on and is nearly as wide as the screen is not moved in
// memory with each line, which would take longer than all else: rows of the copy
// change places instead, and only what is beside them, and stays, is moved.

const (
	// maxTurn bounds by how many rows what scrolls may move.
	maxTurn = 64
	// turnCost is the part of what moves that is copied at most: else all of it is.
	turnCost = 0.4
	// straightFor is how long after something wanted the rows in their places they
	// stay there.
	straightFor = time.Second
)

// A turning is what a copy needs whose rows change places.
type turning struct {
	order        []int32       // memory for the shadow's Order
	saved        []byte        // what is beside the last rows
	straightTill time.Duration // rows stay in their places
}

// turns reports whether m is made by changing places: it moves up or down, again
// and again, most of its rows' width, and nobody has wanted them in order lately.
func (e *Encoder) turns(m move) bool {
	k, w := max(m.d.Y, -m.d.Y), m.to.Dx()
	if !e.again || m.d.X != 0 || k == 0 || k > maxTurn || m.to.Dy() < 4*k || e.terms.Now < e.straightTill {
		return false
	}
	cost := (e.shadow.W-w)*(m.to.Dy()+k) + w*k
	return float64(cost) <= turnCost*float64(w*m.to.Dy())
}

// turn does to the shadow what COPY does.
func (e *Encoder) turn(m move) {
	p := &e.shadow
	if p.Order == nil {
		if len(e.order) != p.H {
			e.order = make([]int32, p.H)
		}
		for y := range e.order {
			e.order[y] = int32(y)
		}
		p.Order = e.order
	}
	// Rows by their numbers from where what moves goes to: each becomes the k-th
	// after it between left and right, and stays as it is beside that; the last k
	// stay whole.
	k, first, step := -m.d.Y, m.to.Min.Y, 1
	if k < 0 {
		k, first, step = -k, m.to.Max.Y-1, -1
	}
	n := m.to.Dy() + k
	at := func(i int) int { return first + i*step }
	left, right := m.to.Min.X, m.to.Max.X
	beside := func(y int) [2][]byte { return [2][]byte{p.Row(y, 0, left), p.Row(y, right, p.W)} }

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
		was := p.Row(y, left, right)
		p.Order[y] = gone[i]
		copy(p.Row(y, left, right), was)
		b := beside(y)
		rest = rest[copy(b[0], rest):]
		rest = rest[copy(b[1], rest):]
	}
}

// straighten has the rows of the shadow in their places.
func (e *Encoder) straighten() {
	p := &e.shadow
	order := p.Order
	if order == nil {
		return
	}
	p.Order = nil // rows are those of Pix from here on
	for y := range order {
		if int(order[y]) == y {
			continue
		}
		e.saved = append(e.saved[:0], p.Row(y, 0, p.W)...)
		for at := y; ; {
			from := int(order[at])
			order[at] = int32(at)
			if from == y {
				copy(p.Row(at, 0, p.W), e.saved)
				break
			}
			copy(p.Row(at, 0, p.W), p.Row(from, 0, p.W))
			at = from
		}
	}
	e.saved = nil
}
