// Package harm breaks what a fleet runs on, by seed, and mends it again.
//
// Source: design sections 1 and 2: what may be lost with which process, and
// what must not.
//
// Invariants:
//  1. Before anything is broken the judge is told which sessions may be lost by
//     it, and which cards may come to a second one; of all others nothing is
//     excused.
//  2. What was stopped goes on, what was killed and is nobody's to restart is
//     started again, before Do returns.
//
// A Harm is for one goroutine.
package harm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/client"
	"hotdesk/tools/fleet/internal/oracle"
	"hotdesk/tools/fleet/internal/patchbay"
	"hotdesk/tools/fleet/internal/scenario"
	"hotdesk/tools/internal/lab"
)

// bootWithin is how long a program may take to be ready again.
const bootWithin = 20 * time.Second

// restartAfter is how soon a service manager starts a program again.
const restartAfter = 300 * time.Millisecond

// A Harm breaks things.
type Harm struct {
	Hosts []*lab.Host
	Bay   *patchbay.Bay
	Calm  scenario.Weather // of the scenario
	Judge *oracle.Judge
	Cards map[alp.Token]uint16
	Full  string // file system of the lab that can be filled; "": none
	rng   *rand.Rand

	// Doubled are the cards that had reason for a second session.
	Doubled map[uint16]bool
}

// Seed makes a run's faults those of the seed.
func (h *Harm) Seed(seed uint64) {
	h.rng = rand.New(rand.NewPCG(seed, 99))
	h.Doubled = map[uint16]bool{}
}

// Pauses draws the times between faults.
func (h *Harm) Pauses() *rand.Rand { return rand.New(rand.NewPCG(h.rng.Uint64(), 98)) }

// A fault is one thing that can be broken.
type fault struct {
	name   string
	weight int
	hosts  int // so many there must be
	do     func(*Harm, context.Context, *lab.Host) error
}

var faults = []fault{
	{"gateway killed", 4, 1, (*Harm).killGateway},
	{"server parent killed", 2, 1, (*Harm).killServer},
	{"group manager killed", 3, 1, (*Harm).killGroup},
	{"media killed", 6, 1, (*Harm).killMedia},
	{"X server killed", 3, 1, (*Harm).killX},
	{"keeper killed", 3, 1, (*Harm).killKeeper},
	{"gateway stopped", 3, 1, (*Harm).stopGateway},
	{"server parent stopped", 2, 1, (*Harm).stopServer},
	{"group manager stopped", 2, 1, (*Harm).stopGroup},
	{"media stopped", 3, 1, (*Harm).stopMedia},
	{"X server stopped", 3, 1, (*Harm).stopX},
	{"keeper stopped", 3, 1, (*Harm).stopKeeper},
	{"host killed", 1, 2, (*Harm).crash},
	{"host stopped", 1, 2, (*Harm).stall},
	{"host cut off", 1, 2, (*Harm).cutBoth},
	{"host hears no terminal", 1, 2, (*Harm).cutTo},
	{"no terminal hears a host", 1, 2, (*Harm).cutFrom},
	{"network bad", 4, 1, (*Harm).weather},
	{"network away", 2, 1, (*Harm).away},
	{"no more file descriptors", 3, 1, (*Harm).descriptors},
	{"disk full", 3, 1, (*Harm).full},
}

// Names are all faults.
func Names() []string {
	var all []string
	for _, f := range faults {
		all = append(all, f.name)
	}
	return all
}

// Do breaks something, and returns what it was, and the cards of the host that
// it befell, which are in doubt till Sure.
func (h *Harm) Do(ctx context.Context) (what string, cards []uint16, err error) {
	total := 0
	for _, f := range faults {
		total += h.weight(f)
	}
	n := h.rng.IntN(total)
	var f fault
	for _, f = range faults {
		if n -= h.weight(f); n < 0 {
			break
		}
	}
	host := h.Hosts[h.rng.IntN(len(h.Hosts))]
	all, err := h.sessions(ctx, host)
	for _, s := range all {
		cards = append(cards, s.card)
	}
	if err == nil {
		err = f.do(h, ctx, host)
	}
	return f.name + " (" + host.Name + ")", cards, err
}

