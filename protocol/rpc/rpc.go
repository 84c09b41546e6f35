// Package rpc carries requests, replies and events between two Hotdesk
// processes of one host: one JSON object a line, both ends equal.
//
// Source: this project. A line is {"id":7,"op":"attach","body":{...}} for a
// request, {"id":7,"re":true,"body":{...}} or {"id":7,"re":true,"error":"..."}
// for its reply, and {"op":"ended","body":{...}} without id for an event.
//
// Invariants:
//  1. Replies carry the id of their request; each end numbers its own.
//  2. A line longer than MaxLine, or one that is not such an object, closes
//     the connection with an error; nothing after it is read.
//  3. Requests of one connection are handled one after the other, in the
//     order they came, apart from replies; at most MaxWaiting of them wait,
//     then reading pauses. What a handler puts off (Later) keeps none waiting.
//
// A Conn is safe for concurrent use. It opens nothing: the caller brings the
// connection. Limits: MaxLine, MaxWaiting, MaxLater.
package rpc

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// MaxLine bounds one line, in bytes, its newline included: the longest report
// of package group/local fits.
const MaxLine = 128 << 10

// readSize is the buffer of a connection: few lines are longer, and there is a
// connection for each session.
const readSize = 4 << 10

// MaxWaiting bounds the requests that were read and not yet handled.
const MaxWaiting = 64

// MaxLater bounds the requests of a connection that were put off and not answered:
// a further one waits for its turn, and with it those behind it.
const MaxLater = 16

// ErrClosed is what calls get on a connection that has ended.
var ErrClosed = errors.New("rpc: connection closed")

// RemoteError is an error that the other end's handler returned.
type RemoteError struct{ Text string }

func (e RemoteError) Error() string { return e.Text }

// Handler answers one request or event. For an event the result is dropped.
// The body is what the peer sent, unchecked; Decode reads it strictly enough.
type Handler func(ctx context.Context, op string, body json.RawMessage) (any, error)

// Later is what a handler returns whose answer takes time: its result is the
// answer, and those behind it are handled meanwhile. It must return when the
// handler's context ends.
type Later func() (any, error)

type envelope struct {
	ID    uint64          `json:"id,omitempty"`
	Re    bool            `json:"re,omitempty"`
	Op    string          `json:"op,omitempty"`
	Body  json.RawMessage `json:"body,omitempty"`
	Error string          `json:"error,omitempty"`
}

// Conn is one end of a connection.
type Conn struct {
	rwc     io.ReadWriteCloser
	handler Handler

	write sync.Mutex    // held while a line is written
	later chan struct{} // a place for each request that is put off
	late  sync.WaitGroup

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan envelope
	err     error
	done    chan struct{}
}

// New makes a Conn over rwc. h may be nil where no requests are expected.
// Nothing is read before Serve runs.
func New(rwc io.ReadWriteCloser, h Handler) *Conn {
	return &Conn{rwc: rwc, handler: h, waiting: map[uint64]chan envelope{}, done: make(chan struct{}), later: make(chan struct{}, MaxLater)}
}

// Decode unmarshals a body into out; an empty body leaves out as it is.
func Decode(body json.RawMessage, out any) error {
	if len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("rpc: bad body: %w", err)
	}
	return nil
}

// Serve reads until the connection ends and every handler has returned; it
// returns nil when the peer closed in good order or ctx ended.
func (c *Conn) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.rwc.Close() })
	defer stop()
	requests := make(chan envelope, MaxWaiting)
	handled := make(chan struct{})
	go func() {
		defer close(handled)
		for e := range requests {
			c.handle(ctx, e)
		}
	}()
	err := c.read(ctx, requests)
	closedHere := ctx.Err() != nil || c.Err() != nil
	c.fail(ErrClosed)
	cancel()
	close(requests)
	<-handled
	c.late.Wait()
	if err == io.EOF || closedHere {
		return nil
	}
	return err
}

