package greeter

import (
	"image"
	"image/color"
	"math"
	"strings"
	"unicode/utf8"

	"golang.org/x/image/font"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

// Colours of forms, besides those of all screens.
var (
	sheetColour = color.RGBA{0x23, 0x32, 0x42, 0xff} // what the form is written on
	well        = color.RGBA{0x0c, 0x13, 0x1b, 0xff} // of a field
	plate       = color.RGBA{0x3a, 0x4d, 0x60, 0xff} // of a button
	ring        = color.RGBA{0x4b, 0x5f, 0x73, 0xff} // round what has no focus
	ink         = color.RGBA{0x08, 0x16, 0x1c, 0xff} // on accent
	alarm       = color.RGBA{0xf5, 0xb0, 0x86, 0xff}
	fine        = color.RGBA{0x9f, 0xdc, 0xe8, 0xff}
)

// smallest is the least size of letters, in pixels.
const smallest = 11

// A mark is one shape or line of text, in pixels.
type mark struct {
	x0, y0, x1, y1 float64
	round          float64
	col            color.RGBA
	text           string // "": a shape of col
	on             color.RGBA
	px             float64
	heavy          bool
}

// A widget is a part of the form that is drawn on its own. Rectangles of two
// never overlap, and nothing is drawn outside.
type widget struct {
	area  image.Rectangle
	marks []mark
	stop  int // its place in the order of the focus, -1 for none
}

// A plan is where everything of a form is.
type plan struct {
	sheet   mark
	widgets []widget
}

// at returns the stop at a point and which half of it, -1 for none.
func (p *plan) at(x, y int) (stop, part int) {
	for _, w := range p.widgets {
		if w.stop >= 0 && image.Pt(x, y).In(w.area) {
			if x < (w.area.Min.X+w.area.Max.X)/2 {
				return w.stop, -1
			}
			return w.stop, 1
		}
	}
	return -1, 1
}

// A setter sets a form's widgets one below the other.
type setter struct {
	s       *filling
	u       float64
	x0, x1  float64 // of what is written
	y       float64
	widgets []widget
	shrink  float64 // on lengths that may give way
	faces   map[faceKey]font.Face
}

type faceKey struct {
	px    float64
	heavy bool
}

func (t *setter) face(px float64, heavy bool) font.Face {
	k := faceKey{px, heavy}
	if f, ok := t.faces[k]; ok {
		return f
	}
	f := newFace(px, heavy)
	t.faces[k] = f
	return f
}

func newFace(px float64, heavy bool) font.Face {
	regular, medium := fonts()
	f := regular
	if heavy {
		f = medium
	}
	face, err := opentype.NewFace(f, &opentype.FaceOptions{Size: px, DPI: 72, Hinting: font.HintingNone})
	if err != nil {
		panic("greeter: " + err.Error()) // only for a size that is no size
	}
	return face
}

// size is a size of letters.
func (t *setter) size(units float64) float64 { return math.Max(units*t.u, smallest) }

func (t *setter) width(s string, px float64, heavy bool) float64 {
	return float64(font.MeasureString(t.face(px, heavy), s)) / 64
}

func (t *setter) lines(s string, px float64, heavy bool, width float64) []string {
	d := font.Drawer{Face: t.face(px, heavy)}
	return wrap(&d, printable(s), fixed.Int26_6(width*64))
}

// printable leaves out what would draw as something else.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s)
}

// leading is the distance of two lines, in sizes of letters.
const leading = 1.35

// area is a rectangle of whole pixels.
func area(x0, y0, x1, y1 float64) image.Rectangle {
	return image.Rect(int(math.Floor(x0)), int(math.Floor(y0)), int(math.Ceil(x1)), int(math.Ceil(y1)))
}

// block writes lines from t.y on and returns their marks.
func (t *setter) block(lines []string, px float64, col, on color.RGBA, heavy bool) []mark {
	var marks []mark
	for _, l := range lines {
		marks = append(marks, mark{x0: t.x0, y0: t.y, x1: t.x1, y1: t.y + px*leading, col: col, on: on, text: l, px: px, heavy: heavy})
		t.y += px * leading
	}
	return marks
}

// words is a widget of nothing but text.
func (t *setter) words(s string, units float64, col color.RGBA, heavy bool) {
	px, from := t.size(units), t.y
	marks := t.block(t.lines(s, px, heavy, t.x1-t.x0), px, col, sheetColour, heavy)
	t.widgets = append(t.widgets, widget{area(t.x0, from, t.x1, t.y), marks, -1})
}

// box is a filled rectangle with a border.
func (t *setter) box(x0, y0, x1, y1 float64, focus bool, inside color.RGBA) []mark {
	line, col := math.Max(1, 0.18*t.u), ring
	if focus {
		line, col = math.Max(2, 0.42*t.u), accent
	}
	line, r := math.Round(line), math.Round(1.1*t.u)
	x0, y0, x1, y1 = math.Round(x0), math.Round(y0), math.Round(x1), math.Round(y1)
	return []mark{
		{x0: x0, y0: y0, x1: x1, y1: y1, round: r, col: col},
		{x0: x0 + line, y0: y0 + line, x1: x1 - line, y1: y1 - line, round: r - line, col: inside},
	}
}

