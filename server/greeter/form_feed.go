package greeter

import (
	"fmt"
	"image"
	"math"
	"time"

	"golang.org/x/image/vector"

	"hotdesk/protocol/draw"
	"hotdesk/protocol/native"
	"hotdesk/server/session/encode"
)

const (
	// awakeFor is how long after its last input a form keeps a picture of its
	// own.
	awakeFor = 5 * time.Second
	// emptyAfter is how long after that what was typed is wiped.
	emptyAfter = 2 * time.Minute
	// maxAwake bounds the forms with a picture of their own: to press keys at a
	// thousand terminals must not cost a thousand pictures. Others are painted
	// for each key, maxPainting at a time, and sent whole.
	maxAwake    = 8
	maxPainting = 2
)

// maxUntouched bounds a form that waits for its ticket to be redeemed.
const maxUntouched = native.TicketLife + 10*time.Second

// A formScreen is the form of a feed. The feed's lock guards it.
type formScreen struct {
	gen    uint64
	answer func(gen uint64, a Answer)

	s     *filling
	key   string // of the picture at rest, which others may show too
	sheet *sheet // nil at rest
	own   *draw.Pixmap
	wakes bool        // it is one of maxAwake
	still *time.Timer // ends the time awake, and then the filling
	slept bool        // the time awake has ended

	pressed bool
}

// Put shows another form in place of attachment gen's, at once. It reports
// false where that is gone.
func (g *Greeter) Put(gen uint64, form Form) (bool, error) {
	if err := form.check(); err != nil {
		return false, err
	}
	g.mu.Lock()
	f := g.forms[gen]
	g.mu.Unlock()
	if f == nil {
		return false, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.form.s = fill(form.bounded(), f.form.s)
	f.form.key = formKey(f.form.s.form)
	g.sleep(f.form)
	f.new = true
	f.poke()
	return true, nil
}

// formKey is the same for forms that look the same.
func formKey(f Form) string { return fmt.Sprintf("%+v", f) }

// keepForm has Put find a form until it is gone.
func (g *Greeter) keepForm(gen uint64, f *feed) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forms[gen] = f
	time.AfterFunc(maxUntouched, func() {
		f.mu.Lock()
		came := f.came
		f.mu.Unlock()
		if !came {
			g.dropForm(gen)
		}
	})
}

func (g *Greeter) dropForm(gen uint64) {
	g.mu.Lock()
	f := g.forms[gen]
	delete(g.forms, gen)
	g.mu.Unlock()
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.form.s.wipe()
	g.sleep(f.form)
	if f.form.still != nil {
		f.form.still.Stop()
	}
}

// viewForm is View of a form. f.mu is held.
func (f *feed) viewForm(show func(encode.View)) {
	v := encode.View{Cursor: arrow(f.h)}
	fs, dirty := f.form, f.new
	f.new = false
	switch {
	case !dirty && fs.own == nil: // it comes to rest: nothing has changed
		v.Picture = f.g.formPicture(fs.key, fill(fs.s.form, nil), f.w, f.h)
	case fs.own != nil && fs.own.W == f.w && fs.own.H == f.h:
		v.Picture = fs.own
		damage := fs.sheet.update(fs.s)
		if damage == nil && fs.s.touched() { // it is laid out anew, or nothing has changed
			fs.sheet = newSheet(fs.s, f.g.conf.Host, f.w, f.h)
			damage = []image.Rectangle{v.Picture.Bounds()}
		}
		for _, r := range damage {
			put(fs.own, fs.sheet.c.img, r)
		}
		v.Damage = damage
	case fs.s.touched() && !f.g.wakes(fs):
		f.g.painting <- struct{}{}
		defer func() { <-f.g.painting }()
		v.Picture = pixmap(newSheet(fs.s, f.g.conf.Host, f.w, f.h).c.img)
		v.Damage = []image.Rectangle{v.Picture.Bounds()}
	case fs.s.touched():
		first := fill(fs.s.form, nil)
		base := f.g.formPicture(fs.key, first, f.w, f.h)
		fs.sheet = resume(base, lay(first, f.w, f.h))
		if fs.sheet.update(fs.s) == nil {
			fs.sheet = newSheet(fs.s, f.g.conf.Host, f.w, f.h)
		}
		fs.own = pixmap(fs.sheet.c.img)
		v.Picture = fs.own
		v.Damage = []image.Rectangle{v.Picture.Bounds()}
	default:
		v.Picture = f.g.formPicture(fs.key, fs.s, f.w, f.h)
		v.Damage = []image.Rectangle{v.Picture.Bounds()}
	}
	show(v)
}

