package terminal

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode"

	"hotdesk/protocol/alp"
)

// What the screen says of the terminal's own accord.
var (
	osdServer     = OSD{CodeServer, "Waiting for the server", "The terminal has asked and waits for the answer."}
	osdLost       = OSD{CodeDisconnected, "No connection to the server", "The terminal asks the other servers of the group. If the session's server is down, another begins a new one."}
	osdDetached   = OSD{CodeDisconnected, "Disconnected", "The session is no longer shown here."}
	osdRedirected = OSD{CodeRedirected, "Going to another server", "The session is there."}
	osdTrying     = OSD{CodeRedirected, "The server that has the session does not answer", "The terminal tries for a moment."}
	osdUnanswered = OSD{CodeDisconnected, "The server that has the session does not answer", "The terminal asks another server what can be done."}
	osdCircle     = OSD{CodeDisconnected, "Sent from server to server", "The servers do not agree where the session is; one of them may be starting. The terminal asks again in a moment."}
	osdLink       = OSD{CodeLink, "No network", "The terminal has no link to the network. Check that the cable is plugged in at both ends."}
	osdGraphics   = OSD{CodeGraphics, "Waiting for the picture", "The session is about to be shown."}
	osdReading    = OSD{CodeServer, "Reading the card", "Leave the card in."}
	osdBroadcast  = OSD{CodeBroadcast, "Looking for a server", "The terminal asks the whole network. If this stays, check that a server is on."}
)

func (t token) name() alp.Token { return alp.Token(t.kind + "." + t.id) }

// pseudo is the bare terminal's own token.
func (m *Machine) pseudo() token {
	return token{kind: "pseudo", id: string(m.cfg.Identity.Terminal)}
}

func (m *Machine) cardIn(e CardIn) {
	if len(m.cards) < MaxCards {
		m.cards = append(m.cards, card{n: e.Card})
	}
}

func (m *Machine) cardNamed(n int, c card) {
	i := slices.IndexFunc(m.cards, func(c card) bool { return c.n == n })
	if i < 0 || m.cards[i].read && m.cards[i].rules == c.rules {
		return // it is out already
	}
	if c.rules != m.rules {
		return // it is being named again
	}
	c.n, c.read = n, true
	if m.cards[i].read {
		m.renamed(i, c)
		return
	}
	m.cards[i] = c
	if i == 0 && m.powered {
		m.settle()
	}
}

func (m *Machine) cardOut(e CardOut) {
	i := slices.IndexFunc(m.cards, func(c card) bool { return c.n == e.Card })
	if i < 0 {
		return
	}
	m.cards = slices.Delete(m.cards, i, i+1)
	if i == 0 && m.powered {
		m.settle()
	}
}

// settle makes the token that is presented the one of the first card that is
// in.
func (m *Machine) settle() {
	want := m.pseudo()
	if len(m.cards) > 0 {
		switch c := m.cards[0]; {
		case c.reason != "":
			m.release(OSD{CodeNoSession, "The card cannot be read", clean(c.reason)}, "card unreadable")
			return
		case c.read:
			want = token{c.n, c.kind, c.id, c.atr}
		case m.tok.card != 0:
			m.release(osdReading, "card out")
			return
		default:
			return // what is shown stays while the card is read
		}
	}
	if want.card == m.tok.card && want.kind == m.tok.kind && want.id == m.tok.id {
		return
	}
	m.release(m.waiting(), why(m.tok, want))
	m.tok = want
	m.probe = m.link == linkUp // without media nothing else tells for a minute that the host is dead
	m.presentInTime()
}

func why(old, next token) string {
	if next.card == 0 || old.card != 0 {
		return "card out"
	}
	return "card in"
}

// release gives up the token that is presented. The order is invariant 1.
func (m *Machine) release(o OSD, reason string) {
	old, was := m.tok, m.med
	m.endProof()
	if old.kind == "" {
		m.say(o)
	} else {
		m.blank(o)
	}
	m.closeMedia(reason)
	if old.kind != "" && m.presented && m.link == linkUp {
		r := m.info(old)
		r.Remove = true
		if was.id != 0 {
			r.Connected, r.Session, r.Gen = true, was.session, was.gen
		}
		m.send(r.Message())
	}
	m.tok, m.presented, m.probe = token{}, false, false
	m.verdict, m.verdictOn, m.lastGen, m.lastSes = verdictNone, OSD{}, 0, ""
	m.presentAt, m.broken, m.redirects = time.Time{}, 0, 0
	m.redirect, m.props = false, ""
	m.answered()
	m.arrived()
	m.told, m.tellAt = "", time.Time{}
	m.had = had{}
}

// waiting is what the screen says while an answer is out.
func (m *Machine) waiting() OSD {
	switch {
	case m.link == linkUp:
		return osdServer
	case m.osd == (OSD{}) || m.link == linkBackoff:
		return osdLost
	case m.osd.Code == CodeNoSession || m.osd == osdReading:
		return osdServer
	}
	return m.osd // the search goes on as it was
}

func (m *Machine) info(t token) alp.InfoReq {
	r := alp.InfoReq{
		Identity: m.cfg.Identity, Type: t.kind, ID: t.id, ATR: t.atr,
		Width: m.cfg.Width, Height: m.cfg.Height, TokenSeq: m.seq, Layout: m.cfg.Layout,
	}
	if t.card != 0 {
		r.Rules = m.ruled()
	}
	return r
}

