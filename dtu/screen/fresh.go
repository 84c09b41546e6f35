package screen

import (
	"fmt"
	"image"
	"runtime"
	"sync"

	"hotdesk/protocol/draw"
)

// A canvas is what operations draw on.
type canvas struct {
	pic  *draw.Pixmap
	kept *draw.Pixmap // what was put by of it; nil: nothing
}

// apply performs one operation that draws, but for photos.
func (c *canvas) apply(op draw.Op) {
	p := c.pic
	switch op.Code {
	case draw.Fill:
		fill(p, op.X, op.Y, op.W, op.H, op.B, op.G, op.R)
	case draw.Copy:
		move(p, op.X, op.Y, op.W, op.H, op.SrcX, op.SrcY)
	case draw.Set:
		for y := range op.H {
			unpack(p.Row(op.Y+y, op.X, op.X+op.W), op.Pix[y*op.W*3:(y+1)*op.W*3])
		}
	case draw.Palette:
		paint(p, op)
	case draw.Keep, draw.Swap:
		if c.kept == nil {
			c.kept = draw.NewPixmap(p.W, p.H)
		}
		if op.Code == draw.Keep {
			c.kept.CopyFrom(p, op.Rect())
		} else {
			c.kept.SwapWith(p, op.Rect())
		}
	}
}

// A fresh is a stream's first picture. As nobody sees it before it is whole, it
// is drawn while its frame comes, and its photos are restored beside that, on all
// cores. One that is refused is thrown away.
type fresh struct {
	canvas                             // without a picture before the first Size
	black  func(w, h int) *draw.Pixmap // makes one
	shape  *shape                      // of the pointer; nil: none came
	warp   *image.Point                // where the pointer is put; nil: nowhere

	bytes   int    // that the photos unpack to
	resting region // where photos are that may not be restored yet

	mu      sync.Mutex
	jobs    []draw.Op // photos to be restored
	workers int
	err     error // the first photo's that is wrong
	done    sync.WaitGroup
}

// do performs an operation, which fits.
func (f *fresh) do(op draw.Op) error {
	switch op.Code {
	case draw.Size:
		err := f.wait()
		f.canvas = canvas{pic: f.black(op.W, op.H)}
		return err
	case draw.Cursor:
		f.shape = newShape(op)
		return nil
	case draw.Warp:
		f.warp = &image.Point{X: op.X, Y: op.Y}
		return nil
	}
	if f.resting.touches(op.Rect()) || op.Code == draw.Copy && f.resting.touches(image.Rect(op.SrcX, op.SrcY, op.SrcX+op.W, op.SrcY+op.H)) {
		if err := f.wait(); err != nil {
			return err
		}
	}
	if op.Code == draw.Photo || op.Code == draw.Lossy {
		return f.photo(op)
	}
	f.apply(op)
	return nil
}

// photo has op restored, soon.
func (f *fresh) photo(op draw.Op) error {
	if op.Code == draw.Photo {
		if f.bytes += 3 * op.W * op.H; f.bytes > draw.MaxRaw {
			return fmt.Errorf("%w: more than %d bytes of them", errPhoto, draw.MaxRaw)
		}
	}
	f.resting.add(op.Rect())
	f.mu.Lock()
	f.jobs = append(f.jobs, op)
	waiting, more := len(f.jobs), f.workers < runtime.GOMAXPROCS(0)
	if more {
		f.workers++
	}
	f.mu.Unlock()
	if more {
		f.done.Go(func() { f.work(1) })
	}
	if waiting < maxPacked {
		return nil
	}
	return f.wait()
}

// work restores photos while there are any. Who does it is so many of the workers.
func (f *fresh) work(workers int) {
	var room photos
	for {
		f.mu.Lock()
		if f.err != nil {
			f.jobs = nil
		}
		if len(f.jobs) == 0 {
			f.workers -= workers
			f.mu.Unlock()
			return
		}
		op := f.jobs[0]
		f.jobs = f.jobs[1:]
		f.mu.Unlock()
		if err := room.draw(f.pic, op); err != nil {
			f.mu.Lock()
			f.err = err
			f.mu.Unlock()
		}
	}
}

// wait helps to restore what there is, and waits for the others' part.
func (f *fresh) wait() error {
	if len(f.resting) == 0 {
		return nil
	}
	f.work(0)
	f.done.Wait()
	f.resting = f.resting[:0]
	return f.err
}

// stop ends what goes on by itself.
func (f *fresh) stop() {
	f.mu.Lock()
	f.jobs = nil
	f.mu.Unlock()
	f.done.Wait()
}

// draw draws a PHOTO or a LOSSY that is all there is.
func (p *photos) draw(pic *draw.Pixmap, op draw.Op) error {
	p.reset()
	if op.Code == draw.Lossy {
		if err := p.addBlocks(op); err != nil {
			return err
		}
		blocksOf(p.unpacked, p.fields[0]).Draw(pic, op.Rect(), op.Step)
		return nil
	}
	if err := p.add(op); err != nil {
		return err
	}
	if err := p.fill(); err != nil {
		return err
	}
	pixels := p.unpacked
	for y := range op.H {
		pixels = pixels[copy(pic.Row(op.Y+y, op.X, op.X+op.W), pixels):]
	}
	return nil
}

// newShape is what a Cursor says.
func newShape(op draw.Op) *shape {
	return &shape{
		size: image.Pt(op.W, op.H),
		hot:  image.Pt(op.X, op.Y),
		pix:  append([]byte(nil), op.Pix...),
	}
}
