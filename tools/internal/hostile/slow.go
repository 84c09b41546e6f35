package hostile

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// slowWord is the time between two bytes of a Slow.
const slowWord = 500 * time.Millisecond

// A Slow is many peers of a listener that begin to say something, say it a byte
// or a word at a time, and come to no end.
type Slow struct {
	Network, To string
	Count       int
	Say         string                                      // again and again
	Words       func(n, word int) []byte                    // whole ones, of one of them, instead of Say; for datagrams
	From        func(n int) net.Addr                        // the local address of one; nil: any
	Control     func(string, string, syscall.RawConn) error // of its socket; nil: nothing

	Held atomic.Int32 // that are connected
	All  atomic.Int32 // that have been made; those that are refused among them
}

// Hold makes the connections, and keeps them till ctx ends. Those that the
// listener closes stay away.
func (s *Slow) Hold(ctx context.Context) {
	const makers = 16
	var all sync.WaitGroup
	defer all.Wait()
	next := atomic.Int32{}
	for range makers {
		all.Go(func() {
			for n := int(next.Add(1)) - 1; n < s.Count && ctx.Err() == nil; n = int(next.Add(1)) - 1 {
				d := net.Dialer{Timeout: 2 * time.Second, Control: s.Control}
				if s.From != nil {
					d.LocalAddr = s.From(n)
				}
				c, err := d.DialContext(ctx, s.Network, s.To)
				s.All.Add(1)
				if err != nil {
					continue
				}
				s.Held.Add(1)
				all.Go(func() {
					defer s.Held.Add(-1)
					s.say(ctx, n, c)
				})
			}
		})
	}
}

func (s *Slow) say(ctx context.Context, n int, c net.Conn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		buf := make([]byte, 512)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
		}
	}()
	defer func() { c.Close(); <-gone }()
	tick := time.NewTicker(slowWord)
	defer tick.Stop()
	for i := 0; ; i++ {
		word := []byte(nil)
		if s.Words != nil {
			word = s.Words(n, i)
		} else {
			word = []byte{s.Say[i%len(s.Say)]}
		}
		if _, err := c.Write(word); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-gone:
			return
		case <-ctx.Done():
			return
		}
	}
}