// present tells the server the token.
func (m *Machine) present() {
	if m.link != linkUp || m.tok.kind == "" {
		return
	}
	m.presentAt, m.replyAt = time.Time{}, m.now.Add(ReplyWithin)
	m.pace.spend()
	m.endProof()
	m.seq++
	m.presented, m.verdict, m.lastGen, m.lastSes = true, verdictNone, 0, ""
	if m.probe || m.redirect {
		// keepAliveReq first: its answer waits for nothing.
		m.probe = false
		m.deadAt = m.now.Add(ProbeAfter)
		if !m.quietAt.IsZero() {
			m.deadAt = m.quietAt.Add(AnswerWithin) // asked already
		}
		m.keepAlive()
	}
	r := m.info(m.tok)
	if m.med.id != 0 {
		r.Connected, r.Session, r.Gen = true, m.med.session, m.med.gen
	} else {
		if m.had.server == m.server && !m.redirect {
			r.Session, r.Gen = m.had.session, m.had.gen
		}
		if m.osd != (OSD{}) {
			m.say(osdServer)
		}
	}
	m.news(&r)
	r.Redirect, r.Props = m.redirect, m.props
	m.redirect, m.props = false, ""
	m.send(r.Message())
}

// unheard: the server, which answers else, has not said what becomes of the token.
func (m *Machine) unheard() {
	if m.ask.tag != "" { // it is our turn: a person may be typing the PIN
		m.replyAt = m.now.Add(ReplyWithin)
		return
	}
	m.present()
}

func (m *Machine) send(msg alp.Message) { m.do(Send{m.control, msg}) }

// again presents the token once more, the later the more often it was in vain.
func (m *Machine) again() {
	m.broken++
	m.probe = true
	if m.broken == 1 {
		m.present()
		return
	}
	m.presentAt = m.now.Add(backoff(m.broken))
}

func (m *Machine) line(e Line) {
	if e.Control != m.control || m.link != linkUp {
		return
	}
	m.heard()
	var err error
	switch e.Message.Command {
	case alp.CmdConnInf:
		var c alp.ConnInf
		if c, err = alp.ParseConnInf(e.Message); err == nil && c.TokenSeq == m.seq && m.presented {
			m.connInf(c)
		}
	case alp.CmdDiscInf:
		var d alp.DiscInf
		if d, err = alp.ParseDiscInf(e.Message); err == nil && (d.TokenSeq == m.seq || d.TokenSeq == 0) && m.presented {
			m.discInf(d)
		}
	case alp.CmdRedirectInf:
		var r alp.RedirectInf
		if r, err = alp.ParseRedirectInf(e.Message); err == nil && r.TokenSeq == m.seq && m.presented {
			m.redirectInf(r)
		}
	case alp.CmdNoticeInf:
		var n alp.NoticeInf
		if n, err = alp.ParseNoticeInf(e.Message); err == nil && n.TokenSeq == m.seq && m.presented {
			m.noticeInf(n)
		}
	case alp.CmdControlSmartCard:
		var c alp.ControlSmartCard
		if c, err = alp.ParseControlSmartCard(e.Message); err == nil && c.TokenSeq == m.seq && m.presented {
			m.cardQuestion(c)
		}
	case alp.CmdCardRulesInf:
		var c alp.CardRules
		if c, err = alp.ParseCardRules(e.Message); err == nil {
			m.cardRules(c)
		}
	case alp.CmdProtocolError:
		m.closeControl("the server did not understand: " + clean(e.Message.Get("cause")))
		m.lost()
	}
	if err != nil {
		m.closeControl(err.Error())
		m.lost()
	}
}

func (m *Machine) connInf(c alp.ConnInf) {
	m.answered()
	switch {
	case !c.Allowed:
		o := said(cmp.Or(c.OSD, CodeDenied), c.Cause)
		if o.Code == CodePINFailed && m.ask.left < 0 {
			o.Title = titleBlocked
		}
		m.refuse(verdictDenied, o)
		m.send(m.cfg.Identity.ConnRsp(false, false))
	case m.verdict == verdictAllowed && c.Session == m.lastSes && c.Gen <= m.lastGen && len(c.Ticket) != 0:
		// older than what is shown
	case len(c.Ticket) != 0:
		m.endProof()
		m.verdict, m.lastSes, m.lastGen = verdictAllowed, c.Session, c.Gen
		m.openMedia(c)
		m.send(m.cfg.Identity.ConnRsp(true, true))
	case m.med.id != 0 && c.Session == m.med.session && c.Gen == m.med.gen:
		m.verdict, m.lastSes, m.lastGen = verdictAllowed, c.Session, c.Gen
		m.quiet()
		m.send(m.cfg.Identity.ConnRsp(true, true))
	case m.med.id == 0:
		m.again() // it was lost while the answer was under way
	}
}

// refuse shows why there is no session, until the card is pulled; a terminal
// without a card asks again in a while.
func (m *Machine) refuse(v verdict, o OSD) {
	m.endProof()
	m.blank(o)
	m.closeMedia("refused")
	m.verdict, m.verdictOn, m.verdictAt, m.presentAt, m.had = v, o, m.now, time.Time{}, had{}
	if m.tok.card == 0 {
		m.presentAt = m.now.Add(SlowRetry)
	}
}

func (m *Machine) discInf(d alp.DiscInf) {
	m.answered()
	m.refuse(verdictDisconnected, said(cmp.Or(d.OSD, CodeDisconnected), cmp.Or(d.Cause, osdDetached.Text)))
	m.send(m.cfg.Identity.DiscRsp())
}

// said is what a server wants the screen to say.
func said(code int, cause string) OSD {
	title := "No session for you here"
	switch code {
	case CodeNoSession:
		title = "No session"
	case CodeDenied:
		title = "Access denied"
	case CodePINFailed:
		title = "No session without the PIN"
	case CodeServer:
		title = "Please wait"
	case CodeDisconnected:
		title = "Disconnected"
	case CodeUnregistered:
		title = "The card is not registered"
	}
	return OSD{code, title, clean(cause)}
}

// clean keeps what a screen can show of a peer's text.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}
