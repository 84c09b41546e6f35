package media

import (
	"runtime"
	"testing"
	"time"
)

func TestCores(t *testing.T) {
	before := runtime.GOMAXPROCS(3)
	defer runtime.GOMAXPROCS(before)
	c := newCores(nil)
	start := time.Now()
	for _, step := range []struct {
		after time.Duration
		much  bool
		want  int
	}{
		{0, false, 1},
		{time.Millisecond, true, 3},
		{2 * time.Millisecond, false, 3},
		{500 * time.Millisecond, true, 3},
		{500*time.Millisecond + calmAfter - 1, false, 3},
		{500*time.Millisecond + calmAfter, false, 1},
		{2 * time.Second, false, 1},
	} {
		c.expect(start.Add(step.after), step.much)
		if n := runtime.GOMAXPROCS(0); n != step.want {
			t.Errorf("after %v: %d cores, want %d", step.after, n, step.want)
		}
	}
}
