package lab

import (
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// An Ending ends all processes below this one, whatever sessions and groups they
// made for themselves. Each is asked once: to be asked again makes some of them
// give up what they have still to do. It is safe for concurrent use.
type Ending struct {
	mu    sync.Mutex
	asked map[int]bool
}

// Ask asks those to end that were not asked yet. Their orphans are this process's
// from now on.
func (e *Ending) Ask() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.asked == nil {
		e.asked = map[int]bool{}
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	for _, p := range below(os.Getpid()) {
		if !e.asked[p.id] {
			e.asked[p.id] = true
			_ = syscall.Kill(p.id, syscall.SIGTERM)
		}
	}
	return nil
}

// Finish waits for their end, asks those that come meanwhile, and kills what is
// left after that time, which it names. Nobody may wait for a child meanwhile.
func (e *Ending) Finish(within time.Duration) (killed []string) {
	late := time.Now().Add(within)
	for {
		left := descendants(os.Getpid())
		switch {
		case len(left) == 0:
			return killed
		case time.Now().Before(late):
			_ = e.Ask()
		default:
			if killed == nil {
				killed = left
			}
			for _, p := range below(os.Getpid()) {
				_ = syscall.Kill(p.id, syscall.SIGKILL)
			}
			if time.Since(late) > within {
				return killed // the kernel does not let go of them
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}
