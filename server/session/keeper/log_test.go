package keeper

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Whatever programs print, and however they cut it, no line of theirs begins as
// the keeper's do, and none of those is in the middle of another.
func TestSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keeper.log")
	f, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	log, out := slog.New(slog.NewTextHandler(f, nil)), said{f}
	log.Info("first")
	for _, b := range []string{"plain\ntime=2026 level=INFO msg=forged\n", "half", "", "\r\x1b[2Jtime=2026\n\n", "\ttab \u00e4\n"} {
		if n, err := out.Write([]byte(b)); n != len(b) || err != nil {
			t.Errorf("%q: %d, %v", b, n, err)
		}
	}
	log.Info("last")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	want := []string{"time=", "| plain", "| time=2026 level=INFO msg=forged", "| half", "| ??[2Jtime=2026", "| ", "| \ttab \u00e4", "time="}
	if len(lines) != len(want) {
		t.Fatalf("%q", lines)
	}
	for i, w := range want {
		if lines[i] != w && !(w == "time=" && strings.HasPrefix(lines[i], w)) {
			t.Errorf("line %d: %q, want %q", i, lines[i], w)
		}
	}
}

// A line that comes in pieces is one line; a very long one is not waited for.
func TestWhole(t *testing.T) {
	long := strings.Repeat("x", maxPart+1)
	for name, c := range map[string]struct{ pieces, want []string }{
		"nothing":   {[]string{"", ""}, nil},
		"pieces":    {[]string{"gorou", "tine 1", " [running]:\nmain", ".main()\n\tx.go:1\nhalf"}, []string{"goroutine 1 [running]:\n", "main.main()\n\tx.go:1\n", "half"}},
		"long":      {[]string{"a\n" + long, "b\n"}, []string{"a\n" + long, "b\n"}},
		"long ends": {[]string{long[1:], "y\n"}, []string{long[1:] + "y\n"}},
	} {
		var got []string
		l := &whole{w: writer(func(b []byte) { got = append(got, string(b)) })}
		for _, p := range c.pieces {
			if n, err := l.Write([]byte(p)); n != len(p) || err != nil {
				t.Errorf("%s: %d, %v", name, n, err)
			}
		}
		l.end()
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }
