package engine

import (
	"net/netip"
	"time"
)

// Rates of answers to serverQ, whose senders nobody knows: a few a second for
// each source, and a bound for all together, as sources can be forged.
const (
	sourceRate  = 5
	sourceBurst = 10
	totalRate   = 500
	totalBurst  = 500
	maxSources  = 1024
)

// bucket gives rate tokens a second, at most burst at once.
type bucket struct {
	tokens float64
	at     time.Time
}

func (b *bucket) take(now time.Time, rate, burst float64) bool {
	b.tokens = min(burst, b.tokens+rate*now.Sub(b.at).Seconds())
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

type limiter struct {
	total   bucket
	sources map[netip.Addr]*bucket
}

func newLimiter() *limiter {
	return &limiter{sources: map[netip.Addr]*bucket{}}
}

// allow reports whether an answer to that source may be sent now. The total is
// asked last, so that a source over its rate does not use up what others need.
func (l *limiter) allow(now time.Time, source netip.Addr) bool {
	b := l.sources[source]
	if b == nil {
		if len(l.sources) >= maxSources {
			l.forget(now)
		}
		if len(l.sources) >= maxSources {
			return false
		}
		b = &bucket{tokens: sourceBurst, at: now}
		l.sources[source] = b
	}
	return b.take(now, sourceRate, sourceBurst) && l.total.take(now, totalRate, totalBurst)
}

// forget drops the sources whose bucket is full again.
func (l *limiter) forget(now time.Time) {
	for a, b := range l.sources {
		if now.Sub(b.at) >= sourceBurst/sourceRate*time.Second {
			delete(l.sources, a)
		}
	}
}
