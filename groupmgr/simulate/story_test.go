package simulate

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hotdesk/testdata"
)

var update = flag.Bool("update", false, "rewrite the recorded outputs of the stories")

// TestStories plays the stories of testdata/group and compares what is
// recorded below each line with what happens.
func TestStories(t *testing.T) {
	files, err := testdata.Group.ReadDir("group")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(f.Name(), ".txt"), func(t *testing.T) {
			// The file itself, so that -update is seen by the next run.
			file := filepath.Join("..", "..", "testdata", "group", f.Name())
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := tell(t, string(want))
			if got == string(want) {
				return
			}
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("%s is recorded otherwise (go test -update rewrites it, then read the difference); got\n%s", file, got)
		})
	}
}

// tell plays a story and returns it with what happens.
func tell(t *testing.T, text string) string {
	s := NewStory(1)
	s.Tell()
	s.Steady = true
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "  ") {
			continue // recorded
		}
		b.WriteString(line + "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		out, err := s.Do(line)
		for _, o := range out {
			b.WriteString("  " + o + "\n")
		}
		if err != nil {
			t.Errorf("%v\n%s", err, b.String())
			break
		}
	}
	if len(s.Broken) > 0 {
		t.Errorf("broken: %s\n%s", strings.Join(s.Broken, "\n"), b.String())
	}
	return b.String()
}
