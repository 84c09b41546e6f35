package terminal

import (
	"net/netip"
	"slices"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/native"
)

// locate asks for servers. What is being dialled goes on.
func (m *Machine) locate(from From) {
	m.queue, m.nextAt, m.seeking = nil, time.Time{}, true
	if len(m.dials) == 0 {
		m.link = linkLocate
	}
	if m.untrusted != "" {
		m.say(OSD{CodeUntrusted, "The server is not trusted",
			"It could not prove that it belongs to the group this terminal knows: " + m.untrusted})
	}
	m.do(Locate{from})
}

func (m *Machine) found(e Found) {
	if !m.seeking || len(e.Servers) == 0 {
		return
	}
	m.seeking = false
	for _, s := range e.Servers[:min(len(e.Servers), MaxServers)] {
		if s != m.shun && !m.dialled(s) {
			m.queue = append(m.queue, s)
		}
	}
	m.shun = netip.AddrPort{}
	if len(m.queue) == 0 {
		if len(m.dials) == 0 {
			m.widen() // nobody was known but the dead one
		}
		return
	}
	if m.osd.Code == CodeBroadcast || m.osd.Code == CodeNetworkDown {
		m.say(osdServer)
	}
	m.untrusted, m.asked = "", true
	m.dialMore()
}

func (m *Machine) searched(e Searched) {
	switch {
	case !m.seeking || m.osd.Code == CodeNoSession || m.osd == osdLink:
	case e.Error != "":
		m.say(OSD{CodeNetworkDown, "The network is down", clean(e.Error)})
	case m.untrusted == "":
		m.say(osdBroadcast)
	}
}

func (m *Machine) dialled(s netip.AddrPort) bool {
	return slices.ContainsFunc(m.dials, func(d dialling) bool { return d.server == s })
}

// dialMore dials the next server of the queue, or all of them after a host's
// death. One that does not answer keeps nobody waiting for long.
func (m *Machine) dialMore() {
	for dialled := false; len(m.queue) > 0 && (m.racing && len(m.dials) < MaxDials || !dialled); dialled = true {
		if len(m.dials) == MaxDials {
			m.do(CloseControl{m.dials[0].n, "others wait"})
			m.dials = m.dials[1:]
		}
		s := m.queue[0]
		m.queue = m.queue[1:]
		m.dial(s)
	}
	m.nextAt = time.Time{}
	if len(m.queue) > 0 {
		m.nextAt = m.now.Add(Stagger)
	}
}

func (m *Machine) dial(s netip.AddrPort) {
	m.controls++
	m.dials = append(m.dials, dialling{m.controls, s})
	m.link, m.server, m.retryAt = linkDial, s, time.Time{}
	m.do(Connect{m.controls, s})
}

func (m *Machine) controlUp(e ControlUp) {
	i := slices.IndexFunc(m.dials, func(d dialling) bool { return d.n == e.Control })
	if i < 0 {
		return
	}
	won := m.dials[i]
	for _, d := range m.dials {
		if d != won {
			m.do(CloseControl{d.n, "another server was faster"})
		}
	}
	m.dials, m.queue, m.seeking, m.racing, m.widened = nil, nil, false, false, false
	m.nextAt, m.widenAt, m.touchAt, m.targetAt = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	m.control, m.server, m.shun = won.n, won.server, netip.AddrPort{}
	m.link, m.known, m.untrusted, m.tries = linkUp, m.server, "", 0
	m.heard()
	m.stableAt = m.now.Add(Stable)
	m.aliveAt = m.now.Add(m.period())
	if m.verdict == verdictDisconnected && m.tok.card != 0 {
		m.say(m.verdictOn) // to present the card again would take the session back
		return
	}
	m.present()
}

func (m *Machine) controlDown(e ControlDown) {
	if m.link == linkUp && e.Control == m.control {
		m.lost()
		return
	}
	if i := slices.IndexFunc(m.dials, func(d dialling) bool { return d.n == e.Control }); i >= 0 {
		m.dials = slices.Delete(m.dials, i, i+1)
		m.notReached(e)
	}
}

// notReached goes on after a dial that failed.
func (m *Machine) notReached(e ControlDown) {
	if e.Untrusted {
		m.untrusted = clean(e.Reason)
	}
	switch {
	case m.redirect: // until it has had its time
		m.tries++
		m.say(osdTrying)
		m.wait(m.tries)
	case m.med.id != 0:
		m.fails++
		m.wait(m.fails)
	case len(m.queue) > 0:
		m.dialMore()
	case len(m.dials) > 0:
		// They may still be made.
	case m.seeking:
		m.link = linkLocate
	case m.racing && !m.widened:
		m.widen()
	default:
		from := FromNext
		if !m.asked {
			from = FromKnown
		}
		m.locate(from)
	}
}

func (m *Machine) wait(n int) {
	m.link, m.retryAt = linkBackoff, m.now.Add(backoff(n))
}

// unlink forgets what belongs to a control connection.
func (m *Machine) unlink() {
	m.endProof()
	m.link, m.presented, m.probe = linkOff, false, false
	m.deadAt, m.aliveAt, m.stableAt, m.presentAt, m.replyAt = time.Time{}, time.Time{}, time.Time{}, time.Time{}, time.Time{}
	m.quietAt, m.answerAt, m.stalls = time.Time{}, time.Time{}, 0
}

