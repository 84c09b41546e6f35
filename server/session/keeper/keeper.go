// Package keeper keeps one session: its X server, its programs, its media
// process, and the socket through which the gateway asks about it.
//
// Source: design sections 1, 2 and 8; packages client, keeperapi and mediaapi
// for what it says and to whom.
//
// Invariants:
//  1. A number (gen) is given out once in the life of a session, across
//     restarts of media, and always a higher one.
//  2. The loss of media ends attachments and nothing else; the loss of the X
//     server or of the session script ends the session.
//  3. When Run returns without an error, no process below this one is left, and
//     no file; with one, the lock file tells that there may be.
//  4. Whoever talks to the socket is root or this process's own user.
//
// One keeper per process (package family). Limits: ReadyTime, maxWatchers,
// maxUntold, maxLog.
package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"hotdesk/protocol/program"
	"hotdesk/server/session/cgroup"
	"hotdesk/server/session/keeper/family"
	"hotdesk/server/session/keeper/pam"
	"hotdesk/server/session/keeperapi"
	"hotdesk/server/session/mediaapi"
	"hotdesk/server/session/services"
	"hotdesk/server/session/xsession"

	"golang.org/x/sys/unix"
)

// endGrace is how long programs may take to end when asked, twice: first all
// but the X server, then all.
const endGrace = 1500 * time.Millisecond

// settleTime bounds the wait for the last words of a media that has ended: where
// it was taken over, a program of the user's may hold its output.
const settleTime = 250 * time.Millisecond

// Config is what Run needs.
type Config struct {
	Start       keeperapi.Start
	Runtime     string // RUNTIME
	FrameBuffer string // FB
	MaxWidth    int    // of the session's screen
	MaxHeight   int
	Script      string        // session script, "" for Hotdesk's own
	Services    string        // directory of services' files, "" for none
	FrameBudget time.Duration // of media, see mediaapi.Setup
	Local       bool          // the session is the caller's, who may be root

	UDP   *os.File       // media socket
	Net   *os.File       // network namespace of the programs; nil: this process's
	Ready io.WriteCloser // gets one keeperapi.Ready; closed by Run
	// Identity makes the certificate that all media processes of the session
	// share, as attach.Identity marshals it.
	Identity func() ([]byte, error)
	// Media makes the command of a media process; its descriptors, environment
	// and user are Run's matter.
	Media func() *exec.Cmd
	// Level is the least that the log takes.
	Level slog.Level
	// Tries is where each try of a password is asked for (keeperapi.Word); nil
	// where nobody logs in.
	Tries net.Conn
	// Login starts a PAM transaction; nil: pam.Open.
	Login pam.Opener
}

// Run keeps the session until it ends.
func Run(ctx context.Context, cfg Config) error {
	k := &keeper{Config: cfg}
	err := k.run(ctx)
	if !k.ready {
		y := keeperapi.Ready{Error: "the session ended at once"}
		if err != nil {
			y.Error = err.Error()
		}
		_ = keeperapi.Write(cfg.Ready, y)
		cfg.Ready.Close()
	}
	return err
}

type keeper struct {
	Config
	ready   bool
	cleaned bool
	log     *slog.Logger
	user    xsession.User
	lobby   *lobby            // nil where nobody had to log in
	env     map[string]string // of the login modules, and the user's language
	fam     *family.Family
	x       *xsession.Session
	group   *cgroup.Group // nil where the machine has none to write to
	minder  *minder
	out     io.Writer
}

