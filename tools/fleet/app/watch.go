package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"time"

	"hotdesk/protocol/program"
	"hotdesk/tools/fleet/internal/live"
	"hotdesk/tools/fleet/internal/wall"
)

const (
	// glance is how often a person sees how far the run is, and window the time
	// that rates and latencies are of.
	glance = 500 * time.Millisecond
	window = 10
	// askWithin bounds a request to the wall.
	askWithin = 10 * time.Second
)

// A past is what had been counted at a time.
type past struct {
	at      time.Duration
	counts  map[string]int
	lengths map[string]int
}

// watch shows how far the run is till ctx ends.
func (r *run) watch(ctx context.Context) {
	defer r.view.End()
	every, keep := max(r.Lasts/10, time.Second), 1
	if r.view.Person() {
		every, keep = glance, window
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	history := []past{{}}
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := past{r.crowd.At(), r.book.Counts(), r.book.Lengths()}
		r.view.Show(r.frame(history[0], now))
		if history = append(history, now); len(history) > keep {
			history = history[len(history)-keep:]
		}
	}
}

// frame is how the run stands, with what came since then.
func (r *run) frame(then, now past) live.Frame {
	v := r.judge.Verdict()
	f := live.Frame{
		Scenario: r.Scenario, At: now.at, Lasts: r.Lasts, Terminals: r.crowd.Terminals(), Looks: v.Looks, Faults: r.book.Faults(), Violations: v.Violations,
		Rates: live.Rates(then.counts, now.counts, now.at-then.at), Counts: now.counts, Lately: r.book.Lately(then.lengths), Wall: r.wall,
	}
	for _, s := range r.crowd.States() {
		if s.Control {
			f.Up++
		}
		if s.Card != 0 {
			f.Cards++
		}
		if s.Picture {
			f.Pictures++
		}
	}
	return f
}

// hang opens the wall, where one is asked for.
func (r *run) hang() (undo func(), err error) {
	if r.Wall == "" {
		return func() {}, nil
	}
	at, err := netip.ParseAddrPort(r.Wall)
	if err != nil || !at.Addr().IsLoopback() {
		return nil, program.Usagef("-wall %q is no ADDRESS:PORT on loopback", r.Wall)
	}
	l, err := net.Listen("tcp", r.Wall)
	if err != nil {
		return nil, fmt.Errorf("-wall: %w", err)
	}
	w := wall.New(r.crowd, func() string {
		f := r.frame(past{}, past{r.crowd.At(), r.book.Counts(), nil})
		return fmt.Sprintf("%s, %.0f of %.0f s: %d cards in, %d with their picture, %d faults, %d violations", f.Scenario, f.At.Seconds(), f.Lasts.Seconds(), f.Cards, f.Pictures, f.Faults, f.Violations)
	}, time.Now)
	s := &http.Server{Handler: w, ReadTimeout: askWithin, WriteTimeout: askWithin, IdleTimeout: askWithin, MaxHeaderBytes: 16 << 10, ErrorLog: log.New(io.Discard, "", 0)}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	r.wall = w.Guard().URL(l.Addr())
	fmt.Fprintf(r.Out, "wall: %s\n", r.wall)
	return func() {
		s.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintf(r.Out, "wall: %v\n", err)
		}
	}, nil
}
