package viewer

import (
	"testing"
	"time"

	"hotdesk/protocol/native"
)

// TestSilenceIsTheirs: the media end is asked when its sign of life is late and
// given up after DeadAfter; what we slept through ourselves is not its silence,
// within bounds.
func TestSilenceIsTheirs(t *testing.T) {
	const ms = time.Millisecond
	type look struct {
		at, heard time.Duration // since the beginning; heard 0: nothing came yet
		again     time.Duration
		ask, over bool
	}
	for _, x := range []struct {
		name  string
		looks []look
	}{
		{"nothing at all", []look{{0, 0, 5000 * ms, false, false}, {5000 * ms, 0, 5000 * ms, false, true}}},
		{"nothing at first, and asleep", []look{{0, 0, 5000 * ms, false, false}, {6000 * ms, 0, 6400 * ms, false, false}, {6400 * ms, 0, 6400 * ms, false, true}}},
		{"in time", []look{{100 * ms, 100 * ms, 980 * ms, false, false}, {900 * ms, 900 * ms, 1780 * ms, false, false}, {1700 * ms, 1700 * ms, 2580 * ms, false, false}}},
		{"late, then there", []look{{100 * ms, 100 * ms, 980 * ms, false, false}, {980 * ms, 100 * ms, 1380 * ms, true, false}, {1000 * ms, 1000 * ms, 1880 * ms, false, false}, {1880 * ms, 1000 * ms, 2280 * ms, true, false}}},
		{"silent", []look{{100 * ms, 100 * ms, 980 * ms, false, false}, {980 * ms, 100 * ms, 1380 * ms, true, false}, {1380 * ms, 100 * ms, 1380 * ms, false, true}}},
		{"a look is late as timers are", []look{{100 * ms, 100 * ms, 980 * ms, false, false}, {980 * ms, 100 * ms, 1380 * ms, true, false}, {1580 * ms, 100 * ms, 1380 * ms, false, true}}},
		{"asleep over the question", []look{{100 * ms, 100 * ms, 980 * ms, false, false}, {1400 * ms, 100 * ms, 1800 * ms, true, false}, {1800 * ms, 100 * ms, 1800 * ms, false, true}}},
		{"asleep over the end", []look{{100 * ms, 100 * ms, 980 * ms, false, false}, {980 * ms, 100 * ms, 1380 * ms, true, false}, {4000 * ms, 100 * ms, 4400 * ms, false, false}, {4100 * ms, 4100 * ms, 4980 * ms, false, false}}},
		{"asleep again and again", []look{{100 * ms, 100 * ms, 980 * ms, false, false}, {2000 * ms, 100 * ms, 2400 * ms, true, false}, {3000 * ms, 100 * ms, 3400 * ms, false, false}, {4000 * ms, 100 * ms, 4400 * ms, false, false}, {5000 * ms, 100 * ms, 4400 * ms, false, true}}},
	} {
		t.Run(x.name, func(t *testing.T) {
			begun := time.Unix(1e9, 0)
			var s silence
			for _, l := range x.looks {
				heard := time.Time{}
				if l.heard > 0 {
					heard = begun.Add(l.heard)
				}
				again, ask, over := s.look(begun.Add(l.at), begun, heard, native.AlivePeriod)
				if again.Sub(begun) != l.again || ask != l.ask || over != l.over {
					t.Fatalf("at %v: again at %v, ask %v, over %v; want %v, %v, %v", l.at, again.Sub(begun), ask, over, l.again, l.ask, l.over)
				}
			}
		})
	}
}
