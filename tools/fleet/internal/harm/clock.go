package harm

import (
	"context"
	"fmt"
	"math"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/tools/fleet/internal/wallclock"
	"hotdesk/tools/internal/lab"
)

const clockSet = "clock set"

// forgiven is by how much a host's clock may be wrong and it is believed still:
// the group manager's -max-skew.
const forgiven = 5 * time.Minute

// offsets are by how much clocks are set.
var offsets = []time.Duration{2 * time.Second, time.Minute, 4 * time.Minute, time.Hour, 30 * time.Hour, 400 * 24 * time.Hour, 30 * 365 * 24 * time.Hour}

// clock sets the clock of a host, forward or back, and right again after a
// while. Within what is forgiven nothing may come of it.
func (b *blow) clock(ctx context.Context, host *lab.Host) error {
	by := offsets[b.rng.IntN(len(offsets))]
	if by > forgiven {
		over, err := b.partition(ctx, b.Hosts...) // it believes nobody, and nobody believes it
		if err != nil {
			return err
		}
		defer over()
	}
	if b.rng.IntN(2) == 0 {
		by = -by
	}
	known := map[int]bool{}
	// set sets the clocks of all processes that have come since: they begin with
	// the true one.
	set := func(by time.Duration) error {
		all, err := host.All(ctx)
		if err != nil {
			return nil // a session is being made, or ends: the next look finds it
		}
		var fresh []int
		for _, pid := range all {
			if !known[pid] {
				known[pid] = true
				fresh = append(fresh, pid)
			}
		}
		_, err = wallclock.Set(by, fresh...)
		return err
	}
	var failed error
	last := b.time(time.Second, 20*time.Second)
	until(ctx, last, func() bool {
		failed = set(by)
		return failed != nil
	})
	tells := "nobody"
	var st adminapi.Status
	if err := host.Admin(ctx, "/status", &st); err == nil {
		off := time.Until(st.Time)
		if math.Abs((off - by).Seconds()) > 60 {
			return fmt.Errorf("its clock was set by %v, and it says that it is off by %v", by, off)
		}
		tells = fmt.Sprintf("its gateway says so (%v)", st.Time.Format(time.DateTime))
		for _, other := range b.Hosts {
			var at adminapi.Status
			if other == host || other.Admin(ctx, "/status", &at) != nil {
				continue
			}
			for _, w := range at.Warnings {
				tells += "; " + other.Name + ": " + w
			}
		}
	}
	known = map[int]bool{}
	if !until(ctx, seenWithin, func() bool {
		n := len(known)
		if err := set(0); err != nil {
			failed = err
			return true
		}
		return n > 0 && len(known) == n
	}) {
		return fmt.Errorf("the clock cannot be set right")
	}
	b.saw("by %v for %v, %s", by, last.Round(time.Millisecond), tells)
	return failed
}
