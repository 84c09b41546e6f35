package app

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"hotdesk/dtu/backend"
	"hotdesk/dtu/boot"
	"hotdesk/dtu/bootstrap"
	"hotdesk/dtu/keymap"
	"hotdesk/dtu/network"
	"hotdesk/dtu/trust"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
	"hotdesk/protocol/program"
)

// Config is what Run needs; each field is a flag.
type Config struct {
	Local         bool
	Servers       []netip.AddrPort
	Find          []bootstrap.Source // nil: in the usual order
	Authority     string             // file with the certificate of the group's authority
	Trust         trust.Mode         // where the authority comes from where no file names it
	State         string             // directory of what the terminal keeps; "": what the files below say
	TrustFile     string             // where what was accepted is kept; "": in State
	KeyFile       string             // of the terminal's own key; "": see ownKey
	DHCP          string             // interface to ask on; empty: no DHCP
	DHCPConfigure bool               // give it the lease's address
	Display       string             // headless, window, fb or workbench
	XDisplay      string             // of the window, empty: $DISPLAY
	Workbench     string             // address of the page
	Width, Height int
	MAC           alp.TerminalID // empty: a random one
	Layout        string
	Cards         string     // folder of emulated cards, empty: no emulated reader
	CardSocket    string     // where card programs connect, empty: nowhere
	Readers       []string   // kinds; nil: emulated where there are Cards, vpcd where there is a CardSocket
	FrameBuffer   string     // device, of the display fb
	Ctl           string     // control socket; empty: none, with Local a free one
	GroupPort     int        // 0: do not ask the network
	Multicast     netip.Addr // of the group's host messages, besides broadcasts; zero: none
	LogLevel      slog.Level

	Stdout io.Writer    // for the ready line
	Log    *slog.Logger // nil: silent

	Within // no flags
}

// Within is for a program that runs terminals within itself, by Run.
type Within struct {
	Show  backend.Display // instead of the one that Display names; and no control socket is made unasked
	Told  func(Status)    // is told every change of the status once the screen shows it, and returns at once
	Count bool            // pictures are received and counted, not drawn; nor are words
	Wire  Wire            // what connections to servers go through; nil: nothing
	Net   Network         // what has an address and knows of servers, in place of DHCP's interface; nil: nothing
}

// A Network says what becomes of the terminal's address, till ctx ends; post does
// not wait for long. Servers are where those are that a lease names.
type Network interface {
	Run(ctx context.Context, post func(network.State))
	Servers(network.State) []netip.AddrPort
}

// A Wire is a network that can be made worse. Both may return what they get.
type Wire interface {
	Stream(to netip.AddrPort, c net.Conn) net.Conn
	Packets(to netip.AddrPort, c net.PacketConn) net.PacketConn
}

// Default is the configuration where no flag is given.
func Default() Config {
	return Config{Display: "headless", Width: 1280, Height: 1024, Layout: "us", GroupPort: group.Port,
		Workbench: "127.0.0.1:0", FrameBuffer: "/dev/fb0", Stdout: io.Discard}
}

var displays = []string{"headless", "window", "fb", "workbench"}

