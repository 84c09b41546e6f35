package app

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hotdesk/dtu/rumour"
	"hotdesk/protocol/group"
)

const (
	// maxEars bounds the networks on which host messages are listened for.
	maxEars = 8
	// lookPeriod is how often the networks are looked at.
	lookPeriod = 10 * time.Second
)

// ears is what was heard of the group's hosts, and changes beside the loop: a
// flood must not keep that busy.
type ears struct {
	multicast netip.Addr // heard besides broadcasts; zero: none

	mu   sync.Mutex
	list rumour.List
}

// heard is posted when there is something new.
type heard struct{}

func (e *ears) hear(from netip.Addr, data []byte) (news bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.list.Hear(time.Now(), from, data)
}

func (e *ears) servers() []netip.AddrPort {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.list.Servers(time.Now())
}

// eavesdrop listens for the group's broadcasts on every network that there is,
// and for its multicasts where there is an address for them. Each socket is bound to a
// broadcast or multicast address, so that nothing is taken away from a group
// manager on this machine.
func (e *ears) eavesdrop(ctx context.Context, wg *sync.WaitGroup, local bool, port int, post func(any)) {
	open := map[netip.Addr]*net.UDPConn{}
	var many *choir
	defer func() {
		for _, c := range open {
			c.Close()
		}
		if many != nil {
			many.conn.Close()
		}
	}()
	look := time.NewTicker(lookPeriod)
	defer look.Stop()
	for {
		now := broadcasts(local)
		for a, c := range open {
			if !slices.Contains(now, a) {
				c.Close()
				delete(open, a)
			}
		}
		for _, a := range now {
			if open[a] != nil || len(open) == maxEars {
				continue
			}
			c, err := listenAt(netip.AddrPortFrom(a, uint16(port)))
			if err != nil {
				continue // another program has the port for itself: there are other ways
			}
			open[a] = c
			wg.Go(func() { e.listen(c, local, post) })
		}
		if e.multicast.IsValid() && many == nil {
			if c, err := newChoir(netip.AddrPortFrom(e.multicast, uint16(port))); err == nil {
				many = c
				wg.Go(func() { e.listen(c.conn, local, post) })
			}
		}
		if many != nil {
			many.join(local)
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}

func listenAt(at netip.AddrPort) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		}); cerr != nil {
			return cerr
		}
		return err
	}}
	c, err := lc.ListenPacket(context.Background(), "udp4", at.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// listen hears what comes until c is closed.
func (e *ears) listen(c *net.UDPConn, local bool, post func(any)) {
	buf := make([]byte, group.MaxPacket+1)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		a := from.Addr().Unmap()
		if n <= group.MaxPacket && (!local || a.IsLoopback()) && e.hear(a, buf[:n]) {
			post(heard{})
		}
	}
}
