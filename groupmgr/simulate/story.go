package simulate

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
)

// Usage is the language of stories, one command a line.
const Usage = `
hosts NAME... on NET...         hosts of the group, off; the first net is primary
rogue NAME on NET...            a host with a key of its own, that says all the same things
terminal NAME on NET [knows HOST...]   off; it asks its network, or knows hosts
start [NAME...]                 all, or these: hosts with group manager and gateway, terminals
stop NAME...                    hosts lose their power
kill NAME...                    every process of the hosts ends, their kernels say so
stop|start group|gateway NAME...    one program of the hosts
crash group NAME...             a group manager that cannot say goodbye
state HOST online|offline|down  an admin's word
insert CARD at TERMINAL         a card is pushed in; several may have one name
pull TERMINAL                   its card is pulled out
allow CARD on HOST...           new sessions of it are for these hosts alone
choose again|here|nothing at TERMINAL|anyone   answers the question on a screen, if there is one
cut NAME -> NAME                one way; cut NAME - NAME both ways
partition NAME... | NAME...     both ways between the two sides
weather [loss N%] [twice N%] [slow D]   of datagrams
mend                            cuts and weather are over
clock HOST +D | -D              the clock is set
keys NAME... : N...             the key file; the first key signs. "all" are the hosts of the group
tap NET...                      somebody records what hosts say there
replay N                        and says N of it again
after D                         time passes
heal                            mend, all on, clocks right, one key
table HOST                      prints its table
expect ...                      see expect
`

// Story reads commands and carries them out in a World.
type Story struct {
	*World
	tells []string
	last  group.Ring // that Heal gives to all
}

// NewStory begins a story.
func NewStory(seed uint64) *Story {
	s := &Story{World: New(seed), last: group.Ring{Key(1)}}
	return s
}

// Tell has Do return what happens.
func (s *Story) Tell() {
	s.Trace = func(line string) { s.tells = append(s.tells, line) }
}

// Do carries out one line and returns what came of it, a line each, with the
// time since the line began. A line that cannot be read, and an expectation
// that does not hold, are errors.
func (s *Story) Do(line string) ([]string, error) {
	began := s.now
	s.tells = nil
	if s.Trace != nil {
		s.Trace = func(line string) {
			s.tells = append(s.tells, fmt.Sprintf("%v %s", (s.now-began).Round(time.Millisecond), line))
		}
	}
	err := s.run(strings.Fields(line))
	if err != nil {
		err = fmt.Errorf("%s: %w", line, err)
	}
	return s.tells, err
}

var errWords = errors.New("not a command; see Usage")

func (s *Story) run(f []string) error {
	if len(f) == 0 {
		return nil
	}
	switch f[0] {
	case "hosts", "rogue":
		return s.addHosts(f)
	case "terminal":
		return s.addTerminal(f)
	case "state":
		h, err := s.host(f, 1)
		if err != nil || len(f) != 3 {
			return errors.Join(err, usage(len(f) == 3))
		}
		st := group.State(f[2])
		if st != group.Online && st != group.Offline && st != group.Down {
			return errWords
		}
		h.State(st)
		return nil
	case "start", "stop", "kill", "crash":
		return s.power(f)
	case "insert":
		u, err := s.unit(f, 3)
		if err != nil || len(f) != 4 || f[2] != "at" {
			return errors.Join(err, usage(len(f) == 4))
		}
		u.Insert(card(f[1]))
		return nil
	case "pull":
		u, err := s.unit(f, 1)
		if err == nil {
			u.Remove()
		}
		return err
	case "allow":
		if len(f) < 4 || f[2] != "on" {
			return errWords
		}
		s.Allow(card(f[1]), f[3:]...)
		return nil
	case "choose":
		u, err := s.asked(f)
		if err != nil || len(f) != 4 || f[2] != "at" || f[1] != chooseAgain && f[1] != chooseHere && f[1] != chooseNone {
			return errors.Join(err, errWords)
		}
		if u != nil {
			u.Choose(f[1])
		}
		return nil
	case "cut":
		if len(f) != 4 || s.named[f[1]] == nil || s.named[f[3]] == nil {
			return errWords
		}
		s.Cut(f[1], f[3])
		if f[2] == "-" {
			s.Cut(f[3], f[1])
		}
		return nil
	case "partition": // names that a shrunk story lost are nobody
		i := slices.Index(f, "|")
		if i < 0 {
			return errWords
		}
		s.Partition(f[1:i], f[i+1:])
		return nil
	case "weather":
		return s.weather(f[1:])
	case "mend":
		s.Mend()
		return nil
	case "clock":
		h, err := s.host(f, 1)
		if err != nil || len(f) != 3 {
			return errors.Join(err, usage(len(f) == 3))
		}
		d, err := time.ParseDuration(f[2])
		h.Step(d)
		return err
	case "keys":
		return s.keys(f[1:])
	case "tap":
		var nets []*Net
		for _, n := range f[1:] {
			nets = append(nets, s.Net(n))
		}
		s.Tap(nets...)
		return nil
	case "replay":
		n, err := strconv.Atoi(strings.Join(f[1:], ""))
		s.Replay(n)
		return err
	case "after":
		d, err := time.ParseDuration(strings.Join(f[1:], ""))
		s.Run(d)
		return err
	case "heal":
		s.Heal(s.last)
		return nil
	case "table":
		h, err := s.host(f, 1)
		switch {
		case err != nil:
			return err
		case h.eng == nil:
			return fmt.Errorf("%s has no group manager", h.name)
		}
		rows := h.table()
		for _, name := range slices.Sorted(maps.Keys(rows)) {
			s.tells = append(s.tells, h.name+" has "+name+": "+seen(rows[name].Trusted, rows[name].Down, rows[name].Suspect))
		}
		return nil
	case "expect":
		return s.expect(f[1:])
	}
	return errWords
}

