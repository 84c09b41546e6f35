package encode

import (
	"bytes"
	"fmt"
	"image"
	"runtime"
	"sync"
	"time"

	"github.com/klauspost/compress/s2"
	"golang.org/x/sys/unix"

	"hotdesk/protocol/draw"
)

// CompactEvery is how long after a View to call Compact, which packs what no
// View has touched since the call before.
const CompactEvery = 5 * time.Second

const (
	// foldsAtOnce is how many folds one call of Compact packs, in a millisecond or
	// two; the next is called compactSoon after it.
	foldsAtOnce = 4
	compactSoon = 20 * time.Millisecond
	// foldRows is how many rows are packed as one: those around a line of text, or
	// a clock, are there again in a tenth of a millisecond.
	foldRows = 16
	// packedShare is the part, one in so many, that a fold may have packed: else it
	// stays as it is.
	packedShare = 2
)

// memory is that of a copy, which the collector does not manage, so that pages
// in the middle of it can be given back. It stays while the memory is reachable.
type memory struct{ b []byte }

// memories are those that copies no longer need. What no other takes soon goes
// back to the system.
var memories sync.Pool

// newMemory returns n bytes, in which anything may be.
func newMemory(n int) *memory {
	if m, ok := memories.Get().(*memory); ok && len(m.b) >= n && len(m.b) <= 2*n {
		return m
	}
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		panic(fmt.Errorf("encode: %d bytes for a picture: %w", n, err)) // as where Go finds none
	}
	m := &memory{b}
	runtime.AddCleanup(m, func(b []byte) { _ = unix.Munmap(b) }, b)
	return m
}

// forget gives the whole pages of b[from:to] back: they are zero after it.
func (m *memory) forget(from, to int) {
	page := unix.Getpagesize()
	if from, to = (from+page-1)/page*page, to/page*page; from < to {
		_ = unix.Madvise(m.b[from:to], unix.MADV_DONTNEED) // they are kept then
	}
}

// folds are what a copy consists of, each with its rows or packed. Packed ones
// may not be looked at. The zero value is for a copy that has none of them.
type folds struct {
	mem  *memory
	list []fold
	next int  // where Compact goes on
	more bool // it has seen one that may be packed when it comes again
}

type fold struct {
	packed  []byte // nil: its rows are there
	touched bool   // since Compact was there last,
	tough   bool   // or else was not worth packing
}

// newCopy makes the shadow of that size, in which anything may be.
func (e *Encoder) newCopy(w, h int) {
	e.shadow, e.folds = draw.Pixmap{}, folds{}
	m := newMemory(w * h * 4)
	e.shadow = draw.Pixmap{Pix: m.b[:w*h*4], Stride: w * 4, W: w, H: h}
	e.folds = folds{mem: m, list: make([]fold, (h+foldRows-1)/foldRows)}
	e.anything()
}

// freeCopy leaves its memory to others.
func (e *Encoder) freeCopy() {
	if e.folds.mem != nil {
		memories.Put(e.folds.mem)
	}
	e.shadow, e.folds = draw.Pixmap{}, folds{}
}

// anything lets anything be in the shadow.
func (e *Encoder) anything() {
	e.shadow.Order = nil
	for k := range e.folds.list {
		e.folds.list[k] = fold{touched: true}
	}
}

// rows is the part of the shadow that is k's.
func (e *Encoder) rows(k int) []byte {
	size := foldRows * e.shadow.Stride
	return e.shadow.Pix[k*size : min((k+1)*size, len(e.shadow.Pix))]
}

// touch has the rows of r there, each in one place; r is inside the shadow. It must
// be called before these are looked at.
func (e *Encoder) touch(r image.Rectangle) {
	if r.Empty() {
		return
	}
	e.whole(r)
	for k := r.Min.Y / foldRows; k <= (r.Max.Y-1)/foldRows; k++ {
		f := &e.folds.list[k]
		if f.packed != nil {
			rows := e.rows(k)
			if out, err := s2.Decode(rows[:len(rows):len(rows)], f.packed); err != nil || len(out) != len(rows) {
				panic(fmt.Sprintf("encode: rows that were packed here: %d bytes, %v", len(out), err))
			}
		}
		*f = fold{touched: true}
	}
}

// folded reports whether row y must be touched before it is looked at.
func (e *Encoder) folded(y int) bool { return e.folds.list[y/foldRows].packed != nil }

// Compact packs rows of the Encoder's copy that no View has touched for a while,
// so that a screen at rest takes little memory: a View has what it touches
// unpacked. A call does little enough for a key that is pressed meanwhile not to
// notice. Compact returns after how long to call it again; 0: not before
// CompactEvery after the next View.
func (e *Encoder) Compact() (again time.Duration) {
	g := &e.folds
	if e.cells.busy { // what is near is looked at soon
		return CompactEvery
	}
	e.straighten()
	var out []byte
	left := foldsAtOnce
	for ; g.next < len(g.list); g.next++ {
		k := g.next
		f := &g.list[k]
		switch {
		case f.touched:
			f.touched, g.more = false, true
			continue
		case f.packed != nil || f.tough:
			continue
		case left == 0:
			return compactSoon
		}
		left--
		rows := e.rows(k)
		if out == nil {
			out = make([]byte, s2.MaxEncodedLen(len(rows)))
		}
		packed := s2.Encode(out, rows)
		if len(packed) > len(rows)/packedShare {
			f.tough = true
			continue
		}
		f.packed = bytes.Clone(packed)
		from, to := k, k+1 // with the pages that are partly a neighbour's
		if from > 0 && g.list[from-1].packed != nil {
			from--
		}
		if to < len(g.list) && g.list[to].packed != nil {
			to++
		}
		size := foldRows * e.shadow.Stride
		g.mem.forget(from*size, min(to*size, len(e.shadow.Pix)))
	}
	g.next = 0
	if g.more {
		g.more = false
		return CompactEvery
	}
	return 0
}
