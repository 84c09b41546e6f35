package terminal

import "time"

// Cards that go in and out faster than anybody means it are not all presented:
// a server handles so many lines of a terminal a second, those of cards that
// are out already would stand before the one that counts.
const (
	// presentBurst is how many tokens are presented at once, presentRate how
	// many a second after that: with their removals, questions about the host
	// and the answers of a proof, less than what a server takes.
	presentBurst = 12
	presentRate  = 6
)

// A pace is how many tokens may be presented.
type pace struct {
	room float64
	at   time.Time
}

// next is how long the next one has to wait.
func (p *pace) next(now time.Time) (wait time.Duration) {
	if p.at.IsZero() {
		p.room = presentBurst
	} else {
		p.room = min(presentBurst, p.room+now.Sub(p.at).Seconds()*presentRate)
	}
	p.at = now
	if p.room < 1 {
		return time.Duration((1-p.room)/presentRate*float64(time.Second)) + time.Millisecond
	}
	return 0
}

// spend counts one.
func (p *pace) spend() { p.room = max(p.room-1, 0) }

// presentInTime presents a token that has changed: at once, or when the pace
// allows it, if it is still the one then.
func (m *Machine) presentInTime() {
	if m.link != linkUp {
		return // ControlUp presents it
	}
	if wait := m.pace.next(m.now); wait > 0 {
		m.presentAt = m.now.Add(wait)
		return
	}
	m.present()
}
