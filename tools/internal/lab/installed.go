package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"hotdesk/tools/internal/account"
	"hotdesk/tools/internal/netlab"
)

// Where says as whom, and on which machine, a program runs.
type Where struct {
	UID, GID int    // 0: as the caller
	NetNS    string // file of a network namespace, empty: the caller's
	// X11 is a folder that the program sees as /tmp/.X11-unix. X servers of
	// several network namespaces do not see each other's numbers, and would
	// take each other's sockets away.
	X11 string
}

// xSockets is where X servers put their sockets.
const xSockets = "/tmp/.X11-unix"

// enter runs start so that the process which it makes is where w says.
func (w Where) enter(start func() error) error {
	if w.NetNS == "" && w.X11 == "" {
		return start()
	}
	return netlab.OnThread(func() error {
		if err := w.moveThread(); err != nil {
			return err
		}
		return start()
	})
}

func (w Where) moveThread() error {
	if w.X11 != "" {
		if err := os.MkdirAll(xSockets, 0o777|os.ModeSticky); err != nil {
			return err
		}
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("mount namespace: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("mount namespace: %w", err)
		}
		if err := unix.Mount(w.X11, xSockets, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", xSockets, err)
		}
	}
	if w.NetNS == "" {
		return nil
	}
	ns, err := os.Open(w.NetNS)
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("network namespace %s: %w", w.NetNS, err)
	}
	return nil
}

// Installed says how a host's programs run as an installation's do: the server
// as root, the gateway and the group manager as an account without rights,
// sessions as a user.
type Installed struct {
	NetNS       string           // file of the host's network namespace
	Addr        netip.Addr       // of the host there; invalid: Host.Addr is what the server says
	State       string           // -state of the server
	GroupState  string           // and of the group manager
	Gateway     *account.Account // of gateway and group manager
	User        *account.Account // of sessions
	GroupArgs   []string         // further flags
	ServerArgs  []string
	ServerFirst bool // the server is started before the group manager
}

// Provision makes what a host needs before its programs are started, as an
// admin and a service manager would, and says in conf where it is: root's state
// directory with the lab's authority, and in it the group manager's with the
// group's key; the folder of the sockets.
func (l *Lab) Provision(name string, conf *Installed, key string) error {
	conf.State = l.Path(name + "-state")
	conf.GroupState = filepath.Join(conf.State, "group")
	if err := os.Mkdir(conf.State, 0o711); err != nil {
		return err
	}
	for _, file := range []string{"authority.pem", "authority.key"} {
		text, err := os.ReadFile(l.Path("state", file))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(conf.State, file), text, 0o600); err != nil {
			return err
		}
	}
	for _, dir := range []string{conf.GroupState, l.Path(name)} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		if err := os.Chown(dir, conf.Gateway.UID, conf.Gateway.GID); err != nil {
			return err
		}
	}
	file := filepath.Join(conf.GroupState, "group.key")
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		return err
	}
	return os.Chown(file, conf.Gateway.UID, conf.Gateway.GID)
}

// Installed starts the programs of such a host.
func (l *Lab) Installed(ctx context.Context, name string, conf Installed) (*Host, error) {
	h := &Host{Name: name, Runtime: l.Path(name), lab: l, installed: &conf}
	x11 := conf.x11(h)
	if err := os.Mkdir(x11, 0o777); err != nil {
		return nil, err
	}
	if err := os.Chmod(x11, 0o777|os.ModeSticky); err != nil {
		return nil, err
	}
	starts := []func(context.Context) error{h.StartGroupMgr, func(ctx context.Context) error { return h.StartServer(ctx) }}
	if conf.ServerFirst {
		starts[0], starts[1] = starts[1], starts[0]
	}
	for _, start := range starts {
		if err := start(ctx); err != nil {
			return h, err
		}
	}
	return h, nil
}

func (in *Installed) x11(h *Host) string { return h.lab.Path(h.Name + "-x11") }

func (in *Installed) groupmgr(h *Host) (*Proc, error) {
	args := append([]string{"-runtime", h.Runtime, "-state", in.GroupState, "-host", h.Name}, in.GroupArgs...)
	return h.lab.start(Where{UID: in.Gateway.UID, GID: in.Gateway.GID, NetNS: in.NetNS}, "groupmgr-"+h.Name, "groupmgr", args)
}

func (in *Installed) server(h *Host, args []string) (*Proc, error) {
	args = append(args, "-host", h.Name, "-gateway-user", in.Gateway.Name, "-session-user", in.User.Name)
	return h.lab.start(Where{NetNS: in.NetNS, X11: in.x11(h)}, "server-"+h.Name, "server", append(args, in.ServerArgs...))
}

// TerminalIn starts a terminal on the machine that is a network namespace. It
// is headless unless args say otherwise. Without an authority args say how it
// learns one.
func (l *Lab) TerminalIn(ctx context.Context, netns, authority, name string, args ...string) (*Terminal, error) {
	if authority != "" {
		args = append([]string{"-authority", authority}, args...)
	}
	return l.terminal(ctx, Where{NetNS: netns}, name, args)
}

// Machine lists every process of a host: its programs, and all that a session
// of it has running.
func (h *Host) Machine() []int {
	var all []int
	if h.installed == nil {
		return nil
	}
	want, err := os.Stat(h.installed.NetNS)
	if err != nil {
		return nil
	}
	for id := range processes() {
		ns, err := os.Stat(filepath.Join("/proc", fmt.Sprint(id), "ns", "net"))
		if err == nil && os.SameFile(want, ns) {
			all = append(all, id)
		}
	}
	return all
}
