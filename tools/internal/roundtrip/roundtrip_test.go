package roundtrip

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"image"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hotdesk/dtu/screen"
	"hotdesk/protocol/draw"
	"hotdesk/server/session/encode"
)

var update = flag.Bool("update", false, "record the streams in dtu/screen/testdata")

// A pair is an encoder and a screen that shows what it makes.
type pair struct {
	enc  *encode.Encoder
	dec  *screen.Decoder
	scr  *screen.Screen
	wire bytes.Buffer
	in   *bufio.Reader
	buf  []byte
}

type failer interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func newPair(t failer, w, h int) *pair {
	t.Helper()
	p := &pair{scr: screen.New(w, h)}
	p.dec = p.scr.Attach()
	p.in = bufio.NewReader(&p.wire)
	var err error
	if p.enc, err = encode.NewEncoder(); err != nil {
		t.Fatal(err)
	}
	return p
}

// show sends v exactly and returns the bytes that took.
func (p *pair) show(t failer, v encode.View) int {
	t.Helper()
	return p.showOn(t, v, encode.Terms{})
}

// showOn is show on terms.
func (p *pair) showOn(t failer, v encode.View, terms encode.Terms) int {
	t.Helper()
	from := p.enc.Seq()
	p.buf = p.enc.EncodeOn(p.buf[:0], v, terms)
	p.wire.Write(p.buf)
	for p.enc.Seq() != from {
		seq, err := p.dec.Decode(p.in)
		if err != nil {
			t.Fatal(err)
		}
		if from++; seq != from {
			t.Fatalf("frame %d, want %d", seq, from)
		}
	}
	if p.wire.Len()+p.in.Buffered() > 0 {
		t.Fatalf("%d bytes left over", p.wire.Len()+p.in.Buffered())
	}
	return len(p.buf)
}

// differs says where the screen does not show the picture, or nothing. The
// picture has the screen's size.
func (p *pair) differs(want *draw.Pixmap) error {
	got := p.scr.SnapshotBare()
	if got.W != want.W || got.H != want.H {
		return fmt.Errorf("screen of %dx%d, want %dx%d", got.W, got.H, want.W, want.H)
	}
	for y := range want.H {
		g, w := got.Row(y, 0, got.W), want.Row(y, 0, want.W)
		for i := range g {
			if i%4 != 3 && g[i] != w[i] {
				return fmt.Errorf("pixel %d,%d is % x, want % x", i/4, y, g[i/4*4:i/4*4+3], w[i/4*4:i/4*4+3])
			}
		}
	}
	return nil
}

func TestDesktop(t *testing.T) {
	p := newPair(t, 1280, 1024)
	src := desktop(1280, 1024)
	n := p.show(t, encode.View{Picture: src})
	if err := p.differs(src); err != nil {
		t.Fatal(err)
	}
	t.Logf("whole picture: %d bytes", n)
	if n > 160_000 {
		t.Errorf("a text picture takes %d bytes", n)
	}
	most, sum := 0, 0
	const letters = "the quick brown fox jumps over a lazy dog"
	for i, c := range letters {
		r := typed(src, image.Pt(100+7*i, 200), c)
		n := p.show(t, encode.View{Picture: src, Damage: []image.Rectangle{r}})
		most, sum = max(most, n), sum+n
	}
	if err := p.differs(src); err != nil {
		t.Fatal(err)
	}
	t.Logf("a letter: %d bytes, at most %d", sum/len(letters), most)
	if sum/len(letters) > 80 {
		t.Errorf("a typed letter takes %d bytes", sum/len(letters))
	}
}

