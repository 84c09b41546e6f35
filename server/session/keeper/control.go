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
	// tellTime bounds the wait for the last events to be taken, and once more
	// that for whoever logged in to hang up.
	tellTime = keeperapi.EndGoodbye / 2
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
	door := rpc.Door{Most: maxWatchers, Check: keeperapi.CheckPeer, Notes: rpc.Notes{Log: c.log.With("session", c.start.session)}}
	door.Serve = func(conn net.Conn) {
		if err := c.serveConn(ctx, conn); err != nil {
			door.Notes.Warn("control connection failed", "error", err)
		}
	}
	door.Open(ctx, l)
}

// serveConn serves one connection until it or ctx ends.
func (c *core) serveConn(ctx context.Context, conn net.Conn) error {
	w := &watcher{conn: rpc.New(conn, c.handle), events: make(chan event, maxUntold)}
	c.mu.Lock()
	c.watchers[w] = struct{}{}
	c.mu.Unlock()
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
	err := w.conn.Serve(context.Background())
	close(ended)
	c.leave(w)
	telling.Wait()
	closing.Wait()
	conn.Close()
	return err
}

func (c *core) leave(w *watcher) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.watchers[w]; ok {
		delete(c.watchers, w)
		close(w.events)
	}
}
