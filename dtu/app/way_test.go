package app

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"hotdesk/dtu/bootstrap"
	"hotdesk/dtu/network"
	"hotdesk/dtu/terminal"
	"hotdesk/dtu/trust"
	"hotdesk/protocol/alp"
)

// firstUse starts a terminal that trusts nobody yet.
func firstUse(t *testing.T, file string, g *gateway) *bench {
	t.Helper()
	return start(t, func(c *Config) {
		c.Servers, c.Trust, c.TrustFile = []netip.AddrPort{g.addr}, trust.FirstUse, file
	})
}

// A told network has an address and says of which servers it was told.
type told struct{ states chan network.State }

func (n told) Run(ctx context.Context, post func(network.State)) {
	for {
		select {
		case s := <-n.states:
			post(s)
		case <-ctx.Done():
			return
		}
	}
}

func (n told) Servers(s network.State) []netip.AddrPort {
	return []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.Lease.Options.ControlPort)}
}

// TestNetOfAnother: a program that runs terminals within itself gives one its
// network. It talks to nobody before it has an address, and then to the server
// that it is told of.
func TestNetOfAnother(t *testing.T) {
	g := newGateway(t)
	net := told{make(chan network.State)}
	b := start(t, func(c *Config) {
		c.Authority, c.Net, c.Find = g.file, net, []bootstrap.Source{bootstrap.DHCP}
	})
	net.states <- network.State{Link: true, Phase: bootstrap.Selecting}
	b.ctl("wait", "osd=21")
	s := network.State{Link: true, Up: true, Phase: bootstrap.Holding, Settled: true}
	s.Lease.Addr, s.Lease.Given = netip.MustParseAddr("10.90.1.100"), true
	s.Lease.Options.ControlPort = g.addr.Port()
	net.states <- s
	g.accept().presented()
	b.ctl("wait", "control=up")
	if st := b.status(); st.Network == nil || st.Network.Lease.Addr != s.Lease.Addr {
		t.Errorf("%+v", st)
	}
	b.off()
}

// acceptPresented accepts a connection on which a token is presented: one that
// was dialled before the authority was accepted may be given up.
func (g *gateway) acceptPresented() {
	g.t.Helper()
	for {
		l := g.accept()
		if text, err := l.r.ReadString('\n'); err == nil && strings.HasPrefix(text, alp.CmdInfoReq) {
			return
		}
	}
}

// TestFirstUse: the fingerprint is shown, somebody accepts it, it is kept, and
// no other is accepted afterwards.
func TestFirstUse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "trusted.pem")
	g := newGateway(t)
	b := firstUse(t, file, g)
	b.ctl("wait", "osd=15")
	s := b.status()
	if s.Asked != g.print.String() || !strings.Contains(strings.ReplaceAll(s.Text, "\n", " "), g.print.Spaced()) || s.Trusted != nil || s.Control {
		t.Errorf("asked %+v", s)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("before anybody accepted: %v", err)
	}
	if _, _, code := b.try("accept", strings.Repeat("0", 64)); code != 1 {
		t.Error("another fingerprint was accepted")
	}
	b.ctl("accept", g.print.Spaced())
	g.acceptPresented()
	b.ctl("wait", "control=up")
	if s := b.status(); s.Asked != "" || !slices.Equal(s.Trusted, []string{g.print.String()}) {
		t.Errorf("accepted %+v", s)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if _, _, code := b.try("accept"); code != 1 {
		t.Error("accepted again")
	}
	b.off()

	// The next start asks nobody.
	b = firstUse(t, file, g)
	g.accept().presented()
	b.ctl("wait", "control=up")
	b.off()

	// Another group is refused, with both fingerprints, and cannot be accepted.
	other := newGateway(t)
	kept, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b = firstUse(t, file, other)
	b.ctl("wait", "osd=15")
	s = b.status()
	if !strings.Contains(s.Text, g.print.String()) || !strings.Contains(s.Text, other.print.String()) || s.Asked != "" {
		t.Errorf("another group: %+v", s)
	}
	if _, _, code := b.try("accept"); code != 1 {
		t.Error("another group was accepted")
	}
	if now, err := os.ReadFile(file); err != nil || string(now) != string(kept) {
		t.Errorf("the file changed: %v", err)
	}
}

