// Package screen is a terminal's screen: what the session drew, or the
// on-screen display, with the pointer on top.
//
// Source: design section 2; protocol/draw for the frames.
//
// Invariants:
//  1. After Blank has returned, no pixel of what was shown before it is left,
//     and no Decoder attached before it draws.
//  2. Of several Decoders only the one attached last draws, and it draws whole
//     frames: no reader sees half of one.
//  3. A frame that is refused draws nothing.
//  4. Whoever reads all that a Watch tells has the screen's pixels.
//
// All methods of a Screen are safe for concurrent use; the package reads no
// clock. Limits: those of protocol/draw; a watch holds at most maxRects
// rectangles.
package screen

import (
	"image"
	"image/color"
	"sync"

	"hotdesk/dtu/backend"
	"hotdesk/protocol/draw"
)

// noticeMargin is how far a notice is from the screen's edges, in pixels.
const noticeMargin = 16

// A Screen is one terminal's screen.
type Screen struct {
	mu      sync.Mutex
	w, h    int
	canvas               // what is shown, centred; without a picture: black
	spare   *draw.Pixmap // all black, for the next picture: fresh memory would cost milliseconds; nil: none
	saying  bool         // pic is words, of the screen's size as it was then
	ground  color.RGBA   // of words
	card    image.Rectangle
	live    *Decoder    // the one that may draw; nil after Blank
	shape   shape       // of the pointer; none: hidden
	pointer image.Point // on the screen
	notice  *draw.Pixmap
	watches []*watch
}

var _ backend.Picture = (*Screen)(nil)

// New returns a black screen of that size.
func New(w, h int) *Screen {
	return &Screen{w: side(w), h: side(h)}
}

func side(v int) int { return min(max(v, 1), draw.MaxSide) }

// Size is the screen's size.
func (s *Screen) Size() (w, h int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w, s.h
}

// Resize gives the screen another size. What is shown stays, centred.
func (s *Screen) Resize(w, h int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w, s.h = side(w), side(h)
	s.point(s.pointer.X, s.pointer.Y)
	s.changed(s.bounds())
}

// Attach returns a decoder that from now on is the only one to draw. What is
// shown stays until its first frame is complete.
func (s *Screen) Attach() *Decoder {
	d := &Decoder{screen: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live = d
	if s.spare == nil || s.spare.W != s.w || s.spare.H != s.h {
		d.prepare(s.w, s.h)
	}
	return d
}

// Words are what a screen shows in place of a picture: a card in its middle, on
// one colour.
type Words struct {
	Card   image.Image // nil: none
	Ground color.RGBA
}

// Blank ends every decoder, hides the pointer, takes the notice away and shows
// words; nil is black. Where words must be drawn first, Blank(nil) before that
// hides what is shown at once.
func (s *Screen) Blank(words *Words) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed(s.shapeRect())
	s.changed(s.noticeRect())
	s.live, s.kept, s.shape, s.notice = nil, nil, shape{}, nil
	if words == nil || !s.saying || s.ground != words.Ground || s.picRect() != s.bounds() {
		s.clear(words)
	} else if c := s.card; !c.Empty() { // other words in the same memory
		fill(s.pic, c.Min.X, c.Min.Y, c.Dx(), c.Dy(), s.ground.B, s.ground.G, s.ground.R)
		s.changed(c)
	}
	s.card = image.Rectangle{}
	if words != nil && words.Card != nil {
		size := words.Card.Bounds().Size()
		at := image.Pt(max(s.w-size.X, 0)/2, max(s.h-size.Y, 0)/2)
		s.card = image.Rectangle{Max: size}.Add(at).Intersect(s.bounds())
		convert(s.pic, s.card, words.Card)
		s.changed(s.card)
	}
}

// clear makes the screen that of words, but for their card, or black.
func (s *Screen) clear(words *Words) {
	if s.pic != nil && (s.spare == nil || len(s.pic.Pix) >= len(s.spare.Pix)) {
		clear(s.pic.Pix)
		s.spare = s.pic
	}
	s.pic, s.saying = nil, words != nil
	if words != nil {
		if s.pic = blank(nil, s.spare, s.w, s.h); s.pic == s.spare {
			s.spare = nil
		}
		s.ground = words.Ground
		fill(s.pic, 0, 0, s.w, s.h, s.ground.B, s.ground.G, s.ground.R)
	}
	s.changed(s.bounds())
}

// Notice shows a small message in the lower right corner over what is shown;
// nil takes it away.
func (s *Screen) Notice(m image.Image) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed(s.noticeRect())
	s.notice = nil
	if m != nil {
		s.notice = fromImage(m, s.w, s.h)
	}
	s.changed(s.noticeRect())
}

