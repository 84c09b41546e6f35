package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"
)

// x11tests are tests of x11perf with their repetitions: about a second each.
var x11tests = map[string]string{
	"x-rect500": "80000", "x-rect10": "20000", "x-ftext": "300000", "x-aa10text": "150000", "x-copywinwin500": "15000",
	"x-scroll500": "50000", "x-putimage500": "2500", "x-shmput500": "12000",
}

const (
	// flips is how often a screen is changed whole.
	flips = 12
	// flipWithin is how long is waited for a screen to become exact: with a
	// codec that never is, each change takes so long.
	flipWithin = 700 * time.Millisecond
	// onItsWay is how long a card is between two terminals.
	onItsWay = time.Second
	// idleFor is how long a desktop is left alone.
	idleFor = 10 * time.Second
	// atRest is how long it is left alone before: till then memory is given back.
	atRest = 18 * time.Second
)

// textPages are screens full of text.
func textPages(w, h, n int) [][]byte {
	text := buildLog(n * (h/13 + 1))
	out := make([][]byte, n)
	for i := range out {
		m := image.NewRGBA(image.Rect(0, 0, w, h))
		for k := range m.Pix {
			m.Pix[k] = 0xff
		}
		d := font.Drawer{Dst: m, Src: image.Black, Face: basicfont.Face7x13}
		for y := 13; y < h; y += 13 {
			d.Dot = fixed.P(4, y)
			line := text[0]
			text = text[1:]
			d.DrawString(strings.Repeat(line+"  ", 1+w/7/len(line)))
		}
		for k := 0; k < len(m.Pix); k += 4 {
			m.Pix[k+3] = 0 // grey: red is blue
		}
		out[i] = m.Pix
	}
	return out
}

// flipping changes the whole screen, and takes the time until what the terminal
// shows is near and until it is exact. Who looks takes cores and memory from both
// ends: while samples are not exact, nothing else is looked at.
func (b *bench) flipping(r *Result, x *session) error {
	pages := b.flips[r.Work]
	f, err := b.flipper(r, x)
	if err != nil {
		return err
	}
	defer f.end()
	var near []float64
	now, part := make([]byte, b.w*b.h*4), b.w*4*(b.h-32) // some peers draw the pointer in the last rows
	m := x.mark()
	for _, page := range pages {
		start := time.Now()
		if err := f.next(); err != nil {
			return err
		}
		close := false
		for {
			x.arm()
			for y := 0; y < b.h; y += sampleEvery {
				x.rows(y, y+1, now)
			}
			at := float64(time.Since(start).Microseconds()) / 1000
			if !close && nearly(now[:part], page[:part], b.w) {
				close = true
				near = append(near, at)
			}
			if close && sampled(now[:part], page[:part], b.w) {
				x.rows(0, b.h, now)
				at = float64(time.Since(start).Microseconds()) / 1000
				if same(now[:part], page[:part]) {
					r.LatMS = append(r.LatMS, at)
					break
				}
			}
			left := flipWithin - time.Since(start)
			if left <= 0 {
				r.Lost++
				break
			}
			x.wait(min(left, 20*time.Millisecond))
		}
		if err := f.shown(); err != nil {
			return err
		}
		settle(x.peer, 100*time.Millisecond, flipWithin)
	}
	x.since(m, r)
	r.Near = percentile(near, 0.5)
	r.P50, r.P99 = percentile(append([]float64(nil), r.LatMS...), 0.5), percentile(append([]float64(nil), r.LatMS...), 0.99)
	if r.Lost > 0 {
		r.Note = fmt.Sprintf("%d of %d were not exact within %v", r.Lost, len(pages), flipWithin)
	}
	return nil
}

// sampleEvery is how far apart samples are, in pixels.
const sampleEvery = 16

// sampled reports whether the rows with samples are the same.
func sampled(a, b []byte, w int) bool {
	for y := 0; y < len(a)/4/w; y += sampleEvery {
		if !same(a[y*w*4:][:w*4], b[y*w*4:][:w*4]) {
			return false
		}
	}
	return true
}

