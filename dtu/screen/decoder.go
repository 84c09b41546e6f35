package screen

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"hotdesk/protocol/draw"
)

// ErrDetached is what a decoder says that may not draw any more: the screen
// was blanked, another decoder attached, or it was closed.
var ErrDetached = errors.New("screen: detached")

// ErrFrame is wrapped by the errors of a stream that is not as protocol/draw
// says.
var ErrFrame = errors.New("screen: bad frame")

const (
	// firstRaw is the memory that a frame's operations begin with.
	firstRaw = 4 << 10
	// keepRaw is the memory that is kept between frames; more only from one
	// big frame to the next.
	keepRaw = 256 << 10
	// pageSize is at most that of the system's memory.
	pageSize = 4 << 10
)

// A Decoder draws the frames of one display stream on its screen. Decode is
// for one goroutine; Close may be called by any.
type Decoder struct {
	screen *Screen
	src    piece
	z      *zstd.Decoder
	raw    []byte
	big    bool // the last frame needed more than keepRaw
	seq    uint32
	w, h   int               // of the picture; 0 before the first frame
	ready  chan *draw.Pixmap // gives a black one for the first frame; nil: nobody made one
	damage region            // the last frame's, for its memory
	photos photos
	err    error // the first one; the stream is lost after it

	mu     sync.Mutex
	busy   bool // Decode runs
	closed bool
}

// piece is where zstd reads: the packed bytes of one frame and not one more.
type piece struct {
	r    *bufio.Reader
	left int
	err  error // of r
}

var errPieceEnd = errors.New("more bytes wanted than the frame has")

func (p *piece) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, errPieceEnd
	}
	n, err := p.r.Read(b[:min(len(b), p.left)])
	p.left -= n
	if err != nil {
		p.err = err
	}
	return n, err
}

// Decode reads one frame and draws it. It returns io.EOF where the stream ends
// between two frames, and after an error only errors.
func (d *Decoder) Decode(r *bufio.Reader) (seq uint32, err error) {
	if !d.enter() {
		return 0, ErrDetached
	}
	defer d.leave()
	if d.err == nil {
		d.err = d.decode(r)
	}
	if d.err != nil {
		d.raw, d.photos = nil, photos{}
		return 0, d.err
	}
	return d.seq, nil
}

// prepare makes a black picture of that size for the first frame, while nothing of
// it has come yet: the first touch of fresh memory costs milliseconds.
func (d *Decoder) prepare(w, h int) {
	ready := make(chan *draw.Pixmap, 1)
	d.ready = ready
	go func() {
		p := draw.NewPixmap(w, h)
		for i := 0; i < len(p.Pix); i += pageSize {
			p.Pix[i] = 0
		}
		ready <- p
	}()
}

// Close ends the decoder. What it drew stays.
func (d *Decoder) Close() {
	d.screen.detach(d)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if !d.busy {
		d.free()
	}
}

func (d *Decoder) enter() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy = !d.closed
	return d.busy
}

func (d *Decoder) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy = false
	if d.closed {
		d.free()
	}
}

func (d *Decoder) free() {
	if d.z != nil {
		d.z.Close()
	}
	d.z, d.raw, d.src, d.photos, d.ready = nil, nil, piece{}, photos{}, nil
}

func (d *Decoder) decode(r *bufio.Reader) error {
	if !d.screen.mayDraw(d) {
		return ErrDetached
	}
	f := frame{w: d.w, h: d.h, damage: d.damage[:0], photos: &d.photos}
	if d.seq == 0 {
		f.fresh = &fresh{black: func(w, h int) *draw.Pixmap { return d.screen.black(d, w, h) }}
		defer f.fresh.stop()
	}
	d.photos.reset()
	h, err := d.read(r, &f)
	d.photos.wait()
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	if f.fresh != nil {
		if !d.screen.show(d, f.fresh) {
			return ErrDetached
		}
	} else if !d.screen.draw(d, f) {
		return ErrDetached
	}
	d.seq, d.w, d.h, d.damage, d.ready = h.Seq, f.w, f.h, f.damage, nil
	big := len(d.raw) > keepRaw || len(d.photos.unpacked) > keepRaw
	if cap(d.raw) > keepRaw && !(big && d.big) {
		d.raw = nil
	}
	if cap(d.photos.unpacked) > keepRaw && !(len(d.photos.unpacked) > keepRaw && d.big) {
		d.photos.release()
	}
	d.big = big
	return nil
}

// read reads a frame, of which the first may come in parts, and returns the
// header of the last.
func (d *Decoder) read(r *bufio.Reader, f *frame) (h draw.Header, err error) {
	d.raw = d.raw[:0]
	for parts := 0; ; parts++ {
		h, err := readHeader(r)
		if err == io.EOF && parts > 0 {
			err = fmt.Errorf("screen: %w", io.ErrUnexpectedEOF)
		}
		if err != nil {
			return h, err
		}
		part := h.Seq == 0 && d.seq == 0
		if !part && h.Seq != d.seq+1 {
			return h, fmt.Errorf("%w: number %d after %d", ErrFrame, h.Seq, d.seq)
		}
		if len(d.raw)+h.Raw > draw.MaxRaw {
			return h, fmt.Errorf("%w: its parts unpack to more than %d bytes", ErrFrame, draw.MaxRaw)
		}
		if err := d.unzip(r, h, f); err != nil || !part {
			return h, err
		}
	}
}

