package live

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"hotdesk/tools/fleet/internal/figures"
)

func frame() Frame {
	return Frame{
		Scenario: "typist", At: 30 * time.Second, Lasts: time.Minute, Terminals: 5, Up: 4, Cards: 3, Pictures: 2, Looks: 17,
		Rates:  map[string]float64{figures.Frames: 12, figures.Keys: 5},
		Counts: map[string]int{figures.Frames: 99, "screen: No session": 2, "keys never seen": 7},
		Lately: map[string]figures.Row{figures.Echo: {N: 9, P50: 1.25, P99: 163}},
	}
}

// Both forms tell the same; trouble is named, the commonest first.
func TestFrame(t *testing.T) {
	f := frame()
	for _, text := range []string{f.Line(), strings.Join(f.Lines(), "\n")} {
		for _, want := range []string{"p50 1.25 p99 163 ms", "0 violations", "12.0"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q lacks %q", text, want)
			}
		}
	}
	lines := strings.Join(f.Lines(), "\n")
	for _, want := range []string{"[############............] 30 of 60 s", "9; 7 keys never seen; 2 screen: No session", "3 cards in, 2 with their picture, 1 wait"} {
		if !strings.Contains(lines, want) {
			t.Errorf("%s\nlacks %q", lines, want)
		}
	}
	if (Frame{}).Line() == "" || len((Frame{}).Lines()) == 0 {
		t.Error("an empty frame says nothing")
	}
}

// What is written meanwhile stands above the lines, and whole lines only.
func TestAbove(t *testing.T) {
	var b bytes.Buffer
	v := New(&b)
	if v.Person() {
		t.Fatal("a buffer is no terminal")
	}
	v.width = leastWidth
	v.Show(frame())
	n := len(frame().Lines())
	up := fmt.Sprintf("\x1b[%dA\x1b[J", n)
	b.Reset()
	fmt.Fprint(v, "half of")
	if b.Len() > 0 {
		t.Errorf("half a line was written: %q", b.String())
	}
	fmt.Fprint(v, " a line\n")
	if rest, ok := strings.CutPrefix(b.String(), up+"half of a line\n"); !ok || strings.Count(rest, "\n") != n {
		t.Errorf("wrote %q", b.String())
	}
	for l := range strings.Lines(b.String()) {
		if len(l) > leastWidth+len(up) {
			t.Errorf("%q is wider than the terminal", l)
		}
	}
	v.End()
	b.Reset()
	fmt.Fprintln(v, "after")
	if b.String() != "after\n" {
		t.Errorf("after the end: %q", b.String())
	}
}

func TestRates(t *testing.T) {
	r := Rates(map[string]int{"a": 4}, map[string]int{"a": 10, "b": 2}, 2*time.Second)
	if r["a"] != 3 || r["b"] != 1 {
		t.Error(r)
	}
}
