package encode

import (
	"bytes"
	"encoding/binary"
	"image"
	"slices"
	"time"

	"hotdesk/protocol/draw"
)

const (
	// leastMove is the smallest change, and the smallest move, worth looking
	// for, in pixels.
	leastMove = 2048
	// maxMoves is how many moves one View may show.
	maxMoves = 2
	// maxRestraint bounds the Views for which nobody searches after searches
	// that found nothing: video moves, but never as a whole.
	maxRestraint = 32
	// patience is how many such searches change nothing: between the steps of
	// a drag windows are redrawn.
	patience = 4

	anchorW   = 15 // pixels
	anchorMax = 6
	edges     = 4 // colour changes that make an anchor rare enough

	// searched bounds the pixels among which an anchor is searched that has moved
	// in any direction: a new page is found to be one in a fraction of the time
	// that its coding takes, and what is so large moves by little at a time.
	searched = 1 << 18

	// Of what moves again within checkAfter one row in so many is looked at, each
	// time others, as long as these are as they were; all of it is compared when it
	// has not moved for that long.
	looked     = 4 // a power of two, and less than letters have: between lines all is alike
	checkAfter = 50 * time.Millisecond
)

// A move is what was found again, shifted by d, at to.
type move struct {
	to    image.Rectangle
	d     image.Point
	exact image.Rectangle // what of to was seen to be all the same
}

// moves looks for parts of the shadow that are at another place in p, applies
// them to the shadow, and remembers them in e.moved.
//
// p may change meanwhile, and what is found may be wrong: whatever it is, the
// terminal does to its picture what is done to the shadow here, and comparing
// comes after it.
func (e *Encoder) moves(p *draw.Pixmap, damage []image.Rectangle, hints []image.Point) {
	var box image.Rectangle
	changed := 0
	for _, r := range damage {
		r = r.Intersect(e.shadow.Bounds())
		changed += r.Dx() * r.Dy()
		box = box.Union(r)
	}
	if changed < leastMove || box.Dx() < 2*anchorW || box.Dx()*box.Dy() > 3*changed {
		return
	}
	e.touch(box)
	e.again = e.terms.Motion && e.terms.Now-e.movedAt < checkAfter
	for range maxMoves {
		anchors := e.anchors(p, box)
		if len(anchors) == 0 {
			return
		}
		g := guess{e: e, p: p, box: box, anchors: anchors}
		least := max(leastMove, changed/8)
		g.known(damage, hints)
		to, exact := g.grown()
		if to.Dx()*to.Dy() < least {
			if e.restraint > 0 {
				e.restraint--
				return
			}
			g.search()
			if to, exact = g.grown(); to.Dx()*to.Dy() < least && len(e.moved) == 0 {
				if e.fruitless++; e.fruitless > patience {
					e.restraint = min(1<<(e.fruitless-patience), maxRestraint)
					e.fruitless = min(e.fruitless, 2*patience)
				}
			}
		}
		if to.Dx()*to.Dy() < least {
			return
		}
		m := move{to, g.best, exact}
		e.restraint, e.fruitless = 0, 0
		if m.d != e.usual[0] {
			e.usual[0], e.usual[1] = m.d, e.usual[0]
		}
		e.cover(m)
		if left, right, ok := e.turns(m, box); ok {
			e.turn(m, left, right)
		} else {
			shift(&e.shadow, m)
		}
		e.cells.move(m.to, m.d)
		if e.again {
			e.cells.check(m.exact, e.terms.Now+checkAfter)
		}
		e.movedAt = e.terms.Now
		e.phase += 1 - m.d.Y
		e.moved = append(e.moved, m)
		e.early = append(e.early, draw.Op{Code: draw.Copy, X: to.Min.X, Y: to.Min.Y, W: to.Dx(), H: to.Dy(),
			SrcX: to.Min.X - m.d.X, SrcY: to.Min.Y - m.d.Y})
		e.bare(p, m)
		if 2*to.Dx()*to.Dy() > changed {
			return // there is hardly room for another
		}
	}
}

