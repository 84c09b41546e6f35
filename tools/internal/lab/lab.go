// Package lab runs hosts' worth of Hotdesk programs and emulated terminals on
// loopback addresses, for the quickstart, the tour and the end-to-end tests.
//
// A Lab owns a folder and every process started in it. Programs are real ones,
// in -local mode, or as root would install them on machines that are network
// namespaces (Installed); nothing is faked. Close ends them, sessions too, and
// reports whatever is still there.
//
// The lab makes its own process the reaper of orphans (PR_SET_CHILD_SUBREAPER),
// so that a process which outlives its program is still found. A Lab is safe
// for concurrent use; one per process.
package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hotdesk/dtu/app"
	"hotdesk/server/session/keeperapi"
)

// Programs are what Build makes: name and package.
var Programs = [][2]string{
	{"groupmgr", "./groupmgr"}, {"server", "./server"}, {"session", "./server/session"}, {"dtu", "./dtu"},
}

// Build compiles the programs of the module in root into bin.
func Build(ctx context.Context, root, bin string, flags ...string) error {
	for _, p := range Programs {
		args := append([]string{"build"}, flags...)
		cmd := exec.CommandContext(ctx, "go", append(args, "-o", filepath.Join(bin, p[0]), p[1])...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("lab: go build %s: %w\n%s", p[1], err, out)
		}
	}
	return nil
}

// Config says where and as whom a lab runs.
type Config struct {
	Bin  string // folder of the built programs
	Dir  string // folder for state, sockets and logs; short, since sockets lie in it
	UID  int    // run the programs as this user; 0 = as the caller
	GID  int
	Home string
}

// A Lab is a set of running programs.
type Lab struct {
	Config
	GroupPort int

	mu    sync.Mutex
	procs []*Proc
	known map[string]*Terminal
	fbs   []string
	dead  map[int]time.Time // orphans that have ended, and when Reap saw them first
}

// New prepares a lab. The group port is one that is free now.
func New(cfg Config) (*Lab, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("lab: subreaper: %w", err)
	}
	port, err := groupPort()
	if err != nil {
		return nil, err
	}
	l := &Lab{Config: cfg, GroupPort: port}
	if err := l.mkdir(cfg.Dir); err != nil {
		return nil, err
	}
	for _, d := range []string{"state", "log", "cards"} {
		if err := l.mkdir(l.Path(d)); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// groupPort is a port that nobody has, below those that the system gives to
// sockets that ask for any: till the first host has it, programs that run beside
// this one open many of those.
func groupPort() (int, error) {
	const lowest, count, tries = 20000, 12000, 100
	var last error
	for range tries {
		port := lowest + rand.IntN(count)
		c, err := net.ListenPacket("udp4", ":"+strconv.Itoa(port))
		if err == nil {
			return port, c.Close()
		}
		last = err
	}
	return 0, fmt.Errorf("lab: no free group port: %w", last)
}

func (l *Lab) mkdir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if l.UID == 0 {
		return nil
	}
	return os.Chown(dir, l.UID, l.GID)
}

// Path is a file or folder of the lab.
func (l *Lab) Path(parts ...string) string {
	return filepath.Join(append([]string{l.Dir}, parts...)...)
}

// Authority is what terminals pin.
func (l *Lab) Authority() string { return l.Path("state", "authority.pem") }

// A Proc is a running program.
type Proc struct {
	Name string
	Args []string

	cmd   *exec.Cmd
	log   *os.File
	ready chan map[string]string
	done  chan struct{}
	err   error
}

// PID is the process id.
func (p *Proc) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Proc) Done() <-chan struct{} { return p.done }

// Err is how it ended: nil for exit code 0.
func (p *Proc) Err() error { <-p.done; return p.err }

