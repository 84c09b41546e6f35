package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// terminal is xterm with bitmap letters and without what moves by itself.
func (b *bench) terminal(x *session, arg ...string) *exec.Cmd {
	arg = append([]string{"-fn", "9x15", "+bc", "-cm", "-dc", "+sb", "-b", "2", "-bg", "white", "-fg", "black",
		"-xrm", "XTerm*cursorBlink:false"}, arg...)
	c := x.in(exec.Command("xterm", arg...))
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return c
}

// self is this program as the one named in inside.
func self(name string, arg ...string) []string {
	return append([]string{"/proc/self/exe", insideWord, name}, arg...)
}

// selfArgs is self for programs that others start.
func selfArgs(name string, arg ...string) ([]string, error) {
	exe, err := os.Executable()
	return append([]string{exe, insideWord, name}, arg...), err
}

// typing presses keys one by one in a terminal that echoes them.
func (b *bench) typing(r *Result, x *session) error {
	c := b.terminal(x, "-geometry", "100x40+20+20", "-e", "sh", "-c", "stty -icanon; exec cat >/dev/null")
	if err := c.Start(); err != nil {
		return err
	}
	defer end(c)
	settle(x.peer, time.Second, 5*time.Second)
	x.pointer(300, 300)
	settle(x.peer, 500*time.Millisecond, 4*time.Second)
	random := rand.New(rand.NewPCG(uint64(r.Rep), 1))
	m := x.mark()
	next := m.at
	for i := range b.keys {
		x.arm()
		pressed := time.Now()
		x.key(i % 26)
		if seen, ok := x.wait(patience); ok {
			r.LatMS = append(r.LatMS, float64(seen.Sub(pressed).Microseconds())/1000)
		} else {
			r.Lost++
		}
		next = next.Add(110*time.Millisecond + time.Duration(random.IntN(30))*time.Millisecond)
		time.Sleep(time.Until(next))
	}
	x.since(m, r)
	r.AppS = time.Since(m.at).Seconds()
	sorted := append([]float64(nil), r.LatMS...)
	r.P50, r.P99 = percentile(sorted, 0.5), percentile(sorted, 0.99)
	r.Note = fmt.Sprintf("%d B down, %d up a key; %.0f us of CPU", r.Down/int64(b.keys), r.Up/int64(b.keys), r.CPU*1e6/float64(b.keys))
	if r.Failed = r.Lost > 0; r.Failed {
		r.Note += fmt.Sprintf("; %d keys were not echoed", r.Lost)
	}
	return nil
}

// programs runs a workload that needs nothing from here.
func (b *bench) programs(r *Result, x *session) error {
	var c *exec.Cmd
	m := mark{}
	switch r.Work {
	case "scrollp":
		args, err := selfArgs("lines")
		if err != nil {
			return err
		}
		c = b.terminal(x, append([]string{"-geometry", "100x40+20+20", "-e"}, args...)...)
	case "scroll":
		args, err := selfArgs("flood")
		if err != nil {
			return err
		}
		c = b.terminal(x, append([]string{"-geometry", "100x40+20+20", "-e"}, args...)...)
	case "drag":
		for i, more := range [][]string{
			{"-T", "back", "-geometry", "120x50+60+60"},
			{"-T", "front", "-geometry", "66x26+0+0", "-bg", "#ffffe0"},
		} {
			args, err := selfArgs("page", fmt.Sprint(i))
			if err != nil {
				return err
			}
			t := b.terminal(x, append(append(more, "-e"), args...)...)
			if err := t.Start(); err != nil {
				return err
			}
			defer end(t)
			settle(x.peer, 700*time.Millisecond, 5*time.Second)
		}
		args := self("move", "front", fmt.Sprint(b.w), fmt.Sprint(b.h))
		c = x.in(exec.Command(args[0], args[1:]...))
	case "video":
		args := self("play", filepath.Join(b.dir, r.Work))
		c = x.in(exec.Command(args[0], args[1:]...))
	}
	if n := x11tests[r.Work]; n != "" {
		c = x.in(exec.Command("x11perf", "-repeat", "1", "-reps", n, "-time", "1", "-"+strings.TrimPrefix(r.Work, "x-")))
	}
	var looking chan struct{}
	var looked chan [2]float64
	if r.Work == "video" {
		looking, looked = make(chan struct{}), make(chan [2]float64)
		go func() { looked <- b.watchClip(x, looking) }()
	}
	m = x.mark()
	var text strings.Builder
	c.Stderr = &text
	err := c.Run()
	if looking != nil {
		close(looking)
		worst := <-looked
		r.PSNR, r.Luma = worst[0], worst[1]
	}
	if err != nil {
		return fmt.Errorf("%w: %s", err, text.String())
	}
	r.AppS = time.Since(m.at).Seconds()
	settle(x.peer, 600*time.Millisecond, 20*time.Second)
	x.since(m, r)
	return nil
}

// pageEvery is the time that a photo is shown.
const pageEvery = 200 * time.Millisecond

// A flipper is the program that shows one picture after the other.
type flipper struct {
	c   *exec.Cmd
	in  io.WriteCloser
	out io.Reader
}

