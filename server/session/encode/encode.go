// Package encode turns a screen that changes into the frames of one display
// stream.
//
// Source: design section 2 (drawing is the SLIM model); protocol/draw for the
// bytes.
//
// Invariants:
//  1. Whoever applies all frames so far, of each View all, has exactly the
//     picture of the last View, wherever that View and those before it said it was damaged, if the
//     Terms are exact. On other Terms it may be near, or of an earlier View,
//     where it moves or a photo is new; Due says when that can become exact, and
//     where nothing is due the picture is.
//  2. The first frame, and the first after Rest, sets the size and holds
//     everything that is not black; any other View that differs in nothing
//     makes no frame.
//  3. In the steady state Encode allocates nothing but what dst needs.
//  4. A picture that was made in advance (Prepare) goes out in one frame with
//     what has changed since: no terminal shows it as it was, though its part of
//     the frame may be sent before (Open).
//
// An Encoder keeps a copy of what the terminal has, packed where no View touches
// it for long (Compact); where a photo is near at first, it has what that is near
// to, and the cell owes it. It looks for what has moved and sends that as COPY
// (of what moves on and on it looks at a part, and compares all when it rests), for
// what was covered and is bared again and sends that as SWAP, compares damage with
// what the copy is after it, and sends rectangles of one colour as FILL, of few as
// PALETTE, photos as PHOTO and others as SET.
// What is sent always comes from the copy, so it does not matter that the X
// server draws meanwhile.
//
// Squares that were photos in several Views in a row move: they are no longer
// compared but sent as LOSSY, in blocks that are new or differ from the copy,
// which then has what the terminal makes of that. Once they have rested for
// RefineAfter they are compared, and what differs is sent exactly. A film with
// noise would never be the same: a square that only flickers is made exact once
// while it is damaged still, and again when it rests.
//
// Where there is much to code and more than one core, a team (team.go) codes it
// on all of them, and what much damage there is they compare. Much damage may
// become several frames (pieces.go), from the top to the bottom: the first is
// shown while others are made.
//
// An Encoder is not safe for concurrent use, does no I/O and reads no clock.
// Limits: draw.MaxSide and draw.MaxPixels (of a larger picture the rest is not
// shown), draw.MaxCursor, draw.MaxRaw and draw.MaxDrawn (a picture that needs
// more becomes several frames).
package encode

import (
	"encoding/binary"
	"fmt"
	"image"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"hotdesk/protocol/draw"
)

// A Cursor is the pointer's shape. Serial changes whenever the shape does.
type Cursor struct {
	Serial     uint32
	HotX, HotY int
	W, H       int    // 0: hidden
	Pix        []byte // B G R A, alpha premultiplied, rows without padding
}

// A View is the screen at one moment.
type View struct {
	Picture *draw.Pixmap
	Damage  []image.Rectangle // what may have changed since the last View
	Cursor  *Cursor           // nil: none known
	Warp    *image.Point      // a program moved the pointer since the last View
	Moved   []image.Point     // by what windows have moved since, as far as that is known
}

// A Source is a screen that can be viewed.
type Source interface {
	// Changed has something to receive after a change (capacity 1).
	Changed() <-chan struct{}
	// View calls f once with the screen as it is now, locked for the call.
	View(f func(View))
}

// maxArea bounds one SET, in pixels: frames are cut between operations, and a
// cut must never be far from where it is due.
const maxArea = 1 << 19

// stripRows bounds the rows of an area that are sent as one operation.
const stripRows = 64

// keepAreas is how many areas' memory an idle encoder keeps.
const keepAreas = 512

// An Encoder makes the frames of one display stream.
type Encoder struct {
	z    *zstd.Encoder // nil while it rests
	out  sink
	tail []byte                // the end of the zstd frame before the one that comes
	send func(b []byte) []byte // takes pieces of the View in the making; nil: they are not wanted

	shadow draw.Pixmap // what the terminal has
	folds  folds       // what it consists of
	kept   stash       // what it has put by; no tiles: nothing
	cursor uint32      // serial of the shape that the terminal has
	shaped bool        // the terminal has a shape
	seq    uint32
	ahead  opening // what Prepare has made

	early []draw.Op       // KEEPs, COPYs and SWAPs to be sent before the areas
	moved []move          // the COPYs
	usual [2]image.Point  // the moves before
	place image.Rectangle // where the last one went

	movedAt time.Duration // when that was
	again   bool          // what moves has moved just before
	phase   int           // which rows of it are looked at
	turning

	covered  image.Rectangle   // what was put by last, but by moves
	unused   int               // Views since, of the same place, that had no use for it
	comparer                   // its areas are to be sent
	finer    int               // from here on they make exact what is near
	cells    cells             // how the picture changes
	cold     []image.Rectangle // damage that does not move
	runs     []image.Rectangle // what moves
	later    []image.Rectangle // photos to be sent nearly
	terms    Terms             // of the frame in the making
	start    int               // where the frame in the making begins in out.b
	before   []byte            // what was tail before it
	raw      int               // bytes of operations in it
	sent     int               // the same in parts of it that were sent
	drawn    int               // pixels that they touch
	large    int               // bytes that its PHOTOs unpack to

	coder                      // of what is coded here
	team                 *team // what helps with the frame in the making; nil: nobody
	restraint, fruitless int   // Views for which no move is searched, see moves
	anchor               [anchorMax]image.Point
	near                 *lossy // nil: none was needed yet
}

