package workbench_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"hotdesk/dtu/backend/workbench"
	"hotdesk/protocol/input"
)

// at is the address of a path of the workbench, with its secret.
func at(t *testing.T, b *workbench.Workbench, path string) string {
	t.Helper()
	u, err := url.Parse(b.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.Path += path
	return u.String()
}

// dial opens a viewer's connection.
func dial(t *testing.T, b *workbench.Workbench) *websocket.Conn {
	t.Helper()
	c, _, err := websocket.Dial(t.Context(), strings.Replace(at(t, b, "live"), "http:", "ws:", 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(64 << 20)
	t.Cleanup(func() { c.CloseNow() })
	return c
}

// update reads up to the next picture and returns its number and size, and the
// rectangles that it has.
func update(t *testing.T, c *websocket.Conn) (seq uint32, size image.Point, rects []image.Rectangle) {
	t.Helper()
	for {
		kind, b, err := c.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if kind != websocket.MessageBinary {
			continue
		}
		le := binary.LittleEndian
		n := int(le.Uint32(b[12:]))
		left := len(b) - 16 - 8*n
		for i := range n {
			f := func(o int) int { return int(le.Uint16(b[16+8*i+o:])) }
			r := image.Rect(f(0), f(2), f(0)+f(4), f(2)+f(6))
			rects = append(rects, r)
			left -= r.Dx() * r.Dy() * 4
		}
		if le.Uint32(b) != 1 || left != 0 {
			t.Fatalf("head % x, %d bytes left", b[:16], left)
		}
		return le.Uint32(b[4:]), image.Pt(int(le.Uint16(b[8:])), int(le.Uint16(b[10:]))), rects
	}
}

func send(t *testing.T, c *websocket.Conn, records ...input.Record) {
	t.Helper()
	var b []byte
	for _, r := range records {
		b = r.Append(b)
	}
	if err := c.Write(t.Context(), websocket.MessageBinary, b); err != nil {
		t.Fatal(err)
	}
}

// A viewer that does not acknowledge gets nothing more, and holds up neither
// the terminal nor another viewer; then it gets all that changed at once.
func TestSlowViewer(t *testing.T) {
	b, p, _ := start(t, 640, 480)
	slow, quick := dial(t, b), dial(t, b)
	all := image.Rect(0, 0, 640, 480)
	for _, c := range []*websocket.Conn{slow, quick} {
		if seq, size, rects := update(t, c); seq != 1 || size != all.Max || len(rects) != 1 || rects[0] != all {
			t.Fatalf("first: %d, %v, %v", seq, size, rects)
		}
	}
	send(t, quick, input.Record{Type: input.Ack, Seq: 1})
	for i := range 50 {
		r := image.Rect(i*10, 0, i*10+10, 10)
		p.Fill(r, color.RGBA{R: byte(i), A: 255})
		seq, _, rects := update(t, quick)
		if seq != uint32(i+2) || len(rects) != 1 || rects[0] != r {
			t.Fatalf("quick %d: %d, %v", i, seq, rects)
		}
		send(t, quick, input.Record{Type: input.Ack, Seq: seq})
	}
	send(t, slow, input.Record{Type: input.Ack, Seq: 0}, input.Record{Type: input.Ack, Seq: 1})
	if seq, _, rects := update(t, slow); seq != 2 || len(rects) != 1 || rects[0] != image.Rect(0, 0, 500, 10) {
		t.Errorf("slow: %d, %v", seq, rects)
	}
}

// What a viewer holds is let go when it goes away, and nothing that another
// holds.
func TestViewerLeaves(t *testing.T) {
	b, _, hands := start(t, 640, 480)
	one, two := dial(t, b), dial(t, b)
	key := func(u uint16, down bool) input.Record { return input.Record{Type: input.Key, Usage: u, Down: down} }
	send(t, one, key(4, true), key(4, true), key(5, true), key(5, false), input.Record{Type: input.Pointer, X: 7, Y: 8, Buttons: 3})
	want(t, hands, "key 0x04 down", "key 0x05 down", "key 0x05 up")
	if got := <-hands.Events; got != "pointer 7,8 3" {
		t.Errorf("%q", got)
	}
	send(t, two, key(6, true))
	want(t, hands, "key 0x06 down")
	one.CloseNow()
	want(t, hands, "key 0x04 up")
	if got := <-hands.Events; got != "pointer 7,8 0" {
		t.Errorf("%q", got)
	}
	send(t, two, key(6, false))
	want(t, hands, "key 0x06 up")
}

// A viewer that breaks the rules loses its connection, and nobody else does.
func TestBadViewer(t *testing.T) {
	b, _, hands := start(t, 640, 480)
	good := dial(t, b)
	for name, m := range map[string][]byte{
		"unknown record": {99},
		"half a record":  {byte(input.Key), 0},
		"no key":         {byte(input.Key), 0xff, 0xff, 1},
		"resize":         input.Record{Type: input.Resize, X: 640, Y: 480}.Append(nil),
		"too long":       make([]byte, 5000),
	} {
		c := dial(t, b)
		if err := c.Write(t.Context(), websocket.MessageBinary, m); err != nil {
			t.Fatal(err)
		}
		for {
			if _, _, err := c.Read(t.Context()); err != nil {
				if s := websocket.CloseStatus(err); s != websocket.StatusPolicyViolation && s != websocket.StatusMessageTooBig {
					t.Errorf("%s: %v", name, err)
				}
				break
			}
		}
	}
	send(t, good, input.Record{Type: input.Wheel, Y: 1})
	want(t, hands, "wheel 0,1")
}

func TestTooManyViewers(t *testing.T) {
	b, _, _ := start(t, 64, 64)
	for range workbench.MaxViewers {
		update(t, dial(t, b))
	}
	_, resp, err := websocket.Dial(t.Context(), strings.Replace(at(t, b, "live"), "http:", "ws:", 1), nil)
	if err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("%v, %v", resp, err)
	}
}

func TestAPI(t *testing.T) {
	b, _, hands := start(t, 640, 480)
	call := func(method, path, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, at(t, b, path), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	inserted := func(text string) (in []string) {
		t.Helper()
		var s workbench.State
		if err := json.Unmarshal([]byte(text), &s); err != nil || s.Title != "Terminal A" || s.Width != 640 || s.Height != 480 || len(s.Cards) != 3 {
			t.Fatalf("%s: %v", text, err)
		}
		for _, c := range s.Cards {
			if c.Inserted {
				in = append(in, c.Name)
			}
		}
		return in
	}
	_, text := call("GET", "api/state", "")
	if in := inserted(text); len(in) != 0 {
		t.Errorf("%v is in", in)
	}
	_, text = call("POST", "api/insert", `{"card": "grace"}`)
	if in := inserted(text); fmt.Sprint(in) != "[grace]" {
		t.Errorf("%v is in", in)
	}
	_, text = call("POST", "api/remove", "")
	if in := inserted(text); len(in) != 0 {
		t.Errorf("%v is in", in)
	}
	call("POST", "api/power", "")
	want(t, hands, "insert grace", "remove", "power")

	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "api/insert", `{"card": "nobody"}`, 400},
		{"POST", "api/insert", `{"card": ""}`, 400},
		{"POST", "api/insert", ``, 400},
		{"POST", "api/insert", `{"card": "` + strings.Repeat("x", 5000) + `"}`, 400},
		{"POST", "api/remove", "", 400}, // no card is in
		{"GET", "api/remove", "", 404},
		{"GET", "nothing", "", 404},
	} {
		if status, text := call(c.method, c.path, c.body); status != c.status {
			t.Errorf("%s %s %.40q: %d %s, want %d", c.method, c.path, c.body, status, text, c.status)
		}
	}
}
