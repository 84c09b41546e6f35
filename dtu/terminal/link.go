package terminal

import (
	"net/netip"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/native"
)

// locate asks for servers.
func (m *Machine) locate(from From) {
	m.link, m.queue = linkLocate, nil
	if m.untrusted != "" {
		m.say(OSD{CodeUntrusted, "The server is not trusted",
			"It could not prove that it belongs to the group this terminal knows: " + m.untrusted})
	}
	m.do(Locate{from})
}

func (m *Machine) found(e Found) {
	if m.link != linkLocate || len(e.Servers) == 0 {
		return
	}
	m.queue = e.Servers[:min(len(e.Servers), MaxServers)]
	if m.osd.Code == CodeBroadcast || m.osd.Code == CodeNetworkDown {
		m.say(osdServer)
	}
	m.untrusted, m.asked = "", true
	m.dialNext()
}

func (m *Machine) searched(e Searched) {
	switch {
	case m.link != linkLocate || m.osd.Code == CodeNoSession:
	case e.Error != "":
		m.say(OSD{CodeNetworkDown, "The network is down", clean(e.Error)})
	case m.untrusted == "":
		m.say(osdBroadcast)
	}
}

func (m *Machine) dialNext() {
	s := m.queue[0]
	m.queue = m.queue[1:]
	m.dial(s)
}

func (m *Machine) dial(s netip.AddrPort) {
	m.control++
	m.link, m.server, m.retryAt = linkDial, s, time.Time{}
	m.do(Connect{m.control, s})
}

func (m *Machine) controlUp(e ControlUp) {
	if e.Control != m.control || m.link != linkDial {
		return
	}
	m.link, m.known, m.queue, m.untrusted, m.tries = linkUp, m.server, nil, "", 0
	m.deadAt = m.now.Add(DeadAfter)
	m.stableAt = m.now.Add(Stable)
	m.aliveAt = m.now.Add(m.period())
	if m.verdict == verdictDisconnected && m.tok.card != 0 {
		m.say(m.verdictOn) // to present the card again would take the session back
		return
	}
	m.present()
}

func (m *Machine) controlDown(e ControlDown) {
	switch {
	case e.Control != m.control:
	case m.link == linkUp:
		m.lost()
	case m.link == linkDial:
		m.notReached(e)
	}
}

// notReached goes on after a dial that failed.
func (m *Machine) notReached(e ControlDown) {
	if e.Untrusted {
		m.untrusted = clean(e.Reason)
	}
	switch {
	case m.redirect && m.tries+1 < maxTries:
		m.tries++
		m.wait(m.tries)
	case m.med.id != 0:
		m.fails++
		m.wait(m.fails)
	case len(m.queue) > 0:
		m.dialNext()
	default:
		if m.redirect {
			m.say(osdLost)
		}
		from := FromNext
		if m.redirect || !m.asked {
			from = FromKnown
		}
		m.redirect, m.props = false, ""
		m.locate(from)
	}
}

func (m *Machine) wait(n int) {
	m.link, m.retryAt = linkBackoff, m.now.Add(backoff(n))
}

// unlink forgets what belongs to a control connection.
func (m *Machine) unlink() {
	m.link, m.presented, m.probe = linkOff, false, false
	m.deadAt, m.aliveAt, m.stableAt, m.presentAt = time.Time{}, time.Time{}, time.Time{}, time.Time{}
}

func (m *Machine) closeControl(reason string) {
	if m.link == linkDial || m.link == linkUp {
		m.do(CloseControl{m.control, reason})
	}
}

// lost goes on after control has ended.
func (m *Machine) lost() {
	m.unlink()
	m.asked = false
	if m.med.id == 0 {
		m.bothLost()
		return
	}
	m.wait(m.fails)
	m.fails++
	if !m.noticed {
		m.noticeAt = m.now.Add(NoticeAfter)
	}
}

// bothLost goes on where neither control nor media is left: the server that we
// had, then others.
func (m *Machine) bothLost() {
	m.sayLost()
	switch {
	case m.link == linkDial || m.link == linkBackoff: // on its way already
	case m.fails == 0:
		m.fails++
		m.dial(m.known)
	default:
		m.wait(m.fails)
		m.fails++
	}
}

// sayLost says that there is no server, unless there is something to say about
// the card.
func (m *Machine) sayLost() {
	if m.osd.Code != CodeNoSession {
		m.say(osdLost)
	}
}

// retry dials again after a pause.
func (m *Machine) retry() {
	switch {
	case m.med.id != 0 || m.redirect:
		m.dial(m.server)
	case m.fails > maxTries:
		m.locate(FromNext)
	default:
		m.dial(m.known)
	}
}

func (m *Machine) period() time.Duration {
	if m.med.id != 0 {
		return KeepAlive
	}
	return KeepAliveIdle
}

func (m *Machine) keepAlive() {
	m.send(m.cfg.Identity.KeepAliveReq(m.med.id != 0))
	m.aliveAt = m.now.Add(m.period())
}

// dead: nothing has come from the server for too long. Without media the host
// is dead, and to dial it would only cost time.
func (m *Machine) dead() {
	m.send(m.cfg.Identity.DiscReq("keepAliveExpiry"))
	m.closeControl("silent for too long")
	if m.med.id != 0 {
		m.lost()
		return
	}
	m.unlink()
	m.fails++
	m.sayLost()
	m.locate(FromNetwork)
}

// openMedia opens what a connInf offers, in place of what is open.
func (m *Machine) openMedia(c alp.ConnInf) {
	m.closeMedia("replaced")
	if m.osd != (OSD{}) {
		m.say(osdGraphics)
	}
	m.presentAt = time.Time{}
	m.medias++
	m.med = media{id: m.medias, session: c.Session, gen: c.Gen}
	if at := m.now.Add(KeepAlive); m.aliveAt.After(at) {
		m.aliveAt = at
	}
	m.do(OpenMedia{
		Media: m.med.id,
		Addr:  netip.AddrPortFrom(m.server.Addr(), uint16(c.MediaPort)),
		Cert:  c.MediaCert,
		Hello: native.Hello{
			Ticket: [alp.TicketSize]byte(c.Ticket), Gen: c.Gen, Terminal: m.cfg.Identity.Terminal,
			Width: m.cfg.Width, Height: m.cfg.Height,
		},
	})
}

func (m *Machine) mediaDrawn(e MediaDrawn) {
	if e.Media != m.med.id {
		return
	}
	m.med.drawn, m.osd = true, OSD{}
	m.had = had{m.server, m.med.session, m.med.gen}
	m.mediaAt = m.now.Add(Stable)
	if m.link == linkUp {
		m.quiet()
	}
}

func (m *Machine) mediaDown(e MediaDown) {
	if e.Media != m.med.id {
		return
	}
	drawn := m.med.drawn
	m.med, m.mediaAt = media{}, time.Time{}
	switch {
	case m.link != linkUp:
		m.bothLost()
	case e.Peer && e.Code == native.CloseDetached:
		m.say(osdDetached)
		m.presentAt = m.now.Add(DetachGrace)
	default:
		if !drawn || m.broken > 0 {
			m.say(osdGraphics)
		} else {
			m.noticeAt = m.now.Add(NoticeAfter)
		}
		m.again()
	}
}
