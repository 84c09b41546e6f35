package harm

import (
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hotdesk/tools/internal/lab"
)

// TestIsAhead: what a host says of its time shows that its clock was set, or it
// does not.
func TestIsAhead(t *testing.T) {
	asked := time.Unix(1.7e9, 0)
	for _, x := range []struct {
		by, says, took time.Duration
		want           bool
	}{
		{2 * time.Second, 2 * time.Second, 10 * time.Millisecond, true},
		{2 * time.Second, 2*time.Second + 10*time.Millisecond, 10 * time.Millisecond, true},
		{-2 * time.Second, -2 * time.Second, 10 * time.Millisecond, true},
		{2 * time.Second, 0, 10 * time.Millisecond, false},                // it has the true time
		{2 * time.Second, -2 * time.Second, 10 * time.Millisecond, false}, // the wrong way
		{2 * time.Second, time.Second, 10 * time.Millisecond, false},
		{2 * time.Second, 2 * time.Second, 3 * time.Second, false}, // it was asked for so long that it may be right
		{time.Minute, 59 * time.Second, 10 * time.Millisecond, false},
		{30 * 365 * 24 * time.Hour, 30 * 365 * 24 * time.Hour, time.Second, true},
	} {
		if got := isAhead(x.by, asked, asked.Add(x.says), asked.Add(x.took)); got != x.want {
			t.Errorf("set by %v, says %v, in %v: %v", x.by, x.says, x.took, got)
		}
	}
}

// TestEachInItsTurn: of the kinds that were asked for none comes twice before each
// has come once, and one that took no effect has another turn first.
func TestEachInItsTurn(t *testing.T) {
	h := &Harm{Kinds: []string{"network bad", "network away", "programs upgraded"}, Hosts: make([]*lab.Host, 1)}
	if err := h.Seed(1); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		count := map[string]int{}
		void, _ := h.next(nil)
		h.later(void)
		for range h.Kinds {
			f, ok := h.next(nil)
			if !ok {
				t.Fatal("nothing can be broken")
			}
			count[f.name]++
		}
		if len(count) != len(h.Kinds) {
			t.Errorf("%q took no effect, and then came %v", void.name, count)
		}
		h.later(void) // it was the last: all come again
	}
}

// TestNoEffect: a fault that befell nothing is none, and says why.
func TestNoEffect(t *testing.T) {
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	pid := gone.Process.Pid
	for name, do := range map[string]func(*blow) error{
		"stopped": func(b *blow) error { return b.stop(t.Context(), pid) },
		"killed":  func(b *blow) error { return b.kill(t.Context(), pid, "") },
	} {
		b := &blow{rng: rand.New(rand.NewPCG(1, 1))}
		if err := do(b); err != nil || !b.void || !strings.Contains(b.effect, "ended") {
			t.Errorf("%s: %v, %v, %q", name, err, b.void, b.effect)
		}
	}
	if how, starved := eat(t.Context(), filepath.Join(t.TempDir(), "no", "cgroup.procs")); starved || how == "" {
		t.Errorf("a program that could not begin to eat: %v, %q", starved, how)
	}
}

// TestEffect: one that befell a process says which.
func TestEffect(t *testing.T) {
	p := exec.Command("sleep", "600")
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	defer p.Wait()
	defer p.Process.Kill()
	if lab.Stopped(p.Process.Pid) {
		t.Error("it is stopped before it is stopped")
	}
	b := &blow{rng: rand.New(rand.NewPCG(1, 1))}
	if err := b.kill(t.Context(), p.Process.Pid, " of the test"); err != nil || b.void || !strings.HasSuffix(b.effect, "of the test") {
		t.Errorf("%v, %v, %q", err, b.void, b.effect)
	}
}
