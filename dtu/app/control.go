package app

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"hotdesk/dtu/terminal"
	"hotdesk/dtu/trust"
	"hotdesk/protocol/alp"
)

const (
	// connectWithin is how long a server may take to accept and prove itself.
	connectWithin = 3 * time.Second
	// writeWithin is how long a line may take to leave.
	writeWithin = 10 * time.Second
	// maxOut bounds the lines that wait to be sent.
	maxOut = 64
)

// A control is one control connection, from dialling to its end.
type control struct {
	id     int
	to     netip.AddrPort
	wire   Wire             // nil: none
	out    chan alp.Message // closed: send what is there, then close
	cancel context.CancelFunc
	addr   netip.Addr // our own; valid once connected; only for the loop
}

// connected is told to the loop in the terminal's ControlUp.
type connected struct {
	terminal.ControlUp
	local netip.Addr
}

// connect opens a connection. post tells the loop.
func connect(ctx context.Context, wg *sync.WaitGroup, id int, to netip.AddrPort, store *trust.Store, wire Wire, post func(any)) *control {
	ctx, cancel := context.WithCancel(ctx)
	c := &control{id: id, to: to, wire: wire, out: make(chan alp.Message, maxOut), cancel: cancel}
	wg.Go(func() {
		defer cancel()
		err := c.serve(ctx, to, store, post)
		down := terminal.ControlDown{Control: id, Reason: strings.TrimPrefix(err.Error(), "trust: ")}
		if unknown, ok := errors.AsType[*trust.Unknown](err); ok {
			down.Untrusted = true
			post(unknown)
		} else if _, ok := errors.AsType[*trust.Refused](err); ok {
			down.Untrusted = true
		}
		post(down)
	})
	return c
}

// send queues a line. A server that takes none is left.
func (c *control) send(m alp.Message) {
	select {
	case c.out <- m:
	default:
		c.cancel()
	}
}

// close ends the connection when what waits has been sent, or gives it up
// where it is not connected yet. Nothing may be sent afterwards.
func (c *control) close() {
	close(c.out)
	if !c.addr.IsValid() {
		c.cancel()
	}
}

// serve is the connection's life; it returns why it ended.
func (c *control) serve(ctx context.Context, to netip.AddrPort, store *trust.Store, post func(any)) error {
	conn, err := c.dial(ctx, to, store)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	local := conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	post(connected{terminal.ControlUp{Control: c.id}, local})
	name, err := bound(c.id, conn)
	if err != nil {
		return err
	}
	post(name)
	var wg sync.WaitGroup
	defer wg.Wait()
	ended := make(chan struct{})
	defer close(ended)
	wg.Go(func() { c.write(conn, ended) })
	return c.read(conn, post)
}

func (c *control) dial(ctx context.Context, to netip.AddrPort, store *trust.Store) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	// keepAliveReq finds out what TCP would.
	d := net.Dialer{KeepAlive: -1}
	conn, err := d.DialContext(ctx, "tcp4", to.String())
	if err != nil {
		return nil, err
	}
	if c.wire != nil {
		conn = c.wire.Stream(to, conn)
	}
	t := tls.Client(conn, store.TLS())
	if err := t.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	if t.ConnectionState().NegotiatedProtocol != alp.ALPN {
		t.Close()
		return nil, fmt.Errorf("%v does not speak %s", to, alp.ALPN)
	}
	return t, nil
}

func (c *control) write(conn net.Conn, ended <-chan struct{}) {
	defer conn.Close()
	for {
		select {
		case m, ok := <-c.out:
			if !ok {
				return
			}
			conn.SetWriteDeadline(time.Now().Add(writeWithin))
			if _, err := conn.Write(m.Append(nil)); err != nil {
				return // read tells why
			}
		case <-ended:
			return
		}
	}
}

func (c *control) read(conn net.Conn, post func(any)) error {
	r := bufio.NewReaderSize(conn, alp.MaxLine)
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("a line of more than %d bytes", alp.MaxLine)
		}
		if err != nil {
			return err
		}
		m, err := alp.Parse(line)
		if err != nil {
			return err
		}
		post(terminal.Line{Control: c.id, Message: m})
	}
}
