package encode

import (
	"bytes"
	"image"
	"math/bits"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"hotdesk/protocol/draw"
)

// rounds is how often a test does something over and over: n times, and a fifth of
// that in -short, which is what the race detector sees of this package in CI.
func rounds(n int) int {
	if testing.Short() {
		return n / 5
	}
	return n
}

func newEncoder(t testing.TB) *Encoder {
	e, err := NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func paint(p *draw.Pixmap, r image.Rectangle, c uint32) {
	for y := r.Min.Y; y < r.Max.Y; y++ {
		b := p.Row(y, r.Min.X, r.Max.X)
		for i := 0; i < len(b); i += 4 {
			b[i], b[i+1], b[i+2] = byte(c), byte(c>>8), byte(c>>16)
		}
	}
}

func noise(p *draw.Pixmap, r image.Rectangle, seed uint64) {
	s := rand.New(rand.NewPCG(seed, 0))
	for y := r.Min.Y; y < r.Max.Y; y++ {
		b := p.Row(y, r.Min.X, r.Max.X)
		for i := range b {
			b[i] = byte(s.Uint32())
		}
	}
}

// Invariant 1, for arbitrary changes, damage, sizes, cursors and warps: what
// was damaged is the source's, what was not is as it was before.
func TestEncodeDecode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, err := NewEncoder()
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		m := newModel(t)
		side := rapid.IntRange(1, 200)
		rect := func(p *draw.Pixmap) image.Rectangle {
			x, y := rapid.IntRange(0, p.W-1).Draw(t, "x"), rapid.IntRange(0, p.H-1).Draw(t, "y")
			w, h := rapid.IntRange(1, p.W).Draw(t, "w"), rapid.IntRange(1, p.H).Draw(t, "h")
			return image.Rect(x, y, x+w, y+h).Intersect(p.Bounds())
		}
		colour := rapid.SampledFrom([]uint32{0, 0xffffff, 0x204060, 0x204061})
		src := draw.NewPixmap(side.Draw(t, "width"), side.Draw(t, "height"))
		shown := draw.NewPixmap(src.W, src.H) // what the terminal must show
		before := draw.NewPixmap(1, 1)
		var cursor *Cursor
		for range rapid.IntRange(1, 12).Draw(t, "views") {
			v := View{Cursor: cursor}
			sized := e.Seq() == 0
			for range rapid.IntRange(0, 4).Draw(t, "changes") {
				r := rect(src)
				switch rapid.IntRange(0, 10).Draw(t, "kind") {
				case 9, 10: // what was there before some change
					if before.W == src.W && before.H == src.H {
						src.CopyFrom(before, r)
						break
					}
					before = draw.NewPixmap(src.W, src.H)
					before.CopyFrom(src, src.Bounds())
				case 0:
					noise(src, r, rapid.Uint64().Draw(t, "seed"))
				case 1:
					src.Row(r.Min.Y, r.Min.X, r.Max.X)[3] ^= 0xff // does not count
				case 2:
					src = draw.NewPixmap(side.Draw(t, "width"), side.Draw(t, "height"))
					shown, sized = draw.NewPixmap(src.W, src.H), true
					r = rect(src)
					paint(src, r, colour.Draw(t, "colour"))
				case 3: // moves
					to := rect(src)
					r.Max = r.Min.Add(image.Pt(min(r.Dx(), to.Dx()), min(r.Dy(), to.Dy())))
					shift(src, move{to: image.Rectangle{Min: to.Min, Max: to.Min.Add(r.Size())}, d: to.Min.Sub(r.Min)})
					r = r.Union(image.Rectangle{Min: to.Min, Max: to.Min.Add(r.Size())})
				case 4: // text, of a few colours or many
					n := rapid.SampledFrom([]int{2, 3, 5, 17, 300}).Draw(t, "colours")
					text(src, r, rapid.Uint64().Draw(t, "seed"), n)
				case 5: // a soft photo
					soft(src, r, rapid.Uint64().Draw(t, "seed"))
				default:
					paint(src, r, colour.Draw(t, "colour"))
				}
				switch rapid.IntRange(0, 3).Draw(t, "damage") {
				case 0: // forgotten
				case 1:
					v.Damage = append(v.Damage, src.Bounds().Inset(-3))
				default:
					v.Damage = append(v.Damage, r)
				}
			}
			if rapid.IntRange(0, 3).Draw(t, "cursor") == 0 {
				cursor = &Cursor{Serial: rapid.Uint32Range(0, 3).Draw(t, "serial")}
				if cursor.Serial > 0 {
					cursor.W, cursor.H, cursor.HotX = int(cursor.Serial), 2, int(cursor.Serial)-1
					cursor.Pix = bytes.Repeat([]byte{byte(cursor.Serial)}, cursor.W*cursor.H*4)
				}
				v.Cursor = cursor
			}
			if rapid.IntRange(0, 3).Draw(t, "warp") == 0 {
				v.Warp = new(image.Pt(rapid.IntRange(-1, 300).Draw(t, "x"), rapid.IntRange(-1, 300).Draw(t, "y")))
			}
			for range rapid.IntRange(0, 2).Draw(t, "hints") {
				v.Moved = append(v.Moved, image.Pt(rapid.IntRange(-300, 300).Draw(t, "x"), rapid.IntRange(-300, 300).Draw(t, "y")))
			}
			v.Picture = src
			if sized { // the whole picture, whatever damage says
				v.Damage = append(v.Damage, src.Bounds())
			}
			for _, r := range v.Damage {
				r = r.Intersect(src.Bounds())
				for y := r.Min.Y; y < r.Max.Y; y++ {
					copy(shown.Row(y, r.Min.X, r.Max.X), src.Row(y, r.Min.X, r.Max.X))
				}
			}
			prefix := []byte("prefix")
			b := e.Encode(prefix, v)
			if !bytes.HasPrefix(b, prefix) {
				t.Fatal("the prefix is gone")
			}
			m.show(b[len(prefix):])
			if m.seq != e.Seq() {
				t.Fatalf("Seq is %d, the last frame's is %d", e.Seq(), m.seq)
			}
			if err := m.differs(shown); err != nil {
				t.Fatal(err)
			}
			if cursor != nil && (m.cursor.W != cursor.W || !bytes.Equal(m.cursor.Pix, cursor.Pix)) {
				t.Fatalf("cursor %+v, want %+v", m.cursor, cursor)
			}
			if v.Warp != nil {
				if want := image.Pt(min(max(v.Warp.X, 0), m.pic.W-1), min(max(v.Warp.Y, 0), m.pic.H-1)); m.warp != want {
					t.Fatalf("pointer at %v, want %v", m.warp, want)
				}
			}
			if rapid.IntRange(0, 3).Draw(t, "rest") == 0 {
				compact(e)
			}
			// Invariant 2: the same once more is nothing.
			v.Warp = nil
			if b := e.Encode(nil, v); len(b) > 0 {
				t.Fatalf("%d bytes for no change", len(b))
			}
		}
	})
}

