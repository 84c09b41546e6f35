// Package app is the group manager as a program: the sockets, the clock and
// the files round package engine.
//
// Source: design sections 1 and 4.
//
// Invariants:
//  1. One goroutine owns the engine; it receives, steps, performs the output.
//     Others only wait for packets, requests and the kernel.
//  2. With Local nothing from outside the loopback network is read: the shared
//     socket is tied to lo, and other sources are dropped.
//  3. Run returns when all its goroutines have ended, after a goodbye to the
//     group.
//  4. Interfaces are read when the kernel says that they changed, not by the
//     clock.
//
// Limits: group.MaxPacket for a datagram, MaxConns local connections, those of
// package rpc for a request.
package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hotdesk/groupmgr/engine"
	"hotdesk/protocol/group"
	"hotdesk/protocol/program"
)

// Config is what Run needs; each field is a flag.
type Config struct {
	Local    bool
	Runtime  string     // directory of groupmgr.sock
	State    string     // directory of group.key and, without Local, of what an admin set
	Host     string     // empty: the machine's name; with Local one made of the address
	Addr     netip.Addr // primary address; zero: found
	Port     int        // of the group; 0 only with Local: a free one
	Period   time.Duration
	Down     time.Duration
	MaxSkew  time.Duration
	Alg      group.Alg
	Limit    int
	Offline  bool // whatever state was kept
	LogLevel slog.Level

	Broadcast bool             // to the broadcast address of each interface
	Multicast netip.Addr       // to this group on each interface; zero: none
	TTL       int              // of multicasts: the networks that they cross
	Peers     []netip.AddrPort // to each of these; port 0: that of the group

	Stdout io.Writer    // for the ready line
	Log    *slog.Logger // nil: silent
}

// Default is the configuration where no flag is given.
func Default() Config {
	return Config{Broadcast: true, TTL: 1, Port: group.Port, Period: 20 * time.Second, Down: 60 * time.Second, MaxSkew: 5 * time.Minute, Alg: group.SHA1}
}

// flags makes the flag set of c.
func flags(c *Config) *flag.FlagSet {
	fs := flag.NewFlagSet("groupmgr", flag.ContinueOnError)
	fs.BoolVar(&c.Local, "local", false, "run unprivileged, on loopback addresses only, with a group of the caller's own")
	fs.StringVar(&c.Runtime, "runtime", "", "`DIR` of the socket groupmgr.sock, the same as the server's (empty: /run/hotdesk, with -local a directory of yours)")
	fs.StringVar(&c.State, "state", "", "`DIR` of group.key, whose lines are the group's secrets (empty: /var/lib/hotdesk/group, with -local a directory of yours)")
	fs.StringVar(&c.Host, "host", "", "`NAME` of this host in the group (empty: the machine's name, with -local one made of the address)")
	fs.Func("addr", "primary `ADDRESS` of this host, IPv4 (empty: that of the default route; with -local a free one of 127.0.0.2 to 127.0.0.254)", func(s string) error {
		a, err := netip.ParseAddr(s)
		if err != nil || !a.Is4() {
			return fmt.Errorf("%q is not an IPv4 address", s)
		}
		c.Addr = a
		return nil
	})
	fs.IntVar(&c.Port, "port", c.Port, "UDP `PORT` of the group, the same on every host and terminal (0, only with -local: a free one)")
	fs.DurationVar(&c.Period, "period", c.Period, "`TIME` between two messages about this host")
	fs.DurationVar(&c.Down, "down", c.Down, "`TIME` of silence after which a host or an interface counts as down")
	fs.DurationVar(&c.MaxSkew, "max-skew", c.MaxSkew, "`TIME` by which the clock of a host may differ, and the age of a message that still counts")
	fs.Func("alg", "`ALGORITHM` of signatures: hmac-sha1 or hmac-sha256; both are understood (default hmac-sha1)", func(s string) error {
		if !group.Alg(s).Valid() {
			return fmt.Errorf("%q is neither %s nor %s", s, group.SHA1, group.SHA256)
		}
		c.Alg = group.Alg(s)
		return nil
	})
	fs.IntVar(&c.Limit, "max-sessions", c.Limit, "`NUMBER` of sessions that this host takes (0: no number of its own; new ones then go by processors and memory alone)")
	fs.BoolVar(&c.Offline, "offline", false, "start offline: keep the sessions that are here, take no new ones (without it the state of 'groupmgr ctl' before the stop holds)")
	fs.BoolVar(&c.Broadcast, "broadcast", c.Broadcast, "speak to the broadcast address of each interface")
	fs.Func("multicast", "speak to and hear this multicast `ADDRESS` on each interface, the same on every host, for example 239.255.70.9 (empty: none)", func(s string) error {
		a, err := netip.ParseAddr(s)
		if err != nil || !a.Is4() || !a.IsMulticast() {
			return fmt.Errorf("%q is not an IPv4 multicast address (224.0.0.0 to 239.255.255.255)", s)
		}
		c.Multicast = a
		return nil
	})
	fs.IntVar(&c.TTL, "multicast-ttl", c.TTL, "`NUMBER` of networks that multicasts cross, with routers that carry them")
	fs.Func("peer", "`ADDRESS[:PORT]` of a host that neither broadcasts nor multicasts reach, several by commas or by several -peer; one of the two ends is enough", func(s string) error {
		for part := range strings.SplitSeq(s, ",") {
			p, err := parsePeer(strings.TrimSpace(part))
			if err != nil {
				return err
			}
			if !slices.Contains(c.Peers, p) {
				c.Peers = append(c.Peers, p)
			}
		}
		if len(c.Peers) > maxPeers {
			return fmt.Errorf("more than %d", maxPeers)
		}
		return nil
	})
	fs.TextVar(&c.LogLevel, "log-level", c.LogLevel, "`LEVEL` of the log on standard error: debug, info, warn or error")
	return fs
}

