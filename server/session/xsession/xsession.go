// Package xsession starts a session's X server and its session script as the
// session's user.
//
// Source: design sections 1 and 8; reference/parts.md sections B and H (Xvfb,
// its frame buffer file, what it costs).
//
// Invariants:
//  1. The X server takes no TCP, demands one fresh cookie, and draws in a file
//     on tmpfs inside a directory of mode 0700 that is the user's.
//  2. What the keeper writes into that directory as root, it writes before the
//     directory becomes the user's: no link of theirs can be followed.
//  3. The session is over when the X server or the script ends, whichever is
//     first, and Reason then tells the user.
//
// Ending the processes is their family's matter. Safe for concurrent use.
// Limits: StartTime, maxTail, maxDraws.
package xsession

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/desktops"
	"hotdesk/server/session/keeper/family"
	"hotdesk/server/session/keeperapi"
	"hotdesk/server/session/sweep"

	"golang.org/x/sys/unix"
)

// StartTime bounds the start of an X server.
const StartTime = 10 * time.Second

// earlyEnd is how long after its start the last words of a script that failed
// are taken for the cause and shown to the user.
const earlyEnd = 10 * time.Second

// settleTime bounds the wait for what belongs to a death: the other process's,
// and the last words.
const settleTime = 250 * time.Millisecond

//go:embed session.sh
var defaultScript []byte

// Config says what to start.
type Config struct {
	Family  *family.Family
	Session alp.SessionID
	User    User
	// Base is the directory of all sessions' frame buffers; the session's own
	// is made in it. It is made too where it is missing.
	Base                string
	MaxWidth, MaxHeight int    // of the screen
	Width, Height       int    // of the first terminal, 0 if unknown, for the script
	Layout              string // its keyboard, for the script
	Script              string // file, "" for Hotdesk's own
	// Env is what the login modules want the user's programs to have; what is
	// the session's own comes first.
	Env map[string]string
	// Desktop is the one that the user chose (package desktops), "" for Script.
	Desktop string
	// Kiosk is run in place of script and desktop, in a home that is made here
	// and removed with all else; nil for a user's session.
	Kiosk *keeperapi.Kiosk
	// Before, if not nil, is called when the X server runs and before the script
	// does; what it returns is added to the environment of programs.
	Before func(context.Context, *Session) []string
	// Output gets what X server and script print.
	Output io.Writer
	Log    *slog.Logger // nil = silent

	number func() int // draws a display; nil: drawNumber
}

// A Session is a running X server with its script.
type Session struct {
	cfg     Config
	dir     string
	display string
	socket  sweep.Socket // of that
	x       *family.Child
	script  *family.Child
	started time.Time

	copying sync.WaitGroup
	xOut    *output
	out     *output
	added   []string // to the environment

	mu     sync.Mutex
	others []*output // of Spawn, nil after Close
	closed bool

	done   chan struct{}
	reason string // set before done is closed
}

// Start starts both. After an error nothing is left but processes that the
// family still has to end, and Dir's contents, which are removed.
func Start(ctx context.Context, cfg Config) (_ *Session, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.number == nil {
		cfg.number = drawNumber
	}
	s := &Session{cfg: cfg, dir: Dir(cfg.Base, cfg.Session), done: make(chan struct{})}
	if cfg.Kiosk != nil {
		s.cfg.User.Home, s.cfg.User.Shell = filepath.Join(s.dir, "home"), "/bin/sh"
	}
	if err := s.makeDirs(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if err := s.startX(ctx); err != nil {
		return nil, err
	}
	if cfg.Before != nil {
		added := cfg.Before(ctx, s)
		s.mu.Lock() // Before's programs may be starting more
		s.added = added
		s.mu.Unlock()
	}
	if err := s.startScript(); err != nil {
		return nil, err
	}
	go s.watch()
	return s, nil
}

// Dir is the directory of a session's frame buffer, below base.
func Dir(base string, id alp.SessionID) string { return filepath.Join(base, string(id)) }

// Display is the X display, ":7".
func (s *Session) Display() string { return s.display }

// Socket is the X server's.
func (s *Session) Socket() sweep.Socket { return s.socket }

// Authority is the file of the cookie.
func (s *Session) Authority() string { return filepath.Join(s.dir, "Xauthority") }

// FrameBuffer is the file that the server draws in.
func (s *Session) FrameBuffer() string { return filepath.Join(s.dir, "Xvfb_screen0") }

// maxSocket is the longest path of a socket that the system allows, and
// longestName that of a socket which programs make in their runtime directory
// (gpg-agent's).
const (
	maxSocket   = 107
	longestName = len("gnupg/S.gpg-agent.browser")
)

// CardSocket is where the session's programs reach the card that is at the
// terminal, as libpcsclite would reach pcscd; whoever serves it makes it.
func (s *Session) CardSocket() string { return filepath.Join(s.RuntimeDir(), "pcscd.comm") }

// RuntimeDir is XDG_RUNTIME_DIR, the user's own, on tmpfs.
func (s *Session) RuntimeDir() string { return filepath.Join(s.dir, "run") }

// Spawn starts a program as the user, in the session; its environment is added
// to the session's. Its output goes to Output.
func (s *Session) Spawn(cmd *exec.Cmd) (*family.Child, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("xsession: the session has ended")
	}
	c, o, err := s.spawn(cmd, s.cfg.Family.SpawnExpendable)
	if err == nil {
		s.others = slices.DeleteFunc(append(s.others, o), (*output).over)
	}
	return c, err
}

