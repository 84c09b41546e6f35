package keeper

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/server/session/keeperapi"
)

// However long one step of the end takes, the next has its time.
func TestStepsOfTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over, cancel := context.WithCancel(t.Context())
		cancel()
		for range 2 {
			began := time.Now()
			err := within(over, keeperapi.EndPrograms, func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			})
			if took := time.Since(began); took != keeperapi.EndPrograms || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a step had %v, want %v (%v)", took, keeperapi.EndPrograms, err)
			}
		}
	})
}

// Where nobody can tell what runs, nobody says that nothing does.
func TestKillAllIsSure(t *testing.T) {
	const uid = 4294967 // nobody's
	status := func(dir, text string) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "status"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	proc := t.TempDir()
	status(filepath.Join(proc, "1"), "State:\tS (sleeping)\nUid:\t0\t0\t0\t0\nThreads:\t1\n")
	if n, err := killAll(proc, uid); n != 0 || err != nil {
		t.Errorf("nothing runs: %d, %v", n, err)
	}
	if n, err := killAll(procfs, uid); n != 0 || err != nil {
		t.Errorf("nothing runs here: %d, %v", n, err)
	}
	if n, err := killAll(filepath.Join(proc, "nosuch"), uid); err == nil {
		t.Errorf("without a list of processes: %d", n)
	}
	if err := os.MkdirAll(filepath.Join(proc, "2", "status"), 0o700); err != nil { // it is there and cannot be read
		t.Fatal(err)
	}
	if n, err := killAll(proc, uid); err == nil {
		t.Errorf("without one of them: %d", n)
	}
}
