package parent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/cgroup"
	"hotdesk/server/session/keeperapi"
	"hotdesk/server/session/sweep"
)

const (
	// discardTime bounds the end of what a dead keeper's session left running.
	discardTime = 2 * time.Second
	// sweepTime bounds the removal of the files that it left.
	sweepTime = 10 * time.Second
	// againFirst and againMost are the pauses before what could not be removed is
	// tried again, doubled each time.
	againFirst = 10 * time.Second
	againMost  = 10 * time.Minute
	// maxTries is how often it is tried, an hour long; then it is for the next
	// parent, or for somebody with hands.
	maxTries = 12
)

// remains are what sessions have left whose keepers are dead. It is safe for
// concurrent use.
type remains struct {
	runtime string
	log     *slog.Logger
	remove  func(id alp.SessionID, base string) error
	wake    chan struct{} // capacity 1: there is something new

	mu   sync.Mutex
	left map[alp.SessionID]*remain
}

// A remain is what one session has left.
type remain struct {
	base  string // where its frame buffer was
	tries int
	due   time.Time
	busy  bool // somebody removes it
}

func newRemains(runtime string, log *slog.Logger) *remains {
	return &remains{
		runtime: runtime, log: log, wake: make(chan struct{}, 1), left: map[alp.SessionID]*remain{},
		remove: func(id alp.SessionID, base string) error { return removeSession(runtime, id, base) },
	}
}

// add has run remove what a session left. One that is known already is left to
// its turn.
func (r *remains) add(id alp.SessionID, base string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left[id] != nil {
		return
	}
	r.log.Warn("a session's keeper is dead: its files are removed", "session", id)
	r.left[id] = &remain{base: base, due: time.Now()}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// clear removes what a session left now, or has run do the rest.
func (r *remains) clear(id alp.SessionID, base string) {
	r.mu.Lock()
	m := r.left[id]
	if m == nil {
		m = &remain{base: base}
		r.left[id] = m
	}
	if m.busy {
		r.mu.Unlock()
		return
	}
	m.busy = true
	r.mu.Unlock()
	err := r.remove(id, m.base)
	r.mu.Lock()
	defer r.mu.Unlock()
	m.busy = false
	m.tries++
	paths := []any{"session", id, "files", filepath.Join(m.base, string(id)), "lock", keeperapi.Lock(r.runtime, id)}
	switch {
	case err == nil:
		if m.tries > 1 {
			r.log.Info("all that a dead session left is removed", "session", id, "tries", m.tries)
		}
		delete(r.left, id)
	case m.tries >= maxTries:
		m.due = time.Time{}
		r.log.Error("what a dead session left cannot be removed: remove it by hand, the lock last, or start the server again", append(paths, "tries", m.tries, "error", err)...)
	default:
		pause := min(againFirst<<(m.tries-1), againMost)
		m.due = time.Now().Add(pause)
		r.log.Warn("a dead session has left what is not removed yet", append(paths, "again", pause, "error", err)...)
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// next is what is due first.
func (r *remains) next() (id alp.SessionID, m remain, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, l := range r.left {
		if !l.busy && !l.due.IsZero() && (!ok || l.due.Before(m.due)) {
			id, m, ok = i, *l, true
		}
	}
	return id, m, ok
}

// run goes on until ctx ends.
func (r *remains) run(ctx context.Context) {
	for {
		var due <-chan time.Time
		id, m, ok := r.next()
		if ok {
			due = time.After(time.Until(m.due))
		}
		select {
		case <-due:
			r.clear(id, m.base)
		case <-r.wake:
		case <-ctx.Done():
			return
		}
	}
}

// removeSession removes what a session has left whose keeper is dead: processes
// in its control group, then files. Where it does not come to the end of them
// the lock file stays, by which it is found again; while that is there no other
// session has this id.
func removeSession(runtime string, id alp.SessionID, base string) error {
	if _, err := os.Lstat(keeperapi.Lock(runtime, id)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), discardTime)
	defer cancel()
	if text, err := readSome(keeperapi.Groups(runtime, id)); err == nil { // before the files that they may hold open
		if err := cgroup.Discard(ctx, string(id), strings.Split(text, "\n")); err != nil {
			return fmt.Errorf("parent: session %s: %w", id, err)
		}
	}
	if text, err := readSome(keeperapi.XSocket(runtime, id)); err == nil {
		x, _ := sweep.ParseSocket(text) // of what a full disk did not take, none
		if err := x.Remove(); err != nil {
			return fmt.Errorf("parent: session %s: %w", id, err)
		}
	}
	ctx, cancel = context.WithTimeout(context.Background(), sweepTime)
	defer cancel()
	return removeFiles(ctx, runtime, id, base)
}

// removeFiles removes them until ctx ends.
func removeFiles(ctx context.Context, runtime string, id alp.SessionID, base string) error {
	if base != "" {
		if err := sweep.All(ctx, filepath.Join(base, string(id))); err != nil {
			return fmt.Errorf("parent: files of session %s: %w", id, err)
		}
	}
	if err := os.RemoveAll(keeperapi.Dir(runtime, id)); err != nil {
		return fmt.Errorf("parent: session %s: %w", id, err)
	}
	if err := os.Remove(keeperapi.Lock(runtime, id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("parent: session %s: %w", id, err)
	}
	return nil
}

// readSome reads a small file of ours.
func readSome(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4*maxBasePath))
	return string(b), err
}
