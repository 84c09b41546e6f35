// Package registrytest has the in-memory twin of a registry's store, and the
// conformance suite that every store passes.
//
// Source: package registry, Store.
//
// A Memory is safe for concurrent use and may be the store of several
// registries at once.
package registrytest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/server/registry"
)

// ErrGone is what the users of a Memory get that was lost.
var ErrGone = errors.New("registrytest: the store is gone")

// Memory is a store.
type Memory struct {
	mu      sync.Mutex
	data    [][]byte
	lost    bool
	changed chan struct{}
}

// New makes an empty store.
func New() *Memory { return &Memory{changed: make(chan struct{})} }

// Connect is a registry.Config's.
func (m *Memory) Connect(context.Context) (registry.Store, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lost {
		return nil, ErrGone
	}
	return m, nil
}

// Lose takes the store from everybody, or gives it back.
func (m *Memory) Lose(lost bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost = lost
	m.news()
}

// Forget keeps only the first n changes, as a disk that was put back.
func (m *Memory) Forget(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data = m.data[:n]
	m.news()
}

func (m *Memory) news() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// Append stores data as change rev.
func (m *Memory) Append(_ context.Context, rev uint64, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.lost:
		return ErrGone
	case rev != uint64(len(m.data))+1:
		return registry.ErrConflict
	}
	m.data = append(m.data, bytes.Clone(data))
	m.news()
	return nil
}

// Get returns change rev.
func (m *Memory) Get(_ context.Context, rev uint64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.lost:
		return nil, ErrGone
	case rev == 0 || rev > uint64(len(m.data)):
		return nil, nil
	}
	return m.data[rev-1], nil
}

// Follow hands changes on.
func (m *Memory) Follow(ctx context.Context, after uint64, f func([][]byte) error) error {
	for first := true; ; first = false {
		m.mu.Lock()
		var data [][]byte
		if after < uint64(len(m.data)) {
			data = slices.Clone(m.data[after:])
		}
		lost, changed := m.lost, m.changed
		m.mu.Unlock()
		if lost {
			return ErrGone
		}
		after += uint64(len(data))
		if first || len(data) > 0 {
			if err := f(data); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// Close does nothing: others may use the store.
func (m *Memory) Close() error { return nil }

// patience bounds waits that only a defect makes long.
const patience = 20 * time.Second

// Run tests a store that open makes, empty.
func Run(t *testing.T, open func(*testing.T) registry.Store) {
	t.Run("append", func(t *testing.T) {
		s := open(t)
		ctx := t.Context()
		if err := s.Append(ctx, 2, []byte("b")); !errors.Is(err, registry.ErrConflict) {
			t.Errorf("change 2 of an empty store: %v", err)
		}
		if b, err := s.Get(ctx, 1); b != nil || err != nil {
			t.Errorf("change 1 of an empty store: %q, %v", b, err)
		}
		if err := s.Append(ctx, 1, []byte("a")); err != nil {
			t.Fatal(err)
		}
		if err := s.Append(ctx, 1, []byte("other")); !errors.Is(err, registry.ErrConflict) {
			t.Errorf("change 1 again: %v", err)
		}
		if err := s.Append(ctx, 3, []byte("c")); !errors.Is(err, registry.ErrConflict) {
			t.Errorf("change 3 before 2: %v", err)
		}
		big := bytes.Repeat([]byte("x"), registry.MaxData)
		if err := s.Append(ctx, 2, big); err != nil {
			t.Fatalf("the largest: %v", err)
		}
		if b, err := s.Get(ctx, 2); !bytes.Equal(b, big) || err != nil {
			t.Errorf("the largest: %d bytes, %v", len(b), err)
		}
		if b, err := s.Get(ctx, 1); string(b) != "a" || err != nil {
			t.Errorf("change 1: %q, %v", b, err)
		}
	})
	t.Run("one of many wins", func(t *testing.T) {
		s := open(t)
		var won sync.Map
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for rev := uint64(1); rev <= 5; rev++ {
					if err := s.Append(t.Context(), rev, []byte{byte(i)}); err == nil {
						if other, twice := won.LoadOrStore(rev, i); twice {
							t.Errorf("change %d was made by %d and %d", rev, other, i)
						}
					} else if !errors.Is(err, registry.ErrConflict) {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		for rev := uint64(1); rev <= 5; rev++ {
			i, ok := won.Load(rev)
			if b, err := s.Get(t.Context(), rev); !ok || err != nil || len(b) != 1 || int(b[0]) != i {
				t.Errorf("change %d: %v, %v, won by %v", rev, b, err, i)
			}
		}
	})
	t.Run("follow", func(t *testing.T) {
		s := open(t)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		const n = 200
		put := func(from, to int) {
			for i := from; i <= to; i++ {
				if err := s.Append(ctx, uint64(i), []byte{byte(i)}); err != nil {
					t.Fatal(err)
				}
			}
		}
		put(1, n)
		for _, after := range []int{0, 7, n} {
			next, calls, sofar := after+1, 0, make(chan struct{})
			end := n + 20
			inner, stop := context.WithCancel(ctx)
			var wg sync.WaitGroup
			wg.Go(func() {
				err := s.Follow(inner, uint64(after), func(data [][]byte) error {
					calls++
					for _, d := range data {
						if len(d) != 1 || d[0] != byte(next) {
							t.Errorf("change %d is %v", next, d)
						}
						next++
					}
					if calls == 1 && next < end {
						close(sofar)
					}
					if next > end {
						stop()
					}
					return nil
				})
				if err != nil && inner.Err() == nil {
					t.Error(err)
				}
				stop()
			})
			if after == 0 {
				select {
				case <-sofar:
				case <-ctx.Done():
					t.Fatal("nothing came")
				}
				put(n+1, n+20)
			}
			wg.Wait()
			stop()
			if next != end+1 {
				t.Errorf("after %d: up to %d came", after, next-1)
			}
		}
		fails := errors.New("enough")
		if err := s.Follow(ctx, 0, func([][]byte) error { return fails }); !errors.Is(err, fails) {
			t.Errorf("a reader that fails: %v", err)
		}
	})
}

// Put registers a token and returns the revision with it.
func Put(ctx context.Context, r *registry.Registry, name string) (uint64, error) {
	_, rev, err := r.Change(ctx, registry.By{Who: "test", Op: "put"}, func(*registry.Snapshot) ([]adminapi.Edit, error) {
		return []adminapi.Edit{adminapi.Put(adminapi.Record{Kind: adminapi.KindToken, Name: name})}, nil
	})
	return rev, err
}
