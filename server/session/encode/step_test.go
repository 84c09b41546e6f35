package encode

import (
	"image"
	"math"
	"testing"
	"time"

	"hotdesk/protocol/draw"
)

// scrollIn moves what is in the window up by a line, a number of rows, and has the
// next one from rows of text.
func scrollIn(p *draw.Pixmap, window image.Rectangle, text *draw.Pixmap, from, line int) {
	up := image.Pt(0, -line)
	shift(p, move{to: image.Rectangle{window.Min, window.Max.Add(up)}, d: up})
	for y := range line {
		copy(p.Row(window.Max.Y-line+y, window.Min.X, window.Max.X), text.Row(from+y, 0, window.Dx()))
	}
}

// BenchmarkStep is a step of what desktops do most: text that scrolls by a line,
// and a window that is dragged over another. Where the X server is there too,
// its pixels come from another core.
func BenchmarkStep(b *testing.B) {
	const w, h, line = 1280, 1024, 13
	scroll := func(window image.Rectangle) func() func(int) View {
		return func() func(int) View {
			p, text := page(w, h, 1), page(window.Dx(), 100*line, 2)
			p.CopyFrom(page(w, h, 3), window)
			return func(n int) View {
				scrollIn(p, window, text, n%100*line, line)
				return View{Picture: p, Damage: []image.Rectangle{window}}
			}
		}
	}
	for name, start := range map[string]func() (step func(n int) View){
		"scroll": scroll(image.Rect(20, 20, 920, 620)),
		"wide":   scroll(image.Rect(2, 20, w-4, h-4)),
		"drag": func() func(int) View {
			p, front := page(w, h, 1), page(620, 420, 2)
			at := func(n int) image.Point {
				a := 2 * math.Pi * float64(n) / 240
				return image.Pt(int(float64(w-620)/2*(1-math.Cos(a))), int(float64(h-420)/2*(1+math.Sin(2*a))))
			}
			under := put(p, front, at(0))
			return func(n int) View {
				was := image.Rectangle{Max: image.Pt(front.W, front.H)}.Add(at(n))
				now := image.Rectangle{Max: was.Size()}.Add(at(n + 1))
				for y := range under.H {
					copy(p.Row(was.Min.Y+y, was.Min.X, was.Max.X), under.Row(y, 0, under.W))
				}
				under = put(p, front, now.Min)
				return View{Picture: p, Damage: []image.Rectangle{was.Union(now)}, Moved: []image.Point{now.Min.Sub(was.Min)}}
			}
		},
	} {
		b.Run(name, func(b *testing.B) {
			e, step := newEncoder(b), start()
			var buf []byte
			encode := func(n int, v View) {
				buf = e.EncodeOn(buf[:0], v, Terms{Motion: true, Now: time.Duration(n) * time.Second / 60})
			}
			for n := range 480 { // there and back: all that comes was there once
				encode(n, step(n))
			}
			n, bytes := 480, 0
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				v := step(n)
				b.StartTimer()
				encode(n, v)
				bytes += len(buf)
				n++
			}
			b.ReportMetric(float64(bytes)/float64(n-480), "B/frame")
		})
	}
}

// desktop is a busy one: text and a photo.
func desktop() *draw.Pixmap {
	const w, h = 1920, 1080
	p := draw.NewPixmap(w, h)
	paint(p, p.Bounds(), 0x335577)
	p.CopyFrom(page(w, h, 1), image.Rect(60, 60, 1144, 814))
	p.CopyFrom(paper(w, h, 2), image.Rect(1200, 300, 1840, 660))
	return p
}

// BenchmarkFirst is the first frame of a terminal that comes: a desktop with
// text and a photo.
func BenchmarkFirst(b *testing.B) {
	p := desktop()
	var buf []byte
	b.ReportAllocs()
	begin, n := used(b), 0
	for b.Loop() {
		e := newEncoder(b)
		buf = e.Encode(buf[:0], View{Picture: p})
		e.Close()
		n++
	}
	b.ReportMetric((used(b)-begin)/float64(n), "ms-CPU/op")
	b.ReportMetric(float64(len(buf)), "B/frame")
}

// BenchmarkSearch looks in vain for what moved on a screen that is a new one.
func BenchmarkSearch(b *testing.B) {
	const w, h = 1920, 1080
	p := page(w, h, 2)
	e := newEncoder(b)
	e.Encode(nil, View{Picture: page(w, h, 1)})
	all := []image.Rectangle{p.Bounds()}
	b.ReportAllocs()
	for b.Loop() {
		e.restraint, e.fruitless = 0, 0
		e.moves(p, all, nil)
	}
	if len(e.moved) > 0 {
		b.Fatal("something moved")
	}
}

// A photo beside text costs little more than both cost apart: the tiles that
// have some of both.
func TestPhotoBesideText(t *testing.T) {
	const w, h = 640, 320
	left, right := image.Rect(0, 0, 300, h), image.Rect(300, 0, w, h) // inside a tile
	size := func(parts ...image.Rectangle) int {
		p := draw.NewPixmap(w, h)
		for _, r := range parts {
			if r == left {
				p.CopyFrom(page(w, h, 1), r)
			} else {
				p.CopyFrom(paper(w, h, 1), r)
			}
		}
		return step(t, newEncoder(t), newModel(t), View{Picture: p})
	}
	apart, together := size(left)+size(right), size(left, right)
	if together > apart*6/5 {
		t.Errorf("%d bytes, and %d where there is only one of them", together, apart)
	}
}

// The memory of a picture that was shown before shows nowhere.
func TestFirstAfterAnother(t *testing.T) {
	const w, h = 300, 200
	for i, make := range []func(w, h int, seed uint64) *draw.Pixmap{
		paper,
		func(w, h int, _ uint64) *draw.Pixmap { return draw.NewPixmap(w, h) },
		page,
		func(w, h int, _ uint64) *draw.Pixmap {
			p := draw.NewPixmap(w, h)
			paint(p, image.Rect(70, 20, 71, 21), 0xffffff)
			return p
		},
	} {
		e, m, p := newEncoder(t), newModel(t), make(w, h, uint64(i))
		step(t, e, m, View{Picture: p})
		if err := m.differs(p); err != nil {
			t.Errorf("picture %d: %v", i, err)
		}
		paint(p, image.Rect(10, 10, 290, 190), 0)
		step(t, e, m, View{Picture: p, Damage: []image.Rectangle{p.Bounds()}})
		if err := m.differs(p); err != nil {
			t.Errorf("picture %d, changed: %v", i, err)
		}
		e.Close()
	}
}
