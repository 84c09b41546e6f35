package registry_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"hotdesk/protocol/adminapi"
	"hotdesk/server/registry"
	"hotdesk/server/registry/registrytest"
)

func open(t *testing.T, dir string, m *registrytest.Memory, owner bool) *registry.Registry {
	t.Helper()
	r, err := registry.Open(registry.Config{Dir: dir, Host: "north", Connect: m.Connect, Owner: owner, Mode: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// serve runs r until the function it returns is called.
func serve(t *testing.T, r *registry.Registry) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { r.Serve(ctx) })
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

func token(name, user string) adminapi.Record {
	return adminapi.Record{Kind: adminapi.KindToken, Name: name, Fields: map[string]string{"user": user}}
}

func put(ctx context.Context, r *registry.Registry, rec adminapi.Record) (uint64, error) {
	_, after, err := r.Change(ctx, registry.By{Who: "root", Op: "test"}, func(*registry.Snapshot) ([]adminapi.Edit, error) {
		return []adminapi.Edit{adminapi.Put(rec)}, nil
	})
	return after, err
}

// mustPut puts a record and fails the test when the revision is another.
func mustPut(t *testing.T, r *registry.Registry, rec adminapi.Record, want uint64) {
	t.Helper()
	if rev, err := put(t.Context(), r, rec); err != nil || rev != want {
		t.Fatalf("%s: revision %d, %v; want %d", rec.Name, rev, err, want)
	}
}

func TestChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := registrytest.New()
		a, b := open(t, t.TempDir(), m, false), open(t, t.TempDir(), m, false)
		if _, err := put(t.Context(), a, token("card.1", "ann")); !errors.Is(err, registry.ErrAway) {
			t.Errorf("before Serve: %v", err)
		}
		serve(t, a)
		serve(t, b)
		synctest.Wait()
		mustPut(t, a, token("card.1", "ann"), 1)
		mustPut(t, b, token("card.2", "bob"), 2)
		mustPut(t, a, token("card.2", "bob"), 2) // says the same
		synctest.Wait()
		for i, r := range []*registry.Registry{a, b} {
			s := r.Snapshot()
			if one, ok := s.Token("card.1"); s.Rev != 2 || len(s.Records()) != 2 || !ok || one.User != "ann" {
				t.Errorf("%d: %+v", i, s)
			}
		}
		_, err := put(t.Context(), a, adminapi.Record{Kind: adminapi.KindToken, Name: "card.3", Fields: map[string]string{"alias": "card.9"}})
		if _, ok := errors.AsType[adminapi.Invalid](err); !ok || !strings.Contains(err.Error(), "not registered") {
			t.Errorf("an alias of nothing: %v", err)
		}
		old, err := a.At(1)
		if err != nil || len(old.Records()) != 1 {
			t.Errorf("at 1: %+v, %v", old, err)
		}
		if _, err := a.At(3); !errors.Is(err, registry.ErrNoRevision) {
			t.Errorf("at 3: %v", err)
		}
		h, err := b.History(10)
		if err != nil || len(h) != 2 || h[1].Who != "root" || h[1].Rev != 2 || h[1].Host != "north" || h[1].When.IsZero() {
			t.Errorf("history: %+v, %v", h, err)
		}
		if h, err = b.History(1); err != nil || len(h) != 1 || h[0].Rev != 2 {
			t.Errorf("the last: %+v, %v", h, err)
		}
	})
}

// Many admins at once: every change is made, once.
func TestChangesAtOnce(t *testing.T) {
	m := registrytest.New()
	a, b := open(t, t.TempDir(), m, false), open(t, t.TempDir(), m, false)
	serve(t, a)
	serve(t, b)
	for _, r := range []*registry.Registry{a, b} {
		for news := r.News(); !r.Status().Connected; news = r.News() {
			<-news
		}
	}
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			r := []*registry.Registry{a, b}[i%2]
			for {
				_, err := put(t.Context(), r, token(fmt.Sprintf("card.%d", i), "ann"))
				if err == nil {
					return
				}
				if !errors.Is(err, registry.ErrConflict) {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for news := a.News(); a.Snapshot().Rev < 6; news = a.News() {
		<-news
	}
	if s := a.Snapshot(); s.Rev != 6 || len(s.Records()) != 6 {
		t.Errorf("%+v", s)
	}
}

// The store is away: what is known goes on, also after a restart; changes say
// what is the matter, and work again when it is back.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, dir := registrytest.New(), t.TempDir()
		r := open(t, dir, m, false)
		stop := serve(t, r)
		synctest.Wait()
		mustPut(t, r, token("card.1", "ann"), 1)
		m.Lose(true)
		synctest.Wait()
		if st := r.Status(); st.Connected || st.Error == "" || st.Rev != 1 {
			t.Errorf("lost: %+v", st)
		}
		if _, err := put(t.Context(), r, token("card.2", "ann")); !errors.Is(err, registry.ErrAway) {
			t.Errorf("lost: %v", err)
		}
		stop()
		r = open(t, dir, m, false)
		if tok, ok := r.Snapshot().Token("card.1"); !ok || tok.User != "ann" {
			t.Error("a restart without the store has no registry")
		}
		serve(t, r)
		synctest.Wait()
		m.Lose(false)
		for news := r.News(); !r.Status().Connected; news = r.News() {
			<-news
		}
		mustPut(t, r, token("card.2", "ann"), 2)
	})
}

