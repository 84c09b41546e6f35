package encode

import (
	"image"
	"time"

	"hotdesk/protocol/draw"
)

// Terms say how near to the right picture a frame must be. The zero value asks
// for exact pixels, also of what was only near before.
type Terms struct {
	Now    time.Duration // since any fixed moment
	Motion bool          // what changes again and again may be near, till it rests
	First  bool          // photos may be near at first; implies Motion
	Budget int           // bytes after which what moves waits for the next frame; 0: no limit
	Hold   bool          // what moves, or is to be made exact, waits
}

const (
	// RefineAfter is how long what is near must have rested before it is made
	// exact. Of photos that change five times a second none is, for by then the
	// next is there.
	RefineAfter = 300 * time.Millisecond
	// refinePixels bounds what is made exact in one frame, so that what changes
	// meanwhile does not wait long.
	refinePixels = 1 << 18
	// exactCost is what a pixel of a photo takes, in bytes, at worst.
	exactCost = 2

	// cellSide is that of the squares of which is known how they change.
	cellSide = 64
	// hotAfter changes, each within stillHot (on a link that is slow, slowHot)
	// of the one before, make motion.
	hotAfter = 3
	stillHot = 150 * time.Millisecond
	slowHot  = time.Second
	// leastNear is the smallest photo, in pixels, that is near at first.
	leastNear = 4096

	// fineStep is a LOSSY's of what moves where bytes are cheap, firstStep that of
	// a photo that may stay, and coarseStep that of both where bytes are dear.
	fineStep   = 11
	firstStep  = 8
	coarseStep = 22
)

func (t Terms) exact() bool { return !t.Motion && !t.First && t.Budget == 0 }
func (t Terms) first() bool { return t.First || t.Budget > 0 }

func (t Terms) step(moves bool) byte {
	switch {
	case t.Budget > 0:
		return coarseStep
	case moves:
		return fineStep
	}
	return firstStep
}

func (t Terms) hotFor() time.Duration {
	if t.Budget > 0 {
		return slowHot
	}
	return stillHot
}

// A cell is a square of the picture.
type cell struct {
	touched time.Duration   // when it was last damaged, as a photo
	seen    time.Duration   // when that was last worth a change
	heat    uint8           // how often it changed, each time soon after the last
	near    bool            // the terminal may have something that is only near, or was not looked at
	refined bool            // it was made exact while it was damaged still,
	noisy   bool            // and was not the same after that: it must rest
	todo    image.Rectangle // what was damaged and has not been looked at
	owed    image.Rectangle // of what is near, where the shadow has what it is near to
}

func (c *cell) hot(t Terms) bool {
	return (c.heat >= hotAfter || c.heat > 0 && t.Budget > 0) && t.Now-c.touched <= t.hotFor()
}

// cells are all of a picture, row by row.
type cells struct {
	w, h   int
	list   []cell
	busy   bool // one is near or has something to do
	anyHot bool // one may be hot
	from   int  // the row to begin with, where not all can be done
}

func (g *cells) reset(w, h int) {
	*g = cells{w: (w + cellSide - 1) / cellSide, h: (h + cellSide - 1) / cellSide, list: g.list[:0]}
	if n := g.w * g.h; cap(g.list) >= n {
		g.list = g.list[:n]
		clear(g.list)
	} else {
		g.list = make([]cell, n)
	}
}

// each calls f with the cells of r, and the part of r in each.
func (g *cells) each(r image.Rectangle, f func(c *cell, part image.Rectangle)) {
	for y := r.Min.Y; y < r.Max.Y; {
		y1 := min(y/cellSide*cellSide+cellSide, r.Max.Y)
		for x := r.Min.X; x < r.Max.X; {
			x1 := min(x/cellSide*cellSide+cellSide, r.Max.X)
			f(&g.list[y/cellSide*g.w+x/cellSide], image.Rect(x, y, x1, y1))
			x = x1
		}
		y = y1
	}
}

// owe notes that in r, from now on, the terminal has what is near to the shadow,
// instead of what the shadow has.
func (g *cells) owe(r image.Rectangle, seen time.Duration) {
	g.busy = true
	g.each(r, func(c *cell, part image.Rectangle) {
		c.near, c.seen = true, max(c.seen, seen)
		c.owed = c.owed.Union(part)
	})
}

// pay notes that in r the terminal has what the shadow has.
func (g *cells) pay(r image.Rectangle) {
	if !g.busy {
		return
	}
	g.each(r, func(c *cell, part image.Rectangle) { c.owed = without(c.owed, part) })
}

