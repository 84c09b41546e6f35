// Package app is the session program: a keeper, or the media process that a
// keeper starts.
//
// Source: design sections 1 and 6.
//
// Neither is for people to start: the parent starts keepers, keepers start
// media, and both expect descriptors (packages keeperapi and mediaapi).
package app

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/program"
	"hotdesk/server/session/attach"
	"hotdesk/server/session/keeper"
	"hotdesk/server/session/keeperapi"
	"hotdesk/server/session/media"
	"hotdesk/server/session/mediaapi"

	"golang.org/x/sys/unix"
)

// Config is what the flags set.
type Config struct {
	Runtime     string
	FrameBuffer string
	Size        string // WxH
	Script      string
	Services    string
	FrameBudget time.Duration
	Local       bool
	Level       slog.Level
}

// Main runs the program and returns its exit code. The word keeper or media
// stands before the flags.
func Main(args []string, stdout, stderr io.Writer) int {
	if len(args) > 1 && (args[0] == "keeper" || args[0] == "media") {
		args = append(append([]string(nil), args[1:]...), args[0])
	}
	return program.Main(Command(), args, stdout, stderr)
}

// Command is the program.
func Command() *program.Command {
	var cfg Config
	fs := flag.NewFlagSet("session", flag.ContinueOnError)
	fs.StringVar(&cfg.Runtime, "runtime", "", "`DIR` of the host's sockets; the session's own directory is in it, made by the parent")
	fs.StringVar(&cfg.FrameBuffer, "fb", "", "`DIR` on tmpfs for the sessions' frame buffers")
	fs.StringVar(&cfg.Size, "max-size", "2560x1600", "largest screen, `WxH`; the X server starts with it")
	fs.StringVar(&cfg.Script, "session-script", "", "`FILE` that starts the user's programs and lasts as long as the session (default: openbox and one xterm)")
	fs.StringVar(&cfg.Services, "session-services", "", "`DIR` of NAME.service files, programs that every session has (default: none but its message bus)")
	fs.DurationVar(&cfg.FrameBudget, "frame-budget", 0, "a frame that takes longer to make leaves a trace, frame-N.trace in the session's runtime directory (0: none does)")
	fs.BoolVar(&cfg.Local, "local", false, "the session is the caller's own: no other user, and root is allowed")
	fs.TextVar(&cfg.Level, "log-level", slog.LevelInfo, "least `LEVEL` that keeper.log takes: DEBUG, INFO, WARN, ERROR")
	return &program.Command{
		Name:    "session",
		Purpose: "keeps one desktop session; started by server, not by hand",
		Usage:   "keeper [flags]\nmedia",
		Flags:   fs,
		Run: func(ctx context.Context, args []string) error {
			if len(args) != 1 {
				return program.Usagef("say keeper or media; both are started by server")
			}
			switch args[0] {
			case "keeper":
				return Keeper(ctx, cfg)
			case "media":
				return Media(ctx)
			}
			return program.Usagef("there is no %q; say keeper or media", args[0])
		},
	}
}

// ParseSize reads a screen size, WxH.
func ParseSize(text string) (w, h int, err error) {
	var rest string
	if n, _ := fmt.Sscanf(text, "%dx%d%s", &w, &h, &rest); n != 2 {
		return 0, 0, program.Usagef("-max-size %q is not WxH", text)
	}
	for _, side := range [2]int{w, h} {
		if side < alp.MinSide || side > alp.MaxSide {
			return 0, 0, program.Usagef("-max-size %q: each side is %d to %d", text, alp.MinSide, alp.MaxSide)
		}
	}
	return w, h, nil
}

// Keeper runs a keeper on the descriptors that the parent passed.
func Keeper(ctx context.Context, cfg Config) error {
	if cfg.Runtime == "" || cfg.FrameBuffer == "" {
		return program.Usagef("keeper needs -runtime and -fb")
	}
	w, h, err := ParseSize(cfg.Size)
	if err != nil {
		return err
	}
	files, err := inherited(keeperapi.UDPFD, unix.S_IFSOCK, unix.S_IFIFO, unix.S_IFREG) // and ReadyFD, LockFD
	if err != nil {
		return err
	}
	start, err := keeperapi.ReadStart(os.Stdin)
	if err != nil {
		return err
	}
	var programs *os.File
	if start.HostNet {
		net, err := inherited(keeperapi.NetFD, unix.S_IFREG)
		if err != nil {
			return err
		}
		programs = net[0]
		defer programs.Close()
	}
	var tries net.Conn
	if start.Service != "" {
		socket, err := inherited(keeperapi.TriesFD, unix.S_IFSOCK)
		if err != nil {
			return err
		}
		tries, err = net.FileConn(socket[0])
		socket[0].Close()
		if err != nil {
			return fmt.Errorf("the socket for tries: %w", err)
		}
		defer tries.Close()
	}
	unix.Umask(0o022) // what the user's programs begin with
	err = keeper.Run(ctx, keeper.Config{
		Start: start, Runtime: cfg.Runtime, FrameBuffer: cfg.FrameBuffer,
		MaxWidth: w, MaxHeight: h, Script: cfg.Script, Local: cfg.Local, Level: cfg.Level,
		Services: cfg.Services, FrameBudget: cfg.FrameBudget, UDP: files[0], Ready: files[1], Net: programs, Tries: tries,
		Identity: newIdentity,
		Media:    mediaCommand,
	})
	runtime.KeepAlive(files) // the lock is held until this process has ended
	return err
}

func newIdentity() ([]byte, error) {
	id, err := attach.NewIdentity()
	if err != nil {
		return nil, err
	}
	return id.MarshalBinary()
}

// mediaCommand runs this very file again, also when another has been installed
// in its place.
func mediaCommand() *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"session", "media"}
	return cmd
}

// Media runs a media process on the descriptors that the keeper passed.
func Media(ctx context.Context) error {
	files, err := inherited(mediaapi.ControlFD, unix.S_IFSOCK, unix.S_IFSOCK) // and UDPFD
	if err != nil {
		return err
	}
	control, err := net.FileConn(files[0])
	files[0].Close()
	if err != nil {
		return fmt.Errorf("the keeper's socket: %w", err)
	}
	defer control.Close()
	udp, err := net.FilePacketConn(files[1])
	files[1].Close()
	if err != nil {
		return fmt.Errorf("the media socket: %w", err)
	}
	defer udp.Close()
	// The keeper writes what media prints to the session's log.
	return media.Run(ctx, control, udp, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

// inherited takes descriptors over, each with the file type it must have, and
// keeps them from programs started here.
func inherited(first int, types ...uint32) ([]*os.File, error) {
	var files []*os.File
	for i, want := range types {
		fd := first + i
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != want {
			return nil, program.Usagef("descriptor %d is missing: this program is started by server, not by hand", fd)
		}
		unix.CloseOnExec(fd)
		files = append(files, os.NewFile(uintptr(fd), fmt.Sprintf("fd%d", fd)))
	}
	return files, nil
}