// flags makes the flag set of c.
func flags(c *Config) *flag.FlagSet {
	fs := flag.NewFlagSet("dtu", flag.ContinueOnError)
	fs.BoolVar(&c.Local, "local", false, "use loopback addresses only, make a control socket if -ctl names none, and print the next command to type")
	fs.Func("server", "`ADDRESS:PORT` of a server's control port, tried first; more than one with commas or by giving the flag again (default: ask the network)", func(s string) error {
		for s := range strings.SplitSeq(s, ",") {
			a, err := netip.ParseAddrPort(strings.TrimSpace(s))
			if err != nil || !a.Addr().Is4() || a.Port() == 0 {
				return fmt.Errorf("%q is not IPv4:PORT", s)
			}
			c.Servers = append(c.Servers, a)
		}
		return nil
	})
	fs.StringVar(&c.Authority, "authority", "", "`FILE` with the certificate of the group's authority (authority.pem in a server's -state directory); servers of no other are talked to")
	fs.Func("trust", "`HOW` to learn the group's authority without -authority: first-use (the screen shows the first server's fingerprint, Return or 'dtu ctl accept' accepts it) or dhcp (the DHCP server names the fingerprint: only where whoever runs it may decide); kept in -trust-file, never changed afterwards", func(s string) error {
		if c.Trust = trust.Mode(s); c.Trust != trust.FirstUse && c.Trust != trust.DHCP {
			return fmt.Errorf("%q is neither first-use nor dhcp", s)
		}
		return nil
	})
	fs.StringVar(&c.State, "state", "", "`DIR` that lasts, made when it is missing, where the terminal keeps what it learns: trusted.pem of -trust, and terminal.key, its own key (empty: as -trust-file and -key-file say)")
	fs.StringVar(&c.KeyFile, "key-file", "", "`FILE` of the terminal's own key, made when it is missing: hosts that have seen it let nobody else be this terminal (empty: terminal.key in -state or else beside -trust-file, if it is there or that is on a disk which can be written to; without either its id is all that it has)")
	fs.StringVar(&c.TrustFile, "trust-file", "", "`FILE` where the authority that -trust brought is kept; take it away to trust anew (empty: trusted.pem in -state)")
	fs.StringVar(&c.DHCP, "dhcp", "", "`INTERFACE` on which a DHCP server is asked for servers (needs the rights of root; empty: no DHCP)")
	fs.BoolVar(&c.DHCPConfigure, "dhcp-configure", false, "give the interface of -dhcp the address and route of the lease, and take them away at the end")
	fs.Func("find", "`SOURCES` of servers in the order in which they are tried, with commas (default "+sources(bootstrap.Order)+")", func(s string) error {
		c.Find = nil
		for f := range strings.SplitSeq(s, ",") {
			from := bootstrap.Source(strings.TrimSpace(f))
			if !slices.Contains(bootstrap.Order, from) || slices.Contains(c.Find, from) {
				return fmt.Errorf("%q: each at most once of %s", f, sources(bootstrap.Order))
			}
			c.Find = append(c.Find, from)
		}
		return nil
	})
	fs.Func("display", "`KIND` of display: headless (a picture in memory), window (on an X server), fb (the Linux frame buffer, with all keyboards and mice of the machine) or workbench (a page for a web browser) (default headless)", func(s string) error {
		if !slices.Contains(displays, s) {
			return fmt.Errorf("%q is none of %s", s, strings.Join(displays, ", "))
		}
		c.Display = s
		return nil
	})
	fs.StringVar(&c.FrameBuffer, "frame-buffer", c.FrameBuffer, "`DEVICE` for -display fb")
	fs.StringVar(&c.XDisplay, "x-display", "", "`NAME` of the X server for -display window (empty: $DISPLAY)")
	fs.StringVar(&c.Workbench, "workbench", c.Workbench, "`ADDRESS:PORT` of the page for -display workbench; port 0 is a free one")
	fs.Func("size", "`WIDTHxHEIGHT` of the screen in pixels (default 1280x1024)", func(s string) error {
		var w, h int
		if n, err := fmt.Sscanf(s, "%dx%d", &w, &h); n != 2 || err != nil || fmt.Sprintf("%dx%d", w, h) != s {
			return fmt.Errorf("%q is not WIDTHxHEIGHT", s)
		}
		if min(w, h) < alp.MinSide || max(w, h) > alp.MaxSide {
			return fmt.Errorf("sides must be %d to %d", alp.MinSide, alp.MaxSide)
		}
		c.Width, c.Height = w, h
		return nil
	})
	fs.Func("mac", "`ADDRESS` that names the terminal, 12 hex digits, with or without colons (default: a random one, made up for this run)", func(s string) error {
		id := alp.TerminalID(strings.ToLower(strings.ReplaceAll(s, ":", "")))
		if !id.Valid() {
			return fmt.Errorf("%q is not 12 hex digits", s)
		}
		c.MAC = id
		return nil
	})
	fs.Func("layout", "`NAME` of the keyboard's layout: "+strings.Join(keymap.Layouts(), ", ")+" (default us)", func(s string) error {
		if !slices.Contains(keymap.Layouts(), s) {
			return fmt.Errorf("%q is none of %s", s, strings.Join(keymap.Layouts(), ", "))
		}
		c.Layout = s
		return nil
	})
	fs.StringVar(&c.Cards, "cards", "", "`DIR` of emulated cards, files NAME.card with lines 'atr =', 'type = simple', 'id =', 'secret =', 'name =' (empty: no emulated reader)")
	fs.StringVar(&c.CardSocket, "card-socket", "", "unix `SOCKET` to be made for card programs, which speak the protocol of vsmartcard's vpcd: to connect is to put a card in, to close is to pull it (empty: no such reader)")
	fs.Func("readers", "`KINDS` of card readers, with commas: emulated (of -cards), vpcd (of -card-socket), pcsc (those of pcscd), usb (through libusb), usbfs (the same on Linux without it) or none; pcsc and usb need a dtu built with those tags (default emulated with -cards and vpcd with -card-socket, else none)", func(s string) (err error) {
		c.Readers, err = parseReaders(s)
		return err
	})
	fs.StringVar(&c.Ctl, "ctl", "", "unix `SOCKET` to be made for 'dtu ctl' (empty: none, with -local a free one)")
	fs.IntVar(&c.GroupPort, "group-port", c.GroupPort, "UDP `PORT` at which group managers are asked for a server (0: do not ask)")
	fs.Func("multicast", "hear the group's hosts at this multicast `ADDRESS` too, the one that their group managers have (empty: broadcasts only)", func(s string) error {
		a, err := netip.ParseAddr(s)
		if err != nil || !a.Is4() || !a.IsMulticast() {
			return fmt.Errorf("%q is not an IPv4 multicast address (224.0.0.0 to 239.255.255.255)", s)
		}
		c.Multicast = a
		return nil
	})
	fs.TextVar(&c.LogLevel, "log-level", c.LogLevel, "`LEVEL` of the log on standard error: debug, info, warn or error")
	return fs
}