func (h *Harm) weight(f fault) int {
	if len(h.Hosts) < f.hosts || f.name == "disk full" && h.Full == "" {
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
		all = append(all, session{id, h.Cards[st.Token], keeper, st})
	}
	return all, err
}

// one picks a session of the host that has everything.
func (h *Harm) one(ctx context.Context, host *lab.Host) (s session, ok bool, err error) {
	all, err := h.sessions(ctx, host)
	if err != nil || len(all) == 0 {
		return s, false, err
	}
	s = all[h.rng.IntN(len(all))]
	return s, s.X > 0 && s.Media > 0, nil
}

// partition says that others may not find the sessions of a host.
func (h *Harm) partition(ctx context.Context, host *lab.Host) error {
	all, err := h.sessions(ctx, host)
	for _, s := range all {
		h.Doubled[s.card] = true
		h.Judge.Doubt(true, s.card)
	}
	return err
}

// time draws one.
func (h *Harm) time(from, to time.Duration) time.Duration {
	return from + time.Duration(h.rng.Int64N(int64(to-from)))
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// stop halts a process for a while.
func (h *Harm) stop(ctx context.Context, pid int) error {
	lab.Signal([]int{pid}, syscall.SIGSTOP)
	wait(ctx, h.time(200*time.Millisecond, 4*time.Second))
	lab.Signal([]int{pid}, syscall.SIGCONT)
	return nil
}

func (h *Harm) killGateway(ctx context.Context, host *lab.Host) error {
	pid, err := host.Gateway()
	if err != nil {
		return nil // it was just killed
	}
	return lab.Kill(ctx, pid)
}

func (h *Harm) stopGateway(ctx context.Context, host *lab.Host) error {
	pid, err := host.Gateway()
	if err != nil {
		return nil
	}
	return h.stop(ctx, pid)
}

func (h *Harm) killServer(ctx context.Context, host *lab.Host) error {
	if err := host.Stay(); err != nil {
		return err
	}
	host.Server.Signal(syscall.SIGKILL)
	<-host.Server.Done()
	wait(ctx, restartAfter)
	ctx, cancel := context.WithTimeout(ctx, bootWithin)
	defer cancel()
	return host.StartServer(ctx)
}

func (h *Harm) stopServer(ctx context.Context, host *lab.Host) error {
	return h.stop(ctx, host.Server.PID())
}

func (h *Harm) killGroup(ctx context.Context, host *lab.Host) error {
	if err := h.partition(ctx, host); err != nil {
		return err
	}
	if err := host.Stay(); err != nil {
		return err
	}
	host.GroupMgr.Signal(syscall.SIGKILL)
	<-host.GroupMgr.Done()
	wait(ctx, restartAfter)
	ctx, cancel := context.WithTimeout(ctx, bootWithin)
	defer cancel()
	return host.StartGroupMgr(ctx)
}

func (h *Harm) stopGroup(ctx context.Context, host *lab.Host) error {
	if err := h.partition(ctx, host); err != nil {
		return err
	}
	return h.stop(ctx, host.GroupMgr.PID())
}

func (h *Harm) killMedia(ctx context.Context, host *lab.Host) error {
	s, ok, err := h.one(ctx, host)
	if ok {
		lab.Signal([]int{s.Media}, syscall.SIGKILL)
	}
	return err
}

func (h *Harm) stopMedia(ctx context.Context, host *lab.Host) error {
	s, ok, err := h.one(ctx, host)
	if ok {
		return h.stop(ctx, s.Media)
	}
	return err
}

func (h *Harm) killX(ctx context.Context, host *lab.Host) error {
	s, ok, err := h.one(ctx, host)
	if ok {
		h.Judge.Lost(string(s.id), s.card)
		lab.Signal([]int{s.X}, syscall.SIGKILL)
	}
	return err
}

func (h *Harm) stopX(ctx context.Context, host *lab.Host) error {
	s, ok, err := h.one(ctx, host)
	if ok {
		return h.stop(ctx, s.X)
	}
	return err
}

func (h *Harm) killKeeper(ctx context.Context, host *lab.Host) error {
	s, ok, err := h.one(ctx, host)
	if ok {
		h.Judge.Lost(string(s.id), s.card)
		lab.Signal([]int{s.keeper}, syscall.SIGKILL)
	}
	return err
}

func (h *Harm) stopKeeper(ctx context.Context, host *lab.Host) error {
	s, ok, err := h.one(ctx, host)
	if ok {
		return h.stop(ctx, s.keeper)
	}
	return err
}

// crash kills a whole host and boots it.
func (h *Harm) crash(ctx context.Context, host *lab.Host) error {
	if err := h.partition(ctx, host); err != nil {
		return err
	}
	// What is made between this look and the death is lost too: first the
	// gateway, so that nothing is.
	if pid, err := host.Gateway(); err == nil {
		lab.Signal([]int{pid}, syscall.SIGSTOP)
	}
	wait(ctx, 200*time.Millisecond)
	all, err := h.sessions(ctx, host)
	if err != nil {
		return err
	}
	for _, s := range all {
		h.Judge.Lost(string(s.id), s.card)
	}
	if err := host.Crash(ctx); err != nil {
		return err
	}
	wait(ctx, h.time(time.Second, 4*time.Second))
	ctx, cancel := context.WithTimeout(ctx, bootWithin)
	defer cancel()
	return host.Boot(ctx)
}

func (h *Harm) stall(ctx context.Context, host *lab.Host) error {
	if err := h.partition(ctx, host); err != nil {
		return err
	}
	if err := host.Stall(ctx); err != nil {
		return err
	}
	wait(ctx, h.time(time.Second, 6*time.Second))
	host.Resume()
	return nil
}

func (h *Harm) cutBoth(ctx context.Context, host *lab.Host) error {
	return h.cut(ctx, host, patchbay.ToHost|patchbay.FromHost)
}

func (h *Harm) cutTo(ctx context.Context, host *lab.Host) error {
	return h.cut(ctx, host, patchbay.ToHost)
}

func (h *Harm) cutFrom(ctx context.Context, host *lab.Host) error {
	return h.cut(ctx, host, patchbay.FromHost)
}

func (h *Harm) cut(ctx context.Context, host *lab.Host, ways patchbay.Way) error {
	at, err := netip.ParseAddrPort(host.Addr)
	if err != nil {
		return err
	}
	h.Bay.Cut(at.Addr(), ways)
	wait(ctx, h.time(500*time.Millisecond, 6*time.Second))
	h.Bay.Cut(at.Addr(), 0)
	return nil
}

func (h *Harm) weather(ctx context.Context, _ *lab.Host) error {
	ms := time.Millisecond
	h.Bay.Weather(scenario.Weather{
		Loss: .3 * h.rng.Float64(), Reorder: .2 * h.rng.Float64(), Duplicate: .2 * h.rng.Float64(),
		Delay: h.time(0, 80*ms), Jitter: h.time(0, 80*ms),
	})
	wait(ctx, h.time(time.Second, 5*time.Second))
	h.Bay.Weather(h.Calm)
	return nil
}

func (h *Harm) away(ctx context.Context, _ *lab.Host) error {
	h.Bay.Weather(scenario.Weather{Loss: 1})
	wait(ctx, h.time(100*time.Millisecond, 3*time.Second))
	h.Bay.Weather(h.Calm)
	return nil
}

// descriptors leaves the gateway almost none.
func (h *Harm) descriptors(ctx context.Context, host *lab.Host) error {
	pid, err := host.Gateway()
	if err != nil {
		return nil
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return nil
	}
	var was unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &was); err != nil {
		return nil
	}
	less := was
	less.Cur = uint64(len(open) + h.rng.IntN(3))
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &less, nil); err != nil {
		return nil
	}
	wait(ctx, h.time(time.Second, 4*time.Second))
	_ = unix.Prlimit(pid, unix.RLIMIT_NOFILE, &was, nil) // it may have ended
	return nil
}

// full leaves no room for state, sockets and logs.
func (h *Harm) full(ctx context.Context, _ *lab.Host) error {
	file := h.Full + "/ballast"
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer os.Remove(file)
	b := make([]byte, 1<<20)
	for len(b) > 0 {
		if _, err := f.Write(b); err != nil {
			b = b[:len(b)/2]
		}
	}
	f.Close()
	wait(ctx, h.time(time.Second, 4*time.Second))
	return nil
}
