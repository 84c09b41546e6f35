package screen

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"hotdesk/protocol/draw"
)

// Photos of a large frame are restored while it comes, however it comes: what is
// shown is the same, and of a frame with a bad one, or cut short, nothing is.
func TestPhotosWhileTheyCome(t *testing.T) {
	const w, h, strip, strips = 400, 600, 100, 6
	random := rand.New(rand.NewPCG(1, 1))
	ops := []draw.Op{size(w, h)}
	for k := range strips {
		pix := make([]byte, 0, 3*(1+w*strip))
		for range 3 {
			pix = append(pix, draw.PlaneRaw)
			for range w * strip {
				pix = append(pix, byte(random.Uint32()))
			}
		}
		ops = append(ops, draw.Op{Code: draw.Photo, Y: k * strip, W: w, H: strip, Pix: pix}, fillOp(k, k*strip, 9, 9, byte(k)))
	}
	slow := obvious{}
	for _, op := range ops {
		slow.apply(op)
	}
	for name, slowly := range map[string]func(io.Reader) io.Reader{
		"at once": func(r io.Reader) io.Reader { return r }, "by halves": iotest.HalfReader, "by bytes": iotest.OneByteReader,
	} {
		for bad := -1; bad < strips; bad++ {
			now := append([]draw.Op(nil), ops...)
			if bad >= 0 {
				now[1+2*bad].Pix = append([]byte{77}, now[1+2*bad].Pix[1:]...)
			}
			frame := newStream(t, draw.Window).frame(now...)
			s := New(w, h)
			_, err := s.Attach().Decode(bufio.NewReader(slowly(bytes.NewReader(frame))))
			got := s.SnapshotBare()
			if bad >= 0 {
				if !errors.Is(err, ErrFrame) || !bytes.Equal(got.Pix, make([]byte, len(got.Pix))) {
					t.Errorf("%s, photo %d is bad: %v, or something is drawn", name, bad, err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range slow.pix {
				if x := got.Pix[i*4:]; [3]byte(x[:3]) != want {
					t.Fatalf("%s: %v at %d,%d, want %v", name, x[:3], i%w, i/w, want)
				}
			}
			for _, n := range []int{len(frame) / 3, len(frame) - 1} {
				if _, err := New(w, h).Attach().Decode(bufio.NewReader(slowly(bytes.NewReader(frame[:n])))); !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%s, cut after %d of %d bytes: %v", name, n, len(frame), err)
				}
			}
		}
	}
}
