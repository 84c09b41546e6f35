package parent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/client"
	"hotdesk/server/session/keeperapi"
)

// ErrGone is what calls get when the parent has died: the gateway's time is
// over too.
var ErrGone = errors.New("parent: the parent is gone")

// A Client is the gateway's end of the socketpair. It is safe for concurrent
// use.
type Client struct {
	link link
	done chan struct{}

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan reply
	gone    bool

	late sync.WaitGroup // sessions that came too late are ended
}

type reply struct {
	message
	files []*os.File
}

// GatewayFD is the descriptor that a gateway inherits.
const GatewayFD = 3

// NewClient takes f over, descriptor GatewayFD of a gateway.
func NewClient(f *os.File) (*Client, error) {
	defer f.Close()
	l, err := newLink(f)
	if err != nil {
		return nil, err
	}
	c := &Client{link: l, done: make(chan struct{}), waiting: map[uint64]chan reply{}}
	go c.read()
	return c, nil
}

// Done is closed when the parent is gone or Close was called.
func (c *Client) Done() <-chan struct{} { return c.done }

// Close ends the connection, and with it what the parent does for it.
func (c *Client) Close() error {
	err := c.link.conn.Close()
	<-c.done
	c.late.Wait()
	return err
}

func (c *Client) read() {
	defer close(c.done)
	for {
		m, files, err := c.link.receive()
		c.mu.Lock()
		if err != nil {
			c.gone = true
			for _, ch := range c.waiting {
				close(ch)
			}
			clear(c.waiting)
			c.mu.Unlock()
			c.link.conn.Close()
			return
		}
		ch := c.waiting[m.ID]
		delete(c.waiting, m.ID)
		c.mu.Unlock()
		if ch == nil {
			closeAll(files)
			continue
		}
		ch <- reply{m, files} // capacity 1, one reply
	}
}

// call waits for the reply. late, if not nil, gets one that comes when the time for
// it is over.
func (c *Client) call(ctx context.Context, m message, late func(reply)) (reply, error) {
	ch := make(chan reply, 1)
	c.mu.Lock()
	if c.gone {
		c.mu.Unlock()
		return reply{}, ErrGone
	}
	c.next++
	m.ID = c.next
	c.waiting[m.ID] = ch
	c.mu.Unlock()
	if err := c.link.send(m, nil); err != nil {
		c.forget(m.ID)
		return reply{}, fmt.Errorf("parent: %w", err)
	}
	select {
	case r, ok := <-ch:
		if !ok {
			return reply{}, ErrGone
		}
		if r.Error != "" {
			closeAll(r.files)
			return reply{}, errors.New(r.Error)
		}
		return r, nil
	case <-ctx.Done():
		if late != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			c.late.Go(func() {
				if r, ok := <-ch; ok {
					late(r)
				}
			})
			return reply{}, ctx.Err()
		}
		if !c.forget(m.ID) {
			// The reply was on its way: nobody else will close what it brought.
			if r, ok := <-ch; ok {
				closeAll(r.files)
			}
		}
		return reply{}, ctx.Err()
	}
}

// forget reports whether the call was still waiting.
func (c *Client) forget(id uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.waiting[id]
	delete(c.waiting, id)
	return ok
}

// connection makes a connection of a reply's one descriptor and checks who is
// at its other end.
func (r reply) connection() (net.Conn, error) {
	defer closeAll(r.files)
	if len(r.files) != 1 {
		return nil, fmt.Errorf("parent: %d descriptors where one was due", len(r.files))
	}
	conn, err := net.FileConn(r.files[0])
	if err != nil {
		return nil, fmt.Errorf("parent: %w", err)
	}
	if err := keeperapi.CheckPeer(conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// Start starts a session and returns its keeper's control connection. A session
// that comes when ctx's time is over is ended: nobody would know of it. One that
// comes when ctx was canceled is for the next gateway to find.
func (c *Client) Start(ctx context.Context, s Start) (net.Conn, error) {
	r, err := c.call(ctx, message{Op: opStart, Start: &s}, endLate)
	if err != nil {
		return nil, err
	}
	return r.connection()
}

// lateTime bounds the request that a session that came too late should end.
const lateTime = 5 * time.Second

func endLate(r reply) {
	conn, err := r.connection()
	if err != nil {
		return // it did not start
	}
	ctx, cancel := context.WithTimeout(context.Background(), lateTime)
	defer cancel()
	k := client.New(conn, deaf{})
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() { _ = k.Serve(ctx) })
	defer k.Close()
	_ = k.Stop(ctx) // one that is still at its login ends with the connection
}

// Open returns a control connection to a session that runs.
func (c *Client) Open(ctx context.Context, id alp.SessionID) (net.Conn, error) {
	r, err := c.call(ctx, message{Op: opOpen, Session: id}, nil)
	if err != nil {
		return nil, err
	}
	return r.connection()
}

// List returns the sessions that have a keeper. A gateway asks for it first of
// all: that also tells the parent that it came up.
func (c *Client) List(ctx context.Context) ([]alp.SessionID, error) {
	r, err := c.call(ctx, message{Op: opList}, nil)
	if err != nil {
		return nil, err
	}
	return r.List, nil
}

// Sign has the authority of this host, if its key is here, make a further
// certificate for a host by its name and its public key.
func (c *Client) Sign(ctx context.Context, name string, public []byte) ([]byte, error) {
	r, err := c.call(ctx, message{Op: opSign, Name: name, Public: public}, nil)
	if err != nil {
		return nil, err
	}
	closeAll(r.files)
	return r.Chain, nil
}