// move is what COPY by d to the rectangle to does to what is owed.
func (g *cells) move(to image.Rectangle, d image.Point) {
	if !g.busy {
		return
	}
	type debt struct {
		r    image.Rectangle
		seen time.Duration
	}
	var list []debt
	g.each(to.Sub(d), func(c *cell, part image.Rectangle) {
		if r := c.owed.Intersect(part); !r.Empty() {
			list = append(list, debt{r.Add(d), c.seen})
		}
	})
	g.pay(to)
	for _, o := range list {
		g.owe(o.r, o.seen)
	}
}

// check has r compared when it is due, unless that is put off again.
func (g *cells) check(r image.Rectangle, due time.Duration) {
	seen := due - RefineAfter
	g.busy = true
	g.each(r, func(c *cell, _ image.Rectangle) {
		if !c.near || c.seen < seen {
			c.near, c.seen = true, seen
		}
	})
}

// owing is the smallest rectangle with all that is owed in r.
func (g *cells) owing(r image.Rectangle) (owed image.Rectangle) {
	if g.busy {
		g.each(r, func(c *cell, part image.Rectangle) { owed = owed.Union(c.owed.Intersect(part)) })
	}
	return owed
}

// without is r without part, if that is a rectangle, or else r.
func without(r, part image.Rectangle) image.Rectangle {
	switch part = part.Intersect(r); {
	case part.Dx() == r.Dx() && part.Min.Y == r.Min.Y:
		r.Min.Y = part.Max.Y
	case part.Dx() == r.Dx() && part.Max.Y == r.Max.Y:
		r.Max.Y = part.Min.Y
	case part.Dy() == r.Dy() && part.Min.X == r.Min.X:
		r.Min.X = part.Max.X
	case part.Dy() == r.Dy() && part.Max.X == r.Max.X:
		r.Max.X = part.Min.X
	}
	if r.Empty() {
		return image.Rectangle{}
	}
	return r
}

// Due is when Encode has something to do although nothing has changed.
func (e *Encoder) Due() (at time.Duration, ok bool) {
	if !e.cells.busy {
		return 0, false
	}
	for i := range e.cells.list {
		c := &e.cells.list[i]
		switch {
		case !c.todo.Empty():
			return 0, true
		case c.near && (!ok || c.seen+RefineAfter < at):
			at, ok = c.seen+RefineAfter, true
		}
	}
	e.cells.busy = ok
	return at, ok
}

// cool takes from damage what moves, which becomes something to do, and returns
// what is left.
func (e *Encoder) cool(damage []image.Rectangle, t Terms) []image.Rectangle {
	g := &e.cells
	if !g.anyHot || t.exact() {
		return damage
	}
	g.anyHot = false
	for i := range g.list {
		if g.list[i].hot(t) {
			g.anyHot = true
			break
		}
	}
	if !g.anyHot {
		return damage
	}
	e.cold = e.cold[:0]
	for _, r := range damage {
		first := len(e.cold)
		g.each(r.Intersect(e.shadow.Bounds()), func(c *cell, part image.Rectangle) {
			if c.hot(t) {
				c.todo = c.todo.Union(part)
				e.touch(c.todo) // it has what was not damaged, too
				c.touched = t.Now
				if c.noisy {
					c.seen = t.Now
				}
				g.busy = true
				return
			}
			if n := len(e.cold); n > first && e.cold[n-1].Max.X == part.Min.X && e.cold[n-1].Min.Y == part.Min.Y && e.cold[n-1].Max.Y == part.Max.Y {
				e.cold[n-1].Max.X = part.Max.X
				return
			}
			e.cold = append(e.cold, part)
		})
	}
	return e.cold
}

// warm notes that a was a photo that changed.
func (e *Encoder) warm(a image.Rectangle) {
	t := e.terms
	e.cells.each(a, func(c *cell, _ image.Rectangle) {
		switch {
		case c.heat > 0 && c.touched == t.Now:
		case c.heat > 0 && t.Now-c.touched <= t.hotFor():
			c.heat = min(c.heat+1, hotAfter)
		default:
			c.heat = 1
		}
		c.touched, c.seen = t.Now, t.Now
		e.cells.anyHot = e.cells.anyHot || c.heat == hotAfter || t.Budget > 0
	})
}