// A store that was put back to an older state, or that is another one, is not
// followed before an admin says so; a store of our own is filled again.
func TestDiverged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, dir := registrytest.New(), t.TempDir()
		r := open(t, dir, m, false)
		stop := serve(t, r)
		synctest.Wait()
		mustPut(t, r, token("card.1", "ann"), 1)
		mustPut(t, r, token("card.2", "ann"), 2)
		stop()

		other := registrytest.New()
		x := open(t, t.TempDir(), other, false)
		stopX := serve(t, x)
		synctest.Wait()
		for i := range uint64(3) {
			mustPut(t, x, token(fmt.Sprintf("other.%d", i+1), "eve"), i+1)
		}
		stopX()

		r = open(t, dir, other, false)
		if err := r.Accept(); err == nil {
			t.Error("accepted before anything is wrong")
		}
		serve(t, r)
		synctest.Wait()
		if st := r.Status(); !st.Diverged || st.Connected || st.Rev != 2 || !strings.Contains(st.Error, "registry accept") {
			t.Errorf("diverged: %+v", st)
		}
		if err := r.Accept(); err != nil {
			t.Error(err)
		}
		for news := r.News(); !r.Status().Connected; news = r.News() {
			<-news
		}
		if s := r.Snapshot(); s.Rev != 3 || len(s.Records()) != 3 || s.Records()[0].Name != "other.1" {
			t.Errorf("accepted: %+v", s)
		}
		if old, err := filepath.Glob(filepath.Join(dir, "*.old-*")); err != nil || len(old) != 1 {
			t.Errorf("put aside: %v, %v", old, err)
		}

		m.Forget(0)
		dir2 := t.TempDir()
		x = open(t, dir2, m, true)
		stop = serve(t, x)
		synctest.Wait()
		mustPut(t, x, token("card.1", "ann"), 1)
		mustPut(t, x, token("card.2", "ann"), 2)
		stop()
		for _, n := range []int{1, 0} {
			m.Forget(n)
			x = open(t, dir2, m, true)
			stop = serve(t, x)
			synctest.Wait()
			if st := x.Status(); !st.Connected || st.Rev != 2 {
				t.Errorf("our own, back at %d: %+v", n, st)
			}
			stop()
		}
	})
}

// A crash tears the last line: it is fetched again.
func TestTornCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, dir := registrytest.New(), t.TempDir()
		r := open(t, dir, m, false)
		stop := serve(t, r)
		synctest.Wait()
		mustPut(t, r, token("card.1", "ann"), 1)
		mustPut(t, r, token("card.2", "ann"), 2)
		stop()
		path := filepath.Join(dir, "changes.log")
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, whole[:len(whole)-10], 0o600); err != nil {
			t.Fatal(err)
		}
		r = open(t, dir, m, false)
		if rev := r.Snapshot().Rev; rev != 1 {
			t.Errorf("torn: revision %d", rev)
		}
		stop = serve(t, r)
		synctest.Wait()
		stop()
		if again, err := os.ReadFile(path); err != nil || string(again) != string(whole) {
			t.Errorf("the copy was not mended: %v", err)
		}
		if err := os.WriteFile(path, append([]byte("{}\n"), whole...), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := registry.Open(registry.Config{Dir: dir}); err == nil {
			t.Error("a copy with a strange line is taken")
		}
	})
}

// Thousands of records are one change.
func TestLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := registrytest.New()
		r := open(t, t.TempDir(), m, false)
		serve(t, r)
		synctest.Wait()
		var edits []adminapi.Edit
		for i := range 20_000 {
			edits = append(edits, adminapi.Put(token(fmt.Sprintf("card.%08d", i), fmt.Sprintf("user%d", i%900))))
		}
		_, rev, err := r.Change(t.Context(), registry.By{}, func(*registry.Snapshot) ([]adminapi.Edit, error) { return edits, nil })
		if err != nil || rev != 1 || len(r.Snapshot().Records()) != len(edits) {
			t.Errorf("revision %d, %d records, %v", rev, len(r.Snapshot().Records()), err)
		}
	})
}
