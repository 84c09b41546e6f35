package simulate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// History makes a random story: a group on random nets, its users and its
// faults. It ends healed and at rest, so that every invariant is asked.
func History(seed uint64) []string {
	t := teller{r: rand.New(rand.NewPCG(seed, 2))}
	t.begin()
	t.rules(rand.New(rand.NewPCG(seed, 3)))
	for range 20 + t.r.IntN(60) {
		t.say("after %v", t.pause())
		t.happen()
	}
	for t.roll != 0 {
		t.rollover()
	}
	t.say("heal")
	return t.lines
}

type teller struct {
	r         *rand.Rand
	lines     []string
	hosts     []string
	nets      []string
	terms     []string
	cards     []string
	tapped    bool
	key, roll int // the key in use, the step of the rollover
}

func (t *teller) say(format string, a ...any) { t.lines = append(t.lines, fmt.Sprintf(format, a...)) }

func (t *teller) one(of []string) string { return of[t.r.IntN(len(of))] }

// pause is the time between two events: often so short that they race, seldom
// so long that tables forget.
func (t *teller) pause() time.Duration {
	switch t.r.IntN(10) {
	case 0, 1, 2:
		return time.Duration(t.r.IntN(200)) * time.Millisecond
	case 3:
		return time.Duration(20+t.r.IntN(60)) * time.Second
	}
	return time.Duration(t.r.IntN(8000)) * time.Millisecond
}

func (t *teller) begin() {
	t.hosts = []string{"north", "south", "west", "east", "mid"}[:2+t.r.IntN(4)]
	t.key = 1
	switch t.r.IntN(3) {
	case 0: // one net
		t.nets = []string{"lan1"}
		t.say("hosts %s on lan1", strings.Join(t.hosts, " "))
	case 1: // a net of the hosts, and nets of terminals that reach some of them
		t.nets = []string{"lan1", "lan2"}
		for i, h := range t.hosts {
			t.say("hosts %s on core %s", h, [...]string{"lan1", "lan2", "lan1 lan2"}[(i+t.r.IntN(2))%3])
		}
	case 2: // a chain, where not everybody knows everybody
		t.nets = []string{"lan1", "lan2"}
		for i, h := range t.hosts {
			t.say("hosts %s on %s", h, [...]string{"lan1", "lan1 lan2", "lan2"}[i%3])
		}
	}
	for i := range 2 + t.r.IntN(5) {
		name := fmt.Sprintf("t%d", i+1)
		t.terms = append(t.terms, name)
		t.say("terminal %s on %s", name, t.one(t.nets))
	}
	if t.r.IntN(3) == 0 { // behind a router
		t.terms = append(t.terms, "far")
		t.say("terminal far on faraway knows %s", strings.Join(t.hosts, " "))
	}
	for i := range 1 + t.r.IntN(4) {
		t.cards = append(t.cards, fmt.Sprint(i+1))
	}
	if t.r.IntN(4) == 0 {
		t.say("rogue evil on %s", t.one(t.nets))
	}
	if t.r.IntN(4) == 0 {
		t.say("tap %s", t.one(t.nets))
		t.tapped = true
	}
	t.say("start")
	t.say("after %v", time.Duration(t.r.IntN(3000))*time.Millisecond)
}

// rules bar some cards from some hosts, or, as a mistake of the admin's, from all.
func (t *teller) rules(r *rand.Rand) {
	for _, c := range t.cards {
		if r.IntN(3) > 0 {
			continue
		}
		i := r.IntN(len(t.hosts))
		hosts := t.hosts[i:min(len(t.hosts), i+1+r.IntN(2))]
		if r.IntN(8) == 0 {
			hosts = []string{"nowhere"}
		}
		t.say("allow %s on %s", c, strings.Join(hosts, " "))
	}
}

