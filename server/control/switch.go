package control

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/greeter"
	"hotdesk/server/proof"
	"hotdesk/server/sessions"
)

// A user may have several sessions of a token, where the policy lets them choose
// among those of all hosts: at card-in, and by a hot key. The lookup names what
// other hosts have; a redirect names the one that was chosen, and no other is
// shown there in its place.

// deskReq does what the person at a terminal wishes of the session there.
func (s *Server) deskReq(t *terminal, r alp.DeskReq) {
	if t.now == nil || t.now.req.TokenSeq != r.TokenSeq || t.shown.session == "" {
		return // it is about a picture that is gone
	}
	s.say(t, slog.LevelInfo, "wished", "token", t.now.token, "wish", string(r.Wish))
	switch r.Wish {
	case alp.WishLeave:
		s.left(t)
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

// left notes that the user has taken the session off the terminal.
func (s *Server) left(t *terminal) {
	if k := s.keepers[t.shown.session]; k != nil {
		k.left = true
	}
}

// switchDesk shows the switcher in place of a session, which stays until there
// is something to show: a terminal that has nothing asks for its session again,
// however long the group manager takes.
func (s *Server) switchDesk(t *terminal) {
	old, shown := t.now, t.shown
	if old.wished {
		return
	}
	old.wished = true
	s.survey(old, func() {
		old.wished = false
		if t.shown != shown {
			return // it was taken off meanwhile
		}
		s.left(t)
		p := s.presentAgain(t)
		p.switching, p.others = true, old.others
		s.attach(p, shown.session)
	})
}

// survey has the group manager name the token's sessions on other hosts, for the
// switcher. Without its answer that has this host's.
func (s *Server) survey(p *presentation, then func()) {
	if s.conf.Group.Away() != "" {
		then()
		return
	}
	ask := s.question(p, "")
	s.beside(p, func() (func(), func()) {
		ctx, cancel := context.WithTimeout(p.ctx, PlaceWithin)
		defer cancel()
		a, err := s.conf.Group.Lookup(ctx, ask)
		return func() {
			if err != nil {
				s.say(p.t, slog.LevelWarn, "sessions of other hosts are not known", "token", p.token, "err", err)
			}
			p.others = a.Others
			then()
		}, nil
	})
}

// mayChoose reports whether p's user is one who chooses, and has not done so;
// id is the session that would be shown, "" for one of another host.
func (s *Server) mayChoose(p *presentation, id alp.SessionID) bool {
	return !p.picked && p.must == "" && (id == "" || id != p.own) && (p.switching || s.says(p).Choose)
}

// choosing shows the switcher, if there is something to be chosen, and reports
// whether it does. What is chosen is attached, or gone to. Whoever chooses nothing
// gets session id of this host, or, where that is empty, the latest.
func (s *Server) choosing(p *presentation, id alp.SessionID) bool {
	if !s.mayChoose(p, id) {
		return false
	}
	rows := slices.Clone(p.others[:min(len(p.others), local.MaxOthers)])
	for _, row := range s.table.All() {
		if row.Token == p.token {
			rows = append(rows, local.Elsewhere{Session: row.ID, Connected: row.State == sessions.Connected, Last: row.Last.UnixMilli()})
		}
	}
	if len(rows) < 2 && !p.switching {
		return false
	}
	slices.SortFunc(rows, func(a, b local.Elsewhere) int {
		return cmp.Or(cmp.Compare(b.Last, a.Last), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Session, b.Session))
	})
	rows = rows[:min(len(rows), greeter.MaxOptions)]
	c := greeter.Choice{Label: fmt.Sprintf("Session (%d)", len(rows))}
	for i, row := range rows {
		what := "last used"
		if row.Connected {
			what = "shown since"
		}
		text := fmt.Sprintf("%d, %s %s", i+1, what, moment(row.Last).Format("Mon 15:04:05"))
		if row.Host != "" {
			text += ", on " + row.Host
		}
		c.Options = append(c.Options, greeter.Option{Value: optionOf(row), Text: text})
	}
	s.say(p.t, slog.LevelInfo, "switcher shown", "token", p.token, "sessions", len(rows))
	f := greeter.Form{Title: "Your sessions", Choices: []greeter.Choice{c}, Buttons: []string{"Open", "New session", "Cancel"}, Layout: p.req.Layout}
	if s.conf.Host != "" {
		f.Notes = []greeter.Note{{Text: "This is " + s.conf.Host + "."}}
	}
	s.showForm(p, f, func(a greeter.Answer) {
		p.picked = true
		i := slices.IndexFunc(rows, func(row local.Elsewhere) bool {
			return a.Button == 0 && len(a.Choices) == 1 && a.Choices[0] == optionOf(row)
		})
		chosen := id
		switch {
		case a.Button == 1:
			p.another = true
			s.lookup(p)
			return
		case i >= 0 && rows[i].Host != "":
			s.goTo(p, rows[i])
			return
		case i >= 0:
			chosen = rows[i].Session
		}
		if row, ok := s.table.Get(chosen); !ok || row.Token != p.token { // none, or it has ended since
			s.afresh(p)
			return
		}
		s.attach(p, chosen)
	})
	return true
}

// choosingElsewhere is choosing where the latest session is on another host. The
// list says what somebody has, and where: it is for who may see a session again.
func (s *Server) choosingElsewhere(p *presentation, a local.Answer) bool {
	if _, here := s.table.Latest(p.token); a.Session == "" || !s.mayChoose(p, "") || len(a.Others) < 2 && !here {
		return false
	}
	if !s.mayGoOn(p, proof.Reattach, "", func() { s.afresh(p) }) {
		return true
	}
	return s.mayList(p) && s.choosing(p, "")
}

// mayList reports whether p may be told what its token has on other hosts: not
// at a kiosk, where nobody says who he is, and not somebody else than the user,
// as far as this host knows whose they are. Where that is open the latest one's
// host judges.
func (s *Server) mayList(p *presentation) bool {
	d := s.says(p)
	switch {
	case d.Kiosk != nil && !s.conf.Local:
		return false
	case p.user == "" || p.user == d.Owner || p.token == userToken(p.user):
		return true
	}
	return slices.ContainsFunc(s.table.All(), func(row sessions.Session) bool { return row.Token == p.token && row.User == p.user })
}

// optionOf is what stands for a session in the switcher's form.
func optionOf(row local.Elsewhere) string {
	if row.Host == "" {
		return string(row.Session)
	}
	return string(row.Session) + "@" + row.Host
}

// goTo sends the terminal to a session of another host that its user has chosen.
func (s *Server) goTo(p *presentation, to local.Elsewhere) {
	ask := s.question(p, local.WantSession)
	ask.Session, ask.Host = to.Session, to.Host
	s.beside(p, func() (func(), func()) {
		ctx, cancel := context.WithTimeout(p.ctx, GroupWithin)
		defer cancel()
		a, err := s.conf.Group.Lookup(ctx, ask)
		return func() {
			switch {
			case err == nil && a.Where == local.There:
				s.redirect(p, a)
			case err == nil:
				s.ask(p, sentence(cmp.Or(a.Reason, "your session on "+to.Host+" cannot be shown now")), false)
			default:
				s.say(p.t, slog.LevelWarn, "group manager has no answer", "token", p.token, "err", err)
				s.ask(p, cmp.Or(s.conf.Group.Away(), "The group manager of this server does not answer. Wait a moment, then try again."), false)
			}
		}, nil
	})
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
