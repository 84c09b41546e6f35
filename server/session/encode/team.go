package encode

import (
	"runtime"
	"sync"
)

// muchToCode is how many pixels to be coded are worth more than one core.
const muchToCode = 1 << 18

// A team codes strips on up to maxCores cores. Who asks for it gives them in order and
// writes them in order: some are coded while the one before them is packed.
type team struct {
	slots []slot     // used in turn
	work  chan *slot // nil ends a worker
	run   func()     // a worker's life
	next  int        // the slot that the next strip gets
	given int        // slots, up to next, that are not written yet
	size  int        // workers
}

// A slot is a strip on its way.
type slot struct {
	strip
	coder
	e    *Encoder
	done chan struct{} // capacity 1
}

// teams wait to be asked.
var teams sync.Pool

func newTeam(size int) *team {
	t := &team{slots: make([]slot, 2*size), work: make(chan *slot, 2*size), size: size}
	for i := range t.slots {
		t.slots[i].done = make(chan struct{}, 1)
	}
	t.run = func() {
		for s := range t.work {
			if s == nil {
				return
			}
			s.code(&s.coder, &s.e.shadow, s.e.terms)
			s.done <- struct{}{}
		}
	}
	return t
}

// ask gets a team where there is enough to do and more than one core; dismiss
// must follow.
func (e *Encoder) ask() {
	size, pixels := min(runtime.GOMAXPROCS(0), maxCores), 0
	for _, a := range e.areas {
		if !a.one {
			pixels += a.pixels()
		}
	}
	if e.team != nil || size < 2 || pixels < muchToCode {
		return
	}
	t, _ := teams.Get().(*team)
	if t == nil || t.size != size {
		t = newTeam(size)
	}
	for range size {
		go t.run()
	}
	e.team = t
}

// give has s coded, and writes those before it as far as that is needed for
// room.
func (e *Encoder) give(s strip) {
	t := e.team
	if t.given == len(t.slots) {
		e.take()
	}
	p := &t.slots[t.next]
	p.strip, p.e = s, e
	if s.one { // nothing to code
		p.done <- struct{}{}
	} else {
		t.work <- p
	}
	t.next = (t.next + 1) % len(t.slots)
	t.given++
}

// take writes the first strip that was given and not written.
func (e *Encoder) take() {
	t := e.team
	p := &t.slots[(t.next+len(t.slots)-t.given)%len(t.slots)]
	<-p.done
	t.given--
	p.e = nil
	e.strip(p.strip, &p.coder)
	e.cut()
}

// drain writes what is left.
func (e *Encoder) drain() {
	for e.team != nil && e.team.given > 0 {
		e.take()
	}
}

// dismiss writes what is left and sends the team away.
func (e *Encoder) dismiss() {
	t := e.team
	if t == nil {
		return
	}
	e.drain()
	t.next = 0 // the same slots for the next frame: each comes to hold a megabyte
	for range t.size {
		t.work <- nil
	}
	e.team = nil
	teams.Put(t)
}
