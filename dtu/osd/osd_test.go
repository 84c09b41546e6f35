package osd

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"math"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

var messages = map[string]Message{
	"waiting": {
		Code: 26, Letter: "D", Title: "Connected, waiting for the picture",
		Text:     "The server has answered and is starting your desktop. This takes a few seconds; nothing needs to be done here.",
		Terminal: "00144f577b9a", Addr: "192.168.100.123", Server: "desk1.example.org (192.168.100.2:7443)",
	},
	"denied": {
		Code: 6, Letter: "A", Title: "Access denied",
		Text:     strings.Repeat("This server does not accept this card; ask for it to be registered. ", 5) + "\nPull the card to go back.",
		Terminal: "00144f577b9a", Server: strings.Repeat("a-very-long-host-name.", 8) + "example.org",
	},
	"short": {Title: "Insert your card"},
	"code":  {Code: 48},
}

// sizes are those where nothing may be left out.
var sizes = []image.Point{{X: 640, Y: 480}, {X: 1280, Y: 1024}, {X: 1920, Y: 1080}, {X: 3840, Y: 2160}, {X: 768, Y: 1366}}

func squeeze(s string) string { return strings.Join(strings.Fields(s), "") }

func TestEverythingIsShown(t *testing.T) {
	for name, m := range messages {
		for _, s := range sizes {
			t.Run(fmt.Sprint(name, s), func(t *testing.T) {
				c, ok := fit(s.X, s.Y, clean(m))
				if !ok {
					t.Fatal("no card")
				}
				var all strings.Builder
				for _, l := range c.lines {
					all.WriteString(squeeze(l.text))
				}
				for _, want := range []string{m.code(), m.Letter, m.Title, m.Text, string(m.Terminal), m.Addr, m.Server} {
					if !strings.Contains(squeeze(all.String()), squeeze(want)) {
						t.Errorf("%q is not on the card", want)
					}
				}
				inside(t, c, s)
			})
		}
	}
}

// inside checks that all ink of a card is within it, and it on the screen.
func inside(t interface{ Errorf(string, ...any) }, c composed, screen image.Point) {
	if c.size.X > screen.X || c.size.Y > screen.Y {
		t.Errorf("the card, %v, is larger than the screen, %v", c.size, screen)
	}
	for _, l := range c.lines {
		m := l.face.Metrics()
		box := image.Rect(l.x, l.y-m.CapHeight.Ceil(), l.x+advance(l.face, l.text), l.y+m.Descent.Floor())
		if !box.In(image.Rectangle{Max: c.size}) {
			t.Errorf("%q at %v is not inside a card of %v", l.text, box, c.size)
		}
		if l.x < c.stripe.Max.X {
			t.Errorf("%q is on the stripe", l.text)
		}
	}
}

