package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
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
	labSize = "384m"
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
	h := &harm.Harm{Lab: r.lab, Hosts: r.hosts, Registry: r.registry, Bay: r.bay, Calm: r.scene.Weather, Judge: r.judge, At: r.crowd.At,
		Cards: r.tokens(), Full: r.small, Upgrade: r.Upgrade, Kinds: r.Kinds}
	if err := h.Seed(r.Seed); err != nil {
		return err
	}
	rng := h.Pauses()
	stop := time.NewTimer(r.Lasts - min(r.Lasts/5, 15*time.Second))
	defer stop.Stop()
	defer func() { r.doubled = h.Doubled() }()
	defer func() {
		if r.Enough > 0 && r.book.Faults() >= r.Enough {
			close(r.over)
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
		case <-ctx.Done():
			t.Stop()
			return nil
		}
		at := r.crowd.At()
		done, err := h.Do(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("fault at %.1f s: %w", at.Seconds(), err)
		}
		if len(done.What) == 0 {
			h.Sure(done.Cards)
			continue
		}
		took, waiting := r.recovered(ctx, at, recoverWithin)
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

// recovered waits till every card that is in has its picture, alive.
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
		case <-ctx.Done():
			return 0, waiting
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
