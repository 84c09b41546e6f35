package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/server/session/client"
	"hotdesk/server/session/keeperapi"
	"hotdesk/tools/fleet/internal/oracle"
	"hotdesk/tools/fleet/internal/remains"
	"hotdesk/tools/internal/lab"
)

const (
	// still is for how long a program's descriptors must be the same ones to have settled.
	still = time.Second / 2
	// settleWithin is how long that may take.
	settleWithin = 20 * time.Second
	// grown and grownEach are by how many MB a program may be larger than a fresh
	// one, and for each terminal: it does not give back at once what those took.
	grown, grownEach = 40, .5
	// looks is at how many sessions' media of a host is looked.
	looks = 2
	// xSockets is where X servers have theirs.
	xSockets = "/tmp/.X11-unix"
)

// met takes note of where a session has things.
func (r *run) met(h *lab.Host, id alp.SessionID, st client.Status) {
	r.places.Add(keeperapi.Dir(h.Runtime, id), keeperapi.Lock(h.Runtime, id))
	if number, ok := strings.CutPrefix(st.Display, ":"); ok {
		r.places.Add(xSockets + "/X" + number)
	}
	if groups, err := os.ReadFile(keeperapi.Groups(h.Runtime, id)); err == nil { // there may be none
		r.places.Add(strings.Fields(string(groups))...)
	}
}

// A daemon is one that is compared with the one which comes after it.
type daemon struct {
	name  string
	log   string // file
	pid   func() (int, error)
	again func(ctx context.Context) error // returns when the next one is there; the last one has ended
}

// remains compares what programs have open and under way, now that nobody is
// there any longer, with what fresh ones have.
func (r *run) remains(ctx context.Context, at time.Duration) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, h := range r.hosts {
		wg.Go(func() {
			ids, _ := h.Sessions() // without them nothing is forgiven
			may := remains.Margin{Each: len(ids), MB: grown + grownEach*float64(r.crowd.Terminals())}
			for _, p := range append(r.media(ctx, h), r.daemons(h)...) {
				old, fresh, err := r.both(ctx, p)
				if err != nil {
					r.judge.Found(at, oracle.Leaked, fmt.Sprintf("%s of %s cannot be looked at: %v", p.name, h.Name, err))
					return
				}
				if r.Verbose {
					fmt.Fprintf(r.Out, "%s of %s: %v; a fresh one %v\n", p.name, h.Name, old, fresh)
				}
				for _, what := range remains.Leaks(old, fresh, may) {
					r.judge.Found(at, oracle.Leaked, fmt.Sprintf("%s of %s has %s", p.name, h.Name, what))
				}
			}
		})
	}
}

// daemons are those of a host.
func (r *run) daemons(h *lab.Host) []daemon {
	server := r.lab.Path("log", "server-"+h.Name+".log")
	gateway := func(ctx context.Context) error { return r.gateway(ctx, h) }
	return []daemon{
		{"gateway", server, h.Gateway, gateway},
		{"group manager", r.lab.Path("log", "groupmgr-"+h.Name+".log"), func() (int, error) { return h.GroupMgr.PID(), nil }, func(ctx context.Context) error {
			<-h.GroupMgr.Done()
			if err := h.StartGroupMgr(ctx); err != nil {
				return err
			}
			return gateway(ctx)
		}},
		{"server parent", server, func() (int, error) { return h.Server.PID(), nil }, func(ctx context.Context) error {
			<-h.Server.Done()
			if err := h.StartServer(ctx); err != nil {
				return err
			}
			return gateway(ctx)
		}},
	}
}

// media are those of some of a host's sessions. Only root can look into them.
func (r *run) media(ctx context.Context, h *lab.Host) (some []daemon) {
	ids, _ := h.Sessions() // without them there is nothing to look at
	for _, id := range ids[:min(len(ids), looks)] {
		pid := func() (int, error) {
			st, _, err := h.Keeper(ctx, id)
			if err == nil && st.Media == 0 {
				err = errors.New("it does not run")
			}
			return st.Media, err
		}
		was, err := pid()
		if err != nil || os.Geteuid() != 0 {
			continue // the session is being made, or ends
		}
		some = append(some, daemon{"media of session " + string(id), filepath.Join(keeperapi.Dir(h.Runtime, id), "keeper.log"), pid, func(ctx context.Context) error {
			if !poll(ctx, 50*time.Millisecond, func() bool {
				now, err := pid()
				if err != nil || now == was {
					return false
				}
				was = now
				return true
			}) {
				return fmt.Errorf("the one after process %d does not come: %w", was, ctx.Err())
			}
			return nil
		}})
	}
	return some
}