func (k *keeper) run(ctx context.Context) (err error) {
	dir := keeperapi.Dir(k.Runtime, k.Start.Session)
	if err := k.Start.Check(); err != nil {
		return err
	}
	if k.Start.Service == "" {
		k.user, err = xsession.LookupUser(k.Start.User)
		if err != nil {
			return err
		}
		if k.user.UID == 0 && !k.Local {
			return errors.New("keeper: root gets no session; choose another user with -session-user")
		}
	}
	logFile, err := openLog(filepath.Join(dir, "keeper.log"))
	if err != nil {
		return err
	}
	defer logFile.Close()
	_ = debug.SetCrashOutput(logFile.f, debug.CrashOptions{}) // a log without it is still a log
	k.log = slog.New(slog.NewTextHandler(logFile, &slog.HandlerOptions{Level: k.Level}))
	k.out = said{logFile}

	var l net.Listener
	if k.Start.Service != "" {
		if l, err = k.logIn(ctx); err != nil {
			return k.neverBegan(dir, err)
		}
		// After the family's end: modules wait for programs of their own.
		defer func() { err = errors.Join(err, k.logOut(err)) }()
	}
	if k.Start.Lang != "" {
		k.env = maps.Clone(k.env)
		if k.env == nil {
			k.env = map[string]string{}
		}
		k.env["LANG"] = k.Start.Lang
	}
	k.fam, err = family.New()
	if err != nil {
		return err
	}
	defer k.fam.Close()
	defer func() { err = errors.Join(err, k.clean(ctx, dir)) }()
	before, cancel := context.WithTimeout(ctx, keeperapi.EndAccount)
	err = k.forsake(before) // what was left by one that was killed
	cancel()
	if err != nil {
		return err
	}
	if err := k.separate(); err != nil {
		return err
	}
	serviceSpecs, err := sessionServices(k.Services, k.log)
	if err != nil {
		return err
	}
	minding, rest := context.WithCancel(context.WithoutCancel(ctx))
	var minder sync.WaitGroup
	defer minder.Wait()
	defer rest()
	k.x, err = xsession.Start(ctx, xsession.Config{
		Family: k.fam, Session: k.Start.Session, User: k.user, Base: k.FrameBuffer,
		MaxWidth: k.MaxWidth, MaxHeight: k.MaxHeight,
		Width: k.Start.Width, Height: k.Start.Height, Layout: k.Start.Layout,
		Script: k.Script, Output: k.out, Log: k.log,
		Env: k.env, Desktop: k.Start.Desktop, Kiosk: k.Start.Kiosk,
		Before: func(ctx context.Context, x *xsession.Session) []string {
			address := "DBUS_SESSION_BUS_ADDRESS=" + busAddress(x.RuntimeDir())
			k.minder = newMinder(serviceSpecs, k.Start.Session, k.log, func(cmd *exec.Cmd) (*family.Child, error) {
				cmd.Env = append(cmd.Env, address)
				return x.Spawn(cmd)
			})
			minder.Go(func() { k.minder.run(minding) })
			ctx, cancel := context.WithTimeout(ctx, busTime)
			defer cancel()
			select {
			case <-k.minder.ready:
			case <-ctx.Done():
				k.log.Error("the session's message bus is not ready", "session", k.Start.Session, "after", busTime)
			}
			if !slices.ContainsFunc(serviceSpecs, func(s services.Spec) bool { return s.Name == bus }) {
				return nil
			}
			return []string{address}
		},
	})
	if err != nil {
		return err
	}
	// For whoever clears up after this process's death. Without it a session is still one.
	if err := os.WriteFile(keeperapi.XSocket(k.Runtime, k.Start.Session), []byte(k.x.Socket().String()), 0o600); err != nil {
		k.log.Warn("the X server's socket stays if keeper and X server are killed", "session", k.Start.Session, "err", err)
	}
	c, err := k.newCore()
	if err != nil {
		return err
	}
	if k.lobby != nil {
		k.lobby.begun(nil)
	} else {
		if l, err = listen(keeperapi.Socket(k.Runtime, k.Start.Session)); err != nil {
			return err
		}
		k.sayReady(k.x.Display())
	}
	k.log.Info("session started", "session", k.Start.Session, "token", k.Start.Token, "user", k.user.Name, "display", k.x.Display())

	// Connections stay open until the files are gone, so that their end tells
	// the peer that everything is.
	serveCtx, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	var serving sync.WaitGroup
	serving.Go(func() { c.serve(serveCtx, l) })
	reason := c.run(ctx)
	rest()
	minder.Wait()
	k.log.Info("session ends", "session", k.Start.Session, "reason", reason)
	err = k.clean(ctx, dir)
	hangUp()
	serving.Wait()
	return err
}

// separate gives the processes of the session what is to be theirs alone. What
// this machine or account does not allow is missing, and told.
func (k *keeper) separate() error {
	// What was on the screen must not get into a file by a program's fall; who
	// wants that can raise it again.
	var core unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_CORE, &core) == nil {
		core.Cur = 0
		_ = unix.Setrlimit(unix.RLIMIT_CORE, &core)
	}
	if err := xsession.CheckBase(k.FrameBuffer); err != nil {
		return err
	}
	level := slog.LevelWarn
	if os.Geteuid() != 0 {
		level = slog.LevelInfo // only root can
	}
	group, missing, err := cgroup.New(string(k.Start.Session), k.Start.Limits)
	if err != nil {
		return err
	}
	k.group = group
	if missing != "" {
		k.log.Log(context.Background(), level, "the session goes on with "+missing, "session", k.Start.Session)
	}
	if group != nil { // for whoever clears up after this process's death
		if err := os.WriteFile(keeperapi.Groups(k.Runtime, k.Start.Session), []byte(strings.Join(group.Paths(), "\n")), 0o600); err != nil {
			return err
		}
	}
	err = k.fam.Inside(func() (err error) {
		missing, err = space{k.FrameBuffer, k.Net}.enter()
		if k.Start.Kiosk != nil {
			err = errors.Join(err, noRights())
		}
		return errors.Join(err, group.Enter())
	}, group.Attributes)
	if err == nil && missing != "" {
		k.log.Log(context.Background(), level, "the session goes on without "+missing, "session", k.Start.Session)
	}
	return err
}

// sayReady tells the parent that the control socket is there.
func (k *keeper) sayReady(display string) {
	k.ready = true
	if err := keeperapi.Write(k.Ready, keeperapi.Ready{Display: display}); err != nil {
		k.log.Warn("the parent did not wait", "session", k.Start.Session, "error", err)
	}
	k.Ready.Close()
}

