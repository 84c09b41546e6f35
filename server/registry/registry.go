package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"hotdesk/protocol/adminapi"
)

// Errors that callers decide on.
var (
	// ErrAway means that no change can be made now; what is known goes on.
	ErrAway = errors.New("registry: the registry is away: what is registered goes on, changes wait until it is back (`hotdesk registry status`)")
	// ErrConflict means that someone else has made a change.
	ErrConflict = errors.New("registry: someone else has changed the registry: look at it again")
	// ErrDiverged means that the store has other changes than this host's copy.
	ErrDiverged = errors.New("registry: the registry there has other changes than this host's copy: if that one is right, `hotdesk registry accept` takes it and puts the copy aside")
	// ErrNoRevision means that there is none of that number.
	ErrNoRevision = errors.New("registry: there is no such revision: `hotdesk registry history` lists them")
)

// A Store holds the changes of a registry for all hosts, as opaque data under
// rising numbers that begin with 1. Its methods are safe for concurrent use.
type Store interface {
	// Append stores data as change rev. It is ErrConflict where there is one
	// of that number, or none of the number before.
	Append(ctx context.Context, rev uint64, data []byte) error
	// Get returns change rev, nil where there is none.
	Get(ctx context.Context, rev uint64) ([]byte, error)
	// Follow hands the changes after a number to f, in order, some at a time;
	// first those that are there, if need be none, then new ones as they come.
	// It returns when ctx ends, f fails, or the store is lost.
	Follow(ctx context.Context, after uint64, f func(data [][]byte) error) error
	Close() error
}

// Config says where a registry is.
type Config struct {
	Dir  string // of the copy
	Host string // that changes are made on
	// Mode is for people: what Connect connects to.
	Mode string
	// Connect opens the store; nil where there is none but the copy. It is
	// tried for ever.
	Connect func(context.Context) (Store, error)
	// Owner means that the store is this host's own: an empty one is filled
	// from the copy, and it alone is right.
	Owner bool
	Log   *slog.Logger // nil: silent
}

const (
	retryFirst = 100 * time.Millisecond
	retryMost  = 5 * time.Second
	storeTime  = 5 * time.Second // for one request to the store
	tries      = 8               // of a change against others' changes
)

// A Registry is this host's copy, and the way to the store.
type Registry struct {
	conf Config
	snap atomic.Pointer[Snapshot]

	mu       sync.Mutex
	store    Store // nil while away
	since    time.Time
	err      error
	diverged bool
	changed  chan struct{} // closed at every news
	accept   bool          // an admin takes the other changes
	wake     chan struct{}

	// Serve's alone.
	sum  sum
	copy *diskCopy
}

// Open reads the copy. The store is connected to by Serve.
func Open(conf Config) (*Registry, error) {
	if conf.Log == nil {
		conf.Log = slog.New(slog.DiscardHandler)
	}
	r := &Registry{conf: conf, changed: make(chan struct{}), wake: make(chan struct{}, 1), since: time.Now()}
	var err error
	r.copy, err = openCopy(conf.Dir, func(c Change, raw []byte) error {
		if !r.sum.follows(c) {
			return fmt.Errorf("change %d does not follow change %d: put the file aside, and the registry is fetched anew", c.Rev, r.sum.rev)
		}
		r.sum.add(c, hash(raw))
		return nil
	})
	if err != nil {
		return nil, err
	}
	r.snap.Store(r.sum.snapshot())
	return r, nil
}

// Snapshot is the registry as this host knows it now.
func (r *Registry) Snapshot() *Snapshot { return r.snap.Load() }

// Serve connects to the store, for ever, and follows it until ctx ends. It
// closes the copy at the end.
func (r *Registry) Serve(ctx context.Context) {
	defer r.copy.close()
	if r.conf.Connect == nil {
		<-ctx.Done()
		return
	}
	pause, told := retryFirst, ""
	for ctx.Err() == nil {
		up, err := r.once(ctx)
		if ctx.Err() != nil {
			return
		}
		r.set(nil, err)
		if up {
			pause, told = retryFirst, ""
		}
		if text := err.Error(); text != told {
			r.conf.Log.Warn("registry is away", "registry", r.conf.Mode, "err", err)
			told = text
		}
		select {
		case <-time.After(pause):
		case <-r.wake:
			pause = retryFirst
		case <-ctx.Done():
		}
		pause = min(2*pause, retryMost)
	}
}

