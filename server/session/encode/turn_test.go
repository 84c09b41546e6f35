package encode

import (
	"image"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hotdesk/protocol/draw"
)

// Rows that change places are what a move in memory would have made, and back in
// their places too.
func TestTurn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := new(Encoder)
		w, h := rapid.IntRange(1, 40).Draw(t, "w"), rapid.IntRange(2, 200).Draw(t, "h")
		e.newCopy(w, h)
		plain := draw.NewPixmap(w, h)
		noise(plain, plain.Bounds(), 1)
		e.shadow.CopyFrom(plain, plain.Bounds())
		check := func() {
			cuts := []int{0, w}
			if e.shadow.Order != nil {
				cuts = []int{0, e.shadow.Left, e.shadow.Right, w}
			}
			for y := range h {
				for i, x0 := range cuts[:len(cuts)-1] {
					if x1 := cuts[i+1]; !sameRow(e.shadow.Row(y, x0, x1), plain.Row(y, x0, x1)) {
						t.Fatalf("row %d is another one's from %d to %d", y, x0, x1)
					}
				}
			}
		}
		for range rapid.IntRange(1, 20).Draw(t, "moves") {
			k := rapid.IntRange(1, min(maxTurn, h/2)).Draw(t, "k")
			left, right := e.shadow.Left, e.shadow.Right
			if e.shadow.Order == nil {
				left = rapid.IntRange(0, w-1).Draw(t, "left")
				right = rapid.IntRange(left+1, w).Draw(t, "right")
			}
			x0 := rapid.IntRange(left, right-1).Draw(t, "x0")
			x1 := rapid.IntRange(x0+1, right).Draw(t, "x1")
			y0 := rapid.IntRange(0, h-2*k).Draw(t, "y0")
			y1 := rapid.IntRange(y0+2*k, h).Draw(t, "y1")
			m := move{to: image.Rect(x0, y0, x1, y1-k), d: image.Pt(0, -k)}
			if rapid.Bool().Draw(t, "down") {
				m = move{to: image.Rect(x0, y0+k, x1, y1), d: image.Pt(0, k)}
			}
			shift(plain, m)
			e.turn(m, left, right)
			check()
			if rapid.IntRange(0, 3).Draw(t, "straighten") == 0 {
				e.straighten()
				check()
			}
		}
		e.straighten()
		check()
		if e.shadow.Order != nil {
			t.Fatal("rows are not in their places")
		}
	})
}

// A window that scrolls on and on changes rows' places, and is exact, also beside
// what changes elsewhere or moves as a film does, where it only scrolls in part, and
// packed when it rests.
func TestScrollsInPlace(t *testing.T) {
	for name, window := range map[string]image.Rectangle{
		"wide":   image.Rect(2, 20, 396, 290),
		"narrow": image.Rect(23, 20, 303, 290),
	} {
		t.Run(name, func(t *testing.T) { scrollsInPlace(t, window) })
	}
}

