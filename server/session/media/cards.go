package media

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"hotdesk/protocol/native"
	"hotdesk/protocol/rpc"
	"hotdesk/server/session/attach"
	"hotdesk/server/session/keeperapi"
	"hotdesk/smartcard/pcsclite"
)

const (
	// readerName is the reader that programs see, named as pcscd names readers.
	readerName = "Hotdesk Terminal 00 00"
	// maxCardClients bounds the connections of programs at one time: a context
	// is one, and its cancelling another.
	maxCardClients = 64
	// maxUnsent bounds the messages on their way to one program or terminal.
	maxUnsent = 16
)

// cards is the smart card service of the session's programs: what pcscd would
// be to them. One goroutine, run, owns the machine.
type cards struct {
	log    *slog.Logger
	notes  rpc.Notes
	socket *net.UnixListener
	events chan any
	done   chan struct{} // closed when run has returned

	// Of run.
	machine *pcsclite.Machine
	clients map[pcsclite.Client]*cardClient
	link    *cardLink        // the terminal whose card it is, or nil
	later   []pcsclite.Event // that came of performing actions
}

// cardClient is a program's connection.
type cardClient struct {
	id    pcsclite.Client
	conn  net.Conn
	out   chan cardOut // to be written
	ready chan struct{}
	asked bool // its request is not answered yet
}

type cardOut struct {
	data []byte
	next bool // its next request may be read
}

// cardLink is an attachment's card streams.
type cardLink struct {
	out  chan []byte
	card uint32 // which card is in
}

// acceptAgain is the pause after a connection that was not accepted.
const acceptAgain = 100 * time.Millisecond

// What run is told beside events of pcsclite.
type (
	cardConn struct{ conn net.Conn }
	cardSaid struct {
		link *cardLink
		m    native.CardMessage
	}
	cardLost struct{ link *cardLink }
)

// newCards makes the socket at path, in place of one that a media process left
// that is gone.
func newCards(path string, log *slog.Logger) (*cards, error) {
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() == os.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("media: %w", err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("media: the socket of the card service: %w", err)
	}
	conf := pcsclite.Config{Reader: readerName}
	rand.Read(conf.Seed[:])
	return &cards{
		log: log, notes: rpc.Notes{Log: log}, socket: l, events: make(chan any), done: make(chan struct{}),
		machine: pcsclite.New(conf), clients: map[pcsclite.Client]*cardClient{},
	}, nil
}

// cardServer is who serves the card of a terminal; nil: nobody.
func (m *media) cardServer() attach.CardServer {
	if m.cards == nil {
		return nil
	}
	return m.cards.attached
}

// post hands something to run; after its end it is dropped.
func (c *cards) post(v any) {
	select {
	case c.events <- v:
	case <-c.done:
	}
}

// run serves until ctx ends, and returns when all that it started has ended.
func (c *cards) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(c.done)
	defer func() {
		c.socket.Close()
		for _, cl := range c.clients {
			c.forget(cl)
		}
	}()
	wg.Go(func() {
		for {
			conn, err := c.socket.Accept()
			if err != nil {
				if errors.Is(err, net.ErrClosed) {
					return
				}
				c.notes.Warn("card service: a program's connection was not accepted", "err", err)
				select { // out of descriptors, say: it passes
				case <-time.After(acceptAgain):
					continue
				case <-ctx.Done():
					return
				}
			}
			if err := keeperapi.CheckPeer(conn); err != nil {
				c.notes.Warn("card service: a program of another user was refused", "reason", err.Error())
				conn.Close()
				continue
			}
			c.post(cardConn{conn})
		}
	})
	timer := time.NewTimer(0)
	defer timer.Stop()
	last := pcsclite.Client(0)
	for {
		if next := c.machine.Next(); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
		select {
		case v := <-c.events:
			if conn, ok := v.(cardConn); ok {
				if last++; len(c.clients) >= maxCardClients {
					c.notes.Warn("card service: too many programs at once", "most", maxCardClients)
					conn.conn.Close()
					continue
				}
				cl := &cardClient{id: last, conn: conn.conn, out: make(chan cardOut, maxUnsent), ready: make(chan struct{}, 1)}
				c.clients[last] = cl
				wg.Go(func() { c.read(cl) })
				wg.Go(func() { c.write(cl) })
				c.step(pcsclite.Opened{Client: last})
				continue
			}
			c.take(v)
		case <-timer.C:
			c.perform(c.machine.Tick(time.Now()))
		case <-ctx.Done():
			return
		}
	}
}

// take handles what was posted.
func (c *cards) take(v any) {
	switch v := v.(type) {
	case pcsclite.Requested:
		if cl := c.clients[v.Client]; cl != nil {
			cl.asked = true
			c.step(v)
		}
	case pcsclite.Closed:
		if cl := c.clients[v.Client]; cl != nil {
			c.forget(cl)
			c.step(v)
		}
	case cardSaid:
		c.said(v)
	case cardLost:
		if c.link == v.link {
			c.link = nil
			c.step(pcsclite.Removed{})
		}
	}
}

// protocols are the terminal's words for them as programs say it; what a later
// terminal says is not known.
var protocols = map[native.CardProtocol]uint32{native.CardT0: pcsclite.T0, native.CardT1: pcsclite.T1}

