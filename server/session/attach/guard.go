package attach

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// A connection is pending from its first packet to the redemption of its
// ticket or its end. Those from an address that a ticket waits for are
// expected; the rest are strangers, who must prove their address by a round
// trip and of whom there are few.

// errFull refuses a connection before any work is done for it.
var errFull = errors.New("too many connections without a ticket")

type pendingKey struct{}

// mustProve asks for the extra round trip. The address may be forged.
func (e *Endpoint) mustProve(from net.Addr) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pending >= MaxPending/2 || !e.tickets.expected(addrOf(from))
}

// admit counts a new connection, or refuses it.
func (e *Endpoint) admit(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	e.mu.Lock()
	stranger := !e.tickets.expected(addrOf(info.RemoteAddr))
	full := e.closed || e.pending >= MaxPending || stranger && e.strangers >= MaxStrangers
	if !full {
		e.pending++
		if stranger {
			e.strangers++
		}
	}
	e.mu.Unlock()
	if full {
		e.loud.Warn("media connection refused", "reason", errFull.Error(), "peer", info.RemoteAddr.String())
		return nil, errFull
	}
	release := sync.OnceFunc(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.pending--
		if stranger {
			e.strangers--
		}
	})
	context.AfterFunc(ctx, release)
	return context.WithValue(ctx, pendingKey{}, release), nil
}

// settled ends a connection's being pending.
func settled(ctx context.Context) {
	if release, ok := ctx.Value(pendingKey{}).(func()); ok {
		release()
	}
}

func addrOf(a net.Addr) netip.Addr {
	if u, ok := a.(*net.UDPAddr); ok {
		return u.AddrPort().Addr()
	}
	return netip.Addr{}
}

// A limiter writes warnings that anybody on the network can cause: limiterBurst
// of them, then one in each limiterEvery, which says how many there were that it
// leaves out.
type limiter struct {
	log *slog.Logger

	mu      sync.Mutex
	at      time.Time
	room    time.Duration // limiterEvery for each line that may be written
	omitted int
}

const (
	limiterBurst = 20
	limiterEvery = time.Second
)

// Warn writes a line if the rate allows it.
func (l *limiter) Warn(message string, attributes ...any) {
	l.mu.Lock()
	now := time.Now()
	l.room = min(limiterBurst*limiterEvery, l.room+now.Sub(l.at)) // at first that is for ever
	l.at = now
	ok := l.room >= limiterEvery
	omitted := 0
	if ok {
		l.room -= limiterEvery
		omitted, l.omitted = l.omitted, 0
	} else {
		l.omitted++
	}
	l.mu.Unlock()
	if !ok {
		return
	}
	if omitted > 0 {
		attributes = append(attributes, "omitted", omitted)
	}
	l.log.Warn(message, attributes...)
}