// Large pictures, which several cores code and unpack, are exact too: photos of
// each kind, with text and areas of one colour between them.
func TestManyCores(t *testing.T) {
	const w, h, cores = 1100, 900, 4
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
	random := rand.New(rand.NewPCG(5, 6))
	p := newPair(t, w, h)
	src := draw.NewPixmap(w, h)
	for range 6 {
		for y := range h {
			row := src.Row(y, 0, w)
			for x := range w {
				px := row[x*4:][:3]
				n := random.Uint32()
				switch part := (x/300 + y/250) % 4; {
				case part == 0: // the colours follow each other
					v := (x*x/300 + y*3) / 8
					px[0], px[1], px[2] = byte(v+int(n&3)), byte(v+int(n>>2&3)), byte(v+int(n>>4&3))
				case part == 1: // they do not, and there is much noise
					px[0], px[1], px[2] = byte(x/7+int(n&31)), byte(y/5+int(n>>8&31)), byte((x+y)/9+int(n>>16&31))
				case part == 2 && n%5 == 0:
					px[0], px[1], px[2] = 0, 0, 0
				case part == 2:
					px[0], px[1], px[2] = 0xff, 0xff, 0xf0
				default:
					px[0], px[1], px[2] = 0x30, byte(y/250), 0x50
				}
			}
		}
		p.show(t, encode.View{Picture: src, Damage: []image.Rectangle{src.Bounds()}})
		if err := p.differs(src); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever changes and is said to, arrives: encode -> decode == source.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		src := draw.NewPixmap(rapid.IntRange(1, 150).Draw(t, "width"), rapid.IntRange(1, 150).Draw(t, "height"))
		p := newPair(t, src.W, src.H)
		watch := p.scr.Watch()
		seen := draw.NewPixmap(src.W, src.H) // what a display has read
		for range rapid.IntRange(1, 8).Draw(t, "views") {
			var v encode.View
			if rapid.IntRange(0, 4).Draw(t, "rest") == 0 {
				p.enc.Rest()
				p.enc.Rest() // nothing more to give back
			}
			if rapid.IntRange(0, 7).Draw(t, "resize") == 0 {
				src = draw.NewPixmap(rapid.IntRange(1, 150).Draw(t, "width"), rapid.IntRange(1, 150).Draw(t, "height"))
				p.scr.Resize(src.W, src.H)
				seen = draw.NewPixmap(src.W, src.H)
				v.Damage = append(v.Damage, src.Bounds())
			}
			for range rapid.IntRange(0, 4).Draw(t, "changes") {
				x, y := rapid.IntRange(0, src.W-1).Draw(t, "x"), rapid.IntRange(0, src.H-1).Draw(t, "y")
				r := image.Rect(x, y, x+rapid.IntRange(1, 150).Draw(t, "w"), y+rapid.IntRange(1, 150).Draw(t, "h")).Intersect(src.Bounds())
				c := rapid.SliceOfN(rapid.Byte(), 1, 9).Draw(t, "bytes")
				for y := r.Min.Y; y < r.Max.Y; y++ {
					row := src.Row(y, r.Min.X, r.Max.X)
					for i := range row {
						row[i] = c[(i+y)%len(c)]
					}
				}
				v.Damage = append(v.Damage, r)
			}
			v.Picture = src
			p.show(t, v)
			if err := p.differs(src); err != nil {
				t.Fatal(err)
			}
			for _, r := range watch.Take() {
				p.scr.Read(r, seen.Pix[r.Min.Y*seen.Stride+r.Min.X*4:], seen.Stride)
			}
			if !bytes.Equal(seen.Pix, p.scr.Snapshot().Pix) {
				t.Fatal("a display that read all changes has another picture")
			}
		}
	})
}

// recordings are the streams that dtu/screen's fuzzing begins with.
func recordings(t *testing.T) map[string][]byte {
	recordOn := func(terms encode.Terms, views ...encode.View) []byte {
		e, err := encode.NewEncoder()
		if err != nil {
			t.Fatal(err)
		}
		var b []byte
		for _, v := range views {
			b = e.EncodeOn(b, v, terms)
			terms.Now += 40 * time.Millisecond
		}
		return b
	}
	record := func(views ...encode.View) []byte { return recordOn(encode.Terms{}, views...) }
	film := make([]encode.View, 6)
	for i := range film {
		film[i] = encode.View{Picture: clouds(80, 72, i), Damage: []image.Rectangle{image.Rect(0, 0, 80, 72)}}
	}
	src, letters := desktop(320, 200), desktop(320, 200)
	r := typed(letters, image.Pt(20, 50), 'a')
	arrow := &encode.Cursor{Serial: 1, HotX: 1, HotY: 2, W: 3, H: 4, Pix: bytes.Repeat([]byte{10, 20, 30, 40}, 12)}
	return map[string][]byte{
		"desktop.stream": record(
			encode.View{Picture: src, Cursor: arrow},
			encode.View{Picture: letters, Damage: []image.Rectangle{r}, Cursor: arrow},
			encode.View{Picture: letters, Warp: &image.Point{X: 10, Y: 20}},
			encode.View{Picture: desktop(160, 100)},
		),
		"lossy.stream": recordOn(encode.Terms{First: true}, film...),
		"photo.stream": record(encode.View{Picture: photo(40, 30)}),
		"black.stream": record(encode.View{Picture: draw.NewPixmap(64, 64)}, encode.View{Picture: draw.NewPixmap(65, 64)}),
	}
}