// heard takes note of a sign of life on control.
func (m *Machine) heard() {
	m.deadAt, m.quietAt, m.answerAt, m.stalls = m.now.Add(DeadAfter), time.Time{}, time.Time{}, 0
}

// closeControl ends the connection that is up, and those that are being made.
func (m *Machine) closeControl(reason string) {
	if m.link == linkUp {
		m.do(CloseControl{m.control, reason})
	}
	for _, d := range m.dials {
		m.do(CloseControl{d.n, reason})
	}
	m.dials = nil
}

// lost goes on after control has ended.
func (m *Machine) lost() {
	m.unlink()
	m.asked = false
	if m.verdict == verdictDisconnected && m.now.Sub(m.verdictAt) < Dying {
		m.verdict = verdictNone
	}
	if m.med.id == 0 {
		m.bothLost()
		return
	}
	m.wait(m.fails)
	m.fails++
	m.probes = 0
	m.touch()
	if !m.noticed {
		m.noticeAt = m.now.Add(NoticeAfter)
	}
}

// touch finds out whether the media end is gone too, now and a few times more.
func (m *Machine) touch() {
	if m.med.id == 0 || m.link == linkUp {
		return
	}
	m.do(TouchMedia{m.med.id})
	if m.probes++; m.probes < maxProbes {
		m.touchAt = m.now.Add(firstProbe << (m.probes - 1))
	}
}

// bothLost goes on where neither control nor media is left: with all servers
// that are known, at a falling rate where they do not keep us.
func (m *Machine) bothLost() {
	m.mourn()
	m.sayLost()
	m.touchAt = time.Time{}
	if m.raced && len(m.dials) == 0 {
		m.wait(m.fails)
		m.fails++
		return
	}
	m.fails++
	m.race()
}

// race looks for any server of a group whose host is dead.
func (m *Machine) race() {
	m.racing, m.raced, m.widened, m.asked, m.retryAt = true, true, false, true, time.Time{}
	m.widenAt = m.now.Add(WidenAfter)
	m.locate(FromAll)
}

// widen asks the network too.
func (m *Machine) widen() {
	m.widenAt, m.widened = time.Time{}, true
	if !m.seeking {
		m.locate(FromNetwork)
	}
}

// sayLost says that there is no server, unless there is something to say about
// the card.
func (m *Machine) sayLost() {
	switch {
	case m.osd.Code == CodeNoSession:
	case m.linkOut && m.linkAt.IsZero():
		m.say(osdLink)
	default:
		m.say(osdLost)
	}
}

// retry dials again after a pause.
func (m *Machine) retry() {
	switch {
	case m.med.id != 0 || m.redirect:
		m.dial(m.server)
	default:
		m.race()
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
	m.shun = m.server
	if m.target.IsValid() { // it took the connection, and says nothing
		m.unreached()
	} else {
		m.mourn()
		m.sayLost()
	}
	m.race()
}

// openMedia opens what a connInf offers, in place of what is open.
func (m *Machine) openMedia(c alp.ConnInf) {
	m.closeMedia("replaced")
	if m.osd != (OSD{}) {
		m.say(osdGraphics)
	}
	m.presentAt = time.Time{}
	m.medias++
	m.med = media{id: m.medias, session: c.Session, gen: c.Gen, host: clean(c.Host)}
	if at := m.now.Add(KeepAlive); m.aliveAt.After(at) {
		m.aliveAt = at
	}
	card := 0
	if c.Session != "" { // the screens of a gateway have no programs
		card = m.tok.card
	}
	m.do(OpenMedia{
		Media: m.med.id,
		Card:  card,
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
	if m.med.session != "" {
		m.had = had{server: m.server, session: m.med.session, gen: m.med.gen, host: m.med.host}
		m.arrived()
	}
	m.mediaAt = m.now.Add(Stable)
	if m.link == linkUp {
		if at := m.now.Add(StableShown); m.stableAt.After(at) {
			m.stableAt = at
		}
		m.quiet()
	}
	m.speak()
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
	case !m.quietAt.IsZero() && !e.Peer && m.now.Sub(m.quietAt) >= AnswerWithin:
		m.dead()
	case e.Peer && e.Code == native.CloseDetached:
		m.say(osdDetached)
		m.presentAt = m.now.Add(DetachGrace)
	default:
		if at := m.quietAt.Add(AnswerWithin); !m.quietAt.IsZero() && !e.Peer && m.deadAt.After(at) {
			m.deadAt = at // however late the token is presented again
		}
		if !drawn || m.broken > 0 {
			m.say(osdGraphics)
		} else {
			m.noticeAt = m.now.Add(NoticeAfter)
		}
		m.again()
	}
}

// mediaQuiet asks the server for a sign of life while media owes one, so that
// the two silences are measured at the same time.
func (m *Machine) mediaQuiet(e MediaQuiet) {
	if e.Media == m.med.id && m.link == linkUp && m.quietAt.IsZero() {
		m.quietAt, m.answerAt = m.now, m.now.Add(AnswerWithin)
		m.keepAlive()
	}
}
