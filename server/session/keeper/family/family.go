// Package family starts a session's processes, takes in those that their
// parents leave behind, and ends them all.
//
// Source: design section 1 (the keeper is subreaper); prctl(2)
// PR_SET_CHILD_SUBREAPER, wait(2), pidfd_open(2).
//
// Invariants:
//  1. Every process that descends from this one is found by End, however it
//     detached itself: an orphan becomes a child of the subreaper.
//  2. Nothing stays a zombie: whoever exits is waited for at once.
//  3. End signals nobody but descendants: a process is held by its pidfd and
//     looked at again before it is signalled.
//  4. All processes are started by one thread, which lives until Close: what
//     Inside does to it (namespaces, control groups) they all have, and none is
//     told that its parent died (PR_SET_PDEATHSIG is of the thread) before it
//     did.
//
// One Family per process, and no other code of that process may start or wait
// for processes: wait4(-1) takes every exit. Safe for concurrent use. What a
// session hands to another service of the host (cron, a system manager) is no
// descendant and is not found.
package family

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lookAgain is how often End looks for processes that died without being our
// child; our children's deaths are seen at once.
const lookAgain = 20 * time.Millisecond

// A Family is all processes below this one.
type Family struct {
	mu       sync.Mutex // held from before a fork until its pid is in children
	children map[int]*Child
	died     chan struct{} // capacity 1: somebody was waited for

	signals chan os.Signal
	thread  chan func() // the starting thread's work
	adapt   func(*syscall.SysProcAttr)
	closing sync.Once
	work    sync.WaitGroup
}

// A Child is a process that Spawn started.
type Child struct {
	pid  int
	done chan struct{}
	err  error // set before done is closed
}

// New makes this process the subreaper and begins to wait for its children.
func New() (*Family, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("family: cannot become subreaper: %w", err)
	}
	// The os package tries pidfds out with a child of its own, once: let it do
	// so before anybody else waits for children.
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Release()
	}
	f := &Family{children: map[int]*Child{}, died: make(chan struct{}, 1), signals: make(chan os.Signal, 1), thread: make(chan func())}
	signal.Notify(f.signals, unix.SIGCHLD)
	f.work.Go(func() {
		for range f.signals {
			f.reap()
		}
	})
	f.work.Go(f.start)
	return f, nil
}

// start is the starting thread.
func (f *Family) start() {
	runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
	if unix.Gettid() == os.Getpid() {
		// But the process's first thread never ends: as long as it is held
		// here, another goroutine gets another thread.
		defer runtime.UnlockOSThread()
		f.work.Add(1)
		another := make(chan struct{})
		go func() {
			defer f.work.Done()
			runtime.LockOSThread()
			close(another)
			f.serve()
		}()
		<-another
		return
	}
	f.serve()
}

func (f *Family) serve() {
	for work := range f.thread {
		work()
	}
}

// Inside runs enter on the thread that starts all processes; adapt, if not nil,
// is called for each process before its start. Call it before any Spawn.
func (f *Family) Inside(enter func() error, adapt func(*syscall.SysProcAttr)) error {
	f.adapt = adapt
	return f.onThread(enter)
}

func (f *Family) onThread(work func() error) error {
	done := make(chan error, 1)
	f.thread <- func() { done <- work() }
	return <-done
}

// Close stops waiting for children, and ends the starting thread. Call it after
// End; nothing can be started any more. A second call does nothing.
func (f *Family) Close() {
	f.closing.Do(func() {
		signal.Stop(f.signals)
		close(f.signals)
		close(f.thread)
		f.work.Wait()
	})
}

func (f *Family) reap() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if c := f.children[pid]; c != nil {
			delete(f.children, pid)
			c.err = exitError(status)
			close(c.done)
		}
		select {
		case f.died <- struct{}{}:
		default:
		}
	}
}

// An ExitError tells how a process ended that did not end well.
type ExitError struct{ Status unix.WaitStatus }

