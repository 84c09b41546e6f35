package xdisplay

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/BurntSushi/xgb"
	"github.com/BurntSushi/xgb/randr"
	"github.com/BurntSushi/xgb/xproto"
)

// clientEnv makes the test binary a program in the session: package xgb bears
// one connection in a process.
const clientEnv = "XDISPLAY_TEST_CLIENT"

func TestMain(m *testing.M) {
	if os.Getenv(clientEnv) != "" {
		if err := runClient(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "client:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// runClient does what the lines of r ask, says ok after each, and tells of the
// events of its window.
func runClient(r io.Reader, w io.Writer) error {
	xgb.Logger = log.New(io.Discard, "", 0)
	c, err := xgb.NewConn()
	if err != nil {
		return err
	}
	if err := randr.Init(c); err != nil {
		return err
	}
	s := xproto.Setup(c).DefaultScreen(c)
	win, _ := xproto.NewWindowId(c)
	gc, _ := xproto.NewGcontextId(c)
	var mu sync.Mutex
	say := func(f string, a ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(w, f+"\n", a...)
	}
	go func() {
		for {
			ev, xerr := c.WaitForEvent()
			switch e := ev.(type) {
			case nil:
				if xerr == nil {
					return
				}
				say("error %v", xerr)
			case xproto.KeyPressEvent:
				say("key %d down", e.Detail)
			case xproto.KeyReleaseEvent:
				say("key %d up", e.Detail)
			case xproto.ButtonPressEvent:
				say("button %d down at %d %d", e.Detail, e.EventX, e.EventY)
			case xproto.ButtonReleaseEvent:
				say("button %d up", e.Detail)
			case xproto.MotionNotifyEvent:
				say("motion %d %d", e.EventX, e.EventY)
			case xproto.MapNotifyEvent:
				say("mapped")
			}
		}
	}()
	for in := bufio.NewScanner(r); in.Scan(); {
		var a [6]int
		verb, rest, _ := strings.Cut(in.Text(), " ")
		fmt.Sscan(rest, &a[0], &a[1], &a[2], &a[3], &a[4], &a[5])
		switch verb {
		case "window": // x y w h
			err = xproto.CreateWindowChecked(c, s.RootDepth, win, s.Root, int16(a[0]), int16(a[1]), uint16(a[2]), uint16(a[3]), 0,
				xproto.WindowClassInputOutput, s.RootVisual, xproto.CwBackPixel|xproto.CwOverrideRedirect|xproto.CwEventMask,
				[]uint32{0x112233, 1, xproto.EventMaskKeyPress | xproto.EventMaskKeyRelease | xproto.EventMaskButtonPress |
					xproto.EventMaskButtonRelease | xproto.EventMaskPointerMotion | xproto.EventMaskStructureNotify}).Check()
			xproto.CreateGC(c, gc, xproto.Drawable(win), 0, nil)
			xproto.MapWindow(c, win)
		case "move": // x y
			xproto.ConfigureWindow(c, win, xproto.ConfigWindowX|xproto.ConfigWindowY, []uint32{uint32(a[0]), uint32(a[1])})
		case "fill": // x y w h colour
			xproto.ChangeGC(c, gc, xproto.GcForeground, []uint32{uint32(a[4])})
			xproto.PolyFillRectangle(c, xproto.Drawable(win), gc, []xproto.Rectangle{{X: int16(a[0]), Y: int16(a[1]), Width: uint16(a[2]), Height: uint16(a[3])}})
		case "cursor": // glyph
			font, _ := xproto.NewFontId(c)
			cur, _ := xproto.NewCursorId(c)
			xproto.OpenFont(c, font, 6, "cursor")
			xproto.CreateGlyphCursor(c, cur, font, font, uint16(a[0]), uint16(a[0]+1), 0xffff, 0, 0, 0, 0, 0xffff)
			xproto.ChangeWindowAttributes(c, win, xproto.CwCursor, []uint32{uint32(cur)})
		case "bitmap": // w h hotx hoty: a cursor of one colour
			pix, _ := xproto.NewPixmapId(c)
			bit, _ := xproto.NewGcontextId(c)
			cur, _ := xproto.NewCursorId(c)
			xproto.CreatePixmap(c, 1, pix, xproto.Drawable(win), uint16(a[0]), uint16(a[1]))
			xproto.CreateGC(c, bit, xproto.Drawable(pix), xproto.GcForeground, []uint32{1})
			xproto.PolyFillRectangle(c, xproto.Drawable(pix), bit, []xproto.Rectangle{{Width: uint16(a[0]), Height: uint16(a[1])}})
			xproto.CreateCursor(c, cur, pix, pix, 0xffff, 0, 0, 0, 0, 0, uint16(a[2]), uint16(a[3]))
			xproto.ChangeWindowAttributes(c, win, xproto.CwCursor, []uint32{uint32(cur)})
		case "warp": // x y
			xproto.WarpPointer(c, 0, s.Root, 0, 0, 0, 0, int16(a[0]), int16(a[1]))
		case "grow": // w h: the screen, behind our back
			err = randr.SetScreenSizeChecked(c, s.Root, uint16(a[0]), uint16(a[1]), 100, 100).Check()
		case "modes":
			res, e := randr.GetScreenResourcesCurrent(c, s.Root).Reply()
			if e == nil {
				say("modes %d", len(res.Modes))
			}
			err = e
		}
		if err != nil {
			return fmt.Errorf("%s: %w", in.Text(), err)
		}
		c.Sync()
		say("ok")
	}
	return nil
}

// patience is how long something may take that is sure to come.
const patience = 20 * time.Second

// A server is a running Xvfb.
type server struct {
	display, dir, frameBuffer string
	cmd                       *exec.Cmd
}

func startServer(tb testing.TB, size string, args ...string) *server {
	tb.Helper()
	s := &server{dir: tb.TempDir()}
	s.frameBuffer = filepath.Join(s.dir, "Xvfb_screen0")
	r, w, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	defer r.Close()
	s.cmd = exec.Command("Xvfb", append([]string{"-displayfd", "3", "-screen", "0", size + "x24", "-fbdir", s.dir,
		"-extension", "GLX", "-nolisten", "tcp", "-noreset"}, args...)...)
	s.cmd.ExtraFiles = []*os.File{w}
	err = s.cmd.Start()
	w.Close()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.stop)
	number, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		tb.Fatal("Xvfb did not start: ", err)
	}
	s.display = ":" + strings.TrimSpace(number)
	return s
}

func (s *server) stop() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// config is for pixels from the file, or by MIT-SHM.
func (s *server) config(file bool) Config {
	c := Config{Display: s.display}
	if file {
		c.FrameBuffer = s.frameBuffer
	}
	return c
}

func open(tb testing.TB, c Config) *Display {
	tb.Helper()
	d, err := Open(c)
	if err != nil {
		tb.Fatal(err)
	}
	// Nothing of this connection may touch xgb's tables when the next test opens
	// one: the last request must have been answered.
	tb.Cleanup(func() { d.conn.Sync(); d.Close() })
	return d
}

// A client is a program in the session.
type client struct {
	tb     testing.TB
	in     io.Writer
	lines  chan string
	events []string
}

func startClient(tb testing.TB, s *server) *client {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), clientEnv+"=1", "DISPLAY="+s.display)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	c := &client{tb: tb, in: in, lines: make(chan string, 1000)}
	go func() {
		defer close(c.lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			c.lines <- sc.Text()
		}
	}()
	tb.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return c
}

