package lab

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestReap: an orphan that has ended is taken in once it has been dead for a
// while, and what was started here is left to whoever waits for it.
func TestReap(t *testing.T) {
	l, err := New(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	own := exec.Command("true")
	if err := own.Start(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", "sleep 0.01 >/dev/null & echo $!").Output()
	if err != nil {
		t.Fatal(err)
	}
	orphan, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	zombie := func(pid int) bool { p, ok := readProcess(pid); return ok && p.zombie }
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !zombie(orphan) || !zombie(own.Process.Pid) {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
	now := time.Now()
	l.Reap(now)
	l.Reap(now.Add(reapAfter - 1))
	if !zombie(orphan) {
		t.Error("it was taken in at once")
	}
	if err := own.Wait(); err != nil {
		t.Errorf("what was started here: %v", err)
	}
	l.Reap(now.Add(reapAfter))
	if err := unix.Kill(orphan, 0); err != unix.ESRCH {
		t.Errorf("the orphan: %v", err)
	}
}
