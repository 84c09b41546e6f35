package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticks is what the kernel counts time in for other programs: USER_HZ is 100
// on every architecture that Go runs on (proc_pid_stat(5)).
const ticks = time.Second / 100

// Usage tells what kind of a process one is ("server gateway", "Xvfb"), and its
// processor time.
func Usage(pid int) (kind string, cpu time.Duration, err error) {
	p, ok := readProcess(pid)
	if !ok {
		return "", 0, fmt.Errorf("lab: no process %d", pid)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0, fmt.Errorf("lab: %w", err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return "", 0, fmt.Errorf("lab: process %d tells no time", pid)
	}
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return "", 0, fmt.Errorf("lab: process %d: %w", pid, err)
		}
		cpu += time.Duration(n) * ticks
	}
	kind = filepath.Base(p.args[0])
	if len(p.args) > 1 && !strings.HasPrefix(p.args[1], "-") && !strings.HasPrefix(p.args[1], "/") && !strings.HasPrefix(p.args[1], ":") {
		kind += " " + p.args[1]
	}
	return kind, cpu, nil
}
