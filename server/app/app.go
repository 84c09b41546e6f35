// Package app is the server as a program: its flags, the parent that opens
// what needs rights, and the gateway that the parent starts.
//
// Source: design sections 1 and 2.
//
// The program runs twice: as the parent, which opens the control and the
// greeter's sockets, reads the host's key and starts sessions; and as the
// gateway, started by the parent with those as descriptors, which talks to
// terminals and has no rights. A gateway that dies is started again on the
// same sockets.
//
// Run returns when all that it started has ended, but for sessions.
package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"image"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/program"
	"hotdesk/server/parent"
	"hotdesk/server/policy"
	"hotdesk/server/session/cgroup"
	"hotdesk/server/session/keeperapi"
	"hotdesk/smartcard/identity"
)

// Config is what both roles need; each field is a flag.
type Config struct {
	Local           bool
	Runtime         string
	State           string
	Addr            netip.Addr // zero: all; with Local the group manager's
	Host            string
	ControlPort     int // -1: 7443, or a free one with Local
	FirstPort       int
	LastPort        int
	SessionFile     string
	SessionScript   string
	SessionLimits   cgroup.Limits
	SessionServices string
	SessionUser     string
	SessionGroup    string
	KioskGroup      string
	KioskSkeleton   string
	GatewayUser     string
	FrameBuffer     string
	Most            image.Point
	FrameBudget     time.Duration
	Bare            policy.Bare
	Warnings        []time.Duration // before the end of a drain
	ProofRules      string
	CardRules       string
	Registry        RegistryConfig
	AdminGroup      string
	Login           policy.Logins
	PAMService      string
	NewAuthority    bool
	StopSessions    bool
	LogLevel        slog.Level

	Args   []string // of the command line, for the gateway
	Stdout io.Writer
	Stderr io.Writer
	Log    *slog.Logger
}

// Defaults of flags.
const (
	ControlPort = 7443
	mediaFirst  = 40000
	mediaLast   = 42000
)

// Default is the configuration where no flag is given.
func Default() Config {
	return Config{ControlPort: -1, Most: image.Pt(2560, 1600), Bare: policy.BareCard, Login: policy.LoginNever, PAMService: "hotdesk", GatewayUser: "hotdesk", Registry: RegistryConfig{At: registryEmbedded}}
}