// clean ends all processes and removes all files; what it could not it leaves
// for the parent, with the lock file. A second call does nothing: a kiosk's
// account may be the next session's by then.
func (k *keeper) clean(ctx context.Context, dir string) error {
	if k.cleaned {
		return nil
	}
	k.cleaned = true
	var x *family.Child
	if k.x != nil {
		x = k.x.X()
	}
	errs := []error{within(ctx, keeperapi.EndPrograms, func(end context.Context) error { return k.fam.End(end, endGrace, program.Abort(ctx), x) })}
	if k.x != nil {
		errs = append(errs, k.x.Close())
	}
	k.fam.Close() // its thread is in the group
	errs = append(errs, within(ctx, keeperapi.EndGroup, k.group.Remove), within(ctx, keeperapi.EndAccount, k.forsake))
	if err := errors.Join(errs...); err != nil {
		k.log.Error("session leaves something", "session", k.Start.Session, "error", err)
		return err
	}
	return k.removeOwn(dir)
}

// removeOwn removes what the session has in the runtime directory, the lock
// last: as long as that is there, whoever looks for sessions sees that this one
// has left something, and goes on.
func (k *keeper) removeOwn(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return removeIfThere(keeperapi.Lock(k.Runtime, k.Start.Session))
}

// within does a step of the end with a time of its own: those before may have
// taken long, and ctx be over.
func within(ctx context.Context, limit time.Duration, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	return step(ctx)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (k *keeper) newCore() (*core, error) {
	identity, err := k.Identity()
	if err != nil {
		return nil, fmt.Errorf("keeper: %w", err)
	}
	port, err := udpPort(k.UDP)
	if err != nil {
		return nil, err
	}
	return newCore(coreConfig{
		start: status{
			session: k.Start.Session,
			token:   k.Start.Token,
			user:    k.user.Name,
			started: time.Now(),
			x:       k.x.X().PID(),
		},
		desktop: k.x,
		setup: mediaapi.Setup{
			Identity:    identity,
			Display:     k.x.Display(),
			Authority:   k.x.Authority(),
			FrameBuffer: k.x.FrameBuffer(),
			MaxWidth:    k.MaxWidth,
			MaxHeight:   k.MaxHeight,
			Session:     k.Start.Session,
			Port:        port,
			CardSocket:  k.x.CardSocket(),
			FrameBudget: k.FrameBudget,
			TraceDir:    k.x.RuntimeDir(),
		},
		startMedia: k.startMedia,
		connection: k.minder.connection,
		services:   k.minder.reports,
		log:        k.log,
	}), nil
}

// startMedia starts a media process as the user, with its end of a socketpair
// and the media socket.
func (k *keeper) startMedia() (media, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return media{}, fmt.Errorf("keeper: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "media"), os.NewFile(uintptr(pair[1]), "keeper")
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	ours.Close() // FileConn has its own
	if err != nil {
		return media{}, fmt.Errorf("keeper: %w", err)
	}
	cmd := k.Media()
	cmd.ExtraFiles = []*os.File{theirs, k.UDP} // mediaapi.ControlFD, UDPFD
	cmd.SysProcAttr = k.user.Attributes()
	cmd.Env = k.x.Env()
	cmd.Dir = "/"
	child, stop, err := k.spawnLogged(cmd)
	if err != nil {
		conn.Close()
		return media{}, fmt.Errorf("keeper: media: %w", err)
	}
	done := make(chan struct{})
	go func() {
		<-child.Done()
		stop()
		close(done)
	}()
	return media{conn, child.PID(), done, func() { k.fam.Signal(child, unix.SIGKILL) }}, nil
}

// spawnLogged starts cmd with its output going to the log. stop ends the
// copying; call it when the child has ended.
func (k *keeper) spawnLogged(cmd *exec.Cmd) (child *family.Child, stop func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer w.Close()
	cmd.Stdout, cmd.Stderr = w, w
	child, err = k.fam.Spawn(cmd)
	if err != nil {
		r.Close()
		return nil, nil, err
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		lines := &whole{w: k.out}
		_, _ = io.Copy(lines, r)
		lines.end()
	}()
	return child, func() {
		select {
		case <-copied:
		case <-time.After(settleTime):
		}
		r.Close()
		<-copied
	}, nil
}

func listen(path string) (net.Listener, error) {
	if len(path) > keeperapi.MaxPath {
		return nil, fmt.Errorf("keeper: the path of the control socket has %d bytes, and the system allows %d: choose a shorter -runtime", len(path), keeperapi.MaxPath)
	}
	l, err := net.Listen("unix", path) // in a directory of mode 0700
	if err != nil {
		return nil, fmt.Errorf("keeper: %w", err)
	}
	return l, nil
}

func udpPort(f *os.File) (int, error) {
	conn, err := net.FilePacketConn(f)
	if err != nil {
		return 0, fmt.Errorf("keeper: the media socket: %w", err)
	}
	defer conn.Close()
	addr, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("keeper: the media socket is a %s socket", conn.LocalAddr().Network())
	}
	return addr.Port, nil
}
