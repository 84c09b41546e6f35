package simulate

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// long is for the runs that CI has no time for.
var long = os.Getenv("HOTDESK_LONG") != ""

func TestInstant(t *testing.T) {
	wall := time.Unix(951436800, 123456789)
	a, b := instant(wall, time.Hour), instant(wall.Add(-5*time.Minute), time.Hour+time.Second)
	if !a.Equal(a.Round(0)) || a.UnixNano() != wall.UnixNano() || !a.Round(0).Equal(wall) {
		t.Errorf("%v is not %v", a, wall)
	}
	if d := b.Sub(a); d != time.Second {
		t.Errorf("the clock that was set back by 5 minutes took %v with it", d)
	}
	if d := b.Unix() - a.Unix(); d != -300 {
		t.Errorf("set back by 5 minutes: %d s", d)
	}
	if !b.After(a) || b.Add(time.Minute).Sub(a) != 61*time.Second || b.Add(time.Minute).Unix()-b.Unix() != 60 {
		t.Error("moments do not add up")
	}
}

// TestHistories plays random histories. HOTDESK_SEED plays one again, shrunk if
// it breaks, and tells it; HOTDESK_SEEDS=FROM-TO plays others.
func TestHistories(t *testing.T) {
	if seed, err := strconv.ParseUint(os.Getenv("HOTDESK_SEED"), 10, 64); err == nil {
		lines := History(seed)
		broken, _, _ := Play(seed, lines)
		if broken != "" {
			lines = Shrink(seed, lines, 2000)
			t.Errorf("broken: %s", broken)
		}
		for _, l := range Told(seed, lines) {
			t.Log(l)
		}
		return
	}
	from, to := uint64(0), uint64(500)
	if testing.Short() {
		to = 50
	} else if long {
		to = 100000
	}
	if a, b, ok := strings.Cut(os.Getenv("HOTDESK_SEEDS"), "-"); ok {
		var err, err2 error
		from, err = strconv.ParseUint(a, 10, 64)
		to, err2 = strconv.ParseUint(b, 10, 64)
		if err != nil || err2 != nil || from >= to {
			t.Fatal("HOTDESK_SEEDS is FROM-TO")
		}
	}
	var (
		mu             sync.Mutex
		next           = from
		packets, steps int
		lived          time.Duration
		bad            []uint64
		wg             sync.WaitGroup
	)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			mu.Lock()
			defer mu.Unlock()
			for next < to && len(bad) < 5 {
				seed := next
				next++
				mu.Unlock()
				broken, _, w := Play(seed, History(seed))
				mu.Lock()
				packets, steps, lived = packets+w.Packets, steps+w.Steps, lived+w.Now()
				if broken != "" {
					bad = append(bad, seed)
				}
				if next%10000 == 0 {
					t.Logf("%d histories", next-from)
				}
			}
		})
	}
	wg.Wait()
	for _, seed := range bad {
		lines := History(seed)
		broken, line, _ := Play(seed, lines)
		short := Shrink(seed, lines, 300)
		again, _, _ := Play(seed, short)
		t.Errorf("seed %d, line %d: %s\nin short: %s\n  %s\nHOTDESK_SEED=%d tells all that happens", seed, line, broken, again, strings.Join(short, "\n  "), seed)
	}
	t.Logf("%d histories, %d datagrams, %d steps, %v", next-from, packets, steps, lived.Round(time.Hour))
}
