// Package scenario reads what the people of a fleet do, in plain words.
//
// Source: this project's own; the files are in the folder of that name. A file
// has lines; blank ones and those that begin with # are passed over. First what
// holds for all:
//
//	purpose: the shift changes         one sentence
//	lasts: 5m                          all times below are scaled to a run's
//	people: 300                        unless a run says otherwise
//	terminals: 120%                    of the number of people; default 100%
//	hosts: 2
//	resting: 1000                      terminals at which nobody is
//	login: yes                         those show the login screen
//	pictures: counted                  not drawn, and so not judged
//	network: loss 2% delay 20ms jitter 15ms reorder 1% duplicate 1%   all of the time
//	start: slow 3s                     terminals wait up to so long for an address
//
// then groups of people, whose shares of them add up to 100 %, and what each
// does, again and again until the run's time is over:
//
//	everybody (or: 40% of them)
//	  wait 10s to 4m
//	  wait once 10s to 4m              only at the beginning
//	  insert                           the card, at the person's own terminal
//	  go                               to a free terminal, for the next insert
//	  type for 30s at 5 a second
//	  watch for 1m                     a video in the session
//	  fiddle 8                         in and out so many times, fast
//	  remove
//
// and what happens meanwhile:
//
//	at 2m power of 25% off for 10s
//	at 3m network loss 5% delay 40ms for 20s
//
// The package does no I/O and reads no clock. Limits: maxLines, MaxPeople.
package scenario

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxLines = 200
	// MaxPeople bounds the people, and the terminals beside theirs.
	MaxPeople = 9999
)

//go:embed scenarios
var files embed.FS

// Verb is what somebody does.
type Verb int

// Verbs.
const (
	Wait Verb = iota
	WaitOnce
	Insert
	Go
	Type
	Watch
	Fiddle
	Remove
)

// A Step is one thing that somebody does.
type Step struct {
	Verb     Verb
	From, To time.Duration // Wait: between; Type, Watch: From
	Rate     float64       // Type: keys a second
	Times    int           // Fiddle
}

// A Group is people who do the same.
type Group struct {
	Share int // in %
	Steps []Step
}

// Weather is what a network does to packets.
type Weather struct {
	Loss, Reorder, Duplicate float64 // of packets
	Delay, Jitter            time.Duration
}

// Calm says that it does nothing.
func (w Weather) Calm() bool { return w == Weather{} }

// An Event is something that happens to many.
type Event struct {
	At, For time.Duration
	Power   int // % of terminals that lose it; 0: it is weather
	Weather Weather
}

// A Scenario is one file.
type Scenario struct {
	Name, Purpose string
	Lasts         time.Duration
	People        int
	Terminals     int // in % of people
	Hosts         int
	Resting       int
	Login         bool
	Counted       bool
	Slow          time.Duration
	Weather       Weather
	Groups        []Group
	Events        []Event
}

// Names lists the scenarios there are.
func Names() []string {
	entries, err := files.ReadDir("scenarios")
	if err != nil {
		panic(err) // the folder is compiled in
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".txt"))
	}
	return names
}

// Load returns one of them.
func Load(name string) (*Scenario, error) {
	if !slices.Contains(Names(), name) {
		return nil, fmt.Errorf("scenario: %q is none of %s", name, strings.Join(Names(), ", "))
	}
	text, err := fs.ReadFile(files, path.Join("scenarios", name+".txt"))
	if err != nil {
		return nil, fmt.Errorf("scenario: %w", err)
	}
	return Parse(name, string(text))
}

// Parse reads a file. Its errors name the line.
func Parse(name, text string) (*Scenario, error) {
	s := &Scenario{Name: name, Terminals: 100, Hosts: 1}
	n := 0
	for line := range strings.Lines(text) {
		if n++; n > maxLines {
			return nil, fmt.Errorf("scenario: %s: more than %d lines", name, maxLines)
		}
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if err := s.line(line); err != nil {
			return nil, fmt.Errorf("scenario: %s, line %d: %w", name, n, err)
		}
	}
	return s, s.check()
}

func (s *Scenario) check() error {
	total, steps := 0, 0
	for _, g := range s.Groups {
		total += g.Share
		steps += len(g.Steps)
		if !slices.ContainsFunc(g.Steps, func(st Step) bool { return st.Verb == Wait || st.Verb == Type || st.Verb == Watch || st.Verb == Fiddle }) {
			return fmt.Errorf("scenario: %s: a group that never takes any time", s.Name)
		}
	}
	switch {
	case s.Purpose == "" || s.Lasts <= 0:
		return fmt.Errorf("scenario: %s: it needs purpose and lasts", s.Name)
	case s.People > 0 && total != 100:
		return fmt.Errorf("scenario: %s: the groups' shares add up to %d%%", s.Name, total)
	case s.People == 0 && s.Resting == 0:
		return fmt.Errorf("scenario: %s: nobody is there", s.Name)
	}
	return nil
}

func (s *Scenario) line(line string) error {
	if key, value, ok := strings.Cut(line, ": "); ok {
		return s.set(key, strings.TrimSpace(value))
	}
	w := strings.Fields(line)
	switch {
	case line == "everybody":
		s.Groups = append(s.Groups, Group{Share: 100})
		return nil
	case len(w) == 3 && w[1] == "of" && w[2] == "them":
		share, err := percent(w[0])
		s.Groups = append(s.Groups, Group{Share: share})
		return err
	case w[0] == "at":
		return s.event(w)
	case len(s.Groups) == 0:
		return fmt.Errorf("%q stands before 'everybody' or '40%% of them'", line)
	}
	step, err := parseStep(w)
	g := &s.Groups[len(s.Groups)-1]
	g.Steps = append(g.Steps, step)
	return err
}

