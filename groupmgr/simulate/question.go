package simulate

import (
	"time"

	"hotdesk/protocol/group/local"
)

// Choices of a question, as package control offers them.
const (
	chooseAgain = "again"
	chooseHere  = "here"
	chooseNone  = "nothing"
)

const (
	askAgain    = 3 * time.Second
	maxAskAgain = 40
)

// question says why a session cannot be shown, and asks.
func (g *gateway) question(p *presentation, why string, again bool) {
	p.asking, p.fresh, p.nobody = why, false, false
	g.screen(p, why)
	if again {
		g.askLater(p)
	}
}

func (g *gateway) askLater(p *presentation) {
	if p.agains++; p.agains > maxAskAgain {
		return
	}
	asked := func() bool { return g.alive() && p.t.now == p && p.asking != "" }
	g.h.w.after(askAgain, func() {
		if !asked() {
			return
		}
		g.h.lookup(p.question(""), func(a local.Answer, ok bool) {
			switch {
			case !asked():
			case ok && (p.nobody || a.Where == local.Here || a.Where == local.There && a.Session != "" && a.Target != p.req.Failed):
				p.asking, p.lookups = "", 0
				g.answer(p, a)
			default:
				g.askLater(p)
			}
		})
	})
}

// Choose is the user's answer, if there is a question on the terminal's screen.
func (u *Unit) Choose(what string) {
	t, p := u.asked()
	if p == nil {
		return
	}
	g := u.media.host.gw
	why := p.asking
	p.asking, p.agains, p.lookups, p.req.Circle = "", 0, 0, false
	u.w.say("%s: the user chooses: %s", u.name, what)
	switch what {
	case chooseAgain:
		p.anyway = true
		g.lookup(p)
	case chooseHere:
		u.chose = t.now
		p.fresh, p.must = true, ""
		g.lookup(p)
	case chooseNone:
		g.screen(p, why)
	}
}

// asked is the question that the terminal shows.
func (u *Unit) asked() (*served, *presentation) {
	m := u.media
	if m == nil || !m.open || m.session != nil || m.host == nil || m.host.gw == nil || !u.m.Status().Control {
		return nil, nil
	}
	t := m.host.gw.terms[u.id]
	if t == nil || t.now == nil || t.now.asking == "" || t.shown.gen != m.gen {
		return nil, nil
	}
	return t, t.now
}

// openHere makes a session beside one that cannot be reached, if this host
// takes one.
func (g *gateway) openHere(p *presentation) {
	if !g.h.linked {
		g.here(p, g.h)
		return
	}
	g.h.lookup(p.question(local.WantNew), func(a local.Answer, ok bool) {
		switch {
		case !g.alive() || p.t.now != p:
		case ok && a.Where == local.Refused:
			g.question(p, a.Reason, false)
		default:
			g.here(p, g.h)
		}
	})
}

// unreached reports whether the terminal has just failed to reach where it is
// about to be sent, and has the user asked.
func (g *gateway) unreached(p *presentation, a local.Answer) bool {
	anyway := p.anyway
	p.anyway = false
	switch {
	case anyway:
	case p.req.Circle && a.Session != "":
		g.question(p, "The servers do not agree where your session is.", false)
		return true
	case p.req.Failed.IsValid() && p.req.Failed == a.Target && a.Session != "":
		g.question(p, "Your session runs on "+a.Host+", and that server does not answer this terminal.", true)
		return true
	}
	return false
}

// checkChosen is the end of invariant 3: who gets a session beside another one has chosen
// that, at this terminal, for this insertion.
func (w *World) checkChosen(p *presentation) {
	if p.unit.chose != p {
		w.broken("%s gets a session of %s beside others that nobody chose", p.unit.name, p.token)
	}
}