// MovePointer puts the pointer at x, y of the screen.
func (s *Screen) MovePointer(x, y int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.movePointer(x, y)
}

// Map converts a point of the screen to the nearest one of the session's
// picture.
func (s *Screen) Map(x, y int) (sx, sy int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.bounds()
	if s.pic != nil {
		r = s.picRect()
	}
	return min(max(x, r.Min.X), r.Max.X-1) - r.Min.X, min(max(y, r.Min.Y), r.Max.Y-1) - r.Min.Y
}

// Snapshot returns a copy of the screen.
func (s *Screen) Snapshot() *draw.Pixmap {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := draw.NewPixmap(s.w, s.h)
	s.read(s.bounds(), p.Pix, p.Stride)
	return p
}

// SnapshotBare returns a copy of the screen without pointer and notice.
func (s *Screen) SnapshotBare() *draw.Pixmap {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := draw.NewPixmap(s.w, s.h)
	s.readPic(s.bounds(), p.Pix, p.Stride)
	return p
}

// Read copies the pixels of r, clipped to the screen, to pix: B G R X, rows
// stride bytes apart, r's top left corner at pix[0].
func (s *Screen) Read(r image.Rectangle, pix []byte, stride int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := r.Intersect(s.bounds())
	if c.Empty() {
		return
	}
	s.read(c, pix[(c.Min.Y-r.Min.Y)*stride+(c.Min.X-r.Min.X)*4:], stride)
}

// ReadBare is Read without pointer and notice. It reads nothing and returns false
// where r is not all on the screen.
func (s *Screen) ReadBare(r image.Rectangle, pix []byte, stride int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Empty() || !r.In(s.bounds()) {
		return false
	}
	s.readPic(r, pix, stride)
	return true
}

// What follows is called with s.mu held.

func (s *Screen) bounds() image.Rectangle { return image.Rect(0, 0, s.w, s.h) }

// picRect is where the picture is. Of a picture larger than the screen the
// screen shows the top left part.
func (s *Screen) picRect() image.Rectangle {
	if s.pic == nil {
		return image.Rectangle{}
	}
	x, y := max(s.w-s.pic.W, 0)/2, max(s.h-s.pic.H, 0)/2
	return image.Rect(x, y, x+s.pic.W, y+s.pic.H)
}

func (s *Screen) noticeRect() image.Rectangle {
	if s.notice == nil {
		return image.Rectangle{}
	}
	x, y := max(s.w-s.notice.W-noticeMargin, 0), max(s.h-s.notice.H-noticeMargin, 0)
	return image.Rect(x, y, x+s.notice.W, y+s.notice.H)
}

// shapeRect is where the pointer's shape is.
func (s *Screen) shapeRect() image.Rectangle {
	return image.Rectangle{Max: s.shape.size}.Add(s.pointer).Sub(s.shape.hot)
}

func (s *Screen) movePointer(x, y int) {
	s.changed(s.shapeRect())
	s.point(x, y)
	s.changed(s.shapeRect())
}

func (s *Screen) point(x, y int) {
	s.pointer = image.Pt(min(max(x, 0), s.w-1), min(max(y, 0), s.h-1))
}

// changed tells every watch that r must be read again.
func (s *Screen) changed(r image.Rectangle) {
	r = r.Intersect(s.bounds())
	if r.Empty() {
		return
	}
	for _, w := range s.watches {
		w.tell(r)
	}
}

// read copies r, which is on the screen, with all that is shown there.
func (s *Screen) read(r image.Rectangle, pix []byte, stride int) {
	s.readPic(r, pix, stride)
	if s.notice != nil {
		blend(r, pix, stride, s.notice.Pix, s.noticeRect())
	}
	blend(r, pix, stride, s.shape.pix, s.shapeRect())
}

// readPic copies what is below pointer and notice.
func (s *Screen) readPic(r image.Rectangle, pix []byte, stride int) {
	at := s.picRect()
	in := r.Intersect(at)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		row := pix[(y-r.Min.Y)*stride:][:r.Dx()*4]
		if in.Empty() || y < in.Min.Y || y >= in.Max.Y {
			clear(row)
			continue
		}
		l, m := (in.Min.X-r.Min.X)*4, (in.Max.X-r.Min.X)*4
		clear(row[:l])
		copy(row[l:m], s.pic.Row(y-at.Min.Y, in.Min.X-at.Min.X, in.Max.X-at.Min.X))
		clear(row[m:])
	}
}
