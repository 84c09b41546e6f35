package control

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/alp"
)

// FuzzReadLine compares with cutting the whole input at the ends of lines.
func FuzzReadLine(f *testing.F) {
	id := alp.Identity{Firmware: "f", Hardware: "h", Terminal: "080020c0ffee", Port: 1}
	insert := alp.InfoReq{Identity: id, Type: "card", ID: "1", Width: 640, Height: 480}
	f.Add(append(insert.Message().Append(nil), id.KeepAliveReq(true).Append(nil)...))
	f.Add([]byte("a\r\nb\x00\n\n c"))
	f.Add(bytes.Repeat([]byte("x"), alp.MaxLine+1))
	f.Add(append(bytes.Repeat([]byte("x"), alp.MaxLine-1), '\n'))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(in), alp.MaxLine)
		end := func(c rune) bool { return c == '\n' || c == '\r' || c == 0 }
		for _, want := range bytes.FieldsFunc(in, end) {
			got, err := readLine(r)
			if len(want) > alp.MaxLine-1 {
				if err != errTooLong || got != nil {
					t.Fatalf("a line of %d bytes: %d bytes, %v", len(want), len(got), err)
				}
				return
			}
			if err == errNoFinish && bytes.HasSuffix(in, want) {
				return
			}
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("got %q, %v, want %q", got, err, want)
			}
		}
		if got, err := readLine(r); err != io.EOF {
			t.Fatalf("after the last line: %q, %v", got, err)
		}
	})
}

func TestPace(t *testing.T) {
	now := time.Unix(0, 0)
	p := pace{n: lineBurst, at: now}
	for i := range lineBurst {
		if d := p.next(now); d != 0 {
			t.Fatalf("line %d waits %v", i, d)
		}
	}
	if d := p.next(now); d != time.Second/lineRate {
		t.Errorf("the next one waits %v", d)
	}
	if d := p.next(now.Add(time.Hour)); d != 0 {
		t.Errorf("an hour later: %v", d)
	}
}

// addressed is a connection that says where it is from.
type addressed struct {
	net.Conn
	from net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.from }

// A flood from one address makes no other address lose its connection.
func TestGateFairness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1000, 10)
		enter := func(host byte) *seat {
			t.Helper()
			near, far := net.Pipe()
			t.Cleanup(func() { near.Close(); far.Close() })
			s, err := g.enter(context.Background(), addressed{near, &net.TCPAddr{IP: net.IPv4(10, 0, 0, host), Port: 1}})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		quiet := []*seat{enter(1), enter(2), enter(2)}
		var flood []*seat
		for range 100 {
			flood = append(flood, enter(66))
		}
		for i, s := range quiet {
			if s.evicted() {
				t.Errorf("quiet connection %d was closed", i)
			}
		}
		for i, s := range flood {
			if old := i < len(flood)-7; s.evicted() != old {
				t.Errorf("connection %d of the flood was closed: %v", i, s.evicted())
			}
		}
	})
}

// Connections that have named terminals, too, leave room for other addresses.
func TestGateShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(64, 64)
		enter := func(host byte) (*seat, error) {
			near, far := net.Pipe()
			t.Cleanup(func() { near.Close(); far.Close() })
			s, err := g.enter(context.Background(), addressed{near, &net.TCPAddr{IP: net.IPv4(10, 0, 0, host), Port: 1}})
			if err == nil {
				g.named(s)
			}
			return s, err
		}
		var flood []*seat
		for _, c := range []struct {
			host byte
			most int
		}{{66, 32}, {67, 16}, {68, 8}} {
			n := 0
			for range 100 {
				if s, err := enter(c.host); err == nil {
					flood = append(flood, s)
					n++
				}
			}
			if n != c.most {
				t.Errorf("address %d has %d connections, want %d", c.host, n, c.most)
			}
		}
		for host := range byte(5) {
			if _, err := enter(host); err != nil {
				t.Errorf("an address with no connection: %v", err)
			}
		}
		for _, s := range flood {
			g.leave(s)
		}
		if g.all != 5 || len(g.held) != 5 {
			t.Errorf("%d connections of %d addresses are left, want 5", g.all, len(g.held))
		}
	})
}