func TestFirstFrame(t *testing.T) {
	e, m := newEncoder(t), newModel(t)
	p := draw.NewPixmap(300, 200)
	if n := step(t, e, m, View{Picture: p}); n == 0 || m.ops[draw.Size] != 1 {
		t.Errorf("%d bytes, operations %v", n, m.ops)
	}
	e, m = newEncoder(t), newModel(t)
	noise(p, p.Bounds(), 1)
	step(t, e, m, View{Picture: p}) // without any damage
	if n := step(t, e, m, View{Picture: p}); n != 0 {
		t.Errorf("%d bytes for no change", n)
	}
}

// What areas changes are cut into.
func TestAreas(t *testing.T) {
	for _, c := range []struct {
		name      string
		change    func(*draw.Pixmap)
		damage    image.Rectangle
		fill, set int // SET, PALETTE or PHOTO
		drawn     int
	}{
		{"one pixel", func(p *draw.Pixmap) { paint(p, image.Rect(100, 100, 101, 101), 1) }, image.Rect(0, 0, 640, 480), 1, 0, 1},
		{"a window's ground", func(p *draw.Pixmap) { paint(p, image.Rect(50, 50, 550, 400), 0xffffff) }, image.Rect(50, 50, 550, 400), 1, 0, 500 * 350},
		{"a window's ground in wide damage", func(p *draw.Pixmap) { paint(p, image.Rect(64, 64, 512, 400), 0xffffff) }, image.Rect(0, 0, 640, 480), 1, 0, 448 * 336},
		{"a photo", func(p *draw.Pixmap) { noise(p, image.Rect(100, 100, 420, 340), 1) }, image.Rect(100, 100, 420, 340), 0, 4, 320 * 240},
		{"two letters far apart", func(p *draw.Pixmap) {
			noise(p, image.Rect(10, 10, 16, 23), 1)
			noise(p, image.Rect(600, 10, 606, 23), 2)
		}, image.Rect(0, 10, 640, 23), 0, 2, 2 * 6 * 13},
		{"two letters side by side", func(p *draw.Pixmap) { noise(p, image.Rect(60, 10, 72, 23), 1) }, image.Rect(0, 10, 640, 23), 0, 1, 12 * 13},
		{"bytes that do not count", func(p *draw.Pixmap) { p.Pix[3] = 7 }, image.Rect(0, 0, 640, 480), 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, m := newEncoder(t), newModel(t)
			p := draw.NewPixmap(640, 480)
			step(t, e, m, View{Picture: p})
			m.ops, m.drawn = nil, 0
			c.change(p)
			step(t, e, m, View{Picture: p, Damage: []image.Rectangle{c.damage}})
			set := m.ops[draw.Set] + m.ops[draw.Palette] + m.ops[draw.Photo]
			if m.ops[draw.Fill] != c.fill || set != c.set || m.drawn != c.drawn {
				t.Errorf("%d FILL, %d SET, %d pixels; want %d, %d, %d", m.ops[draw.Fill], set, m.drawn, c.fill, c.set, c.drawn)
			}
		})
	}
}

