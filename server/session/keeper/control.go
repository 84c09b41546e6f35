package keeper

import (
	"context"
	"net"
	"sync"
	"time"

	"hotdesk/protocol/rpc"
	"hotdesk/server/session/keeperapi"
)

const (
	// maxWatchers bounds the control connections at one time: a gateway has
	// one, the tools a few.
	maxWatchers = 16
	// maxUntold bounds the events that wait for a slow peer; then it is
	// dropped.
	maxUntold = 64
	// tellTime bounds the wait for the last events to be taken.
	tellTime = time.Second
)

// A watcher is a control connection: it asks, and is told what happens.
type watcher struct {
	conn   *rpc.Conn
	events chan event
}

type event struct {
	op   string
	body any
}

// tell queues an event for every watcher. mu is held.
func (c *core) tell(op string, body any) {
	for w := range c.watchers {
		select {
		case w.events <- event{op, body}:
		default:
			c.log.Error("a control connection takes no events and is closed", "session", c.start.session)
			delete(c.watchers, w)
			close(w.events)
			go w.conn.Close() // it may wait for a write
		}
	}
}

// serve accepts control connections until ctx ends; those that are open then
// get their last events. It returns when all are closed.
func (c *core) serve(ctx context.Context, l net.Listener) {
	var open sync.WaitGroup
	defer open.Wait()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() == nil {
				c.log.Error("control socket failed", "session", c.start.session, "error", err)
			}
			return
		}
		if err := keeperapi.CheckPeer(conn); err != nil {
			c.log.Warn("control connection refused", "session", c.start.session, "error", err)
			conn.Close()
			continue
		}
		open.Go(func() { c.serveConn(ctx, conn) })
	}
}

// serveConn serves one connection until it or ctx ends.
func (c *core) serveConn(ctx context.Context, conn net.Conn) {
	w := &watcher{conn: rpc.New(conn, c.handle), events: make(chan event, maxUntold)}
	c.mu.Lock()
	full := len(c.watchers) >= maxWatchers
	if !full {
		c.watchers[w] = struct{}{}
	}
	c.mu.Unlock()
	if full {
		c.log.Warn("too many control connections", "session", c.start.session, "most", maxWatchers)
		conn.Close()
		return
	}
	var telling sync.WaitGroup
	telling.Go(func() {
		for e := range w.events {
			if w.conn.Notify(e.op, e.body) != nil {
				w.conn.Close()
			}
		}
	})
	ended := make(chan struct{})
	var closing sync.WaitGroup
	closing.Go(func() {
		select {
		case <-ctx.Done():
			// The last events come before the end of the connection.
			c.leave(w)
			told := time.AfterFunc(tellTime, func() { w.conn.Close() })
			telling.Wait()
			told.Stop()
			w.conn.Close()
		case <-ended:
		}
	})
	if err := w.conn.Serve(context.Background()); err != nil {
		c.log.Warn("control connection failed", "session", c.start.session, "error", err)
	}
	close(ended)
	c.leave(w)
	telling.Wait()
	closing.Wait()
	conn.Close()
}

func (c *core) leave(w *watcher) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.watchers[w]; ok {
		delete(c.watchers, w)
		close(w.events)
	}
}