// TestFirstUseByKeys: Escape declines for good, Return accepts.
func TestFirstUseByKeys(t *testing.T) {
	a, c := newGateway(t), newGateway(t)
	cfg := Default()
	cfg.Trust, cfg.TrustFile = trust.FirstUse, filepath.Join(t.TempDir(), "trusted.pem")
	cfg.Servers, cfg.GroupPort, cfg.Width, cfg.Height = []netip.AddrPort{a.addr, c.addr}, 0, 320, 240
	s, ended := startShell(t, cfg)
	h := hands{s}
	asked := func(g *gateway) {
		t.Helper()
		for {
			st, _, changed := s.status.read()
			if st.Asked == g.print.String() {
				return
			}
			select {
			case <-changed:
			case <-ended:
				t.Fatal("the terminal went off")
			}
		}
	}
	asked(a)
	h.Key(keyEscape, true)
	h.Key(keyEscape, false)
	asked(c)
	h.Key(keyReturn, true)
	h.Key(keyReturn, false)
	c.acceptPresented()
	if got := s.trust.Fingerprints(); len(got) != 1 || got[0] != c.print {
		t.Errorf("trusted %v", got)
	}
}

// TestFirstUseOnSmallScreens: what nobody could read is not accepted by a key.
func TestFirstUseOnSmallScreens(t *testing.T) {
	for _, size := range []struct {
		w, h  int
		whole bool
	}{{64, 64, false}, {96, 64, false}, {200, 120, true}, {320, 240, true}, {1280, 1024, true}} {
		cfg := Default()
		cfg.Trust, cfg.TrustFile = trust.FirstUse, filepath.Join(t.TempDir(), "trusted.pem")
		g := newGateway(t)
		cfg.Servers, cfg.GroupPort, cfg.Width, cfg.Height = []netip.AddrPort{g.addr}, 0, size.w, size.h
		s := newShellOf(t, cfg)
		u := &trust.Unknown{Print: g.print}
		q, whole := s.question(u)
		if whole != size.whole || whole != strings.Contains(strings.Join(strings.Fields(q.Text), ""), g.print.String()) {
			t.Errorf("%dx%d: asks %q", size.w, size.h, q.Text)
		}
		s.prompt.Store(u)
		s.says(terminal.OSD{Code: terminal.CodeServer})
		if size.whole {
			continue
		}
		if err := s.decide(decision{about: u, accept: true}); !errors.Is(err, errNotShown) || s.prompt.Load() != u || len(s.trust.Fingerprints()) > 0 {
			t.Errorf("%dx%d: accepting by Return: %v", size.w, size.h, err)
		}
	}
}

// TestSays: what a person sees on the way to a server.
func TestSays(t *testing.T) {
	cfg := Default()
	cfg.DHCP, cfg.Log = "eth0", slog.New(slog.DiscardHandler)
	s := newShell(cfg, new(trust.Store), readerSet{})
	waiting := terminal.OSD{Code: terminal.CodeServer, Title: "Waiting for the server"}
	s.way.shown = &s.way.net
	for _, c := range []struct {
		link, up, silent bool
		in, want         int
	}{
		{false, false, false, terminal.CodeServer, codeLink},
		{true, false, false, terminal.CodeServer, codeDHCP},
		{true, false, true, terminal.CodeNetworkDown, codeDHCP},
		{true, true, false, terminal.CodeServer, terminal.CodeServer},
		{true, false, false, terminal.CodeDenied, terminal.CodeDenied},
		{true, false, false, 0, 0},
	} {
		s.way.net.Link, s.way.net.Up, s.way.net.Silent = c.link, c.up, c.silent
		in := waiting
		in.Code = c.in
		if got := s.says(in).Code; got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

// TestUnplugged: over a picture a corner says that the cable is out, and only
// while it is.
func TestUnplugged(t *testing.T) {
	g, m := newGateway(t), newMediaEnd(t)
	s, _ := startShell(t, small(g))
	l := g.accept()
	l.send(m.allow(l.presented(), session, green))
	m.next()
	wait := func(conditions ...string) {
		t.Helper()
		if err := s.wait(t.Context(), conditions, patience); err != nil {
			t.Fatal(err)
		}
	}
	wait("picture", "pixel=300,220,00ff00")
	before := hash(s.screen.Snapshot())
	watch := s.screen.Watch()
	defer watch.Close()
	corner := func(there bool) {
		t.Helper()
		for late := time.After(patience); ; {
			watch.Take()
			if (hash(s.screen.Snapshot()) != before) == there {
				return
			}
			select {
			case <-watch.Changed():
			case <-late:
				t.Fatalf("a notice: %v", !there)
			}
		}
	}
	s.fromNetwork(network.State{Link: true, Up: true})
	s.fromNetwork(network.State{})
	corner(true)
	s.fromNetwork(network.State{Link: true, Up: true})
	corner(false)
}

// TestWayFlags: flags that contradict each other are refused with a way out.
func TestWayFlags(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"", "-trust first-use"},
		{"-trust first-use", "-trust-file"},
		{"-trust first-use -state /proc/nosuch/x", "-state"},
		{"-trust first-use -trust-file x -authority y", "leave one out"},
		{"-trust dhcp -trust-file x", "-dhcp"},
		{"-trust everybody", "first-use"},
		{"-authority x -dhcp-configure", "which interface"},
		{"-authority x -local -dhcp lo", "loopback"},
		{"-authority x -dhcp no-such-interface", "no-such-interface"},
		{"-authority x -find dns,dns", "at most once"},
		{"-authority x -find elsewhere", "configured,last,dhcp,dns,broadcast"},
	} {
		var out strings.Builder
		if code := Main(strings.Fields(c.args), &out, &out); code == 0 || !strings.Contains(out.String(), c.want) {
			t.Errorf("%q: exit code %d, %s", c.args, code, out.String())
		}
	}
}

