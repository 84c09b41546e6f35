package encode

import (
	"image"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"
	"golang.org/x/sys/unix"

	"hotdesk/protocol/draw"
)

// page is a screen of text.
func page(w, h int, seed uint64) *draw.Pixmap {
	random := rand.New(rand.NewPCG(seed, 1))
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for k := range m.Pix {
		m.Pix[k] = 0xff
	}
	d := font.Drawer{Dst: m, Src: image.Black, Face: basicfont.Face7x13}
	for y := 13; y < h; y += 13 {
		d.Dot = fixed.P(4, y)
		line := make([]byte, w/7)
		for k := range line {
			line[k] = "etaoin shrdlu cmfwyp vbgkjq xz EITAN .,(){}"[random.IntN(43)]
		}
		d.DrawString(string(line))
	}
	for k := 0; k < len(m.Pix); k += 4 {
		m.Pix[k+3] = 0 // grey: red is blue
	}
	return &draw.Pixmap{Pix: m.Pix, Stride: w * 4, W: w, H: h}
}

// paper is a screen like a photo of something rough.
func paper(w, h int, seed uint64) *draw.Pixmap {
	random := rand.New(rand.NewPCG(seed, 1))
	p := draw.NewPixmap(w, h)
	for y := range h {
		row := p.Row(y, 0, w)
		for x := range w {
			n := random.Uint32()
			row[x*4] = byte((x+y)/9 + int(n&7))
			row[x*4+1] = byte((x+2*y)/7 + int(n>>3&7))
			row[x*4+2] = byte((2*x+y)/11 + int(n>>6&7))
		}
	}
	return p
}

// BenchmarkFlip changes the whole screen, from one picture to another.
func BenchmarkFlip(b *testing.B) {
	const w, h = 1920, 1080
	for name, flip := range map[string]struct {
		page  func(w, h int, seed uint64) *draw.Pixmap
		terms Terms
	}{"text": {page: page}, "photo": {page: paper}, "near": {paper, Terms{First: true, Motion: true}}} {
		b.Run(name, func(b *testing.B) {
			// More than the terminal keeps.
			var pages []*draw.Pixmap
			for i := range uint64(8) {
				pages = append(pages, flip.page(w, h, i))
			}
			e, err := NewEncoder()
			if err != nil {
				b.Fatal(err)
			}
			defer e.Close()
			var buf []byte
			all := []image.Rectangle{pages[0].Bounds()}
			next := func(n int) {
				flip.terms.Now = time.Duration(n) * time.Second / 5 // as photos are shown: it is no film
				buf = e.EncodeOn(buf[:0], View{Picture: pages[n%len(pages)], Damage: all}, flip.terms)
			}
			n := 0
			for ; n < len(pages); n++ {
				next(n)
			}
			b.SetBytes(w * h * 4)
			b.ReportAllocs()
			begin := used(b)
			for b.Loop() {
				next(n)
				n++
			}
			b.ReportMetric((used(b)-begin)/float64(n-len(pages)), "ms-CPU/op")
			b.ReportMetric(float64(len(buf)), "B/frame")
		})
	}
}

// used is the CPU time of the process, in milliseconds.
func used(b *testing.B) float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e6
}

// What several cores make of much is exact, or where it may be near what the
// encoder takes it for, and no larger than what one makes of it.
func TestTeam(t *testing.T) {
	const w, h, cores = 1024, 700, 3
	one, many, m := newEncoder(t), newEncoder(t), newModel(t)
	team, alone := 0, 0 // bytes
	pictures := []func(w, h int, seed uint64) *draw.Pixmap{page, paper, mixed, page, mixed, mixed}
	if testing.Short() {
		pictures = pictures[:3]
	}
	for i, make := range pictures {
		p := make(w, h, uint64(i))
		v := View{Picture: p, Damage: []image.Rectangle{p.Bounds()}}
		for _, terms := range []Terms{{Motion: true, First: true}, {}} {
			before := runtime.GOMAXPROCS(cores)
			got := many.EncodeOn(nil, v, terms)
			runtime.GOMAXPROCS(1)
			want := one.EncodeOn(nil, v, terms)
			runtime.GOMAXPROCS(before)
			team, alone = team+len(got), alone+len(want)
			m.show(got)
			m.believed(many)
			if !terms.exact() {
				continue
			}
			if err := m.differs(p); err != nil {
				t.Fatalf("picture %d: %v", i, err)
			}
		}
	}
	if team*50 > alone*51 {
		t.Errorf("%d bytes from several cores, %d from one", team, alone)
	}
}