// compareDamage compares r but for what the last move has seen to be exact:
// the shadow has there what was read.
func (e *Encoder) compareDamage(p *draw.Pixmap, r image.Rectangle) {
	for _, part := range unsure(r, e.sure()) {
		e.compare(p, part)
	}
}

// sure is what the last move has seen to be exact.
func (e *Encoder) sure() (x image.Rectangle) {
	if n := len(e.moved); n > 0 {
		x = e.moved[n-1].exact
	}
	return x
}

// unsure is r without x, in order: above it, beside it and below it.
func unsure(r, x image.Rectangle) [4]image.Rectangle {
	if x = x.Intersect(r); x.Empty() {
		return [4]image.Rectangle{r}
	}
	return [4]image.Rectangle{
		image.Rect(r.Min.X, r.Min.Y, r.Max.X, x.Min.Y),
		image.Rect(r.Min.X, x.Min.Y, x.Min.X, x.Max.Y),
		image.Rect(x.Max.X, x.Min.Y, r.Max.X, x.Max.Y),
		image.Rect(r.Min.X, x.Max.Y, r.Max.X, r.Max.Y),
	}
}

// compareMoved compares what moves have drawn outside the damage.
func (e *Encoder) compareMoved(p *draw.Pixmap, damage []image.Rectangle) {
	for _, m := range e.moved {
		if !slices.ContainsFunc(damage, m.to.In) {
			e.compareDamage(p, m.to)
		}
	}
}

// shift does to p what COPY does.
func shift(p *draw.Pixmap, m move) {
	from, n := m.to.Sub(m.d), m.to.Dy()
	for i := range n {
		if m.d.Y > 0 { // from the bottom up, so that no row is overwritten before it is read
			i = n - 1 - i
		}
		copy(p.Row(m.to.Min.Y+i, m.to.Min.X, m.to.Max.X), p.Row(from.Min.Y+i, from.Min.X, from.Max.X))
	}
}

// anchors are short pieces of rows in box that differ from the shadow and have
// enough in them to be known again.
func (e *Encoder) anchors(p *draw.Pixmap, box image.Rectangle) []image.Point {
	list := e.anchor[:0]
	step := max(box.Dy()/(2*anchorMax), 1)
	for y := box.Min.Y; y < box.Max.Y && len(list) < anchorMax; {
		now, old := p.Row(y, box.Min.X, box.Max.X), e.shadow.Row(y, box.Min.X, box.Max.X)
		if bytes.Equal(now, old) {
			y++
			continue
		}
		// Each looks first at another part of the rows: what begins a line is
		// what begins others too.
		from := len(now) / 4 * (2 + len(list)*2%anchorMax) / (anchorMax + 2) * 4
		at := -1
		for ; at < 0 && from >= 4; from = from / 8 * 4 {
			at = anchor(now, old, from)
		}
		found := at >= 0
		if found {
			list = append(list, image.Pt(box.Min.X+at/4, y))
		}
		if found {
			y += step
		} else {
			y += max(step/4, 1)
		}
	}
	return list
}

// anchor is the first place in a row, from there on, that makes an anchor; -1:
// there is none.
func anchor(now, old []byte, from int) int {
	for i := max(from, 4); i+4*anchorW <= len(now); i += 4 {
		if same(now[i:], now[i-4:]) {
			continue
		}
		run := 1
		for j := i + 4; j < i+4*anchorW; j += 4 {
			if !same(now[j:], now[j-4:]) {
				run++
			}
		}
		if run >= edges && !bytes.Equal(now[i:i+4*anchorW], old[i:i+4*anchorW]) {
			return i
		}
		i += 4 * (anchorW - 2)
	}
	return -1
}

// A guess is the vector that most anchors agree with so far.
type guess struct {
	e       *Encoder
	p       *draw.Pixmap
	box     image.Rectangle
	anchors []image.Point
	best    image.Point
	votes   int
}

