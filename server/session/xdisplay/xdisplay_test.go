package xdisplay

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"image"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"hotdesk/protocol/draw"
	"hotdesk/server/session/encode"
)

// both runs a test on the two kinds of frame.
func both(t *testing.T, f func(t *testing.T, s *server, d *Display)) {
	for _, k := range []struct {
		name string
		file bool
	}{{"mapped", true}, {"shared", false}} {
		t.Run(k.name, func(t *testing.T) {
			s := startServer(t, "640x480")
			f(t, s, open(t, s.config(k.file)))
		})
	}
}

// until waits for changes and views them until ok likes one.
func until(tb testing.TB, d *Display, what string, ok func(encode.View) bool) {
	tb.Helper()
	deadline := time.After(patience)
	for done := false; !done; {
		select {
		case <-d.Changed():
			d.View(func(v encode.View) { done = ok(v) })
		case <-deadline:
			tb.Fatal("never seen: " + what)
		}
	}
}

// settle views until what has happened so far is seen.
func settle(tb testing.TB, d *Display) {
	tb.Helper()
	for n := 1; n > 0; {
		d.View(func(v encode.View) { n = len(v.Damage) })
	}
	select {
	case <-d.Changed():
	default:
	}
}

func covers(damage []image.Rectangle, p image.Point) bool {
	return slices.ContainsFunc(damage, p.In)
}

func TestCapture(t *testing.T) {
	both(t, func(t *testing.T, s *server, d *Display) {
		until(t, d, "the whole screen first", func(v encode.View) bool {
			return len(v.Damage) == 1 && v.Damage[0] == image.Rect(0, 0, 640, 480) && v.Picture.W == 640 && v.Picture.H == 480
		})
		c := startClient(t, s)
		c.window(100, 100, 300, 200)
		settle(t, d)
		for i := range 50 {
			colour := 0x010305*i + 1
			c.do("fill %d %d 40 30 %d", i, 2*i, colour)
			until(t, d, "a rectangle", func(v encode.View) bool {
				p := image.Pt(100+i+20, 100+2*i+15)
				if !covers(v.Damage, p) {
					return false
				}
				if got := pixelAt(v.Picture.Pix, v.Picture.Stride, p.X, p.Y); got != uint32(colour) {
					t.Fatalf("pixel %06x, want %06x", got, colour)
				}
				if len(v.Damage) != 1 || v.Damage[0] != image.Rect(100+i, 100+2*i, 140+i, 130+2*i) {
					t.Fatalf("damage %v", v.Damage)
				}
				return true
			})
		}
		d.View(func(v encode.View) {
			if len(v.Damage) != 0 {
				t.Errorf("damage %v and nothing has changed", v.Damage)
			}
		})
	})
}

func TestDamageIsBounded(t *testing.T) {
	both(t, func(t *testing.T, s *server, d *Display) {
		c := startClient(t, s)
		c.window(0, 0, 640, 480)
		settle(t, d)
		for i := range 400 {
			c.do("fill %d %d 3 3 %d", i%20*30, i/20*20, 0xff0000+i)
		}
		d.View(func(v encode.View) {
			if len(v.Damage) == 0 || len(v.Damage) > MaxDamage {
				t.Fatalf("%d rectangles", len(v.Damage))
			}
			for i := range 400 {
				p := image.Pt(i%20*30+1, i/20*20+1)
				if !covers(v.Damage, p) {
					t.Fatalf("%v is not in the damage", p)
				}
				if got := pixelAt(v.Picture.Pix, v.Picture.Stride, p.X, p.Y); got != uint32(0xff0000+i) {
					t.Fatalf("pixel %06x at %v", got, p)
				}
			}
		})
	})
}

func TestCursor(t *testing.T) {
	s := startServer(t, "640x480")
	d := open(t, s.config(true))
	c := startClient(t, s)
	c.window(0, 0, 640, 480)
	c.do("cursor 34") // crosshair
	d.Pointer(200, 200, 0)
	var first encode.Cursor
	until(t, d, "the crosshair", func(v encode.View) bool {
		if v.Cursor == nil || v.Cursor.W == 0 {
			return false
		}
		first = *v.Cursor
		return true
	})
	if len(first.Pix) != first.W*first.H*4 || first.HotX <= 0 || first.HotX >= first.W {
		t.Fatalf("cursor of %dx%d with its hot spot at %d,%d and %d bytes", first.W, first.H, first.HotX, first.HotY, len(first.Pix))
	}
	if i := first.HotX*4 + first.HotY*first.W*4; !bytes.Equal(first.Pix[i:i+4], []byte{0, 0, 255, 255}) && !bytes.Equal(first.Pix[i:i+4], []byte{255, 0, 0, 255}) {
		t.Errorf("pixel %v at the hot spot, want one of the two colours", first.Pix[i:i+4])
	}
	settle(t, d)
	d.View(func(v encode.View) {
		for y := 150; y < 250; y++ {
			for x := 150; x < 250; x++ {
				if got := pixelAt(v.Picture.Pix, v.Picture.Stride, x, y); got != 0x112233 {
					t.Fatalf("pixel %06x at %d,%d: the cursor is in the picture", got, x, y)
				}
			}
		}
	})
	c.do("cursor 152") // text
	until(t, d, "another cursor", func(v encode.View) bool { return v.Cursor.Serial != first.Serial })
	c.do("bitmap 300 280 290 5")
	until(t, d, "a cursor that is too large", func(v encode.View) bool {
		k := v.Cursor
		return k.W == draw.MaxCursor && k.H == draw.MaxCursor && k.HotX == 290-(300-draw.MaxCursor) && k.HotY == 5
	})
}

