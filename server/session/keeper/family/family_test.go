package family

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests share one family: wait4(-1) leaves no room for two.
var fam *Family

func TestMain(m *testing.M) {
	var err error
	if fam, err = New(); err != nil {
		panic(err)
	}
	code := m.Run()
	fam.Close()
	os.Exit(code)
}

func shell(t *testing.T, text string) (*Child, *bufio.Reader) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	cmd := exec.Command("/bin/sh", "-c", text)
	cmd.Stdout = w
	c, err := fam.Spawn(cmd)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(r)
}

func TestExit(t *testing.T) {
	for text, want := range map[string]string{"exit 0": "", "exit 3": "exit status 3", "kill -9 $$": "signal: killed"} {
		c, _ := shell(t, text)
		<-c.Done()
		got := ""
		if err := c.Err(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
		fam.Signal(c, unix.SIGKILL) // a dead child's pid may be another's: nothing happens
	}
	if _, err := fam.Spawn(exec.Command("/no/such/program")); err == nil {
		t.Error("started what is not there")
	}
}

// What is expendable goes first where memory is short, with the first thing that
// it starts; this process and its other children do not.
func TestExpendable(t *testing.T) {
	score := func(spawn func(*exec.Cmd) (*Child, error)) int {
		t.Helper()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		cmd := exec.Command("/bin/sh", "-c", "cat /proc/self/oom_score_adj; exit 0")
		cmd.Stdout = w
		_, err = spawn(cmd)
		w.Close()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		n, bad := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || bad != nil {
			t.Fatalf("%q, %v", text, err)
		}
		return n
	}
	usual := score(fam.Spawn)
	if got, want := score(fam.SpawnExpendable), min(usual+expendable, 1000); got != want {
		t.Errorf("%d, want %d", got, want)
	}
	if got := score(fam.Spawn); got != usual {
		t.Errorf("afterwards %d, before %d", got, usual)
	}
}

// Invariants 1 and 2: a process that left its parent, its process group and
// its session, and hears no signal, is found and ended, and is no zombie.
func TestEnd(t *testing.T) {
	c, out := shell(t, `setsid sh -c 'trap "" TERM HUP INT; sleep 1000 & echo $$ $!; wait; wait' & exit 0`)
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	last, _ := shell(t, "exec sleep 1000")
	asked := make(chan struct{})
	close(asked) // no patience
	if err := fam.End(t.Context(), time.Hour, asked, last, nil); err != nil {
		t.Fatal(err)
	}
	<-last.Done()
	for text := range strings.FieldsSeq(line) {
		pid, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
			t.Errorf("process %d: %v", pid, err)
		}
	}
	if left := descendants(nil); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
}

// sleeper waits in a shell that has a trap. Its child says "up" when it is a
// program of its own: before, it may take a signal for its parent's trap, and
// lose it.
const sleeper = `sh -c 'echo up; exec sleep 1000' & while :; do wait; done`

// The last ones are asked when the others have gone.
func TestEndOrder(t *testing.T) {
	last, saysLast := shell(t, `trap 'echo last; exit 0' TERM; `+sleeper)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", `trap 'kill -0 $0 && echo first; exit 0' TERM; `+sleeper, strconv.Itoa(last.PID()))
	cmd.Stdout = w
	first, err := fam.Spawn(cmd)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	saysFirst := bufio.NewReader(r)
	for _, says := range []*bufio.Reader{saysLast, saysFirst} {
		if line, err := says.ReadString('\n'); err != nil || line != "up\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
	if err := fam.End(t.Context(), time.Minute, nil, last); err != nil {
		t.Fatal(err)
	}
	for says, want := range map[*bufio.Reader]string{saysFirst: "first\n", saysLast: "last\n"} {
		if line, err := says.ReadString('\n'); err != nil || line != want {
			t.Errorf("%q, %v, want %q", line, err, want)
		}
	}
	if first.Err() != nil || last.Err() != nil {
		t.Errorf("%v, %v", first.Err(), last.Err())
	}
}

func TestEndGivesUp(t *testing.T) {
	c, _ := shell(t, "exec sleep 1000")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := fam.End(ctx, time.Hour, nil, c)
	if err != nil && !errors.Is(err, ErrLeft) { // SIGTERM may have been in time
		t.Error(err)
	}
	if err := fam.End(t.Context(), time.Minute, nil); err != nil {
		t.Error(err)
	}
}
