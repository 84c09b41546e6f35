// Package parent is the part of the server program that runs as root: it
// starts the gateway, the keepers and their sockets, and does nothing else.
//
// Source: design sections 1 and 8.
//
// The gateway talks to it over one SOCK_SEQPACKET socketpair in bounded JSON
// messages; a keeper's control connection comes back as a descriptor. The
// parent reads nothing from a network, and does not believe the gateway: it
// refuses users that must have no session, whatever is asked.
//
// Invariants:
//  1. One parent per runtime directory: it holds gateway.lock.
//  2. Keepers outlive the parent. A keeper's lock file is locked from before
//     its start until its process has ended, so that any later parent can tell
//     a session that runs from one that died.
//  3. A gateway that dies is started again, at once the first time; one that
//     has never asked for the list of sessions has never come up, and ends Run.
//  4. When Run returns, the gateway and all goroutines of Run have ended.
//  5. A lock file goes last of what a session has left: what cannot be removed is
//     tried again, by this parent for an hour, and by each later one.
//
// Limits: MaxMessage, MaxSessions, maxStarting, StartTime, and how often the
// password of a user is tried: strangeFree, usualFree.
package parent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"hotdesk/protocol/program"
	"hotdesk/server/session/cgroup"
	"hotdesk/server/session/keeperapi"
	"hotdesk/server/session/services"

	"golang.org/x/sys/unix"
)

const (
	// StartTime bounds the start of a session.
	StartTime = 15 * time.Second
	// maxStarting bounds the requests at one time.
	maxStarting = 16
	// backoffFirst and backoffMost are the pauses before the gateway is
	// started again, doubled each time; the first restart has none. A gateway
	// that ran for healthyAfter starts the count anew.
	backoffFirst = 100 * time.Millisecond
	backoffMost  = 5 * time.Second
	healthyAfter = 2 * time.Second
	// drainTime bounds the gateway's end when it is asked to stop.
	drainTime = 10 * time.Second
)

// Config is what Run needs.
type Config struct {
	Runtime     string // RUNTIME; made where it is missing
	FrameBuffer string // FB
	// Addr is the address of the media sockets. Zero: loopback in local mode,
	// all addresses otherwise.
	Addr netip.Addr
	// FirstPort and LastPort are the range of the media sockets; 0: any free
	// port.
	FirstPort, LastPort int
	SessionProgram      string // the session binary
	SessionScript       string // "" for Hotdesk's own
	SessionServices     string // directory of services' files, "" for none
	// Limits hold for every session: others are narrowed to them.
	Limits cgroup.Limits
	// SessionGroup names the group whose members may have a session; "": every
	// user that is not a system's.
	SessionGroup string
	// KioskGroup names the group whose members kiosks run as, and nothing else
	// does; "": this host runs none.
	KioskGroup    string
	KioskSkeleton string // directory whose copies kiosks' homes are
	// Service is the PAM service that users log in by.
	Service string
	// Only, if not "", is the one user who gets a session without a login,
	// where SessionGroup names nobody: with logins, the gateway's word alone is
	// not enough for the others.
	Only                string
	MaxWidth, MaxHeight int           // of a session's screen
	FrameBudget         time.Duration // after which a frame leaves a trace; 0: none does
	Local               bool
	// Gateway makes the command of a gateway. Run puts the socketpair before
	// its ExtraFiles, as descriptor GatewayFD, and adds the user.
	Gateway func() *exec.Cmd
	// Sign makes a further certificate for a host, where the authority's key
	// is here; nil: it is not.
	Sign func(name string, public []byte) ([]byte, error)
	// GatewayUser runs the gateway; ignored in local mode.
	GatewayUser string
	Level       slog.Level   // of the sessions' logs
	Log         *slog.Logger // nil = silent
}

// pamServices is where PAM looks for a service's file (pam.d(5)): in its place
// would come one that refuses everybody.
var pamServices = []string{"/etc/pam.d", "/usr/lib/pam.d"}

// HasService reports whether PAM has a service of that name.
func HasService(name string) bool {
	return slices.ContainsFunc(pamServices, func(dir string) bool { _, err := os.Stat(filepath.Join(dir, name)); return err == nil })
}

