package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"hotdesk/tools/fleet/internal/crowd"
	"hotdesk/tools/fleet/internal/figures"
	"hotdesk/tools/fleet/internal/harm"
)

const (
	// alive is how old a picture's clock may be: it is drawn every second.
	alive = 1500 * time.Millisecond
	// quiet is how long all pictures must be alive to have recovered.
	quiet = time.Second
	// recoverWithin is how long that may take before the next fault.
	recoverWithin = 30 * time.Second
	// labSize is how large the file system is that is filled.
	labSize = "256m"
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

// breaks breaks things till ctx ends, one after the other. The last one is
// begun early enough that the end finds everything mended.
func (r *run) breaks(ctx context.Context) error {
	h := &harm.Harm{Hosts: r.hosts, Bay: r.bay, Calm: r.scene.Weather, Judge: r.judge, Cards: r.tokens(), Full: r.small}
	h.Seed(r.Seed)
	rng := h.Pauses()
	stop := time.NewTimer(r.Lasts - min(r.Lasts/5, 15*time.Second))
	defer stop.Stop()
	defer func() { r.doubled = h.Doubled }()
	for {
		t := time.NewTimer(time.Duration(float64(r.Every) * (.5 + rng.Float64())))
		select {
		case <-t.C:
		case <-stop.C:
			t.Stop()
			return nil
		case <-ctx.Done():
			t.Stop()
			return nil
		}
		at := r.crowd.At()
		what, cards, err := h.Do(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("fault at %.1f s, %s: %w", at.Seconds(), what, err)
		}
		took, waiting := r.recovered(ctx, at)
		r.book.Fault(figures.Fault{At: at, What: what, Took: took})
		if r.Verbose {
			fmt.Fprintf(r.Out, "%6.1f s  %s: recovered after %v\n", at.Seconds(), what, took)
		}
		if took == 0 && len(waiting) > 0 {
			r.book.Count("not recovered within 30 s: "+what, at)
			fmt.Fprintf(r.Out, "%6.1f s  %s: %d terminals have not recovered\n", at.Seconds(), what, len(waiting))
			for _, s := range waiting {
				fmt.Fprintf(r.Out, "          %+v\n", s)
			}
		}
		h.Sure(cards)
	}
}

// recovered waits till every card that is in has its picture, alive.
func (r *run) recovered(ctx context.Context, at time.Duration) (took time.Duration, waiting []crowd.State) {
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
		if now-at > recoverWithin {
			return 0, waiting
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, waiting
		}
	}
}

// logs copies the programs' logs.
func (r *run) logs(to string) error {
	if to == "" {
		return nil
	}
	err := errors.Join(os.MkdirAll(to, 0o755), os.CopyFS(to, os.DirFS(filepath.Join(r.lab.Dir, "log"))))
	if r.Verbose {
		err = errors.Join(err, os.Rename(filepath.Join(filepath.Dir(r.lab.Dir), "fleet.log"), filepath.Join(to, "fleet.log")))
	}
	return err
}
