package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A session is a peer with its processes.
type session struct {
	peer
	name   string // of the display
	procs  []*exec.Cmd
	counts []int // processes of the server's side
	dirs   []string
}

// start starts a process that stop will end.
func (x *session) start(c *exec.Cmd) error {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		return err
	}
	x.procs = append(x.procs, c)
	return nil
}

func (x *session) pids() []int { return x.counts }

// in makes c a program of the session.
func (x *session) in(c *exec.Cmd) *exec.Cmd {
	c.Env = append(os.Environ(), "DISPLAY="+x.name)
	return c
}

func (x *session) run(name string, arg ...string) error {
	if out, err := x.in(exec.Command(name, arg...)).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

func (x *session) stop() {
	if x.peer != nil {
		x.peer.stop()
	}
	for i := len(x.procs) - 1; i >= 0; i-- {
		end(x.procs[i])
	}
	for _, d := range x.dirs {
		os.RemoveAll(d)
	}
}

// end ends a process and its group.
func end(c *exec.Cmd) {
	_ = syscall.Kill(-c.Process.Pid, syscall.SIGTERM) // it may have ended
	late := time.AfterFunc(3*time.Second, func() { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) })
	defer late.Stop()
	_ = c.Wait() // how it ended does not matter
}

// startX starts an X server that picks its own display number.
func (x *session) startX(name string, arg ...string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	c := exec.Command(name, append([]string{"-displayfd", "3", "-nolisten", "tcp"}, arg...)...)
	c.ExtraFiles = []*os.File{w}
	err = x.start(c)
	w.Close()
	if err != nil {
		return err
	}
	_ = r.SetReadDeadline(time.Now().Add(10 * time.Second)) // pipes can
	number, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		return fmt.Errorf("%s did not start: %w", name, err)
	}
	x.name = ":" + strings.TrimSpace(number)
	x.counts = append(x.counts, c.Process.Pid)
	return nil
}

// cpu is the time that a process has used, in seconds.
func cpu(pid int) float64 {
	var ts unix.Timespec
	if unix.ClockGettime(int32((^pid)<<3|2), &ts) != nil { // clock_getcpuclockid(3)
		return 0
	}
	return float64(ts.Sec) + float64(ts.Nsec)/1e9
}

func comm(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(b))
}

// pss is a process's share of memory, in MiB.
func pss(pid int) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); len(f) > 1 && f[0] == "Pss:" {
			v, _ := strconv.ParseFloat(f[1], 64)
			return v / 1024
		}
	}
	return 0
}

// A mark is what has been used so far.
type mark struct {
	at       time.Time
	cpu      map[int]float64
	down, up int64
	updates  int64
}

func (x *session) mark() mark {
	m := mark{cpu: map[int]float64{}, updates: x.updates(), at: time.Now()}
	for _, p := range x.pids() {
		m.cpu[p] = cpu(p)
	}
	m.down, m.up = x.bytes()
	return m
}

// since completes r with what has been used since m.
func (x *session) since(m mark, r *Result) {
	now := x.mark()
	r.CPUBy = map[string]float64{}
	for p, v := range now.cpu {
		r.CPU += v - m.cpu[p]
		r.CPUBy[comm(p)] += v - m.cpu[p]
	}
	r.Down, r.Up, r.Updates = now.down-m.down, now.up-m.up, now.updates-m.updates
	if r.DoneS = x.last().Sub(m.at).Seconds(); r.DoneS > 0 {
		r.UPS = float64(r.Updates) / r.DoneS
	}
}
