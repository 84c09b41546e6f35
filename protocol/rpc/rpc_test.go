package rpc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/protocol/rpc"
)

// pair runs two connected ends until the test's bubble ends; errs gets what
// each Serve returned.
func pair(t *testing.T, a, b rpc.Handler) (ca, cb *rpc.Conn, errs chan error) {
	t.Helper()
	pa, pb := net.Pipe()
	ca, cb = rpc.New(pa, a), rpc.New(pb, b)
	errs = make(chan error, 2)
	go func() { errs <- ca.Serve(t.Context()) }()
	go func() { errs <- cb.Serve(t.Context()) }()
	t.Cleanup(func() { ca.Close(); cb.Close() })
	return ca, cb, errs
}

func echo(_ context.Context, op string, body json.RawMessage) (any, error) {
	switch op {
	case "echo":
		return body, nil
	case "nothing":
		return nil, nil
	case "mute":
		return nil, errors.New("")
	case "unwritable":
		return func() {}, nil
	}
	return nil, fmt.Errorf("no %s here", op)
}

func TestCallBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := pair(t, echo, echo)
		for _, c := range []*rpc.Conn{a, b, a} {
			var out string
			if err := c.Call(t.Context(), "echo", "hällo\n", &out); err != nil || out != "hällo\n" {
				t.Fatalf("got %q, %v", out, err)
			}
			if err := c.Call(t.Context(), "nothing", nil, nil); err != nil {
				t.Fatal(err)
			}
			kept := "kept"
			if err := c.Call(t.Context(), "nothing", nil, &kept); err != nil || kept != "kept" {
				t.Fatalf("got %q, %v", kept, err)
			}
			for op, want := range map[string]string{"other": "no other here", "mute": "rpc: failed without a word", "unwritable": "json: unsupported type: func()"} {
				err := c.Call(t.Context(), op, nil, nil)
				if r, ok := errors.AsType[rpc.RemoteError](err); !ok || r.Text != want {
					t.Fatalf("%s: got %v, want %q", op, err, want)
				}
			}
			if err := c.Call(t.Context(), "echo", func() {}, nil); err == nil {
				t.Fatal("a body that cannot be written was sent")
			}
			if err := c.Call(t.Context(), "echo", strings.Repeat("x", rpc.MaxLine), nil); err == nil {
				t.Fatal("a message over MaxLine was sent")
			}
			var n int
			if err := c.Call(t.Context(), "echo", "text", &n); err == nil {
				t.Fatal("text read as a number")
			}
		}
	})
}

func TestEventsInOrderAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const events = 500
		release := make(chan struct{})
		var got []int
		all := make(chan struct{})
		a, _, _ := pair(t, nil, func(_ context.Context, op string, body json.RawMessage) (any, error) {
			<-release
			var n int
			if err := rpc.Decode(body, &n); err != nil {
				return nil, err
			}
			if got = append(got, n); len(got) == events {
				close(all)
			}
			return nil, nil
		})
		sent := make(chan int, events)
		go func() {
			for n := range events {
				if a.Notify("n", n) != nil {
					return
				}
				sent <- n
			}
		}()
		synctest.Wait()
		// One is handled, MaxWaiting wait, one has been read and finds no room;
		// a write to a pipe ends when it was read.
		if len(sent) > rpc.MaxWaiting+3 {
			t.Fatalf("%d events were read while the first was handled", len(sent))
		}
		close(release)
		<-all
		for i, n := range got {
			if i != n {
				t.Fatalf("event %d came as number %d", n, i)
			}
		}
	})
}

// What a handler puts off keeps nobody behind it waiting, but for those that are
// more than MaxLater; all of it ends with the connection.
func TestLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := 0
		a, _, errs := pair(t, nil, func(ctx context.Context, op string, _ json.RawMessage) (any, error) {
			if op != "later" {
				return "now", nil
			}
			begun++
			return rpc.Later(func() (any, error) {
				select {
				case <-time.After(time.Second):
					return "late", nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}), nil
		})
		ask := func(op string) chan string {
			got := make(chan string, 1)
			go func() {
				var out string
				if err := a.Call(t.Context(), op, nil, &out); err != nil {
					out = err.Error()
				}
				got <- out
			}()
			synctest.Wait()
			return got
		}
		start := time.Now()
		late, now := ask("later"), ask("soon")
		if got := <-now; got != "now" || time.Since(start) != 0 {
			t.Errorf("%s after %v", got, time.Since(start))
		}
		if got := <-late; got != "late" || time.Since(start) != time.Second {
			t.Errorf("%s after %v", got, time.Since(start))
		}
		begun = 0
		for range rpc.MaxLater + 3 {
			late = ask("later")
		}
		if begun != rpc.MaxLater+1 { // one waits for its place
			t.Errorf("%d have begun", begun)
		}
		a.Close()
		for range 2 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if got := <-late; got != rpc.ErrClosed.Error() {
			t.Errorf("the last: %s", got)
		}
	})
}

func TestCallEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, errs := pair(t, nil, func(ctx context.Context, op string, _ json.RawMessage) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 2)
		go func() { done <- a.Call(ctx, "wait", nil, nil) }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		go func() { done <- a.Call(t.Context(), "wait", nil, nil) }()
		synctest.Wait()
		if a.Err() != nil {
			t.Fatal(a.Err())
		}
		b.Close()
		if err := <-done; err != rpc.ErrClosed {
			t.Fatal(err)
		}
		<-a.Done()
		if err := a.Call(t.Context(), "wait", nil, nil); err != rpc.ErrClosed || a.Err() != rpc.ErrClosed {
			t.Fatal(err, a.Err())
		}
		for range 2 {
			if err := <-errs; err != nil {
				t.Fatalf("Serve: %v", err)
			}
		}
	})
}

