package harm

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hotdesk/tools/fleet/internal/patchbay"
	"hotdesk/tools/fleet/internal/scenario"
	"hotdesk/tools/internal/lab"
)

// stop halts a process for a while.
func (b *blow) stop(ctx context.Context, pid int) error {
	lab.Signal([]int{pid}, syscall.SIGSTOP)
	defer lab.Signal([]int{pid}, syscall.SIGCONT)
	until(ctx, seenWithin, func() bool { return lab.Stopped(pid) || unix.Kill(pid, 0) == unix.ESRCH })
	if !lab.Stopped(pid) {
		return b.nothing("process %d has ended, or does not stop", pid)
	}
	d := b.time(200*time.Millisecond, 4*time.Second)
	wait(ctx, d)
	if !lab.Stopped(pid) {
		return b.nothing("process %d has ended, or goes on by itself", pid)
	}
	b.saw("process %d, for %v", pid, d.Round(time.Millisecond))
	return nil
}

// kill ends a process.
func (b *blow) kill(ctx context.Context, pid int, what string) error {
	b.saw("process %d%s", pid, what)
	err := lab.Kill(ctx, pid)
	if errors.Is(err, unix.ESRCH) {
		return b.nothing("process %d has just ended", pid)
	}
	return err
}

func (b *blow) killGateway(ctx context.Context, host *lab.Host) error {
	pid, err := host.Gateway()
	if err != nil {
		return b.nothing("no gateway runs just now")
	}
	return b.kill(ctx, pid, "")
}

func (b *blow) stopGateway(ctx context.Context, host *lab.Host) error {
	pid, err := host.Gateway()
	if err != nil {
		return b.nothing("no gateway runs just now")
	}
	return b.stop(ctx, pid)
}

func (b *blow) killServer(ctx context.Context, host *lab.Host) error {
	if err := host.Stay(); err != nil {
		return err
	}
	b.saw("process %d", host.Server.PID())
	host.Server.Signal(syscall.SIGKILL)
	<-host.Server.Done()
	wait(ctx, restartAfter)
	ctx, cancel := context.WithTimeout(ctx, bootWithin)
	defer cancel()
	return host.StartServer(ctx)
}

func (b *blow) stopServer(ctx context.Context, host *lab.Host) error {
	return b.stop(ctx, host.Server.PID())
}

func (b *blow) killGroup(ctx context.Context, host *lab.Host) error {
	over, err := b.partition(ctx, host)
	if err != nil {
		return err
	}
	defer over()
	if err := host.Stay(); err != nil {
		return err
	}
	b.saw("process %d", host.GroupMgr.PID())
	host.GroupMgr.Signal(syscall.SIGKILL)
	<-host.GroupMgr.Done()
	wait(ctx, restartAfter)
	ctx, cancel := context.WithTimeout(ctx, bootWithin)
	defer cancel()
	return host.StartGroupMgr(ctx)
}

func (b *blow) stopGroup(ctx context.Context, host *lab.Host) error {
	over, err := b.partition(ctx, host)
	if err != nil {
		return err
	}
	defer over()
	return b.stop(ctx, host.GroupMgr.PID())
}

// A victim is one process of a session that is there as a whole.
type victim func(session) int

func media(s session) int   { return s.Media }
func xserver(s session) int { return s.X }
func keeper(s session) int  { return s.keeper }

// killed ends one process of some session; lost says that the session ends with it.
func killed(pid victim, lost bool) func(*blow, context.Context, *lab.Host) error {
	return func(b *blow, ctx context.Context, host *lab.Host) error {
		s, ok, err := b.one(ctx, host)
		if !ok {
			return err
		}
		if lost {
			b.Judge.Lost(string(s.id), s.card)
		}
		return b.kill(ctx, pid(s), " of session "+string(s.id))
	}
}

// stopped halts one process of some session for a while.
func stopped(pid victim) func(*blow, context.Context, *lab.Host) error {
	return func(b *blow, ctx context.Context, host *lab.Host) error {
		s, ok, err := b.one(ctx, host)
		if !ok {
			return err
		}
		return b.stop(ctx, pid(s))
	}
}

