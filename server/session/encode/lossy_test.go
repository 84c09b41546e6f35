package encode

import (
	"image"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hotdesk/protocol/draw"
)

// What is near becomes exact: whatever changed, on whatever terms, and the
// terminal always has what the encoder believes.
func TestNearThenExact(t *testing.T) {
	ops := map[draw.Code]int{}
	rapid.Check(t, func(t *rapid.T) {
		e, err := NewEncoder()
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		m := newModel(t)
		src := draw.NewPixmap(rapid.IntRange(70, 300).Draw(t, "width"), rapid.IntRange(70, 300).Draw(t, "height"))
		side := rapid.SampledFrom([]int{1, 9, 80, 120, 300})
		show := func(v View, terms Terms) {
			v.Picture = src
			m.show(e.EncodeOn(nil, v, terms))
			if rapid.IntRange(0, 3).Draw(t, "look") == 0 {
				m.believed(e)
			}
			if rapid.IntRange(0, 3).Draw(t, "rest") == 0 {
				e.Due() // as who waits asks
				compact(e)
			}
			for code, n := range m.ops {
				ops[code] += n
			}
		}
		terms := Terms{
			Motion: true, First: rapid.Bool().Draw(t, "first"),
			Budget: rapid.SampledFrom([]int{0, 0, 500, 20000}).Draw(t, "budget"),
		}
		var again image.Rectangle
		var under *draw.Pixmap // what something covers
		for range rapid.IntRange(1, 25).Draw(t, "views") {
			var v View
			for range rapid.IntRange(0, 3).Draw(t, "changes") {
				x, y := rapid.IntRange(0, src.W-1).Draw(t, "x"), rapid.IntRange(0, src.H-1).Draw(t, "y")
				r := image.Rect(x, y, x+side.Draw(t, "w"), y+side.Draw(t, "h")).Intersect(src.Bounds())
				kind := rapid.IntRange(0, 9).Draw(t, "kind")
				if kind >= 4 && kind <= 7 && rapid.IntRange(0, 3).Draw(t, "all") > 0 {
					r = src.Bounds()
				}
				switch kind {
				case 0:
					paint(src, r, rapid.Uint32().Draw(t, "colour"))
				case 1:
					text(src, r, rapid.Uint64().Draw(t, "seed"), 3)
				case 2:
					noise(src, r, rapid.Uint64().Draw(t, "seed"))
				case 3: // nothing
				case 4, 5: // something scrolls
					d := image.Pt(rapid.IntRange(-2, 2).Draw(t, "dx"), rapid.IntRange(-20, 20).Draw(t, "dy"))
					if from := r.Add(d).Intersect(src.Bounds()); !from.Empty() {
						shift(src, move{to: from.Sub(d), d: image.Point{}.Sub(d)})
					}
				case 6, 7: // something goes, and what it covered comes
					if under == nil {
						under = draw.NewPixmap(src.W, src.H)
						copy(under.Pix, src.Pix)
						break
					}
					for y := r.Min.Y; y < r.Max.Y; y++ {
						a, b := src.Row(y, r.Min.X, r.Max.X), under.Row(y, r.Min.X, r.Max.X)
						for i := range a {
							a[i], b[i] = b[i], a[i]
						}
					}
				default:
					if !again.Empty() {
						r = again
					}
					again = r
					grain(src, r, rapid.Uint64().Draw(t, "seed"))
				}
				v.Damage = append(v.Damage, r)
			}
			terms.Now += time.Duration(rapid.SampledFrom([]int{0, 16, 40, 40, 40, 200, 2000}).Draw(t, "ms")) * time.Millisecond
			show(v, terms)
		}
		for n := 0; ; n++ {
			at, ok := e.Due()
			if !ok {
				break
			}
			if n > 2000 {
				t.Fatal("it never becomes exact")
			}
			terms.Now = max(terms.Now+16*time.Millisecond, at)
			show(View{}, terms)
		}
		if err := m.differs(src); err != nil {
			t.Fatal(err)
		}
	})
	for _, code := range []draw.Code{draw.Lossy, draw.Copy, draw.Keep, draw.Swap} {
		if ops[code] < 10 && !testing.Short() {
			t.Errorf("only %d of operation %v", ops[code], code)
		}
	}
}

// Exact terms make exact at once what was near.
func TestExactTerms(t *testing.T) {
	e, m := newEncoder(t), newModel(t)
	src := film(200, 150, 1)[0]
	m.show(e.EncodeOn(nil, View{Picture: src}, Terms{First: true}))
	if m.ops[draw.Lossy] == 0 || m.differs(src) == nil {
		t.Fatalf("%v, exact: %v", m.ops, m.differs(src))
	}
	if at, ok := e.Due(); !ok || at != RefineAfter {
		t.Errorf("due %v, %v", at, ok)
	}
	step(t, e, m, View{Picture: src})
	if _, ok := e.Due(); ok {
		t.Error("due, when exact")
	}
}

// grain is a slope with noise, of very many colours.
func grain(p *draw.Pixmap, r image.Rectangle, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 3))
	for y := r.Min.Y; y < r.Max.Y; y++ {
		row := p.Row(y, r.Min.X, r.Max.X)
		for i := range row {
			row[i] = byte(40 + int(seed%50) + i/4*(1+i%4)/4 + y/2 + random.IntN(9))
		}
	}
}

