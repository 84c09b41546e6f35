// Package app is the terminal as a program: the connections, the card readers,
// the screen, the display and the control socket round package terminal.
//
// Source: design sections 1, 2, 3 and 6; reference/alp.md sections 2 to 4 for
// the control connection.
//
// Invariants:
//  1. One goroutine owns the machines (terminal, bootstrap); it receives,
//     steps, performs. Nothing that it does waits for a server, a card or a
//     display, and what happens at the terminal goes before what comes from
//     the network.
//  2. Servers prove themselves by a certificate of the pinned authority, in TLS
//     1.3, before a byte of theirs is read. There is no way round that: where no
//     authority is pinned yet, package trust refuses and somebody is asked.
//  3. Input goes to the media connection whose picture is on the screen, or
//     nowhere.
//  4. Run returns when everything it started has ended.
//
// Limits: alp.MaxLine for a line; maxOut lines that wait to be sent; those of
// packages rpc, viewer and bootstrap.
package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"hotdesk/dtu/backend"
	"hotdesk/dtu/backend/framebuf"
	"hotdesk/dtu/backend/headless"
	"hotdesk/dtu/backend/window"
	"hotdesk/dtu/backend/workbench"
	"hotdesk/dtu/network"
	"hotdesk/dtu/trust"
	"hotdesk/protocol/alp"
)

// Run is a terminal from power on until ctx ends or its display is closed.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.check(); err != nil {
		return err
	}
	store, err := cfg.openTrust()
	if err != nil {
		return err
	}
	cfg.awaitHardware(ctx)
	readers, err := cfg.openReaders(ctx)
	if err != nil {
		return err
	}
	defer readers.close()
	s := newShell(cfg, store, readers)
	s.ears.multicast = cfg.Multicast
	listen, cleanup, err := listenCtl(&cfg)
	if err != nil {
		return err
	}
	defer cleanup()
	display, url, err := openDisplay(cfg, s.hot)
	if err != nil {
		if listen != nil {
			listen.Close()
		}
		return err
	}
	s.net = cfg.Net
	if cfg.DHCP != "" {
		n, err := network.Open(network.Config{Interface: cfg.DHCP, MAC: cfg.MAC, Configure: cfg.DHCPConfigure, Log: s.log})
		if err != nil {
			if listen != nil {
				listen.Close()
			}
			return fmt.Errorf("dtu: -dhcp: %w", err)
		}
		s.net = n
	}
	ready(cfg, url)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var shown error
	wg.Go(func() {
		defer cancel()
		shown = display.Run(ctx, s.screen, hands{s})
	})
	if listen != nil {
		wg.Go(func() { s.serveCtl(ctx, listen) })
	}
	s.run(ctx)
	cancel()
	wg.Wait()
	return shown
}

// openTrust reads whom the terminal believes.
func (c *Config) openTrust() (*trust.Store, error) {
	if c.State != "" {
		if err := os.MkdirAll(c.State, 0o700); err != nil {
			return nil, fmt.Errorf("dtu: -state: %w", err)
		}
	}
	conf := trust.Config{Mode: c.Trust, Authority: c.Authority, File: c.TrustFile, Name: alp.ServerName, ALPN: alp.ALPN}
	conf.KeyFile = c.ownKey()
	s, err := trust.Open(conf)
	if err != nil {
		return nil, fmt.Errorf("dtu: %w", err)
	}
	return s, nil
}

// ownKey is the file of the terminal's key. Without one that was named the key
// is kept where the terminal keeps things anyway, if it lasts there: with another
// key after each start no host would believe that it is the same terminal. One
// that lies there already has lasted, and is used where nothing can be written,
// as on a terminal whose disk was made read-only once it was set up.
func (c *Config) ownKey() string {
	file := c.KeyFile
	switch {
	case file != "":
		return file
	case c.State != "":
		return filepath.Join(c.State, keyName)
	case c.Trust != trust.Configured:
		dir := filepath.Dir(c.TrustFile)
		file = filepath.Join(dir, keyName)
		if _, err := os.Stat(file); err == nil || trust.Lasts(dir) {
			return file
		}
	}
	c.Log.Info("this terminal has no key of its own, and whoever says its id is taken for it: let it keep one with -state DIR, on a disk")
	return ""
}