// maxPeers bounds the hosts that are told one by one.
const maxPeers = 256

func parsePeer(s string) (netip.AddrPort, error) {
	p, err := netip.ParseAddrPort(s)
	if a, aerr := netip.ParseAddr(s); err != nil && aerr == nil {
		p, err = netip.AddrPortFrom(a, 0), nil
	}
	if err != nil || !p.Addr().Is4() || p.Addr().IsUnspecified() || p.Addr().IsMulticast() {
		return netip.AddrPort{}, fmt.Errorf("%q is not an IPv4 address of a host, with or without :PORT", s)
	}
	return p, nil
}

// Command is the program `groupmgr`.
func Command() *program.Command { return command(io.Discard, io.Discard) }

func command(stdout, stderr io.Writer) *program.Command {
	c := Default()
	return &program.Command{
		Name:    "groupmgr",
		Purpose: "finds the other hosts of the group, finds sessions in it, and answers terminals that look for a server",
		Usage:   "[flags]\nctl [flags] table | status | online | offline | down",
		Flags:   flags(&c),
		Run: func(ctx context.Context, args []string) error {
			if len(args) > 0 {
				return program.Usagef("unknown argument %q", args[0])
			}
			c.Stdout = stdout
			c.Log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: c.LogLevel}))
			return Run(ctx, c)
		},
	}
}

// Main is the program.
func Main(args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "ctl" {
		return program.Main(ctlCommand(stdout), args[1:], stdout, stderr)
	}
	return program.Main(command(stdout, stderr), args, stdout, stderr)
}

