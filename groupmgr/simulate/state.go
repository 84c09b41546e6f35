package simulate

import (
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
	"hotdesk/protocol/native"
)

// endsWithin is how long a session takes to end.
const endsWithin = 50 * time.Millisecond

func (g *gateway) closed() bool { return g.state == group.Offline || g.state == group.Down }

// setState is an admin's word, as package control follows it.
func (g *gateway) setState(st group.State) {
	if st == g.state {
		return
	}
	g.state = st
	if st == group.Down {
		for _, id := range sorted(g.h.run) {
			g.stop(g.h.run[id])
		}
	}
	if !g.closed() {
		return
	}
	for _, id := range sorted(g.terms) {
		if t := g.terms[id]; t.now != nil && t.conn != nil && t.shown.session == "" && (t.now.resting || st == group.Down) {
			g.anew(t)
		}
	}
}

// stop ends a session and tells its user.
func (g *gateway) stop(s *session) {
	w := g.h.w
	w.after(endsWithin, func() {
		if !g.alive() || g.h.run[s.id] != s {
			return
		}
		waiting, m := s.waiting, s.media
		s.waiting = nil
		s.end()
		g.table.End(s.id)
		g.h.report()
		for _, id := range sorted(g.terms) {
			if t := g.terms[id]; t.shown.session == s.id && t.now != nil {
				if t.conn != nil {
					w.say("%s tells %s: Your session has ended: that server was taken out of service.", g.h.name, t.now.unit.name)
					t.conn.down(alp.NoticeInf{TokenSeq: t.now.req.TokenSeq, Seconds: 60, Text: "Your session has ended."}.Message())
				}
				g.anew(t)
			}
		}
		if m != nil {
			m.close(w, true, native.CloseEnded, "ended")
		}
		for _, p := range waiting {
			if p.t.now == p {
				g.lookup(p)
			}
		}
	})
}

// anew presents the terminal's token once more, as if it had just come.
func (g *gateway) anew(t *served) {
	old := t.now
	r := old.req
	r.Redirect, r.Props, r.Connected, r.Session, r.Gen = false, "", false, "", 0
	g.clear(t)
	p := &presentation{t: t, unit: old.unit, req: r, token: old.token}
	t.now = p
	if old.resting {
		g.rest(p)
		return
	}
	g.lookup(p)
}

// rest shows a screen that asks for a card, on another host if this one is on
// its way out of service.
func (g *gateway) rest(p *presentation) {
	p.resting = true
	if !g.closed() || p.req.Failed.IsValid() || !g.h.linked {
		g.screen(p, "")
		return
	}
	g.h.lookup(p.question(local.WantHost), func(a local.Answer, ok bool) {
		switch {
		case !g.alive() || p.t.now != p:
		case ok && a.Where == local.There:
			g.answer(p, a)
		default:
			g.screen(p, "")
		}
	})
}

// hear has the gateway follow what the group manager says of the host.
func (h *Host) hear() {
	g := h.gw
	h.w.after(2*time.Millisecond, func() {
		if g != nil && g.alive() && h.linked {
			st := h.state
			if st == "" {
				st = group.Online
			}
			g.setState(st)
		}
	})
}
