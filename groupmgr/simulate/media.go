package simulate

import (
	"time"

	"hotdesk/dtu/terminal"
	"hotdesk/protocol/native"
)

// medium is a media connection, from the moment that the ticket is redeemed.
type medium struct {
	id      int
	unit    *Unit
	host    *Host
	session *session // nil: a screen of the gateway
	gen     uint64
	begun   bool
	open    bool
	since   int // counts changes of the way, so that silence is one without end
}

func (u *Unit) openMedia(a terminal.OpenMedia) {
	w := u.w
	m := &medium{id: a.Media, unit: u, host: w.hostAt[a.Addr.Addr()]}
	u.media = m
	began := w.now
	lost := func(peer bool, code native.CloseCode, why string) {
		if u.media == m {
			u.media = nil
			u.step(terminal.MediaDown{Media: m.id, Peer: peer, Code: code, Reason: why})
		}
	}
	var try func()
	try = func() {
		h := m.host
		switch {
		case u.media != m:
		case h.on && w.both(u.name, h.name):
			t, ok := h.tickets[a.Hello.Ticket]
			delete(h.tickets, a.Hello.Ticket)
			switch {
			case !ok || t.terminal != u.id || t.session != nil && (h.run[t.session.id] != t.session || t.gen <= t.session.void) || t.session == nil && (h.gw == nil || t.gwLife != h.gwLife):
				lost(true, native.CloseTicket, "ticket")
				return
			}
			m.gen, m.session, m.begun, m.open = t.gen, t.session, true, true
			if s := t.session; s != nil {
				w.checkShown(u, s)
				if old := s.media; old != nil {
					old.close(w, true, native.CloseDetached, "shown elsewhere")
				}
				s.media, s.last, s.lastAt, s.void = m, h.clock(), w.now, t.gen
				w.say("%v on %s is shown at %s", s, h.name, u.name)
				if h.gw != nil {
					h.gw.attached(s, m)
				}
			}
			w.after(w.delay(), m.draw)
			m.watch(w)
		case w.now-began >= connectWithin:
			lost(false, 0, "no answer")
		default:
			w.after(250*time.Millisecond, try)
		}
	}
	w.after(2*w.delay(), try)
}

// draw has the first frame arrive, as soon as the way is open.
func (m *medium) draw() {
	w := m.unit.w
	switch {
	case m.unit.media != m || !m.open:
	case w.both(m.unit.name, m.host.name):
		m.unit.step(terminal.MediaDrawn{Media: m.id})
	default:
		w.after(100*time.Millisecond, m.draw)
	}
}

// close ends media from the host's end; the terminal is told.
func (m *medium) close(w *World, peer bool, code native.CloseCode, why string) {
	if !m.open {
		return
	}
	m.over()
	u := m.unit
	w.after(w.delay(), func() {
		if u.media == m && m.host.on && w.both(u.name, m.host.name) {
			u.media = nil
			u.step(terminal.MediaDown{Media: m.id, Peer: peer, Code: code, Reason: why})
			return
		}
		m.quiet(w)
	})
}

// left: the terminal has closed media.
func (m *medium) left(w *World) {
	if w.both(m.unit.name, m.host.name) {
		m.over()
		return
	}
	w.after(silence, m.over) // the host hears nothing more of it
}

// over is the end of media at the host.
func (m *medium) over() {
	if !m.open {
		return
	}
	m.open = false
	s := m.session
	if s == nil || s.media != m {
		return
	}
	s.media = nil
	if g := m.host.gw; g != nil && g.table.Detached(s.id, m.gen) {
		m.host.report()
	}
}

// quiet: nothing comes any more; both ends notice after their silence.
func (m *medium) quiet(w *World) {
	if !m.begun {
		return
	}
	m.since++
	since := m.since
	d := silenceIdle
	if m.session != nil {
		d = silence
	}
	w.after(d, func() {
		u := m.unit
		if m.since != since || m.open && m.host.on && w.both(u.name, m.host.name) {
			return
		}
		m.over()
		if u.media == m {
			u.media = nil
			u.step(terminal.MediaDown{Media: m.id, Reason: "silent"})
		}
	})
}

// watch begins the silence where the way is cut already.
func (m *medium) watch(w *World) {
	if !m.host.on || !w.both(m.unit.name, m.host.name) {
		m.quiet(w)
	}
}

// touchMedia has the media between two notice a cut.
func (w *World) touchMedia(a, b string) {
	for _, n := range []string{a, b} {
		if u, ok := w.named[n].(*Unit); ok && u.media != nil && u.media.host != nil && (u.media.host.name == a || u.media.host.name == b) {
			u.media.quiet(w)
		}
	}
}
