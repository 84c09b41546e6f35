package parent

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/keeperapi"
)

// Of sessions that an earlier parent started nothing stays when their keepers
// are killed; those that live, and their files, are left alone.
func TestFoundSessionsLeaveNothing(t *testing.T) {
	runtime, base := t.TempDir(), t.TempDir()
	if err := os.Mkdir(keeperapi.Sessions(runtime), 0o700); err != nil {
		t.Fatal(err)
	}
	ids := []alp.SessionID{"00000000000000a1", "00000000000000a2", "00000000000000a3"}
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
		p := &parent{Config: Config{Runtime: runtime, FrameBuffer: base, Log: slog.New(slog.DiscardHandler)}}
		ctx, cancel := context.WithCancel(t.Context())
		var watching sync.WaitGroup
		watching.Go(func() { p.watchFound(ctx, ids) })
		time.Sleep(2 * foundEvery)
		synctest.Wait()
		locks[ids[1]].Close() // its keeper is dead
		time.Sleep(foundEvery)
		synctest.Wait()
		for i, want := range []int{3, 0, 3} {
			if n := there(ids[i]); n != want {
				t.Errorf("session %d has %d of its places, want %d", i+1, n, want)
			}
		}
		cancel()
		watching.Wait()
	})
	for _, l := range locks {
		l.Close()
	}
}