// enough is how many of n anchors settle it: others may be in what was bared.
func enough(n int) int { return (n + 1) / 2 }

// at reports whether the anchor a is in the shadow, d before it.
func (g *guess) at(a, d image.Point) bool {
	s, old := a.Sub(d), &g.e.shadow
	if s.X < 0 || s.Y < 0 || s.X+anchorW > old.W || s.Y >= old.H || !old.Whole(s.X, s.X+anchorW) {
		return false
	}
	if g.e.folded(s.Y) {
		g.e.touch(image.Rect(s.X, s.Y, s.X+1, s.Y+1))
	}
	return bytes.Equal(g.p.Row(a.Y, a.X, a.X+anchorW), old.Row(s.Y, s.X, s.X+anchorW))
}

// ask counts the anchors that agree with d.
func (g *guess) ask(d image.Point) {
	if d == (image.Point{}) || d == g.best {
		return
	}
	n := 0
	for _, a := range g.anchors {
		if g.at(a, d) {
			n++
		}
	}
	if n > g.votes {
		g.best, g.votes = d, n
	}
}

// known asks for the hints, for the moves before this one and those near them,
// and for what the shape of the damage tells: a window that is dragged bares a
// strip at one side and takes one at the other.
func (g *guess) known(damage []image.Rectangle, hints []image.Point) {
	for _, d := range hints {
		g.ask(d)
	}
	if g.votes >= enough(len(g.anchors)) {
		return
	}
	for _, u := range g.e.usual {
		if g.ask(u); g.votes == len(g.anchors) {
			return
		}
	}
	const near, corners = 2, 8
	for i := range min(len(damage), corners) {
		for j := range min(len(damage), corners) {
			dx, dy := damage[i].Min.X-damage[0].Min.X, damage[j].Min.Y-damage[0].Min.Y
			g.ask(image.Pt(dx, dy))
			g.ask(image.Pt(-dx, -dy))
			g.ask(image.Pt(-dx, dy))
			g.ask(image.Pt(dx, -dy))
		}
	}
	if g.votes >= enough(len(g.anchors)) || g.e.usual[0] == (image.Point{}) {
		return
	}
	for steps := range 2 { // one step like the last, or two at once
		for dy := -near; dy <= near; dy++ {
			for dx := -near; dx <= near; dx++ {
				g.ask(g.e.usual[0].Mul(steps + 1).Add(image.Pt(dx, dy)))
			}
		}
	}
}

// search looks for the anchors in all of box: up and down first, for what
// scrolls, then everywhere near.
func (g *guess) search() {
	n := len(g.anchors)
	for _, a := range g.anchors {
		for k := 1; k < g.box.Dy() && g.votes < n; k++ {
			for _, d := range [2]image.Point{{Y: k}, {Y: -k}} {
				if (image.Point{X: a.X, Y: a.Y - d.Y}).In(g.box) && g.at(a, d) {
					g.ask(d)
				}
			}
		}
	}
	if g.votes >= enough(n) {
		return
	}
	a := g.anchors[len(g.anchors)/2]
	want := g.p.Row(a.Y, a.X, a.X+anchorW)
	for k := range min(2*g.box.Dy(), searched/g.box.Dx()) {
		y := a.Y + k/2 // row by row away from where it is now
		if k&1 == 1 {
			y = a.Y - 1 - k/2
		}
		if y < g.box.Min.Y || y >= g.box.Max.Y {
			continue
		}
		row := g.e.shadow.Row(y, g.box.Min.X, g.box.Max.X)
		for from := 0; g.votes < n; {
			i := indexPixels(row[from:], want)
			if i < 0 {
				break
			}
			g.ask(a.Sub(image.Pt(g.box.Min.X+(from+i)/4, y)))
			from += i + 4
		}
	}
}