func (t *setter) field(i int) {
	f, v, from := t.s.form.Fields[i], t.s.values[i], t.y
	px := t.size(2.1)
	marks := t.block(t.lines(f.Label, px, false, t.x1-t.x0), px, soft, sheetColour, false)
	t.y += 0.5 * t.u
	focus := t.s.focus == i && !t.s.form.Busy
	high := math.Max(6*t.u*t.shrink, t.size(2.9)*1.7)
	top, bottom := t.y, t.y+high
	marks = append(marks, t.box(t.x0, top, t.x1, bottom, focus, well)...)
	marks = append(marks, t.line(v, t.s.caret[i], f.Secret, focus, top, bottom)...)
	t.y = bottom
	if f.Secret && t.s.lastSecret() == i { // its room is there whether it is lit or not
		px := t.size(2)
		t.y += 0.5 * t.u
		y := t.y
		if t.s.capsHint() {
			marks = append(marks, t.block([]string{"Caps Lock is on."}, px, alarm, sheetColour, false)...)
		}
		t.y = y + px*leading
	}
	t.widgets = append(t.widgets, widget{area(t.x0, from, t.x1, t.y), marks, i})
}

// lastSecret is the last field whose text is hidden.
func (s *filling) lastSecret() int {
	last := -1
	for i, f := range s.form.Fields {
		if f.Secret {
			last = i
		}
	}
	return last
}

// line is the text of a field with its caret; of one that is too long the part
// round the caret.
func (t *setter) line(v []byte, caret int, secret, focus bool, top, bottom float64) []mark {
	px := t.size(2.9)
	shown, before := string(v), string(v[:caret])
	if secret {
		shown, before = strings.Repeat("•", utf8.RuneCount(v)), strings.Repeat("•", utf8.RuneCount(v[:caret]))
	}
	gap := math.Max(1.6*t.u, 4)
	x0, x1 := t.x0+gap, t.x1-gap
	for t.width(before, px, false) > x1-x0-2 { // characters leave on the left
		_, n := utf8.DecodeRuneInString(before)
		before, shown = before[n:], shown[n:]
	}
	for t.width(shown, px, false) > x1-x0 {
		_, n := utf8.DecodeLastRuneInString(shown)
		shown = shown[:len(shown)-n]
	}
	y := (top+bottom)/2 - px*leading/2
	var marks []mark
	if shown != "" {
		marks = append(marks, mark{x0: x0, y0: y, x1: x1, y1: y + px*leading, col: bright, on: well, text: shown, px: px})
	}
	if focus {
		x := math.Round(x0 + t.width(before, px, false))
		marks = append(marks, mark{x0: x, y0: math.Round(y + 0.1*px), x1: x + math.Max(1, math.Round(0.25*t.u)), y1: math.Round(y + 1.25*px), col: accent})
	}
	return marks
}

// choices are beside each other where they have room.
func (t *setter) choices() {
	n := len(t.s.form.Choices)
	if n == 0 {
		return
	}
	px, label, gap := t.size(2.2), t.size(1.9), 2*t.u
	columns := n
	for columns > 1 && (t.x1-t.x0-float64(columns-1)*gap)/float64(columns) < 10*px {
		columns--
	}
	wide := (t.x1 - t.x0 - float64(columns-1)*gap) / float64(columns)
	arrow := 1.4 * px
	for from := 0; from < n; from += columns {
		if from > 0 {
			t.y += 1.2 * t.u * t.shrink
		}
		row := t.s.form.Choices[from:min(n, from+columns)]
		head, rows := 1, 1
		for _, c := range row {
			head = max(head, len(t.lines(c.Label, label, false, wide)))
			for _, o := range c.Options {
				rows = max(rows, len(t.lines(o.Text, px, false, wide-2*arrow-1)))
			}
		}
		top := t.y + float64(head)*label*leading + 0.4*t.u
		bottom := top + float64(rows)*px*leading + math.Max(1.8*t.u*t.shrink, 4)
		for k, c := range row {
			i := from + k
			x0 := t.x0 + float64(k)*(wide+gap)
			x1 := x0 + wide
			col := setter{s: t.s, u: t.u, x0: x0, x1: x1, y: t.y, faces: t.faces}
			marks := col.block(col.lines(c.Label, label, false, wide), label, soft, sheetColour, false)
			stop := len(t.s.values) + i
			marks = append(marks, t.box(x0, top, x1, bottom, t.s.focus == stop && !t.s.form.Busy, well)...)
			mid := (top+bottom)/2 - px*leading/2
			marks = append(marks,
				mark{x0: x0 + 0.5*px, y0: mid, x1: x0 + arrow, y1: mid + px*leading, col: fine, on: well, text: "‹", px: px, heavy: true},
				mark{x0: x1 - px, y0: mid, x1: x1, y1: mid + px*leading, col: fine, on: well, text: "›", px: px, heavy: true})
			lines := t.lines(c.Options[t.s.chosen[i]].Text, px, false, wide-2*arrow-1)
			y := (top+bottom)/2 - float64(len(lines))*px*leading/2
			for _, l := range lines {
				x := (x0 + x1 - t.width(l, px, false)) / 2
				marks = append(marks, mark{x0: x, y0: y, x1: x1 - arrow, y1: y + px*leading, col: bright, on: well, text: l, px: px})
				y += px * leading
			}
			t.widgets = append(t.widgets, widget{area(x0, t.y, x1, bottom), marks, stop})
		}
		t.y = bottom
	}
}

