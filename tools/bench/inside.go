package main

import (
	"fmt"
	"io"
	"log"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/BurntSushi/xgb"
	"github.com/BurntSushi/xgb/shm"
	"github.com/BurntSushi/xgb/xproto"
	"golang.org/x/sys/unix"
)

// insideWord makes this program one that runs in the session: package xgb
// bears one connection in each process.
const insideWord = "inside"

func inside(name string, arg []string) error {
	xgb.Logger = log.New(io.Discard, "", 0)
	switch {
	case name == "lines":
		return lines()
	case name == "page" && len(arg) == 1:
		return page(arg[0] == "1")
	case name == "move" && len(arg) == 3:
		var w, h int
		fmt.Sscan(arg[1]+" "+arg[2], &w, &h)
		return move(arg[0], w, h)
	case name == "flip" && len(arg) == 3:
		var w, h int
		fmt.Sscan(arg[1]+" "+arg[2], &w, &h)
		return flip(arg[0], w, h)
	case name == "flood":
		return flood()
	case name == "still" && len(arg) == 1:
		return still(arg[0])
	case name == "play" && len(arg) == 1:
		return play(arg[0])
	}
	return fmt.Errorf("unknown with %d arguments", len(arg))
}

// buildLog is lines that look like a compiler's.
func buildLog(n int) []string {
	words := strings.Fields("gcc -O2 -c src/main.c warning: unused variable in function error note include linking object " +
		"cache miss packet session display update encode region window")
	r := rand.New(rand.NewPCG(7, 7))
	out := make([]string, n)
	for i := range out {
		var b strings.Builder
		fmt.Fprintf(&b, "%06d ", i)
		for range 4 + r.IntN(9) {
			b.WriteString(words[r.IntN(len(words))] + " ")
		}
		out[i] = b.String()
	}
	return out
}

// lines writes 300 lines, 50 a second, below a full screen.
func lines() error {
	text := buildLog(340)
	fmt.Print(strings.Join(text[:40], "\n"))
	next := time.Now()
	for _, l := range text[40:] {
		fmt.Print("\n" + l)
		next = next.Add(20 * time.Millisecond)
		time.Sleep(time.Until(next))
	}
	time.Sleep(100 * time.Millisecond)
	return nil
}

// page fills a terminal with text and stays.
func page(narrow bool) error {
	text := buildLog(49)
	if narrow {
		text = text[:25]
		for i := range text {
			text[i] = text[i][:min(len(text[i]), 64)]
		}
	}
	fmt.Print(strings.Join(text, "\n"))
	time.Sleep(time.Minute)
	return nil
}

// move drags a window along a Lissajous path, 240 steps at 60 Hz.
func move(title string, w, h int) error {
	c, err := xgb.NewConn()
	if err != nil {
		return err
	}
	defer c.Close()
	root := xproto.Setup(c).DefaultScreen(c).Root
	tree, err := xproto.QueryTree(c, root).Reply()
	if err != nil {
		return err
	}
	for _, win := range tree.Children {
		p, err := xproto.GetProperty(c, false, win, xproto.AtomWmName, xproto.GetPropertyTypeAny, 0, 64).Reply()
		if err != nil || string(p.Value) != title {
			continue
		}
		xproto.ConfigureWindow(c, win, xproto.ConfigWindowStackMode, []uint32{xproto.StackModeAbove})
		const steps = 240
		next := time.Now()
		for i := range steps {
			a := 2 * math.Pi * float64(i) / steps
			x, y := float64(w-620)/2*(1-math.Cos(a)), float64(h-420)/2*(1+math.Sin(2*a))
			xproto.ConfigureWindow(c, win, xproto.ConfigWindowX|xproto.ConfigWindowY, []uint32{uint32(x), uint32(y)})
			next = next.Add(time.Second / 60)
			time.Sleep(time.Until(next))
		}
		_, err = xproto.GetInputFocus(c).Reply() // all is done
		return err
	}
	return fmt.Errorf("no window %q", title)
}

// A canvas is a window that pictures are put in from shared memory.
type canvas struct {
	c    *xgb.Conn
	win  xproto.Window
	gc   xproto.Gcontext
	seg  shm.Seg
	mem  []byte
	w, h int
}

func newCanvas(x, y, w, h int) (*canvas, error) {
	c, err := xgb.NewConn()
	if err != nil {
		return nil, err
	}
	if err := shm.Init(c); err != nil {
		return nil, err
	}
	v := &canvas{c: c, w: w, h: h}
	if v.win, err = xproto.NewWindowId(c); err != nil {
		return nil, err
	}
	if v.gc, err = xproto.NewGcontextId(c); err != nil {
		return nil, err
	}
	if v.seg, err = shm.NewSegId(c); err != nil {
		return nil, err
	}
	s := xproto.Setup(c).DefaultScreen(c)
	xproto.CreateWindow(c, s.RootDepth, v.win, s.Root, int16(x), int16(y), uint16(w), uint16(h), 0, xproto.WindowClassInputOutput,
		s.RootVisual, xproto.CwBackPixel|xproto.CwOverrideRedirect, []uint32{0x335577, 1})
	xproto.CreateGC(c, v.gc, xproto.Drawable(v.win), 0, nil)
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, w*h*4, unix.IPC_CREAT|0o600)
	if err != nil {
		return nil, err
	}
	defer unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	if v.mem, err = unix.SysvShmAttach(id, 0, 0); err != nil {
		return nil, err
	}
	if err := shm.AttachChecked(c, v.seg, uint32(id), false).Check(); err != nil {
		return nil, err
	}
	return v, xproto.MapWindowChecked(c, v.win).Check()
}

// put shows a picture and returns when the X server has it.
func (v *canvas) put(pix []byte) error {
	copy(v.mem, pix)
	return shm.PutImageChecked(v.c, xproto.Drawable(v.win), v.gc, uint16(v.w), uint16(v.h), 0, 0, uint16(v.w), uint16(v.h), 0, 0,
		24, xproto.ImageFormatZPixmap, 0, v.seg, 0).Check()
}

// flip shows the next picture of a file for each byte on the standard input.
func flip(file string, w, h int) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	v, err := newCanvas(0, 0, w, h)
	if err != nil {
		return err
	}
	defer v.c.Close()
	fmt.Print("r")
	var one [1]byte
	for ; len(b) > 0; b = b[w*h*4:] {
		if _, err := os.Stdin.Read(one[:]); err != nil {
			return err
		}
		if err := v.put(b[:w*h*4]); err != nil {
			return err
		}
		fmt.Print("k")
	}
	_, _ = os.Stdin.Read(one[:]) // stays until the other end closes
	return nil
}

// play shows the pictures of a file for 10 s, 24 a second, to and fro.
func play(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	v, err := newCanvas(clipX, clipY, clipW, clipH)
	if err != nil {
		return err
	}
	defer v.c.Close()
	const size = clipW * clipH * 4
	n := len(b) / size
	next := time.Now()
	for i := range 240 {
		k := i % (2*n - 2)
		if k >= n {
			k = 2*n - 2 - k
		}
		if err := v.put(b[k*size:][:size]); err != nil {
			return err
		}
		next = next.Add(time.Second / 24)
		time.Sleep(time.Until(next))
	}
	return nil
}