// crash kills a whole host and boots it.
func (b *blow) crash(ctx context.Context, host *lab.Host) error {
	over, err := b.partition(ctx, host)
	if err != nil {
		return err
	}
	defer over()
	// What is made between this look and the death is lost too: first the
	// gateway, so that nothing is.
	if pid, err := host.Gateway(); err == nil {
		lab.Signal([]int{pid}, syscall.SIGSTOP)
	}
	wait(ctx, 200*time.Millisecond)
	all, err := b.sessions(ctx, host)
	if err != nil {
		return err
	}
	for _, s := range all {
		b.Judge.Lost(string(s.id), s.card)
	}
	b.saw("%d sessions were there", len(all))
	if err := host.Crash(ctx); err != nil {
		return err
	}
	wait(ctx, b.time(time.Second, 4*time.Second))
	ctx, cancel := context.WithTimeout(ctx, bootWithin)
	defer cancel()
	return host.Boot(ctx)
}

func (b *blow) stall(ctx context.Context, host *lab.Host) error {
	over, err := b.partition(ctx, host)
	if err != nil {
		return err
	}
	defer over()
	if err := host.Stall(ctx); err != nil {
		return err
	}
	defer host.Resume()
	programs := []int{host.Server.PID(), host.GroupMgr.PID()}
	if !until(ctx, seenWithin, func() bool { return !slices.ContainsFunc(programs, func(pid int) bool { return !lab.Stopped(pid) }) }) {
		return b.nothing("of %v one does not stop", programs)
	}
	d := b.time(time.Second, 6*time.Second)
	b.saw("processes %v among them, for %v", programs, d.Round(time.Millisecond))
	wait(ctx, d)
	return nil
}

func (b *blow) cutBoth(ctx context.Context, host *lab.Host) error {
	return b.cut(ctx, host, patchbay.ToHost|patchbay.FromHost)
}

func (b *blow) cutTo(ctx context.Context, host *lab.Host) error {
	return b.cut(ctx, host, patchbay.ToHost)
}

func (b *blow) cutFrom(ctx context.Context, host *lab.Host) error {
	return b.cut(ctx, host, patchbay.FromHost)
}

func (b *blow) cut(ctx context.Context, host *lab.Host, ways patchbay.Way) error {
	at, err := netip.ParseAddrPort(host.Addr)
	if err != nil {
		return err
	}
	before := b.Bay.Counts()
	b.Bay.Cut(at.Addr(), ways)
	d := b.time(500*time.Millisecond, 6*time.Second)
	wait(ctx, d)
	b.Bay.Cut(at.Addr(), 0)
	n := b.Bay.Counts().Since(before).Cut
	if n == 0 {
		return b.nothing("for %v nothing was on its way", d.Round(time.Millisecond))
	}
	b.saw("for %v, %d pieces and packets did not come through", d.Round(time.Millisecond), n)
	return nil
}

func (b *blow) weather(ctx context.Context, _ *lab.Host) error {
	ms := time.Millisecond
	return b.storm(ctx, b.time(time.Second, 5*time.Second), scenario.Weather{
		Loss: .3 * b.rng.Float64(), Reorder: .2 * b.rng.Float64(), Duplicate: .2 * b.rng.Float64(),
		Delay: b.time(0, 80*ms), Jitter: b.time(0, 80*ms),
	})
}

func (b *blow) away(ctx context.Context, _ *lab.Host) error {
	return b.storm(ctx, b.time(100*time.Millisecond, 3*time.Second), scenario.Weather{Loss: 1})
}

// storm makes the network bad for a while.
func (b *blow) storm(ctx context.Context, d time.Duration, w scenario.Weather) error {
	ms := time.Millisecond
	before := b.Bay.Counts()
	b.Bay.Weather(w)
	wait(ctx, d)
	b.Bay.Weather(b.Calm)
	n := b.Bay.Counts().Since(before)
	if n.Lost+n.Twice+n.Late == 0 {
		return b.nothing("for %v nothing was on its way", d.Round(ms))
	}
	b.saw("for %v loss %.0f %%, reorder %.0f %%, duplicate %.0f %%, delay %v, jitter %v; %d lost, %d twice, %d late", d.Round(ms),
		100*w.Loss, 100*w.Reorder, 100*w.Duplicate, w.Delay.Round(ms), w.Jitter.Round(ms), n.Lost, n.Twice, n.Late)
	return nil
}
