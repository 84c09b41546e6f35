// Package harm breaks what a fleet runs on, by seed, and mends it again.
//
// Source: design sections 1, 2, 4 and 5: what may be lost with which process,
// and what must not.
//
// Invariants:
//  1. Before anything is broken the judge is told which sessions may be lost by
//     it, and which cards may come to a second one; of all others nothing is
//     excused.
//  2. What was stopped goes on, what was killed and is nobody's to restart is
//     started again, before Do returns.
//  3. A fault says by what it was seen that it took effect. One that found
//     nothing to break, or broke nothing, is none, and says why.
//
// A Harm is for one goroutine.
package harm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/session/client"
	"hotdesk/tools/fleet/internal/lan"
	"hotdesk/tools/fleet/internal/oracle"
	"hotdesk/tools/fleet/internal/patchbay"
	"hotdesk/tools/fleet/internal/scenario"
	"hotdesk/tools/fleet/internal/wallclock"
	"hotdesk/tools/internal/lab"
)

const (
	// bootWithin is how long a program may take to be ready again.
	bootWithin = 20 * time.Second
	// restartAfter is how soon a service manager starts a program again.
	restartAfter = 300 * time.Millisecond
	// seenWithin is how long a fault may take to be seen, and its end.
	seenWithin = 20 * time.Second
	// joinedWithin is how long hosts may take to know each other again: group
	// managers say that they are there every 20 s.
	joinedWithin = 45 * time.Second
	// look is the time between two looks for that.
	look = 50 * time.Millisecond
	// twice is how many faults of a hundred have another one beside them.
	twice = 25
)

// A Harm breaks things.
type Harm struct {
	Lab      *lab.Lab
	Hosts    []*lab.Host
	Registry *lab.Host // that has the group's registry and nothing else; nil: none
	Bay      *patchbay.Bay
	Calm     scenario.Weather // of the scenario
	Judge    *oracle.Judge
	At       func() time.Duration // since the run began
	Cards    map[alp.Token]uint16
	Seen     func(*lab.Host, alp.SessionID, client.Status) // is told of every session that is seen
	LAN      *lan.LAN                                      // of terminals that have their addresses by DHCP; nil: none
	Power    func(n int, on bool)                          // of a terminal of it
	Full     string                                        // file system of the lab that can be filled; "": none
	Upgrade  string                                        // folder of the programs that others are replaced by; "": by themselves
	Kinds    []string                                      // only these, each in its turn; nil: all, at random
	rng      *rand.Rand

	deck    []fault // of Kinds, still to come
	mu      sync.Mutex
	doubled map[uint16]bool
}

// Seed makes a run's faults those of the seed.
func (h *Harm) Seed(seed uint64) error {
	for _, k := range h.Kinds {
		if !slices.Contains(Names(), k) {
			return fmt.Errorf("harm: no fault is called %q; there are: %s", k, strings.Join(Names(), ", "))
		}
	}
	h.rng = rand.New(rand.NewPCG(seed, 99))
	h.doubled = map[uint16]bool{}
	return nil
}

// Pauses draws the times between faults.
func (h *Harm) Pauses() *rand.Rand { return rand.New(rand.NewPCG(h.rng.Uint64(), 98)) }

// Doubled are the cards that had reason for a second session.
func (h *Harm) Doubled() map[uint16]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.doubled
}

// A fault is one thing that can be broken.
type fault struct {
	name   string
	weight int
	hosts  int  // so many there must be; 0: it befalls none of them
	beside bool // it can be broken beside another that may not be so
	do     func(*blow, context.Context, *lab.Host) error
}

var faults = []fault{
	{"gateway killed", 4, 1, true, (*blow).killGateway},
	{"server parent killed", 2, 1, false, (*blow).killServer},
	{"group manager killed", 3, 1, false, (*blow).killGroup},
	{"media killed", 6, 1, true, killed(media, false)},
	{"X server killed", 3, 1, true, killed(xserver, true)},
	{"keeper killed", 3, 1, true, killed(keeper, true)},
	{"gateway stopped", 3, 1, false, (*blow).stopGateway},
	{"server parent stopped", 2, 1, false, (*blow).stopServer},
	{"group manager stopped", 2, 1, false, (*blow).stopGroup},
	{"media stopped", 3, 1, true, stopped(media)},
	{"X server stopped", 3, 1, true, stopped(xserver)},
	{"keeper stopped", 3, 1, true, stopped(keeper)},
	{"host killed", 1, 2, false, (*blow).crash},
	{"host stopped", 1, 2, false, (*blow).stall},
	{"host cut off", 1, 2, false, (*blow).cutBoth},
	{"host hears no terminal", 1, 2, false, (*blow).cutTo},
	{"no terminal hears a host", 1, 2, false, (*blow).cutFrom},
	{"network bad", 4, 0, true, (*blow).weather},
	{"network away", 2, 0, true, (*blow).away},
	{"no more file descriptors", 3, 1, false, (*blow).descriptors},
	{"disk full", 3, 0, false, (*blow).full},
	{clockSet, 4, 1, false, (*blow).clock},
	{"session's memory full", 3, 1, false, (*blow).memorySession},
	{GatewayStarved, 3, 1, false, (*blow).memoryGateway},
	{registryAway, 3, 0, false, (*blow).registry},
	{dhcpGone, 3, 0, true, (*blow).dhcp},
	{"group key changed", 2, 0, false, (*blow).keys},
	{"programs upgraded", 2, 1, false, (*blow).upgrade},
	{"certificate of another authority", 2, 2, false, (*blow).certificate},
}

