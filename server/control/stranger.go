package control

import (
	"log/slog"
	"net/netip"
	"time"

	"hotdesk/server/greeter"
)

// Sessions of strangers: those of tokens that have no record, whose card has
// proven nothing, and that no user has logged in for. Whoever reaches this
// host can make such tokens up.
const (
	// maxStrange bounds those of one address that start at the same time; the
	// parent starts more at once than that, so others do not wait behind them.
	maxStrange = 8
	// strangeAgain is how often one more looks whether it may start.
	strangeAgain = 200 * time.Millisecond
)

// strangeFrom returns the address of p's terminal if nothing but that vouches for
// p, else the zero address.
func (s *Server) strangeFrom(p *presentation) (from netip.Addr) {
	c := p.t.conn
	if c == nil || p.user != "" || p.lastProof() != "" {
		return from
	}
	if s.conf.View != nil {
		if view := s.conf.View(); view != nil {
			if t, ok := view.Token(p.req.Token()); ok && !t.Disabled {
				return from
			}
		}
	}
	return c.addr
}

// mayTake reports whether p may have a new session as far as others of its
// address go. No address has more sessions of strangers than this host has left
// for everybody: one that makes tokens up takes half of the places at most, and
// keeps nobody out. Those that come too fast wait.
func (s *Server) mayTake(p *presentation) bool {
	from := s.strangeFrom(p)
	if !from.IsValid() {
		return true
	}
	all, starting := 0, 0
	for _, k := range s.keepers {
		if k.from == from {
			all++
			if k.client == nil && k.upAt.IsZero() {
				starting++
			}
		}
	}
	switch {
	case all >= MaxSessions-len(s.keepers):
		s.say(p.t, slog.LevelWarn, "no further session", "token", p.token, "err", "too many sessions of unknown tokens from "+from.String())
		s.screen(p, greeter.Screen{Kind: greeter.Denied, Text: "Too many sessions were begun from here with cards that nobody knows. End one, or have your card registered."})
		return false
	case starting >= maxStrange:
		time.AfterFunc(strangeAgain, func() {
			s.post(func() {
				if p.current() {
					s.here(p)
				}
			})
		})
		return false
	}
	return true
}