func TestWarp(t *testing.T) {
	s := startServer(t, "640x480")
	d := open(t, s.config(true))
	c := startClient(t, s)
	c.window(0, 0, 640, 480)
	d.Pointer(10, 20, 0)
	c.expect("motion 10 20")
	settle(t, d)
	d.View(func(v encode.View) {
		if v.Warp != nil {
			t.Errorf("warp to %v where the person has moved the pointer", v.Warp)
		}
	})
	c.do("warp 300 200")
	for i, want := range []*image.Point{{X: 300, Y: 200}, nil} {
		d.View(func(v encode.View) {
			if (v.Warp == nil) != (want == nil) || want != nil && *v.Warp != *want {
				t.Errorf("view %d: warp %v, want %v", i, v.Warp, want)
			}
		})
	}
	d.Pointer(100_000, -7, 0)
	d.View(func(v encode.View) {
		if v.Warp != nil {
			t.Errorf("warp to %v at the screen's edge", v.Warp)
		}
	})
}

func TestResize(t *testing.T) {
	both(t, func(t *testing.T, s *server, d *Display) {
		c := startClient(t, s)
		c.window(0, 0, 640, 480)
		c.do("fill 0 0 640 480 %d", 0x00ff00)
		modes := -1
		for i, tc := range []struct{ w, h, wantW, wantH int }{
			{320, 240, 320, 240}, {64, 64, 64, 64}, {10, 9, 64, 64}, {640, 480, 640, 480}, {333, 211, 333, 211},
			{5000, 200, 640, 200}, {640, 480, 640, 480}, {100, 100, 100, 100}, {101, 100, 101, 100}, {640, 480, 640, 480},
		} {
			if i == 1 {
				c.do("modes")
				fmt.Sscanf(c.events[len(c.events)-1], "modes %d", &modes)
			}
			d.Resize(tc.w, tc.h)
			d.View(func(v encode.View) {
				if v.Picture.W != tc.wantW || v.Picture.H != tc.wantH {
					t.Fatalf("%dx%d gives %dx%d", tc.w, tc.h, v.Picture.W, v.Picture.H)
				}
				if changed := i != 2; changed && (len(v.Damage) != 1 || v.Damage[0] != v.Picture.Bounds()) {
					t.Errorf("damage %v after a resize", v.Damage)
				}
			})
			c.do("fill 0 0 640 480 %d", 0x00ff00+i)
			d.View(func(v encode.View) {
				for _, p := range []image.Point{{0, 0}, {v.Picture.W - 1, 0}, {0, v.Picture.H - 1}, {v.Picture.W - 1, v.Picture.H - 1}} {
					if got := pixelAt(v.Picture.Pix, v.Picture.Stride, p.X, p.Y); got != uint32(0x00ff00+i) {
						t.Errorf("%dx%d: pixel %06x at %v", v.Picture.W, v.Picture.H, got, p)
					}
				}
			})
		}
		c.do("modes")
		var now int
		fmt.Sscanf(c.events[len(c.events)-1], "modes %d", &now)
		if now > modes {
			t.Errorf("%d modes after many sizes, %d after one", now, modes)
		}
	})
}

// A program in the session changes the size as well (xrandr).
func TestResizedByAProgram(t *testing.T) {
	both(t, func(t *testing.T, s *server, d *Display) {
		d.Resize(200, 200)
		settle(t, d)
		c := startClient(t, s)
		c.do("grow 400 300")
		until(t, d, "the new size", func(v encode.View) bool { return v.Picture.W == 400 && v.Picture.H == 300 })
		d.Resize(200, 200)
		until(t, d, "the old size", func(v encode.View) bool { return v.Picture.W == 200 && v.Picture.H == 200 })
	})
}

