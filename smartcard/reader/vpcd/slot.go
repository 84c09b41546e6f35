package vpcd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/rpc"
	"hotdesk/smartcard/reader"
)

// Name is what the reader of card programs calls itself.
const Name = "vpcd"

const (
	// atrWithin is how long a program that connects may take for its ATR.
	atrWithin = 5 * time.Second
	// answerWithin is how long a card may take to answer; one that makes a key
	// takes many seconds.
	answerWithin = time.Minute
	// restAfterError keeps a listener that fails, for want of descriptors say,
	// from taking a core.
	restAfterError = time.Second
)

// Slot is a reader whose cards are programs that connect to it.
type Slot struct {
	listen net.Listener
	log    *slog.Logger
	notes  rpc.Notes
	ctx    context.Context
	cancel context.CancelFunc
	events *reader.Queue
	done   chan struct{}
}

// Listen has l be the reader's slot until Close, which closes l. Its card is
// the program that connected first; others wait in the listener till that is
// out. nil logs nothing.
func Listen(l net.Listener, log *slog.Logger) *Slot {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Slot{listen: l, log: log, notes: rpc.Notes{Log: log}, done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.events = reader.NewQueue(s.ctx)
	go s.run()
	return s
}

// Events tells what happens at the reader.
func (s *Slot) Events() <-chan reader.Event { return s.events.Events() }

// Close drops the card and the listener. Events that nobody took are dropped.
func (s *Slot) Close() error {
	s.cancel()
	<-s.done
	s.events.Wait()
	return nil
}

func (s *Slot) run() {
	defer close(s.done)
	stop := context.AfterFunc(s.ctx, func() { s.listen.Close() })
	defer stop()
	s.events.Tell(reader.Event{Kind: reader.ReaderAdded, Reader: Name})
	for {
		conn, err := s.listen.Accept()
		switch {
		case s.ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return
		case err != nil:
			s.log.Warn("card socket: accepting", "err", err)
			select {
			case <-time.After(restAfterError):
			case <-s.ctx.Done():
			}
			continue
		}
		if err := s.hold(conn); err != nil {
			s.notes.Warn("card socket: program dropped", "reason", err.Error())
		}
	}
}

// hold has a program be the card until it closes, breaks the protocol or the
// Slot is closed.
func (s *Slot) hold(conn net.Conn) error {
	c := &socketCard{conn: conn, turn: make(chan struct{}, 1), answers: make(chan []byte, 1),
		gone: make(chan struct{}), removed: make(chan struct{})}
	var reading sync.WaitGroup
	defer reading.Wait()
	defer conn.Close()
	reading.Go(c.receive)
	ctx, cancel := context.WithTimeout(s.ctx, atrWithin)
	defer cancel()
	atr, err := c.exchange(ctx, appendMessage(appendMessage(nil, []byte{powerOn}), []byte{getATR}))
	switch {
	case s.ctx.Err() != nil:
		return nil
	case err != nil:
		return fmt.Errorf("vpcd: no ATR: %w", err)
	case len(atr) > alp.MaxATR:
		return fmt.Errorf("vpcd: ATR of %d bytes", len(atr))
	}
	c.atr = atr
	s.events.Tell(reader.Event{Kind: reader.Inserted, Reader: Name, Card: c})
	select {
	case <-c.gone:
	case <-s.ctx.Done():
	}
	conn.Close() // first: nothing is sent to a card that is out
	close(c.removed)
	s.events.Tell(reader.Event{Kind: reader.Removed, Reader: Name, Card: c})
	<-c.gone
	return c.err
}

// socketCard is a program that is connected.
type socketCard struct {
	conn    net.Conn
	atr     []byte
	removed chan struct{}

	turn    chan struct{} // of capacity 1; holds something during an exchange
	owes    bool          // turn: an answer that nobody waits for any more is to come
	asked   atomic.Bool   // an answer may come
	answers chan []byte   // of capacity 1

	gone chan struct{} // closed at the connection's end
	err  error         // why, before gone is closed; nil: the program closed it
}

// ATR is what the program says; none: a mute card.
func (c *socketCard) ATR() []byte { return slices.Clone(c.atr) }

// Removed is closed when the program is gone.
func (c *socketCard) Removed() <-chan struct{} { return c.removed }

// Transmit asks the program. Messages bound a command at 65535 bytes.
func (c *socketCard) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if len(command) < 4 || len(command) > maxBody {
		return nil, fmt.Errorf("vpcd: command of %d bytes", len(command))
	}
	if len(c.atr) == 0 {
		return nil, c.mute()
	}
	answer, err := c.exchange(ctx, appendMessage(nil, command))
	if err == nil && len(answer) < 2 {
		return nil, c.mute()
	}
	return answer, err
}

func (c *socketCard) mute() error {
	select {
	case <-c.removed:
		return reader.ErrRemoved
	default:
		return reader.ErrMute
	}
}

// Reset has the program begin anew; that it tells its ATR shows that it has.
func (c *socketCard) Reset(ctx context.Context) error {
	_, err := c.exchange(ctx, appendMessage(appendMessage(nil, []byte{reset}), []byte{getATR}))
	return err
}

// exchange sends messages, the last of which has an answer.
func (c *socketCard) exchange(ctx context.Context, messages []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-c.removed:
		return nil, reader.ErrRemoved
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c.owes {
		if _, err := c.answer(ctx); err != nil {
			return nil, err
		}
	}
	// A program that does not read, or not answer, ends here.
	if c.conn.SetDeadline(time.Now().Add(answerWithin)) != nil {
		return nil, reader.ErrRemoved
	}
	c.asked.Store(true)
	if _, err := c.conn.Write(messages); err != nil {
		c.conn.Close()
		return nil, reader.ErrRemoved
	}
	c.owes = true
	return c.answer(ctx)
}

// answer waits for the one that is to come.
func (c *socketCard) answer(ctx context.Context) ([]byte, error) {
	select {
	case <-c.removed:
		return nil, reader.ErrRemoved
	default:
	}
	select {
	case b := <-c.answers:
		c.owes = false
		return b, nil
	case <-c.gone:
		select {
		case b := <-c.answers: // its last
			return b, nil
		default:
			return nil, reader.ErrRemoved
		}
	case <-c.removed:
		return nil, reader.ErrRemoved
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// receive takes answers until the connection ends.
func (c *socketCard) receive() {
	defer close(c.gone)
	for {
		body, err := c.receiveOne()
		if err != nil {
			if !ended(err) {
				c.err = err
			}
			return
		}
		c.asked.Store(false)
		c.answers <- body // there is room: only one is asked for at a time
	}
}

func (c *socketCard) receiveOne() ([]byte, error) {
	n, err := receiveLength(c.conn)
	if err != nil {
		return nil, err
	}
	if !c.asked.Load() {
		return nil, errors.New("vpcd: the program speaks unasked")
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c.conn, body); err != nil {
		return nil, err
	}
	return body, c.conn.SetDeadline(time.Time{})
}

// maxBody bounds a message's body, by its length's two bytes.
const maxBody = 0xffff

// appendMessage appends a message; body has at most maxBody bytes.
func appendMessage(b, body []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(body))), body...)
}