func readHeader(r *bufio.Reader) (draw.Header, error) {
	var room [draw.MaxHeader]byte
	for b := room[:0]; ; {
		c, err := r.ReadByte()
		if err == io.EOF && len(b) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err == io.EOF {
			return draw.Header{}, err
		}
		if err != nil {
			return draw.Header{}, fmt.Errorf("screen: %w", err)
		}
		b = append(b, c)
		h, _, err := draw.ParseHeader(b)
		if err == nil {
			return h, nil
		}
		if err != draw.ErrShort {
			return draw.Header{}, fmt.Errorf("%w: %w", ErrFrame, err)
		}
	}
}

// unzip reads the packed bytes of a frame, or of a part of one, and adds its
// operations to d.raw and f.raw. Of a large frame those that are there are checked,
// and its photos restored, while others come; those of a fresh picture are
// performed.
func (d *Decoder) unzip(r *bufio.Reader, h draw.Header, f *frame) error {
	d.src = piece{r: r, left: h.Packed}
	defer func() { d.src.r = nil }()
	if d.z == nil {
		var err error
		// Without concurrency it reads no block before one is asked for, so
		// that it never waits for the next frame.
		d.z, err = zstd.NewReader(&d.src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(draw.Window))
		if err != nil {
			return fmt.Errorf("screen: %w", err)
		}
	}
	end := len(d.raw) + h.Raw
	for len(d.raw) < end {
		// Memory grows with what has come, not with what is announced. There
		// is always room for one byte too many, to see whether it comes.
		for cap(d.raw) == len(d.raw) || cap(d.raw) == end {
			b := make([]byte, len(d.raw), min(max(2*cap(d.raw), firstRaw), end+1))
			copy(b, d.raw)
			d.raw = b
		}
		n, err := d.z.Read(d.raw[len(d.raw):min(cap(d.raw), end+1)])
		d.raw = d.raw[:len(d.raw)+n]
		f.raw = d.raw
		if f.fresh != nil {
			if err := f.more(); err != nil && !errors.Is(err, draw.ErrShort) {
				return err
			}
		} else if len(f.raw) < end && h.Raw > keepRaw && !d.photos.busy() {
			if err := f.more(); err != nil && !errors.Is(err, draw.ErrShort) {
				return err
			}
			d.photos.begin()
		}
		if err == nil || len(d.raw) >= end {
			continue
		}
		switch {
		case d.src.err == io.EOF:
			return fmt.Errorf("screen: %w", io.ErrUnexpectedEOF)
		case d.src.err != nil:
			return fmt.Errorf("screen: %w", d.src.err)
		}
		return fmt.Errorf("%w: %w", ErrFrame, err)
	}
	if len(d.raw) > end {
		return fmt.Errorf("%w: it unpacks to more than %d bytes", ErrFrame, h.Raw)
	}
	if d.src.left > 0 {
		return fmt.Errorf("%w: %d packed bytes too many", ErrFrame, d.src.left)
	}
	return nil
}

// A frame is one frame's operations.
type frame struct {
	raw    []byte
	at     int  // so much of it is checked
	drawn  int  // pixels that this touches
	w, h   int  // of the picture (0: none yet) before them, after check after them
	sized  bool // one of them is a Size
	damage region
	photos *photos // the planes of its PHOTOs and LOSSYs, by check
	fresh  *fresh  // in the place of that and of damage: what it has drawn by check; nil: nothing
}

// check reads all operations and says whether each fits its picture.
func (f *frame) check() error {
	if err := f.more(); err != nil {
		return err
	}
	if f.w == 0 {
		return fmt.Errorf("%w: the first sets no size", ErrFrame)
	}
	wait := f.photos.fill
	if f.fresh != nil {
		wait = f.fresh.wait
	}
	if err := wait(); err != nil {
		return fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return nil
}

// more is check for those operations that are there and were not checked, but
// for the photos in them.
func (f *frame) more() error {
	for raw := f.raw[f.at:]; len(raw) > 0; f.at = len(f.raw) - len(raw) {
		op, rest, err := draw.Next(raw)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrFrame, err)
		}
		raw = rest
		f.drawn += op.W * op.H
		if f.drawn > draw.MaxDrawn {
			return fmt.Errorf("%w: it draws more than %d pixels", ErrFrame, draw.MaxDrawn)
		}
		fits := true
		switch op.Code {
		case draw.Size:
			f.w, f.h, f.sized = op.W, op.H, true
		case draw.Warp:
			fits = op.X < f.w && op.Y < f.h
		case draw.Copy:
			fits = op.SrcX+op.W <= f.w && op.SrcY+op.H <= f.h
			fallthrough
		case draw.Fill, draw.Set, draw.Palette, draw.Photo, draw.Lossy, draw.Swap:
			fits = fits && op.X+op.W <= f.w && op.Y+op.H <= f.h
			if f.fresh == nil {
				f.damage.add(op.Rect())
			}
		case draw.Keep:
			fits = op.X+op.W <= f.w && op.Y+op.H <= f.h
		}
		if !fits {
			return fmt.Errorf("%w: %#x at %d,%d of %dx%d does not fit %dx%d",
				ErrFrame, byte(op.Code), op.X, op.Y, op.W, op.H, f.w, f.h)
		}
		var bad error
		switch {
		case f.fresh != nil:
			bad = f.fresh.do(op)
		case op.Code == draw.Photo:
			bad = f.photos.add(op)
		case op.Code == draw.Lossy:
			bad = f.photos.addBlocks(op)
		}
		if bad != nil {
			return fmt.Errorf("%w: %w", ErrFrame, bad)
		}
	}
	return nil
}
