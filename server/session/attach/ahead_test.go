package attach

import (
	"testing"

	"hotdesk/protocol/draw"
	"hotdesk/protocol/native"
	"hotdesk/server/session/encode"
)

// What was made in advance is on its way before all is ready, and is no picture
// before that; a terminal of another size gets nothing of it.
func TestAheadIsSentAtOnce(t *testing.T) {
	for _, c := range []struct {
		name          string
		width, height int
		parts         int
	}{
		{"of the terminal's size", 640, 480, 1},
		{"of another", 640, 400, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, 0, func(b *bubble) {
				s := newShown(1)
				made, err := encode.NewEncoder()
				if err != nil {
					t.Fatal(err)
				}
				if !made.Prepare(encode.View{Picture: draw.NewPixmap(c.width, c.height)}) {
					t.Fatal("no picture was made")
				}
				s.spec.Ahead = func() *encode.Encoder { return made }
				ready := make(chan struct{})
				s.spec.Attached = func() { <-ready; s.events <- "attached" }
				ticket, err := b.ep.Offer(s.spec)
				if err != nil {
					t.Fatal(err)
				}
				x, err := b.dial()
				if err != nil {
					t.Fatal(err)
				}
				defer x.close()
				x.send(hello(s.spec, ticket))
				for range c.parts {
					if h := x.frame(); h.Seq != 0 {
						t.Errorf("frame %d before all is ready", h.Seq)
					}
				}
				if n := s.source.Views(); n != 0 {
					t.Errorf("it was looked at %d times before all is ready", n)
				}
				close(ready)
				s.event(t, "attached")
				if h := x.frame(); h.Seq != 1 {
					t.Errorf("frame %d is the first", h.Seq)
				}
				x.ack(1)
				s.source.Dot(1, 1, 1)
				if h := x.frame(); h.Seq != 2 {
					t.Errorf("frame %d after the first", h.Seq)
				}
				b.ep.Detach(1, "", native.CloseDetached, "over")
				s.event(t, "detached")
			})
		})
	}
}
