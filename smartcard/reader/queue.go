package reader

import "context"

// MaxQueued bounds the events that wait to be taken from a Queue; past it the
// reader waits.
const MaxQueued = 4096

// A Queue hands the events of a Source on in their order, so that what happens
// at a reader does not wait for whoever takes them.
type Queue struct {
	ctx     context.Context
	in, out chan Event
	done    chan struct{}
}

// NewQueue makes one that lasts until ctx ends; what nobody took then is
// dropped.
func NewQueue(ctx context.Context) *Queue {
	q := &Queue{ctx: ctx, in: make(chan Event), out: make(chan Event), done: make(chan struct{})}
	go q.deliver()
	return q
}

// Events is where they come out. It is closed at the end.
func (q *Queue) Events() <-chan Event { return q.out }

// Wait waits for the end.
func (q *Queue) Wait() { <-q.done }

// Tell puts an event in. It waits while MaxQueued have not been taken.
func (q *Queue) Tell(e Event) {
	select {
	case q.in <- e:
	case <-q.ctx.Done():
	}
}

func (q *Queue) deliver() {
	defer close(q.done)
	defer close(q.out)
	var waiting []Event
	for {
		in := q.in
		if len(waiting) >= MaxQueued {
			in = nil
		}
		var out chan<- Event
		var first Event
		if len(waiting) > 0 {
			out, first = q.out, waiting[0]
		}
		select {
		case e := <-in:
			waiting = append(waiting, e)
		case out <- first: // never, while nothing waits
			waiting = waiting[1:]
		case <-q.ctx.Done():
			return
		}
	}
}
