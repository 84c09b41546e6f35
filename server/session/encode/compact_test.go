package encode

import (
	"image"
	"testing"
	"time"

	"hotdesk/protocol/draw"
)

// compact packs all that may be, and spoils the memory that was in: whoever
// looks at it finds what no terminal has.
func compact(e *Encoder) {
	pass(e)
	pass(e)
	for k, f := range e.folds.list {
		if f.packed == nil {
			continue
		}
		rows := e.rows(k)
		for i := range rows {
			rows[i] = byte(i) ^ 0x5a
		}
	}
}

// pass calls Compact till it has seen all, and returns after how long to call it
// again.
func pass(e *Encoder) (again time.Duration) {
	for again = compactSoon; again == compactSoon; {
		again = e.Compact()
	}
	return again
}

// packed counts the folds that are.
func packed(e *Encoder) (n int) {
	for _, f := range e.folds.list {
		if f.packed != nil {
			n++
		}
	}
	return n
}

func TestCompact(t *testing.T) {
	const w, h = 640, 20*foldRows - 5
	e, m := newEncoder(t), newModel(t)
	defer e.Close()
	p := page(w, h, 1)
	noise(p, image.Rect(0, 4*foldRows, w, 5*foldRows), 1)
	step(t, e, m, View{Picture: p})
	if e.Compact() != CompactEvery || packed(e) != 0 {
		t.Fatalf("%d folds are packed that were touched since the call before", packed(e))
	}
	if e.Compact() != compactSoon || packed(e) > foldsAtOnce {
		t.Fatalf("%d folds are packed at once", packed(e))
	}
	if pass(e) != 0 || packed(e) != 19 {
		t.Fatalf("%d of 20 folds are packed, want all but the noise", packed(e))
	}
	if e.Compact() != 0 {
		t.Error("there is more to be packed, and nothing has changed")
	}
	compact(e)
	for _, s := range []struct {
		name string
		do   func() View
		left int // packed folds
	}{
		{"nothing", func() View { return View{} }, 19},
		{"a line in a fold", func() View {
			r := image.Rect(3, foldRows+1, 200, foldRows+9)
			text(p, r, 7, 2)
			return View{Damage: []image.Rectangle{r}}
		}, 18},
		{"the last row", func() View {
			r := image.Rect(0, h-1, w, h)
			paint(p, r, 0x335577)
			return View{Damage: []image.Rectangle{r}}
		}, 17},
		{"it becomes what packed rows were spoilt to", func() View {
			r := image.Rect(0, 8*foldRows, w, 8*foldRows+1)
			row := p.Row(r.Min.Y, 0, w)
			for i := range row {
				row[i] = byte(i) ^ 0x5a
			}
			return View{Damage: []image.Rectangle{r}}
		}, 16},
		{"a part moves from afar", func() View {
			to := image.Rect(0, 2*foldRows, 300, 3*foldRows)
			d := image.Pt(0, -10*foldRows)
			shift(p, move{to: to, d: d})
			return View{Damage: []image.Rectangle{to}, Moved: []image.Point{d}}
		}, 14},
	} {
		v := s.do()
		v.Picture = p
		step(t, e, m, v)
		if n := packed(e); n != s.left {
			t.Errorf("%s: %d folds are packed, want %d", s.name, n, s.left)
		}
	}
	pass(e)
	e.touch(p.Bounds())
	if err := m.differs(&e.shadow); err != nil {
		t.Errorf("the shadow: %v", err)
	}
	compact(e)
	q := draw.NewPixmap(w, h) // another stream
	e.Rest()
	step(t, e, m, View{Picture: q})
}

// BenchmarkCompact packs a desktop, and unpacks the rows of a line of text and
// all of it.
func BenchmarkCompact(b *testing.B) {
	p := desktop()
	e := newEncoder(b)
	defer e.Close()
	e.Encode(nil, View{Picture: p})
	b.Run("pack", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			e.touch(p.Bounds())
			b.StartTimer()
			pass(e)
			pass(e)
		}
		n := 0
		for k, f := range e.folds.list {
			n += len(f.packed)
			if f.packed == nil {
				n += len(e.rows(k))
			}
		}
		b.ReportMetric(float64(n), "B-left")
	})
	for name, r := range map[string]image.Rectangle{"line": image.Rect(60, 130, 70, 143), "all": p.Bounds()} {
		b.Run("touch-"+name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				pass(e)
				pass(e)
				b.StartTimer()
				e.touch(r)
			}
		})
	}
}
