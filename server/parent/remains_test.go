package parent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/keeperapi"
	"hotdesk/server/session/sweep"

	"golang.org/x/sys/unix"
)

// leave makes the files of a session; its keeper lives while the lock is open.
func leave(t *testing.T, runtime, base string, id alp.SessionID) (lock *os.File) {
	t.Helper()
	if err := os.MkdirAll(keeperapi.Sessions(runtime), 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := claim(runtime, id, base, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(base, string(id), "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	return lock
}

// left is what there is of a session's files.
func left(t *testing.T, runtime, base string, id alp.SessionID) (all []string) {
	t.Helper()
	for _, f := range []string{keeperapi.Dir(runtime, id), keeperapi.Lock(runtime, id), filepath.Join(base, string(id))} {
		if _, err := os.Lstat(f); err == nil {
			all = append(all, f)
		} else if !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
	return all
}

// What could not be removed in time goes with the next try, and is found until
// then.
func TestRemovalGoesOn(t *testing.T) {
	runtime, base := t.TempDir(), t.TempDir()
	leave(t, runtime, base, one).Close()
	over, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if err := removeFiles(over, runtime, one, base); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without time: %v", err)
	}
	if got := left(t, runtime, base, one); len(got) != 3 {
		t.Errorf("there is but %v", got)
	}
	running, dead, err := sessions(runtime)
	if len(running) != 0 || len(dead) != 1 || dead[one] != base || err != nil {
		t.Errorf("%v, %v, %v", running, dead, err)
	}
	// The X server was killed as well: its socket is left.
	x := filepath.Join(base, "X1000")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: x, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keeperapi.XSocket(runtime, one), []byte(sweep.SocketAt(x).String()), 0o600); err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if err := removeSession(runtime, one, base); err != nil {
		t.Error(err)
	}
	if got := left(t, runtime, base, one); len(got) != 0 {
		t.Errorf("there is %v", got)
	}
	if _, err := os.Lstat(x); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the X server's socket: %v", err)
	}
}

// It is tried again while the parent runs, at growing pauses, and not for ever;
// the log says what remains.
func TestRemovalIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		r := newRemains("/run/x", slog.New(slog.NewTextHandler(&said, nil)))
		began, fails := time.Now(), 3
		var tries []time.Duration
		r.remove = func(id alp.SessionID, base string) error {
			tries = append(tries, time.Since(began))
			if id != one || base != "/dev/shm/x" {
				t.Errorf("%s in %s", id, base)
			}
			if len(tries) <= fails {
				return errors.New("a/b is busy")
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		var going sync.WaitGroup
		going.Go(func() { r.run(ctx) })

		r.clear(one, "/dev/shm/x")
		r.add(one, "/dev/shm/x") // by whoever looks for sessions meanwhile
		time.Sleep(time.Hour)
		synctest.Wait()
		if got, want := fmt.Sprint(tries), "[0s 10s 30s 1m10s]"; got != want {
			t.Errorf("tried at %s, want %s", got, want)
		}
		if text := said.String(); strings.Count(text, "not removed yet") != 3 || strings.Count(text, "is removed") != 1 ||
			!strings.Contains(text, "/dev/shm/x/"+string(one)) || !strings.Contains(text, "a/b is busy") {
			t.Errorf("said:\n%s", text)
		}

		said.Reset()
		tries, fails = nil, 1000
		r.add(one, "/dev/shm/x")
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		r.add(one, "/dev/shm/x") // it is known that there is something
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(tries) != maxTries {
			t.Errorf("tried %d times, want %d", len(tries), maxTries)
		}
		for i := 1; i < len(tries); i++ {
			if pause := tries[i] - tries[i-1]; pause > againMost {
				t.Errorf("a pause of %v", pause)
			}
		}
		if text := said.String(); strings.Count(text, "by hand") != 1 || !strings.Contains(text, keeperapi.Lock("/run/x", one)) {
			t.Errorf("said:\n%s", text)
		}
		cancel()
		going.Wait()
	})
}

