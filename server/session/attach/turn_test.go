package attach

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/attach/attachtest"
	"hotdesk/server/session/encode"
)

// A gate is a source whose views last until it is opened.
type gate struct {
	*attachtest.Source
	in   *atomic.Int32
	open chan struct{}
}

func (g *gate) View(f func(encode.View)) {
	g.in.Add(1)
	<-g.open
	g.Source.View(f)
}

// However many terminals come at once to still screens, only so many frames
// are in the making; terminals that do not read hold none of the turns.
func TestStillScreensTakeTurns(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		var in atomic.Int32
		open := make(chan struct{})
		var clients []*client
		for n := range 2*cap(b.ep.makers) + 3 {
			s := newShown(uint64(n + 1))
			s.spec.Terminal = alp.TerminalID(fmt.Sprintf("0200c0a8%04x", n))
			s.spec.Still, s.spec.Source = true, &gate{s.source, &in, open}
			ticket, err := b.ep.Offer(s.spec)
			if err != nil {
				t.Fatal(err)
			}
			c, err := b.dial()
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			c.send(hello(s.spec, ticket))
			clients = append(clients, c)
		}
		synctest.Wait()
		if n := int(in.Load()); n != cap(b.ep.makers) {
			t.Errorf("%d frames in the making, want %d", n, cap(b.ep.makers))
		}
		close(open)
		for _, c := range clients { // in turn: the others do not read
			if h := c.frame(); h.Seq != 1 {
				t.Errorf("the first frame is %d", h.Seq)
			}
		}
		synctest.Wait()
		if n := len(b.ep.makers); n != 0 {
			t.Errorf("%d turns are held at rest", n)
		}
	})
}
