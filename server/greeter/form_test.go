package greeter

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/image/font"
)

// loginForm is a form with everything that a form can have.
func loginForm() Form {
	return Form{
		Title:  "Log in to desk-a",
		Notes:  []Note{{Text: "Your password was wrong. Please try again."}, {"Your password will expire in 3 days.", Good}, {"Authentication failure: the name or the password is not right.", Bad}},
		Fields: []Field{{Label: "User name", Max: 64}, {Label: "Password", Secret: true}},
		Choices: []Choice{
			{Label: "Keyboard", Keyboard: true, Options: []Option{{"us", "English (US)"}, {"de", "Deutsch"}, {"fr", "Français"}}},
			{Label: "Language", Options: []Option{{"en_US.UTF-8", "English (United States)"}, {"de_DE.UTF-8", "Deutsch (Deutschland)"}}},
			{Label: "Session", Options: []Option{{"", "Default"}, {"xfce", "Xfce Session"}}},
		},
		Buttons: []string{"Log in", "Cancel"},
	}
}

func press(s *filling, usages ...uint16) (a *Answer) {
	for _, u := range usages {
		if got := s.key(u, true); got != nil {
			a = got
		}
		s.key(u, false)
	}
	return a
}

// sizes of screens that people have.
var sizes = []image.Point{{800, 600}, {1280, 1024}, {3840, 2160}}

// TestFormShots draws forms for people to look at, where HOTDESK_SHOTS names a
// directory, and otherwise checks that they can be drawn.
func TestFormShots(t *testing.T) {
	dir := os.Getenv("HOTDESK_SHOTS")
	for _, size := range sizes {
		s := fill(loginForm(), nil)
		press(s, 4, 0x11, 0x11, keyReturn, 4, 5, 6, 7, keyCaps)
		sh := newSheet(s, "desk-a", size.X, size.Y)
		if dir == "" {
			continue
		}
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("form-%dx%d.png", size.X, size.Y)))
		if err != nil {
			t.Fatal(err)
		}
		if err := png.Encode(f, sh.c.img); err != nil {
			t.Error(err)
		}
		f.Close()
	}
}

// luminance and contrast are as WCAG 2.1 defines them.
func luminance(c color.RGBA) float64 {
	lin := func(v uint8) float64 {
		x := float64(v) / 255
		if x <= 0.04045 {
			return x / 12.92
		}
		return math.Pow((x+0.055)/1.055, 2.4)
	}
	return 0.2126*lin(c.R) + 0.7152*lin(c.G) + 0.0722*lin(c.B)
}

func contrast(a, b color.RGBA) float64 {
	x, y := luminance(a), luminance(b)
	return (math.Max(x, y) + 0.05) / (math.Min(x, y) + 0.05)
}

// variants are forms in all states, with short and very long texts.
func variants() map[string]*filling {
	all := map[string]*filling{"fresh": fill(loginForm(), nil)}
	caps := fill(loginForm(), nil)
	press(caps, 4, keyReturn, 5, keyCaps)
	all["caps"] = caps
	for i := range caps.stops() {
		s := fill(loginForm(), nil)
		s.focus = i
		all[fmt.Sprintf("focus %d", i)] = s
	}
	busy := loginForm()
	busy.Busy = true
	all["busy"] = fill(busy, nil)
	armed := fill(loginForm(), nil)
	armed.armed = 1
	all["armed"] = armed
	long := loginForm()
	long.Notes = []Note{{strings.Repeat("All work and no play. ", 14), Bad}, {strings.Repeat("x", 200), Good}}
	long.Fields[0].Label = strings.Repeat("A prompt that explains itself at length. ", 3)
	long.Choices[2].Options[0].Text = "A desktop of many words and MoreThanOneLongWordInIts Name"
	s := fill(long, nil)
	for range 300 {
		press(s, 0x1A)
	}
	all["long"] = s
	return all
}

// TestFormWhole: nothing is cut off, nothing lies on anything else, every text
// can be read.
func TestFormWhole(t *testing.T) {
	for _, size := range append(sizes, image.Pt(640, 480), image.Pt(1024, 768), image.Pt(1080, 1920)) {
		for name, s := range variants() {
			p := lay(s, size.X, size.Y)
			screen := image.Rect(0, 0, size.X, size.Y)
			paper := area(p.sheet.x0, p.sheet.y0, p.sheet.x1, p.sheet.y1)
			if !paper.In(screen) {
				t.Errorf("%v, %s: the form is at %v", size, name, paper)
			}
			faces := setter{faces: map[faceKey]font.Face{}}
			for i, w := range p.widgets {
				if !w.area.In(paper) {
					t.Errorf("%v, %s: widget %d at %v is not within %v", size, name, i, w.area, paper)
				}
				for j, other := range p.widgets[:i] {
					if w.area.Overlaps(other.area) {
						t.Errorf("%v, %s: widgets %d and %d overlap: %v, %v", size, name, i, j, w.area, other.area)
					}
				}
				for _, m := range w.marks {
					end := m.x1
					if m.text != "" {
						end = m.x0 + faces.width(m.text, m.px, m.heavy)
						if c := contrast(m.col, m.on); c < 4.5 {
							t.Errorf("%s: %q has a contrast of %.2f", name, m.text, c)
						}
						if m.px < smallest {
							t.Errorf("%v, %s: %q is %.1f high", size, name, m.text, m.px)
						}
						if end > m.x1+1.5 {
							t.Errorf("%v, %s: %q ends at %.1f, has room to %.1f", size, name, m.text, end, m.x1)
						}
					}
					if !area(m.x0, m.y0, end-1.5, m.y1).In(w.area) {
						t.Errorf("%v, %s: %q at %v is not within %v", size, name, m.text, area(m.x0, m.y0, end, m.y1), w.area)
					}
				}
			}
		}
	}
	for _, c := range []color.RGBA{bright, soft, faint} { // of the other screens
		for _, on := range []color.RGBA{top, bottom} {
			if got := contrast(c, on); got < 4.5 {
				t.Errorf("%v on %v: %.2f", c, on, got)
			}
		}
	}
}