// Whatever the size and the texts, nothing is cut off and nothing panics.
func TestAnySize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		str := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z]{0,60}( [a-z]{1,12}){0,30}`))
		m := Message{
			Code: rapid.IntRange(0, 99).Draw(t, "code"), Letter: rapid.StringMatching(`[A-D]?`).Draw(t, "letter"),
			Title: str.Draw(t, "title"), Text: str.Draw(t, "text"), Addr: str.Draw(t, "addr"), Server: str.Draw(t, "server"),
		}
		w, h := rapid.IntRange(1, 900).Draw(t, "w"), rapid.IntRange(1, 700).Draw(t, "h")
		if c, ok := fit(w, h, clean(m)); ok {
			inside(t, c, image.Pt(w, h))
		} else if w >= 64 && h >= 64 {
			t.Errorf("no card on %dx%d", w, h)
		}
		if img := Draw(w, h, m); img != nil && (img.Bounds().Min != image.Point{} || img.Bounds().Dx() > w || img.Bounds().Dy() > h) {
			t.Errorf("%v on %dx%d", img.Bounds(), w, h)
		}
	})
}

// The card's corners are round, and there is ink of each text colour.
func TestDraw(t *testing.T) {
	m := messages["waiting"]
	for _, s := range sizes {
		img := Draw(s.X, s.Y, m)
		b := img.Bounds()
		ink := map[color.RGBA]int{}
		for y := range b.Dy() {
			for x := range b.Dx() {
				ink[img.RGBAAt(x, y)]++
			}
		}
		for _, corner := range []image.Point{{}, {b.Max.X - 1, 0}, {0, b.Max.Y - 1}, b.Max.Sub(image.Pt(1, 1))} {
			if px := img.RGBAAt(corner.X, corner.Y); px != Background {
				t.Errorf("%v: %v at the corner %v", s, px, corner)
			}
		}
		for _, colour := range []color.RGBA{card, rule, strong, plain, faint, calm} {
			if ink[colour] < 10 {
				t.Errorf("%v: %d pixels of %v", s, ink[colour], colour)
			}
		}
	}
}

func TestCorner(t *testing.T) {
	m := messages["waiting"]
	small := Corner(m)
	if b := small.Bounds(); b.Min != (image.Point{}) || b.Dx() > cornerWidth || b.Dy() > 120 {
		t.Errorf("notice of %v", b)
	}
	m.Text, m.Server = "", ""
	if !bytes.Equal(Corner(m).Pix, small.Pix) {
		t.Error("a notice shows more than code and title")
	}
	c := compose(cornerEm, cornerWidth, Message{Code: m.Code, Letter: m.Letter, Title: m.Title})
	inside(t, c, c.size)
}

func TestContrast(t *testing.T) {
	for _, c := range []color.RGBA{strong, plain, faint, calm, attention, trouble} {
		if r := contrast(c, card); r < 4.5 {
			t.Errorf("%v on the card: %.2f:1", c, r)
		}
	}
}

// contrast is WCAG 2.1's contrast ratio.
func contrast(a, b color.RGBA) float64 {
	l := func(c color.RGBA) float64 {
		f := func(v uint8) float64 {
			s := float64(v) / 255
			if s <= 0.03928 {
				return s / 12.92
			}
			return math.Pow((s+0.055)/1.055, 2.4)
		}
		return 0.2126*f(c.R) + 0.7152*f(c.G) + 0.0722*f(c.B)
	}
	x, y := l(a), l(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func TestConcurrent(t *testing.T) {
	m := messages["denied"]
	want := Draw(640, 480, m)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if !bytes.Equal(Draw(640, 480, m).Pix, want.Pix) {
				t.Error("another picture")
			}
		})
	}
	wg.Wait()
}

func BenchmarkDraw(b *testing.B) {
	for b.Loop() {
		Draw(1280, 1024, messages["waiting"])
	}
}

// TestWhole: what Draw leaves out on small screens is known.
func TestWhole(t *testing.T) {
	print := strings.Repeat("0123 4567 89ab cdef ", 2)
	m := Message{Code: 15, Title: "Is this your group?", Text: "Compare:\n" + print + "\n" + print, Terminal: "00144f577b9a", Server: "10.0.0.1:7443"}
	for _, s := range sizes {
		if !Whole(s.X, s.Y, m) {
			t.Errorf("not on %v", s)
		}
	}
	fits := false
	for side := 16; side < 400; side++ {
		now := Whole(side, side, m)
		if fits && !now {
			t.Errorf("on %d pixels no more", side)
		}
		fits = now
		c, ok := fit(side, side, clean(m))
		var all strings.Builder
		for _, l := range c.lines {
			all.WriteString(squeeze(l.text))
		}
		if shown := ok && strings.Contains(all.String(), squeeze(m.Text)) && strings.Contains(all.String(), squeeze(m.Title)); shown != now {
			t.Errorf("on %d pixels: %v, shown %v", side, now, shown)
		}
	}
	if !fits || Whole(40, 40, m) {
		t.Error("it fits on the smallest or not at all")
	}
	m.Text = strings.Repeat("x", MaxRunes+1)
	if Whole(3840, 2160, m) {
		t.Error("a text that is cut counts as whole")
	}
}
