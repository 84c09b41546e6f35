package simulate

import (
	"time"

	"hotdesk/dtu/terminal"
	"hotdesk/protocol/alp"
	"hotdesk/smartcard/identity"
)

// conn is a control connection.
type conn struct {
	unit    *Unit
	id      int
	host    *Host
	gwLife  int
	up      bool      // the terminal has it
	ended   bool      // the gateway has closed it, or is gone
	proven  alp.Token // of the card that has proven itself here and is in
	channel [identity.ChannelSize]byte
	out     []func()
	in      []func()
}

// dial connects, or does not.
func (u *Unit) dial(a terminal.Connect) {
	c := &conn{unit: u, id: a.Control, host: u.w.hostAt[a.Server.Addr()]}
	u.conns[c.id] = c
	began := u.w.now
	var try func()
	fail := func(why string) {
		if u.conns[c.id] == c {
			delete(u.conns, c.id)
			u.step(terminal.ControlDown{Control: c.id, Reason: why})
		}
	}
	try = func() {
		h := c.host
		switch {
		case u.conns[c.id] != c:
		case h != nil && h.killed && u.w.reaches(u, a.Server.Addr()) && u.w.both(u.name, h.name):
			fail("connection refused")
		case h != nil && h.on && u.w.reaches(u, a.Server.Addr()) && u.w.both(u.name, h.name):
			if h.gw == nil || a.Server.Port() != controlPort {
				fail("connection refused")
				return
			}
			if h.rogue {
				delete(u.conns, c.id)
				u.step(terminal.ControlDown{Control: c.id, Reason: "another authority", Untrusted: true})
				return
			}
			c.gwLife, c.up = h.gwLife, true
			u.step(terminal.ControlUp{Control: c.id})
			if u.w.proofs != nil {
				c.bind(u.w)
			}
		case u.w.now-began >= connectWithin:
			fail("no answer")
		default:
			u.w.after(min(time.Second, began+connectWithin-u.w.now), try)
		}
	}
	u.w.after(3*u.w.delay(), try)
}

// send carries a line to the gateway, in order.
func (c *conn) send(m alp.Message) {
	line := m.Append(nil)
	c.toHost(func() {
		if c.ended || c.host.gw == nil || c.host.gwLife != c.gwLife {
			c.hangUp()
			return
		}
		m, err := alp.Parse(line)
		if err != nil {
			c.unit.w.broken("%s sent %q: %v", c.unit.name, line, err)
			return
		}
		c.host.gw.line(c, m)
	})
}

// leave closes the connection; what was sent before is delivered.
func (c *conn) leave() {
	delete(c.unit.conns, c.id)
	c.toHost(func() {
		c.ended = true
		if g := c.host.gw; g != nil && c.host.gwLife == c.gwLife {
			if t := g.terms[c.unit.id]; t != nil && t.conn == c {
				t.conn = nil
			}
		}
	})
}

// hangUp closes the connection from the gateway's end.
func (c *conn) hangUp() {
	if c.ended {
		return
	}
	c.ended = true
	c.toUnit(func() {
		if u := c.unit; u.conns[c.id] == c {
			delete(u.conns, c.id)
			u.step(terminal.ControlDown{Control: c.id, Reason: "closed by the server"})
		}
	})
}

// down carries a line to the terminal, in order.
func (c *conn) down(m alp.Message) {
	if c.ended {
		return
	}
	line := m.Append(nil)
	c.toUnit(func() {
		if u := c.unit; u.conns[c.id] == c {
			m, err := alp.Parse(line)
			if err != nil {
				u.w.broken("%s was sent %q: %v", u.name, line, err)
				return
			}
			u.step(terminal.Line{Control: c.id, Message: m})
		}
	})
}

func (c *conn) toHost(f func()) {
	if c.host == nil || !c.up {
		return
	}
	c.out = append(c.out, f)
	c.pump(&c.out, func() bool { return c.host.on && c.unit.w.both(c.unit.name, c.host.name) })
}

func (c *conn) toUnit(f func()) {
	c.in = append(c.in, f)
	c.pump(&c.in, func() bool { return c.unit.w.both(c.unit.name, c.host.name) })
}

// pump delivers the first of q, again and again until it can: a connection
// loses nothing and keeps the order.
func (c *conn) pump(q *[]func(), open func() bool) {
	w := c.unit.w
	var try func()
	began := w.now
	try = func() {
		switch {
		case len(*q) == 0:
		case !open():
			if w.now-began > 15*time.Minute { // as TCP gives up
				*q = nil
				return
			}
			w.after(250*time.Millisecond, try)
		default:
			f := (*q)[0]
			*q = (*q)[1:]
			f()
		}
	}
	w.after(w.delay(), try)
}
