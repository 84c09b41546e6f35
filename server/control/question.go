package control

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/greeter"
)

// What a user whose session cannot be shown may choose (design section 4: the
// screen says so and offers a choice). Only that choice makes another session.
type choice int

const (
	tryAgain choice = iota
	openHere
	giveUp
)

func (c choice) String() string {
	return [...]string{"Try again", "Open a session on this server", "Give up"}[c]
}

const (
	// AskAgain is how often a presentation that waits for a choice is looked up
	// again, where the way to its session may come back by itself.
	AskAgain = 3 * time.Second
	// MaxAskAgain bounds that.
	MaxAskAgain = 40
)

// ask says why the token's session cannot be shown, and offers a choice.
// again: the group manager may find a way a moment later.
func (s *Server) ask(p *presentation, why string, again bool) {
	if p.needsLogin { // nobody is offered anything before
		p.placed = true
		s.logIn(p)
		return
	}
	p.asking, p.chosen, p.fresh, p.nobody = why, nil, false, false
	choices := []choice{tryAgain, openHere, giveUp}
	if s.closed() || s.says(p).NotHere != "" || s.keepers[p.refused] != nil { // what does not answer is here
		choices = []choice{tryAgain, giveUp}
	}
	what := greeter.Screen{Kind: greeter.Question, Text: why}
	for i, c := range choices {
		what.Answers[i] = c.String()
	}
	s.say(p.t, slog.LevelWarn, "choice offered", "token", p.token, "reason", why)
	s.show(p, what, func(gen uint64, n int) {
		s.post(func() {
			if p.current() && p.t.shown == (attachment{gen: gen}) && p.asking != "" {
				s.chose(p, choices[n])
			}
		})
	})
	if again {
		s.askLater(p)
	}
}

// askLater has the way to the session looked for once more, a few times.
func (s *Server) askLater(p *presentation) {
	if p.agains++; p.agains > MaxAskAgain || p.picked { // another one is not what was chosen
		return
	}
	time.AfterFunc(AskAgain, func() {
		s.post(func() {
			switch {
			case !p.current() || p.asking == "" || p.t.conn == nil: // whoever connects anew presents anew
			case p.t.busy: // with what was wanted before
				s.askLater(p)
			default:
				s.lookAgain(p)
			}
		})
	})
}

// lookAgain looks whether the way is free by now; the screen stays meanwhile.
func (s *Server) lookAgain(p *presentation) {
	ask := s.question(p, "")
	s.beside(p, func() (then, stale func()) {
		ctx, cancel := context.WithTimeout(p.ctx, GroupWithin)
		defer cancel()
		a, err := s.conf.Group.Lookup(ctx, ask)
		return func() {
			switch {
			case p.chosen != nil:
				s.chose(p, *p.chosen)
			case err == nil && (p.nobody || a.Where == local.Here || a.Where == local.There && a.Session != "" && a.Target != p.req.Failed):
				p.asking, p.lookups = "", 0
				s.answer(p, a)
			default:
				s.askLater(p)
			}
		}, nil
	})
}

// chose does what the user wants.
func (s *Server) chose(p *presentation, c choice) {
	if p.t.busy {
		p.chosen = &c // as soon as what is under way is done
		return
	}
	s.say(p.t, slog.LevelInfo, "choice made", "token", p.token, "choice", c.String())
	why := p.asking
	p.asking, p.chosen, p.agains, p.lookups, p.req.Circle, p.t.redirs = "", nil, 0, 0, false, nil
	switch c {
	case tryAgain:
		p.anyway, p.picked = true, false
		s.lookup(p)
	case openHere:
		p.fresh, p.must, p.req.Lost = true, "", alp.Lost{}
		s.lookup(p)
	case giveUp:
		s.screen(p, greeter.Screen{Kind: greeter.Denied, Text: why})
	}
}

// openHere makes a session beside one that cannot be reached, as the user has
// chosen, if this host takes one. A group manager that is away forbids nothing.
func (s *Server) openHere(p *presentation) {
	if s.conf.Group.Away() != "" {
		s.here(p)
		return
	}
	ask := s.question(p, local.WantNew)
	s.beside(p, func() (then, stale func()) {
		ctx, cancel := context.WithTimeout(p.ctx, GroupWithin)
		defer cancel()
		a, err := s.conf.Group.Lookup(ctx, ask)
		return func() {
			if err == nil && a.Where == local.Refused {
				s.ask(p, sentence(a.Reason), false)
				return
			}
			s.here(p)
		}, nil
	})
}

// unreached reports whether the terminal has just failed to reach where it is
// about to be sent, and has the user asked.
func (s *Server) unreached(p *presentation, a local.Answer) bool {
	anyway := p.anyway
	p.anyway = false
	switch {
	case anyway:
	case p.req.Circle && a.Session != "":
		s.ask(p, "The servers do not agree where your session is. One of them may be starting.", false)
		return true
	case p.req.Failed.IsValid() && p.req.Failed == a.Target && a.Session != "":
		s.ask(p, fmt.Sprintf("Your session runs on %s, and that server does not answer this terminal.", a.Host), true)
		return true
	case a.Session == "" && s.says(p).NotHere != "" && (p.req.Circle || p.req.Failed.IsValid() && p.req.Failed == a.Target):
		s.ask(p, fmt.Sprintf("A new session of yours is to be on %s, and that server does not answer this terminal.", a.Host), false)
		return true
	}
	return false
}

// condolence is what the user of a new session is told of the one that was
// lost with its server.
func condolence(p *presentation, now time.Time) string {
	l := p.req.Lost
	if l.Session == "" || l.Host == "" {
		return ""
	}
	return fmt.Sprintf("Your earlier session on %s was lost: that server stopped answering at %s. This one is new.", l.Host, now.Add(-l.Ago).Format("15:04"))
}

// sentence makes one of a group manager's reason.
func sentence(s string) string {
	first, n := utf8.DecodeRuneInString(s)
	if s = string(unicode.ToUpper(first)) + s[n:]; !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}
