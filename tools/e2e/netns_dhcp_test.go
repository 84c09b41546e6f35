package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	dtu "hotdesk/dtu/app"
	"hotdesk/protocol/vendoropt"
	"hotdesk/server/auth"
	"hotdesk/tools/internal/lab"
)

// A dhcpServer is dnsmasq on a machine of the realm.
type dhcpServer struct {
	r       *realm
	machine string
	file    string
	cmd     *exec.Cmd
	drained chan struct{}
}

// dhcp starts dnsmasq on a machine; it ends with the test.
func (r *realm) dhcp(machine, conf string) *dhcpServer {
	r.t.Helper()
	d := &dhcpServer{r: r, machine: machine, file: r.lab.Path("dnsmasq.conf")}
	r.must(os.WriteFile(d.file, []byte(conf), 0o644))
	d.start()
	r.t.Cleanup(d.kill)
	return d
}

// start returns when it answers.
func (d *dhcpServer) start() {
	d.r.t.Helper()
	d.cmd = exec.Command("ip", "netns", "exec", filepath.Base(d.r.node(d.machine).Namespace()), "dnsmasq", "-C", d.file,
		"--dhcp-leasefile="+d.r.lab.Path("leases"), "--pid-file="+d.r.lab.Path("dnsmasq.pid"))
	out, err := d.cmd.StderrPipe()
	d.r.must(err)
	d.r.must(d.cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.Contains(lines.Text(), "IP range") {
	}
	drained := make(chan struct{})
	d.drained = drained
	go func() {
		defer close(drained)
		for lines.Scan() {
		}
	}()
}

// kill ends it, if it runs.
func (d *dhcpServer) kill() {
	if d.cmd == nil {
		return
	}
	d.signal(unix.SIGKILL)
	<-d.drained
	_ = d.cmd.Wait() // that it was killed is as it should be
	d.cmd = nil
}

// signal is for the process: ip netns exec has become dnsmasq.
func (d *dhcpServer) signal(s unix.Signal) { d.r.must(d.cmd.Process.Signal(s)) }

// What dnsmasq has to say to terminals of the realm.
func (r *realm) lease(server netip.Addr, lasts string) string {
	r.t.Helper()
	authority, err := auth.Open(r.lab.Path("state"))
	r.must(err)
	return fmt.Sprintf(`
no-daemon
no-resolv
no-hosts
no-ping
user=root
interface=eth0
bind-interfaces
except-interface=lo
dhcp-authoritative
dhcp-range=10.90.1.100,10.90.1.150,%s
dhcp-option=option:router,10.90.1.1
dhcp-option=option:domain-name,lab.example
host-record=sunray-servers.lab.example,%v
dhcp-option=vendor:SUNW.NewT,%d,%v
dhcp-option=vendor:SUNW.NewT,%d,"%s"
`, lasts, server, vendoropt.CodeAuthSrvr, server, vendoropt.CodeFingerprint, authority.Fingerprint())
}

// A terminal that knows nothing comes by DHCP to an address, a server and whom
// to trust; another by DNS to a server, and by a person to whom to trust.
func TestNetnsFindsItsWay(t *testing.T) {
	r := newRealm(t, []string{"north", "dhcp", "a"})
	r.host("north", nil)
	authority, err := auth.Open(r.lab.Path("state"))
	r.must(err)
	north := r.node("north").Addr
	r.dhcp("dhcp", r.lease(north, "2m"))
	space := filepath.Base(r.node("a").Namespace())
	out, err := exec.CommandContext(r.ctx, "ip", "-n", space, "addr", "flush", "dev", "eth0").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	start := func(name string, args ...string) *lab.Terminal {
		t.Helper()
		ctx, cancel := context.WithTimeout(r.ctx, patience)
		defer cancel()
		term, err := r.lab.TerminalIn(ctx, r.node("a").Namespace(), "", name, append(args, "-dhcp", "eth0", "-dhcp-configure", "-trust-file", r.lab.Path(name+".trusted"))...)
		r.must(err)
		return term
	}
	status := func(term *lab.Terminal) (s dtu.Status) {
		t.Helper()
		text, err := term.Ctl(r.ctx, "status", "-json")
		r.must(err)
		r.must(json.Unmarshal([]byte(text), &s))
		return s
	}

	a := start("a", "-trust", "dhcp", "-find", "dhcp")
	r.see(a, "picture", "server="+r.at("north"))
	s := status(a)
	if s.Letter != "D" || len(s.Trusted) != 1 || s.Trusted[0] != authority.Fingerprint() || !s.Network.Up {
		t.Errorf("by DHCP: %+v", s)
	}
	// The plug is pulled, and comes back: the lease is confirmed, and the session
	// is there as it was.
	r.hands(a, "insert", "card1")
	r.desk(a)
	r.paint(a, "336699")
	r.must(r.node("a").Link(r.ctx, false))
	r.see(a, "osd=1")
	r.must(r.node("a").Link(r.ctx, true))
	r.colour(a, "336699")
	if again := status(a); again.Network.Lease.Addr != s.Network.Lease.Addr {
		t.Errorf("another address: %+v", again.Network)
	}
	r.must(a.Proc.Stop(patience))

	b := start("b", "-trust", "first-use", "-find", "dns")
	r.see(b, "osd=15")
	if s := status(b); s.Asked != authority.Fingerprint() || s.Letter != "D" || s.Control {
		t.Errorf("asked: %+v", s)
	}
	r.hands(b, "accept", authority.Fingerprint())
	r.see(b, "picture", "server="+r.at("north"))
	r.must(b.Proc.Stop(patience))
}

// The DHCP server goes, is slow, and comes back, cables are pulled and terminals
// are switched off and on, by seed. A terminal that has its address keeps it, and
// its picture; one that is switched on meanwhile is there as soon as the server
// is. The session is the same at the end.
func TestNetnsDHCPGone(t *testing.T) {
	r := newRealm(t, []string{"north", "dhcp", "a", "b"})
	r.host("north", nil)
	server := r.dhcp("dhcp", r.lease(r.node("north").Addr, "2m"))
	seed, rounds := hostileSeed(t, 4, 60)
	rng := rand.New(rand.NewPCG(seed, 3))
	start := func(name string) *lab.Terminal {
		t.Helper()
		ctx, cancel := context.WithTimeout(r.ctx, patience)
		defer cancel()
		term, err := r.lab.TerminalIn(ctx, r.node(name).Namespace(), "", name, "-trust", "dhcp", "-find", "dhcp",
			"-dhcp", "eth0", "-dhcp-configure", "-trust-file", r.lab.Path(name+".trusted"))
		r.must(err)
		return term
	}
	terminals := map[string]*lab.Terminal{}
	for _, name := range []string{"a", "b"} {
		out, err := exec.CommandContext(r.ctx, "ip", "-n", filepath.Base(r.node(name).Namespace()), "addr", "flush", "dev", "eth0").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		terminals[name] = start(name)
	}
	r.see(terminals["a"], "picture")
	r.hands(terminals["a"], "insert", "card1")
	r.desk(terminals["a"])
	session := r.status(terminals["a"], "session")
	pause := func(most time.Duration) { <-time.After(time.Duration(rng.Int64N(int64(most)))) }
	for n := range rounds {
		victim := []string{"a", "b"}[rng.IntN(2)]
		stalled, step := false, ""
		switch n % 3 { // each in its turn, what befalls a terminal meanwhile is drawn
		case 0:
			step = "killed"
			server.kill()
		case 1:
			step, stalled = "stopped", true
			server.signal(unix.SIGSTOP)
		case 2:
			step = "there"
		}
		switch what := rng.IntN(3); what {
		case 0:
			step += ", " + victim + " unplugged"
			r.must(r.node(victim).Link(r.ctx, false))
			r.see(terminals[victim], "osd=1")
			pause(time.Second)
			r.must(r.node(victim).Link(r.ctx, true))
		case 1:
			step += ", " + victim + " off and on"
			r.must(terminals[victim].Proc.Stop(patience))
			terminals[victim] = start(victim)
			pause(2 * time.Second)
			if victim == "a" {
				r.hands(terminals["a"], "insert", "card1")
			}
		case 2: // who has an address has its picture
			step += ", all as before"
			r.see(terminals["a"], "picture")
			r.see(terminals["b"], "picture")
		}
		t.Logf("the server is %s", step)
		if server.cmd == nil {
			server.start()
		} else if stalled {
			server.signal(unix.SIGCONT)
		}
		r.see(terminals["b"], "picture")
		r.desk(terminals["a"])
		if now := r.status(terminals["a"], "session"); now != session {
			t.Fatalf("the session was %s and is %s", session, now)
		}
	}
}