// Log returns what the program has written to standard error so far.
func (p *Proc) Log() string {
	b, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Signal sends a signal; to a process that has ended it does nothing.
func (p *Proc) Signal(s syscall.Signal) {
	select {
	case <-p.done:
	default:
		_ = p.cmd.Process.Signal(s)
	}
}

// Start runs a program of the lab. Its standard error goes to a log file.
func (l *Lab) Start(name, program string, args ...string) (*Proc, error) {
	return l.start(Where{UID: l.UID, GID: l.GID}, name, program, args)
}

func (l *Lab) start(w Where, name, program string, args []string) (*Proc, error) {
	log, err := os.OpenFile(l.Path("log", name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	p := &Proc{Name: name, Args: args, log: log, ready: make(chan map[string]string, 1), done: make(chan struct{})}
	p.cmd = exec.Command(filepath.Join(l.Bin, program), args...)
	p.cmd.Dir = l.Dir
	p.cmd.Stderr = log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's ctrl-C is the caller's to pass on
	p.cmd.Env = os.Environ()
	if w.UID != 0 {
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(w.UID), Gid: uint32(w.GID)}
	}
	if l.UID != 0 {
		p.cmd.Env = append(p.cmd.Env, "HOME="+l.Home, "USER="+filepath.Base(l.Home))
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.enter(p.cmd.Start); err != nil {
		return nil, fmt.Errorf("lab: %s: %w", program, err)
	}
	l.mu.Lock()
	l.procs = append(l.procs, p)
	l.mu.Unlock()
	go func() {
		p.follow(out)
		p.err = p.cmd.Wait()
		log.Close()
		close(p.done)
	}()
	return p, nil
}

// follow copies standard output to the log and picks the ready lines out.
func (p *Proc) follow(out io.Reader) {
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		fmt.Fprintln(p.log, sc.Text())
		_, rest, ok := strings.Cut(sc.Text(), ": ready")
		if !ok {
			continue
		}
		values := map[string]string{}
		for w := range strings.FieldsSeq(rest) {
			if k, v, ok := strings.Cut(w, "="); ok {
				values[k] = v
			}
		}
		select {
		case p.ready <- values:
		default: // nobody has asked for the last one: the newest counts
			<-p.ready
			p.ready <- values
		}
	}
}

// Ready waits for the program's (next) ready line and returns its key=value
// words.
func (p *Proc) Ready(ctx context.Context) (map[string]string, error) {
	select {
	case v := <-p.ready:
		return v, nil
	case <-p.done:
		return nil, fmt.Errorf("lab: %s ended before it was ready: %v\n%s", p.Name, p.err, tail(p.Log()))
	case <-ctx.Done():
		return nil, fmt.Errorf("lab: %s is not ready: %w\n%s", p.Name, ctx.Err(), tail(p.Log()))
	}
}

func tail(s string) string { return s[max(0, len(s)-2000):] }

// A Host is one session server's programs.
type Host struct {
	Name     string
	Runtime  string
	Addr     string // control address, host:port
	GroupMgr *Proc
	Server   *Proc

	lab        *Lab
	serverArgs []string
	installed  *Installed // nil: its programs run with -local
	oldAddr    []string   // flags of the addresses that it had before it crashed
	oldPort    []string
	stalled    []int // processes that Stall stopped
}

// Host starts the programs of a host; serverArgs are added to its server's.
func (l *Lab) Host(ctx context.Context, name string, serverArgs ...string) (*Host, error) {
	h := &Host{Name: name, Runtime: l.Path(name), lab: l, serverArgs: serverArgs}
	if err := l.mkdir(h.Runtime); err != nil {
		return nil, err
	}
	if err := h.StartGroupMgr(ctx); err != nil {
		return nil, err
	}
	return h, h.StartServer(ctx)
}

// StartGroupMgr starts the group manager, or starts it again.
func (h *Host) StartGroupMgr(ctx context.Context) (err error) {
	if h.installed != nil {
		h.GroupMgr, err = h.installed.groupmgr(h)
	} else {
		args := append(h.places(), "-host", h.Name, "-port", strconv.Itoa(h.lab.GroupPort))
		h.GroupMgr, err = h.lab.Start("groupmgr-"+h.Name, "groupmgr", append(args, h.oldAddr...)...)
	}
	if err != nil {
		return err
	}
	_, err = h.GroupMgr.Ready(ctx)
	return err
}

// places are the flags that tell a server where its files are.
func (h *Host) places() []string {
	if h.installed != nil {
		return []string{"-runtime", h.Runtime, "-state", h.installed.State}
	}
	return []string{"-local", "-runtime", h.Runtime, "-state", h.lab.Path("state")}
}

// FrameBuffers is the folder of the host's sessions' screens.
func (h *Host) FrameBuffers() string {
	return filepath.Join("/dev/shm", filepath.Base(h.lab.Dir)+"-"+h.Name)
}

// StartServer starts the server, or starts it again; args are added to its own.
func (h *Host) StartServer(ctx context.Context, args ...string) (err error) {
	fb := h.FrameBuffers()
	args = slices.Concat(h.places(), []string{"-fb", fb}, args)
	h.lab.mu.Lock()
	if !slices.Contains(h.lab.fbs, fb) {
		h.lab.fbs = append(h.lab.fbs, fb)
	}
	h.lab.mu.Unlock()
	if h.installed != nil {
		h.Server, err = h.installed.server(h, args)
	} else {
		h.Server, err = h.lab.Start("server-"+h.Name, "server", slices.Concat(args, h.serverArgs, h.oldPort)...)
	}
	if err != nil {
		return err
	}
	ready, err := h.Server.Ready(ctx)
	if err != nil {
		return err
	}
	h.Addr = ready["control"]
	if h.installed != nil && h.installed.Addr.IsValid() { // it listens on every address
		at, err := netip.ParseAddrPort(h.Addr)
		if err != nil {
			return fmt.Errorf("lab: %s says its address is %q: %w", h.Name, h.Addr, err)
		}
		h.Addr = netip.AddrPortFrom(h.installed.Addr, at.Port()).String()
	}
	return nil
}

// StopSessions ends the host's sessions.
func (h *Host) StopSessions(ctx context.Context) error {
	p, err := h.lab.Start("stop-"+h.Name, "server", append(h.places(), "-stop-sessions")...)
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		return fmt.Errorf("lab: server -stop-sessions: %w", ctx.Err())
	}
	if p.err != nil {
		return fmt.Errorf("lab: server -stop-sessions: %w\n%s", p.err, tail(p.Log()))
	}
	return nil
}

// A Terminal is one running dtu.
type Terminal struct {
	Name  string
	Proc  *Proc
	Ready map[string]string

	lab  *Lab
	sock string
}

// Terminal starts a terminal; unless args say otherwise it is headless,
// 1280x1024, and finds its server by serverQ.
func (l *Lab) Terminal(ctx context.Context, name string, args ...string) (*Terminal, error) {
	all := []string{"-local", "-authority", l.Authority(), "-group-port", strconv.Itoa(l.GroupPort)}
	return l.terminal(ctx, Where{UID: l.UID, GID: l.GID}, name, append(all, args...))
}

func (l *Lab) terminal(ctx context.Context, w Where, name string, args []string) (*Terminal, error) {
	t := &Terminal{Name: name, lab: l, sock: l.Path(name + ".ctl")}
	all := []string{"-ctl", t.sock, "-cards", l.Path("cards")}
	if !slices.Contains(args, "-display") {
		all = append(all, "-display", "headless")
	}
	var err error
	if t.Proc, err = l.start(w, "dtu-"+name, "dtu", append(all, args...)); err != nil {
		return nil, err
	}
	if t.Ready, err = t.Proc.Ready(ctx); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		l.known = map[string]*Terminal{}
	}
	l.known[name] = t
	return t, nil
}