// said handles what a terminal says of its card.
func (c *cards) said(v cardSaid) {
	mine := c.link == v.link && v.link.card == v.m.Card
	switch v.m.Type {
	case native.CardInserted:
		c.link, v.link.card = v.link, v.m.Card
		c.step(pcsclite.Inserted{ATR: v.m.Data, Protocol: protocols[native.CardProtocol(v.m.Seq)]})
	case native.CardRemoved:
		if mine {
			c.link = nil
			c.step(pcsclite.Removed{})
		}
	case native.CardAnswer:
		if mine {
			c.step(pcsclite.Answered{Ask: v.m.Seq, Data: v.m.Data})
		}
	case native.CardFailed:
		if mine {
			result := pcsclite.Mute
			if native.CardFault(v.m.Data[0]) == native.CardGone {
				result = pcsclite.Gone
			}
			c.step(pcsclite.Answered{Ask: v.m.Seq, Result: result})
		}
	}
}

func (c *cards) step(e pcsclite.Event) { c.perform(c.machine.Step(time.Now(), e)) }

// perform performs actions and what comes of that, to the end.
func (c *cards) perform(actions []pcsclite.Action) {
	c.act(actions)
	for len(c.later) > 0 {
		e := c.later[0]
		c.later = c.later[1:]
		c.act(c.machine.Step(time.Now(), e))
	}
}

// act does what the machine wants, and lets those speak who have been
// answered.
func (c *cards) act(actions []pcsclite.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case pcsclite.Send:
			if cl := c.clients[a.Client]; cl != nil {
				c.send(cl, cardOut{data: a.Data})
			}
		case pcsclite.Drop:
			c.log.Warn("card service: a program's connection is closed", "reason", a.Reason)
			if cl := c.clients[a.Client]; cl != nil {
				c.forget(cl)
			}
		case pcsclite.Ask:
			m := native.CardMessage{Type: native.CardTransmit, Seq: a.Ask, Data: a.Data}
			if a.Kind == pcsclite.KindReset {
				m.Type = native.CardReset
			}
			if len(m.Data) > native.MaxCardData || m.Type == native.CardTransmit && len(m.Data) == 0 {
				c.later = append(c.later, pcsclite.Answered{Ask: a.Ask, Result: pcsclite.Mute}) // no card knows it
				continue
			}
			c.ask(m)
		case pcsclite.Hold:
			m := native.CardMessage{Type: native.CardRelease}
			if a.On {
				m.Type = native.CardHold
			}
			c.ask(m)
		}
	}
	for _, cl := range c.clients {
		if cl.asked && !c.machine.Busy(cl.id) {
			cl.asked = false
			c.send(cl, cardOut{next: true})
		}
	}
}

// ask sends a message to the terminal. Where there is none any more, the
// machine is being told.
func (c *cards) ask(m native.CardMessage) {
	if c.link == nil {
		return
	}
	m.Card = c.link.card
	select {
	case c.link.out <- m.Append(nil):
	default: // of one question at a time, and its transactions
		c.log.Warn("card service: the terminal takes no messages")
		close(c.link.out)
		c.link = nil
		c.later = append(c.later, pcsclite.Removed{})
	}
}

// send queues something for a program; one that reads nothing is closed.
func (c *cards) send(cl *cardClient, o cardOut) {
	select {
	case cl.out <- o:
	default:
		c.log.Warn("card service: a program reads no answers, and its connection is closed")
		c.forget(cl)
		c.later = append(c.later, pcsclite.Closed{Client: cl.id})
	}
}

// forget closes a program's connection, once what it is sent is written.
func (c *cards) forget(cl *cardClient) {
	delete(c.clients, cl.id)
	close(cl.out)
}

// lastWords bounds the writing to a program.
const lastWords = 5 * time.Second

func (c *cards) write(cl *cardClient) {
	defer close(cl.ready)
	defer cl.conn.Close()
	for o := range cl.out {
		if o.next {
			cl.ready <- struct{}{} // it has room: it is taken before the next request
			continue
		}
		_ = cl.conn.SetWriteDeadline(time.Now().Add(lastWords)) // of an open socket it does not fail
		if _, err := cl.conn.Write(o.data); err != nil {
			cl.conn.Close() // ends read, which tells
			for range cl.out {
			}
			return
		}
	}
}

// read hands over one request after the other.
func (c *cards) read(cl *cardClient) {
	defer c.post(pcsclite.Closed{Client: cl.id})
	var buf []byte
	for {
		m, rest, err := pcsclite.ParseRequest(buf)
		if err == nil {
			buf = append([]byte(nil), rest...)
			c.post(pcsclite.Requested{Client: cl.id, Body: m})
			if _, ok := <-cl.ready; !ok {
				return
			}
			continue
		}
		if !errors.Is(err, pcsclite.ErrShort) {
			c.log.Warn("card service: a program's connection is closed", "reason", err.Error())
			return
		}
		var chunk [4096]byte
		n, err := cl.conn.Read(chunk[:])
		buf = append(buf, chunk[:n]...)
		if err != nil {
			return
		}
	}
}

// attached serves one attachment's card; see attach.CardServer.
func (c *cards) attached(in io.Reader, out io.Writer) {
	link := &cardLink{out: make(chan []byte, maxUnsent)}
	gone := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for {
			select {
			case b, ok := <-link.out:
				if !ok {
					return
				}
				if _, err := out.Write(b); err != nil {
					return
				}
			case <-gone:
				return
			}
		}
	})
	err := native.ReadCards(in, func(m native.CardMessage) { c.post(cardSaid{link, m}) })
	if errors.Is(err, native.ErrCard) {
		c.log.Warn("card service: the terminal's card stream is closed", "reason", err.Error())
	}
	c.post(cardLost{link})
	close(gone)
	writing.Wait()
}