// Names are all faults.
func Names() []string {
	var all []string
	for _, f := range faults {
		all = append(all, f.name)
	}
	return all
}

// A Done is what was broken.
type Done struct {
	What    []string // one, or two at the same time; none: there was nothing to break
	Effects []string // by what that was seen
	Void    []string // what took no effect, and why
	Cards   []uint16 // that are in doubt till Sure
}

// A blow is one fault being done.
type blow struct {
	*Harm
	rng    *rand.Rand
	effect string
	void   bool
	doubt  []uint16 // cards
}

// saw says by what it was seen that the fault took effect.
func (b *blow) saw(format string, args ...any) { b.effect = fmt.Sprintf(format, args...) }

// nothing says why there was nothing to break.
func (b *blow) nothing(format string, args ...any) error {
	b.saw(format, args...)
	b.void = true
	return nil
}

// wrong says that something was not as it must be during the fault or after it.
func (b *blow) wrong(format string, args ...any) {
	b.Judge.Found(b.At(), oracle.Fault, fmt.Sprintf(format, args...))
}

// Do breaks something, or two things at the same time.
func (h *Harm) Do(ctx context.Context) (d Done, err error) {
	one, ok := h.next(func(fault) bool { return true })
	if !ok {
		return d, errors.New("harm: nothing can be broken")
	}
	todo := []fault{one}
	if h.Kinds == nil && h.rng.IntN(100) < twice {
		if other, ok := h.next(func(f fault) bool { return f.beside && f.name != one.name && !one.beside }); ok {
			todo = append(todo, other)
		}
	}
	type result struct {
		name   string
		b      blow
		cards  []uint16
		failed error
	}
	all := make([]result, len(todo))
	var wg sync.WaitGroup
	for i, f := range todo {
		r := &all[i]
		host := h.Hosts[h.rng.IntN(len(h.Hosts))]
		if r.name = f.name; f.hosts > 0 {
			r.name += " (" + host.Name + ")"
		}
		r.b = blow{Harm: h, rng: rand.New(rand.NewPCG(h.rng.Uint64(), 97))}
		wg.Go(func() {
			sessions, err := h.sessions(ctx, host)
			for _, s := range sessions {
				r.cards = append(r.cards, s.card)
			}
			if err == nil {
				err = f.do(&r.b, ctx, host)
			}
			if err != nil {
				r.failed = fmt.Errorf("%s: %w", r.name, err)
			}
		})
	}
	wg.Wait()
	for i := range all {
		r := &all[i]
		d.Cards = slices.Concat(d.Cards, r.cards, r.b.doubt)
		err = errors.Join(err, r.failed)
		if r.b.void {
			d.Void = append(d.Void, r.name+": "+r.b.effect)
			h.later(todo[i])
			continue
		}
		d.What = append(d.What, r.name)
		d.Effects = append(d.Effects, r.b.effect)
	}
	return d, err
}

// later gives one of Kinds that took no effect another turn after those that have
// had none yet: what it breaks may be there then, as a session is that has not begun.
func (h *Harm) later(f fault) {
	if len(h.deck) > 0 {
		h.deck = append(h.deck, f)
	}
}

// next draws a fault.
func (h *Harm) next(fits func(fault) bool) (fault, bool) {
	if h.Kinds != nil {
		if len(h.deck) == 0 {
			for _, f := range faults {
				if slices.Contains(h.Kinds, f.name) && h.weight(f) > 0 {
					h.deck = append(h.deck, f)
				}
			}
			h.rng.Shuffle(len(h.deck), func(i, k int) { h.deck[i], h.deck[k] = h.deck[k], h.deck[i] })
		}
		if len(h.deck) == 0 {
			return fault{}, false
		}
		f := h.deck[0]
		h.deck = h.deck[1:]
		return f, true
	}
	total := 0
	for _, f := range faults {
		if fits(f) {
			total += h.weight(f)
		}
	}
	if total == 0 {
		return fault{}, false
	}
	n := h.rng.IntN(total)
	for _, f := range faults {
		if !fits(f) {
			continue
		}
		if n -= h.weight(f); n < 0 {
			return f, true
		}
	}
	return fault{}, false
}