// once is one connection; up tells whether the store could be used.
func (r *Registry) once(ctx context.Context) (up bool, err error) {
	store, err := r.conf.Connect(ctx)
	if err != nil {
		return false, err
	}
	defer store.Close()
	if err := r.meet(ctx, store); err != nil {
		return false, err
	}
	err = store.Follow(ctx, r.sum.rev, func(data [][]byte) error {
		if err := r.take(data); err != nil {
			return err
		}
		if !up {
			up = true
			r.conf.Log.Info("registry connected", "registry", r.conf.Mode, "rev", r.sum.rev)
		}
		r.set(store, nil)
		return nil
	})
	r.set(nil, err) // before the store is closed: no change goes there any more
	if err == nil {
		err = errors.New("registry: the connection is lost")
	}
	return up, err
}

// meet finds out whether the store goes on where the copy ends.
func (r *Registry) meet(ctx context.Context, store Store) error {
	if r.sum.rev == 0 {
		return nil
	}
	within, cancel := context.WithTimeout(ctx, storeTime)
	data, err := store.Get(within, r.sum.rev)
	cancel()
	if err != nil {
		return err
	}
	if data != nil {
		b, err := unpack(data)
		if err != nil {
			return err
		}
		if hash(b) == r.sum.hash {
			return nil
		}
	}
	if data == nil && r.conf.Owner {
		return r.fill(ctx, store)
	}
	r.mu.Lock()
	yes := r.accept
	r.accept = false
	r.diverged = !yes
	r.mu.Unlock()
	if !yes {
		return ErrDiverged
	}
	old, err := r.copy.aside(time.Now())
	if err != nil {
		return err
	}
	r.conf.Log.Warn("registry's copy put aside", "file", old, "rev", r.sum.rev)
	r.sum = sum{}
	return nil
}

// fill brings a store of our own up to the copy: its disk was lost, or this
// host has become the registry.
func (r *Registry) fill(ctx context.Context, store Store) error {
	r.conf.Log.Warn("registry is filled from this host's copy", "rev", r.sum.rev)
	return scan(r.conf.Dir, func(c Change, b []byte) error {
		data, err := pack(b)
		if err != nil {
			return err
		}
		within, cancel := context.WithTimeout(ctx, storeTime)
		defer cancel()
		have, err := store.Get(within, c.Rev)
		switch {
		case err != nil:
			return err
		case have == nil:
			return store.Append(within, c.Rev, data)
		}
		if have, err = unpack(have); err == nil && hash(have) != hash(b) {
			err = ErrDiverged
		}
		return err
	})
}

// take adds changes to the copy.
func (r *Registry) take(data [][]byte) error {
	var lines [][]byte
	next := sum{rev: r.sum.rev, hash: r.sum.hash}
	var changes []Change
	for _, d := range data {
		b, err := unpack(d)
		if err != nil {
			return err
		}
		c, err := decode(b)
		if err != nil {
			return err
		}
		if !next.follows(c) {
			return ErrDiverged
		}
		next.rev, next.hash = c.Rev, hash(b)
		lines, changes = append(lines, b), append(changes, c)
	}
	if len(lines) == 0 {
		return nil
	}
	if err := r.copy.write(lines); err != nil {
		return err
	}
	for i, c := range changes {
		r.sum.add(c, hash(lines[i]))
	}
	r.snap.Store(r.sum.snapshot())
	return nil
}

// set notes how the store is and tells whoever waits.
func (r *Registry) set(store Store, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if (r.store == nil) != (store == nil) {
		r.since = time.Now()
	}
	if r.store = store; store != nil {
		r.diverged = false
	}
	r.err = err
	close(r.changed)
	r.changed = make(chan struct{})
}

// News returns a channel that is closed when the snapshot or the state of the
// store may have changed.
func (r *Registry) News() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// Status is how the registry does.
func (r *Registry) Status() adminapi.RegistryStatus {
	s := r.Snapshot()
	r.mu.Lock()
	defer r.mu.Unlock()
	out := adminapi.RegistryStatus{
		Mode: r.conf.Mode, Connected: r.store != nil, Since: r.since, Diverged: r.diverged,
		Rev: s.Rev, Hash: s.Hash, Records: len(s.records), Dir: r.conf.Dir,
	}
	if r.err != nil && r.store == nil {
		out.Error = r.err.Error()
	}
	return out
}