// What is found dead when sessions are looked for goes too, beside whoever looks.
func TestFoundDead(t *testing.T) {
	runtime, base := t.TempDir(), t.TempDir()
	leave(t, runtime, base, one).Close()
	defer leave(t, runtime, base, other).Close()
	synctest.Test(t, func(t *testing.T) {
		p := &parent{Config: Config{Runtime: runtime}, remains: newRemains(runtime, slog.New(slog.DiscardHandler))}
		if list, err := p.sessions(); len(list) != 1 || list[0] != other || err != nil {
			t.Errorf("%v, %v", list, err)
		}
		if got := left(t, runtime, base, one); len(got) != 3 {
			t.Errorf("whoever looks has waited for the removal: there is but %v", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var going sync.WaitGroup
		going.Go(func() { p.remains.run(ctx) })
		synctest.Wait()
		if got := left(t, runtime, base, one); len(got) != 0 {
			t.Errorf("there is %v", got)
		}
		if got := left(t, runtime, base, other); len(got) != 3 {
			t.Errorf("of one that lives there is but %v", got)
		}
		cancel()
		going.Wait()
	})
}

// While the files of the dead are removed, the parent goes on: whoever starts a
// session or asks for the list takes mu.
func TestRemovalKeepsNobodyWaiting(t *testing.T) {
	cmd := exec.Command("false")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	k := &keeperProc{pid: cmd.Process.Pid, start: keeperapi.Start{Session: one}, done: make(chan struct{})}
	_ = cmd.Process.Release()
	log := slog.New(slog.DiscardHandler)
	p := &parent{Config: Config{Runtime: t.TempDir(), Log: log}, keepers: map[int]*keeperProc{k.pid: k}, remains: newRemains("", log)}
	removing := make(chan struct{})
	p.remains.remove = func(alp.SessionID, string) error { <-removing; return nil }
	var reaping sync.WaitGroup
	reaping.Go(func() {
		for waited := false; !waited; { // until it has ended
			p.reap()
			select {
			case <-k.done:
				waited = true
			default:
				goruntime.Gosched()
			}
		}
	})
	for reaped := false; !reaped; goruntime.Gosched() {
		p.mu.Lock()
		reaped = len(p.keepers) == 0
		p.mu.Unlock()
	}
	select {
	case <-k.done:
		t.Error("its start is answered before its files are gone")
	default:
	}
	close(removing)
	reaping.Wait()
}

// Of a session whose files its keeper cannot remove the parent knows, and so does
// whoever stops sessions; what stays goes as soon as it can.
func TestKeeperLeavesSomething(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("something that cannot be removed needs root; CI is root")
	}
	r := newRig(t)
	var said lines
	r.cfg.Log = slog.New(slog.NewTextHandler(&said, nil))
	stop, _ := r.run()
	g := r.gateway()
	if _, err := g.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	k := r.start(g, one)
	stuck := filepath.Join(r.cfg.FrameBuffer, string(one), "run", "stuck")
	if err := os.Mkdir(stuck, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("stuck", stuck, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	mounted := true
	t.Cleanup(func() {
		if mounted {
			_ = unix.Unmount(stuck, unix.MNT_DETACH)
		}
	})
	kept := filepath.Join(stuck, "kept")
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := k.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.ended(one)
	for end := time.Now().Add(patience); !strings.Contains(said.String(), "not removed yet"); goruntime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("said: %s", said.String())
		}
	}
	if got := left(t, r.cfg.Runtime, r.cfg.FrameBuffer, one); len(got) != 3 {
		t.Errorf("there is but %v", got)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("what is mounted there was emptied: %v", err)
	}
	stop()
	if _, err := StopSessions(t.Context(), r.cfg.Runtime, nil); err == nil || !strings.Contains(err.Error(), string(one)) {
		t.Errorf("nothing is told of what stays: %v", err)
	}
	mounted = false
	if err := unix.Unmount(stuck, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := StopSessions(t.Context(), r.cfg.Runtime, nil); err != nil {
		t.Error(err)
	}
	r.nothingLeft()
}

// lines is a log that is read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A session has as long to end as its keeper takes at most. One that does not is
// told of, and so is what stays of one that does.
func TestStopWaitsForTheKeeper(t *testing.T) {
	runtime, base := t.TempDir(), t.TempDir()
	for _, c := range []struct {
		name  string
		after time.Duration // its keeper has ended; 0: never
		want  string        // of the error
	}{
		{"late", keeperapi.EndTime - time.Second, ""},
		{"never", 0, "has not ended in " + keeperapi.EndTime.String()},
	} {
		lock := leave(t, runtime, base, one)
		synctest.Test(t, func(t *testing.T) {
			if c.after > 0 {
				time.AfterFunc(c.after, func() { lock.Close() })
			}
			began := time.Now()
			n, err := StopSessions(t.Context(), runtime, nil)
			if took := time.Since(began); took > keeperapi.EndTime {
				t.Errorf("%s: waited %v", c.name, took)
			}
			if c.want == "" && (err != nil || n != 1) || c.want != "" && (err == nil || n != 0 || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), string(one))) {
				t.Errorf("%s: %d ended, %v", c.name, n, err)
			}
		})
		if got := left(t, runtime, base, one); (len(got) == 0) != (c.want == "") {
			t.Errorf("%s: there is %v", c.name, got)
		}
		lock.Close()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := removeSession(runtime, one, base); err != nil {
		t.Fatal(err)
	}
	defer leave(t, runtime, base, one).Close()
	if _, err := StopSessions(ctx, runtime, nil); err == nil || !strings.Contains(err.Error(), "not waited for") {
		t.Errorf("given up: %v", err)
	}
}