func TestHiddenRowsAreGivenBack(t *testing.T) {
	s := startServer(t, "1280x1024")
	d := open(t, s.config(true))
	c := startClient(t, s)
	c.window(0, 0, 1280, 1024)
	c.do("fill 0 0 1280 1024 %d", 0xabcdef)
	blocks := func() int64 {
		var st syscall.Stat_t
		if err := syscall.Stat(s.frameBuffer, &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	full := blocks()
	d.Resize(1280, 100)
	if got, want := blocks(), full/8; got > want {
		t.Errorf("%d bytes of the frame buffer in memory, %d before; want at most %d", got, full, want)
	}
}

// Rows that are on the screen keep their pixels, in whatever page they end.
func TestVisibleRowsAreKept(t *testing.T) {
	head := unhex(t, realXWD)
	binary.BigEndian.PutUint32(head[5*4:], 100) // height
	name := filepath.Join(t.TempDir(), "fb")
	const offset, stride = 3232, 10240
	all := append(head, bytes.Repeat([]byte{0xa5}, offset+100*stride-len(head))...)
	for h := 64; h <= 100; h++ {
		if err := os.WriteFile(name, all, 0600); err != nil {
			t.Fatal(err)
		}
		m, err := openMapped(name, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.resize(2560, h); err != nil {
			t.Fatal(err)
		}
		if p := m.picture(); !bytes.Equal(p.Pix, all[offset:offset+h*stride]) {
			t.Errorf("%d rows: pixels are lost", h)
		}
		if rest := m.mem[offset+h*stride:]; bytes.IndexByte(rest, 0xa5) >= 0 {
			t.Errorf("%d rows: hidden ones are kept", h)
		}
		m.close()
	}
}

func TestServerGone(t *testing.T) {
	both(t, func(t *testing.T, s *server, d *Display) {
		settle(t, d)
		select {
		case <-d.Done():
			t.Fatal(d.Err())
		default:
		}
		if err := d.Err(); err != nil {
			t.Fatal(err)
		}
		d.Key(0x04, true)
		s.stop()
		<-d.Done()
		if err := d.Err(); err == nil || !strings.HasPrefix(err.Error(), "xdisplay: X server ") {
			t.Errorf("error %v", err)
		}
		// Nothing hangs and nothing panics.
		d.View(func(encode.View) { t.Error("a view of nothing") })
		d.Key(0x04, false)
		d.Pointer(1, 2, 3)
		d.Wheel(60, -60)
		d.Resize(100, 100)
		if err := d.SetLayout("de"); err == nil {
			t.Error("a layout for nothing")
		}
		d.Release()
		<-d.Changed()
	})
}

// The end of either side is that of a View whose answers do not come.
func TestEndsInAView(t *testing.T) {
	for name, end := range map[string]func(s *server, d *Display){
		"the server's": func(s *server, _ *Display) { s.stop() },
		"ours":         func(_ *server, d *Display) { d.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, "640x480")
			d := open(t, s.config(true))
			s.cmd.Process.Signal(syscall.SIGSTOP)
			defer s.cmd.Process.Signal(syscall.SIGCONT)
			viewed := make(chan struct{})
			go func() {
				d.View(func(encode.View) { t.Error("a view of nothing") })
				close(viewed)
			}()
			for ; d.screen.TryLock(); runtime.Gosched() {
				d.screen.Unlock()
				select {
				case <-viewed:
					t.Fatal("the view has ended by itself")
				default:
				}
			}
			end(s, d)
			<-viewed
			<-d.Done()
		})
	}
}

func TestOpenErrors(t *testing.T) {
	s := startServer(t, "640x480")
	bad := filepath.Join(t.TempDir(), "fb")
	if err := os.WriteFile(bad, make([]byte, 5000), 0600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []Config{
		{Display: ""}, {Display: "host:1"}, {Display: ":x"}, {Display: ":1234567"}, {Display: ":65000"},
		{Display: s.display, Authority: bad + "no"}, {Display: s.display, FrameBuffer: bad + "no"}, {Display: s.display, FrameBuffer: bad},
	} {
		if d, err := Open(c); err == nil {
			d.Close()
			t.Errorf("%+v: no error", c)
		} else if !strings.HasPrefix(err.Error(), "xdisplay: ") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestAuthority(t *testing.T) {
	const cookie = "00112233445566778899aabbccddeeff"
	file := filepath.Join(t.TempDir(), "auth")
	// The file is made for any display, as the number is not known before.
	key, _ := hex.DecodeString(cookie)
	b := binary.BigEndian.AppendUint16(nil, 0xffff)
	for _, f := range [][]byte{nil, nil, []byte(cookieName), key} {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(f))), f...)
	}
	if err := os.WriteFile(file, b, 0600); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, "640x480", "-auth", file)
	if d, err := Open(s.config(true)); err == nil {
		d.Close()
		t.Error("let in without a cookie")
	}
	c := s.config(true)
	c.Authority = file
	d := open(t, c)
	if err := d.SetLayout("de"); err != nil {
		t.Error(err)
	}
	// What xauth writes is read.
	if out, err := exec.Command("xauth", "-f", file, "add", s.display, ".", cookie).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, err := readCookie(file, s.display); err != nil || hex.EncodeToString(got) != cookie {
		t.Errorf("cookie %x, %v", got, err)
	}
}