func flags(c *Config) *flag.FlagSet {
	fs := flag.NewFlagSet("server", flag.ContinueOnError)
	fs.BoolVar(&c.Local, "local", false, "run unprivileged, as the caller, on loopback addresses and free ports; needs 'groupmgr -local'")
	fs.StringVar(&c.Runtime, "runtime", "", "`DIR` of sockets and locks, the same as groupmgr's (empty: /run/hotdesk, with -local a directory of yours)")
	fs.StringVar(&c.State, "state", "", "`DIR` of keys and certificates (empty: /var/lib/hotdesk, with -local a directory of yours)")
	fs.Func("addr", "`ADDRESS` to listen on (empty: all, with -local the group manager's)", func(s string) (err error) {
		c.Addr, err = netip.ParseAddr(s)
		return err
	})
	fs.StringVar(&c.Host, "host", "", "`NAME` of this host on its screens (empty: the machine's, with -local the group manager's)")
	fs.Func("control-port", "TCP `PORT` of control connections (default 7443, with -local a free one)", func(s string) error {
		n, err := strconv.ParseUint(s, 10, 16)
		c.ControlPort = int(n)
		return err
	})
	fs.Func("media-ports", "UDP ports of media connections, `FIRST-LAST` (default 40000-42000, with -local free ones)", func(s string) error {
		var ok bool
		if c.FirstPort, c.LastPort, ok = ports(s); !ok {
			return fmt.Errorf("%q is not FIRST-LAST", s)
		}
		return nil
	})
	fs.StringVar(&c.SessionFile, "session-program", "", "`FILE` of the session program (empty: session beside this program)")
	fs.StringVar(&c.SessionServices, "session-services", "", "`DIR` of NAME.service files, programs that every session has (empty: none but its message bus)")
	fs.Func("session-memory", "most memory of a session's programs, `MIB`; what goes beyond is ended (empty: no limit)", func(text string) error {
		n, err := strconv.ParseUint(text, 10, 31)
		c.SessionLimits.Memory = int64(n) << 20
		return err
	})
	fs.IntVar(&c.SessionLimits.Processes, "session-processes", 0, "most processes and threads of a session (0: no limit)")
	fs.IntVar(&c.SessionLimits.CPUWeight, "session-cpu-weight", 0, "share of a session when the processors are busy, 1 to 10000 (0: 100, as everybody)")
	fs.StringVar(&c.SessionScript, "session-script", "", "`FILE` that starts the programs of a session (empty: Hotdesk's own)")
	fs.StringVar(&c.SessionUser, "session-user", "", "`NAME` of the user of every session; without meaning with -local")
	fs.StringVar(&c.KioskGroup, "kiosk-group", "", "`NAME` of the group whose members kiosks run as, accounts for nothing else and without homes of their own (empty: no kiosks)")
	fs.StringVar(&c.KioskSkeleton, "kiosk-skeleton", "/etc/skel", "`DIR` whose copy is the home of each kiosk while it runs (empty: an empty home)")
	fs.StringVar(&c.SessionGroup, "session-group", "", "`NAME` of the group whose members may have a session (empty: every user that is not a system's)")
	fs.StringVar(&c.GatewayUser, "gateway-user", c.GatewayUser, "`NAME` of the account without rights that talks to terminals; without meaning with -local")
	fs.StringVar(&c.FrameBuffer, "fb", "", "`DIR` of the sessions' screens, on tmpfs (empty: /dev/shm/hotdesk-UID)")
	fs.Func("max-size", "largest screen of a session, `WxH` (default 2560x1600)", func(s string) error {
		p, ok := size(s)
		if !ok {
			return fmt.Errorf("%q is not WIDTHxHEIGHT, each from %d to %d", s, alp.MinSide, alp.MaxSide)
		}
		c.Most = p
		return nil
	})
	fs.DurationVar(&c.FrameBudget, "frame-budget", 0, "a frame of a session that takes longer to make leaves a trace, frame-N.trace in the session's runtime directory, to be read with go tool trace; at most one in 10 s, the last 4 are kept (0: none does, and nothing is recorded)")
	fs.Func("bare", "`WHAT` a terminal without a card gets: session or card, the screen that asks for one (default card)", func(s string) (err error) {
		c.Bare, err = policy.ParseBare(s)
		return err
	})
	fs.Func("drain-warnings", "`TIMES` before the end of a drain at which users are told, at most "+strconv.Itoa(maxWarnings)+" (default 5m,1m)", func(text string) (err error) {
		c.Warnings, err = warnings(text)
		return err
	})
	fs.StringVar(&c.ProofRules, "proof-rules", "", "`FILE` that says what cards must prove before a session is made and shown (empty: nothing): lines 'card KIND FIRST REATTACH', with none, pin, piv-card, piv or simple for each kind of token (simple, piv, openpgp, iccsn, uid, atr, ... or *), the first that fits counts; 'authority FILE' (PEM) and 'crl FILE' of PIV cards, read again when they change; 'crl-expired refuse|allow'; 'secrets FILE' of simple cards, lines 'ID SECRET'; 'keys FILE' to take keys at first use")
	fs.StringVar(&c.CardRules, "card-rules", "", "`FILE` of the rules by which terminals name cards, one a line in the order in which they are tried: simple, piv, openpgp, iccsn, uid, 'file AID FILE OFFSET LENGTH TYPE', atr (empty: "+identity.DefaultRules+")")
	registryFlags(fs, c)
	fs.Func("login", "`WHO` must log in with name and password: never, bare (terminals without a card), card, or all (default never)", func(s string) (err error) {
		c.Login, err = policy.ParseLogins(s)
		return err
	})
	fs.StringVar(&c.PAMService, "pam-service", c.PAMService, "`NAME` of the file in /etc/pam.d that logins go by")
	fs.BoolVar(&c.NewAuthority, "new-authority", false, "make the group authority in -state where there is none; always so with -local")
	fs.BoolVar(&c.StopSessions, "stop-sessions", false, fmt.Sprintf("end every session of -runtime, and do nothing else; what has not ended in %v, or leaves something, is told", keeperapi.EndTime))
	fs.TextVar(&c.LogLevel, "log-level", c.LogLevel, "`LEVEL` of the log on standard error: debug, info, warn or error")
	return fs
}

func ports(s string) (first, last int, ok bool) {
	a, b, ok := strings.Cut(s, "-")
	x, err1 := strconv.ParseUint(a, 10, 16)
	y, err2 := strconv.ParseUint(b, 10, 16)
	return int(x), int(y), ok && err1 == nil && err2 == nil && x > 0 && x <= y
}