func (e ExitError) Error() string {
	if e.Status.Signaled() {
		return "signal: " + e.Status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", e.Status.ExitStatus())
}

func exitError(s unix.WaitStatus) error {
	if s.Exited() && s.ExitStatus() == 0 {
		return nil
	}
	return ExitError{s}
}

// Spawn starts cmd. Its standard streams must be nil or files: nobody copies
// for it, and its Wait must not be called.
func (f *Family) Spawn(cmd *exec.Cmd) (*Child, error) { return f.spawn(cmd, cmd.Start) }

// expendable is by how much more a program of a session counts when the kernel
// looks for what to end where memory is short: as much as it does for the
// programs of desktops that service managers start.
const expendable = 200

// SpawnExpendable is Spawn for programs of which one goes, with what it started,
// before the session as a whole does. Anybody may say so of themselves; that
// others are to stay may only be said with a right that root need not have.
func (f *Family) SpawnExpendable(cmd *exec.Cmd) (*Child, error) {
	return f.spawn(cmd, func() error {
		// What is inherited holds for whatever the program starts first.
		const file = "/proc/self/oom_score_adj"
		text, err := os.ReadFile(file)
		was, bad := strconv.Atoi(strings.TrimSpace(string(text)))
		if err == nil && bad == nil && os.WriteFile(file, []byte(strconv.Itoa(min(was+expendable, 1000))), 0) == nil {
			defer os.WriteFile(file, []byte(strconv.Itoa(was)), 0)
		}
		return cmd.Start()
	})
}

func (f *Family) spawn(cmd *exec.Cmd, start func() error) (*Child, error) {
	if f.adapt != nil {
		if cmd.SysProcAttr == nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{}
		}
		f.adapt(cmd.SysProcAttr)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.onThread(start); err != nil {
		return nil, err
	}
	c := &Child{pid: cmd.Process.Pid, done: make(chan struct{})}
	f.children[c.pid] = c
	_ = cmd.Process.Release()
	return c, nil
}

// PID is the child's process id, which may be another's once Done is closed.
func (c *Child) PID() int { return c.pid }

// Done is closed when the child has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Err says how the child ended, nil for exit status 0 or while it runs.
func (c *Child) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// Signal sends sig to a child, unless it has been waited for.
func (f *Family) Signal(c *Child, sig syscall.Signal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.children[c.pid] == c {
		_ = unix.Kill(c.pid, sig)
	}
}

// ErrLeft is wrapped by End's error when processes could not be ended.
var ErrLeft = errors.New("family: processes are left")

// End ends every descendant: first all but last, and what is below those,
// are asked (SIGTERM) and given grace, then those too, then whoever is left is killed. It returns when
// nobody is left or ctx has ended. A closed hurry ends the asking.
func (f *Family) End(ctx context.Context, grace time.Duration, hurry <-chan struct{}, last ...*Child) error {
	rounds := [][]int{nil}
	f.mu.Lock()
	for _, c := range last {
		if c != nil && f.children[c.pid] == c {
			rounds = [][]int{append(rounds[0], c.pid), nil}
		}
	}
	f.mu.Unlock()
	asked := map[process]bool{}
	for _, keep := range rounds {
		f.ask(ctx, grace, hurry, keep, asked)
	}
	for ctx.Err() == nil {
		all := descendants(nil)
		if len(all) == 0 {
			return nil
		}
		for _, p := range all {
			p.signal(unix.SIGKILL)
		}
		select {
		case <-f.died:
		case <-time.After(lookAgain):
		case <-ctx.Done():
		}
	}
	if left := descendants(nil); len(left) > 0 {
		return fmt.Errorf("%w: %d, the first has pid %d", ErrLeft, len(left), left[0].pid)
	}
	return nil
}

// ask asks everybody but keep to end, those too that appear meanwhile, and
// returns when they have or after limit.
func (f *Family) ask(ctx context.Context, limit time.Duration, hurry <-chan struct{}, keep []int, asked map[process]bool) {
	over := time.NewTimer(limit)
	defer over.Stop()
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	for {
		left := descendants(keep)
		if len(left) == 0 {
			return
		}
		for _, p := range left {
			p.parent = 0 // it may have another by now
			if !asked[p] {
				asked[p] = true
				p.signal(unix.SIGTERM)
			}
		}
		select {
		case <-f.died:
		case <-look.C:
		case <-over.C:
			return
		case <-hurry:
			return
		case <-ctx.Done():
			return
		}
	}
}

// signal signals p, and never a later process of the same number.
func (p process) signal(sig unix.Signal) {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return // it is gone
	}
	defer unix.Close(fd)
	// What is held now cannot change: is it still p?
	if again, ok := stat(p.pid); ok && again.start == p.start {
		_ = unix.PidfdSendSignal(fd, sig, nil, 0)
	}
}

type process struct {
	pid, parent int
	start       string // time of its start, in the kernel's ticks
}

// descendants returns all processes below this one, parents first, without
// keep and what is below those.
func descendants(keep []int) []process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	below := map[int][]process{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, ok := stat(pid); ok && !slices.Contains(keep, pid) {
			below[p.parent] = append(below[p.parent], p)
		}
	}
	all := slices.Clone(below[os.Getpid()])
	for i := 0; i < len(all); i++ {
		all = append(all, below[all[i].pid]...)
	}
	return all
}

// stat reads /proc/PID/stat: the parent is field 4, the start time field 22;
// the name in field 2 may hold anything, so fields count from its last ')'.
func stat(pid int) (process, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, false
	}
	i := strings.LastIndexByte(string(text), ')')
	if i < 0 {
		return process{}, false
	}
	fields := strings.Fields(string(text[i+1:])) // field 3 is fields[0]
	if len(fields) < 20 {
		return process{}, false
	}
	parent, err := strconv.Atoi(fields[1])
	return process{pid, parent, fields[19]}, err == nil
}
