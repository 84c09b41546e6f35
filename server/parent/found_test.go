package parent

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/keeperapi"
)

// Of sessions that an earlier parent started nothing stays when their keepers
// are killed; those that live, and their files, are left alone. Who has ended in
// good order has not died.
func TestFoundSessionsLeaveNothing(t *testing.T) {
	runtime, base := t.TempDir(), t.TempDir()
	if err := os.Mkdir(keeperapi.Sessions(runtime), 0o700); err != nil {
		t.Fatal(err)
	}
	ids := []alp.SessionID{"00000000000000a1", "00000000000000a2", "00000000000000a3", "00000000000000a4"}
	locks := map[alp.SessionID]*os.File{}
	for _, id := range ids {
		lock, err := claim(runtime, id, base, "")
		if err != nil {
			t.Fatal(err)
		}
		locks[id] = lock
		if err := os.Mkdir(filepath.Join(base, string(id)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	there := func(id alp.SessionID) (n int) {
		for _, f := range []string{keeperapi.Dir(runtime, id), keeperapi.Lock(runtime, id), filepath.Join(base, string(id))} {
			if _, err := os.Lstat(f); err == nil {
				n++
			} else if !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		}
		return n
	}
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		log := slog.New(slog.NewTextHandler(&said, nil))
		p := &parent{Config: Config{Runtime: runtime, FrameBuffer: base, Log: log}, remains: newRemains(runtime, log)}
		ctx, cancel := context.WithCancel(t.Context())
		var watching sync.WaitGroup
		watching.Go(func() { p.watchFound(ctx, ids) })
		time.Sleep(2 * foundEvery)
		synctest.Wait()
		locks[ids[1]].Close() // its keeper is dead
		for _, f := range []string{filepath.Join(base, string(ids[3])), keeperapi.Dir(runtime, ids[3]), keeperapi.Lock(runtime, ids[3])} {
			if err := os.RemoveAll(f); err != nil {
				t.Error(err)
			}
		}
		locks[ids[3]].Close()
		time.Sleep(foundEvery)
		synctest.Wait()
		for i, want := range []int{3, 0, 3, 0} {
			if n := there(ids[i]); n != want {
				t.Errorf("session %d has %d of its places, want %d", i+1, n, want)
			}
		}
		cancel()
		watching.Wait()
		if got := said.String(); strings.Count(got, "keeper died") != 1 || !strings.Contains(got, string(ids[1])) {
			t.Errorf("said: %s", got)
		}
	})
	for _, l := range locks {
		l.Close()
	}
}

// A lock that cannot be looked at is not a dead keeper's.
func TestAliveIfNotSeen(t *testing.T) {
	runtime := t.TempDir()
	const id = alp.SessionID("0123456789abcdef")
	lock := keeperapi.Lock(runtime, id)
	if err := os.MkdirAll(filepath.Dir(lock), 0o700); err != nil {
		t.Fatal(err)
	}
	if lives, _, _ := alive(runtime, id); lives {
		t.Error("there is no lock, and it lives")
	}
	if err := os.Symlink(filepath.Base(lock), lock); err != nil { // opening it fails
		t.Fatal(err)
	}
	if lives, _, _ := alive(runtime, id); !lives {
		t.Error("it is dead because its lock cannot be opened")
	}
}