type parent struct {
	Config
	gateway *syscall.Credential
	seats   chan struct{} // one for each request at work

	// starting is held shared while a session starts, and alone while somebody
	// looks which sessions there are.
	starting sync.RWMutex

	tried  counter
	logins sync.WaitGroup // that are counted in tried

	kiosks sync.Mutex // held while an account of a kiosk is taken

	remains *remains // of the dead

	mu      sync.Mutex
	keepers map[int]*keeperProc
	came    bool // a gateway has asked for the list
}

// Run starts the gateway and serves it until ctx ends. Sessions go on.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &parent{Config: cfg, seats: make(chan struct{}, maxStarting), keepers: map[int]*keeperProc{}, remains: newRemains(cfg.Runtime, cfg.Log)}
	p.tried.users = map[string]*tried{}
	if err := p.check(); err != nil {
		return err
	}
	lock, err := p.prepare()
	if err != nil {
		return err
	}
	defer lock.Close()
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	var work sync.WaitGroup
	defer work.Wait()
	defer p.logins.Wait()
	defer close(children)
	defer signal.Stop(children)
	work.Go(func() {
		for range children {
			p.reap()
		}
	})
	p.starting.Lock()
	running, err := p.sessions()
	p.starting.Unlock()
	if err != nil {
		return err
	}
	p.Log.Info("sessions found", "count", len(running))
	watching, over := context.WithCancel(ctx)
	defer over()
	work.Go(func() { p.watchFound(watching, running) })
	work.Go(func() { p.remains.run(watching) })
	return p.runGateways(ctx)
}

func (p *parent) check() error {
	root := os.Geteuid() == 0
	switch {
	case !root && !p.Local:
		return errors.New("parent: only root can start other users' sessions: run as root, or with -local")
	case len(keeperapi.Socket(p.Runtime, "0123456789abcdef")) > keeperapi.MaxPath:
		return fmt.Errorf("parent: -runtime %s is too long a path: sockets below it must have at most %d bytes", p.Runtime, keeperapi.MaxPath)
	}
	if st, err := os.Stat(p.SessionProgram); err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		return fmt.Errorf("parent: there is no program %s: name the session program with -session-program", p.SessionProgram)
	}
	if p.SessionScript != "" {
		if _, err := os.Stat(p.SessionScript); err != nil {
			return fmt.Errorf("parent: -session-script: %w", err)
		}
	}
	if _, err := services.Read(p.SessionServices); err != nil {
		return fmt.Errorf("parent: -session-services: %w", err)
	}
	if p.KioskGroup != "" && p.KioskSkeleton != "" {
		if st, err := os.Stat(p.KioskSkeleton); err != nil || !st.IsDir() {
			return fmt.Errorf("parent: -kiosk-skeleton %s is no directory", p.KioskSkeleton)
		}
	}
	if err := p.Limits.Check(); err != nil {
		return fmt.Errorf("parent: -session-memory, -session-processes or -session-cpu-weight: %w", err)
	}
	if p.Local {
		return nil
	}
	if p.KioskGroup != "" { // who is in it has no other session: nobody would, without it
		if _, err := user.LookupGroup(p.KioskGroup); err != nil {
			return fmt.Errorf("parent: -kiosk-group: %w: make it (groupadd %s), and put the kiosks' accounts and nobody else in it", err, p.KioskGroup)
		}
	}
	if p.Service != "" && !HasService(p.Service) {
		return fmt.Errorf("parent: there is no PAM service %s: write /etc/pam.d/%s (README.md has an example), or name another with -pam-service", p.Service, p.Service)
	}
	u, err := user.Lookup(p.GatewayUser)
	if err != nil {
		return fmt.Errorf("parent: %w: make that account, or name another with -gateway-user", err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err1 != nil || err2 != nil || uid == 0 {
		return fmt.Errorf("parent: the gateway cannot run as %s (uid %s): name an account without rights with -gateway-user", p.GatewayUser, u.Uid)
	}
	p.gateway = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return nil
}

// prepare makes the directories and takes the lock.
func (p *parent) prepare() (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(p.Runtime), 0o755); err != nil {
		return nil, fmt.Errorf("parent: %w", err)
	}
	err := os.Mkdir(p.Runtime, 0o755)
	made := err == nil
	if err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("parent: %w", err)
	}
	if p.gateway != nil {
		if err := p.share(made); err != nil {
			return nil, err
		}
	}
	if err := ours(p.Runtime, true); err != nil {
		return nil, err
	}
	sessions := keeperapi.Sessions(p.Runtime)
	if err := os.Mkdir(sessions, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("parent: %w", err)
	}
	if err := ours(sessions, false); err != nil {
		return nil, err
	}
	path := filepath.Join(p.Runtime, "gateway.lock")
	lock, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("parent: %w", err)
	}
	if !tryLock(lock) {
		lock.Close()
		return nil, fmt.Errorf("parent: another server uses %s: stop it, or choose another -runtime", p.Runtime)
	}
	return lock, nil
}

