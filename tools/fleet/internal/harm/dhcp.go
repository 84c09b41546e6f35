package harm

import (
	"context"
	"net/netip"
	"syscall"
	"time"

	"hotdesk/dtu/bootstrap"
	"hotdesk/tools/fleet/internal/lan"
	"hotdesk/tools/internal/lab"
)

const dhcpGone = "DHCP server gone"

// dhcp kills or stops the DHCP server for a while. Who has an address keeps it;
// a terminal that is switched on meanwhile asks in vain, and has one soon after
// the server is back.
func (b *blow) dhcp(ctx context.Context, _ *lab.Host) error {
	ports := b.LAN.Ports()
	victim := ports[b.rng.IntN(len(ports))]
	had := map[*lan.Port]lease{}
	for _, p := range ports {
		if p != victim {
			had[p] = leaseOf(p)
		}
	}
	how := "stopped"
	if killed := b.rng.IntN(2) == 0; killed {
		how = "killed"
		b.LAN.Kill()
	} else {
		lab.Signal([]int{b.LAN.Server()}, syscall.SIGSTOP)
	}
	asks := b.inVain(ctx, victim)
	d := b.time(200*time.Millisecond, 4*time.Second)
	wait(ctx, d)
	_, _, meanwhile := victim.Now()
	if how == "killed" {
		if err := b.LAN.Start(); err != nil {
			return err
		}
	} else {
		lab.Signal([]int{b.LAN.Server()}, syscall.SIGCONT)
	}
	switch {
	case ctx.Err() != nil:
		return nil
	case !asks:
		return b.nothing("%s, but terminal %d was not switched on meanwhile", how, victim.N)
	case meanwhile.Lease.Addr.IsValid():
		return b.nothing("%s, but terminal %d has the address %v", how, victim.N, meanwhile.Lease.Addr)
	}
	_, times, _ := victim.Now()
	if !until(ctx, seenWithin, func() bool {
		on, now, state := victim.Now()
		return state.Lease.Addr.IsValid() || !on || now != times // others switch it too
	}) && ctx.Err() == nil {
		b.wrong("%v after the DHCP server is back terminal %d has no address", seenWithin, victim.N)
	}
	kept := 0
	for p, before := range had {
		switch now := leaseOf(p); {
		case !before.addr.IsValid() || before.times != now.times:
		case now.addr != before.addr:
			b.wrong("terminal %d had the address %v, and has %v since the DHCP server was %s", p.N, before.addr, now.addr, how)
		default:
			kept++
		}
	}
	b.saw("%s; terminal %d was switched on meanwhile and for %v had no address, %d others kept theirs", how, victim.N, d.Round(time.Millisecond), kept)
	return nil
}

// inVain switches a terminal off and on, and waits till it asks for an address.
func (b *blow) inVain(ctx context.Context, p *lan.Port) (asks bool) {
	_, before, _ := p.Now()
	b.Power(p.N, false)
	off := until(ctx, seenWithin, func() bool { on, _, _ := p.Now(); return !on })
	b.Power(p.N, true)
	return off && until(ctx, seenWithin, func() bool {
		on, times, state := p.Now()
		return on && times > before && state.Phase == bootstrap.Selecting
	})
}

// A lease is what a terminal has from the DHCP server.
type lease struct {
	addr  netip.Addr
	times int // that it was switched on
}

func leaseOf(p *lan.Port) lease {
	_, times, state := p.Now()
	return lease{state.Lease.Addr, times}
}
