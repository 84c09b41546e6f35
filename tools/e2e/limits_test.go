//go:build pam

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"hotdesk/protocol/alp"
	"hotdesk/tools/internal/lab"
)

// groupOf is where a session's control groups are, nil on a machine without any
// that can be written: then the keeper has said so, and package cgroup's own
// tests are all that there is.
func (r *realm) groupOf(h *lab.Host, id alp.SessionID) []string {
	r.t.Helper()
	dir := filepath.Join(h.Runtime, "sessions", string(id))
	text, err := os.ReadFile(filepath.Join(dir, "cgroup"))
	if err == nil {
		return strings.Fields(string(text))
	}
	log, _ := os.ReadFile(filepath.Join(dir, "keeper.log"))
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "no control groups") {
			r.t.Log(strings.TrimSpace(line))
			return nil
		}
	}
	r.t.Fatalf("no control group, and nothing said of it: %v\n%s", err, log)
	return nil
}

// limit is what a session's groups say, of whichever version they are; "" where
// this machine has no such controller.
func limit(groups []string, files ...string) string {
	for _, dir := range groups {
		for _, file := range files {
			if b, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
				return strings.TrimSpace(string(b))
			}
		}
	}
	return ""
}

// What rules say of memory, processes and processors holds for the sessions that
// they fit, within what the host allows to anybody: a program that wants more
// memory is killed, one more process is not made, and the session goes on.
func TestPolicyLimits(t *testing.T) {
	r := newRealm(t, []string{"north", "a", "b"})
	north := r.host("north", func(c *lab.Installed) {
		c.ServerArgs = []string{"-session-memory", "700", "-session-processes", "300", "-session-cpu-weight", "200"}
	})
	r.eventually("the registry", func() (bool, string) {
		out := r.manage("north", "registry", "status")
		return strings.Contains(out, "connected"), out
	})
	const small, large = "simple.4d013c7f33545165", "simple.4d02f7d472cfa2ed" // card1, card2
	r.manage("north", "policy", "add", "small", "token="+small, "memory=256", "processes=90", "cpu-weight=20")
	r.manage("north", "policy", "add", "large", "token="+large, "memory=9000", "cpu-weight=host")

	// The kernel's shares of version 1 are 1024 for everybody's.
	weights := func(w int) []string { return []string{"", strconv.Itoa(w), strconv.Itoa(w * 1024 / 100)} }
	is := func(what, got string, want ...string) {
		t.Helper()
		for _, w := range want {
			if got == w {
				return
			}
		}
		t.Errorf("%s: %q, want one of %q", what, got, want)
	}
	session := map[string]alp.SessionID{}
	for name, c := range map[string]struct {
		card, token       string
		memory, processes int
		weight            int
	}{"a": {"card1", small, 256, 90, 20}, "b": {"card2", large, 700, 300, 200}} {
		u := r.terminal(name, "-server", r.at("north"))
		r.see(u, "picture")
		r.hands(u, "insert", c.card)
		r.desk(u)
		id := alp.SessionID(r.status(u, "session"))
		session[name] = id
		groups := r.groupOf(north, id)
		is(c.card+" memory", limit(groups, "memory.max", "memory.limit_in_bytes"), "", strconv.Itoa(c.memory<<20))
		is(c.card+" processes", limit(groups, "pids.max"), "", strconv.Itoa(c.processes))
		is(c.card+" weight", limit(groups, "cpu.weight", "cpu.shares"), weights(c.weight)...)
		t.Logf("%s: %v", c.card, groups)
	}

	groups := r.groupOf(north, session["a"])
	a := r.terminals["a"]
	done := filepath.Join(r.user.Home, "done")
	said := func(want func(string) bool) {
		t.Helper()
		r.eventually("what became of it", func() (bool, string) {
			text, err := os.ReadFile(done)
			return err == nil && want(strings.TrimSpace(string(text))), string(text)
		})
		r.must(os.Remove(done))
	}
	if limit(groups, "memory.max", "memory.limit_in_bytes") != "" {
		r.writes(a, "head -c 400m /dev/zero | tail >/dev/null; echo $? >~/done.new; mv ~/done.new ~/done\n")
		said(func(s string) bool { return s == "137" }) // 128 and SIGKILL
	}
	if limit(groups, "pids.max") != "" {
		r.writes(a, "(for i in $(seq 150); do sleep 300 & done) 2>/dev/null\n")
		r.eventually("one process too many", func() (bool, string) {
			events := limit(groups, "pids.events")
			n, ok := strings.CutPrefix(events, "max ")
			return ok && n != "0", events
		})
		if n, err := strconv.Atoi(limit(groups, "pids.current")); err != nil || n > 90 {
			t.Errorf("%d processes, %v", n, err)
		}
	}
	r.desk(a)
	r.desk(r.terminals["b"])
	if n := r.sessions(); n != 2 {
		t.Error(fmt.Sprintf("%d sessions are left", n))
	}
}
