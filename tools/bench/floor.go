package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"hotdesk/protocol/draw"
	"hotdesk/server/session/encode"
	"hotdesk/server/session/xdisplay"
)

// none is the floor: the X server and somebody who looks at its screen, with no
// encoder and no network.
type none struct {
	x     *xdisplay.Display
	count atomic.Int64
	when  atomic.Int64
	armed atomic.Bool
	hit   chan time.Time
	quit  chan struct{}
	done  chan struct{}

	mu  sync.Mutex
	pic *draw.Pixmap // what was seen
}

func (b *bench) openNone(x *session) error {
	fb, err := os.MkdirTemp(b.dir, "fb-")
	if err != nil {
		return err
	}
	x.dirs = append(x.dirs, fb)
	if err := x.startX("Xvfb", "-screen", "0", fmt.Sprintf("%dx%dx24", b.w, b.h), "-fbdir", fb, "-extension", "GLX", "-noreset"); err != nil {
		return err
	}
	n := &none{hit: make(chan time.Time, 1), quit: make(chan struct{}), done: make(chan struct{}), pic: draw.NewPixmap(b.w, b.h)}
	n.x, err = xdisplay.Open(xdisplay.Config{Display: x.name, FrameBuffer: filepath.Join(fb, "Xvfb_screen0")})
	if err != nil {
		return err
	}
	x.peer = n
	go n.watch()
	return nil
}

func (n *none) watch() {
	defer close(n.done)
	for {
		select {
		case <-n.x.Changed():
		case <-n.quit:
			return
		}
		news := false
		n.x.View(func(v encode.View) {
			n.mu.Lock()
			defer n.mu.Unlock()
			for _, r := range v.Damage {
				r = r.Intersect(v.Picture.Bounds()).Intersect(n.pic.Bounds())
				for y := r.Min.Y; y < r.Max.Y; y++ {
					now, old := v.Picture.Row(y, r.Min.X, r.Max.X), n.pic.Row(y, r.Min.X, r.Max.X)
					if !bytes.Equal(now, old) {
						copy(old, now)
						news = true
					}
				}
			}
		})
		if !news {
			continue
		}
		now := time.Now()
		n.count.Add(1)
		n.when.Store(now.UnixNano())
		if n.armed.CompareAndSwap(true, false) {
			n.hit <- now
		}
	}
}

func (n *none) key(letter int) {
	const a = 4 // HID usage
	n.x.Key(uint16(a+letter), true)
	n.x.Key(uint16(a+letter), false)
}

func (n *none) image() []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	return bytes.Clone(n.pic.Pix)
}

func (n *none) rows(y0, y1 int, pix []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	copy(pix[y0*n.pic.Stride:y1*n.pic.Stride], n.pic.Pix[y0*n.pic.Stride:])
}

func (n *none) arm() {
	select {
	case <-n.hit:
	default:
	}
	n.armed.Store(true)
}

func (n *none) wait(d time.Duration) (time.Time, bool) { return await(n.hit, d) }
func (n *none) pointer(x, y int)                       { n.x.Pointer(x, y, 0) }
func (n *none) bytes() (down, up int64)                { return 0, 0 }
func (n *none) updates() int64                         { return n.count.Load() }
func (n *none) last() time.Time                        { return time.Unix(0, n.when.Load()) }
func (n *none) pids() []int                            { return nil }
func (n *none) err() error                             { return n.x.Err() }

func (n *none) again() (time.Duration, error) { return 0, errors.New("nobody attaches to the floor") }

func (n *none) stop() {
	close(n.quit)
	<-n.done
	n.x.Close()
}