// happen is one thing that happens. Users are the most frequent.
func (t *teller) happen() {
	h, o, u := t.one(t.hosts), t.one(t.hosts), t.one(t.terms)
	switch n := t.r.IntN(44); {
	case n < 14:
		t.say("insert %s at %s", t.one(t.cards), u)
	case n < 18:
		t.say("pull %s", u)
	case n < 19: // a copied card, or the same one very fast
		c := t.one(t.cards)
		t.say("insert %s at %s", c, u)
		t.say("insert %s at %s", c, t.one(t.terms))
	case n < 21:
		if h != o {
			t.say("cut %s -> %s", h, o)
		}
	case n < 22:
		t.say("cut %s - %s", h, u)
	case n < 24:
		t.partition()
	case n < 27:
		t.say("mend")
	case n < 28:
		t.say("weather loss %d%% twice %d%% slow %dms", t.r.IntN(40), t.r.IntN(30), t.r.IntN(300))
	case n < 31:
		t.say("%s group %s", t.one([]string{"stop", "stop", "crash"}), h)
		t.say("after %v", time.Duration(t.r.IntN(1500))*time.Millisecond)
		t.say("start group %s", h)
	case n < 33:
		t.say("stop gateway %s", h)
		t.say("after %v", time.Duration(t.r.IntN(3000))*time.Millisecond)
		t.say("start gateway %s", h)
	case n < 34:
		t.say("%s %s", t.one([]string{"stop", "kill"}), h)
	case n < 36:
		t.say("start %s", h)
	case n < 38:
		d := time.Duration(t.r.IntN(int(150*time.Second))) - 75*time.Second
		if t.r.IntN(6) == 0 {
			d = time.Duration(t.r.IntN(int(2*time.Hour))) - time.Hour
		}
		t.say("clock %s %+v", h, d)
	case n < 39:
		t.rollover()
	case n < 42:
		t.say("choose %s at anyone", t.one([]string{chooseAgain, chooseHere, chooseHere, chooseNone}))
	case n < 43:
		t.say("state %s %s", h, t.one([]string{"online", "offline", "down"}))
	default:
		if t.tapped {
			t.say("replay %d", 1+t.r.IntN(20))
		}
	}
}

func (t *teller) partition() {
	all := append(slices.Clone(t.hosts), t.terms...)
	t.r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	n := 1 + t.r.IntN(len(all)-1)
	t.say("partition %s | %s", strings.Join(all[:n], " "), strings.Join(all[n:], " "))
}

// rollover is the next step of the change to the next key, as an admin does
// it: the new key to all, in any order, then first, then the old one away.
func (t *teller) rollover() {
	rings := []string{fmt.Sprintf("%d %d", t.key, t.key+1), fmt.Sprintf("%d %d", t.key+1, t.key), fmt.Sprint(t.key + 1)}
	order := slices.Clone(t.hosts)
	t.r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, h := range order {
		t.say("keys %s : %s", h, rings[t.roll])
	}
	t.say("keys all : %s", rings[t.roll])
	if t.roll++; t.roll == len(rings) {
		t.roll, t.key = 0, t.key+1
	}
}

// Play runs a story with a seed for its networks, and returns what was broken
// and by which line, counted from 1. At the end it lets the group come to rest.
func Play(seed uint64, lines []string) (broken string, line int, w *World) {
	s := NewStory(seed)
	n, err := s.play(lines, func(string, []string) {})
	switch {
	case err != nil:
		return err.Error(), n, s.World
	case len(s.Broken) > 0:
		return s.Broken[0], n, s.World
	}
	return "", 0, s.World
}

// Told is what happens as Play plays it, line by line.
func Told(seed uint64, lines []string) []string {
	s := NewStory(seed)
	s.Tell()
	var all []string
	_, err := s.play(lines, func(line string, out []string) {
		all = append(append(all, fmt.Sprintf("at %v: %s", s.now, line)), out...)
	})
	if err != nil {
		all = append(all, err.Error())
	}
	return all
}

func (s *Story) play(lines []string, heard func(line string, out []string)) (n int, err error) {
	rest := []string{"after " + (Period + margin).String(), "expect agreement", "after " + (Down + Period + 30*time.Second).String(), "expect agreement", "expect rest"}
	all := append(slices.Clone(lines), rest...)
	for i := range all {
		if i == len(lines) {
			all[i] = "after " + s.AgreeWithin().String()
		}
		out, err := s.Do(all[i])
		heard(all[i], out)
		if len(s.Broken) > 0 {
			return min(i+1, len(lines)), nil
		}
		if err != nil {
			return min(i+1, len(lines)), err
		}
	}
	return 0, nil
}

// Shrink drops lines of a broken story for as long as the same thing breaks,
// and returns what is left. It plays it at most most times.
func Shrink(seed uint64, lines []string, most int) []string {
	_, n, w := Play(seed, lines)
	lines = lines[:n]
	bad := func(l []string) bool {
		most--
		_, _, o := Play(seed, l)
		return w.kind != "" && o.kind == w.kind
	}
	for size := len(lines) / 2; size > 0 && most > 0; {
		cut := false
		for i := 0; i+size <= len(lines) && most > 0; {
			less := slices.Delete(slices.Clone(lines), i, i+size)
			if lines[len(lines)-1] == "heal" && i+size == len(lines) {
				break // what breaks only at rest must come to rest
			}
			if bad(less) {
				lines, cut = less, true
			} else {
				i += size
			}
		}
		if !cut || size > 1 {
			size /= 2
		}
	}
	return lines
}
