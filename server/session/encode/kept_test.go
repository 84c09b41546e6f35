package encode

import (
	"image"
	"testing"

	"hotdesk/protocol/draw"
)

// desk is a screen with something everywhere, and a window of that size.
func desk(size image.Point) (p, window *draw.Pixmap) {
	p, window = draw.NewPixmap(640, 480), draw.NewPixmap(size.X, size.Y)
	noise(p, p.Bounds(), 1)
	text(window, window.Bounds(), 2, 2)
	return p, window
}

// put draws a window on p, and returns what was there.
func put(p, window *draw.Pixmap, at image.Point) (under *draw.Pixmap) {
	under = draw.NewPixmap(window.W, window.H)
	for y := range window.H {
		row := p.Row(at.Y+y, at.X, at.X+window.W)
		copy(under.Row(y, 0, under.W), row)
		copy(row, window.Row(y, 0, window.W))
	}
	return under
}

// A window is dragged over what was not shown before it came, and over what was.
func TestDrag(t *testing.T) {
	p, window := desk(image.Pt(200, 150))
	e, m := newEncoder(t), newModel(t)
	step(t, e, m, View{Picture: p})
	at, d := image.Pt(50, 60), image.Pt(4, 3)
	r := window.Bounds()
	under := put(p, window, at)
	step(t, e, m, View{Picture: p, Damage: []image.Rectangle{r.Add(at)}})
	if m.ops[draw.Keep] != 1 {
		t.Errorf("a window came: %v", m.ops)
	}
	for range rounds(60) {
		put(p, under, at)
		old := at
		at = at.Add(d)
		under = put(p, window, at)
		n := step(t, e, m, View{Picture: p, Damage: []image.Rectangle{r.Add(old).Union(r.Add(at))}, Moved: []image.Point{d}})
		if m.ops[draw.Copy] != 1 || m.ops[draw.Keep] != 2 || m.ops[draw.Swap] != 2 || n > 80 {
			t.Fatalf("at %v: %v, %d bytes", at, m.ops, n)
		}
	}
}

// A menu opens, closes and opens again.
func TestMenu(t *testing.T) {
	p, menu := desk(image.Pt(120, 200))
	e, m := newEncoder(t), newModel(t)
	step(t, e, m, View{Picture: p})
	at := image.Pt(33, 44)
	damage := []image.Rectangle{menu.Bounds().Add(at)}
	under := put(p, menu, at)
	step(t, e, m, View{Picture: p, Damage: damage})
	for i := range 6 {
		put(p, []*draw.Pixmap{under, menu}[i%2], at)
		n := step(t, e, m, View{Picture: p, Damage: damage})
		if m.ops[draw.Swap] != 1 || len(m.ops) != 1 || n > 40 {
			t.Errorf("time %d: %v, %d bytes", i, m.ops, n)
		}
	}
}

// What is drawn over the same place again and again is not put by each time.
func TestVideoIsNotKept(t *testing.T) {
	p, film := desk(image.Pt(160, 120))
	e, m := newEncoder(t), newModel(t)
	step(t, e, m, View{Picture: p})
	kept := 0
	for i := range rounds(100) {
		noise(film, film.Bounds(), uint64(i))
		put(p, film, image.Pt(5, 6))
		step(t, e, m, View{Picture: p, Damage: []image.Rectangle{film.Bounds().Add(image.Pt(5, 6))}})
		kept += m.ops[draw.Keep]
	}
	if kept == 0 || kept > 4 {
		t.Errorf("kept %d times", kept)
	}
}

func TestMinus(t *testing.T) {
	a := image.Rect(10, 10, 20, 20)
	for _, b := range []image.Rectangle{
		{}, a, image.Rect(0, 0, 15, 15), image.Rect(12, 12, 18, 18), image.Rect(0, 12, 30, 14), image.Rect(12, 0, 14, 30), image.Rect(30, 30, 40, 40),
	} {
		covered := map[image.Point]int{}
		for _, r := range minus(a, b) {
			for y := r.Min.Y; y < r.Max.Y; y++ {
				for x := r.Min.X; x < r.Max.X; x++ {
					covered[image.Pt(x, y)]++
				}
			}
		}
		for y := range 50 {
			for x := range 50 {
				p, want := image.Pt(x, y), 0
				if p.In(a) && !p.In(b) {
					want = 1
				}
				if covered[p] != want {
					t.Fatalf("%v without %v has %v %d times", a, b, p, covered[p])
				}
			}
		}
	}
}
