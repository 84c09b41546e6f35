package terminal

import (
	"net/netip"
	"time"
)

// linkIs takes in whether the network's link is up. A session's picture stays
// until its host counts as dead: a plug is back sooner than that. What a
// server shows without a session is worth nothing without the server.
func (m *Machine) linkIs(e Link) {
	m.linkOut, m.linkAt = !e.Up, time.Time{}
	switch {
	case !e.Up:
		m.linkAt = m.now.Add(LinkGrace)
	case m.osd == osdLink:
		m.say(osdLost)
		m.shun = netip.AddrPort{} // it was the link
		if m.link != linkUp {
			m.fails = 0
			m.race()
		}
	}
}

// linkLost: the link has been down for LinkGrace.
func (m *Machine) linkLost() {
	if m.med.id != 0 && m.med.session != "" {
		return
	}
	m.closeMedia("no link")
	if m.link == linkUp {
		m.closeControl("no link")
		m.unlink()
		m.wait(m.fails)
	}
	if m.osd.Code != CodeNoSession {
		m.say(osdLink)
	}
}
