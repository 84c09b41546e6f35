package viewer

import (
	"time"

	"hotdesk/protocol/native"
)

const (
	// stallAfter is how late a look may be. Later than that we have stood still
	// ourselves, for want of a processor or of memory, and what came meanwhile may
	// not have been read.
	stallAfter = 200 * time.Millisecond
	// maxStalls bounds how often a media end gets time for that.
	maxStalls = 3
)

// A silence measures how long nothing has come from a media end. It reads no
// clock.
type silence struct {
	heard  time.Time // when anything last came; zero: nothing yet
	from   time.Time // the silence is counted from then
	asked  bool      // since heard
	stalls int       // since heard
	due    time.Time // of the next look; zero: there was none
}

// look says when to look again, whether the media end is to be asked for a sign
// of life now, and whether it has been silent for too long. heard is when
// anything last came, zero if nothing has since begun.
func (s *silence) look(now, begun, heard time.Time, period time.Duration) (again time.Time, ask, over bool) {
	if s.from.IsZero() {
		s.from = begun
	}
	if !heard.Equal(s.heard) {
		s.heard, s.from, s.asked, s.stalls = heard, heard, false, 0
	}
	late, most := native.QuietAfter(period), native.SilentAfter(period)
	answer := most - late
	if heard.IsZero() {
		late, most = FirstWithin, FirstWithin
	}
	if !s.due.IsZero() && now.Sub(s.due) > stallAfter && s.stalls < maxStalls {
		if from := now.Add(answer - most); from.After(s.from) {
			s.from = from
			s.stalls++
		}
	}
	quiet, end := s.from.Add(late), s.from.Add(most)
	switch {
	case !now.Before(end):
		return end, false, true
	case s.asked || !now.Before(quiet):
		ask, s.asked, s.due = !s.asked && !heard.IsZero(), true, end
	default:
		s.due = quiet
	}
	return s.due, ask, false
}