// both looks at a program and at the one that comes after it, and leaves a third.
func (r *run) both(ctx context.Context, p daemon) (old, fresh remains.Program, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, l := range []*remains.Program{&old, &fresh} {
		if *l, err = last(ctx, p); err == nil {
			err = p.again(ctx)
		}
		if err != nil {
			return old, fresh, err
		}
	}
	return old, fresh, nil
}

// gateway waits for a host's gateway that knows the sessions, the registry and
// the group manager.
func (r *run) gateway(ctx context.Context, h *lab.Host) error {
	ids, err := h.Sessions()
	if err != nil {
		return err
	}
	var st adminapi.Status
	if !poll(ctx, 50*time.Millisecond, func() bool {
		err = h.Admin(ctx, "/status", &st)
		return err == nil && st.Sessions == len(ids) && st.Group != nil && (r.registry == nil || st.Registry.Connected)
	}) {
		return fmt.Errorf("no gateway that knows %d sessions, the registry and the group: %+v, %w", len(ids), st, err)
	}
	return nil
}

// last has a program end once it has settled, and returns what it had till then.
func last(ctx context.Context, p daemon) (l remains.Program, err error) {
	pid, err := p.pid()
	if err != nil {
		return l, err
	}
	settling, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	since := time.Now()
	poll(settling, 100*time.Millisecond, func() bool {
		now, failed := remains.Descriptors(pid)
		if !maps.Equal(now, l.Descriptors) {
			l.Descriptors, since = now, time.Now()
		}
		err = failed
		return failed != nil || time.Since(since) >= still
	})
	if err != nil {
		return l, err
	}
	kb, err := lab.PSS(pid)
	if err != nil {
		return l, err
	}
	l.MB = float64(kb) / 1000
	before, err := os.Stat(p.log)
	if err != nil {
		return l, err
	}
	lab.Signal([]int{pid}, syscall.SIGQUIT)
	if !poll(ctx, 10*time.Millisecond, func() bool { return !lab.Lives(pid) }) {
		return l, fmt.Errorf("it does not end by SIGQUIT: %w", ctx.Err())
	}
	// What it wrote may be on its way still, through its keeper.
	said := 0
	if !poll(ctx, 50*time.Millisecond, func() bool {
		text, failed := os.ReadFile(p.log)
		if err = failed; err != nil {
			return true
		}
		text = text[min(before.Size(), int64(len(text))):]
		was := said
		said = len(text)
		l.Goroutines = remains.Goroutines(string(text))
		return len(l.Goroutines) > 0 && said == was
	}) {
		return l, fmt.Errorf("process %d does not write what its goroutines do: %w", pid, ctx.Err())
	}
	return l, err
}

// poll asks again and again till the answer is yes, and whether it came to that.
func poll(ctx context.Context, every time.Duration, done func() bool) bool {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// logged judges the programs' logs. Those of sessions go with them: they are put
// beside the others.
func (r *run) logged(at time.Duration) error {
	for _, h := range r.hosts {
		ids, err := h.Sessions()
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := copyFile(filepath.Join(keeperapi.Dir(h.Runtime, id), "keeper.log"), r.lab.Path("log", "keeper-"+string(id)+".log")); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	files, err := filepath.Glob(r.lab.Path("log", "*.log"))
	if err != nil {
		return err
	}
	for _, file := range files {
		name := filepath.Base(file)
		if name == "desks.log" {
			continue // the fleet's own
		}
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		l, err := remains.ReadLog(f, r.crowd.Terminals())
		f.Close()
		if err != nil {
			return err
		}
		for _, what := range l.Noise {
			r.judge.Found(at, oracle.Noise, name+": "+what)
		}
		for _, line := range slices.DeleteFunc(l.Crashes, r.asked) {
			r.judge.Found(at, oracle.Crash, name+": "+line)
		}
	}
	return nil
}

// asked says whether a crash is what one of the faults was to bring about.
func (r *run) asked(line string) bool {
	if r.starved == 0 || !strings.HasPrefix(line, "fatal error: ") {
		return false
	}
	r.starved--
	return true
}
