package xdisplay

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"hotdesk/protocol/input"
	"hotdesk/server/session/encode"
)

// HID usages that the tests need by name.
const (
	keyA     = 0x04
	keyEnter = 0x28
	keySpace = 0x2c
	keyShift = 0xe1
	keyAltGr = 0xe6
)

// windowed is a display and a program with a window on all of it.
func windowed(t *testing.T) (*Display, *client) {
	t.Helper()
	s := startServer(t, "640x480")
	d := open(t, s.config(true))
	c := startClient(t, s)
	c.window(0, 0, 640, 480)
	return d, c
}

func TestKeys(t *testing.T) {
	d, c := windowed(t)
	d.Pointer(50, 50, 0)
	c.expect("motion 50 50")
	d.Key(keyA, false) // was not down
	d.Key(keyA, true)
	c.expect("key 38 down")
	d.Key(keyA, false)
	d.Key(keyA, false)
	d.Key(0xdf, true) // no key
	d.Key(0xffff, true)
	d.Key(keyShift, true)
	d.Key(keyShift, true) // is down
	d.Key(keyShift, false)
	c.expect("key 38 up", "key 50 down", "key 50 up")
}

func TestButtonsAndWheel(t *testing.T) {
	d, c := windowed(t)
	for i, x := range []int{1, 2, 3, 8, 9} {
		d.Pointer(10+i, 20, 1<<i)
		c.expect(fmt.Sprintf("motion %d 20", 10+i), fmt.Sprintf("button %d down at %d 20", x, 10+i))
		d.Pointer(10+i, 30, 0)
		c.expect(fmt.Sprintf("motion %d 30", 10+i), fmt.Sprintf("button %d up", x))
	}
	d.Wheel(1, -2)
	d.Wheel(-1, 1)
	for _, b := range []int{4, 4, 7, 5, 6} {
		c.expect(fmt.Sprintf("button %d down at 14 30", b), fmt.Sprintf("button %d up", b))
	}
	// A click is where the person sees it, wherever a program moved the pointer.
	c.do("warp 300 300")
	c.expect("motion 300 300")
	d.Pointer(14, 30, input.ButtonLeft)
	c.expect("motion 14 30", "button 1 down at 14 30")
}

func TestRelease(t *testing.T) {
	d, c := windowed(t)
	d.Pointer(5, 5, 0)
	c.expect("motion 5 5")
	d.Release() // nothing
	d.Key(keyShift, true)
	d.Key(keyAltGr, true)
	d.Pointer(5, 5, input.ButtonRight)
	d.Release()
	d.Release() // nothing
	d.Key(keyA, true)
	c.expect("key 50 down", "key 108 down", "motion 5 5", "button 3 down at 5 5",
		"button 3 up", "key 50 up", "key 108 up", "key 38 down")
}

// A media process that is killed leaves its keys down; the next lets them go.
func TestKeysLeftByAPredecessor(t *testing.T) {
	s := startServer(t, "640x480")
	c := startClient(t, s)
	c.window(0, 0, 640, 480)
	d, err := Open(s.config(true))
	if err != nil {
		t.Fatal(err)
	}
	d.Pointer(5, 5, input.ButtonMiddle)
	d.Key(keyAltGr, true)
	c.expect("motion 5 5", "button 2 down at 5 5", "key 108 down")
	d.conn.Sync()
	d.wire.end(errClosed) // as a kill does it
	<-d.ended
	d = open(t, s.config(true))
	d.Key(keyA, true)
	c.expect("key 108 up", "button 2 up", "key 38 down")
}

// The X server repeats a key that is down, and stops at its release.
func TestAutoRepeat(t *testing.T) {
	s := startServer(t, "640x480", "-ardelay", "150", "-arinterval", "20")
	d := open(t, s.config(true))
	c := startClient(t, s)
	c.window(0, 0, 640, 480)
	d.Pointer(50, 50, 0)
	c.expect("motion 50 50")
	d.Key(keyA, true)
	c.expect("key 38 down")
	for range 5 {
		c.expect("key 38 up", "key 38 down")
	}
	d.Release()
	d.Key(keyEnter, true)
	d.Key(keyEnter, false)
	// Whatever was repeated before it, A is up and stays up.
	downs := true
	for last := ""; last != "key 36 up"; {
		last = c.line()
		switch last {
		case "key 38 down":
			downs = true
		case "key 38 up":
			downs = false
		case "key 36 down":
			if downs {
				t.Error("A is still down")
			}
		}
	}
}

// A row of keys with what each types alone, with Shift and with AltGr; a blank
// where it is nothing to test.
type row struct {
	first               uint16
	plain, shift, altGr string
}

