package crowd

import (
	"image"
	"time"

	"hotdesk/dtu/app"
	"hotdesk/dtu/terminal"
	"hotdesk/tools/fleet/internal/badge"
	"hotdesk/tools/fleet/internal/figures"
	"hotdesk/tools/fleet/internal/oracle"
)

const (
	// maxRects is how many changed rectangles are looked at one by one.
	maxRects = 64
	// still is how long a session's clock may stand before that is measured:
	// it is drawn every second.
	still = 2500 * time.Millisecond
	// nameAfter is the time between two attempts to type a session's owner.
	nameAfter = 2 * time.Second
	// reads is how long a person takes to read what the screen says, and to do
	// something about it: to try again.
	reads = 3 * time.Second
)

// bare is a picture without pointer and notices.
type bare interface {
	Size() (w, h int)
	ReadBare(r image.Rectangle, pix []byte, stride int) bool
}

// eyes look at one terminal. They are one goroutine's.
type eyes struct {
	*seat
	pic   bare
	left  []image.Rectangle // changed, and not judged yet
	buf   []byte
	named time.Duration // when the owner was typed last
	last  seen          // that was right
	asked time.Duration // since when a screen is shown that wants something done
}

// same says that nothing happened that matters between two statuses.
func same(a, b *app.Status) bool {
	return a == b || a.Counters.Inserts == b.Counters.Inserts && a.Card == b.Card && a.Gen == b.Gen && a.State == b.State && a.Session == b.Session
}

// look judges what changed.
func (e *eyes) look(changed []image.Rectangle) {
	e.left = append(e.left, changed...)
	if len(e.left) > maxRects {
		w, h := e.pic.Size()
		e.left = []image.Rectangle{image.Rect(0, 0, w, h)}
	}
	e.hand.Lock()
	card, times, since := e.card, e.times, e.since
	e.hand.Unlock()
	if len(changed) > 0 {
		e.crowd.Book.Count(figures.Frames, e.crowd.At())
	}
	before := e.status()
	pix := e.read(badge.Rect)
	b, found := badge.Find(pix)
	own := uint32(0)
	if found {
		own = badge.Colour(b.Nonce)
	}
	colours := map[uint32]int{}
	for _, r := range e.left {
		e.count(r, own, found, colours)
	}
	after := e.status()
	e.hand.Lock()
	moved := e.times != times
	e.hand.Unlock()
	// Of a card that was just moved the terminal may not know yet.
	if moved || !same(before, after) || (after.Card != "") != (card != 0) || card != 0 && after.Card != Card(card) {
		e.again()
		return
	}
	e.left = e.left[:0]
	s := oracle.Sighting{At: e.crowd.At(), Terminal: e.name, Card: card, Badge: b, Found: found, Colours: colours}
	if after.State == terminal.Picture {
		s.Session = string(after.Session)
	}
	fresh := e.crowd.Judge.See(s)
	asks := after.State == terminal.Picture && after.Session == "" // a server's screen
	switch refused := refuses(after.State); {
	case card != 0 && found:
		e.mine(s, times, since, fresh)
		e.asked = 0
	case card == 0 || !asks && !refused:
		e.asked = 0
	case e.asked == 0:
		e.asked = s.At
	case s.At-e.asked > reads:
		e.asked = s.At
		if asks && e.keys(card, times, usageReturn) {
			e.crowd.Book.Count(figures.Answered, s.At)
		}
		if refused && e.reseat(card, times) {
			e.crowd.Book.Count("cards taken out and put in again after: "+after.Title, s.At)
		}
	}
}

// refuses says that a terminal shows what only a person can go on from, by taking
// the card out and putting it in again, whatever its code is.
func refuses(s terminal.State) bool {
	return s == terminal.Refused || s == terminal.Disconnected || s == terminal.Unreadable
}

// mine takes note of a look at the card's own session.
func (e *eyes) mine(s oracle.Sighting, times int, since time.Duration, fresh bool) {
	now := seen{times: times, badge: s.Badge, at: s.At, owned: s.Badge.Owner == s.Card}
	if e.last.times != times {
		series := figures.CardAgain
		if fresh || !now.owned {
			series = figures.CardNew
		}
		e.crowd.Book.Add(series, since, s.At-since)
	} else if gap := s.At - e.last.at; e.last.badge.Count != s.Badge.Count && gap > still {
		e.crowd.Book.Add(figures.Gap, e.last.at, gap)
	}
	if e.last.times != times || e.last.badge.Count != s.Badge.Count {
		e.last = now
	}
	now.at, now.echo = e.last.at, s.At
	e.saw(now)
	if !now.owned && s.At-e.named > nameAfter {
		e.named = s.At
		usages := []uint16{usageF9}
		for _, d := range badge.Digits(s.Card) {
			usages = append(usages, digit(d))
		}
		e.keys(s.Card, times, append(usages, usageF10)...)
	}
}

// read returns pixels of the picture; none where it is smaller.
func (e *eyes) read(r image.Rectangle) []byte {
	n := r.Dx() * r.Dy() * 4
	if cap(e.buf) < n {
		e.buf = make([]byte, n)
	}
	e.buf = e.buf[:n]
	if !e.pic.ReadBare(r, e.buf, r.Dx()*4) {
		return nil
	}
	return e.buf
}

// count counts the pixels of r that are not of the session: not its colour,
// not its badge, not where its moving picture is.
func (e *eyes) count(r image.Rectangle, own uint32, found bool, colours map[uint32]int) {
	pix := e.read(r)
	run, last := 0, uint32(0)
	end := func() {
		if run > 0 && last != 0 && (!found || last != own) {
			colours[last] += run
		}
		run = 0
	}
	for i := 0; i+3 < len(pix); i += 4 {
		c := uint32(pix[i+2])<<16 | uint32(pix[i+1])<<8 | uint32(pix[i])
		if c != last {
			end()
			last = c
		}
		if found && c != own {
			at := image.Pt(r.Min.X+i/4%r.Dx(), r.Min.Y+i/4/r.Dx())
			if at.In(badge.Rect) || at.In(badge.Video) {
				continue
			}
		}
		run++
	}
	end()
}