// maxWarnings bounds the warnings before the end of a drain.
const maxWarnings = 8

func warnings(s string) ([]time.Duration, error) {
	list := strings.Split(s, ",")
	if len(list) > maxWarnings {
		return nil, fmt.Errorf("%d times, at most %d", len(list), maxWarnings)
	}
	var all []time.Duration
	for _, w := range list {
		d, err := time.ParseDuration(w)
		if err != nil || d <= 0 || d > 24*time.Hour {
			return nil, fmt.Errorf("%q is no time up to 24h, as 90s or 5m", w)
		}
		all = append(all, d)
	}
	return all, nil
}

func size(s string) (image.Point, bool) {
	a, b, ok := strings.Cut(s, "x")
	w, err1 := strconv.Atoi(a)
	h, err2 := strconv.Atoi(b)
	in := func(n int) bool { return n >= alp.MinSide && n <= alp.MaxSide }
	return image.Pt(w, h), ok && err1 == nil && err2 == nil && in(w) && in(h)
}

// Command is the program `server`.
func Command() *program.Command { return command(nil, io.Discard, io.Discard, Run) }

func command(args []string, stdout, stderr io.Writer, run func(context.Context, Config) error) *program.Command {
	c := Default()
	return &program.Command{
		Name:    "server",
		Purpose: "takes the terminals' connections and starts and finds their sessions",
		Usage:   "[flags]\n-stop-sessions [-runtime DIR]",
		Flags:   flags(&c),
		Run: func(ctx context.Context, rest []string) error {
			if len(rest) > 0 {
				return program.Usagef("unknown argument %q", rest[0])
			}
			c.Args, c.Stdout, c.Stderr = args, stdout, stderr
			c.Log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: c.LogLevel}))
			return run(ctx, c)
		},
	}
}

// gatewayRole is the first argument of the gateway.
const gatewayRole = "gateway"

// Main is the program.
func Main(args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == gatewayRole {
		return program.Main(command(args[1:], stdout, stderr, runGateway), args[1:], stdout, stderr)
	}
	return program.Main(command(args, stdout, stderr, Run), args, stdout, stderr)
}

// check fills in what the configuration leaves open and refuses what cannot be.
func (c *Config) check() error {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Stdout == nil {
		c.Stdout = io.Discard
	}
	if c.Stderr == nil {
		c.Stderr = io.Discard
	}
	if c.Runtime == "" {
		c.Runtime = program.RuntimeDir(c.Local)
	}
	if c.State == "" {
		c.State = program.StateDir(c.Local)
	}
	if c.FrameBuffer == "" {
		c.FrameBuffer = fmt.Sprintf("/dev/shm/hotdesk-%d", os.Getuid())
	}
	if c.SessionFile == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("server: -session-program: %w", err)
		}
		c.SessionFile = filepath.Join(filepath.Dir(self), "session")
	}
	// Keepers, which use them, are in /.
	for name, path := range map[string]*string{
		"runtime": &c.Runtime, "fb": &c.FrameBuffer, "session-program": &c.SessionFile, "session-script": &c.SessionScript,
		"session-services": &c.SessionServices, "kiosk-skeleton": &c.KioskSkeleton,
	} {
		if *path == "" {
			continue
		}
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return fmt.Errorf("server: -%s: %w", name, err)
		}
	}
	if !c.Local {
		if c.ControlPort < 0 {
			c.ControlPort = ControlPort
		}
		if c.FirstPort == 0 {
			c.FirstPort, c.LastPort = mediaFirst, mediaLast
		}
	}
	c.ControlPort = max(c.ControlPort, 0)
	if err := c.Registry.check(); err != nil {
		return err
	}
	if c.Local && c.Addr.IsValid() && !c.Addr.IsLoopback() {
		return program.Usagef("-addr %v: with -local an address of 127.0.0.0/8", c.Addr)
	}
	return nil
}

// Run is the parent: it runs the server until ctx ends, or ends its sessions
// where the configuration says so.
func Run(ctx context.Context, c Config) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.StopSessions {
		n, err := parent.StopSessions(ctx, c.Runtime, c.Log)
		fmt.Fprintf(c.Stdout, "server: sessions ended: %d\n", n)
		return err
	}
	if _, _, err := c.cardFiles(); err != nil {
		return err // before a gateway is started again and again
	}
	return runParent(ctx, c)
}

var errParentGone = errors.New("server: the parent is gone")
