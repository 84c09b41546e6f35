//go:build linux

package evdev

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"hotdesk/dtu/backend/backendtest"
	"hotdesk/dtu/keymap"
)

func seat(w, h int) (*Seat, *backendtest.Hands) {
	hands := backendtest.NewHands()
	return &Seat{Hands: hands, Size: func() (int, int) { return w, h }}, hands
}

func expect(t *testing.T, h *backendtest.Hands, want ...string) {
	t.Helper()
	var got []string
	for len(h.Events) > 0 {
		got = append(got, <-h.Events)
	}
	if !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

var syn = Event{}

func TestKeys(t *testing.T) {
	s, h := seat(100, 100)
	var lights []byte
	s.Lights = func(b byte) { lights = append(lights, b) }
	s.Add("a", Info{})
	s.Add("b", Info{})
	s.Take("a", []Event{{evKey, 30, 1}, syn, {evKey, 30, 2}, syn, {evKey, 30, 2}, syn})
	s.Take("b", []Event{{evKey, 30, 1}, syn}) // the same key of another keyboard
	s.Take("a", []Event{{evKey, 30, 0}, syn})
	expect(t, h, "key 0x04 down")
	s.Take("b", []Event{{evKey, 30, 0}, syn, {evKey, 30, 0}, {evKey, 0x2fe, 1}, syn})
	expect(t, h, "key 0x04 up")
	s.Take("a", []Event{{evKey, 58, 1}, {evKey, 58, 0}, {evKey, 69, 1}, {evKey, 69, 0}, {evKey, 58, 1}, {evKey, 58, 0}, syn})
	expect(t, h, "key 0x39 down", "key 0x39 up", "key 0x53 down", "key 0x53 up", "key 0x39 down", "key 0x39 up")
	if !slices.Equal(lights, []byte{2, 3, 1}) {
		t.Errorf("lights %v", lights)
	}
	s.Take("a", []Event{{evKey, 29, 1}, {evKey, btnLeft, 1}, syn})
	s.Remove("a")
	s.Take("a", []Event{{evKey, 31, 1}, syn})
	expect(t, h, "key 0xe0 down", "pointer 50,50 1", "key 0xe0 up", "pointer 50,50 0")
}

func TestPointer(t *testing.T) {
	s, h := seat(200, 100)
	s.Add("mouse", Info{})
	s.Add("tablet", Info{X: Range{0, 0x7fff}, Y: Range{0, 0x7fff}})
	s.Take("mouse", []Event{{evRel, relX, 5}, {evRel, relY, -3}, syn, {evRel, relX, 1000}, syn})
	expect(t, h, "pointer 105,47 0", "pointer 199,47 0")
	s.Take("tablet", []Event{{evAbs, absX, 0}, {evAbs, absY, 0}, syn, {evAbs, absX, 0x7fff}, {evAbs, absY, 0x7fff}, syn, {evAbs, absX, 0x4000}, {evKey, btnLeft, 1}, syn, {evKey, btnLeft, 0}, syn})
	expect(t, h, "pointer 0,0 0", "pointer 199,99 0", "pointer 100,99 1", "pointer 100,99 0")
	s.Take("mouse", []Event{{evRel, relWheel, 1}, {evRel, 11, 120}, syn, {evRel, relHWheel, -2}, syn})
	expect(t, h, "wheel 0,-1", "wheel -2,0")
	s.Take("mouse", []Event{{evKey, btnRight, 1}, syn})
	s.Take("tablet", []Event{{evKey, btnTouch, 1}, syn, {evKey, btnTouch, 0}, syn})
	s.Take("mouse", []Event{{evKey, btnRight, 0}, {evKey, btnSide, 1}, {evKey, btnExtra, 1}, {evKey, btnMiddle, 1}, syn})
	expect(t, h, "pointer 100,99 4", "pointer 100,99 5", "pointer 100,99 4", "pointer 100,99 0", "pointer 100,99 8", "pointer 100,99 24", "pointer 100,99 26")
}

func TestEventsLost(t *testing.T) {
	s, h := seat(100, 100)
	s.Add("a", Info{})
	if s.Take("a", []Event{{evKey, 30, 1}, {evKey, 31, 1}, syn}) {
		t.Error("nothing was lost")
	}
	if !s.Take("a", []Event{{evSyn, synDropped, 0}, {evKey, 32, 1}, {evRel, relX, 9}, syn}) {
		t.Error("lost and not told")
	}
	s.Held("a", func(code uint16) bool { return code == 31 })
	expect(t, h, "key 0x04 down", "key 0x16 down", "key 0x04 up")
}

func TestHotKey(t *testing.T) {
	s, h := seat(100, 100)
	s.Hot = func(code uint16, down func(uint16) bool) bool { return code == 119 && down(29) && down(56) }
	s.Add("a", Info{})
	s.Take("a", []Event{{evKey, 119, 1}, {evKey, 119, 0}, {evKey, 29, 1}, {evKey, 56, 1}, {evKey, 119, 1}, {evKey, 119, 0}, {evKey, 56, 0}, {evKey, 29, 0}, syn})
	expect(t, h, "key 0x48 down", "key 0x48 up", "key 0xe0 down", "key 0xe2 down", "key 0xe2 up", "key 0xe0 up")
}

// Every key that text and chords need is on the table, and no usage twice.
func TestUsages(t *testing.T) {
	code := map[uint16]uint16{}
	for c := range uint16(0x300) {
		if u := Usage(c); u != 0 {
			if code[u] != 0 {
				t.Errorf("usage %#x is of the codes %d and %d", u, code[u], c)
			}
			code[u] = c
		}
	}
	for _, layout := range keymap.Layouts() {
		for r := rune(' '); r < 0x250; r++ {
			strokes, err := keymap.Type(layout, string(r))
			if err != nil {
				continue // not on this layout
			}
			for _, k := range strokes {
				if code[k.Usage] == 0 {
					t.Errorf("layout %s: no code for usage %#x of %q", layout, k.Usage, r)
				}
			}
		}
	}
	// The whole keyboard page of boot keyboards but for its errors, of keys that
	// Linux knows.
	for u := uint16(0x04); u <= 0x81; u++ {
		if code[u] == 0 && u != 0x32 { // the ISO keyboard's #, which is Linux's backslash
			t.Errorf("no code for usage %#x", u)
		}
	}
	for u := uint16(0xE0); u <= 0xE7; u++ {
		if code[u] == 0 {
			t.Errorf("no code for usage %#x", u)
		}
	}
}

// record is struct input_event.
func record(e Event) []byte {
	b := binary.NativeEndian.AppendUint16(make([]byte, sizeEvent-8), e.Type)
	b = binary.NativeEndian.AppendUint16(b, e.Code)
	return binary.NativeEndian.AppendUint32(b, uint32(e.Value))
}

// A device that is there, one that comes, and one that goes with a key down.
func TestHotPlug(t *testing.T) {
	dir := t.TempDir()
	ends := make(chan *os.File, 4)
	plug := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plug("event0")
	plug("mouse0") // not one of ours
	h := backendtest.NewHands()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Config{Folder: dir, Seat: Seat{Hands: h, Size: func() (int, int) { return 100, 100 }}, open: func(name string) (*opened, error) {
			if filepath.Base(name) == "event1" {
				return nil, errUseless
			}
			r, w, err := os.Pipe()
			ends <- w
			return &opened{id: name, f: r}, err
		}})
	}()
	send := func(w *os.File, e ...Event) {
		t.Helper()
		for _, e := range e {
			if _, err := w.Write(record(e)); err != nil {
				t.Fatal(err)
			}
		}
	}
	told := func(want ...string) {
		t.Helper()
		for _, w := range want {
			select {
			case got := <-h.Events:
				if got != w {
					t.Errorf("told %q, want %q", got, w)
				}
			case err := <-done:
				t.Fatalf("it ended before %q: %v", w, err)
			}
		}
	}
	opens := func() *os.File {
		t.Helper()
		select {
		case w := <-ends:
			return w
		case err := <-done:
			t.Fatalf("it ended before a device was opened: %v", err)
			return nil
		}
	}
	first := opens()
	send(first, Event{evKey, 30, 1}, syn)
	told("key 0x04 down")
	plug("event1")
	plug("event2")
	second := opens()
	send(second, Event{evRel, relX, 7}, syn, Event{evKey, 31, 1}, syn)
	told("pointer 57,50 0", "key 0x16 down")
	second.Close()
	told("key 0x16 up")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := <-h.Events; got != "key 0x04 up" {
		t.Errorf("told %q at the end", got)
	}
	first.Close()
}