func (c *Conn) read(ctx context.Context, requests chan<- envelope) error {
	r := bufio.NewReaderSize(c.rwc, readSize)
	for {
		line, err := readLine(r)
		if err != nil {
			return err
		}
		e, err := parse(line)
		clear(line) // it may hold a password
		if err != nil {
			return err
		}
		if e.Re {
			c.mu.Lock()
			ch := c.waiting[e.ID]
			delete(c.waiting, e.ID)
			c.mu.Unlock()
			if ch != nil {
				ch <- e
			} else {
				clear(e.Body) // nobody takes it any more
			}
			continue
		}
		select {
		case requests <- e:
		case <-ctx.Done():
			return nil
		}
	}
}

// readLine reads a line of at most MaxLine bytes. What it returns holds until
// the next one.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		part := line
		line = append(make([]byte, 0, 4*readSize), part...)
		clear(part) // as read does with the whole
		for err == bufio.ErrBufferFull {
			part, err = r.ReadSlice('\n')
			if len(line)+len(part) > MaxLine {
				return nil, fmt.Errorf("rpc: a line of more than %d bytes", MaxLine)
			}
			line = append(line, part...)
			clear(part)
		}
	}
	if err == io.EOF && len(line) > 0 {
		return nil, io.ErrUnexpectedEOF
	}
	return line, err
}

func parse(line []byte) (envelope, error) {
	var e envelope
	if err := json.Unmarshal(line, &e); err != nil {
		return envelope{}, fmt.Errorf("rpc: not a message: %w", err)
	}
	if e.Re == (e.Op != "") || e.Re && e.ID == 0 {
		return envelope{}, errors.New("rpc: neither request, reply nor event")
	}
	return e, nil
}

func (c *Conn) handle(ctx context.Context, e envelope) {
	var out any
	err := fmt.Errorf("rpc: unknown request %q", e.Op)
	if c.handler != nil {
		out, err = c.handler(ctx, e.Op, e.Body)
	}
	later, ok := out.(Later)
	if err != nil || !ok {
		c.answer(e.ID, out, err)
		return
	}
	c.later <- struct{}{}
	c.late.Go(func() {
		defer func() { <-c.later }()
		out, err := later()
		c.answer(e.ID, out, err)
	})
}

// answer sends the reply to a request; an event, without a number, gets none.
func (c *Conn) answer(id uint64, out any, err error) {
	if id == 0 {
		return
	}
	reply := envelope{ID: id, Re: true}
	if err == nil && out != nil {
		reply.Body, err = json.Marshal(out)
	}
	if err != nil {
		reply.Error = cmp.Or(err.Error(), "rpc: failed without a word")
		reply.Body = nil
	}
	_ = c.send(reply) // a lost connection shows in Serve
}

func (c *Conn) send(e envelope) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if len(line) >= MaxLine {
		return fmt.Errorf("rpc: message of %d bytes, at most %d", len(line), MaxLine-1)
	}
	c.write.Lock()
	defer c.write.Unlock()
	line = append(line, '\n')
	_, err = c.rwc.Write(line)
	clear(line) // it may hold a password
	clear(e.Body)
	return err
}

// Call sends a request and waits for its reply, which is decoded into out
// unless out is nil. Serve must be running.
func (c *Conn) Call(ctx context.Context, op string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	ch := make(chan envelope, 1)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return c.err
	}
	c.next++
	id := c.next
	c.waiting[id] = ch
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
	}()
	if err := c.send(envelope{ID: id, Op: op, Body: body}); err != nil {
		return err
	}
	select {
	case e := <-ch:
		return e.result(out)
	case <-c.done:
	case <-ctx.Done():
	}
	// The peer may have answered and closed, or answered as time ran out.
	select {
	case e := <-ch:
		return e.result(out)
	default:
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return ErrClosed
}

func (e envelope) result(out any) error {
	if e.Error != "" {
		return RemoteError{e.Error}
	}
	if out == nil {
		return nil
	}
	err := Decode(e.Body, out)
	clear(e.Body)
	return err
}

// Notify sends an event: no reply comes.
func (c *Conn) Notify(op string, in any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return c.send(envelope{Op: op, Body: body})
}

// Close ends the connection; calls under way return ErrClosed.
func (c *Conn) Close() error {
	c.fail(ErrClosed)
	return c.rwc.Close()
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is nil while the connection lives.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		close(c.done)
	}
}
