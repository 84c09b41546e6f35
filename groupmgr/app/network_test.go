package app

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
)

// inside is set in the process that a test starts in a network of its own: one
// that has no interface but lo, and ends with the process.
const inside = "HOTDESK_TEST_INSIDE"

// alone runs the test in a network of its own; in there it returns true.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) != "" {
		return true
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("in a network of its own: %v\n%s", err, out)
	}
	return false
}

// wire is a pair of interfaces, NAME and NAME-far, joined by a cable.
func wire(t *testing.T, name string) netlink.Link {
	t.Helper()
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "-far"}))
	link, err := netlink.LinkByName(name)
	must(t, err)
	far, err := netlink.LinkByName(name + "-far")
	must(t, err)
	must(t, netlink.LinkSetUp(link))
	must(t, netlink.LinkSetUp(far))
	return link
}

func address(t *testing.T, s string) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(s)
	must(t, err)
	return a
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The group manager on a network: interfaces come and go, and it knows by the
// kernel's word, long before any period is over; it says so at once; answers
// come from the address that was asked.
func TestOnANetwork(t *testing.T) {
	if !alone(t) {
		return
	}
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
	hme0 := wire(t, "hme0")
	must(t, netlink.AddrAdd(hme0, address(t, "10.77.0.1/24")))
	must(t, netlink.AddrAdd(hme0, address(t, "10.77.0.2/24"))) // a second one there
	state := t.TempDir()
	must(t, (&keyFile{path: state + "/group.key"}).create())
	h := startOn(t, state, func(c *Config) {
		c.Period, c.Down, c.Host = time.Hour, 2*time.Hour, "mud"
		c.Multicast = netip.MustParseAddr("239.255.70.9")
	})
	names := func(r local.TableHost) string {
		var n []string
		for _, i := range r.Interfaces {
			n = append(n, i.Name+"="+i.IP)
		}
		return strings.Join(n, " ")
	}
	seen := func(want string) {
		t.Helper()
		h.row("mud", func(r local.TableHost) bool { return names(r) == want })
	}
	const both = "hme0=0a4d0001 hme0=0a4d0002"
	seen(both)
	// Its own broadcasts come back: the interface works.
	h.row("mud", func(r local.TableHost) bool { return r.Interfaces[0].LastPkt >= 0 })

	ge0 := wire(t, "ge0")
	before := call[local.Status](h, local.OpStatus, nil).Counters.Sent
	must(t, netlink.AddrAdd(ge0, address(t, "192.168.128.3/24")))
	seen(both + " ge0=c0a88003")
	h.status(func(s local.Status) bool { return s.Counters.Sent > before })
	must(t, netlink.LinkSetDown(ge0))
	seen(both)
	must(t, netlink.LinkSetUp(ge0))
	seen(both + " ge0=c0a88003")
	must(t, netlink.AddrDel(ge0, address(t, "192.168.128.3/24")))
	seen(both)
	must(t, netlink.AddrAdd(ge0, address(t, "192.168.128.9/24")))
	seen(both + " ge0=c0a88009")
	must(t, netlink.LinkDel(ge0))
	seen(both)
	must(t, netlink.LinkDel(hme0))
	seen("")
	hme0 = wire(t, "hme0")
	must(t, netlink.AddrAdd(hme0, address(t, "10.77.0.1/24")))
	must(t, netlink.AddrAdd(hme0, address(t, "10.77.0.2/24")))
	seen(both)

	// A connected socket takes what comes from that address, and nothing else.
	call[local.Welcome](h, local.OpHello, local.Hello{ControlPort: 7443})
	for _, to := range []string{"10.77.0.1", "10.77.0.2"} {
		conn, err := net.Dial("udp4", net.JoinHostPort(to, fmt.Sprint(h.port)))
		must(t, err)
		defer conn.Close()
		_, err = conn.Write(group.ServerQ{Hardware: "test", Terminal: terminal, ID: 7}.Append(nil))
		must(t, err)
		buf := make([]byte, group.MaxPacket)
		must(t, conn.SetReadDeadline(time.Now().Add(20*time.Second))) // a guard: it comes in a millisecond
		n, err := conn.Read(buf)
		must(t, err)
		if r, err := group.ParseServerR(buf[:n]); err != nil || r.Port != 7443 || r.Host != "mud" {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

// startOn starts a group manager as on a real host, not -local.
func startOn(t *testing.T, state string, set func(*Config)) *running {
	t.Helper()
	return start(t, group.Port, state, func(c *Config) { c.Local = false; set(c) })
}
