package cgroup

import (
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const one = "21 20 0:5 / /dev rw - devtmpfs udev rw\n"

// Where the groups of sessions are on machines of several kinds.
func TestLayout(t *testing.T) {
	v2 := "30 20 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
	v1 := func(at, root, names string) string {
		return fmt.Sprintf("31 30 0:27 %s /sys/fs/cgroup/%s rw,nosuid - cgroup cgroup rw,%s\n", root, at, names)
	}
	for name, c := range map[string]struct {
		mounts, groups string
		want           []place
	}{
		"systemd, version 2":        {one + v2, "0::/system.slice/hotdesk.service\n", []place{{"/sys/fs/cgroup/system.slice/hotdesk", true, nil}}},
		"container's own namespace": {one + v2, "0::/\n", []place{{"/sys/fs/cgroup/hotdesk", true, nil}}},
		"version 1": {
			one + v1("memory", "/", "memory") + v1("cpu,cpuacct", "/", "cpu,cpuacct") + v1("freezer", "/", "freezer"),
			"5:memory:/a/b\n4:cpu,cpuacct:/\n3:freezer:/x\n",
			[]place{{"/sys/fs/cgroup/memory/a/b/hotdesk", false, []string{"memory"}}, {"/sys/fs/cgroup/cpu,cpuacct/hotdesk", false, []string{"cpu"}}}},
		"both": {
			one + v1("pids", "/", "pids") + strings.ReplaceAll(v2, "/sys/fs/cgroup", "/sys/fs/cgroup/unified"), "8:pids:/\n0::/\n",
			[]place{{"/sys/fs/cgroup/pids/hotdesk", false, []string{"pids"}}, {"/sys/fs/cgroup/unified/hotdesk", true, nil}}},
		"container without a namespace": {v1("memory", "/docker/abc", "memory"), "4:memory:/docker/abc\n", []place{{"/sys/fs/cgroup/memory/hotdesk", false, []string{"memory"}}}},
		"outside of what is shown":      {v1("memory", "/docker/abc", "memory"), "4:memory:/../x\n", []place{{"/sys/fs/cgroup/memory/hotdesk", false, []string{"memory"}}}},
		"none":                          {one, "", nil},
		"nonsense":                      {"x - cgroup2\n - \n1 2 3 4 5 - cgroup cgroup\n", "a:b\n::::\n", nil},
	} {
		if got := layout(c.mounts, c.groups); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func FuzzLayout(f *testing.F) {
	f.Add(one+"30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/a\n")
	f.Add("31 30 0:27 /r /c rw - cgroup cgroup rw,memory\n", "4:memory:/r/x\n")
	f.Fuzz(func(t *testing.T, mounts, groups string) {
		for _, p := range layout(mounts, groups) {
			if !strings.HasSuffix("/"+p.dir, "/"+folder) {
				t.Errorf("%q", p.dir)
			}
		}
	})
}

func TestLimitsChecked(t *testing.T) {
	for _, l := range []Limits{{Memory: 1}, {Memory: -1}, {Processes: 1}, {CPUWeight: -1}, {CPUWeight: MaxWeight + 1}} {
		if l.Check() == nil {
			t.Errorf("%+v is good", l)
		}
	}
	if err := (Limits{MinMemory, MinProcesses, 1}).Check(); err != nil {
		t.Error(err)
	}
	if _, _, err := New("../x", Limits{}); err == nil {
		t.Error("a name that leads elsewhere")
	}
}

// A machine that lets nobody write is told of in words, and no error.
func TestNone(t *testing.T) {
	g, missing, err := makeIn([]place{{dir: "/proc/hotdesk"}}, "a", Limits{})
	if g != nil || err != nil || !strings.Contains(missing, "no control groups") {
		t.Errorf("%v, %q, %v", g, missing, err)
	}
	if g.Enter() != nil || g.Remove(t.Context()) != nil || g.Processes() != nil || g.Paths() != nil {
		t.Error("none is none")
	}
	g.Attributes(&syscall.SysProcAttr{})
}

// inside runs f on a thread in the group, which ends with it; the process's
// first never would.
func inside(t *testing.T, g *Group, f func()) {
	runtime.LockOSThread() // whatever this is, the other is not
	defer runtime.UnlockOSThread()
	entered := make(chan bool)
	var run func()
	run = func() {
		runtime.LockOSThread()
		if syscall.Gettid() == os.Getpid() {
			go run()
			<-entered
			runtime.UnlockOSThread()
			return
		}
		if err := g.Enter(); err != nil {
			t.Error(err)
		}
		close(entered)
		f()
	}
	go run()
	<-entered
}

// What a group's thread starts is in it, and ends with it. The test asks less
// of a machine without groups that can be written.
func TestGroup(t *testing.T) {
	name := fmt.Sprintf("test%d", os.Getpid())
	l := Limits{Memory: MinMemory, Processes: MinProcesses, CPUWeight: 50}
	g, missing, err := New(name, l)
	if err != nil {
		t.Fatal(err)
	}
	if g == nil {
		t.Logf("this machine has %s", missing)
		return
	}
	t.Logf("%v; %s", g.Paths(), missing)
	started := make(chan *exec.Cmd, 1)
	inside(t, g, func() {
		cmd := exec.Command("/bin/sh", "-c", `trap "" TERM; (while :; do sleep 1000; done) & exec sleep 1000`)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		g.Attributes(cmd.SysProcAttr)
		if err := cmd.Start(); err != nil {
			t.Error(err)
		}
		started <- cmd
	})
	cmd := <-started
	if !slices.Contains(g.Processes(), cmd.Process.Pid) {
		t.Errorf("the group has %v, not %d", g.Processes(), cmd.Process.Pid)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := Discard(t.Context(), name, append(g.Paths(), "/proc/hotdesk/"+name, "/")); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("it ended well")
	}
	for _, dir := range g.Paths() {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is left", dir)
		}
	}
	if err := g.Remove(t.Context()); err != nil { // a second end finds nothing
		t.Error(err)
	}
}

// A session that wants more memory than it may have loses the program that
// does, and nothing outside is touched.
func TestMemory(t *testing.T) {
	g, missing, err := New(fmt.Sprintf("mem%d", os.Getpid()), Limits{Memory: MinMemory})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := g.Remove(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	if missing != "" {
		t.Logf("this machine has %s", missing)
		return
	}
	ended := make(chan error, 1)
	inside(t, g, func() {
		cmd := exec.Command("/bin/sh", "-c", `x=$(head -c 200000000 /dev/zero | tr '\0' x)`)
		cmd.SysProcAttr = &syscall.SysProcAttr{}
		g.Attributes(cmd.SysProcAttr)
		ended <- cmd.Run()
	})
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it got 200 MB of 64")
		}
	case <-time.After(time.Minute):
		t.Error("it does not end")
	}
}

func TestWithin(t *testing.T) {
	if got := (Limits{Memory: 1, CPUWeight: 5}).Within(Limits{2, 3, 4}); got != (Limits{1, 3, 4}) {
		t.Errorf("%+v", got)
	}
	if got := (Limits{1, 2, 3}).Within(Limits{}); got != (Limits{1, 2, 3}) {
		t.Errorf("%+v", got)
	}
}
