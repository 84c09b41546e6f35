package media

import (
	"bytes"
	"image"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"

	"hotdesk/protocol/draw"
	"hotdesk/server/session/attach/attachtest"
	"hotdesk/server/session/encode"
	"hotdesk/server/session/encode/encodetest"
)

// shows is what a terminal shows after the first frames of a stream, and how
// many these are.
func shows(t *testing.T, b []byte) (p *draw.Pixmap, frames int) {
	t.Helper()
	var packed []byte
	raw := 0
	for ; len(b) > 0; frames++ {
		h, rest, err := draw.ParseHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		packed, b = append(packed, rest[:h.Packed]...), rest[h.Packed:]
		raw += h.Raw
	}
	z, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	ops := make([]byte, raw)
	if _, err := io.ReadFull(z, ops); err != nil {
		t.Fatal(err)
	}
	var terminal encodetest.Terminal
	for len(ops) > 0 {
		op, rest, err := draw.Next(ops)
		if err == nil {
			err = terminal.Draw(op)
		}
		if err != nil {
			t.Fatal(err)
		}
		ops = rest
	}
	return terminal.Picture, frames
}

// A picture is made soon after a terminal has gone, and what the next terminal
// gets is the screen as it is then.
func TestAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := attachtest.NewSource(320, 200)
		made := 0
		a := &ahead{source: s, made: func() { made++ }, log: slog.New(slog.DiscardHandler)}
		if a.take() != nil {
			t.Error("there is a picture before the first terminal has gone")
		}
		for _, c := range []struct {
			away  time.Duration // between two terminals
			made  int
			views int // before the second
		}{
			{0, 0, 0},
			{aheadAfter - 1, 0, 0},
			{aheadAfter + 1, 1, 1},
			{time.Hour, 2, 2}, // there is a change right after the first
		} {
			views := s.Views()
			made = 0
			s.Dot(1, 1, 10)
			a.gone()
			time.Sleep(c.away)
			synctest.Wait()
			s.Dot(2, 2, 20)
			enc := a.take()
			if got := s.Views() - views; got != c.views || made != c.made || (enc != nil) != (c.made > 0) {
				t.Errorf("away for %v: %d views, %d pictures made, one taken: %v; want %d, %d", c.away, got, made, enc != nil, c.views, c.made)
			}
			if enc == nil {
				continue
			}
			s.Dot(3, 3, 30)
			var b []byte
			s.View(func(v encode.View) { b = enc.Encode(nil, v) })
			enc.Close()
			p, frames := shows(t, b)
			if frames != 1 || p.Row(1, 1, 2)[0] != 10 || p.Row(2, 2, 3)[0] != 20 || p.Row(3, 3, 4)[0] != 30 {
				t.Errorf("away for %v: %d frames, which do not show the screen", c.away, frames)
			}
			s.Change(image.Rect(0, 0, 9, 9), func(p *draw.Pixmap) { clear(p.Pix) })
		}
	})
}

// A film that nobody sees is looked at ever more seldom.
func TestAheadRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := attachtest.NewSource(32, 32)
		a := &ahead{source: s, made: func() {}, log: slog.New(slog.DiscardHandler)}
		a.gone()
		for i := range 24 * 60 * 60 {
			s.Dot(i%32, 1, byte(i))
			time.Sleep(time.Second)
		}
		a.take().Close()
		if n, most := s.Views(), int(24*time.Hour/aheadSeldom)+10; n > most {
			t.Errorf("%d views in a day, at most %d are wanted", n, most)
		}
	})
}

// A screen that is too large to be kept is not tried again and again.
func TestAheadGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := attachtest.NewSource(2560, 1640)
		a := &ahead{source: s, made: func() {}, log: slog.New(slog.DiscardHandler)}
		for range 2 {
			views := s.Views()
			a.gone()
			time.Sleep(time.Hour)
			if s.Dot(1, 1, 1); a.take() != nil || s.Views() != views+1 {
				t.Errorf("%d views of a screen that is too large", s.Views()-views)
			}
		}
	})
}
