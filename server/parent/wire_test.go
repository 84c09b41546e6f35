package parent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/rpc"
	"hotdesk/server/session/client"

	"golang.org/x/sys/unix"
)

func real(tb testing.TB) [][]byte {
	tb.Helper()
	var out [][]byte
	for _, m := range []message{
		{ID: 1, Op: opList},
		{ID: 2, Op: opStart, Start: &Start{Session: one, Token: "card.4711", User: "ann", Width: 1280, Height: 1024, Layout: "de"}},
		{ID: 3, Op: opOpen, Session: one},
		{ID: 1, List: []alp.SessionID{one, other}},
		{ID: 2, Error: "parent: no session for root"},
	} {
		b, err := json.Marshal(m)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

func FuzzParse(f *testing.F) {
	for _, b := range real(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b)
		if err != nil {
			if m.ID != 0 || m.Op != "" {
				t.Errorf("error and %+v", m)
			}
			return
		}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parse(text)
		if err != nil {
			return // escapes made it too long
		}
		if text2, err := json.Marshal(again); err != nil || !bytes.Equal(text, text2) {
			t.Errorf("%s became %s, %v", text, text2, err)
		}
	})
}

func TestParse(t *testing.T) {
	for _, b := range real(t) {
		if _, err := parse(b); err != nil {
			t.Errorf("%s: %v", b, err)
		}
	}
	for _, bad := range []string{"", "{}", `{"id":0}`, `{"id":-1}`, `[]`, `{"id":1}` + strings.Repeat(" ", MaxMessage)} {
		if m, err := parse([]byte(bad)); err == nil {
			t.Errorf("%.20q: %+v", bad, m)
		}
	}
}

// A list of as many sessions as a host may have fits into a message.
func TestLongestList(t *testing.T) {
	here, there := pair(t)
	m := message{ID: 1 << 62}
	for range MaxSessions {
		m.List = append(m.List, "ffffffffffffffff")
	}
	sent := make(chan error, 1)
	go func() { sent <- here.send(m, nil) }()
	got, files, err := there.receive()
	if err != nil || len(got.List) != MaxSessions || len(files) != 0 {
		t.Errorf("%d sessions, %d files, %v", len(got.List), len(files), err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// What is too long, or brings too many descriptors, is refused and nothing of
// it stays open.
func TestTooMuch(t *testing.T) {
	here, there := pair(t)
	if err := here.send(message{ID: 1, Error: strings.Repeat("x", MaxMessage)}, nil); err == nil {
		t.Error("sent too long a message")
	}
	if _, err := here.conn.Write([]byte(`{"id":1}` + strings.Repeat(" ", MaxMessage))); err != nil {
		t.Fatal(err)
	}
	if _, _, err := there.receive(); err == nil {
		t.Error("took too long a message")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var fds []int
	for range maxFiles + 1 {
		fds = append(fds, int(w.Fd()))
	}
	if _, _, err := here.conn.WriteMsgUnix([]byte(`{"id":1}`), unix.UnixRights(fds...), nil); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, _, err := there.receive(); err == nil {
		t.Error("took too many descriptors")
	}
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("descriptors stayed open")
	}
}

func pair(t *testing.T) (a, b link) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out [2]link
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		if out[i], err = newLink(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
		t.Cleanup(func() { out[i].conn.Close() })
	}
	return out[0], out[1]
}

func TestNotTheParentsSocket(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := NewClient(r); err == nil {
		t.Error("a pipe passed for the parent's socket")
	}
}

// A reply without a descriptor, or with two, is no connection.
func TestBadReplies(t *testing.T) {
	here, there := pair(t)
	c := &Client{link: here, done: make(chan struct{}), waiting: map[uint64]chan reply{}}
	go c.read()
	answered := make(chan error, 1)
	go func() {
		m, _, err := there.receive()
		if err == nil {
			err = there.send(message{ID: m.ID + 1}, nil) // nobody asked
		}
		if err == nil {
			err = there.send(message{ID: m.ID}, nil)
		}
		answered <- err
	}()
	if conn, err := c.Open(t.Context(), one); err == nil || conn != nil {
		t.Errorf("%v, %v", conn, err)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
	there.conn.Close()
	<-c.Done()
	if _, err := c.List(t.Context()); !errors.Is(err, ErrGone) {
		t.Errorf("error: %v", err)
	}
}

// A session that comes when nobody waits for it any more is ended; one whose
// gateway went, and did not run out of time, is the next gateway's.
func TestStartComesTooLate(t *testing.T) {
	over, cancelOver := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancelOver()
	left, leave := context.WithCancel(t.Context())
	leave()
	for name, x := range map[string]struct {
		ctx  context.Context
		want []string
	}{
		"its time was over": {over, []string{client.OpStop}},
		"its gateway went":  {left, nil},
	} {
		t.Run(name, func(t *testing.T) {
			here, there := pair(t)
			c := &Client{link: here, done: make(chan struct{}), waiting: map[uint64]chan reply{}}
			go c.read()
			if conn, err := c.Start(x.ctx, Start{Session: one, Token: "card.4711"}); err != x.ctx.Err() || conn != nil {
				t.Errorf("%v, %v", conn, err)
			}
			m, _, err := there.receive()
			if err != nil {
				t.Fatal(err)
			}
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			its, ours := os.NewFile(uintptr(fds[0]), "keeper"), os.NewFile(uintptr(fds[1]), "gateway")
			conn, err := net.FileConn(its)
			if err != nil {
				t.Fatal(err)
			}
			its.Close()
			err = there.send(message{ID: m.ID}, ours)
			ours.Close()
			if err != nil {
				t.Fatal(err)
			}
			var heard []string
			keeper := rpc.New(conn, func(_ context.Context, op string, _ json.RawMessage) (any, error) {
				heard = append(heard, op)
				return nil, nil
			})
			if err := keeper.Serve(t.Context()); err != nil || !slices.Equal(heard, x.want) { // until the gateway closes
				t.Errorf("the keeper heard %q, want %q (%v)", heard, x.want, err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