// A peer that answers and closes has answered: the call must not end in
// ErrClosed, whichever of the two is seen first.
func TestAnswerThenClose(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			mine, theirs := net.Pipe()
			c := rpc.New(mine, nil)
			done := make(chan error, 2)
			go func() { done <- c.Serve(t.Context()) }()
			go func() {
				buf := make([]byte, 100)
				theirs.Read(buf)
				theirs.Write([]byte(`{"id":1,"re":true}` + "\n"))
				theirs.Close()
			}()
			if err := c.Call(t.Context(), "x", nil, nil); err != nil {
				t.Fatal(err)
			}
			<-done
		})
	}
}

// seen is a connection that remembers where what it reads has been put.
type seen struct {
	net.Conn
	buffers [][]byte
}

func (s *seen) Read(b []byte) (int, error) {
	s.buffers = append(s.buffers, b)
	return s.Conn.Read(b)
}

// What was answered is in no buffer of a connection any more once it was taken:
// it may be a password.
func TestAnswersAreWiped(t *testing.T) {
	for name, answer := range map[string]string{"short": "secret", "longer than a buffer": strings.Repeat("secret", 2000)} {
		t.Run(name, func(t *testing.T) {
			pa, pb := net.Pipe()
			s := &seen{Conn: pa}
			ca, cb := rpc.New(s, nil), rpc.New(pb, func(context.Context, string, json.RawMessage) (any, error) { return answer, nil })
			ended := make(chan error, 2)
			go func() { ended <- ca.Serve(t.Context()) }()
			go func() { ended <- cb.Serve(t.Context()) }()
			var out string
			if err := ca.Call(t.Context(), "ask", nil, &out); err != nil || out != answer {
				t.Errorf("%.20q, %v", out, err)
			}
			ca.Close()
			for range 2 {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
			for _, b := range s.buffers {
				if bytes.Contains(b[:cap(b)], []byte("secret")) {
					t.Errorf("a buffer of %d bytes has it still", cap(b))
				}
			}
		})
	}
}

func TestBadPeers(t *testing.T) {
	for name, tc := range map[string]struct{ bytes, want string }{
		"not JSON":              {"hello\n", "rpc: not a message"},
		"a list":                {"[]\n", "rpc: not a message"},
		"null":                  {"null\n", "rpc: neither request, reply nor event"},
		"neither":               {"{}\n", "rpc: neither request, reply nor event"},
		"both":                  {`{"id":1,"re":true,"op":"x"}` + "\n", "rpc: neither request, reply nor event"},
		"reply without id":      {`{"re":true}` + "\n", "rpc: neither request, reply nor event"},
		"cut off":               {`{"op":"x"`, "unexpected EOF"},
		"too long":              {strings.Repeat(" ", rpc.MaxLine) + "\n", "rpc: a line of more than"},
		"too long, no end":      {strings.Repeat(" ", 2*rpc.MaxLine), "rpc: a line of more than"},
		"reply nobody asked":    {`{"id":9,"re":true}` + "\n", ""},
		"nothing":               {"", ""},
		"event that is unknown": {`{"op":"x"}` + "\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := rpc.New(stream{strings.NewReader(tc.bytes), io.Discard}, nil)
			err := c.Serve(t.Context())
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			if c.Err() == nil {
				t.Fatal("still open")
			}
		})
	}
}

// The longest line is read whole, also one far longer than the buffer.
func TestLongestReportFits(t *testing.T) {
	var r local.Report
	for i := range local.MaxSessions {
		r.Sessions = append(r.Sessions, local.Session{
			ID:    alp.SessionID(fmt.Sprintf("%016x", i)),
			Token: alp.Token("card." + strings.Repeat("9", alp.MaxToken-5)), Last: 1 << 50,
		})
	}
	synctest.Test(t, func(t *testing.T) {
		a, _, _ := pair(t, nil, func(_ context.Context, _ string, body json.RawMessage) (any, error) {
			var got local.Report
			if err := rpc.Decode(body, &got); err != nil {
				return nil, err
			}
			return len(got.Sessions), got.Check()
		})
		var n int
		if err := a.Call(t.Context(), local.OpReport, r, &n); err != nil || n != local.MaxSessions {
			t.Fatal(n, err)
		}
	})
}

type stream struct {
	io.Reader
	io.Writer
}

func (stream) Close() error { return nil }

func FuzzServe(f *testing.F) {
	for _, s := range []string{
		`{"id":7,"op":"echo","body":{"token":"card.1"}}` + "\n",
		`{"id":1,"op":"hello","body":{"controlPort":7443}}` + "\n" + `{"id":1,"re":true,"body":{}}` + "\n",
		`{"id":7,"re":true,"error":"no"}` + "\n" + `{"op":"ended"}` + "\n", "{\n", strings.Repeat("x", 5000),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var out bytes.Buffer
		_ = rpc.New(stream{bytes.NewReader(data), &out}, echo).Serve(t.Context())
		// Whatever came, what went out is replies, a line each.
		for line := range bytes.Lines(out.Bytes()) {
			var e struct {
				ID uint64
				Re bool
			}
			if json.Unmarshal(line, &e) != nil || !e.Re || e.ID == 0 {
				t.Fatalf("sent %q", line)
			}
		}
	})
}
