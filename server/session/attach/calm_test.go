package attach

import (
	"testing"
	"time"
)

// What rests is packed in a calm, also one between two keys, and now and then
// where there is none.
func TestCalm(t *testing.T) {
	start := time.Now()
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	c := calm{start}
	for _, step := range []struct {
		now, last float64
		want      time.Duration
	}{
		{5, 4.75, 750 * time.Millisecond},
		{5.75, 5.5, 750 * time.Millisecond},
		{6.5, 5.5, 0}, // calm
		{36.25, 36, 750 * time.Millisecond},
		{36.5, 36.25, 0}, // too long without one
		{36.75, 36.5, 0},
		{37.75, 36.5, 0}, // calm
		{38, 37.75, 750 * time.Millisecond},
	} {
		if got := c.wait(at(step.now), at(step.last)); got != step.want {
			t.Errorf("at %v s, a picture at %v s: waits %v, want %v", step.now, step.last, got, step.want)
		}
	}
}
