package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	dtu "hotdesk/dtu/app"
	"hotdesk/protocol/vendoropt"
	"hotdesk/server/auth"
	"hotdesk/tools/internal/lab"
)

// dhcp starts dnsmasq on a machine; it ends with the test.
func (r *realm) dhcp(machine, conf string) {
	r.t.Helper()
	file := r.lab.Path("dnsmasq.conf")
	r.must(os.WriteFile(file, []byte(conf), 0o644))
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "ip", "netns", "exec", filepath.Base(r.node(machine).Namespace()), "dnsmasq", "-C", file,
		"--dhcp-leasefile="+r.lab.Path("leases"), "--pid-file="+r.lab.Path("dnsmasq.pid"))
	out, err := cmd.StderrPipe()
	r.must(err)
	r.must(cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.Contains(lines.Text(), "IP range") {
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for lines.Scan() {
		}
	}()
	r.t.Cleanup(func() {
		cancel()
		<-drained
		cmd.Wait() // that it was killed is as it should be
	})
}

// A terminal that knows nothing comes by DHCP to an address, a server and whom
// to trust; another by DNS to a server, and by a person to whom to trust.
func TestNetnsFindsItsWay(t *testing.T) {
	r := newRealm(t, []string{"north", "dhcp", "a"})
	r.host("north", nil)
	authority, err := auth.Open(r.lab.Path("state"))
	r.must(err)
	north := r.node("north").Addr
	r.dhcp("dhcp", fmt.Sprintf(`
no-daemon
no-resolv
no-hosts
no-ping
user=root
interface=eth0
bind-interfaces
except-interface=lo
dhcp-authoritative
dhcp-range=10.90.1.100,10.90.1.150,2m
dhcp-option=option:router,10.90.1.1
dhcp-option=option:domain-name,lab.example
host-record=sunray-servers.lab.example,%v
dhcp-option=vendor:SUNW.NewT,%d,%v
dhcp-option=vendor:SUNW.NewT,%d,"%s"
`, north, vendoropt.CodeAuthSrvr, north, vendoropt.CodeFingerprint, authority.Fingerprint()))
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