// The recorded streams are what today's encoder makes; a change of it is seen,
// and -update accepts it.
func TestRecordings(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "dtu", "screen", "testdata")
	for name, b := range recordings(t) {
		file := filepath.Join(dir, name)
		if *update {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(have, b) {
			t.Errorf("%s is not what the encoder makes; go test ./tools/internal/roundtrip -update records it", name)
		}
	}
}

func benchmarkWhole(b *testing.B, src *draw.Pixmap) {
	b.ReportAllocs()
	b.SetBytes(int64(src.W * src.H * 3))
	e, err := encode.NewEncoder()
	if err != nil {
		b.Fatal(err)
	}
	other := draw.NewPixmap(src.W, src.H-1)
	var buf []byte
	n := 0
	for b.Loop() { // another size makes the next one whole
		b.StopTimer()
		e.Encode(nil, encode.View{Picture: other})
		b.StartTimer()
		buf = e.Encode(buf[:0], encode.View{Picture: src})
		n = len(buf)
	}
	b.ReportMetric(float64(n), "bytes/frame")
}

func BenchmarkEncodeDesktop(b *testing.B) { benchmarkWhole(b, desktop(1280, 1024)) }
func BenchmarkEncodePhoto(b *testing.B)   { benchmarkWhole(b, photo(1280, 1024)) }

func BenchmarkEncodeLetter(b *testing.B) {
	b.ReportAllocs()
	src := desktop(1280, 1024)
	e, err := encode.NewEncoder()
	if err != nil {
		b.Fatal(err)
	}
	buf := e.Encode(nil, encode.View{Picture: src})
	cells := [2][]byte{}
	r := typed(src, image.Pt(100, 200), 'g')
	for i, c := range "gM" {
		typed(src, r.Min, c)
		for y := r.Min.Y; y < r.Max.Y; y++ {
			cells[i] = append(cells[i], src.Row(y, r.Min.X, r.Max.X)...)
		}
	}
	damage := []image.Rectangle{r}
	frames, sum := 0, 0
	for b.Loop() {
		c := cells[frames%2]
		for y := r.Min.Y; y < r.Max.Y; y++ {
			c = c[copy(src.Row(y, r.Min.X, r.Max.X), c):]
		}
		buf = e.Encode(buf[:0], encode.View{Picture: src, Damage: damage})
		frames, sum = frames+1, sum+len(buf)
	}
	b.ReportMetric(float64(sum)/float64(frames), "bytes/frame")
}

func benchmarkDecode(b *testing.B, src *draw.Pixmap) {
	b.ReportAllocs()
	b.SetBytes(int64(src.W * src.H * 3))
	p := newPair(b, src.W, src.H)
	other := draw.NewPixmap(src.W, src.H-1)
	for b.Loop() {
		b.StopTimer()
		p.show(b, encode.View{Picture: other})
		p.buf = p.enc.Encode(p.buf[:0], encode.View{Picture: src})
		p.wire.Write(p.buf)
		b.StartTimer()
		if _, err := p.dec.Decode(p.in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeDesktop(b *testing.B) { benchmarkDecode(b, desktop(1280, 1024)) }
func BenchmarkDecodePhoto(b *testing.B)   { benchmarkDecode(b, photo(1280, 1024)) }

// A terminal that scrolls by a line, and all that is new is that line.
func BenchmarkEncodeScroll(b *testing.B) {
	b.ReportAllocs()
	src := desktop(1280, 1024)
	e, err := encode.NewEncoder()
	if err != nil {
		b.Fatal(err)
	}
	buf := e.Encode(nil, encode.View{Picture: src})
	win := image.Rect(20, 41, 600, 41+13*60)
	damage := []image.Rectangle{win}
	line := make([]byte, win.Dx()*4)
	frames, sum := 0, 0
	for b.Loop() {
		for y := win.Min.Y; y < win.Max.Y; y++ {
			if y < win.Max.Y-13 {
				copy(src.Row(y, win.Min.X, win.Max.X), src.Row(y+13, win.Min.X, win.Max.X))
				continue
			}
			from := 41 + (frames*7)%700 + y - (win.Max.Y - 13)
			copy(line, src.Row(from, win.Min.X, win.Max.X))
			copy(src.Row(y, win.Min.X, win.Max.X), line)
		}
		buf = e.Encode(buf[:0], encode.View{Picture: src, Damage: damage})
		frames, sum = frames+1, sum+len(buf)
	}
	b.ReportMetric(float64(sum)/float64(frames), "bytes/frame")
}