// sink collects what zstd writes.
type sink struct{ b []byte }

func (s *sink) Write(p []byte) (int, error) {
	s.b = append(s.b, p...)
	return len(p), nil
}

// NewEncoder returns the encoder of a new stream.
func NewEncoder() (*Encoder, error) {
	e := new(Encoder)
	return e, e.wake()
}

// compressors are those that Rest gave back: a thousand terminals that come at
// once take turns with a few.
var compressors sync.Pool

// wake gets the compressor of a stream that begins, or rested.
func (e *Encoder) wake() error {
	if z, ok := compressors.Get().(*zstd.Encoder); ok {
		z.Reset(&e.out)
		e.z = z
		return nil
	}
	z, err := zstd.NewWriter(&e.out,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(draw.Window),
		zstd.WithEncoderConcurrency(1),
		zstd.WithLowerEncoderMem(true),
		zstd.WithEncoderCRC(false)) // the transport has its own, and a frame's end comes late
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	e.z = z
	return nil
}

// Rest gives back nearly all memory, for a screen that hardly ever changes: a
// gateway shows a thousand of them. The next View is sent whole.
func (e *Encoder) Rest() {
	if e.z == nil {
		return
	}
	e.out.b = e.tail
	if e.ahead.b == nil { // else nothing of its zstd frame was sent
		if err := e.z.Close(); err != nil {
			panic("encode: " + err.Error()) // sink never fails
		}
	}
	e.z.Reset(nil)
	compressors.Put(e.z)
	e.freeCopy()
	*e = Encoder{seq: e.seq, tail: e.out.b}
}

// Seq is the sequence number of the last frame, 0 before the first.
func (e *Encoder) Seq() uint32 { return e.seq }

// Close frees the encoder, which must not be used again.
func (e *Encoder) Close() {
	e.Rest() // the next terminal may come soon
	*e = Encoder{seq: e.seq}
}

// Encode is EncodeOn exact terms.
func (e *Encoder) Encode(dst []byte, v View) []byte { return e.EncodeOn(dst, v, Terms{}) }

// EncodeOn appends to dst the frame that brings the terminal from what it has
// to v, or as near as t allows, or nothing where it has that already. Only what
// exceeds draw.MaxRaw or draw.MaxDrawn becomes more than one frame.
func (e *Encoder) EncodeOn(dst []byte, v View, t Terms) []byte {
	return e.EncodePieces(dst, v, t, nil)
}

// EncodePieces is EncodeOn for who can send while there is more to come: a large
// change (pieces.go) becomes several frames, and send is called with what there
// is, dst and whole frames, whenever that is a piece. It returns where to go on,
// also what it was given. What is returned is what was not sent.
func (e *Encoder) EncodePieces(dst []byte, v View, t Terms, send func(b []byte) []byte) []byte {
	e.send = send
	dst, begun := e.frame(dst, v, t)
	e.send = nil
	if !begun {
		return dst
	}
	e.end()
	dst, e.out.b = e.out.b, nil
	return dst
}

