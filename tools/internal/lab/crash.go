package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
)

// All lists every process of the host: its programs, its sessions, and all
// that run below them.
func (h *Host) All(ctx context.Context) ([]int, error) {
	roots := []int{h.GroupMgr.PID(), h.Server.PID()}
	ids, err := h.Sessions()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		_, keeper, err := h.Keeper(ctx, id)
		if err != nil {
			return nil, err
		}
		roots = append(roots, keeper)
	}
	procs := processes()
	var all []int
	for id := range procs {
		for up := id; up > 1; up = procs[up].parent {
			if slices.Contains(roots, up) {
				all = append(all, id)
				break
			}
		}
	}
	return all, nil
}

// Crash kills every process of the host at once, also when it is stalled, and
// returns when they are gone. What the kernel would have lost with a real host
// is not cleaned up.
func (h *Host) Crash(ctx context.Context) error {
	all := h.stalled
	if all == nil {
		var err error
		if all, err = h.All(ctx); err != nil {
			return err
		}
	}
	h.stalled = nil
	Signal(all, syscall.SIGSTOP) // else those that are still there see the others go
	Signal(all, syscall.SIGKILL)
	return h.Gone(ctx, all)
}

// Stall stops every process of the host: it is as silent as behind a link that
// was cut. Crash or Resume ends that.
func (h *Host) Stall(ctx context.Context) (err error) {
	if h.stalled, err = h.All(ctx); err == nil {
		Signal(h.stalled, syscall.SIGSTOP)
	}
	return err
}

// Resume lets a host go on that was stalled.
func (h *Host) Resume() {
	Signal(h.stalled, syscall.SIGCONT)
	h.stalled = nil
}

// Stay has the host's programs keep their addresses when they are started
// again.
func (h *Host) Stay() error {
	addr, port, err := net.SplitHostPort(h.Addr)
	if err == nil && h.installed == nil {
		h.oldAddr, h.oldPort = []string{"-addr", addr}, []string{"-control-port", port}
	}
	return err
}

// Registry starts a server that has the group's registry and nothing else: no
// group manager, and so no sessions. It returns what the others' -registry is.
func (l *Lab) Registry(ctx context.Context, name string) (*Host, string, error) {
	const addr = "127.0.77.1"
	c, err := net.Listen("tcp4", addr+":0")
	if err != nil {
		return nil, "", err
	}
	at := c.Addr().String()
	c.Close()
	h := &Host{Name: name, Runtime: l.Path(name), lab: l, serverArgs: []string{"-addr", addr, "-host", name, "-registry-listen", at}}
	if err := l.mkdir(h.Runtime); err != nil {
		return nil, "", err
	}
	return h, "https://" + at, h.StartServer(ctx)
}

// Admin asks the host's gateway for what its admins see at a path of
// protocol/adminapi.
func (h *Host) Admin(ctx context.Context, path string, to any) error {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	t := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(h.Runtime, adminapi.Socket))
	}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://hotdesk"+adminapi.Prefix+path, nil)
	if err != nil {
		return err
	}
	answer, err := t.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("lab: %s: %w", h.Name, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("lab: %s answers %s", h.Name, answer.Status)
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(to); err != nil {
		return fmt.Errorf("lab: %s: %w", h.Name, err)
	}
	return nil
}

const (
	askWithin = 5 * time.Second
	maxAnswer = 16 << 20 // bytes
)

// Greets shakes hands with the host's gateway as a terminal that trusts the
// lab's authority; the error says why it would not go on.
func (h *Host) Greets(ctx context.Context) (*x509.Certificate, error) {
	text, err := os.ReadFile(h.lab.Authority())
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: alp.ServerName, NextProtos: []string{alp.ALPN}, MinVersion: tls.VersionTLS13}}
	c, err := d.DialContext(ctx, "tcp", h.Addr)
	if err != nil {
		return nil, fmt.Errorf("lab: %s: %w", h.Name, err)
	}
	defer c.Close()
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

// Kill ends a program and its children at once, and waits for the program.
func (p *Proc) Kill() {
	var all []int
	for id, q := range processes() {
		if q.parent == p.PID() {
			all = append(all, id)
		}
	}
	p.Signal(syscall.SIGKILL)
	Signal(all, syscall.SIGKILL)
	<-p.done
}

// Signal sends a signal to processes; those that have ended are passed over.
func Signal(pids []int, s syscall.Signal) {
	for _, id := range pids {
		_ = syscall.Kill(id, s)
	}
}

// Stopped says whether a process has taken in that it was stopped (SIGSTOP).
func Stopped(pid int) bool {
	p, ok := readProcess(pid)
	return ok && p.stopped
}

// reapAfter is for how long a child of this process is a zombie before it counts
// as an orphan: what was started here is waited for at once.
const reapAfter = 5 * time.Second

// Reap takes in the orphans that have ended, which killed programs leave to this
// process: in a long run there are thousands. It is to be called now and then.
func (l *Lab) Reap(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ours := map[int]bool{}
	for _, p := range l.procs {
		select {
		case <-p.done:
		default:
			ours[p.PID()] = true // it may hang on what its children still hold
		}
	}
	dead := map[int]time.Time{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil || ours[id] {
			continue
		}
		p, ok := readProcess(id)
		if !ok || !p.zombie || p.parent != os.Getpid() {
			continue
		}
		first, seen := l.dead[id]
		if !seen {
			first = now
		}
		if now.Sub(first) >= reapAfter {
			_, _ = syscall.Wait4(id, nil, syscall.WNOHANG, nil)
			continue
		}
		dead[id] = first
	}
	l.dead = dead
}

// Gone waits until killed processes are gone.
func (h *Host) Gone(ctx context.Context, all []int) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		procs := processes()
		if !slices.ContainsFunc(all, func(id int) bool { return procs[id].id == id }) {
			<-h.GroupMgr.Done()
			<-h.Server.Done()
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("lab: processes of %s are still there: %w", h.Name, ctx.Err())
		}
	}
}

// Boot starts the programs of a host that crashed, at its old addresses.
func (h *Host) Boot(ctx context.Context) error {
	if err := h.Stay(); err != nil {
		return err
	}
	if err := h.StartGroupMgr(ctx); err != nil {
		return err
	}
	return h.StartServer(ctx)
}
