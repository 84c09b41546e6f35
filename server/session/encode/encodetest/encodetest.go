// Package encodetest is a slow and obvious terminal for the tests of what is
// drawn on one: it does what protocol/draw says, pixel by pixel.
//
// What does not fit is an error, never drawn elsewhere. A Terminal is not safe
// for concurrent use.
package encodetest

import (
	"fmt"

	"github.com/klauspost/compress/huff0"

	"hotdesk/protocol/draw"
)

// A Terminal is what has been drawn. The zero value has no picture yet.
type Terminal struct {
	Picture *draw.Pixmap // a new one after each Size
	kept    *draw.Pixmap
}

// Draw performs op. The cursor and the pointer are left to the caller.
func (t *Terminal) Draw(op draw.Op) error {
	switch op.Code {
	case draw.Size:
		t.Picture, t.kept = draw.NewPixmap(op.W, op.H), draw.NewPixmap(op.W, op.H)
		return nil
	case draw.Cursor, draw.Warp:
		return nil
	}
	p := t.Picture
	if p == nil || op.X+op.W > p.W || op.Y+op.H > p.H || op.Code == draw.Copy && (op.SrcX+op.W > p.W || op.SrcY+op.H > p.H) {
		return fmt.Errorf("%#x at %d,%d of %dx%d does not fit", byte(op.Code), op.X, op.Y, op.W, op.H)
	}
	n := op.W * op.H
	pix := make([][3]byte, n) // B G R
	switch op.Code {
	case draw.Fill:
		for i := range pix {
			pix[i] = [3]byte{op.B, op.G, op.R}
		}
	case draw.Set:
		for i := range pix {
			pix[i] = [3]byte(op.Pix[i*3:])
		}
	case draw.Copy:
		for i := range pix {
			x := op.SrcX + i%op.W
			pix[i] = [3]byte(p.Row(op.SrcY+i/op.W, x, x+1))
		}
	case draw.Keep, draw.Swap:
		for i := range pix {
			x, y := op.X+i%op.W, op.Y+i/op.W
			shown, kept := p.Row(y, x, x+1), t.kept.Row(y, x, x+1)
			pix[i] = [3]byte(shown)
			if op.Code == draw.Swap {
				pix[i] = [3]byte(kept)
			}
			copy(kept, shown)
		}
	case draw.Palette:
		bits := draw.IndexBits(len(op.Colours) / 3)
		column := (op.H*bits + 7) / 8
		for i := range pix {
			bit := i / op.W * bits
			index := 0
			for k := range bits { // the first bit is the highest
				b := op.Pix[i%op.W*column+(bit+k)/8]
				index = index<<1 | int(b>>(7-(bit+k)%8)&1)
			}
			if index*3 < len(op.Colours) {
				pix[i] = [3]byte(op.Colours[index*3:])
			}
		}
	case draw.Lossy:
		return t.blocks(op)
	case draw.Photo:
		if err := photo(pix, op); err != nil {
			return err
		}
	default:
		return fmt.Errorf("unknown operation %#x", byte(op.Code))
	}
	for i, c := range pix {
		x := op.X + i%op.W
		copy(p.Row(op.Y+i/op.W, x, x+1), c[:])
	}
	return nil
}

// blocks unpacks the fields of a Lossy. What they mean package draw knows: that
// all machines draw the same is its own test.
func (t *Terminal) blocks(op draw.Op) error {
	b := op.Pix
	var fields [5][]byte
	for k := range fields {
		if len(b) < 4 {
			return fmt.Errorf("%d bytes for a field", len(b))
		}
		n := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
		var err error
		if fields[k], b, err = plane(append([]byte{b[0]}, b[4:]...), n); err != nil {
			return err
		}
	}
	blocks := draw.Blocks{Shape: fields[0], DC: fields[1], AC: fields[2], Chroma: fields[3], Big: fields[4]}
	if err := blocks.Check(draw.BlocksOf(op.W, op.H)); err != nil || len(b) > 0 {
		return fmt.Errorf("%d bytes after the fields, %w", len(b), err)
	}
	blocks.Draw(t.Picture, op.Rect(), op.Step)
	return nil
}

func photo(pix [][3]byte, op draw.Op) error {
	b := op.Pix
	var alone [3]bool
	var planes [3][]byte // G, B-G+128, R-G+128
	for k := range planes {
		var flags byte
		if len(b) > 0 {
			flags = b[0] & (draw.PlaneAlone | draw.PlaneMean)
			b = append([]byte{b[0] &^ flags}, b[1:]...)
		}
		alone[k] = flags&draw.PlaneAlone != 0
		residues, rest, err := plane(b, len(pix))
		if err != nil {
			return err
		}
		v := make([]byte, len(pix))
		for i, r := range residues {
			x, y := i%op.W, i/op.W
			switch {
			case i == 0:
				v[i] = r
			case y == 0:
				v[i] = r + v[i-1]
			case x == 0:
				v[i] = r + v[i-op.W]
			default:
				left, above, corner := int(v[i-1]), int(v[i-op.W]), int(v[i-op.W-1])
				m := left + above - corner
				m = min(max(m, min(left, above)), max(left, above))
				if flags&draw.PlaneMean != 0 {
					m = (left + above) / 2
				}
				v[i] = r + byte(m)
			}
		}
		planes[k], b = v, rest
	}
	if len(b) > 0 || alone[0] {
		return fmt.Errorf("%d bytes after the planes", len(b))
	}
	for i := range pix {
		g := planes[0][i]
		pix[i] = [3]byte{planes[1][i], g, planes[2][i]}
		if !alone[1] {
			pix[i][0] += g - 128
		}
		if !alone[2] {
			pix[i][2] += g - 128
		}
	}
	return nil
}

// plane unpacks n residues and returns what follows them.
func plane(b []byte, n int) (residues, rest []byte, err error) {
	if len(b) < 1 {
		return nil, nil, fmt.Errorf("%d bytes for a plane", len(b))
	}
	kind, b := b[0], b[1:]
	switch {
	case kind == draw.PlaneRaw && len(b) >= n:
		return b[:n], b[n:], nil
	case kind == draw.PlaneFlat && len(b) > 0:
		flat := make([]byte, n)
		for i := range flat {
			flat[i] = b[0]
		}
		return flat, b[1:], nil
	case kind == draw.PlaneHuff && len(b) >= 3:
		size := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		if b = b[3:]; size > len(b) {
			break
		}
		s, streams, err := huff0.ReadTable(b[:size], nil)
		if err != nil {
			return nil, nil, err
		}
		out, err := s.Decoder().Decompress4X(make([]byte, 0, n), streams)
		if err == nil && len(out) != n {
			err = fmt.Errorf("%d residues, want %d", len(out), n)
		}
		return out, b[size:], err
	}
	return nil, nil, fmt.Errorf("plane of kind %d in %d bytes", kind, len(b))
}
