package terminal

import (
	"net/netip"
	"time"

	"hotdesk/protocol/alp"
)

func (m *Machine) redirectInf(r alp.RedirectInf) {
	if !r.Addr.Is4() || r.Addr.IsUnspecified() || r.Addr.IsMulticast() {
		m.closeControl("redirect to " + r.Addr.String())
		m.lost()
		return
	}
	if m.redirects++; m.redirects > MaxRedirects {
		m.circle()
		return
	}
	m.blank(osdRedirected)
	m.closeMedia("redirected")
	m.send(m.cfg.Identity.DiscReq("redirect"))
	m.closeControl("redirected")
	m.unlink()
	if m.had.server == m.server {
		m.had = had{} // who sends on is not lost
	}
	m.target, m.failed = netip.AddrPortFrom(r.Addr, uint16(r.Port)), netip.AddrPort{}
	m.redirect, m.props, m.tries, m.verdict = true, r.Props, 0, verdictNone
	m.targetAt = m.now.Add(RedirectWithin)
	m.dial(m.target)
}

// circle: servers send the terminal round. One of them may be starting: the
// terminal rests, a few times; then the server asks the user.
func (m *Machine) circle() {
	m.redirects = 0
	m.circles++
	if m.circles == MaxCircles+1 {
		m.present()
		return
	}
	m.refuse(verdictDenied, osdCircle)
	m.presentAt = m.now.Add(CirclePause)
	if m.circles > MaxCircles { // that server did not ask
		m.presentAt = m.now.Add(SlowRetry)
	}
}

// answered: a server has said what becomes of the token.
func (m *Machine) answered() {
	m.target, m.targetAt, m.replyAt = netip.AddrPort{}, time.Time{}, time.Time{}
}

// unanswered goes back to a server that answers, and tells it: only the user
// can decide to do without the session.
func (m *Machine) unanswered() {
	m.closeControl("does not answer")
	m.unlink()
	m.unreached()
	m.race()
}

// unreached notes that the target of a redirect does not answer.
func (m *Machine) unreached() {
	m.redirect, m.props, m.retryAt = false, "", time.Time{}
	m.failed, m.shun = m.target, m.target
	m.answered()
	m.say(osdUnanswered)
}

// arrived: the token's session is shown, or the token is another.
func (m *Machine) arrived() { m.failed, m.circles = netip.AddrPort{}, 0 }

// news is what a server is told of what went before.
func (m *Machine) news(r *alp.InfoReq) {
	if m.failed != m.server {
		r.Failed = m.failed
	}
	r.Circle = m.circles > MaxCircles
	if h := m.had; h.host != "" && h.server != m.server && !h.lost.IsZero() {
		r.Lost = alp.Lost{Session: h.session, Host: h.host, Ago: m.now.Sub(h.lost).Truncate(time.Second)}
	}
}

// mourn notes that the server of the session is lost.
func (m *Machine) mourn() {
	if m.had.lost.IsZero() && m.had.server == m.server {
		m.had.lost = m.now
	}
}