// indexPixels is where want, at least four pixels, begins in row; -1: nowhere.
func indexPixels(row, want []byte) int {
	first, next := binary.LittleEndian.Uint64(want), binary.LittleEndian.Uint64(want[8:])
	for b := row; len(b) >= len(want); b = b[4:] {
		if binary.LittleEndian.Uint64(b) == first && binary.LittleEndian.Uint64(b[8:]) == next && bytes.Equal(b[:len(want)], want) {
			return len(row) - len(b)
		}
	}
	return -1
}

// grown is the largest rectangle that the anchors which agree give.
func (g *guess) grown() (best, exact image.Rectangle) {
	if g.votes == 0 {
		return best, exact
	}
	for _, a := range g.anchors {
		if a.In(best) || !g.at(a, g.best) {
			continue
		}
		if to, same := g.e.grow(g.p, g.box, a, g.best); to.Dx()*to.Dy() > best.Dx()*best.Dy() {
			best, exact = to, same
		}
	}
	return best, exact
}

// grow is the rectangle around a, inside box, in which p is the shadow shifted
// by d, but for a little: a text cursor that has gone is cheaper to draw over
// than the line it was in is to send.
func (e *Encoder) grow(p *draw.Pixmap, box image.Rectangle, a, d image.Point) (to, exact image.Rectangle) {
	box = box.Intersect(e.shadow.Bounds().Add(d))
	if !a.In(box) {
		return to, exact
	}
	e.touch(box.Sub(d))
	l, r, _ := e.alike(p, a, d, box.Min.X, box.Max.X, a.Y, false)
	to = image.Rect(l, a.Y, r, a.Y+1)
	exact = to
	for _, dir := range [2]int{-1, 1} {
		all := true
		few, seen := e.again, a.Y
		for y := a.Y + dir; ; y += dir {
			end := y < box.Min.Y || y >= box.Max.Y
			if few && !end && (y+e.phase)&(looked-1) != 0 {
				continue
			}
			i, j, same := 0, 0, false
			if !end {
				i, j, same = e.alike(p, a, d, to.Min.X, to.Max.X, y, true)
			}
			if few && !same { // from the last row that was, all are looked at
				few, y = false, seen
				continue
			}
			if end || (j-i)*8 < to.Dx()*7 || j-i < anchorW {
				break // what follows is worth less than what it costs
			}
			seen = y
			to.Min.X, to.Max.X = i, j
			to.Min.Y, to.Max.Y = min(to.Min.Y, y), max(to.Max.Y, y+1)
			if all = all && same; all {
				exact.Min.Y, exact.Max.Y = min(exact.Min.Y, y), max(exact.Max.Y, y+1)
			}
		}
	}
	return to, exact.Intersect(to)
}

// alike is what is the same around a.X in row y, between l and r: all of it
// also where a part is not, if mostly says that this is enough. exact says
// that what is returned is the same without exception.
func (e *Encoder) alike(p *draw.Pixmap, a, d image.Point, l, r, y int, mostly bool) (i, j int, exact bool) {
	now, old := p.Row(y, l, r), e.shadow.Row(y-d.Y, l-d.X, r-d.X)
	if bytes.Equal(now, old) {
		return l, r, true
	}
	at := (a.X - l) * 4
	i, j = at, at
	for i >= 4 && same(now[i-4:], old[i-4:]) {
		i -= 4
	}
	for j < len(now) && same(now[j:], old[j:]) {
		j += 4
	}
	if mostly && (j-i)*8 < len(now)*7 {
		n := j - i
		for k := 0; k < len(now); k += 4 {
			if (k < i || k >= j) && same(now[k:], old[k:]) {
				n += 4
			}
		}
		if n*8 >= len(now)*7 {
			return l, r, false
		}
	}
	return l + i/4, l + j/4, true
}

func same(a, b []byte) bool {
	return (binary.LittleEndian.Uint32(a)^binary.LittleEndian.Uint32(b))&0xffffff == 0
}
