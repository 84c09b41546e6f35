// Package oracle judges what the terminals of a fleet show: each card's own
// session, no pixel of another's, nothing when no card is in, and never a
// session that is older than, or other than, the one that was there.
//
// Source: design sections 2 and 3 (tokens, card out); package badge for what
// sessions draw.
//
// What a picture must be follows from what people did, not from what the
// servers say: a session is its card's because the person at the terminal typed
// the card's number into it when it was new.
//
// Invariants: a run of a session (its nonce) belongs to the first card that
// showed it, for ever. A card comes to a new run only when the run before was
// lost to a fault (Lost, Doubt).
//
// The package does no I/O and reads no clock. A Judge is safe for concurrent
// use. Limit: maxKept violations are kept; all are counted.
package oracle

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"hotdesk/tools/fleet/internal/badge"
)

// maxKept bounds what is remembered of violations.
const maxKept = 200

// enough pixels of a session's colour are no accident.
const enough = 64

// Kind is what went wrong.
type Kind string

// Kinds of violations.
const (
	After     Kind = "picture without a card" // pixels of a session, and no card is in
	Others    Kind = "picture of another"     // the session, or pixels, of another card
	Backwards Kind = "counter went backwards"
	Replaced  Kind = "session replaced" // another session than before, and nothing happened to that
	Input     Kind = "input to another" // what was typed for one session came to another
	Twice     Kind = "two sessions"     // of one token
	Missing   Kind = "session lost"     // it has ended, and nothing happened to it
	Leaked    Kind = "left behind"      // processes, files, sockets, goroutines, memory
	Fault     Kind = "fault not borne"  // a program did not do in a fault, or after it, what it must
	Crash     Kind = "program crashed"  // by its log
	Noise     Kind = "noise in a log"
)

// A Violation is one.
type Violation struct {
	At       time.Duration `json:"at"` // since the run began
	Terminal string        `json:"terminal,omitempty"`
	Kind     Kind          `json:"kind"`
	Text     string        `json:"text"`
}

// A Sighting is one look at a terminal's picture. The card was in (or none)
// before and after the look.
type Sighting struct {
	At       time.Duration
	Terminal string
	Card     uint16 // number of the card that is in, 0: none
	Session  string // what the terminal says it shows, "" while that changes
	Badge    badge.Badge
	Found    bool           // there is a badge
	Colours  map[uint32]int // pixels by colour that are not the badge's session's
}

// A run is one run of a session's program.
type run struct {
	card    uint16
	owner   uint16 // as it was typed
	session string
	count   uint32
	typed   uint32
	lost    bool
}

type holder struct {
	runs  []uint32 // nonces, the newest last
	lost  bool     // the newest one: a new one is no violation
	doubt bool     // nor is it while this is set
}

// A Judge sees all terminals.
type Judge struct {
	mu      sync.Mutex
	runs    map[uint32]*run
	cards   map[uint16]*holder
	colours map[uint32]uint32 // of runs, to their nonces
	kept    []Violation
	counts  map[Kind]int
	total   int
	looks   int
}

// New returns a judge who has seen nothing.
func New() *Judge {
	return &Judge{runs: map[uint32]*run{}, cards: map[uint16]*holder{}, colours: map[uint32]uint32{}, counts: map[Kind]int{}}
}

