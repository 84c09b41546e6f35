package app

import (
	"testing"
	"time"

	"hotdesk/dtu/terminal"
)

// TestUnpluggedAtRest: at a screen that needs no session a link that is out is
// on the screen as soon as the kernel has told of it, and a moment.
func TestUnpluggedAtRest(t *testing.T) {
	g, m := newGateway(t), newMediaEnd(t)
	s, _ := startShell(t, small(g))
	l := g.accept()
	l.send(m.allow(l.presented(), "", green))
	m.next()
	wait := func(conditions ...string) {
		t.Helper()
		if err := s.wait(t.Context(), conditions, patience); err != nil {
			t.Fatal(err)
		}
	}
	wait("picture", "pixel=300,220,00ff00")
	began := time.Now()
	s.fromNetwork(terminal.Link{})
	wait("osd=1")
	t.Logf("said after %v", time.Since(began).Round(time.Millisecond))
	s.fromNetwork(terminal.Link{Up: true})
	l = g.accept()
	l.send(m.allow(l.presented(), "", green))
	m.next()
	wait("picture", "pixel=300,220,00ff00")
}
