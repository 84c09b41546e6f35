// Package cgroup puts the processes of a session into a control group of their
// own, with its limits, and ends them by it.
//
// Source: the kernel's admin-guide/cgroup-v2.rst and admin-guide/cgroup-v1;
// clone3(2) CLONE_INTO_CGROUP; design section 1.
//
// Version 2 is used where the machine has it, version 1 for each controller
// that is mounted so (both at once on some machines). Groups stand below the
// caller's own group (version 1) or beside it (version 2, where a group with
// processes gives its children no controllers), so that the host's limits for
// the server hold for the sessions too.
//
// Invariants:
//  1. Only root writes to a group's files: a session's process cannot leave.
//  2. The caller stays outside: no limit of a session ends its keeper.
//  3. A machine without groups that can be written is no error: New says what
//     is missing.
//
// layout is pure; the rest makes directories and writes files. A Group is not
// safe for concurrent use.
package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// folder is where the groups of all sessions are.
const folder = "hotdesk"

const (
	// MinMemory is the least memory that a desktop starts with, in bytes.
	MinMemory = 64 << 20
	// MinProcesses is the least number of processes and threads of a desktop.
	MinProcesses = 32
	// MaxWeight is the largest CPU weight; 100 is everybody's.
	MaxWeight = 10000
	// lookAgain is how often Remove looks whether a group is empty.
	lookAgain = 10 * time.Millisecond
	// grace is how long processes that Discard asked may take.
	grace = 500 * time.Millisecond
)

// Limits are what a session may use. 0 is no limit.
type Limits struct {
	Memory    int64 `json:"memory,omitempty"`     // bytes, files on tmpfs among them
	Processes int   `json:"processes,omitempty"`  // and threads
	CPUWeight int   `json:"cpu_weight,omitempty"` // share when the processors are busy; 100 is everybody's
}

// Check refuses limits with which no session can live.
func (l Limits) Check() error {
	switch {
	case l.Memory != 0 && l.Memory < MinMemory:
		return fmt.Errorf("cgroup: a session needs at least %d bytes of memory, not %d", MinMemory, l.Memory)
	case l.Processes != 0 && l.Processes < MinProcesses:
		return fmt.Errorf("cgroup: a session needs at least %d processes, not %d", MinProcesses, l.Processes)
	case l.CPUWeight < 0 || l.CPUWeight > MaxWeight:
		return fmt.Errorf("cgroup: a CPU weight is 1 to %d, not %d", MaxWeight, l.CPUWeight)
	}
	return nil
}

// Within is l, and nowhere more than m.
func (l Limits) Within(m Limits) Limits {
	return Limits{least(l.Memory, m.Memory), least(l.Processes, m.Processes), least(l.CPUWeight, m.CPUWeight)}
}

// least is the narrower of two limits.
func least[T int | int64](a, b T) T {
	if a == 0 || b == 0 {
		return a + b
	}
	return min(a, b)
}

// A Group is a session's group in each hierarchy. Nil is none.
type Group struct {
	places []place // dir is the session's own
	fd     *os.File
}

// New makes the group of a session, whose keeper is this process, and sets its
// limits. missing says in words
// what the machine does not offer, "" if all is there; the Group works as far as
// it does.
func New(name string, l Limits) (g *Group, missing string, err error) {
	if name == "" || strings.ContainsAny(name, "/.") {
		return nil, "", fmt.Errorf("cgroup: %.40q names no group", name)
	}
	if err := l.Check(); err != nil {
		return nil, "", err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, "no control groups: " + err.Error(), nil
	}
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, "no control groups: " + err.Error(), nil
	}
	// Two servers of one machine may have sessions of one name, in tests at
	// least: the end of one must not be the other's.
	return makeIn(layout(string(mounts), string(groups)), fmt.Sprintf("%s-%d", name, os.Getpid()), l)
}

func makeIn(places []place, name string, l Limits) (*Group, string, error) {
	g := &Group{}
	var why []error
	for _, p := range places {
		dir := filepath.Join(p.dir, name)
		if err := mkdir(p.dir, dir); err != nil {
			why = append(why, err)
			continue
		}
		if p.unified {
			enable(p.dir)
			if f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
				g.fd = f
			}
		}
		p.dir = dir
		g.places = append(g.places, p)
	}
	if len(g.places) == 0 {
		if len(places) == 0 {
			why = append(why, errors.New("none is mounted"))
		}
		return nil, "no control groups that can be written: " + errors.Join(why...).Error(), nil
	}
	var lacks []string
	for _, s := range settings(l) {
		if !slices.ContainsFunc(g.places, func(p place) bool { return s.apply(p) }) {
			lacks = append(lacks, s.name)
		}
	}
	if len(lacks) > 0 {
		return g, "no limit of " + strings.Join(lacks, ", ") + ": the machine's control groups do not offer it here", nil
	}
	return g, "", nil
}