// A team is bounded, and a frame that fills few slots fills those of the frame
// before.
func TestTeamMemory(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4 * maxCores))
	e, p := newEncoder(t), page(1024, 700, 1)
	e.EncodeOn(nil, View{Picture: p, Damage: []image.Rectangle{p.Bounds()}}, Terms{})
	e.begin(nil)
	e.areas = []area{{x1: 1024, y1: 700}}
	for range 3 {
		e.ask()
		team := e.team
		if n := len(team.slots); team.size != maxCores || n != 2*maxCores {
			t.Fatalf("%d workers and %d slots on %d cores", team.size, n, 4*maxCores)
		}
		for range 3 {
			e.give(strip{area: area{x1: 8, y1: 8, one: true}})
		}
		e.dismiss()
		if team.next != 0 {
			t.Errorf("the next frame begins with slot %d", team.next)
		}
	}
	e.end()
}

// mixed has areas of each kind of content.
func mixed(w, h int, seed uint64) *draw.Pixmap {
	p, random := draw.NewPixmap(w, h), rand.New(rand.NewPCG(seed, 2))
	text, photo := page(w, h, seed), paper(w, h, seed)
	for range 40 {
		x, y := random.IntN(w-32), random.IntN(h-32)
		r := image.Rect(x, y, x+32+random.IntN(w-x-31), y+32+random.IntN(h-y-31))
		switch random.IntN(4) {
		case 0:
			paint(p, r, random.Uint32()&0xffffff)
		case 1:
			p.CopyFrom(photo, r)
		default:
			p.CopyFrom(text, r)
		}
	}
	return p
}

// Areas of two colours, of every small size, are exact.
func TestTwoColours(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	e, m := newEncoder(t), newModel(t)
	p := draw.NewPixmap(80, 60)
	step(t, e, m, View{Picture: p})
	for range 400 {
		w, h := 1+random.IntN(40), 1+random.IntN(30)
		r := image.Rect(0, 0, w, h).Add(image.Pt(random.IntN(80-w), random.IntN(60-h)))
		colours := [3]uint32{random.Uint32(), random.Uint32(), random.Uint32()} // the fourth byte does not count
		if random.IntN(4) == 0 {
			colours[1] = colours[0] ^ 1<<random.IntN(24)
		}
		third := random.IntN(2) * random.IntN(w*h) // one pixel has another colour
		for y := range h {
			for x := range w {
				c := colours[random.IntN(2)]
				if y*w+x == third && third > 0 {
					c = colours[2]
				}
				paint(p, image.Rect(r.Min.X+x, r.Min.Y+y, r.Min.X+x+1, r.Min.Y+y+1), c)
			}
		}
		step(t, e, m, View{Picture: p, Damage: []image.Rectangle{r}})
	}
}

// BenchmarkPieces is BenchmarkFlip in pieces, on two cores at least: what counts
// is the time.
func BenchmarkPieces(b *testing.B) {
	defer runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), 2))
	const w, h = 1920, 1080
	for name, make := range map[string]func(w, h int, seed uint64) *draw.Pixmap{"text": page, "photo": paper} {
		b.Run(name, func(b *testing.B) {
			var pages []*draw.Pixmap
			for i := range uint64(8) {
				pages = append(pages, make(w, h, i))
			}
			e := newEncoder(b)
			defer e.Close()
			var buf []byte
			all := []image.Rectangle{pages[0].Bounds()}
			send := func(b []byte) []byte { return b[:0] }
			b.SetBytes(w * h * 4)
			b.ReportAllocs()
			n, begin := 0, used(b)
			for b.Loop() {
				buf = e.EncodePieces(buf[:0], View{Picture: pages[n%len(pages)], Damage: all}, Terms{}, send)
				n++
			}
			b.ReportMetric((used(b)-begin)/float64(n), "ms-CPU/op")
		})
	}
}