func (s *Scenario) set(key, value string) (err error) {
	switch key {
	case "purpose":
		s.Purpose = value
	case "lasts":
		s.Lasts, err = duration(value)
	case "people":
		s.People, err = number(value, MaxPeople)
	case "resting":
		s.Resting, err = number(value, MaxPeople)
	case "hosts":
		s.Hosts, err = number(value, 16)
	case "terminals":
		s.Terminals, err = percent(value)
	case "login":
		s.Login, err = value == "yes", oneOf(value, "yes", "no")
	case "pictures":
		s.Counted, err = value == "counted", oneOf(value, "counted", "drawn")
	case "start":
		rest, ok := strings.CutPrefix(value, "slow ")
		if !ok {
			return fmt.Errorf("start: %q is not 'slow TIME'", value)
		}
		s.Slow, err = duration(rest)
	case "network":
		s.Weather, err = ParseWeather(strings.Fields(value))
	default:
		err = fmt.Errorf("unknown %q", key)
	}
	return err
}

func parseStep(w []string) (s Step, err error) {
	bad := fmt.Errorf("%q is nothing that people do", strings.Join(w, " "))
	switch {
	case w[0] == "wait":
		if w = w[1:]; len(w) > 0 && w[0] == "once" {
			s.Verb, w = WaitOnce, w[1:]
		}
		if len(w) != 1 && (len(w) != 3 || w[1] != "to") {
			return s, bad
		}
		if s.From, err = duration(w[0]); err != nil {
			return s, err
		}
		if s.To = s.From; len(w) == 3 {
			s.To, err = duration(w[2])
		}
		if s.To < s.From {
			return s, bad
		}
		return s, err
	case len(w) == 7 && w[0] == "type" && w[1] == "for" && w[3] == "at" && w[5] == "a" && w[6] == "second":
		s.Verb = Type
		if s.Rate, err = strconv.ParseFloat(w[4], 64); err != nil || s.Rate <= 0 || s.Rate > 50 {
			return s, bad
		}
		s.From, err = duration(w[2])
		return s, err
	case len(w) == 3 && w[0] == "watch" && w[1] == "for":
		s.Verb = Watch
		s.From, err = duration(w[2])
		return s, err
	case len(w) == 2 && w[0] == "fiddle":
		s.Verb = Fiddle
		s.Times, err = number(w[1], 100)
		return s, err
	case len(w) == 1:
		verbs := map[string]Verb{"insert": Insert, "go": Go, "remove": Remove}
		v, ok := verbs[w[0]]
		if !ok {
			return s, bad
		}
		s.Verb = v
		return s, nil
	}
	return s, bad
}

func (s *Scenario) event(w []string) (err error) {
	bad := fmt.Errorf("%q is nothing that happens", strings.Join(w, " "))
	if len(w) < 6 || w[len(w)-2] != "for" {
		return bad
	}
	var e Event
	if e.At, err = duration(w[1]); err != nil {
		return err
	}
	if e.For, err = duration(w[len(w)-1]); err != nil {
		return err
	}
	switch middle := w[2 : len(w)-2]; {
	case len(middle) == 4 && middle[0] == "power" && middle[1] == "of" && middle[3] == "off":
		e.Power, err = percent(middle[2])
	case middle[0] == "network":
		e.Weather, err = ParseWeather(middle[1:])
	default:
		err = bad
	}
	s.Events = append(s.Events, e)
	return err
}

// ParseWeather reads pairs of words: loss, reorder, duplicate in %, delay and
// jitter as times.
func ParseWeather(w []string) (x Weather, err error) {
	if len(w)%2 != 0 || len(w) == 0 {
		return x, fmt.Errorf("network: %q is not in pairs", strings.Join(w, " "))
	}
	for i := 0; i < len(w) && err == nil; i += 2 {
		shares := map[string]*float64{"loss": &x.Loss, "reorder": &x.Reorder, "duplicate": &x.Duplicate}
		times := map[string]*time.Duration{"delay": &x.Delay, "jitter": &x.Jitter}
		switch {
		case shares[w[i]] != nil:
			var p int
			p, err = percent(w[i+1])
			if p > 100 {
				err = fmt.Errorf("network: %s of more than 100%%", w[i])
			}
			*shares[w[i]] = float64(p) / 100
		case times[w[i]] != nil:
			if *times[w[i]], err = duration(w[i+1]); err == nil && *times[w[i]] > 10*time.Second {
				err = fmt.Errorf("network: %s of more than 10s", w[i])
			}
		default:
			err = fmt.Errorf("network: unknown %q", w[i])
		}
	}
	return x, err
}

func duration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > 24*time.Hour {
		return 0, fmt.Errorf("%q is no time", s)
	}
	return d, nil
}

func number(s string, most int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > most {
		return 0, fmt.Errorf("%q is no number from 0 to %d", s, most)
	}
	return n, nil
}

func percent(s string) (int, error) {
	text, ok := strings.CutSuffix(s, "%")
	if !ok {
		return 0, fmt.Errorf("%q is not in %%", s)
	}
	return number(text, 1000)
}

func oneOf(s string, words ...string) error {
	if !slices.Contains(words, s) {
		return fmt.Errorf("%q is none of %s", s, strings.Join(words, ", "))
	}
	return nil
}