func TestCursor(t *testing.T) {
	e, m := newEncoder(t), newModel(t)
	p := draw.NewPixmap(64, 64)
	big := make([]byte, 300*2*4)
	for i := range big {
		big[i] = byte(i / 4 % 300)
	}
	for _, c := range []struct {
		name   string
		cursor *Cursor
		w, h   int
		hot    image.Point
		sent   bool
	}{
		{"none known", nil, 0, 0, image.Point{}, true}, // the first frame
		{"hidden", &Cursor{Serial: 7}, 0, 0, image.Point{}, true},
		{"the same", &Cursor{Serial: 7}, 0, 0, image.Point{}, false},
		{"an arrow", &Cursor{Serial: 8, HotX: 1, HotY: 1, W: 2, H: 3, Pix: make([]byte, 24)}, 2, 3, image.Pt(1, 1), true},
		{"none known any more", nil, 2, 3, image.Pt(1, 1), false},
		{"hot spot outside", &Cursor{Serial: 9, HotX: 5, HotY: -1, W: 2, H: 3, Pix: make([]byte, 24)}, 2, 3, image.Pt(1, 0), true},
		{"too wide", &Cursor{Serial: 10, HotX: 290, W: 300, H: 2, Pix: big}, 256, 2, image.Pt(255, 0), true},
		{"pixels missing", &Cursor{Serial: 11, W: 3, H: 3, Pix: make([]byte, 35)}, 0, 0, image.Point{}, true},
	} {
		n := step(t, e, m, View{Picture: p, Cursor: c.cursor})
		if n > 0 != c.sent || m.cursor.W != c.w || m.cursor.H != c.h || image.Pt(m.cursor.X, m.cursor.Y) != c.hot {
			t.Errorf("%s: %d bytes, %dx%d, hot spot %d,%d", c.name, n, m.cursor.W, m.cursor.H, m.cursor.X, m.cursor.Y)
		}
		if c.w == 256 && (m.cursor.Pix[255*4] != 255 || m.cursor.Pix[256*4] != 0) {
			t.Errorf("%s: rows are mixed up", c.name)
		}
	}
}

// A picture of more than MaxRaw is several frames; nothing is larger than the
// protocol can say.
func TestHuge(t *testing.T) {
	if !testing.Short() {
		p := draw.NewPixmap(4300, 2700)
		noise(p, p.Bounds(), 1)
		e, m := newEncoder(t), newModel(t)
		b := e.Encode(nil, View{Picture: p})
		if n := m.show(b); n != 2 {
			t.Errorf("%d frames", n)
		}
		if err := m.differs(p); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct{ w, h, wantW, wantH int }{
		{8192, 8192, 8192, 4096},
		{9000, 1, 8192, 1},
		{1, 9000, 1, 8192},
		{0, 0, 1, 1},
	} {
		if w, h := bounded(&draw.Pixmap{W: c.w, H: c.h}); w != c.wantW || h != c.wantH {
			t.Errorf("%dx%d is shown as %dx%d, want %dx%d", c.w, c.h, w, h, c.wantW, c.wantH)
		}
	}
}

// A plane that Huffman's code shrinks by less than its own length goes as it is:
// terminals refuse a PHOTO that is larger than its pixels.
func TestPhotoNeverGrows(t *testing.T) {
	for seed := range uint64(300) {
		e, m := newEncoder(t), newModel(t)
		p := draw.NewPixmap(10, 37)
		noise(p, image.Rect(0, 10, 10, 37), seed)
		noise(p, image.Rect(0, 0, 1, 4), seed)
		step(t, e, m, View{Picture: p}) // the model refuses what terminals refuse
	}
}

// Invariant 3.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	e := newEncoder(t)
	p := draw.NewPixmap(640, 480)
	noise(p, p.Bounds(), 1)
	dst := e.Encode(nil, View{Picture: p})
	damage := []image.Rectangle{image.Rect(100, 100, 300, 200), image.Rect(7, 300, 13, 313), image.Rect(320, 20, 620, 460)}
	scroll := move{to: image.Rect(320, 20, 620, 447), d: image.Pt(0, -13)}
	text(p, damage[2], 1, 2)
	seed, moved := uint64(0), 0
	change := func() {
		seed++
		shift(p, scroll)
		for y := 447; y < 460; y++ { // a new line of text
			for x := 320; x < 620; x++ {
				paint(p, image.Rect(x, y, x+1, y+1), uint32(bits.OnesCount64((uint64(x*y)+seed)*0x9e3779b97f4a7c15)&1)*0xffffff)
			}
		}
		paint(p, image.Rect(100, 100, 300, 150), uint32(seed))
		noiseInto(p, image.Rect(120, 120, 300, 200), seed)
		noiseInto(p, damage[1], seed)
		if dst = e.Encode(dst[:0], View{Picture: p, Damage: damage}); len(dst) == 0 {
			t.Error("no frame")
		}
		if e.usual[0] == scroll.d {
			moved++
		}
	}
	for range rounds(100) {
		change()
	}
	if n := testing.AllocsPerRun(rounds(100), change); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
	if moved < rounds(100) {
		t.Errorf("only %d frames knew that it scrolls", moved)
	}
}