// check fills in what the configuration leaves open and refuses what cannot be.
func (c *Config) check() error {
	if c.Runtime == "" {
		c.Runtime = program.RuntimeDir(c.Local)
	}
	if c.State == "" {
		c.State = program.StateDir(c.Local)
		if !c.Local {
			c.State = filepath.Join(c.State, "group") // the directory above is root's
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Stdout == nil {
		c.Stdout = io.Discard
	}
	switch {
	case c.Port < 0 || c.Port > 65535 || c.Port == 0 && !c.Local:
		return program.Usagef("-port %d: from 1 to 65535", c.Port)
	case c.Period < 100*time.Millisecond:
		return program.Usagef("-period %v: at least 100ms", c.Period)
	case c.Down <= c.Period:
		return program.Usagef("-down %v: longer than -period %v", c.Down, c.Period)
	case c.MaxSkew < time.Second:
		return program.Usagef("-max-skew %v: at least 1s", c.MaxSkew)
	case c.Limit < 0 || c.Limit > group.MaxCount:
		return program.Usagef("-max-sessions %d", c.Limit)
	case c.Local && c.Addr.IsValid() && !c.Addr.IsLoopback():
		return program.Usagef("-addr %v: with -local an address of 127.0.0.0/8", c.Addr)
	case c.Local && slices.ContainsFunc(c.Peers, func(p netip.AddrPort) bool { return !p.Addr().IsLoopback() }):
		return program.Usagef("-peer: with -local an address of 127.0.0.0/8")
	case c.TTL < 1 || c.TTL > 255:
		return program.Usagef("-multicast-ttl %d: from 1 to 255", c.TTL)
	case !c.Broadcast && !c.Multicast.IsValid() && len(c.Peers) == 0:
		return program.Usagef("-broadcast=false: then give -multicast or -peer, or no host can be found")
	case c.Host != "" && !group.ValidName(c.Host):
		return program.Usagef("-host %q: letters, digits, '-', '_' and '.', at most %d", c.Host, group.MaxName)
	}
	return nil
}

// Run runs the group manager until ctx ends.
func Run(ctx context.Context, c Config) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(c.Runtime, 0o700); err != nil {
		return fmt.Errorf("groupmgr: -runtime: %w; the server makes it when it starts, or make it for this account: install -d -m 700 -o ACCOUNT %s", err, c.Runtime)
	}
	keys := keyFile{path: filepath.Join(c.State, "group.key")}
	if c.Local {
		if err := keys.create(); err != nil {
			return err
		}
	}
	ring, err := keys.read()
	if err != nil {
		return err
	}
	// In local mode a host keeps its address over a restart: its server is there.
	own, former := addrsFile(filepath.Join(c.Runtime, "groupmgr.addr")), netip.Addr{}
	if kept := own.read(); c.Local && len(kept) > 0 {
		former = kept[0].Addr()
	}
	sock, err := listenGroup(c.Local, c.Addr, former, c.Port, c.Multicast, c.TTL)
	if err != nil {
		return err
	}
	defer sock.Close()
	if c.Host == "" {
		if c.Host, err = hostName(c.Local, sock.addr); err != nil {
			return err
		}
	}
	unixSock, err := listenUnix(filepath.Join(c.Runtime, "groupmgr.sock"))
	if err != nil {
		return err
	}
	defer unixSock.Close()
	if c.Local {
		if err := own.write([]netip.AddrPort{netip.AddrPortFrom(sock.addr, uint16(sock.port))}); err != nil {
			return err
		}
	}
	look := kernel{local: sock.addr, primary: c.Addr}
	about, err := look.describe()
	if err != nil {
		return err
	}
	if len(about.Interfaces) == 0 {
		return errors.New("groupmgr: no network interface with an IPv4 address is up; bring one up, or use -local")
	}
	sock.join(about.Interfaces, c.Log)
	kept, peers := stateFile(c.keep("groupmgr.state")), addrsFile(c.keep("groupmgr.peers"))
	learned := peers.read()
	state, err := kept.read()
	if err != nil {
		c.Log.Warn("kept state not read, this host is online", "error", err)
	}
	if c.Offline {
		state = engine.SetState{State: group.Offline}
	}
	for i, p := range c.Peers {
		if p.Port() == 0 {
			c.Peers[i] = netip.AddrPortFrom(p.Addr(), uint16(sock.port))
		}
	}
	seed, now := newSeed(), time.Now()
	s := &shell{
		log: c.Log, sock: sock, calls: make(chan func(time.Time)), packets: make(chan engine.Packet, 64),
		answers: map[uint64]func(engine.Answered){}, noticed: newNoticed(),
		kept: kept, peers: peers, learned: learned, tell: make(chan told, 1),
		engine: engine.New(now, engine.Config{
			Host: c.Host, Port: uint16(sock.port), Ring: ring, Alg: c.Alg, Period: c.Period, Down: c.Down,
			MaxSkew: c.MaxSkew, Settle: engine.Settle, Limit: c.Limit, Seed: seed,
			State: state.State, Deadline: state.Deadline,
			NoBroadcast: !c.Broadcast, Multicast: c.Multicast, Peers: c.Peers, Learned: learned,
		}),
	}
	s.engine.Step(now, about)
	fmt.Fprintf(c.Stdout, "groupmgr: ready host=%s addr=%v port=%d socket=%s\n", c.Host, about.Addr, sock.port, unixSock.path)
	if c.Local {
		fmt.Fprintf(c.Stdout, "next: server -local -runtime %s -state %s\n", c.Runtime, c.State)
	}
	return s.run(ctx, unixSock, func(ctx context.Context) { s.watch(ctx, look, &keys) })
}

// keep is where a file that outlives a restart is: with Local beside the
// socket, as there one directory of keys serves several hosts.
func (c *Config) keep(name string) string {
	if c.Local {
		return filepath.Join(c.Runtime, name)
	}
	return filepath.Join(c.State, name)
}

// hostName is the first label of the machine's name; in local mode, where one
// machine plays several hosts, it tells them apart.
func hostName(localMode bool, addr netip.Addr) (string, error) {
	if localMode {
		return "local" + strings.ReplaceAll(strings.TrimPrefix(addr.String(), "127.0.0."), ".", "-"), nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("groupmgr: no host name: %w; give one by -host", err)
	}
	name, _, _ = strings.Cut(name, ".")
	if !group.ValidName(name) {
		return "", errors.New("groupmgr: the machine's name " + name + " cannot be a host's name in the group; give one by -host")
	}
	return name, nil
}