// card is the token of a card: card1, or just 1, is card.1.
func card(word string) alp.Token { return alp.Token("card." + strings.TrimPrefix(word, "card")) }

func usage(ok bool) error {
	if ok {
		return nil
	}
	return errWords
}

func (s *Story) host(f []string, i int) (*Host, error) {
	if i < len(f) {
		if h, ok := s.named[f[i]].(*Host); ok {
			return h, nil
		}
	}
	return nil, fmt.Errorf("word %d names no host", i+1)
}

// asked is the terminal of a choice, nil for anyone where nobody is asked.
func (s *Story) asked(f []string) (*Unit, error) {
	if len(f) != 4 || f[3] != "anyone" {
		return s.unit(f, 3)
	}
	for _, u := range s.units {
		if _, p := u.asked(); p != nil {
			return u, nil
		}
	}
	return nil, nil
}

func (s *Story) unit(f []string, i int) (*Unit, error) {
	if i < len(f) {
		if u, ok := s.named[f[i]].(*Unit); ok {
			return u, nil
		}
	}
	return nil, fmt.Errorf("word %d names no terminal", i+1)
}

func (s *Story) addHosts(f []string) error {
	i := slices.Index(f, "on")
	if i < 0 || i+1 == len(f) {
		return errWords
	}
	var nets []*Net
	for _, n := range f[i+1:] {
		nets = append(nets, s.Net(n))
	}
	for _, name := range f[1:i] {
		if s.named[name] != nil {
			return fmt.Errorf("%s is there already", name)
		}
		ring := s.last
		if f[0] == "rogue" {
			ring = group.Ring{Key(99)}
		}
		s.Host(name, ring, nets...).rogue = f[0] == "rogue"
	}
	return nil
}

func (s *Story) addTerminal(f []string) error {
	if len(f) < 4 || f[2] != "on" || s.named[f[1]] != nil || len(f) > 4 && f[4] != "knows" {
		return errWords
	}
	var known []*Host
	for i := 5; i < len(f); i++ {
		h, err := s.host(f, i)
		if err != nil {
			return err
		}
		known = append(known, h)
	}
	s.Unit(f[1], s.Net(f[3]), known...)
	return nil
}