func FuzzSeat(f *testing.F) {
	var seed []byte
	for _, e := range []Event{{evKey, 30, 1}, syn, {evAbs, absX, 77}, {evKey, btnLeft, 1}, {evSyn, synDropped, 0}, {evRel, relX, -9}, syn} {
		seed = append(seed, record(e)...)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		h := &balance{held: map[uint16]bool{}}
		s := &Seat{Hands: h, Size: func() (int, int) { return 640, 480 }}
		s.Add("a", Info{X: Range{-5, 1 << 30}, Y: Range{0, 1}})
		if s.Take("a", parse(b)) {
			s.Held("a", func(code uint16) bool { return code%2 == 0 })
		}
		s.Remove("a")
		if len(h.held) != 0 || h.buttons != 0 || h.outside {
			t.Fatalf("left down: %v, buttons %d, outside %v", h.held, h.buttons, h.outside)
		}
	})
}

// balance are hands that know what is down.
type balance struct {
	backendtest.Hands
	held    map[uint16]bool
	buttons byte
	outside bool
}

func (b *balance) Key(usage uint16, down bool) {
	if down {
		b.held[usage] = true
	} else {
		delete(b.held, usage)
	}
}
func (b *balance) Wheel(int, int) {}
func (b *balance) Pointer(x, y int, buttons byte) {
	b.buttons = buttons
	b.outside = b.outside || x < 0 || y < 0 || x >= 640 || y >= 480
}
