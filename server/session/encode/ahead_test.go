package encode

import (
	"image"
	"testing"

	"pgregory.net/rapid"

	"hotdesk/protocol/draw"
)

// Invariant 4: however often a picture was made in advance and whatever changed
// before it is sent, the terminal gets one frame, which is the last View.
func TestAhead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, err := NewEncoder()
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		m := newModel(t)
		side := rapid.IntRange(1, 300)
		src := draw.NewPixmap(side.Draw(t, "width"), side.Draw(t, "height"))
		cursor := &Cursor{}
		var warp *image.Point
		view := func() View {
			v := View{Picture: src, Cursor: cursor}
			for range rapid.IntRange(0, 3).Draw(t, "changes") {
				x, y := rapid.IntRange(0, src.W-1).Draw(t, "x"), rapid.IntRange(0, src.H-1).Draw(t, "y")
				r := image.Rect(x, y, x+rapid.IntRange(1, src.W).Draw(t, "w"), y+rapid.IntRange(1, src.H).Draw(t, "h")).Intersect(src.Bounds())
				switch rapid.IntRange(0, 5).Draw(t, "kind") {
				case 0:
					src = draw.NewPixmap(side.Draw(t, "width"), side.Draw(t, "height"))
					v.Picture, r = src, src.Bounds()
					soft(src, r, 1)
				case 1:
					noise(src, r, rapid.Uint64().Draw(t, "seed"))
				case 2:
					to := r.Sub(image.Pt(0, r.Min.Y/2))
					shift(src, move{to: to, d: to.Min.Sub(r.Min)})
					r = r.Union(to)
				case 3:
					text(src, r, rapid.Uint64().Draw(t, "seed"), 2)
				default:
					paint(src, r, rapid.SampledFrom([]uint32{0, 0xffffff, 0x204060}).Draw(t, "colour"))
				}
				v.Damage = append(v.Damage, r)
			}
			if rapid.Bool().Draw(t, "cursor") {
				cursor = &Cursor{Serial: cursor.Serial + 1, W: 1, H: 1, Pix: []byte{byte(cursor.Serial), 0, 0, 0}}
				v.Cursor = cursor
			}
			if rapid.IntRange(0, 3).Draw(t, "warp") == 0 {
				v.Warp = new(image.Pt(rapid.IntRange(0, 300).Draw(t, "x"), 0))
				warp = v.Warp
			}
			return v
		}
		for range rapid.IntRange(1, 4).Draw(t, "prepared") {
			if !e.Prepare(view()) || e.Seq() != 0 {
				t.Fatal("no picture was made")
			}
			if rapid.IntRange(0, 3).Draw(t, "rest") == 0 {
				compact(e)
			}
		}
		terms := rapid.SampledFrom([]Terms{{}, {Motion: true}, {Motion: true, First: true}, {Motion: true, Budget: 5000}}).Draw(t, "terms")
		var b []byte
		if rapid.Bool().Draw(t, "opened") {
			if b = e.Open(nil, src.W, src.H, terms); terms.first() && b != nil {
				t.Fatal("what is to be near is sent at once")
			}
		}
		v := view()
		if n := m.show(e.EncodeOn(b, v, terms)); n != 1 || e.Seq() != 1 {
			t.Fatalf("%d frames, the last is %d", n, e.Seq())
		}
		if m.cursor.W != cursor.W || warp != nil && m.warp.X != min(warp.X, src.W-1) {
			t.Fatalf("cursor %+v, pointer at %v; want %+v, %v", m.cursor, m.warp, cursor, warp)
		}
		for range rapid.IntRange(0, 3).Draw(t, "more") { // and so on
			m.warp.X = -1
			warp = nil
			m.show(e.Encode(nil, view()))
			if warp == nil && m.warp.X != -1 {
				t.Fatal("the pointer is moved again")
			}
		}
		m.show(e.Encode(nil, View{Picture: src})) // exact now, if it was near
		if err := m.differs(src); err != nil {
			t.Fatal(err)
		}
	})
}