func (s *Story) power(f []string) error {
	what := ""
	names := f[1:]
	if len(names) > 0 && (names[0] == "group" || names[0] == "gateway") {
		what, names = names[0], names[1:]
	}
	if f[0] == "start" && len(f) == 1 {
		for _, h := range s.hosts {
			names = append(names, h.name)
		}
		for _, u := range s.units {
			names = append(names, u.name)
		}
	}
	for _, name := range names {
		if u, ok := s.named[name].(*Unit); ok && f[0] == "start" {
			u.On()
			continue
		}
		h, ok := s.named[name].(*Host)
		if !ok {
			return fmt.Errorf("no host %q", name)
		}
		switch f[0] + what {
		case "start":
			h.On()
		case "stop":
			h.Crash()
		case "kill":
			h.Kill()
		case "startgroup":
			h.StartGroup()
		case "crashgroup":
			h.CrashGroup()
		case "stopgroup":
			h.StopGroup()
		case "startgateway":
			h.StartGateway()
		case "stopgateway":
			h.StopGateway()
		default:
			return errWords
		}
	}
	return nil
}

func (s *Story) weather(f []string) error {
	var loss, twice float64
	var slow time.Duration
	for i := 0; i+1 < len(f); i += 2 {
		var err error
		switch f[i] {
		case "slow":
			slow, err = time.ParseDuration(f[i+1])
		case "loss", "twice":
			var n float64
			n, err = strconv.ParseFloat(strings.TrimSuffix(f[i+1], "%"), 64)
			if f[i] == "loss" {
				loss = n / 100
			} else {
				twice = n / 100
			}
		default:
			return errWords
		}
		if err != nil {
			return err
		}
	}
	s.Weather(loss, twice, slow)
	return nil
}

func (s *Story) keys(f []string) error {
	i := slices.Index(f, ":")
	if i < 0 {
		return errWords
	}
	var ring group.Ring
	for _, n := range f[i+1:] {
		k, err := strconv.ParseUint(n, 10, 8)
		if err != nil {
			return err
		}
		ring = append(ring, Key(byte(k)))
	}
	if len(ring) == 0 {
		return errWords
	}
	if f[0] == "all" {
		s.last = ring
		for _, h := range s.hosts {
			if !h.rogue {
				h.Keys(ring)
			}
		}
		return nil
	}
	for n := range i {
		h, err := s.host(f, n)
		if err != nil {
			return err
		}
		h.Keys(ring)
	}
	return nil
}

func seen(trusted, down, suspect bool) string {
	switch {
	case !trusted:
		return "untrusted"
	case down:
		return "down"
	case suspect:
		return "suspect"
	}
	return "up"
}

// expect holds a story to what it is about:
//
//	expect TERMINAL shows CARD on HOST
//	expect TERMINAL says WORDS...       the screen, or a part of what it says
//	expect HOST has HOST up|down|suspect|untrusted|unknown
//	expect N sessions of CARD
//	expect agreement                    invariant 5
//	expect rest                         invariants 6 and 7
func (s *Story) expect(f []string) error {
	words := strings.Join(f, " ")
	before := len(s.Broken)
	switch {
	case words == "agreement":
		s.Agree()
	case words == "rest":
		s.Rest()
	case len(f) == 4 && f[1] == "sessions":
		n := 0
		if t := s.tracks[card(f[3])]; t != nil {
			n = len(t.sessions)
		}
		if strconv.Itoa(n) != f[0] {
			return fmt.Errorf("there are %d", n)
		}
	case len(f) == 4 && f[1] == "has":
		h, err := s.host(f, 0)
		switch {
		case err != nil:
			return err
		case h.eng == nil:
			return fmt.Errorf("%s has no group manager", h.name)
		}
		got := "unknown"
		if r, ok := h.table()[f[2]]; ok {
			got = seen(r.Trusted, r.Down, r.Suspect)
		}
		if got != f[3] {
			return fmt.Errorf("it is %s", got)
		}
	case len(f) > 2 && (f[1] == "shows" || f[1] == "says"):
		u, err := s.unit(f, 0)
		if err != nil {
			return err
		}
		got, want := u.Shows(), strings.Join(f[2:], " ")
		ok := strings.Contains(got, want)
		if f[1] == "shows" && len(f) == 5 {
			ok = strings.HasPrefix(got, "picture") && strings.HasSuffix(got, " of "+string(card(f[2]))+" on "+f[4])
		}
		if !ok {
			return fmt.Errorf("it shows %s", got)
		}
	default:
		return errWords
	}
	if len(s.Broken) > before {
		return fmt.Errorf("broken: %s", strings.Join(s.Broken[before:], "; "))
	}
	return nil
}
