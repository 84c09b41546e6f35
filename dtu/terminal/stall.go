package terminal

import "time"

const (
	// StallAfter is how late a timer may be. Later than that the terminal itself
	// has stood still, for want of a processor or of memory: what was left of
	// AnswerWithin is less than one of a terminal's worst round trips.
	StallAfter = AnswerWithin / 2
	// maxStalls bounds how often a server gets time for that: one that is dead is
	// left, however busy the terminal is.
	maxStalls = 3
)

// wake takes in what time it is. Where the terminal has stood still, a question
// of it may just have left and an answer may not have been read: a server that
// has nearly run out of time gets AnswerWithin from now.
func (m *Machine) wake(now time.Time) {
	m.now = now
	due := m.Next()
	if due.IsZero() || now.Sub(due) <= StallAfter || m.stalls == maxStalls {
		return
	}
	given, until := false, now.Add(AnswerWithin)
	if !m.quietAt.IsZero() {
		m.quietAt, m.answerAt, given = now, until, true
	}
	for _, at := range []*time.Time{&m.deadAt, &m.targetAt} {
		if !at.IsZero() && at.Before(until) {
			*at, given = until, true
		}
	}
	if given {
		m.stalls++
	}
}