// frame makes the frame that EncodeOn ends; it has not begun one where there is
// nothing to say.
func (e *Encoder) frame(dst []byte, v View, t Terms) (_ []byte, begun bool) {
	w, h := bounded(v.Picture)
	sized := e.shadow.W == 0 || w != e.shadow.W || h != e.shadow.H || e.seq == 0 && !e.ahead.begun()
	e.terms = t
	if e.ahead.begun() && (sized || t.first()) {
		e.drop()
		sized = true
	}
	var pieces []image.Rectangle // damage that is compared while it is coded
	if !sized {
		pieces = e.changes(v, t)
		if e.ahead.begun() && e.stale() {
			e.drop()
			sized = true
		}
	}
	if sized {
		e.resize(w, h)
		e.cells.reset(w, h)
		e.first = true
		e.compare(v.Picture, e.shadow.Bounds())
		e.first = false
		e.finer = len(e.areas)
	}
	if pieces == nil {
		e.send = nil
	}
	if v.Warp == nil {
		v.Warp = e.ahead.warp
	}
	e.ahead.warp = nil
	shape := v.Cursor != nil && (!e.shaped || v.Cursor.Serial != e.cursor)
	if !sized && !shape && v.Warp == nil && len(e.areas) == 0 && pieces == nil && len(e.early) == 0 && !e.cells.busy && !e.ahead.begun() {
		return dst, false
	}

	if e.z == nil {
		if err := e.wake(); err != nil {
			panic("encode: " + err.Error()) // the options were good before
		}
	}
	e.begin(dst)
	if sized {
		e.op(draw.Op{Code: draw.Size, W: w, H: h})
	}
	for _, op := range e.early {
		e.op(op)
	}
	if pieces != nil {
		e.bands(v.Picture, pieces)
		e.others(v.Picture, pieces, t)
	}
	e.ask()
	e.code()
	e.dismiss()
	if shape {
		e.op(shapeOp(v.Cursor))
		e.cursor, e.shaped = v.Cursor.Serial, true
	}
	if v.Warp != nil {
		e.op(draw.Op{Code: draw.Warp, X: min(max(v.Warp.X, 0), w-1), Y: min(max(v.Warp.Y, 0), h-1)})
	}
	// What is near comes last: areas may overlap, and all others are sent as the
	// shadow has them.
	for _, r := range e.later {
		e.nearly(&e.shadow, r, false)
	}
	e.follow(v.Picture, t)
	e.later, e.areas, e.moved, e.early = e.later[:0], e.areas[:0], e.moved[:0], e.early[:0]
	if cap(e.areas) > keepAreas {
		e.areas = nil
	}
	if e.raw == 0 && e.sent == 0 { // what moves has not
		dst, e.out.b, e.tail = e.out.b[:e.start], nil, e.before
		return dst, false
	}
	return dst, true
}

// changes finds what of v differs from what the terminal has. Much damage that
// may go out in pieces it returns.
func (e *Encoder) changes(v View, t Terms) (pieces []image.Rectangle) {
	for _, r := range v.Damage {
		e.touch(r.Intersect(e.shadow.Bounds()))
	}
	damage := e.cool(v.Damage, t)
	e.moves(v.Picture, damage, v.Moved)
	e.recall(v.Picture, damage)
	if e.send != nil && !e.ahead.begun() && inPieces(damage) {
		return damage
	}
	for _, r := range damage {
		e.compareDamage(v.Picture, r.Intersect(e.shadow.Bounds()))
	}
	e.others(v.Picture, damage, t)
	return nil
}

// others finds what differs outside the damage.
func (e *Encoder) others(p *draw.Pixmap, damage []image.Rectangle, t Terms) {
	e.compareMoved(p, damage)
	e.finer = len(e.areas)
	e.refine(p, t)
}

// code codes the areas.
func (e *Encoder) code() {
	for i, a := range e.areas {
		if a.pixels() > 0 {
			e.area(a, i >= e.finer)
		}
	}
}

// bounded is the size of p as far as it can be shown.
func bounded(p *draw.Pixmap) (w, h int) {
	w = min(max(p.W, 1), draw.MaxSide)
	return w, min(max(p.H, 1), draw.MaxSide, draw.MaxPixels/w)
}

// resize makes a shadow of that size, in which anything may be.
func (e *Encoder) resize(w, h int) {
	e.kept = stash{}
	if e.shadow.W == w && e.shadow.H == h {
		e.anything()
		return
	}
	e.freeCopy()
	e.newCopy(w, h)
}

// shapeOp is the operation for a cursor, cut to what it can hold. Pixels that
// are not all there hide it.
func shapeOp(c *Cursor) draw.Op {
	op := draw.Op{Code: draw.Cursor, W: min(c.W, draw.MaxCursor), H: min(c.H, draw.MaxCursor)}
	if op.W <= 0 || op.H <= 0 || len(c.Pix) < c.W*c.H*4 {
		return draw.Op{Code: draw.Cursor}
	}
	op.X, op.Y = min(max(c.HotX, 0), op.W-1), min(max(c.HotY, 0), op.H-1)
	if op.W == c.W {
		op.Pix = c.Pix[:op.W*op.H*4]
		return op
	}
	for y := range op.H {
		op.Pix = append(op.Pix, c.Pix[y*c.W*4:][:op.W*4]...)
	}
	return op
}

// begin starts a frame after b, with room for the longest header.
func (e *Encoder) begin(b []byte) {
	e.start, e.raw, e.drawn, e.large, e.sent = len(b), 0, 0, 0, 0
	var room [draw.MaxHeader]byte
	e.out.b = append(b, room[:]...)
	e.out.b = append(e.out.b, e.tail...)
	e.before, e.tail = e.tail, nil
	if o := &e.ahead; o.begun() {
		e.out.b = append(e.out.b, o.b...)
		e.raw, e.drawn, e.large = o.raw, o.drawn, o.large
		if o.open {
			e.raw, e.sent = 0, o.raw
		}
		*o = opening{changed: o.changed, restless: o.restless}
	}
}

