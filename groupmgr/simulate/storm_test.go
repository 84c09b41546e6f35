package simulate

import (
	"fmt"
	"testing"
	"time"

	"hotdesk/dtu/terminal"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
	"hotdesk/server/proof"
)

// A gale is a storm of card pulls, seen at the screens and at the sessions.
type gale struct {
	t      *testing.T
	w      *World
	drawn  int // frames
	typed  int // keys that came to a session
	follow map[*medium]bool
}

// frames has a session's frames arrive at a terminal for as long as its medium
// is open, and looks at each that is drawn.
func (g *gale) frames(u *Unit, m *medium, card int) {
	g.w.after(g.w.delay(), func() {
		if u.media == m && m.begun && m.session != nil { // the terminal has not closed it: it draws
			g.drawn++
			if u.card != card || u.token != m.session.token {
				g.t.Errorf("%v: %s draws a frame of %v, of card %d, while card %d (%q) is in", g.w.Now(), u.name, m.session, card, u.card, u.token)
			}
		}
		if m.open || u.media == m {
			g.w.after(4*time.Millisecond, func() { g.frames(u, m, card) })
		}
	})
}

// look is called every millisecond: somebody types, and new media are followed.
func (g *gale) look() {
	for _, u := range g.w.units {
		m := u.media
		if m == nil {
			continue
		}
		if !g.follow[m] {
			g.follow[m] = true
			g.frames(u, m, u.card)
		}
		if u.m.Status().State != terminal.Picture {
			continue
		}
		card, token := u.card, u.token
		g.w.after(g.w.delay(), func() {
			if !m.open || m.session == nil {
				return // the session's end is closed
			}
			if g.typed++; card == 0 || m.session.token != token {
				g.t.Errorf("%v: %v gets what was typed at %s while card %d (%q) was in", g.w.Now(), m.session, u.name, card, token)
			}
		})
	}
}

// token is that of card n.
func token(n int) alp.Token {
	if n == 2 {
		return alp.Token(fmt.Sprintf("piv.%032x", n))
	}
	return alp.Token(fmt.Sprintf("simple.%016x", n))
}

// TestCardStorm: cards that go in and out of terminals of two hosts, down to a
// millisecond apart; one that proves itself by its secret, one by a PIN, and one
// that need not.
func TestCardStorm(t *testing.T) {
	pulls, cards := 100_000, 3
	if testing.Short() {
		pulls = 5_000
	}
	w := New(7)
	w.faults = false
	w.proofs = func(t alp.Token) proof.Kind {
		return map[alp.Token]proof.Kind{token(1): proof.Simple, token(2): proof.PIN, token(3): proof.None}[t]
	}
	net := w.Net("lan")
	hosts := []*Host{w.Host("north", group.Ring{Key(1)}, net), w.Host("south", group.Ring{Key(1)}, net)}
	units := []*Unit{w.Unit("a", net, hosts[0]), w.Unit("b", net, hosts[1])}
	for _, h := range hosts {
		h.On()
	}
	w.Run(3 * time.Second)
	for _, u := range units {
		u.On()
	}
	w.Run(time.Second)
	g := &gale{t: t, w: w, follow: map[*medium]bool{}}
	over := false
	var looking func()
	looking = func() {
		if g.look(); !over {
			w.after(time.Millisecond, looking)
		}
	}
	looking()
	// In lulls all that there was has come to its end.
	lull := func(in map[*Unit]int) {
		w.Run(3 * time.Second)
		for _, u := range units {
			card, shown := in[u], u.m.Status()
			for _, h := range hosts {
				for _, s := range h.run {
					if s.media != nil && s.media.unit == u && (card == 0 || s.token != token(card)) {
						t.Errorf("%v: %v is attached to %s, where card %d is in", w.Now(), s, u.name, card)
					}
				}
			}
			if card != 0 && (shown.State != terminal.Picture || shown.Token != token(card) || shown.Session == "") {
				t.Errorf("%v: %s shows %+v, with card %d in", w.Now(), u.name, shown, card)
			}
		}
		clear(g.follow)
		for _, u := range units {
			if u.media != nil {
				g.follow[u.media] = true
			}
		}
	}
	for n := range pulls {
		u := units[w.rnd.IntN(2)]
		c := 1 + w.rnd.IntN(cards)
		gap := func() {
			most := []int{1, 8, 120}[w.rnd.IntN(3)]
			w.Run(time.Duration(1+w.rnd.IntN(most)) * time.Millisecond)
		}
		if other := units[0]; other.token == token(c) || units[1].token == token(c) {
			if units[1].token == token(c) {
				other = units[1]
			}
			other.Remove() // it is one piece of plastic
			gap()
		}
		u.Insert(token(c))
		gap()
		if n%3 > 0 {
			u.Remove()
			gap()
		}
		if n%2500 == 2499 {
			in := map[*Unit]int{}
			for _, u := range units {
				for c := 1; c <= cards; c++ {
					if u.token == token(c) {
						in[u] = c
					}
				}
			}
			lull(in)
		}
		if t.Failed() || len(w.Broken) > 0 {
			t.Fatalf("after %d pulls: %v", n, w.Broken)
		}
	}
	over = true
	var did insertions
	for _, u := range units {
		did.asked, did.pins, did.told, did.outFirst = did.asked+u.did.asked, did.pins+u.did.pins, did.told+u.did.told, did.outFirst+u.did.outFirst
	}
	if did.told < pulls/50 || did.pins < pulls/50 || did.outFirst < pulls/50 {
		t.Errorf("hardly anything was proven, or too late: %+v", did)
	}
	if w.made != cards {
		t.Errorf("%d sessions of %d cards", w.made, cards)
	}
	if g.drawn < pulls/4 || g.typed < pulls/4 {
		t.Error("hardly anything was drawn or typed")
	}
	t.Logf("%d pulls in %v of simulated time, %d frames drawn, %d keys heard, %d steps; %d proofs taken, %d exchanges, %d PINs asked for, %d of both overtaken by a removal",
		pulls, w.Now().Round(time.Second), g.drawn, g.typed, w.Steps, did.told, did.asked, did.pins, did.outFirst)
}