// film is a moving picture: bars that slide over each other, and noise.
func film(w, h, frames int) []*draw.Pixmap {
	r := rand.New(rand.NewPCG(5, 5))
	out := make([]*draw.Pixmap, frames)
	for f := range out {
		p := draw.NewPixmap(w, h)
		for y := range h {
			for x := range w {
				o, n := (y*w+x)*4, float64(r.IntN(9)-4)
				u, v := float64(x+3*f)/40, float64(y-2*f)/30
				for k := range 3 {
					c := 127.5 + 60*math.Sin(u+float64(k)) + 50*math.Cos(v-float64(k)*1.3)
					if (x-4*f+1000)%160 < 40 && y > 100 && y < 220 {
						c = float64(40 + 90*k)
					}
					p.Pix[o+k] = byte(min(max(c+n, 0), 255))
				}
			}
		}
		out[f] = p
	}
	return out
}

// believed fails unless the terminal has what e takes it for, and what is near to
// that where e owes it.
func (m *model) believed(e *Encoder) {
	m.t.Helper()
	e.touch(e.shadow.Bounds())
	has := draw.NewPixmap(m.pic.W, m.pic.H)
	copy(has.Pix, m.pic.Pix)
	for i, c := range e.cells.list {
		if c.owed.Empty() {
			continue
		}
		if !c.near || !e.cells.busy {
			m.t.Fatalf("cell %d owes %v for ever", i, c.owed)
		}
		if d := distance(m.pic, &e.shadow, c.owed); d < 20 && c.owed.Dx()*c.owed.Dy() >= 256 {
			m.t.Fatalf("%v is not near: %.1f dB", c.owed, d)
		}
		for y := c.owed.Min.Y; y < c.owed.Max.Y; y++ {
			copy(has.Row(y, c.owed.Min.X, c.owed.Max.X), e.shadow.Row(y, c.owed.Min.X, c.owed.Max.X))
		}
	}
	if err := (&model{pic: has}).differs(&e.shadow); err != nil {
		m.t.Fatalf("the encoder believes something else: %v", err)
	}
}

// distance is the ratio of the largest value to the error, in decibel.
func distance(a, b *draw.Pixmap, r image.Rectangle) float64 {
	sum := 0.0
	for y := r.Min.Y; y < r.Max.Y; y++ {
		s, q := a.Row(y, r.Min.X, r.Max.X), b.Row(y, r.Min.X, r.Max.X)
		for i := range s {
			if i%4 != 3 {
				d := float64(s[i]) - float64(q[i])
				sum += d * d
			}
		}
	}
	return 10 * math.Log10(255*255*3*float64(r.Dx()*r.Dy())/sum)
}

// A film is near while it plays, few bytes, and exact soon after.
func TestFilm(t *testing.T) {
	const w, h = 640, 360
	frames := film(w, h, 12)
	screen := draw.NewPixmap(800, 600)
	at := image.Rect(100, 100, 100+w, 100+h)
	e, m := newEncoder(t), newModel(t)
	m.show(e.EncodeOn(nil, View{Picture: screen}, Terms{Motion: true}))
	now := time.Duration(0)
	bytes, n, worst := 0, 0, 99.0
	for i, f := range frames {
		for y := range h {
			copy(screen.Row(100+y, at.Min.X, at.Max.X), f.Row(y, 0, w))
		}
		now += time.Second / 24
		b := e.EncodeOn(nil, View{Picture: screen, Damage: []image.Rectangle{at}}, Terms{Now: now, Motion: true})
		m.show(b)
		if at, ok := e.Due(); i >= hotAfter && (!ok || at < now) {
			t.Errorf("frame %d: due at %v, %v: part of the film was not sent", i, at, ok)
		}
		if i >= hotAfter {
			bytes, n, worst = bytes+len(b), n+1, min(worst, distance(m.pic, screen, at))
			if m.ops[draw.Photo] > 0 {
				t.Errorf("frame %d: %v", i, m.ops)
			}
		}
	}
	t.Logf("%d bytes a frame, %.1f dB", bytes/n, worst)
	if bytes/n > 50_000 || worst < 36 {
		t.Errorf("%d bytes a frame at %.1f dB; want 50000 at 36", bytes/n, worst)
	}
	for range 20 {
		due, ok := e.Due()
		if !ok {
			break
		}
		if due > now+RefineAfter {
			t.Fatalf("due %v after the last frame", due-now)
		}
		m.show(e.EncodeOn(nil, View{Picture: screen}, Terms{Now: max(due, now) + 16*time.Millisecond, Motion: true}))
	}
	if err := m.differs(screen); err != nil {
		t.Fatal(err)
	}
}

// Invariant 3, while a film plays.
func TestFilmAllocatesNothing(t *testing.T) {
	frames := film(320, 200, 4)
	e, all := newEncoder(t), []image.Rectangle{image.Rect(0, 0, 320, 200)}
	var buf []byte
	now, i := time.Duration(0), 0
	next := func() {
		now += time.Second / 24
		buf = e.EncodeOn(buf[:0], View{Picture: frames[i%len(frames)], Damage: all}, Terms{Now: now, Motion: true})
		i++
	}
	for range 30 {
		next()
	}
	if n := testing.AllocsPerRun(20, next); n > 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

func BenchmarkFilm(b *testing.B) {
	const w, h = 640, 360
	frames := film(w, h, 24)
	e := newEncoder(b)
	all := []image.Rectangle{image.Rect(0, 0, w, h)}
	now := time.Duration(0)
	var buf []byte
	i := 0
	next := func() {
		now += time.Second / 24
		buf = e.EncodeOn(buf[:0], View{Picture: frames[i%len(frames)], Damage: all}, Terms{Now: now, Motion: true})
		i++
	}
	for range 6 {
		next()
	}
	b.SetBytes(w * h * 4)
	b.ReportAllocs()
	sum := 0
	for b.Loop() {
		next()
		sum += len(buf)
	}
	b.ReportMetric(float64(sum)/float64(b.N), "bytes/frame")
}
