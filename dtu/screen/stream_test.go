package screen

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"

	"hotdesk/protocol/draw"
)

// A stream makes frames as a media end does, and wrong ones.
type stream struct {
	t   testing.TB
	out bytes.Buffer
	z   *zstd.Encoder
	seq uint32
}

func newStream(t testing.TB, window int) *stream {
	s := &stream{t: t}
	var err error
	s.z, err = zstd.NewWriter(&s.out, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window), zstd.WithEncoderCRC(false))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pack compresses raw as the stream's next piece.
func (s *stream) pack(raw []byte) []byte {
	s.out.Reset()
	if _, err := s.z.Write(raw); err != nil {
		s.t.Fatal(err)
	}
	if err := s.z.Flush(); err != nil {
		s.t.Fatal(err)
	}
	return bytes.Clone(s.out.Bytes())
}

func (s *stream) raw(raw []byte) []byte {
	s.seq++
	p := s.pack(raw)
	return append(draw.Header{Seq: s.seq, Packed: len(p), Raw: len(raw)}.Append(nil), p...)
}

// frame makes the next frame.
func (s *stream) frame(ops ...draw.Op) []byte {
	var raw []byte
	for _, op := range ops {
		raw = op.Append(raw)
	}
	return s.raw(raw)
}

func size(w, h int) draw.Op { return draw.Op{Code: draw.Size, W: w, H: h} }

func fillOp(x, y, w, h int, c byte) draw.Op {
	return draw.Op{Code: draw.Fill, X: x, Y: y, W: w, H: h, B: c, G: c, R: c}
}

func in(b []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(b)) }

// decode decodes one frame, which must be right.
func decode(t testing.TB, d *Decoder, b []byte) {
	t.Helper()
	if _, err := d.Decode(in(b)); err != nil {
		t.Fatal(err)
	}
}

// grey is the picture's blue at each pixel; the tests draw greys.
func grey(p *draw.Pixmap) string {
	var b []byte
	for y := range p.H {
		row := p.Row(y, 0, p.W)
		for i := 0; i < len(row); i += 4 {
			b = append(b, "0123456789abcdef"[row[i]>>4])
		}
		b = append(b, '\n')
	}
	return string(b)
}

