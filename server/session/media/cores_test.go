package media

import (
	"image"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/server/session/encode"
)

// damaged is a source whose Views have so many pixels of damage.
type damaged int

func (damaged) Changed() <-chan struct{} { return nil }

func (d damaged) View(f func(encode.View)) {
	f(encode.View{Damage: []image.Rectangle{image.Rect(0, 0, int(d), 1)}})
}

func TestCores(t *testing.T) {
	before := runtime.GOMAXPROCS(3)
	defer runtime.GOMAXPROCS(before)
	synctest.Test(t, func(t *testing.T) {
		c := newCores(nil)
		var at time.Duration
		for _, step := range []struct {
			at     time.Duration
			damage damaged // 0: no View
			want   int
		}{
			{0, muchDamage - 1, 1},
			{1 * time.Millisecond, muchDamage, 3},
			{2 * time.Millisecond, 100, 3},
			{500 * time.Millisecond, muchDamage, 3},
			{500*time.Millisecond + calmAfter - 1, 0, 3},
			{500*time.Millisecond + calmAfter, 0, 1},
			{2 * time.Second, 100, 1},
			{3 * time.Second, muchDamage, 3},
			{3*time.Second + calmAfter, 0, 1},
		} {
			time.Sleep(step.at - at)
			at = step.at
			synctest.Wait()
			if step.damage > 0 {
				c.Source = step.damage
				c.View(func(encode.View) {})
			}
			if n := runtime.GOMAXPROCS(0); n != step.want {
				t.Errorf("after %v: %d cores, want %d", step.at, n, step.want)
			}
		}
	})
}