// What is sent at once of a picture that was made in advance, and when.
func TestOpen(t *testing.T) {
	const w, h = 640, 480
	half := func(p *draw.Pixmap, colour uint32) View {
		paint(p, image.Rect(0, 0, w, h/2), colour)
		return View{Picture: p, Damage: []image.Rectangle{p.Bounds()}}
	}
	noisy := draw.NewPixmap(w, h)
	noise(noisy, noisy.Bounds(), 1)
	for _, c := range []struct {
		name    string
		prepare func(e *Encoder, p *draw.Pixmap)
		w, h    int
		terms   Terms
		sent    bool
	}{
		{"a page", func(*Encoder, *draw.Pixmap) {}, w, h, Terms{Motion: true}, true},
		{"of another size", func(*Encoder, *draw.Pixmap) {}, w, h - 1, Terms{Motion: true}, false},
		{"on a slow link", func(*Encoder, *draw.Pixmap) {}, w, h, Terms{Motion: true, Budget: 4000}, false},
		{"photos nearly", func(*Encoder, *draw.Pixmap) {}, w, h, Terms{First: true}, false},
		{"large", func(e *Encoder, p *draw.Pixmap) {
			p.CopyFrom(noisy, p.Bounds())
			e.Prepare(View{Picture: p, Damage: []image.Rectangle{p.Bounds()}})
		}, w, h, Terms{}, false},
		{"it had changed", func(e *Encoder, p *draw.Pixmap) { e.Prepare(half(p, 1)) }, w, h, Terms{}, false},
		{"it had changed before", func(e *Encoder, p *draw.Pixmap) {
			e.Prepare(half(p, 1))
			e.Prepare(View{Picture: p})
		}, w, h, Terms{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, m, p := newEncoder(t), newModel(t), page(w, h, 1)
			e.Prepare(View{Picture: p})
			c.prepare(e, p)
			b := e.Open(nil, c.w, c.h, c.terms)
			if (b != nil) != c.sent {
				t.Errorf("%d bytes are sent at once", len(b))
			}
			if again := e.Open(nil, c.w, c.h, c.terms); c.sent && again != nil {
				t.Errorf("%d bytes are sent again", len(again))
			}
			// And then it changes by too much.
			if n := m.show(e.EncodeOn(b, half(p, 7), c.terms)); n != 1 {
				t.Errorf("%d frames", n)
			}
			if err := m.differs(p); err != nil {
				t.Fatal(err)
			}
			step(t, e, m, half(p, 9))
		})
	}
}

// What is sent of a picture that was made in advance, and when it is dropped.
func TestAheadIsSent(t *testing.T) {
	const w, h = 640, 480
	for _, c := range []struct {
		name   string
		change func(p *draw.Pixmap) View
		terms  Terms
		kept   bool
	}{
		{"as it is", func(p *draw.Pixmap) View { return View{Picture: p} }, Terms{}, true},
		{"while something may move", func(p *draw.Pixmap) View { return View{Picture: p} }, Terms{Motion: true}, true},
		{"on a slow link", func(p *draw.Pixmap) View { return View{Picture: p} }, Terms{Motion: true, Budget: 4000}, false},
		{"photos nearly", func(p *draw.Pixmap) View { return View{Picture: p} }, Terms{First: true}, false},
		{"a quarter is new", func(p *draw.Pixmap) View {
			paint(p, image.Rect(0, 0, w, h/4), 0x123456)
			text(p, image.Rect(0, 0, w, h/8), 1, 3)
			return View{Picture: p, Damage: []image.Rectangle{p.Bounds()}}
		}, Terms{}, true},
		{"half is new", func(p *draw.Pixmap) View {
			paint(p, image.Rect(0, 0, w, h/2), 0x123456)
			return View{Picture: p, Damage: []image.Rectangle{p.Bounds()}}
		}, Terms{}, false},
		{"another size", func(p *draw.Pixmap) View { return View{Picture: page(w-1, h, 1)} }, Terms{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, m, p := newEncoder(t), newModel(t), page(w, h, 1)
			if !e.Prepare(View{Picture: p}) {
				t.Fatal("no picture was made")
			}
			v := c.change(p)
			m.show(e.EncodeOn(nil, v, c.terms))
			if err := m.differs(v.Picture); err != nil {
				t.Fatal(err)
			}
			fresh := newModel(t)
			fresh.show(newEncoder(t).EncodeOn(nil, View{Picture: v.Picture}, c.terms))
			if got, anew := e.Seq(), m.drawn == fresh.drawn; got != 1 || anew == c.kept && len(v.Damage) > 0 {
				t.Errorf("frame %d draws %d pixels, a new one's %d", got, m.drawn, fresh.drawn)
			}
		})
	}
}

// What is too large is not kept, and what comes then is as if nothing had been.
func TestAheadIsBounded(t *testing.T) {
	p := draw.NewPixmap(1800, 1000)
	noise(p, p.Bounds(), 1)
	e, m := newEncoder(t), newModel(t)
	if e.Prepare(View{Picture: p}) {
		t.Error("noise was kept")
	}
	step(t, e, m, View{Picture: p})
	if e = newEncoder(t); e.Prepare(View{Picture: draw.NewPixmap(2560, 1640)}) {
		t.Error("a very large picture was kept")
	}
	// Memory goes back to those who come next, and is as good as new.
	e = newEncoder(t)
	e.Prepare(View{Picture: page(300, 200, 1)})
	e.Close()
	step(t, newEncoder(t), newModel(t), View{Picture: page(300, 200, 2)})
}

// BenchmarkAhead is the first frame of a terminal that comes when the picture
// has been made, with a line of text that is new.
func BenchmarkAhead(b *testing.B) {
	p := desktop()
	line := page(1084, 13, 3)
	var buf []byte
	for b.Loop() {
		b.StopTimer()
		e := newEncoder(b)
		e.Prepare(View{Picture: p})
		b.StartTimer()
		buf = e.Encode(buf[:0], View{Picture: p, Damage: []image.Rectangle{image.Rect(60, 700, 60+line.W, 700+line.H)}})
		b.StopTimer()
		e.Close()
		b.StartTimer()
	}
	b.ReportMetric(float64(len(buf)), "B/frame")
}