// Command is the program `dtu`.
func Command() *program.Command { return command(io.Discard, io.Discard) }

func command(stdout, stderr io.Writer) *program.Command {
	c := Default()
	return &program.Command{
		Name:    "dtu",
		Purpose: "a terminal: finds a server, reads cards, shows the session of the card that is in",
		Usage:   "[flags]\nctl -socket SOCKET COMMAND [ARGUMENT...]",
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

// Main is the program. As a machine's first process it is the machine's whole
// life.
func Main(args []string, stdout, stderr io.Writer) int {
	if boot.First() {
		boot.Run(stderr, func(args []string) int { return program.Main(command(stdout, stderr), args, stdout, stderr) })
	}
	if len(args) > 0 && args[0] == "ctl" {
		return program.Main(ctlCommand(stdout), args[1:], stdout, stderr)
	}
	return program.Main(command(stdout, stderr), args, stdout, stderr)
}

// check completes c and tells what is wrong with it.
func (c *Config) check() error {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if err := c.checkTrust(); err != nil {
		return err
	}
	if err := c.checkReaders(); err != nil {
		return err
	}
	switch {
	case c.DHCPConfigure && c.DHCP == "":
		return program.Usagef("-dhcp-configure without -dhcp: which interface?")
	case c.DHCP != "" && c.Net != nil:
		return program.Usagef("-dhcp %s: this terminal's network is another", c.DHCP)
	case c.DHCP != "" && c.Local:
		return program.Usagef("-dhcp and -local: there is no DHCP on loopback")
	}
	if c.GroupPort < 0 || c.GroupPort > 65535 {
		return program.Usagef("-group-port %d is not a port", c.GroupPort)
	}
	if c.GroupPort == 0 && len(c.Servers) == 0 && c.DHCP == "" && c.Net == nil {
		return program.Usagef("-group-port 0, no -server and no -dhcp: there is nothing to find a server by")
	}
	if c.DHCP != "" && c.MAC == "" {
		mac, err := network.MAC(c.DHCP)
		if err != nil {
			return fmt.Errorf("dtu: -dhcp: %w", err)
		}
		c.MAC = mac
	}
	c.MAC = cmp.Or(c.MAC, randomMAC())
	return nil
}

// checkTrust tells what is wrong with what is to be trusted.
func (c *Config) checkTrust() error {
	switch {
	case c.Authority != "" && c.Trust != "":
		return program.Usagef("-authority and -trust: the authority is given, so nothing is learned; leave one out")
	case c.Authority != "":
		c.Trust = trust.Configured
	case c.Trust == "":
		return program.Usagef("no -authority: a terminal talks only to servers of the group it was given; name the file authority.pem of that group's -state directory, or let -trust first-use show the first server's fingerprint")
	case c.TrustFile == "" && c.State != "":
		c.TrustFile = filepath.Join(c.State, "trusted.pem")
	case c.TrustFile == "":
		return program.Usagef("-trust %s without -state or -trust-file: what is accepted must be kept", c.Trust)
	}
	if c.Trust == trust.DHCP && c.DHCP == "" {
		return program.Usagef("-trust dhcp without -dhcp: which interface?")
	}
	return nil
}

func sources(list []bootstrap.Source) string {
	var words []string
	for _, s := range list {
		words = append(words, string(s))
	}
	return strings.Join(words, ",")
}

// randomMAC makes a locally administered unicast address.
func randomMAC() alp.TerminalID {
	var mac [6]byte
	rand.Read(mac[:])
	mac[0] = mac[0]&^3 | 2
	return alp.TerminalID(hex.EncodeToString(mac[:]))
}
