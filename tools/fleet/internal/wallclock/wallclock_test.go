package wallclock

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"
)

const asClock = "HOTDESK_TEST_CLOCK"

// As a clock the test tells the time, and how long it runs, once for each line
// that it reads.
func TestMain(m *testing.M) {
	if os.Getenv(asClock) == "" {
		os.Exit(m.Run())
	}
	// Threads that read the clock all the time.
	for range 3 {
		go func() {
			for {
				_ = time.Now()
			}
		}()
	}
	began := time.Now()
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		fmt.Println(time.Now().Unix(), time.Since(began).Milliseconds())
	}
}

// The clock of a program is set to and fro while it reads it; how long it runs
// is not touched by that.
func TestSet(t *testing.T) {
	if err := Possible(); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), asClock+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	began := time.Now()
	tells := func() (off time.Duration, runs time.Duration) {
		t.Helper()
		var now, ms int64
		if _, err := fmt.Fprintln(in); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fscanln(lines, &now, &ms); err != nil {
			t.Fatal(err)
		}
		return time.Duration(now-time.Now().Unix()) * time.Second, time.Duration(ms) * time.Millisecond
	}
	const slack = 30 * time.Second // the machine may be busy
	for _, by := range []time.Duration{time.Hour, -time.Hour, 10 * 365 * 24 * time.Hour, -10 * 365 * 24 * time.Hour, 0, 100 * time.Second, 0} {
		tells() // it runs
		if set, err := Set(by, cmd.Process.Pid); err != nil || set != 1 {
			t.Fatalf("%v: %d set, %v", by, set, err)
		}
		off, runs := tells()
		if d := off - by; d < -slack || d > slack {
			t.Errorf("set by %v: it is off by %v", by, off)
		}
		if d := runs - time.Since(began); d < -slack || d > slack {
			t.Errorf("set by %v: it runs for %v, and should for %v", by, runs, time.Since(began))
		}
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if set, err := Set(time.Hour, cmd.Process.Pid); err != nil || set != 0 {
		t.Errorf("a process that has ended: %d set, %v", set, err)
	}
}

// Programs end, and become others, at any moment of their clocks being set:
// neither is an error.
func TestSetEnding(t *testing.T) {
	if err := Possible(); err != nil {
		t.Fatal(err)
	}
	for name, does := range map[string]string{
		"ends":           "read x",
		"becomes others": "read x; exec sh -c 'exec sh -c \"exec sh -c true\"'",
	} {
		t.Run(name, func(t *testing.T) {
			for i := range 100 {
				cmd := exec.Command("sh", "-c", does)
				in, err := cmd.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				go func() {
					for range i * 100 { // a little later each time
						runtime.Gosched()
					}
					in.Close()
				}()
				for range 5 {
					if _, err := Set(time.Hour, cmd.Process.Pid); err != nil {
						t.Errorf("time %d: %v", i, err)
					}
				}
				if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() != 1 { // read's own word of an end
					t.Error(err)
				}
			}
		})
	}
}
