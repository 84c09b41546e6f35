package engine

import (
	"net/netip"
	"time"
)

// Rates of answers to serverQ, whose senders nobody knows: a few a second for
// each source, and a bound for all together, as sources can be forged. Those on
// a network of ours have a bound of their own: only their neighbours can forge
// them, and it is there that terminals broadcast.
const (
	sourceRate  = 5
	sourceBurst = 10
	nearRate    = 500 // a second, and at once
	farRate     = 250 // a second, and at once
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

// A limiter bounds the answers to sources of one kind.
type limiter struct {
	rate    float64
	total   bucket
	sources map[netip.Addr]*bucket
	order   []netip.Addr // the keys of sources in a ring
	oldest  int          // of order
}

func newLimiter(rate float64) *limiter {
	return &limiter{rate: rate, sources: map[netip.Addr]*bucket{}}
}

// allow reports whether an answer to that source may be sent now. The total is
// asked last, so that a source over its rate does not use up what others need.
// Where there is no room for a new source the oldest one is forgotten: were the
// new one refused, forged ones could keep everybody out who has not been here.
func (l *limiter) allow(now time.Time, source netip.Addr) bool {
	b := l.sources[source]
	switch {
	case b != nil:
	case len(l.order) < maxSources:
		l.order = append(l.order, source)
	default:
		delete(l.sources, l.order[l.oldest])
		l.order[l.oldest] = source
		l.oldest = (l.oldest + 1) % maxSources
	}
	if b == nil {
		b = &bucket{tokens: sourceBurst, at: now}
		l.sources[source] = b
	}
	return b.take(now, sourceRate, sourceBurst) && l.total.take(now, l.rate, l.rate)
}
