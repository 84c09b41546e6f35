package viewer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"hotdesk/dtu/screen"
	"hotdesk/protocol/input"
	"hotdesk/protocol/native"
)

// MaxQueue bounds the input that waits to be sent. Nobody types that far ahead
// of a connection that works.
const MaxQueue = 256

// A queue is input on its way out.
type queue struct {
	mu      sync.Mutex
	records []input.Record
	ack     uint32 // newest frame to acknowledge, 0: none
	acked   uint32 // newest frame that was acknowledged
	closed  bool
	more    chan struct{} // something to receive when there is something to send
}

// add queues r and returns how many records were given up for it. When the
// queue is full all that waits is given up for one Release, so that nothing
// stays pressed at the other end.
func (q *queue) add(r input.Record) (dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return 0
	}
	if last := len(q.records) - 1; last >= 0 && replaces(r, q.records[last]) {
		q.records[last] = r
	} else {
		if len(q.records) >= MaxQueue {
			dropped = len(q.records)
			q.records = append(q.records[:0], input.Record{Type: input.Release})
		}
		q.records = append(q.records, r)
	}
	poke(q.more)
	return dropped
}

// drawn queues the acknowledgement of a frame. If it may be late, and is the only
// one, it waits for what is queued next.
func (q *queue) drawn(seq uint32, late bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.ack = seq
	if !late || seq != q.acked+1 {
		poke(q.more)
	}
}

// hurry sends an acknowledgement that waits.
func (q *queue) hurry() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ack > 0 {
		poke(q.more)
	}
}

// replaces reports whether r says all that old, just before it, did.
func replaces(r, old input.Record) bool {
	return r.Type == old.Type && (r.Type == input.Pointer && r.Buttons == old.Buttons || r.Type == input.Resize)
}

// take appends what waits to b and empties the queue.
func (q *queue) take(b []byte) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ack > 0 {
		b = input.Record{Type: input.Ack, Seq: q.ack}.Append(b)
		q.ack, q.acked = 0, q.ack
	}
	for _, r := range q.records {
		b = r.Append(b)
	}
	q.records = q.records[:0]
	return b
}

// len is the number of records that wait.
func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.records)
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed, q.records, q.ack = true, nil, 0
}

// input sends the queue.
func (v *Viewer) input() {
	var buf []byte
	for {
		select {
		case <-v.q.more:
		case <-v.conn.Context().Done():
			return
		}
		if buf = v.q.take(buf[:0]); len(buf) == 0 {
			continue
		}
		if _, err := v.out.Write(buf); err != nil {
			v.lost(err)
			return
		}
	}
}

// A pipe is the display stream; it remembers why it ended, whatever a decoder
// makes of that.
type pipe struct {
	v    *Viewer
	s    *quic.ReceiveStream
	read int64 // bytes
	err  error
}

func (p *pipe) Read(b []byte) (int, error) {
	n, err := p.s.Read(b)
	p.read += int64(n)
	if n > 0 {
		p.v.drawing.Store(int64(time.Since(p.v.start)))
	}
	if err != nil {
		p.err = err
	}
	return n, err
}

// accept waits for the display stream and reads its kind.
func (v *Viewer) accept() (*pipe, error) {
	for {
		s, err := v.conn.AcceptUniStream(v.conn.Context())
		if err != nil {
			return nil, err
		}
		var kind [1]byte
		if _, err := io.ReadFull(s, kind[:]); err != nil {
			return nil, err
		}
		if native.Kind(kind[0]) == native.StreamDisplay {
			return &pipe{v: v, s: s}, nil
		}
		v.stream(s, native.Kind(kind[0]))
	}
}

// display draws frames.
func (v *Viewer) display() {
	in, err := v.accept()
	if err != nil {
		v.lost(err)
		return
	}
	var others sync.WaitGroup
	defer others.Wait()
	others.Go(v.refuse)
	r := bufio.NewReaderSize(in, readBuffer)
	at := int64(0)
	for first := true; ; first = false {
		seq, err := v.conf.Decoder.Decode(r)
		if err != nil {
			v.undrawn(in.err, err)
			return
		}
		v.hear()
		size := in.read - int64(r.Buffered()) - at
		at += size
		v.q.drawn(seq, v.late.Load() && size <= native.MaxLate)
		if first {
			close(v.drawn)
		}
	}
}

// undrawn ends the connection after a frame that could not be drawn: for want
// of its bytes, or for what they are.
func (v *Viewer) undrawn(stream, err error) {
	_, reset := errors.AsType[*quic.StreamError](stream)
	switch {
	case errors.Is(err, screen.ErrDetached):
		v.end(native.CloseDetached, ErrClosed, "the screen was taken away")
	case stream == nil:
		v.end(native.CloseProtocol, fmt.Errorf("viewer: picture not drawn: %w", err), "picture not drawn: "+err.Error())
	case reset || stream == io.EOF:
		v.end(native.CloseProtocol, errors.New("viewer: the media end has stopped sending the picture"), "the display stream ended")
	default:
		v.lost(stream)
	}
}

// liveness hears the media end's Alive, asks for it when it is late, and
// notices its silence. Our own sign of life is what QUIC acknowledges.
func (v *Viewer) liveness() {
	var s silence
	for {
		period, heard := time.Duration(v.period.Load()), time.Time{}
		if at := v.heard.Load(); at > 0 {
			heard = v.start.Add(time.Duration(at))
		}
		wake, ask, over := s.look(time.Now(), v.start, heard, period)
		if ask {
			v.Touch()
			poke(v.quiet)
		}
		if v.blind(time.Now()) {
			v.end(native.CloseSlow, fmt.Errorf("%w: nothing of one came from %v for %v", ErrNoPicture, v.conf.Addr, PictureWithin), "no picture")
			return
		}
		if over {
			err := fmt.Errorf("%w: nothing came from %v for %v", ErrSilent, v.conf.Addr, native.SilentAfter(period))
			v.end(native.CloseSlow, err, "silent")
			return
		}
		ctx, cancel := context.WithDeadline(v.conn.Context(), wake)
		b, err := v.conn.ReceiveDatagram(ctx)
		cancel()
		if v.conn.Context().Err() != nil {
			v.lost(err)
			return
		}
		if err != nil {
			continue // it is time for something
		}
		if period, ok := native.ParseAlive(b); ok {
			v.period.Store(int64(period))
			if late := native.AcksLate(b); v.late.Swap(late) && !late {
				v.q.hurry()
			}
			v.hear()
		}
	}
}

// blind says that the first picture does not come.
func (v *Viewer) blind(now time.Time) bool {
	select {
	case <-v.drawn:
		return false
	default:
		return now.Sub(v.start)-time.Duration(v.drawing.Load()) >= PictureWithin
	}
}

// touches sends what Touch asks for.
func (v *Viewer) touches() {
	for {
		select {
		case <-v.touch:
		case <-v.conn.Context().Done():
			return
		}
		if err := v.conn.SendDatagram(native.AppendAlive(nil, time.Duration(v.period.Load()))); err != nil {
			v.lost(err)
			return
		}
	}
}

func (v *Viewer) hear() { v.heard.Store(max(1, int64(time.Since(v.start)))) }
