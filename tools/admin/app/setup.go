package app

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/program"
	"hotdesk/server/auth"
)

// setup is what the flags of the setup verbs say.
type setup struct {
	host        string
	account     string
	sessionUser string
	listen      string
	within      time.Duration
	registry    string
}

const (
	inviteFor   = 15 * time.Minute
	maxInvite   = 24 * time.Hour
	accountTime = 15 * time.Second
	joinTime    = 20 * time.Second // for one conversation
	maxTries    = 5                // wrong secrets until the invitation ends
	clockApart  = 5 * time.Second
)

func (s *setup) flags(fs *flag.FlagSet) {
	fs.StringVar(&s.host, "host", "", "`NAME` of a host: of setup this one's (empty: the machine's); of lists the only one that is meant")
	fs.StringVar(&s.account, "gateway-user", "hotdesk", "of setup: `NAME` of the account without rights; made where it is missing")
	fs.StringVar(&s.sessionUser, "session-user", "", "of setup: `NAME` of the user of every session, for the server's configuration")
	fs.StringVar(&s.listen, "listen", "", "of setup invite: `ADDRESS[:PORT]` where the other host reaches this one (empty: this host's first address, port "+strconv.Itoa(adminapi.JoinPort)+")")
	fs.DurationVar(&s.within, "within", inviteFor, "of setup invite: `TIME` until the line is no longer good")
	fs.StringVar(&s.registry, "registry", "", "of setup invite: `https://ADDRESS:PORT` of this host's -registry-listen, which the joining host is to follow")
}

func (c *command) hostName() (string, error) {
	name := c.setup.host
	if name == "" {
		name, _ = os.Hostname()
	}
	if name == "" {
		return "", program.Usagef("this machine has no name: give one with -host")
	}
	return name, nil
}

// owner is the account of the gateway and the group manager: the caller's with
// -local.
func (c *command) owner() (uid, gid int, err error) {
	if c.local {
		return os.Geteuid(), os.Getegid(), nil
	}
	u, err := user.Lookup(c.setup.account)
	if err != nil {
		return 0, 0, adminapi.Error{Code: adminapi.CodeNotFound, Text: fmt.Sprintf("there is no account %s: `hotdesk setup` makes it", c.setup.account)}
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return uid, gid, errors.Join(err1, err2)
}

// prepare makes account and directories.
func (c *command) prepare(ctx context.Context) error {
	if err := c.needRoot(); err != nil {
		return err
	}
	if _, err := user.Lookup(c.setup.account); err != nil && !c.local {
		if err := useradd(ctx, c.setup.account); err != nil {
			return err
		}
		fmt.Fprintf(c.stdout, "made the account %s\n", c.setup.account)
	}
	uid, gid, err := c.owner()
	if err != nil {
		return err
	}
	state, group := c.stateDir(), c.groupDir()
	if err := os.MkdirAll(filepath.Dir(state), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(state, 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if c.local {
		return nil
	}
	if err := os.Mkdir(group, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Lchown(group, uid, gid); err != nil {
		return err
	}
	// The server takes the directory of sockets over when it starts.
	if err := os.Mkdir(c.runtimeDir(), 0o700); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	return os.Lchown(c.runtimeDir(), uid, gid)
}

// useradd makes an account without rights. Whoever changes accounts at the same
// time is waited for.
func useradd(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, accountTime)
	defer cancel()
	for {
		out, err := exec.CommandContext(ctx, "useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", "--", name).CombinedOutput()
		if err == nil {
			return nil
		}
		err = fmt.Errorf("useradd %s: %w: %s", name, err, strings.TrimSpace(string(out)))
		if !strings.Contains(string(out), "cannot lock") {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// groupDir is the group manager's -state.
func (c *command) groupDir() string {
	if c.local {
		return c.stateDir()
	}
	return filepath.Join(c.stateDir(), "group")
}

func (c *command) keyFile() string { return filepath.Join(c.groupDir(), "group.key") }

// writeKeys puts the group's key file in place, as its account's.
func (c *command) writeKeys(text []byte) error {
	uid, gid, err := c.owner()
	if err != nil {
		return err
	}
	if err := writeWhole(c.keyFile(), text, 0o600); err != nil {
		return err
	}
	if c.local {
		return nil
	}
	return os.Lchown(c.keyFile(), uid, gid)
}

func newSecretLine() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.StdEncoding.EncodeToString(b)
}

// setupFirst makes what is missing; what is there stays.
func (c *command) setupFirst(ctx context.Context, _ []string) error {
	name, err := c.hostName()
	if err != nil {
		return err
	}
	if err := c.prepare(ctx); err != nil {
		return err
	}
	if _, _, _, err := auth.Joined(c.stateDir(), name); err == nil {
		if _, err := auth.Open(c.stateDir()); errors.Is(err, fs.ErrNotExist) {
			return adminapi.Error{Code: adminapi.CodeConflict, Text: "this host has joined a group already: it needs no authority of its own"}
		}
	}
	a, err := auth.Create(c.stateDir())
	if err != nil {
		return err
	}
	if _, _, err := a.Host(name); err != nil {
		return err
	}
	if _, err := os.Lstat(c.keyFile()); errors.Is(err, fs.ErrNotExist) {
		if err := c.writeKeys([]byte("# secret of this group: a line each, the same file on every host\n" + newSecretLine() + "\n")); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if err := c.configure(name, ""); err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "authority %s\nfingerprint %s\n", a.File(), a.Fingerprint())
	c.next("for a further host: hotdesk setup invite")
	return nil
}

// configure writes the servers' configuration where there is none.
func (c *command) configure(name, registry string) error {
	text := "# written by hotdesk setup; every flag of `server -h` is a line here\nhost = " + name + "\n"
	if c.setup.sessionUser != "" {
		text += "session-user = " + c.setup.sessionUser + "\n"
	}
	if c.setup.account != "hotdesk" {
		text += "gateway-user = " + c.setup.account + "\n"
	}
	if registry != "" {
		text += "registry = " + registry + "\n"
	}
	manager := "# written by hotdesk setup; every flag of `groupmgr -h` is a line here\nhost = " + name + "\n"
	if c.state != "" {
		text += "state = " + c.state + "\n"
		manager += "state = " + c.groupDir() + "\n"
	}
	if c.runtime != "" {
		text += "runtime = " + c.runtime + "\n"
		manager += "runtime = " + c.runtime + "\n"
	}
	for file, text := range map[string]string{"server.conf": text, "groupmgr.conf": manager} {
		path := filepath.Join(c.stateDir(), file)
		if _, err := os.Lstat(path); err == nil {
			fmt.Fprintf(c.stdout, "%s is there already and stays as it is\n", path)
			continue
		}
		if err := writeWhole(path, []byte(text), 0o644); err != nil {
			return err
		}
		fmt.Fprintf(c.stdout, "wrote %s\n", path)
	}
	return nil
}

func (c *command) next(more string) {
	conf := func(n string) string { return filepath.Join(c.stateDir(), n) }
	fmt.Fprintf(c.stdout, "next:\n  setpriv --reuid %s --regid %s --init-groups groupmgr -config %s\n  server -config %s\n  %s\n", c.setup.account, c.setup.account, conf("groupmgr.conf"), conf("server.conf"), more)
}