func TestStreams(t *testing.T) {
	s := New(4, 3)
	d := s.Attach()
	st := newStream(t, draw.Window)
	all := st.frame(size(4, 3), fillOp(1, 1, 2, 1, 0x70))
	all = append(all, st.frame(draw.Op{Code: draw.Set, X: 3, Y: 2, W: 1, H: 1, Pix: []byte{0xf0, 0xf0, 0xf0}})...)
	all = append(all, st.frame()...) // of nothing
	r := in(all)
	for want := range uint32(3) {
		if seq, err := d.Decode(r); seq != want+1 || err != nil {
			t.Fatal(seq, err)
		}
	}
	if got, want := grey(s.Snapshot()), "0000\n0770\n000f\n"; got != want {
		t.Errorf("screen shows\n%swant\n%s", got, want)
	}
	for range 2 {
		if _, err := d.Decode(r); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
	}

	for n := 1; n < len(all); n++ {
		d, r := s.Attach(), in(all[:n])
		var err error
		for err == nil {
			_, err = d.Decode(r)
		}
		// It may end between two frames, too.
		if err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after %d of %d bytes: %v", n, len(all), err)
		}
	}
	lost := errors.New("lost")
	for _, n := range []int{0, 1, 5} {
		d := s.Attach()
		if _, err := d.Decode(bufio.NewReader(io.MultiReader(bytes.NewReader(all[:n]), failing{lost}))); !errors.Is(err, lost) {
			t.Errorf("connection lost after %d bytes: %v", n, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// A frame is drawn when its last byte has come, without waiting for the next.
func TestNoByteIsAwaited(t *testing.T) {
	s := New(200, 200)
	d := s.Attach()
	st := newStream(t, draw.Window)
	noise := make([]byte, 200*200*3)
	for i := range noise {
		noise[i] = byte(i * i >> 7)
	}
	for _, f := range [][]byte{
		st.frame(size(200, 200)),
		st.frame(fillOp(0, 0, 7, 7, 9)),
		st.frame(draw.Op{Code: draw.Set, W: 200, H: 200, Pix: noise}, fillOp(0, 0, 1, 1, 1)),
	} {
		r := bufio.NewReader(io.MultiReader(bytes.NewReader(f), failing{errors.New("read beyond the frame")}))
		if _, err := d.Decode(r); err != nil {
			t.Fatal(err)
		}
	}
}

// What is wrong is refused with a reason, draws nothing, and ends the stream.
func TestBadFrames(t *testing.T) {
	ok := []draw.Op{size(8, 8), fillOp(0, 0, 8, 8, 0x10)}
	op := func(ops ...draw.Op) func(*stream) []byte {
		return func(s *stream) []byte { return s.frame(append(ops, fillOp(0, 0, 8, 8, 0xf0))...) }
	}
	header := func(change func(*draw.Header)) func(*stream) []byte {
		return func(s *stream) []byte {
			p := s.pack(fillOp(0, 0, 8, 8, 0xf0).Append(nil))
			h := draw.Header{Seq: 2, Packed: len(p), Raw: 12}
			change(&h)
			return append(h.Append(nil), append(p, make([]byte, 100)...)...)
		}
	}
	for _, c := range []struct {
		name string
		bad  func(*stream) []byte
	}{
		{"fill outside right", op(fillOp(7, 0, 2, 1, 1))},
		{"fill outside below", op(fillOp(0, 7, 1, 2, 1))},
		{"set outside", op(draw.Op{Code: draw.Set, X: 8, W: 1, H: 1, Pix: make([]byte, 3)})},
		{"copy to outside", op(draw.Op{Code: draw.Copy, X: 1, W: 8, H: 1})},
		{"copy from outside", op(draw.Op{Code: draw.Copy, SrcY: 1, W: 8, H: 8})},
		{"warp outside", op(draw.Op{Code: draw.Warp, X: 8})},
		{"outside of a smaller size", op(size(4, 4))},
		{"too much drawn", func(s *stream) []byte {
			ops := []draw.Op{size(8192, 4096)}
			for range draw.MaxDrawn / draw.MaxPixels {
				ops = append(ops, fillOp(0, 0, 8192, 4096, 1))
			}
			return s.frame(ops...)
		}},
		{"no operation", func(s *stream) []byte { return s.raw([]byte{0x00}) }},
		{"operation cut short", func(s *stream) []byte { return s.raw(append(fillOp(0, 0, 8, 8, 0xf0).Append(nil), 0xa2)) }},
		{"number left out", header(func(h *draw.Header) { h.Seq++ })},
		{"number again", header(func(h *draw.Header) { h.Seq-- })},
		{"raw too long", header(func(h *draw.Header) { h.Raw++ })},
		{"raw far too long", header(func(h *draw.Header) { h.Raw = draw.MaxRaw })},
		{"raw too short", header(func(h *draw.Header) { h.Raw-- })},
		{"no raw", header(func(h *draw.Header) { h.Raw = 0 })},
		{"packed too long", header(func(h *draw.Header) { h.Packed++ })},
		{"packed too short", header(func(h *draw.Header) { h.Packed-- })},
		{"no packed", header(func(h *draw.Header) { h.Packed = 0 })},
		{"packed more than there may be", func(*stream) []byte { return []byte{2, 0xff, 0xff, 0xff, 0xff, 0x0f, 1} }},
		{"not zstd", func(*stream) []byte {
			return append(draw.Header{Seq: 2, Packed: 20, Raw: 20}.Append(nil), "this is not zstd at all"...)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New(8, 8)
			d := s.Attach()
			st := newStream(t, draw.Window)
			decode(t, d, st.frame(ok...))
			before := grey(s.Snapshot())
			bad := c.bad(st)
			if _, err := d.Decode(in(bad)); !errors.Is(err, ErrFrame) {
				t.Errorf("error %v", err)
			}
			if got := grey(s.Snapshot()); got != before {
				t.Errorf("it drew\n%s", got)
			}
			if _, err := d.Decode(in(st.frame())); !errors.Is(err, ErrFrame) {
				t.Errorf("after it: %v", err)
			}
		})
	}
	t.Run("no size first", func(t *testing.T) {
		for _, ops := range [][]draw.Op{nil, {{Code: draw.Cursor}}, {fillOp(0, 0, 1, 1, 1)}} {
			if _, err := New(8, 8).Attach().Decode(in(newStream(t, draw.Window).frame(ops...))); !errors.Is(err, ErrFrame) {
				t.Errorf("%v: %v", ops, err)
			}
		}
	})
	t.Run("window too large", func(t *testing.T) {
		if _, err := New(8, 8).Attach().Decode(in(newStream(t, 2*draw.Window).frame(ok...))); !errors.Is(err, ErrFrame) {
			t.Error(err)
		}
	})
}

// Memory follows what has come, not what is announced; what a big frame needed
// is not kept, unless another follows.
func TestMemory(t *testing.T) {
	s := New(640, 480)
	d := s.Attach()
	if err := d.unzip(in(newStream(t, draw.Window).pack([]byte{1, 2, 3})), draw.Header{Seq: 1, Packed: draw.MaxPacked, Raw: draw.MaxRaw}, new(frame)); err == nil {
		t.Error("three bytes pass for all that were announced")
	}
	if cap(d.raw) > firstRaw {
		t.Errorf("%d bytes for an announcement", cap(d.raw))
	}
	d = s.Attach()
	st := newStream(t, draw.Window)
	pix := make([]byte, 640*480*3)
	big := draw.Op{Code: draw.Set, W: 640, H: 480, Pix: pix}
	for i, c := range []struct {
		frame []byte
		most  int
	}{
		{st.frame(size(640, 480), big), keepRaw},
		{st.frame(big), len(pix) + 100},
		{st.frame(fillOp(0, 0, 1, 1, 1)), keepRaw},
	} {
		decode(t, d, c.frame)
		if cap(d.raw) > c.most {
			t.Errorf("frame %d: %d bytes kept", i, cap(d.raw))
		}
	}
	var small [][]byte
	for i := range 102 { // one to warm up, and AllocsPerRun has its own
		small = append(small, st.frame(fillOp(1, 1, 5, 5, byte(i))))
	}
	src := bytes.NewReader(nil)
	r := bufio.NewReader(src)
	next := func() {
		src.Reset(small[0])
		r.Reset(src)
		small = small[1:]
		if _, err := d.Decode(r); err != nil {
			t.Fatal(err)
		}
	}
	next()
	if n := testing.AllocsPerRun(100, next); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

// COPY is as if through a buffer, in every direction.
func TestCopy(t *testing.T) {
	for dy := -2; dy <= 2; dy++ {
		for dx := -2; dx <= 2; dx++ {
			s := New(12, 12)
			d := s.Attach()
			pix := make([]byte, 12*12*3)
			for i := range pix {
				pix[i] = byte(i / 3)
			}
			st := newStream(t, draw.Window)
			decode(t, d, st.frame(size(12, 12), draw.Op{Code: draw.Set, W: 12, H: 12, Pix: pix}))
			want := s.Snapshot()
			from := s.Snapshot()
			for y := range 7 {
				copy(want.Row(3+dy+y, 3+dx, 10+dx), from.Row(3+y, 3, 10))
			}
			decode(t, d, st.frame(draw.Op{Code: draw.Copy, X: 3 + dx, Y: 3 + dy, W: 7, H: 7, SrcX: 3, SrcY: 3}))
			if !bytes.Equal(s.Snapshot().Pix, want.Pix) {
				t.Errorf("by %d,%d: wrong", dx, dy)
			}
		}
	}
}

// Photos that are not what they say draw nothing; the memory for those that
// are is bounded.
func TestPhotosRefused(t *testing.T) {
	flat := func(kind byte) []byte {
		return []byte{kind | draw.PlaneFlat, 1, draw.PlaneFlat, 2, draw.PlaneFlat, 3}
	}
	photo := func(w, h int, b []byte) draw.Op { return draw.Op{Code: draw.Photo, W: w, H: h, Pix: b} }
	for name, op := range map[string]draw.Op{
		"nothing":            photo(4, 4, nil),
		"two planes":         photo(4, 4, flat(0)[:4]),
		"four planes":        photo(4, 4, append(flat(0), draw.PlaneFlat, 4)),
		"an unknown kind":    photo(4, 4, flat(2)),
		"an unknown flag":    photo(4, 4, flat(16)),
		"green less itself":  photo(4, 4, flat(draw.PlaneAlone)),
		"raw, cut short":     photo(4, 4, append([]byte{draw.PlaneRaw}, make([]byte, 15)...)),
		"Huffman, cut short": photo(4, 4, []byte{draw.PlaneHuff, 0, 0, 9, 1, 2}),
		"Huffman of nothing": photo(4, 4, []byte{draw.PlaneHuff, 0, 0, 0, draw.PlaneFlat, 1, draw.PlaneFlat, 1}),
		"other Huffman":      photo(4, 4, append(append([]byte{draw.PlaneHuff, 0, 0, 40}, bytes.Repeat([]byte{0x81}, 40)...), 1, 1, 1, 1)),
		"of another size":    photo(16, 11, huffed()),
		"beyond the picture": photo(17, 1, flat(0)),
	} {
		t.Run(name, func(t *testing.T) {
			s := New(16, 12)
			d, st := s.Attach(), newStream(t, draw.Window)
			decode(t, d, st.frame(size(16, 12)))
			before := s.Snapshot()
			if _, err := d.Decode(in(st.frame(fillOp(0, 0, 16, 12, 9), op))); !errors.Is(err, ErrFrame) {
				t.Fatal(err)
			}
			if !bytes.Equal(s.Snapshot().Pix, before.Pix) {
				t.Error("it drew")
			}
		})
	}
	// A few bytes each, and three planes of megabytes all together.
	s := New(512, 256)
	d, st := s.Attach(), newStream(t, draw.Window)
	ops := []draw.Op{size(512, 256)}
	for range draw.MaxRaw / (3 * draw.MaxPhoto) {
		ops = append(ops, photo(512, 256, flat(0)))
	}
	decode(t, d, st.frame(ops...))
	if cap(d.photos.packed) > 0 {
		t.Errorf("room for %d photos is kept after a big frame", cap(d.photos.packed))
	}
	if _, err := d.Decode(in(st.frame(append(ops, ops[1])...))); !errors.Is(err, ErrFrame) {
		t.Errorf("photos of more than %d bytes: %v", draw.MaxRaw, err)
	}
	if cap(d.photos.unpacked) > 0 {
		t.Errorf("%d bytes are kept after the end", cap(d.photos.unpacked))
	}
}

// More photos than wait for each other are drawn in their order, each from its
// own planes, and take no memory but for these.
func TestManyPhotos(t *testing.T) {
	const w, h = 60, 50
	ops := []draw.Op{size(w, h)}
	for i := range 3*maxPacked + maxPacked/2 {
		op := draw.Op{Code: draw.Photo, X: i * 7 % (w - 2), Y: i * 3 % (h - 2), W: 1 + i%3, H: 1 + i/3%3}
		for k := range byte(3) {
			kind := byte(draw.PlaneFlat)
			if k > 0 && i>>k&1 > 0 {
				kind |= draw.PlaneAlone
			}
			if i>>(k+3)&1 > 0 {
				kind |= draw.PlaneMean
			}
			op.Pix = append(op.Pix, kind, byte(i)+k*byte(i>>8))
		}
		switch ops = append(ops, op); i % 500 {
		case 100:
			ops = append(ops, draw.Op{Code: draw.Lossy, X: i % 40, Y: 2, W: 11, H: 9, Step: 9, Pix: blocks()})
		case 200:
			ops = append(ops, draw.Op{Code: draw.Copy, X: 1, Y: 2, W: 40, H: 30, SrcX: 9, SrcY: 7})
		}
	}
	want := obvious{}
	for i, op := range ops {
		if !want.apply(op) {
			t.Fatalf("operation %d does not fit", i)
		}
	}
	s, d, st := shown(t, w, h, ops...)
	check := func() {
		t.Helper()
		for i, c := range want.pix {
			if got := [3]byte(s.pic.Pix[i*4:]); got != c {
				t.Fatalf("pixel %d is %v, want %v", i, got, c)
			}
		}
	}
	check()
	if n := cap(d.photos.packed); n > 2*maxPacked {
		t.Errorf("room for %d photos is kept", n)
	}
	// One that is wrong, and was looked at before the others came.
	bad := slices.Clone(ops)
	bad[1].Pix = nil
	if _, err := d.Decode(in(st.frame(bad...))); !errors.Is(err, ErrFrame) {
		t.Error(err)
	}
	check()
}

// A counter takes what a decoder takes, and no more: it refuses a stream that
// is cut short or misses a frame.
func TestCounter(t *testing.T) {
	s := newStream(t, draw.Window)
	all := append(s.frame(size(64, 48)), s.frame(draw.Op{Code: draw.Fill, W: 64, H: 48})...)
	var c Counter
	r := bufio.NewReader(bytes.NewReader(all))
	for want := range uint32(2) {
		if seq, err := c.Decode(r); seq != want+1 || err != nil {
			t.Fatalf("frame %d: %d, %v", want+1, seq, err)
		}
	}
	if _, err := c.Decode(r); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	c = Counter{}
	if _, err := c.Decode(bufio.NewReader(bytes.NewReader(all[:4]))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut short: %v", err)
	}
	c = Counter{seq: 7}
	if _, err := c.Decode(bufio.NewReader(bytes.NewReader(all))); !errors.Is(err, ErrFrame) {
		t.Errorf("a frame that misses others: %v", err)
	}
	c = Counter{}
	c.Close()
	if _, err := c.Decode(bufio.NewReader(bytes.NewReader(all))); err != ErrDetached {
		t.Errorf("after Close: %v", err)
	}
}
