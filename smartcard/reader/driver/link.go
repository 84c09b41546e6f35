package driver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"hotdesk/smartcard/ccid"
)

const (
	maxStale      = 16   // answers to other commands that are passed over
	maxExtensions = 1000 // that a reader asks for in one command
	leastMessage  = 271  // bytes that every reader takes, whatever it says

	longest = 10 * time.Minute // that a reader may be silent, whatever time it asked for
)

// errBroken means that the reader does not keep to CCID, or not answer.
var errBroken = errors.New("driver: reader breaks the protocol")

// link exchanges messages with a reader. Who holds turn may call the others.
type link struct {
	p     Pipes
	i     ccid.Interface
	log   *slog.Logger
	turn  chan struct{} // holds a value while nobody has a dialogue
	ctx   context.Context
	end   context.CancelCauseFunc // of the reader
	seq   byte
	buf   []byte
	limit int // of a message, in bytes
}

func newLink(ctx context.Context, p Pipes, i ccid.Interface, log *slog.Logger) *link {
	l := &link{p: p, i: i, log: log, turn: make(chan struct{}, 1)}
	l.ctx, l.end = context.WithCancelCause(ctx)
	l.limit = int(min(i.Class.MaxMessage, ccid.MaxMessage))
	l.limit = max(l.limit, leastMessage)
	packet := i.In.Packet
	l.buf = make([]byte, (l.limit+packet-1)/packet*packet)
	l.turn <- struct{}{}
	return l
}

// begin waits for the turn.
func (l *link) begin(ctx context.Context) error {
	select {
	case <-l.turn:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.ctx.Done():
		return context.Cause(l.ctx)
	}
}

func (l *link) done() { l.turn <- struct{}{} }

// command sends c and returns its answer, of the type wanted. wait is how long
// the reader may be silent. Errors other than *ccid.SlotError end the reader,
// but for one: where ctx ends the command is aborted, and ctx's cause is
// returned.
func (l *link) command(ctx context.Context, c ccid.Command, want byte, wait time.Duration) (ccid.Answer, error) {
	c.Seq = l.seq
	l.seq++
	a, err := l.ask(ctx, c, want, wait)
	switch {
	case err == nil:
		return a, a.Err()
	case l.ctx.Err() != nil:
		return ccid.Answer{}, context.Cause(l.ctx)
	case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded):
		if aborted := l.abort(c.Slot); aborted != nil {
			return ccid.Answer{}, l.fail(fmt.Errorf("%w; it does not abort either: %w", err, aborted))
		}
		if ctx.Err() != nil {
			return ccid.Answer{}, context.Cause(ctx)
		}
		return ccid.Answer{}, &ccid.SlotError{Type: want, Code: ccid.IccMute}
	}
	return ccid.Answer{}, l.fail(err)
}

// fail ends the reader.
func (l *link) fail(err error) error {
	l.end(err)
	return err
}

func (l *link) ask(ctx context.Context, c ccid.Command, want byte, wait time.Duration) (ccid.Answer, error) {
	if err := l.send(ctx, c, wait); err != nil {
		return ccid.Answer{}, err
	}
	extensions, times := 0, time.Duration(1)
	for stale := 0; stale <= maxStale; {
		a, err := l.receive(ctx, min(wait*times, max(wait, longest)))
		switch {
		case err != nil:
			return ccid.Answer{}, err
		case a.Seq != c.Seq || a.Slot != c.Slot:
			stale++
			l.log.Debug("card reader: answer to another command", "type", a.Type, "slot", a.Slot, "seq", a.Seq, "want", c.Seq)
		case a.Outcome() == ccid.Extension:
			if extensions++; extensions > maxExtensions {
				return ccid.Answer{}, fmt.Errorf("%w: it asks for more time without end", errBroken)
			}
			times = max(1, time.Duration(a.Error))
		case a.Outcome() != ccid.Processed && a.Outcome() != ccid.Failed:
			return ccid.Answer{}, fmt.Errorf("%w: status %02x", errBroken, a.Status)
		case a.Type != want && a.Outcome() == ccid.Processed:
			return ccid.Answer{}, fmt.Errorf("%w: an answer of type %02x to a command of type %02x", errBroken, a.Type, c.Type)
		default:
			return a, nil
		}
	}
	return ccid.Answer{}, fmt.Errorf("%w: only answers to other commands", errBroken)
}

func (l *link) send(ctx context.Context, c ccid.Command, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	b := c.Append(nil)
	err := l.p.Out(ctx, b)
	if errors.Is(err, ErrStall) {
		if err = l.p.ClearHalt(); err == nil {
			err = l.p.Out(ctx, b)
		}
	}
	return err
}

// receive takes one message. Its data are good until the next one.
func (l *link) receive(ctx context.Context, wait time.Duration) (ccid.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	have, packet := 0, l.i.In.Packet
	for empty := 0; have == 0; empty++ {
		n, err := l.p.In(ctx, l.buf[:min(packet, len(l.buf))])
		if errors.Is(err, ErrStall) && empty == 0 {
			if err = l.p.ClearHalt(); err == nil {
				continue
			}
		}
		if err != nil {
			return ccid.Answer{}, err
		}
		if empty > maxStale {
			return ccid.Answer{}, fmt.Errorf("%w: only empty messages", errBroken)
		}
		have = n // 0 is the end of a message of whole packets
	}
	total, err := ccid.Announced(l.buf[:have])
	if err != nil {
		return ccid.Answer{}, err
	}
	if l.buf[0] == ccid.Parameters && total == ccid.HeaderSize {
		have = total // qemu's reader leaves the parameters out of the length
	}
	if total > len(l.buf) || have > total {
		return ccid.Answer{}, fmt.Errorf("%w: a message of %d bytes; at most %d, and %d came", errBroken, total, l.limit, have)
	}
	for have < total {
		want := (total - have + packet - 1) / packet * packet
		n, err := l.p.In(ctx, l.buf[have:min(have+want, len(l.buf))])
		if err != nil {
			return ccid.Answer{}, err
		}
		have += n
		if have > total || n%packet != 0 && have != total || n == 0 {
			return ccid.Answer{}, fmt.Errorf("%w: %d bytes of a message of %d", errBroken, have, total)
		}
	}
	return ccid.ParseAnswer(l.buf[:total])
}

// abort ends whatever the slot does (section 5.3.1): by the control pipe and
// the bulk pipe with the same number. A reader that knows no abort may have lost
// the answer and do nothing, as qemu's does when a card is pulled: then its status
// comes at once, and does not say that it is busy.
func (l *link) abort(slot byte) error {
	seq := l.seq
	l.seq++
	ctx, cancel := context.WithTimeout(l.ctx, patience)
	defer cancel()
	c := ccid.Simple(ccid.Abort, slot, seq)
	stall := l.p.Control(ctx, ccid.RequestAbort, uint16(seq)<<8|uint16(slot))
	switch {
	case errors.Is(stall, ErrStall):
		c = ccid.Simple(ccid.GetSlotStatus, slot, seq)
	case stall != nil:
		return stall
	}
	a, err := l.ask(ctx, c, ccid.SlotStatus, patience)
	if err == nil && stall != nil && a.Outcome() == ccid.Failed && a.Error == ccid.CmdSlotBusy {
		return stall
	}
	return err
}