// wakes reports whether a form may have a picture of its own. fs is guarded by
// its feed.
func (g *Greeter) wakes(fs *formScreen) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !fs.wakes && g.awake < maxAwake {
		fs.wakes = true
		g.awake++
	}
	return fs.wakes
}

// sleep gives back what a form has of its own.
func (g *Greeter) sleep(fs *formScreen) {
	fs.sheet, fs.own = nil, nil
	g.mu.Lock()
	defer g.mu.Unlock()
	if fs.wakes {
		fs.wakes = false
		g.awake--
	}
}

// formPicture is the picture of a form that nobody has touched, shared.
func (g *Greeter) formPicture(key string, s *filling, w, h int) *draw.Pixmap {
	return g.shared(Screen{Kind: formKind, Text: key}, w, h, func() *draw.Pixmap {
		return pixmap(newSheet(s, g.conf.Host, w, h).c.img)
	})
}

// awake reports whether the form may change soon.
func (f *feed) awake() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.form != nil && f.form.own != nil
}

// input runs something that may change the form, and hands an answer on.
func (f *feed) input(do func(*filling) *Answer) {
	if f.form == nil {
		return
	}
	f.mu.Lock()
	a := do(f.form.s)
	f.new, f.form.slept = true, false
	if fs := f.form; fs.still == nil {
		fs.still = time.AfterFunc(awakeFor, f.rest)
	} else {
		fs.still.Reset(awakeFor)
	}
	f.poke()
	f.mu.Unlock()
	if a != nil {
		f.form.answer(f.form.gen, *a)
	}
}

// rest gives back what a form has of its own; the next input paints it anew.
// Later it is as nobody had touched it.
func (f *feed) rest() {
	f.mu.Lock()
	defer f.mu.Unlock()
	fs := f.form
	switch {
	case !fs.slept:
		fs.slept = true
		fs.still.Reset(emptyAfter)
		if fs.own != nil {
			f.g.sleep(fs)
			f.poke()
		}
	case !fs.s.sent && fs.s.touched():
		fs.s = fill(fs.s.form, fs.s)
		fs.s.keys.caps = false
		f.new = true
		f.poke()
	}
}

func (f *feed) poke() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *feed) keyForm(usage uint16, down bool) {
	f.input(func(s *filling) *Answer { return s.key(usage, down) })
}

// pointerForm asks the plan only at a press or a release.
func (f *feed) pointerForm(x, y int, buttons byte) {
	fs := f.form
	down := buttons&1 != 0
	if down == fs.pressed {
		return
	}
	was := fs.pressed
	fs.pressed = down
	f.input(func(s *filling) *Answer {
		p := lay(s, f.w, f.h)
		hit, part := p.at(x, y)
		return s.pointer(hit, part, down, was)
	})
}

// arrow is the pointer's shape, as large as the screen suggests.
func arrow(h int) *encode.Cursor {
	size := max(12, min(48, int(math.Round(float64(h)/50))))
	k := float32(size) / 16
	var mask [2]*image.Alpha
	for i, grow := range []float32{0, 1} {
		z := vector.NewRasterizer(size, size+size/2)
		in := grow * 1.1 * k
		z.MoveTo(0+in*0.6, 0+in*1.5)
		for _, p := range [][2]float32{{0, 17}, {4, 13.4}, {6.6, 19.4}, {9.4, 18.2}, {6.8, 12.4}, {12.2, 12.2}} {
			x, y := p[0]*k, p[1]*k
			cx, cy := 4.2*k, 11*k // shrunk towards the middle
			z.LineTo(x+(cx-x)*grow*0.14, y+(cy-y)*grow*0.14)
		}
		z.ClosePath()
		mask[i] = image.NewAlpha(image.Rect(0, 0, size, size+size/2))
		z.Draw(mask[i], mask[i].Rect, image.Opaque, image.Point{})
	}
	c := &encode.Cursor{Serial: uint32(1 + size), W: size, H: size + size/2, Pix: make([]byte, 0, 4*size*(size+size/2))}
	for i, outer := range mask[0].Pix {
		inner := min(mask[1].Pix[i], outer)
		c.Pix = append(c.Pix, inner, inner, inner, outer) // white, with a black edge
	}
	return c
}
