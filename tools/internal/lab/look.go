package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/client"
	"hotdesk/server/session/keeperapi"
)

// Socket is the terminal's control socket, for `dtu ctl`.
func (t *Terminal) Socket() string { return t.sock }

// Hash names the terminal's picture, its pointer left out.
func (t *Terminal) Hash(ctx context.Context) (string, error) { return t.Ctl(ctx, "hash") }

// restPolls equal pictures in a row, restPeriod apart, make a picture that
// rests: an xterm's prompt or a window manager's frame is drawn within that.
const (
	restPolls  = 6
	restPeriod = 60 * time.Millisecond
)

// Rest waits until the picture has stopped changing and names it.
func (t *Terminal) Rest(ctx context.Context, patience time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(restPeriod)
	defer tick.Stop()
	last, equal := "", 0
	for equal < restPolls {
		hash, err := t.Hash(ctx)
		if ctx.Err() != nil {
			return "", fmt.Errorf("lab: the picture of %s has not come to rest in %v", t.Name, patience)
		}
		if err != nil {
			return "", err
		}
		if hash == last {
			equal++
		} else {
			last, equal = hash, 0
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return last, nil
}

// Shows waits until the picture is the named one.
func (t *Terminal) Shows(ctx context.Context, hash string, patience time.Duration) error {
	if _, err := t.Ctl(ctx, "wait", "-timeout", patience.String(), "hash="+hash); err != nil {
		return fmt.Errorf("%s does not show the expected picture: %w", t.Name, err)
	}
	return nil
}

// Gateway is the process id of the host's gateway.
func (h *Host) Gateway() (int, error) {
	for _, p := range processes() {
		if p.parent == h.Server.PID() && len(p.args) > 1 && p.args[1] == "gateway" {
			return p.id, nil
		}
	}
	return 0, fmt.Errorf("lab: no gateway runs on %s", h.Name)
}

// Sessions lists the host's sessions.
func (h *Host) Sessions() ([]alp.SessionID, error) {
	sockets, err := filepath.Glob(filepath.Join(h.Runtime, "sessions", "*", "keeper.sock"))
	var ids []alp.SessionID
	for _, s := range sockets {
		ids = append(ids, alp.SessionID(filepath.Base(filepath.Dir(s))))
	}
	return ids, err
}

// Keeper asks a session's keeper for its status, and returns the keeper's
// process id as well.
func (h *Host) Keeper(ctx context.Context, id alp.SessionID) (client.Status, int, error) {
	conn, err := net.Dial("unix", keeperapi.Socket(h.Runtime, id))
	if err != nil {
		return client.Status{}, 0, fmt.Errorf("lab: %s: %w", h.Name, err)
	}
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return client.Status{}, 0, err
	}
	pid := 0
	if err := raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	}); err != nil {
		return client.Status{}, 0, err
	}
	k := client.New(conn, deaf{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer k.Close()
	wg.Go(func() { _ = k.Serve(ctx) })
	st, err := k.Status(ctx)
	return st, pid, err
}

// deaf does not care for a keeper's events.
type deaf struct{}

func (deaf) Attached(client.Change)       {}
func (deaf) Detached(client.Change)       {}
func (deaf) Quiet(client.Change, bool)    {}
func (deaf) MediaRestarted(client.Change) {}
func (deaf) Ended(client.Ended)           {}

// Lives says whether a process is there, and no zombie.
func Lives(pid int) bool {
	p, ok := readProcess(pid)
	return ok && !p.zombie
}

// Kill sends SIGKILL and waits until the process is gone (or a zombie).
func Kill(ctx context.Context, pid int) error {
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return fmt.Errorf("lab: kill %d: %w", pid, err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for Lives(pid) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("lab: %d is still there: %w", pid, ctx.Err())
		}
	}
	return nil
}

// process is one living process, as /proc tells.
type process struct {
	id, parent int
	name       string
	args       []string
	zombie     bool
	stopped    bool
}

// processes lists what runs; zombies are left out.
func processes() map[int]process {
	all := map[int]process{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, ok := readProcess(id); ok && !p.zombie {
			all[id] = p
		}
	}
	return all
}

func readProcess(id int) (process, bool) {
	dir := filepath.Join("/proc", strconv.Itoa(id))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return process{}, false
	}
	open, shut := strings.IndexByte(string(stat), '('), strings.LastIndexByte(string(stat), ')')
	if open < 0 || shut < open {
		return process{}, false
	}
	fields := strings.Fields(string(stat[shut+1:]))
	if len(fields) < 2 {
		return process{}, false
	}
	p := process{id: id, name: string(stat[open+1 : shut]), zombie: fields[0] == "Z" || fields[0] == "X", stopped: fields[0] == "T"}
	p.parent, _ = strconv.Atoi(fields[1])
	line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
	p.args = strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
	return p, true
}

// Status asks the terminal for one value of its status.
func (t *Terminal) Status(ctx context.Context, key string) (string, error) {
	text, err := t.Ctl(ctx, "status", "-json")
	if err != nil {
		return "", err
	}
	var all map[string]any
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return "", fmt.Errorf("lab: status of %s: %w", t.Name, err)
	}
	v, ok := all[key]
	if !ok {
		return "", fmt.Errorf("lab: status of %s has no %q: %s", t.Name, key, text)
	}
	return fmt.Sprint(v), nil
}

// PSS is the proportional memory of a process, in thousands of bytes.
func PSS(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, fmt.Errorf("lab: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			return kib * 1024 / 1000, err
		}
	}
	return 0, fmt.Errorf("lab: process %d tells no PSS", pid)
}
