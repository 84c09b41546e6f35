package parent

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
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
		p := &parent{Config: Config{Runtime: runtime, FrameBuffer: base, Log: slog.New(slog.NewTextHandler(&said, nil))}}
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

// What could not be removed in time is told, and goes with the next look.
func TestRemovalGoesOn(t *testing.T) {
	runtime, base := t.TempDir(), t.TempDir()
	if err := os.Mkdir(keeperapi.Sessions(runtime), 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := claim(runtime, one, base, "")
	if err != nil {
		t.Fatal(err)
	}
	lock.Close() // its keeper is dead
	own := filepath.Join(base, string(one))
	if err := os.MkdirAll(filepath.Join(own, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	over, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if removeFiles(over, log, runtime, one, base) || !strings.Contains(said.String(), "could be removed in time") {
		t.Errorf("without time it is done; said: %s", said.String())
	}
	for _, f := range []string{keeperapi.Lock(runtime, one), own} {
		if _, err := os.Lstat(f); err != nil {
			t.Error(err)
		}
	}
	if running, err := sessions(runtime, log); len(running) != 0 || err != nil {
		t.Errorf("%v, %v", running, err)
	}
	for _, f := range []string{keeperapi.Lock(runtime, one), keeperapi.Dir(runtime, one), own} {
		if _, err := os.Lstat(f); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", f, err)
		}
	}
}

// While the files of the dead are removed, the parent goes on: whoever starts a
// session or asks for the list takes mu.
func TestRemovalKeepsNobodyWaiting(t *testing.T) {
	runtime := t.TempDir()
	cmd := exec.Command("false")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	k := &keeperProc{pid: cmd.Process.Pid, start: keeperapi.Start{Session: one}, done: make(chan struct{})}
	_ = cmd.Process.Release()
	p := &parent{Config: Config{Runtime: runtime, Log: slog.New(slog.DiscardHandler)}, keepers: map[int]*keeperProc{k.pid: k}}
	p.removing.Lock() // as long as a removal takes
	var reaping sync.WaitGroup
	reaping.Go(func() {
		for waited := false; !waited; { // until it has ended
			p.reap()
			select {
			case <-k.done:
				waited = true
			default:
				goruntime.Gosched()
			}
		}
	})
	for reaped := false; !reaped; goruntime.Gosched() {
		p.mu.Lock()
		reaped = len(p.keepers) == 0
		p.mu.Unlock()
	}
	select {
	case <-k.done:
		t.Error("its start is answered before its files are gone")
	default:
	}
	p.removing.Unlock()
	reaping.Wait()
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