// buttons stand on the right, the first outermost; each gets its own line
// where they have no room.
func (t *setter) buttons() {
	px := t.size(2.4)
	gap, inside := 2*t.u, math.Max(3*t.u, 8)
	high := math.Max(5.4*t.u*t.shrink, px*1.7)
	x, first := t.x1, len(t.s.values)+len(t.s.chosen)
	for i, label := range t.s.form.Buttons {
		label = printable(label)
		wide := math.Min(t.width(label, px, true)+2*inside, t.x1-t.x0)
		if x-wide < t.x0 {
			x = t.x1
			t.y += high + 1.2*t.u*t.shrink
		}
		focus := t.s.focus == first+i && !t.s.form.Busy
		back, front := plate, bright
		if i == 0 && !t.s.form.Busy {
			back, front = accent, ink
		}
		if t.s.armed == i {
			back, front = fine, ink
		}
		line := back
		if focus {
			line = bright
		}
		x0, y0, x1, y1 := math.Round(x-wide), math.Round(t.y), math.Round(x), math.Round(t.y+high)
		b, r := math.Round(math.Max(2, 0.42*t.u)), math.Round(1.1*t.u)
		marks := []mark{
			{x0: x0, y0: y0, x1: x1, y1: y1, round: r, col: line},
			{x0: x0 + b, y0: y0 + b, x1: x1 - b, y1: y1 - b, round: r - b, col: back},
		}
		text := t.lines(label, px, true, wide-2*b)
		y := (y0+y1)/2 - float64(len(text))*px*leading/2
		for _, l := range text {
			marks = append(marks, mark{x0: (x0 + x1 - t.width(l, px, true)) / 2, y0: y, x1: x1, y1: y + px*leading, col: front, on: back, text: l, px: px, heavy: true})
			y += px * leading
		}
		t.widgets = append(t.widgets, widget{area(x0, y0, x1, y1), marks, first + i})
		x -= wide + gap
	}
	t.y += high
}

// lay plans a form on a screen of w by h pixels: as large as the screen
// suggests, and smaller until it fits.
func lay(s *filling, w, h int) plan {
	faces := map[faceKey]font.Face{}
	defer func() {
		for _, f := range faces {
			f.Close()
		}
	}()
	W, H := float64(w), float64(h)
	u, shrink := math.Min(W*0.75, H)/100, 1.0
	for try := 0; ; try++ {
		margin := 5 * u * shrink
		wide := math.Min(84*u, W-2)
		left := math.Round((W - wide) / 2)
		if try >= 6 { // letters are as small as may be: use the whole width
			wide, left = W-2, 1
		}
		t := setter{s: s, u: u, x0: left + margin, x1: left + wide - margin, shrink: shrink, faces: faces}
		t.y = margin
		t.words(s.form.Title, 4.4, bright, true)
		for _, n := range s.form.Notes {
			t.y += 1.2 * u * shrink
			switch n.Tone {
			case Bad:
				t.words(n.Text, 2.4, alarm, true)
			case Good:
				t.words(n.Text, 2.4, fine, false)
			default:
				t.words(n.Text, 2.4, soft, false)
			}
		}
		for i := range s.form.Fields {
			t.y += 2 * u * shrink
			t.field(i)
		}
		if len(s.form.Choices) > 0 {
			t.y += 2 * u * shrink
			t.choices()
		}
		t.y += 2.6 * u * shrink
		t.buttons()
		t.y += margin
		const foot = 0.08 // of the screen, for the host's name
		room := H * (1 - 2*foot)
		if try >= 6 {
			room = H
		}
		if t.y <= room || try == 16 {
			dy := math.Round(math.Max(0, (H-t.y)/2))
			p := plan{sheet: mark{x0: left, y0: dy, x1: left + wide, y1: dy + t.y, round: math.Round(2 * u), col: sheetColour}}
			for _, wi := range t.widgets {
				wi.area = wi.area.Add(image.Pt(0, int(dy)))
				for i := range wi.marks {
					wi.marks[i].y0 += dy
					wi.marks[i].y1 += dy
				}
				p.widgets = append(p.widgets, wi)
			}
			return p
		}
		u *= 0.9
		shrink *= 0.88
	}
}