func scrollsInPlace(t *testing.T, window image.Rectangle) {
	const w, h, line = 400, 300, 13
	film, clock, part := image.Rect(40, 60, 140, 160), image.Rect(0, 0, w, 16), window
	part.Max.X -= 50
	p, text := page(w, h, 1), page(w, 200*line, 2)
	e, m := newEncoder(t), newModel(t)
	now, turned := time.Duration(0), 0
	show := func(damage ...image.Rectangle) {
		now += time.Second / 60
		m.show(e.EncodeOn(nil, View{Picture: p, Damage: damage}, Terms{Motion: true, Now: now}))
		if e.shadow.Order != nil {
			turned++
		}
	}
	rest := func() {
		for range 120 {
			show()
		}
		if _, due := e.Due(); due {
			t.Error("something is due")
		}
		if err := m.differs(p); err != nil {
			t.Error(err)
		}
	}
	scroll := func(n int, what image.Rectangle, also ...image.Rectangle) {
		turned = 0
		for range n {
			scrollIn(p, what, text, int(now*60/time.Second)%190*line, line)
			for _, r := range also {
				p.CopyFrom(page(w, h, uint64(now)), r)
			}
			show(append([]image.Rectangle{window}, also...)...)
		}
	}
	show()
	for range 3 {
		if scroll(20, window); turned < 18 {
			t.Errorf("rows changed places in %d Views of 20", turned)
		}
	}
	// What was beside the part is compared while rows lie elsewhere.
	if scroll(60, part); turned < 55 {
		t.Errorf("of a part, rows changed places in %d Views of 60", turned)
	}
	scroll(5, window, clock)
	rest()
	scroll(5, window)
	for n := range 20 {
		noise(p, film, uint64(n))
		show(film)
	}
	if e.shadow.Order != nil || e.straightTill <= now {
		t.Error("rows are not in their places beside what moves")
	}
	scroll(5, window)
	rest()
	for range 100 {
		e.Compact()
	}
	if e.shadow.Order != nil || e.folds.list[0].packed == nil {
		t.Error("what rests is not packed")
	}
	scroll(20, window)
	show(p.Bounds()) // as after a change of all
	if err := m.differs(p); err != nil {
		t.Error(err)
	}
	rest()
}

// Whatever else happens beside windows that scroll, the picture is exact when it rests.
func TestScrollsAmongAll(t *testing.T) {
	const w, h = 300, 200
	texts := [2]*draw.Pixmap{page(w, h, 1), page(w, h, 2)}
	rect := func(t *rapid.T) image.Rectangle {
		x, y := rapid.IntRange(0, w-60).Draw(t, "x"), rapid.IntRange(0, h-60).Draw(t, "y")
		return image.Rect(x, y, x+rapid.IntRange(1, w-x).Draw(t, "w"), y+rapid.IntRange(1, h-y).Draw(t, "h"))
	}
	rapid.Check(t, func(t *rapid.T) {
		p := draw.NewPixmap(w, h)
		p.CopyFrom(texts[0], p.Bounds())
		e, err := NewEncoder()
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		m, now := newModel(t), time.Duration(0)
		var still []image.Rectangle // what is drawn again and again as it is
		show := func(damage ...image.Rectangle) {
			now += time.Second / 60
			damage = append(damage, still...)
			m.show(e.EncodeOn(nil, View{Picture: p, Damage: damage}, Terms{Motion: true, Now: now}))
		}
		show()
		windows := [2]image.Rectangle{rect(t), rect(t)}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			window, text := windows[rapid.IntRange(0, 1).Draw(t, "window")], texts[rapid.IntRange(0, 1).Draw(t, "text")]
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0: // another window
				windows[0] = rect(t)
			case 1: // something is drawn
				r := rect(t)
				p.CopyFrom(text, r)
				show(r)
			case 2: // a film plays, and stops
				for n := range uint64(6) {
					noise(p, window, n)
					show(window)
				}
				if still = nil; rapid.Bool().Draw(t, "still") {
					still = append(still, window)
				}
			case 3: // it rests for a while
				for range rapid.IntRange(1, 40).Draw(t, "for") {
					show()
				}
				e.Compact()
			case 4: // all may have changed
				show(p.Bounds())
			default:
				line := rapid.IntRange(1, 20).Draw(t, "line")
				if window.Dy() <= line {
					continue
				}
				also := rect(t)
				for n := range rapid.IntRange(1, 8).Draw(t, "lines") * rapid.SampledFrom([]int{1, 1, 1, 1, 10}).Draw(t, "times") {
					scrollIn(p, window, text, n*7%(h-line), line)
					if also.Dx() > w/2 {
						p.CopyFrom(text, also)
						show(window, also)
					} else {
						show(window)
					}
				}
			}
		}
		still = nil
		for range 40 {
			show()
		}
		if err := m.differs(p); err != nil {
			t.Error(err)
		}
	})
}