// X is the X server's process; it is the last that should be ended.
func (s *Session) X() *family.Child { return s.x }

// Done is closed when the X server or the script has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Reason tells the user why the session is over, once Done is closed.
func (s *Session) Reason() string {
	select {
	case <-s.done:
		return s.reason
	default:
		return ""
	}
}

// Close removes the session's files. Its processes must have ended, or must
// have been given up.
func (s *Session) Close() error {
	s.mu.Lock()
	s.closed = true
	for _, o := range append(s.others, s.xOut, s.out) {
		if o != nil {
			o.read.Close()
		}
	}
	s.others = nil
	s.mu.Unlock()
	s.copying.Wait()
	return errors.Join(s.socket.Remove(), Remove(s.cfg.Base, s.cfg.Session))
}

// Remove removes what a session leaves in base.
func Remove(base string, id alp.SessionID) error {
	ctx, cancel := context.WithTimeout(context.Background(), keeperapi.EndFiles)
	defer cancel()
	if err := sweep.All(ctx, Dir(base, id)); err != nil {
		return fmt.Errorf("xsession: %w", err)
	}
	return nil
}

func (s *Session) watch() {
	defer close(s.done)
	select {
	case <-s.x.Done():
	case <-s.script.Done():
		// A script falls over when its X server does, and may be seen first.
		select {
		case <-s.x.Done():
		case <-time.After(settleTime):
			s.scriptEnded()
			return
		}
	}
	s.xOut.settle()
	s.cfg.Log.Error("X server ended", "session", s.cfg.Session, "error", s.x.Err(), "said", s.xOut.tail())
	s.reason = "The X server of your session stopped. What was open in it is lost; present your card again for a new session."
}

func (s *Session) scriptEnded() {
	err := s.script.Err()
	if err == nil {
		s.cfg.Log.Info("session script ended", "session", s.cfg.Session)
		s.reason = "Your session has ended."
		return
	}
	s.out.settle()
	said := s.out.tail()
	s.cfg.Log.Error("session script failed", "session", s.cfg.Session, "error", err, "said", said)
	if time.Since(s.started) > earlyEnd {
		said = "" // of whatever ran since
	}
	s.reason = fmt.Sprintf("Your session's start program stopped (%v).", err)
	if said != "" {
		s.reason += " It said: " + said
	}
}

func (s *Session) makeDirs() error {
	if err := CheckBase(s.cfg.Base); err != nil {
		return err
	}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return fmt.Errorf("xsession: %w", err)
	}
	err := func() error {
		run := s.RuntimeDir()
		if err := os.Mkdir(run, 0o700); err != nil {
			return err
		}
		if err := s.cfg.User.own(run); err != nil {
			return err
		}
		if s.cfg.Kiosk != nil {
			if err := s.makeHome(); err != nil {
				return err
			}
		}
		files := map[string][]byte{s.Authority(): newCookie()}
		if s.cfg.Script == "" {
			files[s.ownScript()] = defaultScript
		}
		for path, text := range files {
			if err := os.WriteFile(path, text, 0o600); err != nil {
				return err
			}
			if err := s.cfg.User.own(path); err != nil {
				return err
			}
		}
		return s.cfg.User.own(s.dir) // last: from now on it is theirs
	}()
	if err != nil {
		_ = Remove(s.cfg.Base, s.cfg.Session)
		return fmt.Errorf("xsession: %w", err)
	}
	return nil
}

func (s *Session) ownScript() string { return filepath.Join(s.dir, "session.sh") }