// refine compares what is near and has rested.
func (e *Encoder) refine(p *draw.Pixmap, t Terms) {
	g := &e.cells
	if !g.busy || t.Hold {
		return
	}
	due := func(i int) bool {
		c := &g.list[i]
		if t.exact() {
			return c.near || !c.todo.Empty()
		}
		return c.near && c.todo.Empty() && t.Now-c.seen >= RefineAfter
	}
	pixels := refinePixels
	if t.Budget > 0 {
		pixels = t.Budget / exactCost
	}
	for y := 0; y < g.h; y++ {
		for x := 0; x < g.w; x++ {
			if !due(y*g.w + x) {
				continue
			}
			if pixels <= 0 && !t.exact() {
				return
			}
			x1, y1 := x+1, y+1
			for x1 < g.w && due(y*g.w+x1) && (t.Budget == 0 || (x1-x)*cellSide*cellSide < pixels) {
				x1++
			}
			same := func() bool {
				for i := x; i < x1; i++ {
					if !due(y1*g.w + i) {
						return false
					}
				}
				return true
			}
			for y1 < g.h && (x1-x)*(y1-y)*cellSide*cellSide < pixels && same() {
				y1++
			}
			r := image.Rect(x, y, x1, y1)
			r.Min, r.Max = r.Min.Mul(cellSide), r.Max.Mul(cellSide)
			r = r.Intersect(e.shadow.Bounds())
			e.owing = g
			for _, part := range e.columns(r) {
				e.touch(part)
				e.compare(p, part)
			}
			e.owing = nil
			pixels -= r.Dx() * r.Dy()
			g.each(r, func(c *cell, _ image.Rectangle) {
				*c = cell{touched: c.touched, seen: c.seen, heat: c.heat, refined: true, noisy: c.noisy}
				if t.exact() || t.Now-c.touched >= RefineAfter {
					c.heat, c.refined, c.noisy = 0, false, false
				}
			})
		}
	}
}

// follow sends what moves, as far as the budget goes.
func (e *Encoder) follow(p *draw.Pixmap, t Terms) {
	g := &e.cells
	if !g.busy || t.Hold {
		return
	}
	spent := 0
	e.runs = e.runs[:0]
	for k := range g.h {
		y := (g.from + k) % g.h
		var run image.Rectangle
		for x := range g.w {
			c := &g.list[y*g.w+x]
			if c.refined && !c.near && !c.todo.Empty() {
				e.whole(c.todo)
				if e.as(p, c.todo) {
					c.todo = image.Rectangle{}
				} else {
					c.noisy = true
				}
			}
			switch {
			case c.todo.Empty():
			case run.Max.X == c.todo.Min.X && run.Min.Y == c.todo.Min.Y && run.Max.Y == c.todo.Max.Y && !run.Empty():
				run.Max.X = c.todo.Max.X
			default:
				e.runs = appendRun(e.runs, run)
				run = c.todo
			}
		}
		e.runs = appendRun(e.runs, run)
		if t.Budget > 0 && len(e.runs) > 0 {
			for _, r := range e.runs {
				spent += e.nearly(p, r, true)
			}
			e.runs = e.runs[:0]
			if spent >= t.Budget {
				g.from = (y + 1) % g.h
				return
			}
		}
	}
	for _, r := range e.runs {
		e.nearly(p, r, true)
	}
}

// appendRun joins run to one that it continues downwards.
func appendRun(runs []image.Rectangle, run image.Rectangle) []image.Rectangle {
	if run.Empty() {
		return runs
	}
	for i := range runs {
		if r := &runs[i]; r.Min.X == run.Min.X && r.Max.X == run.Max.X && r.Max.Y == run.Min.Y {
			r.Max.Y = run.Max.Y
			return runs
		}
	}
	return append(runs, run)
}

// as reports whether the terminal has r of p.
func (e *Encoder) as(p *draw.Pixmap, r image.Rectangle) bool {
	for y := r.Min.Y; y < r.Max.Y; y++ {
		if !sameRow(p.Row(y, r.Min.X, r.Max.X), e.shadow.Row(y, r.Min.X, r.Max.X)) {
			return false
		}
	}
	return true
}

// nearly sends r of src nearly, and returns how many bytes that took.
func (e *Encoder) nearly(src *draw.Pixmap, r image.Rectangle, inter bool) (n int) {
	g := &e.cells
	across := (r.Dx() + 7) / 8
	rows := max(draw.MaxBlocks/across, 1) * 8
	for y := r.Min.Y; y < r.Max.Y; y += rows {
		part := image.Rect(r.Min.X, y, r.Max.X, min(y+rows, r.Max.Y))
		g.each(part, func(c *cell, in image.Rectangle) {
			c.near, c.todo = true, without(c.todo, in)
		})
		g.busy = true
		k, changed := e.lossy(src, part, e.terms.step(inter), inter)
		if inter {
			g.pay(part)
		} else {
			g.owe(part, e.terms.Now)
		}
		if n += k; !changed {
			continue
		}
		for i, shape := range e.near.blocks.Shape {
			if shape != draw.Inter {
				x, y := part.Min.X+i%across*8, part.Min.Y+i/across*8
				g.list[y/cellSide*g.w+x/cellSide].seen = e.terms.Now
			}
		}
	}
	return n
}