// line is the next line of the program.
func (c *client) line() string {
	c.tb.Helper()
	select {
	case l, ok := <-c.lines:
		if !ok {
			c.tb.Fatal("the client has ended")
		}
		return l
	case <-time.After(patience):
		c.tb.Fatal("the client says nothing")
		return ""
	}
}

// do gives an order and waits until the X server has carried it out.
func (c *client) do(format string, a ...any) {
	c.tb.Helper()
	fmt.Fprintf(c.in, format+"\n", a...)
	for {
		l := c.line()
		if l == "ok" {
			return
		}
		c.events = append(c.events, l)
	}
}

// expect waits for the events, in that order, with nothing between.
func (c *client) expect(want ...string) {
	c.tb.Helper()
	for i, w := range want {
		var got string
		if len(c.events) > 0 {
			got, c.events = c.events[0], c.events[1:]
		} else {
			got = c.line()
		}
		if got != w {
			c.tb.Fatalf("event %d is %q, want %q of %q", i, got, w, want)
		}
	}
}

// window opens one and waits until it is there.
func (c *client) window(x, y, w, h int) {
	c.tb.Helper()
	c.do("window %d %d %d %d", x, y, w, h)
	c.expect("mapped")
}

func pixelAt(pix []byte, stride, x, y int) uint32 {
	return binary.LittleEndian.Uint32(pix[y*stride+x*4:]) & 0xffffff
}