// CheckBase makes the directory of all frame buffers, or checks the one that
// is there: on tmpfs, ours, and nobody else's to write.
func CheckBase(base string) error {
	if over := len(filepath.Join(Dir(base, "0123456789abcdef"), "run")) + 1 + longestName - maxSocket; over > 0 {
		return fmt.Errorf("xsession: %s is too long a path, by %d bytes: sockets of programs lie below it; name a shorter one with -fb", base, over)
	}
	if err := os.Mkdir(base, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("xsession: %w; name a directory on tmpfs with -fb", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(base, &st); err != nil {
		return fmt.Errorf("xsession: %s: %w", base, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("xsession: %s is no directory: remove it, or name another with -fb", base)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("xsession: %s belongs to uid %d, not to uid %d: remove it, or name another with -fb", base, st.Uid, os.Geteuid())
	case st.Mode&0o022 != 0:
		return fmt.Errorf("xsession: others may write to %s: chmod 0711 it", base)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(base, &fs); err != nil {
		return fmt.Errorf("xsession: %s: %w", base, err)
	}
	if int64(fs.Type) != unix.TMPFS_MAGIC {
		return fmt.Errorf("xsession: %s is not on tmpfs, and screens must never reach a disk: name a directory below /dev/shm with -fb, or mount one (mount -t tmpfs tmpfs %s)", base, base)
	}
	return nil
}

func (s *Session) startX(ctx context.Context) error {
	name, err := exec.LookPath("Xvfb")
	if err != nil {
		return errors.New("xsession: there is no Xvfb on this host: install it (on Debian: apt install xvfb)")
	}
	if os.Geteuid() == 0 {
		// An X server that is not root's may not make this one.
		if os.Mkdir(sockets, 0o777) == nil {
			_ = os.Chmod(sockets, 0o777|os.ModeSticky)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, StartTime)
	defer cancel()
	for range maxDraws {
		n := s.cfg.number()
		if taken(n) {
			continue
		}
		if err := s.startAs(ctx, name, n); !errors.Is(err, errTaken) {
			return err
		}
	}
	return fmt.Errorf("xsession: no free number for an X server was found in %d attempts: are there many files in %s?", maxDraws, sockets)
}

// startAs starts the X server with a number.
func (s *Session) startAs(ctx context.Context, name string, display int) error {
	number, numberW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer number.Close()
	defer numberW.Close()
	cmd := exec.Command(name, fmt.Sprintf(":%d", display),
		"-displayfd", "3", // of ExtraFiles: tells when it is ready
		"-screen", "0", fmt.Sprintf("%dx%dx24", s.cfg.MaxWidth, s.cfg.MaxHeight),
		"-fbdir", s.dir,
		"-extension", "GLX", // costs 23 MB a server
		"-nolisten", "tcp",
		"-noreset",
		"-s", "0", // no screen saver: the terminal has its own ideas
		"-auth", s.Authority())
	cmd.ExtraFiles = []*os.File{numberW}
	s.x, s.xOut, err = s.spawn(cmd, s.cfg.Family.Spawn)
	numberW.Close()
	if err != nil {
		return err
	}
	// Where memory is short, of the machine or of the session's group, a
	// program goes before the whole session does: those are expendable, and
	// this is not, where that may be said.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", s.x.PID()), []byte("-500"), 0)
	line := make(chan string, 1)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer number.Close() // ends the reading
	reading.Go(func() {
		// To the end of the line, which comes by itself: an X server that cannot
		// write it falls over.
		text, _ := bufio.NewReader(io.LimitReader(number, 16)).ReadString('\n')
		line <- strings.TrimSpace(text)
	})
	var got string
	select {
	case got = <-line:
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("xsession: the X server was not ready in %v: %s", StartTime, s.xOut.tail()), s.giveUp(display))
	}
	if got != strconv.Itoa(display) {
		select {
		case <-s.x.Done():
		case <-ctx.Done():
		}
		s.xOut.settle()
		if s.xOut.says("server already running") {
			return errTaken
		}
		return errors.Join(fmt.Errorf("xsession: the X server did not start (%v): %s", s.x.Err(), s.xOut.tail()), s.giveUp(display))
	}
	s.display, s.socket = cmd.Args[1], sweep.SocketAt(socketOf(display))
	return nil
}

// killTime bounds the end of an X server that was killed.
const killTime = 2 * time.Second

// giveUp ends an X server that did not get ready, and removes its socket.
func (s *Session) giveUp(display int) error {
	s.cfg.Family.Signal(s.x, unix.SIGKILL)
	select {
	case <-s.x.Done():
		return abandoned(display, s.cfg.User.UID)
	case <-time.After(killTime):
		return fmt.Errorf("xsession: the X server does not end")
	}
}

// startsDesktops runs what a system wants to be run before any desktop, and
// then the desktop (Debian's x11-common).
const startsDesktops = "/etc/X11/Xsession"

func (s *Session) startDesktop() error {
	d, err := desktops.Find(desktops.Dir, s.cfg.Desktop)
	if err != nil {
		return err
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", `exec "$@"`, "sh"}, d.Exec...)...)
	if _, err := os.Stat(startsDesktops); err == nil {
		// It takes one argument, as a shell's words.
		cmd = exec.Command(startsDesktops, quoted(d.Exec))
	}
	s.started = time.Now()
	s.script, s.out, err = s.spawn(cmd, s.cfg.Family.SpawnExpendable)
	return err
}

func quoted(words []string) string {
	var all []string
	for _, w := range words {
		all = append(all, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
	}
	return strings.Join(all, " ")
}

func (s *Session) startScript() error {
	cmd := exec.Command("/bin/sh", s.ownScript())
	switch {
	case s.cfg.Kiosk != nil:
		cmd = exec.Command("/bin/sh", "-c", s.cfg.Kiosk.Command)
	case s.cfg.Desktop != "":
		return s.startDesktop()
	case s.cfg.Script != "":
		cmd.Args[1] = s.cfg.Script
		if st, err := os.Stat(s.cfg.Script); err == nil && st.Mode()&0o111 != 0 {
			cmd = exec.Command(s.cfg.Script) // it names its own interpreter
		}
	}
	s.started = time.Now()
	var err error
	s.script, s.out, err = s.spawn(cmd, s.cfg.Family.SpawnExpendable)
	return err
}

// path is what a login on Debian gives a user.
const (
	path     = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
	pathRoot = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// Env is the environment of the session's programs.
func (s *Session) Env() []string {
	u := s.cfg.User
	env := []string{
		"HOME=" + u.Home,
		"USER=" + u.Name,
		"LOGNAME=" + u.Name,
		"SHELL=" + u.Shell,
		"LANG=C.UTF-8",
		"XAUTHORITY=" + s.Authority(),
		"XDG_RUNTIME_DIR=" + s.RuntimeDir(),
		"XDG_SESSION_TYPE=x11",
		"HOTDESK_SESSION=" + string(s.cfg.Session),
		"HOTDESK_LAYOUT=" + s.cfg.Layout,
	}
	size := ""
	if s.cfg.Width > 0 && s.cfg.Height > 0 {
		size = fmt.Sprintf("%dx%d", s.cfg.Width, s.cfg.Height)
	}
	env = append(env, "HOTDESK_SIZE="+size)
	if u.UID == 0 {
		env = append(env, "PATH="+pathRoot)
	} else {
		env = append(env, "PATH="+path)
	}
	if s.cfg.Kiosk != nil {
		env = append(env, "TMPDIR="+s.tmp())
	}
	if s.display != "" {
		env = append(env, "DISPLAY="+s.display)
	}
	return append(env, "PCSCLITE_CSOCK_NAME="+s.CardSocket())
}

// fullEnv is Env with what the login modules said. They know better than we do
// what language, path and shell the user has; the rest is how the session works.
func (s *Session) fullEnv() []string {
	env := s.Env()
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Env)) {
		i := slices.IndexFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		switch {
		case i < 0:
			env = append(env, name+"="+s.cfg.Env[name])
		case name == "LANG" || name == "PATH" || name == "SHELL" || name == "HOME":
			env[i] = name + "=" + s.cfg.Env[name]
		}
	}
	return append(env, s.added...)
}

// spawn starts cmd as the user, its output going to Output.
func (s *Session) spawn(cmd *exec.Cmd, start func(*exec.Cmd) (*family.Child, error)) (*family.Child, *output, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("xsession: %w", err)
	}
	defer w.Close()
	cmd.Env = append(s.fullEnv(), cmd.Env...)
	cmd.Dir = s.cfg.User.dir()
	cmd.Stdout, cmd.Stderr = w, w
	cmd.SysProcAttr = s.cfg.User.Attributes()
	child, err := start(cmd)
	if err != nil {
		r.Close()
		return nil, nil, fmt.Errorf("xsession: %s: %w", filepath.Base(cmd.Path), err)
	}
	o := &output{read: r, ended: make(chan struct{})}
	s.copying.Go(func() {
		o.copy(s.cfg.Output)
		r.Close()
	})
	return child, o, nil
}
