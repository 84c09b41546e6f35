package control

import (
	"fmt"
	"net"
	"testing"
	"time"

	"hotdesk/protocol/alp"
)

// Terminals that were made up and left make room for one that comes; those that
// are here, or show a session, do not.
func TestMadeUpTerminals(t *testing.T) {
	s := New(Config{})
	start := time.Now()
	id := func(n int) alp.TerminalID { return alp.TerminalID(fmt.Sprintf("02%010x", n)) }
	for n := range MaxTerminals {
		x := &terminal{id: id(n), left: start.Add(time.Duration(n) * time.Millisecond)}
		switch n {
		case 0:
			x.conn = &conn{}
		case 1:
			x.shown.session = "00000000000000aa"
		case 2:
			x.came = 1
		}
		s.terminals[x.id] = x
	}
	come := func(n int) *conn {
		t.Helper()
		near, far := net.Pipe()
		t.Cleanup(func() { near.Close(); far.Close() })
		c := &conn{nc: near, out: make(chan []byte, maxQueued)}
		if err := s.bind(c, id(n)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	for n := MaxTerminals; n < MaxTerminals+100; n++ {
		if c := come(n); c.t == nil || c.closed || len(s.terminals) != MaxTerminals {
			t.Fatalf("terminal %d: %+v, %d are known", n, c.t, len(s.terminals))
		}
	}
	for _, x := range s.terminals {
		if x.conn == nil && x.came == 0 && x.shown.session == "" {
			x.conn = &conn{}
		}
	}
	for n := range 3 {
		if s.terminals[id(n)] == nil {
			t.Errorf("terminal %d was forgotten", n)
		}
	}
	if c := come(2 * MaxTerminals); c.t != nil || !c.closed {
		t.Error("there are more terminals than may be")
	}
}