// layouts are those that must be typed correctly.
var layouts = map[string][]row{
	"us": {
		{first: 0x04, plain: "abcdefghijklmnopqrstuvwxyz1234567890", shift: "ABCDEFGHIJKLMNOPQRSTUVWXYZ!@#$%^&*()"},
		{first: 0x2d, plain: `-=[]\`, shift: `_+{}|`},
		{first: 0x33, plain: ";'`,./", shift: `:"~<>?`},
	},
	"de": {
		{0x04, "abcdefghijklmnopqrstuvwxzy1234567890", `ABCDEFGHIJKLMNOPQRSTUVWXZY!"§$%&/()=`, "    €       µ   @         ¹²³¼½¬{[]}"},
		{0x2d, "ß ü+", "? Ü*", `\  ~`},
		{0x32, "#öä ,.-", "'ÖÄ°;:_", ""},
		{0x64, "<", ">", "|"},
	},
	"fr": {
		{0x04, "qbcdefghijkl,noparstuvzxyw&é\"'(-è_çà", "QBCDEFGHIJKL?NOPARSTUVZXYW1234567890", "    €                      ~#{[|`\\^@"},
		{0x2d, ")= $", "°+ £", "]}"},
		{0x32, "*mù²;:!", "µM% ./§", ""},
		{0x64, "<", ">", ""},
	},
}

// dead keys: an accent's key and modifier, then a letter's key.
var dead = map[string][]struct {
	accent, modifier, letter uint16
	want                     string
}{
	"de": {
		{0x35, 0, 0x08, "ê"},        // ^ e
		{0x2e, 0, 0x08, "é"},        // ´ e
		{0x2e, keyShift, 0x04, "à"}, // ` a
	},
	"fr": {
		{0x2f, 0, 0x0c, "î"},        // ^ i
		{0x2f, 0, 0x08, "ê"},        // ^ e
		{0x2f, keyShift, 0x08, "ë"}, // ¨ e
	},
}

// strokes presses what a row needs and returns the text that it must give.
func (r row) strokes(d *Display) string {
	var want strings.Builder
	for _, l := range []struct {
		text     string
		modifier uint16
	}{{r.plain, 0}, {r.shift, keyShift}, {r.altGr, keyAltGr}} {
		usage := r.first
		for _, c := range l.text {
			if c != ' ' {
				stroke(d, usage, l.modifier)
				want.WriteRune(c)
			}
			usage++
			switch usage {
			case 0x28: // after the digits, and the control keys
				usage = 0x2d
			case 0x32:
				if r.first == 0x2d {
					usage = 0x33
				}
			}
		}
	}
	return want.String()
}

func stroke(d *Display, usage, modifier uint16) {
	if modifier != 0 {
		d.Key(modifier, true)
		defer d.Key(modifier, false)
	}
	d.Key(usage, true)
	d.Key(usage, false)
}

// startXterm runs an xterm over the whole screen, its terminal set by stty, and
// returns what is typed in it, once it takes that.
func startXterm(tb testing.TB, s *server, d *Display, stty string) *bufio.Reader {
	tb.Helper()
	fifo := filepath.Join(s.dir, "typed")
	if err := syscall.Mkfifo(fifo, 0600); err != nil {
		tb.Fatal(err)
	}
	xterm := exec.Command("xterm", "-wf", "-geometry", "200x60+0+0", "-e", "sh", "-c", "stty "+stty+"; echo ready >"+fifo+"; exec cat >"+fifo)
	xterm.Env = append(os.Environ(), "DISPLAY="+s.display, "LANG=C.UTF-8", "LC_ALL=C.UTF-8", "XMODIFIERS=@im=none")
	if err := xterm.Start(); err != nil {
		tb.Fatal(err)
	}
	// Kept open for writing as well, or it ends between two writers.
	f, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		xterm.Process.Kill()
		xterm.Wait()
		f.Close()
	})
	if err := f.SetReadDeadline(time.Now().Add(patience)); err != nil {
		tb.Fatal(err)
	}
	typed := bufio.NewReader(f)
	d.Pointer(100, 100, 0) // the keys go to the window below it
	if l, err := typed.ReadString('\n'); err != nil {
		tb.Fatal("xterm does not start: ", err)
	} else if l != "ready\n" {
		tb.Fatalf("xterm begins with %q", l)
	}
	return typed
}