// The terminal's key lies where things are kept, if they last there.
func TestOwnKeyFile(t *testing.T) {
	shm, err := os.MkdirTemp("/dev/shm", "dtu")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(shm) })
	beside := "" // what else is there is a matter of the machine
	if trust.Lasts(".") {
		beside = "terminal.key"
	}
	for _, c := range []struct {
		conf Config
		want string
	}{
		{Config{Trust: trust.Configured, Authority: "a.pem"}, ""},
		{Config{Trust: trust.FirstUse, TrustFile: filepath.Join(shm, "trusted.pem")}, ""},
		{Config{Trust: trust.FirstUse, TrustFile: "nosuch/trusted.pem"}, ""},
		{Config{Trust: trust.FirstUse, TrustFile: "trusted.pem"}, beside},
		{Config{Trust: trust.FirstUse, TrustFile: "trusted.pem", KeyFile: "own"}, "own"},
		{Config{Trust: trust.FirstUse, State: shm, TrustFile: "trusted.pem"}, filepath.Join(shm, "terminal.key")}, // an admin says that it lasts
		{Config{Trust: trust.Configured, Authority: "a.pem", State: "s"}, "s/terminal.key"},
		{Config{Trust: trust.Configured, Authority: "a.pem", State: "s", KeyFile: "own"}, "own"},
	} {
		c.conf.Log = slog.New(slog.DiscardHandler)
		if got := c.conf.ownKey(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.conf, got, c.want)
		}
	}
	// What is there is used, although no key would be made in such a directory.
	c := Config{Trust: trust.FirstUse, TrustFile: filepath.Join(shm, "trusted.pem"), KeyFile: filepath.Join(shm, "terminal.key"), Log: slog.New(slog.DiscardHandler)}
	made, err := c.openTrust()
	if err != nil {
		t.Fatal(err)
	}
	c.KeyFile = ""
	if found, err := c.openTrust(); err != nil || len(found.TLS().Certificates) != 1 ||
		!reflect.DeepEqual(found.TLS().Certificates[0].PrivateKey, made.TLS().Certificates[0].PrivateKey) {
		t.Errorf("the key that is there is not used: %v", err)
	}
	c = Config{Trust: trust.FirstUse, State: filepath.Join(shm, "state"), DHCP: "x"}
	if err := c.checkTrust(); err != nil || c.TrustFile != filepath.Join(c.State, "trusted.pem") {
		t.Errorf("%q, %v", c.TrustFile, err)
	}
	c.Log = slog.New(slog.DiscardHandler)
	for range 2 {
		if _, err := c.openTrust(); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := os.Stat(filepath.Join(c.State, "terminal.key")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
}