// Known returns the terminal of that name, nil if none was started.
func (l *Lab) Known(name string) *Terminal {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known[name]
}

// Ctl is `dtu ctl` at the terminal; it returns what that prints.
func (t *Terminal) Ctl(ctx context.Context, args ...string) (string, error) {
	var out strings.Builder
	if err := app.Ctl(ctx, append([]string{"-socket", t.sock}, args...), &out); err != nil {
		return "", fmt.Errorf("lab: %s: dtu ctl %s: %w", t.Name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(out.String()), nil
}

// Stop ends a program in good order and waits for it; after the deadline it is
// killed, which is an error.
func (p *Proc) Stop(wait time.Duration) error {
	p.Signal(syscall.SIGTERM)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		p.Signal(syscall.SIGKILL)
		<-p.done
		return fmt.Errorf("lab: %s did not stop within %v and was killed", p.Name, wait)
	}
}

// Close ends every session and program, waits for them, and returns an error
// that names what was left: processes, or frame buffers.
func (l *Lab) Close(hosts ...*Host) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*keeperapi.EndTime) // hundreds of sessions take theirs
	defer cancel()
	var errs []error
	l.mu.Lock()
	procs := slices.Clone(l.procs)
	l.mu.Unlock()
	for _, p := range slices.Backward(procs) {
		select {
		case <-p.done:
		default:
			if err := p.Stop(10 * time.Second); err != nil {
				errs = append(errs, err)
			}
		}
	}
	for _, h := range hosts {
		if err := h.StopSessions(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	if left := Descendants(ctx); len(left) > 0 {
		errs = append(errs, fmt.Errorf("lab: processes left: %s", strings.Join(left, ", ")))
	}
	for _, fb := range l.fbs {
		if entries, err := os.ReadDir(fb); err == nil && len(entries) > 0 {
			errs = append(errs, fmt.Errorf("lab: frame buffers left in %s: %v", fb, entries))
		}
		_ = os.RemoveAll(fb)
	}
	return errors.Join(errs...)
}

// Descendants waits until the process has no descendants, or ctx ends or two
// seconds pass, and names those that are left.
func Descendants(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		left := descendants(os.Getpid())
		if len(left) == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return left
		}
	}
}

// descendants lists the living processes below pid as "name(pid)", and reaps
// the orphans among them that have ended.
func descendants(pid int) (left []string) {
	for {
		if id, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != nil || id <= 0 {
			break
		}
	}
	for _, p := range below(pid) {
		left = append(left, fmt.Sprintf("%s(%d)", p.name, p.id))
	}
	slices.Sort(left)
	return left
}

// below are the living processes below pid. Where a parent ends while they are
// listed, its children are somebody else's, and are looked for again.
func below(pid int) (all []process) {
	for range 10 {
		all = nil
		procs, torn := processes(), false
		for _, p := range procs {
			up := p.parent
			for up > 1 && up != pid {
				above, ok := procs[up]
				if !ok {
					torn = true
					break
				}
				up = above.parent
			}
			if up == pid {
				all = append(all, p)
			}
		}
		if !torn {
			break
		}
	}
	return all
}
