package harm

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
	// The host's own word counts, that it has just this time. It is asked till it answers
	// faster than its clock is wrong.
	said := "nothing"
	var st adminapi.Status
	seen := until(ctx, seenWithin, func() bool {
		if failed = errors.Join(failed, set(by)); failed != nil {
			return true
		}
		asked := time.Now()
		if err := host.Admin(ctx, "/status", &st); err != nil {
			said = err.Error()
			return false
		}
		said = st.Time.Format(time.DateTime)
		return isAhead(by, asked, st.Time, time.Now())
	})
	tells := []string{fmt.Sprintf("its gateway says so (%s)", said)}
	for _, other := range b.Hosts {
		var at adminapi.Status
		if other == host || other.Admin(ctx, "/status", &at) != nil {
			continue
		}
		for _, w := range at.Warnings {
			tells = append(tells, other.Name+": "+w)
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
	if !seen {
		return errors.Join(failed, b.nothing("by %v, and at %s its gateway said %s", by, time.Now().Format(time.DateTime), said))
	}
	b.saw("by %v for %v, %s", by, last.Round(time.Millisecond), strings.Join(tells, "; "))
	return failed
}

// exact is by how much a clock that was set, and is asked over a local socket,
// may differ from what it was set to.
const exact = 20 * time.Millisecond

// isAhead says whether a clock that says at, some time between asked and
// answered, is ahead by just as much as it was set to, and could not be right.
func isAhead(by time.Duration, asked, at, answered time.Time) bool {
	right := func(at time.Time) bool {
		return !at.Before(asked.Add(-exact)) && !at.After(answered.Add(exact))
	}
	return right(at.Add(-by)) && !right(at)
}