// weight is 0 for what cannot be broken here.
func (h *Harm) weight(f fault) int {
	switch {
	case len(h.Hosts) < f.hosts,
		f.name == diskFull && h.Full == "",
		f.name == registryAway && h.Registry == nil,
		f.name == dhcpGone && h.LAN == nil,
		f.name == clockSet && wallclock.Possible() != nil:
		return 0
	}
	return f.weight
}

// Sure ends the doubt about cards.
func (h *Harm) Sure(cards []uint16) { h.Judge.Doubt(false, cards...) }

// A session is one of a host's.
type session struct {
	id     alp.SessionID
	card   uint16
	keeper int
	client.Status
}

func (h *Harm) sessions(ctx context.Context, host *lab.Host) (all []session, err error) {
	ids, err := host.Sessions()
	for _, id := range ids {
		ask, cancel := context.WithTimeout(ctx, 5*time.Second)
		st, keeper, err := host.Keeper(ask, id)
		cancel()
		if err != nil {
			continue // it is being made, or it ends
		}
		h.Seen(host, id, st)
		all = append(all, session{id, h.Cards[st.Token], keeper, st})
	}
	return all, err
}

// one picks a session of the host that has everything.
func (b *blow) one(ctx context.Context, host *lab.Host) (s session, ok bool, err error) {
	all, err := b.sessions(ctx, host)
	if err != nil {
		return s, false, err
	}
	if len(all) > 0 {
		if s = all[b.rng.IntN(len(all))]; s.X > 0 && s.Media > 0 {
			return s, true, nil
		}
	}
	return s, false, b.nothing("no session is there as a whole")
}

// partition says that others may not find the sessions of some hosts, those among
// them that are made meanwhile, until over is called: that waits till all hosts
// know each other again.
func (b *blow) partition(ctx context.Context, hosts ...*lab.Host) (over func(), err error) {
	mark := func() error {
		var failed error
		for _, host := range hosts {
			all, err := b.sessions(ctx, host)
			failed = errors.Join(failed, err)
			b.mu.Lock()
			for _, s := range all {
				b.doubled[s.card] = true
				b.Judge.Doubt(true, s.card)
				b.doubt = append(b.doubt, s.card)
			}
			b.mu.Unlock()
		}
		return failed
	}
	if err := mark(); err != nil && len(hosts) == 1 { // of several one may be broken by another fault
		return nil, err
	}
	watch, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for wait(watch, 4*look); watch.Err() == nil; wait(watch, 4*look) {
			_ = mark() // the last look counts
		}
	})
	return func() {
		why := ""
		began := time.Now()
		if !until(ctx, joinedWithin, func() bool { why = b.apart(ctx); return why == "" }) && ctx.Err() == nil {
			b.wrong("%v after the fault's end the hosts do not all know each other: %s", joinedWithin, why)
		}
		b.effect += fmt.Sprintf("; hosts together again after %.1f s", time.Since(began).Seconds())
		stop()
		wg.Wait()
		_ = mark() // the host answers again, as was just seen
	}, nil
}

// apart says which host does not know another one, "" if all know all. One that is
// suspect has not been heard since it missed a question, and is not waited for.
func (h *Harm) apart(ctx context.Context) string {
	for _, at := range h.Hosts {
		var t local.Table
		if err := at.Admin(ctx, "/group", &t); err != nil {
			return err.Error()
		}
		known := map[string]local.TableHost{}
		for _, row := range t.Hosts {
			known[row.Host] = row
		}
		for _, other := range h.Hosts {
			if row, ok := known[other.Name]; !ok || other != at && (!row.Trusted || row.Down || row.Suspect) {
				return fmt.Sprintf("%s about %s: %+v", at.Name, other.Name, row)
			}
		}
	}
	return ""
}

// time draws one.
func (b *blow) time(from, to time.Duration) time.Duration {
	return from + time.Duration(b.rng.Int64N(int64(to-from)))
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// until waits till f says yes, and whether it did within that time.
func until(ctx context.Context, within time.Duration, f func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for !f() {
		if wait(ctx, look); ctx.Err() != nil {
			return false
		}
	}
	return true
}