// noiseInto is noise without allocating.
func noiseInto(p *draw.Pixmap, r image.Rectangle, seed uint64) {
	for y := r.Min.Y; y < r.Max.Y; y++ {
		b := p.Row(y, r.Min.X, r.Max.X)
		for i := range b {
			seed = seed*6364136223846793005 + 1442695040888963407
			b[i] = byte(seed >> 56)
		}
	}
}

// text is n colours in random order.
func text(p *draw.Pixmap, r image.Rectangle, seed uint64, n int) {
	random := rand.New(rand.NewPCG(seed, 1))
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			paint(p, image.Rect(x, y, x+1, y+1), uint32(random.IntN(n))*0x070503)
		}
	}
}

// soft is a gradient with a little noise.
func soft(p *draw.Pixmap, r image.Rectangle, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 2))
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			v := uint32(x+2*y+random.IntN(4)) & 255
			paint(p, image.Rect(x, y, x+1, y+1), v|(v+9)&255<<8|(v+70)&255<<16)
		}
	}
}

// What moves is told by COPY: a terminal that scrolls, a window that is
// dragged, one that is redrawn in full.
func TestMoves(t *testing.T) {
	for _, c := range []struct {
		name   string
		window image.Rectangle
		d      image.Point
	}{
		{"scroll", image.Rect(20, 20, 500, 400), image.Pt(0, -13)},
		{"scroll back", image.Rect(20, 20, 500, 400), image.Pt(0, 39)},
		{"sideways", image.Rect(20, 20, 300, 400), image.Pt(31, 0)},
		{"drag", image.Rect(120, 90, 420, 300), image.Pt(-9, 14)},
		{"fast drag", image.Rect(120, 90, 420, 300), image.Pt(130, 71)},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, m := newEncoder(t), newModel(t)
			p := draw.NewPixmap(640, 480)
			paint(p, p.Bounds(), 0x335577)
			paint(p, c.window, 0xffffff)
			for y := c.window.Min.Y + 3; y+10 < c.window.Max.Y; y += 13 {
				text(p, image.Rect(c.window.Min.X+5, y, c.window.Max.X-40-y%50, y+9), uint64(y), 2)
			}
			whole := step(t, e, m, View{Picture: p})
			from := draw.NewPixmap(p.W, p.H)
			copy(from.Pix, p.Pix)
			paint(p, c.window, 0x335577)
			to := c.window.Add(c.d)
			if strings.HasPrefix(c.name, "scroll") {
				copy(p.Pix, from.Pix)
				to = c.window.Intersect(to)
			}
			for y := to.Min.Y; y < to.Max.Y; y++ {
				copy(p.Row(y, to.Min.X, to.Max.X), from.Row(y-c.d.Y, to.Min.X-c.d.X, to.Max.X-c.d.X))
			}
			n := step(t, e, m, View{Picture: p, Damage: []image.Rectangle{c.window.Union(to)}})
			if m.ops[draw.Copy] == 0 || n > whole/4 {
				t.Errorf("%d COPY, %d bytes; the whole picture took %d", m.ops[draw.Copy], n, whole)
			}
		})
	}
}
