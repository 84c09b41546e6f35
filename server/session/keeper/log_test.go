package keeper

import (
	"log/slog"
	"os"
	"path/filepath"
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
