package window

import (
	"context"
	"errors"
	"image"
	"image/color"
	"slices"
	"strings"
	"testing"
	"time"

	"hotdesk/dtu/backend/backendtest"
	"hotdesk/dtu/backend/xvfbtest"
)

// stand opens a window with a picture on a new X server and runs it.
type stand struct {
	t       *testing.T
	server  *xvfbtest.Server
	person  *person
	picture *backendtest.Picture
	hands   *backendtest.Hands
	done    chan error
	stop    context.CancelFunc
}

func newStand(t *testing.T, w, h int, more ...string) *stand {
	t.Helper()
	t.Setenv("XAUTHORITY", t.TempDir()+"/none")
	server := xvfbtest.Start(t, "800x600x24", more...)
	win, err := New(Config{Display: server.Display, W: w, H: h, Title: "Terminal Ä"})
	if err != nil {
		t.Fatal(err)
	}
	s := &stand{t: t, server: server, picture: backendtest.NewPicture(w, h), hands: backendtest.NewHands(), done: make(chan error, 1)}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() { s.done <- win.Run(ctx, s.picture, s.hands) }()
	t.Cleanup(func() {
		stop()
		<-s.done
		if n := s.picture.Watched(); n != 0 {
			t.Errorf("%d watches left", n)
		}
	})
	s.person = newPerson(t, server.Display)
	return s
}

// ended is the result of Run, which must come.
func (s *stand) ended() error {
	s.t.Helper()
	err := <-s.done
	close(s.done) // for the cleanup
	return err
}

// shows waits until the window has a colour at a point.
func (s *stand) shows(x, y int, rgb string) {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); s.person.do("pixel %d %d", x, y) != "ok "+rgb; {
		if time.Now().After(end) {
			s.t.Fatalf("pixel %d,%d never was %s", x, y, rgb)
		}
	}
}

func (s *stand) wants(events ...string) {
	s.t.Helper()
	for _, want := range events {
		if got := <-s.hands.Events; got != want {
			s.t.Fatalf("%q, want %q", got, want)
		}
	}
}

func testPicture(t *testing.T, more ...string) {
	s := newStand(t, 640, 480, more...)
	s.shows(639, 479, "0,0,0")
	s.picture.Fill(image.Rect(0, 0, 640, 480), color.RGBA{R: 200, G: 100, B: 50, A: 255})
	s.shows(0, 0, "200,100,50")
	s.shows(639, 479, "200,100,50")
	s.picture.Fill(image.Rect(600, 400, 601, 401), color.RGBA{R: 1, G: 2, B: 3, A: 255})
	s.shows(600, 400, "1,2,3")
	s.shows(601, 400, "200,100,50")
	if title := s.person.do("title"); title != "ok Terminal Ä" {
		t.Errorf("title %q", title)
	}

	// A larger window tells the terminal, and shows the picture in its middle
	// until that has changed.
	s.person.do("resize 740 580")
	s.wants("resize 740x580")
	s.shows(50, 50, "200,100,50")
	s.shows(49, 49, "0,0,0")
	s.shows(650, 450, "1,2,3")
	s.picture.Resize(740, 580)
	s.shows(60, 60, "0,0,0")
	s.picture.Fill(image.Rect(0, 0, 740, 580), color.RGBA{R: 9, G: 8, B: 7, A: 255})
	s.shows(0, 0, "9,8,7")
	s.shows(739, 579, "9,8,7")
	// A smaller one shows the top left.
	s.person.do("resize 320 200")
	s.wants("resize 320x200")
	s.shows(319, 199, "9,8,7")
}

func TestPicture(t *testing.T) { testPicture(t) }

// Without shared memory pixels travel in requests.
func TestPictureInRequests(t *testing.T) { testPicture(t, "-extension", "MIT-SHM") }

func TestHands(t *testing.T) {
	s := newStand(t, 640, 480)
	p := s.person
	p.do("move 100 100")
	p.do("focus")
	p.do("watch")
	s.shows(0, 0, "0,0,0")

	// Keycodes are Linux codes + 8: A 30, left Shift 42, the 102nd key 86.
	p.do("press 50")
	p.do("press 38")
	p.do("release 38")
	p.do("release 50")
	p.do("press 94")
	p.do("release 94")
	s.keys("key 0xe1 down", "key 0x04 down", "key 0x04 up", "key 0xe1 up", "key 0x64 down", "key 0x64 up")

	// A held key repeats for every other client, and not for the terminal.
	p.do("press 39")
	p.do("repeats 6") // three of the presses before are among them
	p.do("release 39")
	p.do("press 40")
	p.do("release 40")
	s.keys("key 0x16 down", "key 0x16 up", "key 0x07 down", "key 0x07 up")

	p.do("move 20 30")
	p.do("down 1")
	p.do("move 25 30")
	p.do("up 1")
	p.do("down 3")
	p.do("up 3")
	p.do("down 8")
	p.do("up 8")
	s.wants("pointer 20,30 0", "pointer 20,30 1", "pointer 25,30 1", "pointer 25,30 0", "pointer 25,30 4", "pointer 25,30 0", "pointer 25,30 8", "pointer 25,30 0")
	for _, b := range []int{4, 5, 6, 7} {
		p.do("down %d", b)
		p.do("up %d", b)
	}
	s.wants("wheel 0,-1", "wheel 0,1", "wheel -1,0", "wheel 1,0")

	// The focus goes with a key and a button down; what happens to them after
	// is not the terminal's.
	p.do("press 38")
	p.do("down 1")
	p.do("unfocus")
	s.wants("key 0x04 down", "pointer 25,30 1", "release")
	p.do("release 38")
	p.do("up 1")
	p.do("focus")
	p.do("press 38")
	p.do("release 38")
	s.wants("pointer 25,30 0", "key 0x04 down", "key 0x04 up")

	p.do("close")
	if err := s.ended(); err != nil {
		t.Error(err)
	}
	s.wants("release")
}

// keys is wants that passes over the pointer, which the X server may put
// anywhere before the first move.
func (s *stand) keys(events ...string) {
	s.t.Helper()
	for _, want := range events {
		got := <-s.hands.Events
		for strings.HasPrefix(got, "pointer") {
			got = <-s.hands.Events
		}
		if got != want {
			s.t.Fatalf("%q, want %q", got, want)
		}
	}
}

// However late the window looks: a repeat, a real release and press of the
// same key, and another key in between.
func TestRepeats(t *testing.T) {
	h := backendtest.NewHands()
	var marks []uint32
	k := keyboard{mark: func(serial uint32) { marks = append(marks, serial) }}
	mark := func() {
		k.marked(marks[0], h)
		marks = marks[1:]
	}
	k.press(38, 100, h)
	k.release(38, 600, h) // repeat
	k.press(38, 600, h)
	k.release(38, 640, h) // repeat
	k.press(38, 640, h)
	k.release(38, 650, h) // real
	mark()                // of 600
	mark()                // of 640
	mark()
	k.press(38, 700, h)
	k.release(38, 710, h)
	k.press(38, 711, h) // pressed again before the mark came
	mark()
	k.release(38, 800, h)
	k.press(39, 800, h) // another key at the same time
	mark()
	k.release(39, 900, h)
	k.forget()
	mark()
	k.release(38, 950, h) // of a press that went elsewhere
	k.press(38, 950, h)
	k.release(38, 950, h)
	mark()
	close(h.Events)
	var got []string
	for e := range h.Events {
		got = append(got, e)
	}
	want := []string{"key 0x04 down", "key 0x04 up", "key 0x04 down", "key 0x04 up", "key 0x04 down", "key 0x04 up", "key 0x16 down", "key 0x04 down", "key 0x04 up"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestStop(t *testing.T) {
	s := newStand(t, 640, 480)
	s.shows(0, 0, "0,0,0")
	s.stop()
	if err := s.ended(); err != nil {
		t.Error(err)
	}
}

func TestServerGone(t *testing.T) {
	s := newStand(t, 640, 480)
	s.shows(0, 0, "0,0,0")
	s.server.Kill()
	if err := s.ended(); !errors.Is(err, errGone) {
		t.Errorf("%v, want %v", err, errGone)
	}
}

func TestNoServer(t *testing.T) {
	for _, display := range []string{"", "nonsense", ":x", "unix:31999"} {
		t.Setenv("DISPLAY", "")
		if w, err := New(Config{Display: display, W: 640, H: 480}); err == nil || !strings.HasPrefix(err.Error(), "window: ") {
			t.Errorf("%q: %v, %v", display, w, err)
		}
	}
}
