package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hotdesk/tools/fleet/internal/crowd"
	"hotdesk/tools/fleet/internal/figures"
	"hotdesk/tools/fleet/internal/harm"
	"hotdesk/tools/fleet/internal/lan"
	"hotdesk/tools/internal/debian"
)

const (
	// alive is how old a picture's clock may be: it is drawn every second.
	alive = 1500 * time.Millisecond
	// quiet is how long all pictures must be alive to have recovered.
	quiet = time.Second
	// recoverWithin is how long that may take before the next fault.
	recoverWithin = 30 * time.Second
	// labSize is how large the file system is that is filled.
	labSize = "384m"
	// leased is how many terminals have their address by DHCP where nothing is said.
	leased = 3
)

// tmpfs puts the lab on a file system that can be full; only root can.
func (r *run) tmpfs(dir string) (undo func() error, err error) {
	if !r.Faults || os.Geteuid() != 0 {
		return func() error { return nil }, nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=700,size="+labSize); err != nil {
		fmt.Fprintf(r.Out, "no file system that can be filled: %v\n", err)
		return func() error { return nil }, nil
	}
	r.small = dir
	return func() error { return unix.Unmount(dir, 0) }, nil
}

// dhcp makes the network on which some terminals have their addresses by DHCP.
func (r *run) dhcp(ctx context.Context, dir string, server netip.AddrPort) (undo func() error, err error) {
	undo = func() error { return nil }
	most := min(r.People*max(r.scene.Terminals, 100)/100+r.Resting, lan.MaxPorts)
	n, asked := r.DHCP, r.DHCP >= 0
	if !asked && r.Faults && os.Geteuid() == 0 {
		n = leased
	}
	if n = min(n, most); n <= 0 {
		return undo, nil
	}
	if os.Geteuid() != 0 {
		return undo, errors.New("-dhcp: only root can make the network namespaces that a DHCP server and its terminals are in")
	}
	if err = debian.Need(ctx, r.Out, debian.Addresses...); err == nil {
		r.lan, err = lan.Open(ctx, dir, n, server)
	}
	if err != nil && !asked {
		fmt.Fprintf(r.Out, "no terminals with DHCP: %v\n", err)
		return undo, nil
	}
	if err != nil {
		return undo, err
	}
	return r.lan.Close, nil
}

// breaks breaks things till the run is over, one after the other, and returns
// when all is mended.
func (r *run) breaks(ctx context.Context) error {
	h := &harm.Harm{Lab: r.lab, Hosts: r.hosts, Registry: r.registry, Bay: r.bay, Calm: r.scene.Weather, Judge: r.judge, At: r.crowd.At,
		Cards: r.tokens(), Seen: r.met, LAN: r.lan, Power: r.crowd.Power, Full: r.small, Upgrade: r.Upgrade, Kinds: r.Kinds}
	if err := h.Seed(r.Seed); err != nil {
		return err
	}
	rng := h.Pauses()
	stop := time.NewTimer(r.Lasts - min(r.Lasts/5, 15*time.Second))
	defer stop.Stop()
	defer func() { r.doubled = h.Doubled() }()
	defer func() {
		if r.Enough > 0 && r.book.Faults() >= r.Enough {
			r.end()
		}
	}()
	// Everybody who is early has come.
	r.recovered(ctx, r.crowd.At(), patience)
	for r.Enough == 0 || r.book.Faults() < r.Enough {
		t := time.NewTimer(time.Duration(float64(r.Every) * (.5 + rng.Float64())))
		select {
		case <-t.C:
		case <-stop.C:
			t.Stop()
			return nil
		case <-r.over:
			t.Stop()
			return nil
		case <-ctx.Done():
			t.Stop()
			return nil
		}
		r.lab.Reap(time.Now())
		at := r.crowd.At()
		done, err := h.Do(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("fault at %.1f s: %w", at.Seconds(), err)
		}
		for _, name := range slices.Concat(done.What, done.Void) {
			if strings.HasPrefix(name, harm.GatewayStarved) {
				r.starved++
			}
		}
		for _, why := range done.Void {
			r.book.Count(figures.Void, at)
			if r.Verbose {
				fmt.Fprintf(r.Out, "%6.1f s  no effect: %s\n", at.Seconds(), why)
			}
		}
		if len(done.What) == 0 {
			h.Sure(done.Cards)
			continue
		}
		took, waiting := r.recovered(ctx, at, recoverWithin)
		if took == 0 && len(waiting) == 0 { // nobody waits to see it: the run is over
			h.Sure(done.Cards)
			return nil
		}
		what := strings.Join(done.What, " and ")
		for i, name := range done.What {
			r.book.Fault(figures.Fault{At: at, What: name, Effect: done.Effects[i], Took: took})
			if r.Verbose {
				fmt.Fprintf(r.Out, "%6.1f s  %s: %s; recovered after %v\n", at.Seconds(), name, done.Effects[i], took)
			}
		}
		if took == 0 && len(waiting) > 0 {
			r.book.Count("not recovered within 30 s: "+what, at)
			fmt.Fprintf(r.Out, "%6.1f s  %s: %d terminals have not recovered\n", at.Seconds(), what, len(waiting))
			for _, s := range waiting {
				fmt.Fprintf(r.Out, "          %+v\n", s)
			}
		}
		h.Sure(done.Cards)
	}
	return nil
}

// recovered waits till every card that is in has its picture, alive. Where the
// run is over it returns 0 and nobody.
func (r *run) recovered(ctx context.Context, at, within time.Duration) (took time.Duration, waiting []crowd.State) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last := r.crowd.At()
	for {
		now := r.crowd.At()
		if waiting = r.crowd.Waiting(alive); len(waiting) > 0 {
			last = now
		}
		if now-last > quiet {
			return last - at, nil
		}
		if now-at > within {
			return 0, waiting
		}
		select {
		case <-tick.C:
		case <-r.over:
			return 0, nil
		case <-ctx.Done():
			return 0, nil
		}
	}
}

// logs copies the programs' logs, over those of a run before.
func (r *run) logs(to string) error {
	if to == "" {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(r.lab.Dir, "log", "*"))
	err = errors.Join(err, os.MkdirAll(to, 0o755))
	if r.Verbose {
		files = append(files, filepath.Join(filepath.Dir(r.lab.Dir), "fleet.log"))
	}
	for _, f := range files {
		err = errors.Join(err, copyFile(f, filepath.Join(to, filepath.Base(f))))
	}
	return err
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