// See judges a look. news says that the card shows a run for the first time.
func (j *Judge) See(s Sighting) (news bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.looks++
	for c, n := range s.Colours {
		nonce, known := j.colours[c]
		switch {
		case !known || n < enough:
		case s.Card == 0:
			j.say(s.At, s.Terminal, After, "%d pixels of the session of card %d", n, j.runs[nonce].card)
		case j.runs[nonce].card != s.Card:
			j.say(s.At, s.Terminal, Others, "card %d is in; %d pixels of the session of card %d", s.Card, n, j.runs[nonce].card)
		}
	}
	if !s.Found {
		return false
	}
	b := s.Badge
	if s.Card == 0 {
		j.say(s.At, s.Terminal, After, "the session %08x, typed owner %d", b.Nonce, b.Owner)
		return false
	}
	r := j.runs[b.Nonce]
	if r == nil {
		news = true
		r = &run{card: s.Card}
		j.runs[b.Nonce] = r
		j.colours[badge.Colour(b.Nonce)] = b.Nonce
		j.arrives(s)
	}
	if r.session == "" {
		r.session = s.Session
	}
	switch {
	case r.card != s.Card:
		j.say(s.At, s.Terminal, Others, "card %d is in; shown is the session %08x of card %d", s.Card, b.Nonce, r.card)
		return news
	case b.Owner != 0 && b.Owner != s.Card:
		j.say(s.At, s.Terminal, Others, "card %d is in; shown is a session into which card %d was typed", s.Card, b.Owner)
		return news
	case b.Owner == 0 && r.owner != 0:
		j.say(s.At, s.Terminal, Backwards, "the session %08x has forgotten whose it is", b.Nonce)
	case b.Flags&badge.Conflict != 0:
		j.say(s.At, s.Terminal, Input, "another card's number was typed into the session %08x", b.Nonce)
	}
	if b.Count < r.count || b.Typed < r.typed {
		j.say(s.At, s.Terminal, Backwards, "session %08x: clock %d after %d, keys %d after %d", b.Nonce, b.Count, r.count, b.Typed, r.typed)
	}
	r.owner, r.count, r.typed = b.Owner, b.Count, b.Typed
	return news
}

// arrives takes note of a run that was not seen before.
func (j *Judge) arrives(s Sighting) {
	h := j.holder(s.Card)
	if n := len(h.runs); n > 0 && !h.doubt && !h.lost {
		j.say(s.At, s.Terminal, Replaced, "card %d had the session %08x and now has %08x", s.Card, h.runs[n-1], s.Badge.Nonce)
	}
	h.runs, h.lost = append(h.runs, s.Badge.Nonce), false
}

// Lost says that a card's session ends by a fault: it may come to a new one.
func (j *Judge) Lost(session string, card uint16) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.holder(card).lost = true
	for _, r := range j.runs {
		if r.session == session || r.session == "" && r.card == card {
			r.lost = true
		}
	}
}

func (j *Judge) holder(card uint16) *holder {
	h := j.cards[card]
	if h == nil {
		h = &holder{}
		j.cards[card] = h
	}
	return h
}

// Doubt says that cards may come to new sessions although their old ones live:
// their host cannot be reached. It holds till the same is said with false.
func (j *Judge) Doubt(doubt bool, cards ...uint16) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range cards {
		j.holder(c).doubt = doubt
	}
}

// Ends compares the sessions that live at the end with those that were shown:
// session ids by card, and the cards that had reason for two.
func (j *Judge) Ends(at time.Duration, living map[uint16][]string, doubled map[uint16]bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for card, ids := range living {
		if len(ids) > 1 && !doubled[card] {
			j.say(at, "", Twice, "card %d has the sessions %v", card, ids)
		}
	}
	for nonce, r := range j.runs {
		if !r.lost && !slices.Contains(living[r.card], r.session) {
			j.say(at, "", Missing, "session %s (%08x) of card %d", r.session, nonce, r.card)
		}
	}
}

// Found says that something is wrong that no picture shows.
func (j *Judge) Found(at time.Duration, k Kind, text string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.say(at, "", k, "%s", text)
}

func (j *Judge) say(at time.Duration, terminal string, k Kind, format string, args ...any) {
	j.total++
	j.counts[k]++
	if len(j.kept) < maxKept {
		j.kept = append(j.kept, Violation{at, terminal, k, fmt.Sprintf(format, args...)})
	}
}

// A Verdict is what the judge has found.
type Verdict struct {
	Looks      int          // pictures that were judged
	Sessions   int          // runs of sessions that were seen
	Violations int          // all of them
	Kinds      map[Kind]int // how many of each
	Kept       []Violation  // the first ones
}

// Verdict is what was found so far.
func (j *Judge) Verdict() Verdict {
	j.mu.Lock()
	defer j.mu.Unlock()
	v := Verdict{Looks: j.looks, Sessions: len(j.runs), Violations: j.total, Kinds: map[Kind]int{}, Kept: slices.Clone(j.kept)}
	maps.Copy(v.Kinds, j.counts)
	return v
}
