package app

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"hotdesk/groupmgr/engine"
)

// knockWithin bounds a knock: after it the lookup has settled without.
const knockWithin = 100 * time.Millisecond

// knock tells the engine when a host's kernel says that nothing listens.
func (s *shell) knock(k engine.Knock) {
	s.knocks.Go(func() {
		if refused(s.ctx, k) {
			_ = s.do(s.ctx, func(now time.Time) { s.perform(now, s.engine.Step(now, engine.Deaf{Host: k.Host})) })
		}
	})
}

// refused reports whether every address refuses. One that does not answer, or
// that cannot be reached, does not refuse.
func refused(ctx context.Context, k engine.Knock) bool {
	ctx, cancel := context.WithTimeout(ctx, knockWithin)
	defer cancel()
	var d net.Dialer
	for _, at := range k.At {
		conn, err := d.DialContext(ctx, "tcp4", at.String())
		if err == nil {
			conn.Close()
			return false
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return false
		}
	}
	return true
}