const keyName = "terminal.key"

// openDisplay makes the display; url is where its page is, if it has one.
func openDisplay(cfg Config, hot func(uint16, func(uint16) bool) bool) (d backend.Display, url string, err error) {
	if cfg.Show != nil {
		return cfg.Show, "", nil
	}
	title := "terminal " + string(cfg.MAC)
	switch cfg.Display {
	case "window":
		w, err := window.New(window.Config{Display: cfg.XDisplay, W: cfg.Width, H: cfg.Height, Title: title})
		if err != nil {
			return nil, "", fmt.Errorf("dtu: %w", err)
		}
		return w, "", nil
	case "fb":
		f, err := framebuf.New(framebuf.Config{Device: cfg.FrameBuffer, Hot: hot, Log: cfg.Log})
		if err != nil {
			return nil, "", fmt.Errorf("dtu: %w", err)
		}
		return f, "", nil
	case "workbench":
		l, err := net.Listen("tcp", cfg.Workbench)
		if err != nil {
			return nil, "", fmt.Errorf("dtu: -workbench: %w", err)
		}
		b := workbench.New(workbench.Config{Listen: l, Log: cfg.Log, Title: title})
		return b, b.URL(), nil
	}
	return headless.New(), "", nil
}

// ready says where the hands are, and with -local what to type next.
func ready(cfg Config, url string) {
	var b strings.Builder
	fmt.Fprintf(&b, "dtu: ready terminal=%s display=%s", cfg.MAC, cfg.Display)
	if cfg.Ctl != "" {
		fmt.Fprintf(&b, " ctl=%s", cfg.Ctl)
	}
	if url != "" {
		fmt.Fprintf(&b, " url=%s", url)
	}
	b.WriteByte('\n')
	if cfg.Local && cfg.Ctl != "" {
		if url != "" {
			fmt.Fprintf(&b, "next: open %s\n", url)
		}
		fmt.Fprintf(&b, "next: dtu ctl -socket %s wait picture\n", cfg.Ctl)
	}
	fmt.Fprint(cfg.Stdout, b.String())
}

// listenCtl makes the control socket, if there is to be one.
func listenCtl(cfg *Config) (l net.Listener, cleanup func(), err error) {
	cleanup = func() {}
	if cfg.Ctl == "" && (!cfg.Local || cfg.Show != nil) {
		return nil, cleanup, nil
	}
	if cfg.Ctl == "" {
		dir, err := os.MkdirTemp("", "hotdesk-dtu-")
		if err != nil {
			return nil, nil, fmt.Errorf("dtu: control socket: %w", err)
		}
		cfg.Ctl = filepath.Join(dir, "ctl")
		cleanup = func() { os.RemoveAll(dir) }
	}
	ul, remove, err := listenUnix("-ctl", cfg.Ctl)
	if err != nil {
		cleanup()
		return nil, nil, err
	}
	folder := cleanup
	return ul, func() { remove(); folder() }, nil
}

// listenUnix makes the socket that a flag names, which the caller's user alone
// can reach; remove takes its name away.
func listenUnix(flag, path string) (l *net.UnixListener, remove func(), err error) {
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, nil, fmt.Errorf("dtu: %s %s: another terminal listens there", flag, path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		os.Remove(path) // left by one that was killed
	}
	// The socket is made where nobody else reaches it, then put in its place.
	private, err := os.MkdirTemp(filepath.Dir(path), ".dtu-")
	if err != nil {
		return nil, nil, fmt.Errorf("dtu: %s: %w", flag, err)
	}
	defer os.RemoveAll(private)
	at := filepath.Join(private, "s")
	l, err = net.ListenUnix("unix", &net.UnixAddr{Name: at, Net: "unix"})
	if err != nil {
		return nil, nil, fmt.Errorf("dtu: %s: %w", flag, err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(at, 0o600), os.Rename(at, path)); err != nil {
		l.Close()
		return nil, nil, fmt.Errorf("dtu: %s: %w", flag, err)
	}
	return l, func() { os.Remove(path) }, nil
}
