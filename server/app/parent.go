package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"hotdesk/server/auth"
	"hotdesk/server/grouplink"
	"hotdesk/server/parent"
	"hotdesk/server/policy"
)

// Descriptors of a gateway, after parent.GatewayFD.
const (
	controlFD = parent.GatewayFD + 1 + iota // listening TCP socket
	greeterFD                               // UDP socket
	certFD                                  // host-<name>.pem
	keyFD                                   // host-<name>.key
	adminFD                                 // listening socket of the admin API
)

// selfWithin is how long the parent waits for the group manager with -local.
const selfWithin = 10 * time.Second

func (c *Config) groupSocket() string { return filepath.Join(c.Runtime, "groupmgr.sock") }

// runParent opens what a gateway needs and keeps one running.
func runParent(ctx context.Context, c Config) error {
	if err := c.locate(ctx); err != nil {
		return err
	}
	files, err := c.open()
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	args := append([]string{gatewayRole}, c.Args...)
	args = append(args, "-host="+c.Host)
	if c.Local {
		args = append(args, "-addr="+c.Addr.String())
	}
	if err := c.makeData(); err != nil {
		return err
	}
	adminFile := c.adminFile()
	return parent.Run(ctx, parent.Config{
		Runtime:         c.Runtime,
		FrameBuffer:     c.FrameBuffer,
		Addr:            c.Addr,
		FirstPort:       c.FirstPort,
		LastPort:        c.LastPort,
		SessionProgram:  c.SessionFile,
		SessionScript:   c.SessionScript,
		SessionServices: c.SessionServices,
		Limits:          c.SessionLimits,
		SessionGroup:    c.SessionGroup,
		KioskGroup:      c.KioskGroup,
		KioskSkeleton:   c.KioskSkeleton,
		Service:         c.service(),
		Only:            c.only(),
		FrameBudget:     c.FrameBudget,
		MaxWidth:        c.Most.X,
		MaxHeight:       c.Most.Y,
		Local:           c.Local,
		GatewayUser:     c.GatewayUser,
		Level:           c.LogLevel,
		Log:             c.Log,
		Sign:            c.sign,
		Gateway: func() *exec.Cmd {
			cmd := exec.Command(program, args...)
			cmd.Stdout, cmd.Stderr = c.Stdout, c.Stderr
			cmd.ExtraFiles = append(slices.Clip(files), adminFile())
			return cmd
		},
	})
}

// service is the PAM service of logins, "" where there are none: no flag asks
// for any, and no rule of the registry can, for want of a service.
func (c *Config) service() string {
	if !c.logins() {
		if c.Local || !parent.HasService(c.PAMService) {
			return ""
		}
	}
	return c.PAMService
}

// logins reports whether a flag has users log in.
func (c *Config) logins() bool { return c.Login != policy.LoginNever && c.Login != "" }

// only is who gets a session without a login where users log in.
func (c *Config) only() string {
	if !c.logins() {
		return ""
	}
	return cmp.Or(c.SessionUser, "-") // "-" is nobody's name
}

// locate finds the host's name and, with -local, its address.
func (c *Config) locate(ctx context.Context) error {
	if c.Local && (!c.Addr.IsValid() || c.Host == "") {
		within, cancel := context.WithTimeout(ctx, selfWithin)
		defer cancel()
		host, addr, err := grouplink.Self(within, grouplink.Unix(c.groupSocket()))
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !c.Addr.IsValid():
			return fmt.Errorf("server: no group manager at %s: start `groupmgr -local` with the same -runtime first, or give -addr: %w", c.groupSocket(), err)
		case err == nil && !addr.IsLoopback() && !c.Addr.IsValid():
			return fmt.Errorf("server: the group manager at %s has the address %v, which is not of this machine alone: start it with -local", c.groupSocket(), addr)
		}
		if err == nil && !c.Addr.IsValid() {
			c.Addr = addr
		}
		if c.Host == "" {
			c.Host = host
		}
	}
	if c.Host == "" {
		c.Host, _ = os.Hostname() // without a name the screens have none
	}
	return nil
}

// open opens what a gateway inherits, in the order of the descriptors. What it
// returns is to be closed, with an error too.
func (c *Config) open() (files []*os.File, err error) {
	addr := c.Addr
	if !addr.IsValid() {
		addr = netip.IPv4Unspecified()
	}
	ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, uint16(c.ControlPort))))
	if err != nil {
		return nil, fmt.Errorf("server: control connections: %w", err)
	}
	defer ln.Close()
	f, err := ln.File()
	if err != nil {
		return nil, fmt.Errorf("server: control connections: %w", err)
	}
	files = append(files, f)
	if f, err = c.greeterSocket(addr); err != nil {
		return files, err
	}
	files = append(files, f)

	open := auth.Open
	if c.Local || c.NewAuthority {
		open = auth.Create
	}
	if !c.Local {
		if err := stateDir(c.State); err != nil {
			return files, err
		}
	}
	name := c.Host
	if c.Local { // several hosts may share -state
		name = addr.String()
	}
	cert, key, fingerprint, err := c.certificate(open, name)
	if err != nil {
		return files, err
	}
	for _, path := range []string{cert, key} {
		f, err := os.Open(path)
		if err != nil {
			return files, fmt.Errorf("server: %w", err)
		}
		files = append(files, f)
	}
	c.Log.Info("group authority", "file", filepath.Join(c.State, auth.AuthorityFile), "sha256", fingerprint)
	return files, nil
}

// stateDir makes the directory of the authority, or checks the one that is
// there: whoever can write to it is the authority. Others pass through it, as
// the group manager's own directory is in it; every key's mode keeps it secret.
func stateDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("server: -state: %w", err)
	}
	if err := os.Mkdir(dir, 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("server: -state: %w", err)
	}
	var st syscall.Stat_t
	if err := syscall.Lstat(dir, &st); err != nil {
		return fmt.Errorf("server: -state %s: %w", dir, err)
	}
	switch {
	case st.Mode&syscall.S_IFMT != syscall.S_IFDIR:
		return fmt.Errorf("server: -state %s is no directory", dir)
	case int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0:
		return fmt.Errorf("server: -state %s belongs to uid %d and has mode %04o, and whoever can write to it can pretend to be the group: chown root %s; chmod 711 %s; and make new keys if others may have written to it", dir, st.Uid, st.Mode&0o7777, dir, dir)
	}
	return nil
}

// greeterSocket binds the gateway's own media port.
func (c *Config) greeterSocket(addr netip.Addr) (*os.File, error) {
	first, n := c.FirstPort, 1
	if first != 0 {
		n = c.LastPort - first + 1
	}
	from := rand.IntN(n)
	for i := range n {
		pc, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, uint16(first+(from+i)%n))))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("server: media socket: %w", err)
		}
		defer pc.Close()
		f, err := pc.File()
		if err != nil {
			return nil, fmt.Errorf("server: media socket: %w", err)
		}
		return f, nil
	}
	return nil, fmt.Errorf("server: every port of -media-ports %d-%d is in use", c.FirstPort, c.LastPort)
}