// flipper starts it with the pictures of r's work; the first is on the screen.
func (b *bench) flipper(r *Result, x *session) (*flipper, error) {
	args := self("flip", filepath.Join(b.dir, r.Work), fmt.Sprint(b.w), fmt.Sprint(b.h))
	f := &flipper{c: x.in(exec.Command(args[0], args[1:]...))}
	var err error
	if f.in, err = f.c.StdinPipe(); err != nil {
		return nil, err
	}
	if f.out, err = f.c.StdoutPipe(); err != nil {
		return nil, err
	}
	f.c.Stderr = b.log
	if err := f.c.Start(); err != nil {
		return nil, err
	}
	if err := f.shown(); err != nil {
		f.end()
		return nil, err
	}
	x.pointer(b.w-1, b.h-1)
	settle(x.peer, 500*time.Millisecond, 4*time.Second)
	return f, nil
}

// next asks for the next picture, and shown waits till the X server has it.
func (f *flipper) next() error {
	_, err := f.in.Write([]byte{'n'})
	return err
}

func (f *flipper) shown() error {
	_, err := io.ReadFull(f.out, make([]byte, 1))
	return err
}

func (f *flipper) end() {
	f.in.Close()
	_ = f.c.Wait() // it has been asked to end
}

// show shows photos, one after the other, and looks whether each arrived. Of
// those that are near at first the figures are those of the first pass.
func (b *bench) show(r *Result, x *session) error {
	f, err := b.flipper(r, x)
	if err != nil {
		return err
	}
	defer f.end()
	m := x.mark()
	inexact, worst, luma := 0, 999.0, 999.0
	for i, page := range b.pages {
		if err := f.next(); err != nil {
			return err
		}
		if err := f.shown(); err != nil {
			return err
		}
		time.Sleep(time.Until(m.at.Add(time.Duration(i+1) * pageEvery)))
		now := x.image()
		if p := psnr(now, page); p < 999 {
			inexact++
			worst, luma = min(worst, p), min(luma, lumaPSNR(now, page))
		}
	}
	first := r.Work == "pages-first" // what the figures are of
	if first {
		x.since(m, r)
	}
	settle(x.peer, 600*time.Millisecond, 20*time.Second)
	if first {
		var all Result
		x.since(m, &all)
		r.Note = fmt.Sprintf("to make the last page exact %d B and %.3f s more", all.Down-r.Down, all.CPU-r.CPU)
	} else {
		x.since(m, r)
	}
	r.AppS = (time.Duration(len(b.pages)) * pageEvery).Seconds()
	r.PSNR, r.Luma = worst, luma
	if last := b.pages[len(b.pages)-1]; psnr(x.image(), last) < 999 && r.ours() {
		r.Failed, r.Note = true, "the last page is not exact"
	} else if r.Work == "pages" && inexact > 0 {
		r.Note = fmt.Sprintf("%d of %d pages were not exact when the next came", inexact, len(b.pages))
		r.Failed = r.ours()
	}
	return nil
}

// watchClip compares what the terminal shows of the film, five times a second,
// with the picture of the film that it is nearest to, and returns the mean
// distances of all colours and of the luma.
func (b *bench) watchClip(x *session, stop <-chan struct{}) (mean [2]float64) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var sum [2]float64
	n := 0.0
	time.Sleep(500 * time.Millisecond) // the window comes
	for {
		select {
		case <-stop:
			if n == 0 {
				return mean
			}
			return [2]float64{sum[0] / n, sum[1] / n}
		case <-tick.C:
		}
		all := x.image()
		part := make([]byte, 0, clipW*clipH*4)
		for y := range clipH {
			part = append(part, all[((clipY+y)*b.w+clipX)*4:][:clipW*4]...)
		}
		best, least := 0, math.MaxInt
		for i, f := range b.clip {
			d := 0
			for o := 0; o < len(f); o += 4 * 193 {
				e := int(f[o+1]) - int(part[o+1])
				d += e * e
			}
			if d < least {
				best, least = i, d
			}
		}
		if p := psnr(part, b.clip[best]); p > 20 { // not while another frame is being drawn
			sum[0] += min(p, 60)
			sum[1] += min(lumaPSNR(part, b.clip[best]), 60)
			n++
		}
	}
}

// lumaPSNR is psnr of the luma (BT.601).
func lumaPSNR(a, b []byte) float64 {
	sum, n := 0.0, 0
	for i := 0; i+4 <= len(a) && i+4 <= len(b); i += 4 {
		d := 0.114*(float64(a[i])-float64(b[i])) + 0.587*(float64(a[i+1])-float64(b[i+1])) + 0.299*(float64(a[i+2])-float64(b[i+2]))
		sum += d * d
		n++
	}
	if sum == 0 {
		return 999
	}
	return 10 * math.Log10(255*255*float64(n)/sum)
}

// psnr compares two pictures of B G R X; 999 is equality.
func psnr(a, b []byte) float64 {
	if len(a) != len(b) {
		return 0
	}
	sum := 0
	for i := 0; i < len(a); i += 4 {
		if (binary.LittleEndian.Uint32(a[i:])^binary.LittleEndian.Uint32(b[i:]))&0xffffff == 0 {
			continue
		}
		for j := i; j < i+3; j++ {
			d := int(a[j]) - int(b[j])
			sum += d * d
		}
	}
	if sum == 0 {
		return 999
	}
	return 10 * math.Log10(255*255*float64(len(a)/4*3)/float64(sum))
}