// Accept puts the copy aside at the next connect, where it differs.
func (r *Registry) Accept() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.diverged {
		return adminapi.Invalid{Text: "the registry and this host's copy agree: there is nothing to accept"}
	}
	r.accept = true
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return nil
}

// By says who makes a change, how.
type By struct {
	Who string // the admin
	Op  string // the command, without secrets
}

// Change makes one change: edits gets the records as they are and returns what
// is to be done to them; it may be called several times. Change returns the
// registry's revision with it, the present one where nothing was to be done.
// The error is an adminapi.Invalid where the admin asked for what cannot be.
func (r *Registry) Change(ctx context.Context, by By, edits func(*Snapshot) ([]adminapi.Edit, error)) (before, after uint64, err error) {
	for range tries {
		s := r.Snapshot()
		todo, err := edits(s)
		if err != nil {
			return s.Rev, 0, err
		}
		next := adminapi.Apply(s.records, todo)
		if err := adminapi.CheckAll(next); err != nil {
			return s.Rev, 0, err
		}
		todo = adminapi.Diff(s.records, next)
		if len(todo) == 0 {
			return s.Rev, s.Rev, nil
		}
		c := Change{Prev: s.Hash, Edits: todo, Change: adminapi.Change{
			Rev: s.Rev + 1, When: time.Now().UTC().Truncate(time.Millisecond), Who: cut(by.Who), Host: cut(r.conf.Host), Op: cut(by.Op), Records: len(todo),
		}}
		if s.Rev == 0 {
			c.Prev = first()
		}
		err = r.append(ctx, c)
		if err == nil {
			return s.Rev, c.Rev, r.wait(ctx, c.Rev)
		}
		if !errors.Is(err, ErrConflict) {
			return s.Rev, 0, err
		}
		if err := r.wait(ctx, c.Rev); err != nil { // the other's change
			return s.Rev, 0, err
		}
	}
	return r.Snapshot().Rev, 0, ErrConflict
}

func cut(s string) string { return s[:min(len(s), maxWho)] }

func (r *Registry) append(ctx context.Context, c Change) error {
	if c.Rev > MaxHistory {
		return adminapi.Invalid{Text: fmt.Sprintf("the registry has had %d changes, and keeps no more: export it, and import it into a new one", MaxHistory)}
	}
	b, err := c.encode()
	if err != nil {
		return err
	}
	data, err := pack(b)
	if err != nil {
		return err
	}
	r.mu.Lock()
	store := r.store
	r.mu.Unlock()
	if store == nil {
		return ErrAway
	}
	within, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	if err := store.Append(within, c.Rev, data); err != nil {
		if errors.Is(err, ErrConflict) {
			return err
		}
		return fmt.Errorf("%w: %w; whether this change was made, `hotdesk registry history` tells later", ErrAway, err)
	}
	return nil
}

// wait waits until the copy has change rev.
func (r *Registry) wait(ctx context.Context, rev uint64) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	for {
		news := r.News()
		if r.Snapshot().Rev >= rev {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("registry: change %d is made, but has not come back: %w", rev, ctx.Err())
		}
	}
}

// At returns the registry as it was at a revision.
func (r *Registry) At(rev uint64) (*Snapshot, error) {
	now := r.Snapshot()
	if rev == now.Rev {
		return now, nil
	}
	if rev > now.Rev {
		return nil, ErrNoRevision
	}
	var s sum
	stop := errors.New("far enough")
	err := scan(r.conf.Dir, func(c Change, raw []byte) error {
		if c.Rev > rev {
			return stop
		}
		s.add(c, hash(raw))
		return nil
	})
	if err != nil && !errors.Is(err, stop) {
		return nil, err
	}
	return s.snapshot(), nil
}

// History returns the last changes, at most limit, the oldest first.
func (r *Registry) History(limit int) ([]adminapi.Change, error) {
	ring := make([]adminapi.Change, 0, limit)
	err := scan(r.conf.Dir, func(c Change, _ []byte) error {
		if len(ring) == limit {
			copy(ring, ring[1:])
			ring = ring[:limit-1]
		}
		ring = append(ring, c.Change)
		return nil
	})
	return ring, err
}