// nearly compares samples.
func nearly(a, b []byte, w int) bool {
	for y := 0; y < len(a)/4/w; y += sampleEvery {
		for x := 0; x < w; x += sampleEvery {
			o := (y*w + x) * 4
			for k := range 3 {
				if d := int(a[o+k]) - int(b[o+k]); d > 40 || d < -40 {
					return false
				}
			}
		}
	}
	return true
}

// furnish fills the desktop with two terminals, and returns what ends them.
func (b *bench) furnish(x *session) (func(), error) {
	var started []*exec.Cmd
	clear := func() {
		for _, c := range started {
			end(c)
		}
	}
	for i, where := range []string{"120x50+60+60", "66x26+500+300"} {
		args, err := selfArgs("page", fmt.Sprint(i))
		if err != nil {
			return clear, err
		}
		c := b.terminal(x, append([]string{"-geometry", where, "-e"}, args...)...)
		x.arm()
		if err := c.Start(); err != nil {
			return clear, err
		}
		started = append(started, c)
		if _, ok := x.wait(patience); !ok { // on a busy machine it takes seconds to begin
			return clear, errors.New("no terminal is shown")
		}
	}
	settle(x.peer, time.Second, 5*time.Second)
	return clear, nil
}

// idle leaves a desktop alone.
func (b *bench) idle(r *Result, x *session) error {
	clear, err := b.furnish(x)
	defer clear()
	if err != nil {
		return err
	}
	time.Sleep(atRest)
	m := x.mark()
	time.Sleep(idleFor)
	x.since(m, r)
	r.AppS = idleFor.Seconds()
	r.Note = fmt.Sprintf("%.2f %% of a core, %.0f bytes a second", 100*r.CPU/r.AppS, float64(r.Down)/r.AppS)
	return nil
}

// attaching connects again to a busy desktop, text and a photo, as somebody does
// who comes with a card from another terminal.
func (b *bench) attaching(r *Result, x *session) error {
	clear, err := b.furnish(x)
	defer clear()
	if err != nil {
		return err
	}
	args := self("still", filepath.Join(b.dir, "still"))
	c := x.in(exec.Command(args[0], args[1:]...))
	x.arm()
	if err := x.start(c); err != nil {
		return err
	}
	if _, ok := x.wait(patience); !ok {
		return errors.New("no photo is shown")
	}
	settle(x.peer, time.Second, 5*time.Second)
	m := x.mark()
	for range 5 {
		d, err := x.again()
		if err != nil {
			return err
		}
		r.LatMS = append(r.LatMS, float64(d.Microseconds())/1000)
	}
	x.since(m, r)
	r.Down, r.Up, r.Updates, r.UPS = 0, 0, 0, 0 // counted by connection
	sorted := append([]float64(nil), r.LatMS...)
	r.P50, r.P99 = percentile(sorted, 0.5), percentile(sorted, 0.99)
	return nil
}

// flood writes very many lines as fast as it can.
func flood() error {
	w := bufio.NewWriterSize(os.Stdout, 1<<16)
	for i := range 200_000 {
		fmt.Fprintln(w, i)
	}
	text := buildLog(1000)
	for range 60 {
		for _, l := range text {
			fmt.Fprintln(w, l)
		}
	}
	return w.Flush()
}

// still shows the first picture of a film and stays.
func still(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	b := make([]byte, clipW*clipH*4)
	_, err = io.ReadFull(f, b)
	f.Close()
	if err != nil {
		return err
	}
	v, err := newCanvas(clipX, clipY, clipW, clipH)
	if err != nil {
		return err
	}
	defer v.c.Close()
	if err := v.put(b); err != nil {
		return err
	}
	time.Sleep(time.Minute)
	return nil
}

// same compares two pictures, but for what does not count.
func same(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i += 4 {
		if (binary.LittleEndian.Uint32(a[i:])^binary.LittleEndian.Uint32(b[i:]))&0xffffff != 0 {
			return false
		}
	}
	return true
}