// mkdir makes a session's directory in that of all; somebody else's end may
// take the latter away in between.
func mkdir(all, dir string) (err error) {
	for range 8 {
		if err = os.Mkdir(all, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if err = os.Mkdir(dir, 0o755); !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return err
}

// enable hands the controllers down to the groups in dir, as far as its own
// parent has them and may.
func enable(dir string) {
	for _, at := range []string{filepath.Dir(dir), dir} {
		for _, name := range wanted {
			_ = write(filepath.Join(at, "cgroup.subtree_control"), "+"+name)
		}
	}
}

// A setting is one limit: a file of version 2, and one of version 1.
type setting struct {
	name, controller string
	v2, v1           string
	value2, value1   string
}

func settings(l Limits) []setting {
	var all []setting
	if l.Memory > 0 {
		v := strconv.FormatInt(l.Memory, 10)
		all = append(all, setting{"memory", "memory", "memory.max", "memory.limit_in_bytes", v, v})
	}
	if l.Processes > 0 {
		v := strconv.Itoa(l.Processes)
		all = append(all, setting{"processes", "pids", "pids.max", "pids.max", v, v})
	}
	if l.CPUWeight > 0 {
		all = append(all, setting{"CPU weight", "cpu", "cpu.weight", "cpu.shares", strconv.Itoa(l.CPUWeight), strconv.Itoa(max(2, l.CPUWeight*1024/100))})
	}
	return all
}

// apply reports whether the limit holds in p.
func (s setting) apply(p place) bool {
	if p.unified {
		return write(filepath.Join(p.dir, s.v2), s.value2) == nil
	}
	if !slices.Contains(p.controllers, s.controller) || write(filepath.Join(p.dir, s.v1), s.value1) != nil {
		return false
	}
	if s.controller == "memory" { // else what does not fit would go to swap
		_ = write(filepath.Join(p.dir, "memory.memsw.limit_in_bytes"), s.value1)
	}
	return true
}

func write(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0) // never made: these files are the kernel's
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// Enter puts the calling thread, and so what it starts from now on, into the
// groups of version 1. That thread must be locked and start nothing else.
func (g *Group) Enter() error {
	if g == nil {
		return nil
	}
	for _, p := range g.places {
		if p.unified {
			continue
		}
		if err := write(filepath.Join(p.dir, "tasks"), "0"); err != nil {
			return fmt.Errorf("cgroup: %w", err)
		}
	}
	return nil
}

// Attributes has a process start in the group of version 2.
func (g *Group) Attributes(a *syscall.SysProcAttr) {
	if g != nil && g.fd != nil {
		a.UseCgroupFD, a.CgroupFD = true, int(g.fd.Fd())
	}
}

// Processes are those in the group, without this one, of which a thread may be.
func (g *Group) Processes() []int {
	var all []int
	if g == nil {
		return nil
	}
	for _, p := range g.places {
		text, err := os.ReadFile(filepath.Join(p.dir, "cgroup.procs"))
		if err != nil {
			continue
		}
		for line := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(line); err == nil && pid > 0 && pid != os.Getpid() && !slices.Contains(all, pid) {
				all = append(all, pid)
			}
		}
	}
	return all
}

// Remove kills what is left in the group of version 2 and removes all
// directories, when they are empty or ctx ends. The thread of Enter must have
// ended.
func (g *Group) Remove(ctx context.Context) error {
	if g == nil {
		return nil
	}
	if g.fd != nil {
		g.fd.Close()
		g.fd = nil
	}
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	for {
		g.places = slices.DeleteFunc(g.places, func(p place) bool {
			if p.unified {
				_ = write(filepath.Join(p.dir, "cgroup.kill"), "1")
			}
			err := unix.Rmdir(p.dir)
			_ = unix.Rmdir(filepath.Dir(p.dir)) // the last session's end
			return err == nil || errors.Is(err, unix.ENOENT)
		})
		if len(g.places) == 0 {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("cgroup: %s is not empty: processes %v", g.places[0].dir, g.Processes())
		}
	}
}

// Paths are the group's directories, for Discard.
func (g *Group) Paths() []string {
	if g == nil {
		return nil
	}
	var all []string
	for _, p := range g.places {
		all = append(all, p.dir)
	}
	return all
}

// Discard kills what is left of a session whose keeper is dead, and removes its
// group. It asks first: an X server that is told to end takes its lock away.
// Paths that are no group of that session are passed over.
func Discard(ctx context.Context, name string, paths []string) error {
	g := &Group{}
	for _, dir := range paths {
		var fs unix.Statfs_t
		if !strings.HasPrefix(filepath.Base(dir), name+"-") || filepath.Base(filepath.Dir(dir)) != folder || unix.Statfs(dir, &fs) != nil {
			continue
		}
		switch fs.Type {
		case unix.CGROUP2_SUPER_MAGIC, unix.CGROUP_SUPER_MAGIC:
			g.places = append(g.places, place{dir: dir, unified: fs.Type == unix.CGROUP2_SUPER_MAGIC})
		}
	}
	asked := time.Now()
	for sig := syscall.SIGTERM; len(g.Processes()) > 0 && ctx.Err() == nil; {
		for _, pid := range g.Processes() { // version 1 has no better way
			_ = unix.Kill(pid, sig)
		}
		sig = 0
		if time.Since(asked) > grace {
			sig = syscall.SIGKILL
		}
		select {
		case <-time.After(lookAgain):
		case <-ctx.Done():
		}
	}
	return g.Remove(ctx)
}
