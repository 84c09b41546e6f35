package control

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"

	"hotdesk/protocol/alp"
	"hotdesk/server/greeter"
	"hotdesk/server/sessions"
)

// A user may have several sessions of a token on this host, where the policy
// lets them choose: at card-in, and by a hot key. Sessions of other hosts are
// found by the lookup, which brings the latest of the group.

// deskReq does what the person at a terminal wishes of the session there.
func (s *Server) deskReq(t *terminal, r alp.DeskReq) {
	if t.now == nil || t.now.req.TokenSeq != r.TokenSeq || t.shown.session == "" {
		return // it is about a picture that is gone
	}
	if k := s.keepers[t.shown.session]; k != nil {
		k.left = true
	}
	s.say(t, slog.LevelInfo, "wished", "token", t.now.token, "wish", string(r.Wish))
	switch r.Wish {
	case alp.WishLeave:
		s.leaveDesk(t, "You have left your session")
	case alp.WishSwitch:
		if !s.says(t.now).Choose {
			s.tell(t, "You have one session: your administrator has not allowed several.", 10)
			return
		}
		s.switchDesk(t)
	}
}

// leaveDesk takes the session off its terminal, as its user wants or the policy.
func (s *Server) leaveDesk(t *terminal, why string) {
	id, gen := t.shown.session, t.shown.gen
	if !s.logInAgain(t, "") {
		p := s.presentAgain(t)
		p.user = "" // whoever has it shown again proves once more what the policy wants
		f := greeter.Form{
			Title: why, Notes: []greeter.Note{{Text: "It runs on."}},
			Buttons: []string{"Show it again"}, Layout: p.req.Layout,
		}
		s.showForm(p, f, func(greeter.Answer) { s.afresh(p) })
	}
	s.detach(id, gen)
}

// presentAgain begins with the terminal's token once more, in place of what it
// shows. Who has logged in there stays so.
func (s *Server) presentAgain(t *terminal) *presentation {
	old := t.now
	r := old.req
	r.Redirect, r.Props, r.Connected, r.Session, r.Gen = false, "", false, "", 0
	s.clear(t)
	p := &presentation{t: t, req: r, token: old.token, module: old.module, begun: true, user: old.user}
	p.ctx, p.cancel = context.WithCancel(s.ctx)
	t.now = p
	return p
}

// switchDesk shows the switcher in place of a session.
func (s *Server) switchDesk(t *terminal) {
	id := t.shown.session
	p := s.presentAgain(t)
	p.switching = true
	s.attach(p, id)
}

// choosing shows the switcher, if there is something to be chosen, and reports
// whether it does. What is chosen is attached.
func (s *Server) choosing(p *presentation, id alp.SessionID) bool {
	if p.picked || p.must != "" || id == p.own || !p.switching && !s.says(p).Choose {
		return false
	}
	var rows []sessions.Session
	for _, row := range s.table.All() {
		if row.Token == p.token {
			rows = append(rows, row)
		}
	}
	if len(rows) < 2 && !p.switching {
		return false
	}
	slices.SortFunc(rows, func(a, b sessions.Session) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.ID, b.ID))
	})
	c := greeter.Choice{Label: fmt.Sprintf("Session (%d)", len(rows))}
	for i, row := range rows[:min(len(rows), greeter.MaxOptions)] {
		what := "last used"
		if row.State == sessions.Connected {
			what = "shown since"
		}
		text := fmt.Sprintf("%d, %s %s", i+1, what, row.Last.Format("Mon 15:04:05"))
		c.Options = append(c.Options, greeter.Option{Value: string(row.ID), Text: text})
	}
	f := greeter.Form{Title: "Your sessions", Choices: []greeter.Choice{c}, Buttons: []string{"Open", "New session", "Cancel"}, Layout: p.req.Layout}
	if s.conf.Host != "" {
		f.Notes = []greeter.Note{{Text: "On " + s.conf.Host + "."}}
	}
	s.showForm(p, f, func(a greeter.Answer) {
		p.picked = true
		chosen := id
		if len(a.Choices) == 1 && a.Button == 0 {
			chosen = alp.SessionID(a.Choices[0])
		}
		if a.Button == 1 {
			p.another = true
			s.start(p)
			return
		}
		if row, ok := s.table.Get(chosen); !ok || row.Token != p.token { // it has ended since
			s.afresh(p)
			return
		}
		s.attach(p, chosen)
	})
	return true
}

// showForm shows a form, and runs done with what comes of it, once.
func (s *Server) showForm(p *presentation, f greeter.Form, done func(greeter.Answer)) {
	answered := false
	s.display(p, greeter.Request{Form: &f, Answer: func(gen uint64, a greeter.Answer) {
		s.post(func() {
			if p.current() && p.t.shown == (attachment{gen: gen}) && !answered {
				answered = true
				done(a)
			}
		})
	}})
}
