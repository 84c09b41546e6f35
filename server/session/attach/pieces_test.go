package attach

import (
	"image"
	"math/rand/v2"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/draw"
	"hotdesk/server/session/attach/attachtest"
)

// The pieces of a large change wait for no acknowledgement, and for a terminal
// that does not read only themselves; what changes then waits for all of them.
func TestPieces(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	inBubble(t, 0, func(b *bubble) {
		const w, h = 1400, 800
		s := newShown(1)
		s.source = attachtest.NewSource(w, h)
		s.spec.Source = s.source
		c := b.attach(s)
		defer c.close()
		c.ack(1)
		pass(time.Second)
		views, random := s.source.Views(), rand.New(rand.NewPCG(1, 1))
		s.source.Change(image.Rect(0, 0, w, h), func(p *draw.Pixmap) {
			for i := range p.Pix {
				p.Pix[i] = byte(random.Uint32())
			}
		})
		pass(100 * time.Millisecond) // it has not read a byte
		s.source.Dot(1, 1, 1)        // nobody holds the picture
		pass(100 * time.Millisecond)
		if got := s.source.Views() - views; got != 1 {
			t.Errorf("%d views while the first is being written", got)
		}
		last := uint32(1)
		for bytes := 0; bytes < w*h*3; { // noise does not shrink
			h := c.frame()
			last, bytes = h.Seq, bytes+h.Packed
		}
		if last < 5 {
			t.Errorf("the change was %d frames", last-1)
		}
		synctest.Wait()
		if got := s.source.Views() - views; got != 2 {
			t.Errorf("%d views with one picture unacknowledged, want 2", got)
		}
		if h := c.frame(); h.Seq != last+1 {
			t.Errorf("frame %d after %d", h.Seq, last)
		}
		for _, step := range []struct {
			ack   uint32
			views int
		}{{last - 1, 2}, {last, 3}} {
			s.source.Dot(2, 2, byte(step.ack))
			c.ack(step.ack)
			pass(FrameInterval)
			if got := s.source.Views() - views; got != step.views {
				t.Errorf("after frame %d of %d is drawn: %d views, want %d", step.ack, last, got, step.views)
			}
		}
	})
}
