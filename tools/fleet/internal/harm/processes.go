package harm

import (
	"context"
	"net/netip"
	"syscall"
	"time"

	"hotdesk/tools/fleet/internal/patchbay"
	"hotdesk/tools/fleet/internal/scenario"
	"hotdesk/tools/internal/lab"
)

// stop halts a process for a while.
func (b *blow) stop(ctx context.Context, pid int) error {
	d := b.time(200*time.Millisecond, 4*time.Second)
	b.saw("process %d, for %v", pid, d.Round(time.Millisecond))
	lab.Signal([]int{pid}, syscall.SIGSTOP)
	wait(ctx, d)
	lab.Signal([]int{pid}, syscall.SIGCONT)
	return nil
}

func (b *blow) killGateway(ctx context.Context, host *lab.Host) error {
	pid, err := host.Gateway()
	if err != nil {
		return b.nothing("no gateway runs just now")
	}
	b.saw("process %d", pid)
	return lab.Kill(ctx, pid)
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
		b.saw("process %d of session %s", pid(s), s.id)
		lab.Signal([]int{pid(s)}, syscall.SIGKILL)
		return nil
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
	d := b.time(time.Second, 6*time.Second)
	b.saw("for %v", d.Round(time.Millisecond))
	wait(ctx, d)
	host.Resume()
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
	b.Bay.Cut(at.Addr(), ways)
	d := b.time(500*time.Millisecond, 6*time.Second)
	b.saw("for %v", d.Round(time.Millisecond))
	wait(ctx, d)
	b.Bay.Cut(at.Addr(), 0)
	return nil
}

func (b *blow) weather(ctx context.Context, _ *lab.Host) error {
	ms := time.Millisecond
	w := scenario.Weather{
		Loss: .3 * b.rng.Float64(), Reorder: .2 * b.rng.Float64(), Duplicate: .2 * b.rng.Float64(),
		Delay: b.time(0, 80*ms), Jitter: b.time(0, 80*ms),
	}
	b.saw("loss %.0f %%, reorder %.0f %%, duplicate %.0f %%, delay %v, jitter %v", 100*w.Loss, 100*w.Reorder, 100*w.Duplicate, w.Delay.Round(ms), w.Jitter.Round(ms))
	b.Bay.Weather(w)
	wait(ctx, b.time(time.Second, 5*time.Second))
	b.Bay.Weather(b.Calm)
	return nil
}

func (b *blow) away(ctx context.Context, _ *lab.Host) error {
	d := b.time(100*time.Millisecond, 3*time.Second)
	b.saw("for %v", d.Round(time.Millisecond))
	b.Bay.Weather(scenario.Weather{Loss: 1})
	wait(ctx, d)
	b.Bay.Weather(b.Calm)
	return nil
}