func TestTyping(t *testing.T) {
	s := startServer(t, "1024x768")
	d := open(t, s.config(true))
	typed := startXterm(t, s, d, "-echo")
	line := func(what, want string) {
		t.Helper()
		stroke(d, keyEnter, 0)
		got, err := typed.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if got != want+"\n" {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	for _, name := range []string{"us", "de", "fr", "us"} {
		if err := d.SetLayout(name); err != nil {
			t.Fatal(err)
		}
		for i, r := range layouts[name] {
			line(fmt.Sprintf("%s, row %d", name, i), r.strokes(d))
		}
		for _, k := range dead[name] {
			stroke(d, k.accent, k.modifier)
			stroke(d, k.letter, 0)
			line(name+", dead key", k.want)
		}
	}
}

func TestSetLayout(t *testing.T) {
	s := startServer(t, "640x480")
	d := open(t, s.config(true))
	c := startClient(t, s)
	c.window(0, 0, 640, 480)
	d.Pointer(50, 50, 0)
	c.expect("motion 50 50")
	d.Key(keyA, true)
	c.expect("key 38 down")
	if err := d.SetLayout("us"); err != nil { // it is: A stays down
		t.Error(err)
	}
	d.Key(keyShift, true)
	c.expect("key 50 down")
	if err := d.SetLayout("gr"); err != nil {
		t.Error(err)
	}
	c.expect("key 38 up", "key 50 up")
	if have, err := d.currentLayout(); err != nil || have != "gr" {
		t.Errorf("layout %q, %v", have, err)
	}
	for _, bad := range []string{"", "-help", "nosuchlayout", "us;reboot", "US", strings.Repeat("a", 33)} {
		if err := d.SetLayout(bad); err == nil || !strings.HasPrefix(err.Error(), "xdisplay: ") {
			t.Errorf("layout %q: error %v", bad, err)
		}
	}
	if have, err := d.currentLayout(); err != nil || have != "gr" {
		t.Errorf("after errors: layout %q, %v", have, err)
	}
	// A variant that somebody in the session chose is not this layout.
	cmd := exec.Command("setxkbmap", "-display", s.display, "-layout", "us", "-variant", "dvorak")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := d.SetLayout("us"); err != nil {
		t.Error(err)
	}
	if have, err := d.currentLayout(); err != nil || have != "us" {
		t.Errorf("after a variant: layout %q, %v", have, err)
	}
}

// BenchmarkDamageToView is from a program's drawing to its pixels in a View.
func BenchmarkDamageToView(b *testing.B) {
	for _, k := range []struct {
		name string
		file bool
	}{{"mapped", true}, {"shared", false}} {
		b.Run(k.name, func(b *testing.B) {
			s := startServer(b, "1280x1024")
			d := open(b, s.config(k.file))
			c := startClient(b, s)
			c.window(0, 0, 1280, 1024)
			settle(b, d)
			for i := 1; b.Loop(); i++ {
				fmt.Fprintf(c.in, "fill 10 10 50 40 %d\n", i&0xffffff)
				until(b, d, "the drawing", func(v encode.View) bool {
					return len(v.Damage) > 0 && pixelAt(v.Picture.Pix, v.Picture.Stride, 20, 20) == uint32(i&0xffffff)
				})
				c.line()
			}
		})
	}
}

// BenchmarkIdleView is a View in which nothing has changed: what a frame costs
// in questions to the X server.
func BenchmarkIdleView(b *testing.B) {
	s := startServer(b, "1280x1024")
	d := open(b, s.config(true))
	settle(b, d)
	b.ReportAllocs()
	for b.Loop() {
		d.View(func(encode.View) {})
	}
}

// BenchmarkKeyToDamage is from a key to what xterm draws for it.
func BenchmarkKeyToDamage(b *testing.B) {
	s := startServer(b, "1280x1024")
	d := open(b, s.config(true))
	startXterm(b, s, d, "raw echo")
	stroke(d, keySpace, 0)
	settle(b, d)
	for b.Loop() {
		stroke(d, keyA, 0)
		until(b, d, "the letter", func(v encode.View) bool { return len(v.Damage) > 0 })
	}
}

// BenchmarkSetLayout is a change of the keyboard, and the same layout again.
func BenchmarkSetLayout(b *testing.B) {
	s := startServer(b, "640x480")
	d := open(b, s.config(true))
	b.Run("other", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if err := d.SetLayout([]string{"de", "us"}[i%2]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("same", func(b *testing.B) {
		for b.Loop() {
			if err := d.SetLayout("us"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkResize(b *testing.B) {
	s := startServer(b, "1600x1200")
	d := open(b, s.config(true))
	for i := 0; b.Loop(); i++ {
		d.Resize(1024+i%2*256, 768+i%2*256)
	}
}
