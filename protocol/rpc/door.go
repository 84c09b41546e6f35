package rpc

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// restAfterError is the pause where the program is out of descriptors, say: it
// passes.
const restAfterError = 100 * time.Millisecond

// A Door lets connections in at a listener, at most Most at a time. Where that
// is reached, the oldest of those that have not said a whole line yet makes room
// for who comes: peers who begin and come to no end keep nobody out. Where all
// have, who comes is turned away.
type Door struct {
	Most  int
	Check func(net.Conn) error // who may come in; nil: all
	Serve func(net.Conn)       // is called in a goroutine of its own, and closes
	Notes Notes

	mu     sync.Mutex
	inside []*visitor // the oldest first
}

// A visitor is a connection of a Door.
type visitor struct {
	net.Conn
	spoke atomic.Bool
}

// Read takes note of the end of the first line.
func (v *visitor) Read(b []byte) (int, error) {
	n, err := v.Conn.Read(b)
	if !v.spoke.Load() && bytes.IndexByte(b[:n], '\n') >= 0 {
		v.spoke.Store(true)
	}
	return n, err
}

// Open lets connections in until ctx ends, which closes l, or l is closed; it
// returns when all are served.
func (d *Door) Open(ctx context.Context, l net.Listener) {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			d.Notes.Warn("local connection not accepted", "error", err)
			select {
			case <-time.After(restAfterError):
				continue
			case <-ctx.Done():
				return
			}
		}
		if d.Check != nil {
			if err := d.Check(conn); err != nil {
				d.Notes.Warn("local connection refused", "error", err)
				conn.Close()
				continue
			}
		}
		v := &visitor{Conn: conn}
		if !d.admit(v) {
			d.Notes.Warn("too many local connections", "most", d.Most)
			conn.Close()
			continue
		}
		all.Go(func() {
			defer d.leave(v)
			d.Serve(v)
		})
	}
}

// admit finds room for v.
func (d *Door) admit(v *visitor) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.inside) >= d.Most && !d.evict() {
		return false
	}
	d.inside = append(d.inside, v)
	return true
}

// evict closes a connection that says nothing, and does not count it any more.
func (d *Door) evict() bool {
	for i, v := range d.inside {
		if !v.spoke.Load() {
			v.Close()
			d.inside = append(d.inside[:i], d.inside[i+1:]...)
			return true
		}
	}
	return false
}

func (d *Door) leave(v *visitor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.inside {
		if d.inside[i] == v {
			d.inside = append(d.inside[:i], d.inside[i+1:]...)
			return
		}
	}
}