// flush packs what was written.
func (e *Encoder) flush() {
	if err := e.z.Flush(); err != nil {
		panic("encode: " + err.Error()) // sink never fails
	}
}

// end completes the frame: what is packed moves up to its header.
func (e *Encoder) end() {
	e.flush()
	e.seq++
	packed := e.out.b[e.start+draw.MaxHeader:]
	b := draw.Header{Seq: e.seq, Packed: len(packed), Raw: e.raw}.Append(e.out.b[:e.start])
	e.out.b = append(b, packed...)
}

// room begins another frame if an operation of n bytes that touches so many
// pixels, and as a PHOTO unpacks to so many bytes, does not fit into this one.
func (e *Encoder) room(n, pixels, large int) {
	if e.sent+e.raw+n > draw.MaxRaw || e.drawn+pixels > draw.MaxDrawn || e.large+large > draw.MaxRaw {
		e.end()
		e.begin(e.out.b)
	}
	e.raw += n
	e.drawn += pixels
	e.large += large
}

// op writes a small operation.
func (e *Encoder) op(op draw.Op) {
	e.buf = op.Append(e.buf[:0])
	e.room(len(e.buf), op.W*op.H, 0)
	e.write(e.buf)
}

// area writes an area's operations, exact ones if that is asked for.
func (e *Encoder) area(a area, exact bool) {
	// Strips, so that no operation needs much memory.
	rows := min(max(palettePixels/(a.x1-a.x0), 1), stripRows)
	if a.one {
		rows = a.y1 - a.y0
	}
	for y := a.y0; y < a.y1; y += rows {
		s := strip{area: a, exact: exact}
		s.y0, s.y1 = y, min(y+rows, a.y1)
		if e.team != nil {
			e.give(s)
			continue
		}
		s.code(&e.coder, &e.shadow, e.terms)
		e.strip(s, &e.coder)
		e.cut()
	}
}

// A strip is a part of an area that is sent as one operation.
type strip struct {
	area
	exact bool    // it must be, whatever the terms
	is    content // by code
}

// nearly reports whether s, a photo, is to be sent nearly at first.
func (s *strip) nearly(t Terms) bool { return !s.exact && t.first() && s.pixels() >= leastNear }

// code decides how to send s and leaves the operation in c.buf, but for what
// strip does itself.
func (s *strip) code(c *coder, shadow *draw.Pixmap, t Terms) {
	if s.one {
		return
	}
	switch s.is = c.look(shadow, s.area); {
	case s.is == few:
		c.palette(s.area)
	case s.is == smooth && !s.nearly(t):
		c.photo(shadow, s.area)
	}
}

// strip writes s, which c has coded.
func (e *Encoder) strip(s strip, c *coder) {
	r, n := image.Rect(s.x0, s.y0, s.x1, s.y1), s.pixels()
	if s.is == smooth {
		if !s.exact && !e.terms.exact() {
			e.warm(r)
		}
		if s.nearly(e.terms) {
			e.later = append(e.later, r)
			return
		}
	}
	e.cells.pay(r)
	switch {
	case s.one:
		px := e.shadow.Row(s.y0, s.x0, s.x0+1)
		e.op(draw.Op{Code: draw.Fill, X: s.x0, Y: s.y0, W: r.Dx(), H: r.Dy(), B: px[0], G: px[1], R: px[2]})
		return
	case s.is == few:
		e.room(len(c.buf), n, 0)
		e.write(c.buf)
		return
	case s.is == smooth:
		e.room(len(c.buf), n, n*3)
		e.write(c.buf)
		return
	}
	c.buf = head(c.buf[:0], draw.Set, s.area)
	e.room(len(c.buf)+n*3, n, 0)
	e.write(c.buf)
	for y := s.y0; y < s.y1; y++ {
		c.buf = pack(c.buf[:0], e.shadow.Row(y, s.x0, s.x1))
		e.write(c.buf)
	}
}

func (e *Encoder) write(b []byte) {
	if _, err := e.z.Write(b); err != nil {
		panic("encode: " + err.Error()) // sink never fails
	}
}

// pack appends the pixels of src, B G R X, as B G R.
func pack(dst, src []byte) []byte {
	n := len(src) / 4 * 3
	if cap(dst)-len(dst) < n+1 {
		dst = append(make([]byte, 0, len(dst)+n+1), dst...)
	}
	// Four bytes are written for three, so that a pixel is one load and one
	// store; the next pixel, or nothing, takes the fourth's place.
	b := dst[len(dst) : len(dst)+n+1]
	for len(src) >= 4 && len(b) >= 4 {
		binary.LittleEndian.PutUint32(b, binary.LittleEndian.Uint32(src))
		src, b = src[4:], b[3:]
	}
	return dst[:len(dst)+n]
}
