package member

import (
	"fmt"
	"slices"
	"time"

	"hotdesk/protocol/group"
)

// Replay protection. Each signed message carries boot, counter and time.
//
//   - Of a known boot a counter counts once; a bitmap of the last window
//     counters forgives reordering. It is wide because one question to a
//     thousand hosts takes a thousand counters, of which each sees one. Its time
//     may lie back by MaxSkew from where the offset of that boot puts it, so
//     that what was recorded and withheld does not count later. It may lie ahead
//     by more only where that brings it to our clock: what was recorded while a
//     clock was wrong must not make what is said after it look old. A host that
//     is down may have set its clock back: it is judged like one not known.
//   - A boot not known yet must be within MaxSkew of our clock, and later than
//     what that host said last, unless the host is down. So neither an old
//     recording nor an earlier life of a host displaces the living one. Where
//     its clock was ahead of ours it may have been set right since: then what
//     counts is when that came.
//   - A host's last maxBoots boots are remembered, each with its own counters.

const (
	window   = 1024
	maxBoots = 8
	lateness = 10 // seconds by which the last messages of a life may come late
)

type boot struct {
	id     uint64
	top    uint64 // highest counter that came
	came   recent // which of the last window counters up to top came
	time   int64  // time of top, sender's clock
	offset int64  // sender's clock minus ours at top, as if ours were never set; seconds
	since  int64  // our clock when it was first heard, Unix seconds
	nth    int    // in the order in which they were first heard
}

// recent is a ring of bits, one for each of the last window counters.
type recent [window / 64]uint64

func (r *recent) has(n uint64) bool { return r[n%window/64]>>(n%64)&1 != 0 }
func (r *recent) add(n uint64)      { r[n%window/64] |= 1 << (n % 64) }

// forget makes room for the counters after top, up to next.
func (r *recent) forget(top, next uint64) {
	if next-top >= window {
		*r = recent{}
		return
	}
	for n := top + 1; n <= next; n++ {
		r[n%window/64] &^= 1 << (n % 64)
	}
}

type verdict int

const (
	replayed verdict = iota // refused, with a reason
	seen                    // the same message again, by another interface: no news
	fresh                   // of a known boot
	newBoot                 // the first of its boot
)

func (r *Row) knows(id uint64) bool {
	return slices.ContainsFunc(r.boots, func(b boot) bool { return b.id == id })
}

func (r *Row) top(id uint64) uint64 {
	for _, b := range r.boots {
		if b.id == id {
			return b.top
		}
	}
	return 0
}

// outlived reports whether a later life has spoken since: one that was first
// heard later, and has said something later.
func (r *Row) outlived(s group.Stamp) bool {
	i := slices.IndexFunc(r.boots, func(b boot) bool { return b.id == s.Boot })
	return i >= 0 && slices.ContainsFunc(r.boots, func(b boot) bool {
		return b.nth > r.boots[i].nth && b.time > s.Time
	})
}

// fresh judges s and, where it is fresh, remembers it in r.
func (t *Table) fresh(now time.Time, r *Row, s group.Stamp) (verdict, string) {
	skew := int64(t.cfg.MaxSkew / time.Second)
	off := s.Time - now.Unix()
	// Where a clock was set, it is the other's: our own setting moves nobody's
	// offset.
	steady := t.start.Unix() + int64(now.Sub(t.start)/time.Second)
	near := off <= skew && off >= -skew // judged as if nothing were known of that clock
	if s.Boot == 0 || s.Counter == 0 {
		return replayed, "it carries no boot or counter"
	}
	for i := range r.boots {
		b := &r.boots[i]
		if b.id != s.Boot {
			continue
		}
		if late := steady + b.offset - s.Time; late > skew && !(r.Down && near) {
			return replayed, fmt.Sprintf("it was said %d seconds ago", late)
		} else if late < -skew && !near {
			return replayed, fmt.Sprintf("its clock has gone ahead by %d seconds, at most %d are accepted: set the clocks", -late, skew)
		}
		switch {
		case s.Counter > b.top:
			// A life that a later one had ended speaks: two hosts, one name.
			if slices.ContainsFunc(r.boots, func(o boot) bool { return o.since > b.since && now.Unix()-o.since > lateness }) {
				r.twice = now
			}
			b.came.forget(b.top, s.Counter)
			b.came.add(s.Counter)
			b.top, b.time, b.offset = s.Counter, s.Time, s.Time-steady
		case b.top-s.Counter >= window:
			return replayed, "it came before, or long ago"
		case b.came.has(s.Counter):
			return seen, ""
		default:
			b.came.add(s.Counter)
		}
		last := *b
		r.boots = append(slices.Delete(r.boots, i, i+1), last) // the latest used stands last
		return fresh, ""
	}
	if !near {
		return replayed, fmt.Sprintf("its clock is off by %d seconds, at most %d are accepted: set the clocks", off, skew)
	}
	if !r.Down {
		for _, b := range r.boots {
			came := now.Unix() - (steady + b.offset - b.time)
			if s.Time < min(b.time, came) {
				return replayed, "it is of an earlier start than the one known"
			}
		}
	}
	nth := 0
	for _, b := range r.boots {
		nth = max(nth, b.nth+1)
	}
	if len(r.boots) == maxBoots {
		r.boots = slices.Delete(r.boots, 0, 1)
	}
	first := boot{id: s.Boot, top: s.Counter, time: s.Time, offset: s.Time - steady, since: now.Unix(), nth: nth}
	first.came.add(s.Counter)
	r.boots = append(r.boots, first)
	return newBoot, ""
}
