package oracle

import (
	"testing"
	"time"

	"hotdesk/tools/fleet/internal/badge"
)

// look is a sighting of a session that is well.
func look(card uint16, nonce, count uint32) Sighting {
	return Sighting{
		At: time.Second, Terminal: "t", Card: card, Session: string(rune('a' + nonce)), Found: true,
		Badge: badge.Badge{Owner: card, Nonce: nonce, Count: count},
	}
}

func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		run  func(*Judge)
		want map[Kind]int
	}{
		"a day": {func(j *Judge) {
			fresh := look(1, 7, 1)
			fresh.Badge.Owner = 0
			j.See(fresh)
			j.See(look(1, 7, 2))
			j.See(Sighting{Terminal: "t"})
			j.See(look(1, 7, 9))
			j.See(look(2, 8, 1))
			j.Ends(0, map[uint16][]string{1: {string(rune('a' + 7))}, 2: {string(rune('a' + 8))}}, nil)
		}, nil},
		"after the card": {func(j *Judge) { j.See(look(1, 7, 1)); s := look(1, 7, 2); s.Card = 0; j.See(s) }, map[Kind]int{After: 1}},
		"pixels after the card": {func(j *Judge) {
			j.See(look(1, 7, 1))
			j.See(Sighting{Colours: map[uint32]int{badge.Colour(7): 500, 0x123456: 5000}})
		}, map[Kind]int{After: 1}},
		"pixels of another": {func(j *Judge) {
			j.See(look(1, 7, 1))
			s := look(2, 8, 1)
			s.Colours = map[uint32]int{badge.Colour(7): enough}
			j.See(s)
		}, map[Kind]int{Others: 1}},
		"few pixels": {func(j *Judge) {
			j.See(look(1, 7, 1))
			j.See(Sighting{Colours: map[uint32]int{badge.Colour(7): enough - 1}})
		}, nil},
		"another's":         {func(j *Judge) { j.See(look(1, 7, 1)); j.See(look(2, 7, 2)) }, map[Kind]int{Others: 1}},
		"another's at once": {func(j *Judge) { s := look(1, 7, 1); s.Badge.Owner = 2; j.See(s) }, map[Kind]int{Others: 1}},
		"clock":             {func(j *Judge) { j.See(look(1, 7, 5)); j.See(look(1, 7, 4)) }, map[Kind]int{Backwards: 1}},
		"keys": {func(j *Judge) {
			s := look(1, 7, 5)
			s.Badge.Typed = 3
			j.See(s)
			j.See(look(1, 7, 6))
		}, map[Kind]int{Backwards: 1}},
		"forgotten": {func(j *Judge) { j.See(look(1, 7, 5)); s := look(1, 7, 6); s.Badge.Owner = 0; j.See(s) }, map[Kind]int{Backwards: 1}},
		"input":     {func(j *Judge) { s := look(1, 7, 5); s.Badge.Flags = badge.Conflict; j.See(s) }, map[Kind]int{Input: 1}},
		"replaced":  {func(j *Judge) { j.See(look(1, 7, 5)); j.See(look(1, 8, 5)) }, map[Kind]int{Replaced: 1}},
		"lost":      {func(j *Judge) { j.See(look(1, 7, 5)); j.Lost(string(rune('a'+7)), 1); j.See(look(1, 8, 5)) }, nil},
		"lost once": {func(j *Judge) {
			j.See(look(1, 7, 5))
			j.Lost(string(rune('a'+7)), 1)
			j.See(look(1, 8, 5))
			j.See(look(1, 9, 5))
		}, map[Kind]int{Replaced: 1}},
		"another lost": {func(j *Judge) { j.See(look(1, 7, 5)); j.Lost("z", 2); j.See(look(1, 8, 5)) }, map[Kind]int{Replaced: 1}},
		"out of reach": {func(j *Judge) { j.See(look(1, 7, 5)); j.Doubt(true, 1); j.See(look(1, 8, 5)); j.See(look(1, 7, 6)) }, nil},
		"out of reach no more": {func(j *Judge) {
			j.See(look(1, 7, 5))
			j.Doubt(true, 1)
			j.See(look(1, 8, 5))
			j.Doubt(false, 1)
			j.See(look(1, 7, 6))
			j.See(look(1, 9, 6))
		}, map[Kind]int{Replaced: 1}},
		"twice":          {func(j *Judge) { j.Ends(0, map[uint16][]string{1: {"a", "b"}, 2: {"c", "d"}}, map[uint16]bool{2: true}) }, map[Kind]int{Twice: 1}},
		"gone":           {func(j *Judge) { j.See(look(1, 7, 5)); j.Ends(0, nil, nil) }, map[Kind]int{Missing: 1}},
		"something left": {func(j *Judge) { j.Found(0, Leaked, "a process") }, map[Kind]int{Leaked: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			j := New()
			c.run(j)
			v := j.Verdict()
			total := 0
			for k, n := range c.want {
				total += n
				if v.Kinds[k] != n {
					t.Errorf("%d of %q, want %d", v.Kinds[k], k, n)
				}
			}
			if v.Violations != total || len(v.Kept) != total {
				t.Errorf("%d violations, want %d: %v", v.Violations, total, v.Kept)
			}
		})
	}
}
