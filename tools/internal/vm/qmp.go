package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"sync"
)

// An Event is what qemu tells unasked: DEVICE_DELETED, SHUTDOWN and so on.
type Event struct {
	Name string          `json:"event"`
	Data json.RawMessage `json:"data"`
}

// qmp speaks qemu's machine protocol on one connection. Commands go one at a
// time; events are kept from the first on.
type qmp struct {
	conn    net.Conn
	room    chan struct{} // taken by the command that is out
	answers chan answer

	mu      sync.Mutex
	events  []Event
	changed chan struct{}
	err     error // the connection's end
}

// maxEvents is how many are kept; qemu tells few.
const maxEvents = 1024

type answer struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event
}

func newQMP(ctx context.Context, conn net.Conn) (*qmp, error) {
	q := &qmp{conn: conn, room: make(chan struct{}, 1), answers: make(chan answer), changed: make(chan struct{})}
	go q.read()
	return q, q.do(ctx, "qmp_capabilities", nil, nil)
}

func (q *qmp) read() {
	defer close(q.answers)
	d := json.NewDecoder(bufio.NewReader(q.conn))
	for {
		var a answer
		err := d.Decode(&a)
		q.mu.Lock()
		switch {
		case err != nil:
			q.err = err
		case a.Name != "" && len(q.events) < maxEvents:
			q.events = append(q.events, a.Event)
		}
		close(q.changed)
		q.changed = make(chan struct{})
		q.mu.Unlock()
		if err != nil {
			return
		}
		if a.Return != nil || a.Error != nil { // else the greeting, or an event
			q.answers <- a
		}
	}
}

func (q *qmp) do(ctx context.Context, command string, args, result any) error {
	select {
	case q.room <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	b, err := json.Marshal(map[string]any{"execute": command, "arguments": orEmpty(args)})
	if err != nil {
		<-q.room
		return fmt.Errorf("vm: qmp %s: %w", command, err)
	}
	if _, err := q.conn.Write(b); err != nil {
		<-q.room
		return fmt.Errorf("vm: qmp %s: %w", command, err)
	}
	done := make(chan answer, 1)
	go func() { // its answer is read also when nobody waits for it any more
		done <- <-q.answers
		<-q.room
	}()
	select {
	case a := <-done:
		switch {
		case a.Error != nil:
			return fmt.Errorf("vm: qmp %s: %s", command, a.Error.Desc)
		case a.Return == nil:
			return fmt.Errorf("vm: qmp %s: qemu hung up", command)
		case result != nil:
			return json.Unmarshal(a.Return, result)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("vm: qmp %s: %w", command, ctx.Err())
	}
}

func orEmpty(args any) any {
	if args == nil {
		return struct{}{}
	}
	return args
}

// wait returns the first event after the first n for which ok holds, and how
// many there were up to it.
func (q *qmp) wait(ctx context.Context, n int, ok func(Event) bool) (Event, int, error) {
	for {
		q.mu.Lock()
		news, changed, err := slices.Clone(q.events[n:]), q.changed, q.err
		q.mu.Unlock()
		for _, e := range news {
			if n++; ok(e) {
				return e, n, nil
			}
		}
		if err != nil {
			return Event{}, n, fmt.Errorf("vm: qemu hung up: %w", err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Event{}, n, ctx.Err()
		}
	}
}

func (q *qmp) told() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.events)
}