// share lets the gateway's account put the group manager's socket into the
// runtime directory. One that was made for that account, since the group
// manager came first, becomes root's. It is sticky: the account cannot take
// the sessions' directory away, and what it put there in our names before,
// ours and the lock refuse.
func (p *parent) share(made bool) error {
	fd, err := unix.Open(p.Runtime, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("parent: -runtime %s: %w", p.Runtime, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("parent: -runtime %s: %w", p.Runtime, err)
	}
	if !made && st.Uid != p.gateway.Uid {
		return nil // somebody's own arrangement: ours judges it
	}
	if err := errors.Join(unix.Fchown(fd, 0, int(p.gateway.Gid)), unix.Fchmod(fd, 0o770|unix.S_ISVTX)); err != nil {
		return fmt.Errorf("parent: -runtime %s: %w", p.Runtime, err)
	}
	return nil
}

// ours refuses a directory in which others could exchange what is ours. A
// sticky one may be written by others: they cannot take away what they do not
// own.
func ours(path string, sticky bool) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fmt.Errorf("parent: %s: %w", path, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("parent: %s is no directory: choose another -runtime", path)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("parent: %s belongs to uid %d, not to uid %d: remove it, or choose another -runtime", path, st.Uid, os.Geteuid())
	case st.Mode&0o022 != 0 && !(sticky && st.Mode&unix.S_ISVTX != 0):
		return fmt.Errorf("parent: others may write to %s: chmod go-w it, or choose another -runtime", path)
	}
	return nil
}

// runGateways keeps a gateway running until ctx ends.
func (p *parent) runGateways(ctx context.Context) error {
	var requests sync.WaitGroup
	defer requests.Wait()
	pause := time.Duration(0)
	for {
		began := time.Now()
		err := p.oneGateway(ctx, &requests)
		p.mu.Lock()
		came := p.came
		p.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return nil
		case !came:
			return fmt.Errorf("parent: the gateway did not start: %w", err)
		}
		if time.Since(began) > healthyAfter {
			pause = 0
		}
		p.Log.Error("gateway ended and is started again", "error", err, "after", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
		pause = min(max(2*pause, backoffFirst), backoffMost)
	}
}

// errEnded stands for the end of a gateway that reported no failure.
var errEnded = errors.New("it ended")

// oneGateway runs one gateway to its end.
func (p *parent) oneGateway(ctx context.Context, requests *sync.WaitGroup) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("parent: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "gateway"), os.NewFile(uintptr(pair[1]), "parent")
	defer theirs.Close()
	l, err := newLink(ours)
	ours.Close()
	if err != nil {
		return err
	}
	defer l.conn.Close()
	cmd := p.Gateway()
	cmd.ExtraFiles = append([]*os.File{theirs}, cmd.ExtraFiles...)
	// Its own process group: a terminal's interrupt comes here alone, and the
	// gateway is asked once.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM, Credential: p.gateway}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("parent: %w", err)
	}
	theirs.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	// What it asked for and was not begun is not begun after it: nobody would
	// know that session, and its terminal asks the next one.
	its, over := context.WithCancel(ctx)
	defer over()
	requests.Go(func() {
		if err := p.serve(its, l, requests); err != nil {
			p.Log.Error("the gateway said what it must not, and is ended", "error", err)
			_ = cmd.Process.Kill()
		}
	})
	var result error
	select {
	case result = <-ended:
	case <-ctx.Done():
		_ = cmd.Process.Signal(unix.SIGTERM)
		select {
		case result = <-ended:
		case <-program.Abort(ctx):
			_ = cmd.Process.Kill()
			result = <-ended
		case <-time.After(drainTime):
			p.Log.Error("the gateway did not end and is killed", "after", drainTime)
			_ = cmd.Process.Kill()
			result = <-ended
		}
	}
	if result == nil {
		result = errEnded
	}
	return result
}
