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
			for y := range h {
				if !sameRow(e.shadow.Row(y, 0, w), plain.Row(y, 0, w)) {
					t.Fatalf("row %d is another one's", y)
				}
			}
		}
		for range rapid.IntRange(1, 20).Draw(t, "moves") {
			k := rapid.IntRange(1, min(maxTurn, h/2)).Draw(t, "k")
			x0 := rapid.IntRange(0, w-1).Draw(t, "x0")
			x1 := rapid.IntRange(x0+1, w).Draw(t, "x1")
			y0 := rapid.IntRange(0, h-2*k).Draw(t, "y0")
			y1 := rapid.IntRange(y0+2*k, h).Draw(t, "y1")
			m := move{to: image.Rect(x0, y0, x1, y1-k), d: image.Pt(0, -k)}
			if rapid.Bool().Draw(t, "down") {
				m = move{to: image.Rect(x0, y0+k, x1, y1), d: image.Pt(0, k)}
			}
			shift(plain, m)
			e.turn(m)
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

// A window as wide as the screen that scrolls on and on changes rows' places, and
// is exact, also beside what moves as a film does, and packed when it rests.
func TestScrollsInPlace(t *testing.T) {
	const w, h, line = 400, 300, 13
	window, film := image.Rect(2, 20, w-4, h-10), image.Rect(40, 60, 140, 160)
	p, text := page(w, h, 1), page(w, 200*line, 2)
	e, m := newEncoder(t), newModel(t)
	now, turned := time.Duration(0), 0
	show := func(v View) {
		now += time.Second / 60
		v.Picture = p
		m.show(e.EncodeOn(nil, v, Terms{Motion: true, Now: now}))
		if e.shadow.Order != nil {
			turned++
		}
	}
	show(View{})
	scroll := func(n int) {
		for range n {
			scrollIn(p, window, text, int(now*60/time.Second)%190*line, line)
			show(View{Damage: []image.Rectangle{window}})
		}
	}
	rest := func() {
		for range 120 {
			show(View{})
		}
		if _, due := e.Due(); due {
			t.Error("something is due")
		}
		if err := m.differs(p); err != nil {
			t.Error(err)
		}
	}
	scroll(20)
	if turned < 10 {
		t.Errorf("rows changed places in %d Views of 20", turned)
	}
	rest()
	scroll(5)
	for n := range 20 {
		noise(p, film, uint64(n))
		show(View{Damage: []image.Rectangle{film}})
	}
	if e.shadow.Order != nil || e.straightTill <= now {
		t.Error("rows are not in their places beside what moves")
	}
	scroll(5)
	rest()
	for range 100 {
		e.Compact()
	}
	if e.shadow.Order != nil || e.folds.list[0].packed == nil {
		t.Error("what rests is not packed")
	}
	scroll(20)
	rest()
}
