package encode

import (
	"bytes"
	"fmt"
	"image"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"

	"hotdesk/protocol/draw"
	"hotdesk/server/session/encode/encodetest"
)

// A model is a slow and obvious terminal.
type model struct {
	t      failer
	z      *zstd.Decoder
	in     bytes.Buffer
	seq    uint32
	term   encodetest.Terminal
	pic    *draw.Pixmap // the terminal's
	cursor draw.Op
	warp   image.Point
	ops    map[draw.Code]int // of the last show
	drawn  int
}

type failer interface {
	Helper()
	Fatalf(string, ...any)
}

func newModel(t failer) *model {
	m := &model{t: t}
	var err error
	m.z, err = zstd.NewReader(readOnly{&m.in}, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatalf("%v", err)
	}
	return m
}

// readOnly hides Bytes and Len, which zstd would use to read ahead.
type readOnly struct{ io.Reader }

// show applies all frames of b and returns how many there are.
func (m *model) show(b []byte) int {
	m.t.Helper()
	m.ops, m.drawn = map[draw.Code]int{}, 0
	n := 0
	for ; len(b) > 0; n++ {
		h, rest, err := draw.ParseHeader(b)
		if err != nil {
			m.t.Fatalf("header: %v", err)
		}
		if h.Seq == 0 && m.seq == 0 { // a part of the first
			n--
		} else {
			m.seq++
		}
		if h.Seq != m.seq || h.Packed > len(rest) {
			m.t.Fatalf("frame %+v with %d bytes after it, want number %d", h, len(rest), m.seq)
		}
		m.in.Write(rest[:h.Packed])
		b = rest[h.Packed:]
		raw := make([]byte, h.Raw)
		if _, err := io.ReadFull(m.z, raw); err != nil {
			m.t.Fatalf("frame %d: %v", h.Seq, err)
		}
		if m.in.Len() != 0 {
			m.t.Fatalf("frame %d: %d packed bytes too many", h.Seq, m.in.Len())
		}
		drawn := 0
		for len(raw) > 0 {
			op, rest, err := draw.Next(raw)
			if err != nil {
				m.t.Fatalf("frame %d: %v", h.Seq, err)
			}
			m.apply(op)
			raw = rest
			drawn += op.W * op.H
		}
		if drawn > draw.MaxDrawn {
			m.t.Fatalf("frame %d draws %d pixels", h.Seq, drawn)
		}
	}
	return n
}

func (m *model) apply(op draw.Op) {
	m.t.Helper()
	m.ops[op.Code]++
	if op.Code != draw.Keep { // draws nothing
		m.drawn += op.W * op.H
	}
	if err := m.term.Draw(op); err != nil {
		m.t.Fatalf("%v", err)
	}
	m.pic = m.term.Picture
	switch op.Code {
	case draw.Cursor:
		op.Pix = bytes.Clone(op.Pix)
		m.cursor = op
	case draw.Warp:
		if op.X >= m.pic.W || op.Y >= m.pic.H {
			m.t.Fatalf("pointer at %d,%d", op.X, op.Y)
		}
		m.warp = image.Pt(op.X, op.Y)
	}
}

// differs says where the model's picture is not p, or nothing.
func (m *model) differs(p *draw.Pixmap) error {
	if m.pic.W != p.W || m.pic.H != p.H {
		return fmt.Errorf("%dx%d, want %dx%d", m.pic.W, m.pic.H, p.W, p.H)
	}
	for y := range p.H {
		row := p.Row(y, 0, p.W)
		for x := range p.W {
			if got, want := pixel(m.pic.Row(y, x, x+1)), pixel(row[x*4:]); got != want {
				return fmt.Errorf("%#06x at %d,%d, want %#06x", got, x, y, want)
			}
		}
	}
	return nil
}

// step encodes v, shows it and returns the bytes that took.
func step(t testing.TB, e *Encoder, m *model, v View) int {
	t.Helper()
	b := e.Encode(nil, v)
	m.show(b)
	if m.seq != e.Seq() {
		t.Fatalf("Seq is %d, the last frame's is %d", e.Seq(), m.seq)
	}
	if err := m.differs(v.Picture); err != nil {
		t.Fatal(err)
	}
	return len(b)
}
