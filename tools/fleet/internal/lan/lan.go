// Package lan is a network with a DHCP server for some of a fleet's terminals.
// Each has an interface in a network namespace of its own, on which a real
// terminal's DHCP client asks a real dnsmasq for its address and its server. The
// terminal goes by what it is told; the address that stands for the server there
// is the server's on loopback, where every terminal of the fleet connects to it.
//
// Source: package netlab; dnsmasq(8); dtu/app's Network, whose implementation a
// Port is.
//
// Invariants: no packet of DHCP leaves the namespaces. After Close the server has
// ended and they are gone.
//
// It needs root, iproute2 and dnsmasq. A LAN is for one goroutine, a Port is safe
// for concurrent use. Limit: MaxPorts.
package lan

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"hotdesk/dtu/network"
	"hotdesk/protocol/vendoropt"
	"hotdesk/tools/internal/netlab"
)

// MaxPorts bounds the terminals of a LAN.
const MaxPorts = 16

const (
	machine = "dhcp" // of the server
	port    = "t%d"  // and of a terminal
	nic     = "eth0"
)

// standIn is what terminals are told instead of the server's address: they take
// none of loopback from a DHCP server.
var standIn = netip.AddrFrom4([4]byte{10, 90, 1, 200})

// conf is dnsmasq's: it gives addresses for two minutes, so that they are renewed
// while a run lasts.
const conf = `no-daemon
no-resolv
no-hosts
no-ping
user=root
port=0
interface=` + nic + `
bind-interfaces
except-interface=lo
dhcp-authoritative
dhcp-range=10.90.1.100,10.90.1.150,2m
dhcp-option=option:router,10.90.1.1
dhcp-option=vendor:SUNW.NewT,%d,%v
dhcp-option=vendor:SUNW.NewT,%d,%d
`

// A LAN is the network.
type LAN struct {
	net   *netlab.Net
	ports []*Port
	file  string // dnsmasq's

	cmd     *exec.Cmd // nil: it does not run
	drained chan struct{}
}

// Open makes a network with so many ports and starts its server, which tells
// terminals of a session server.
func Open(ctx context.Context, dir string, ports int, server netip.AddrPort) (*LAN, error) {
	names := []string{machine}
	for n := range min(ports, MaxPorts) {
		names = append(names, fmt.Sprintf(port, n))
	}
	net, err := netlab.New(ctx, names)
	if err != nil {
		return nil, fmt.Errorf("lan: %w", err)
	}
	l := &LAN{net: net, file: filepath.Join(dir, "dnsmasq.conf")}
	for n, name := range names[1:] {
		p := &Port{N: n, node: net.Nodes[name], server: server.Addr()}
		l.ports = append(l.ports, p)
		err = errors.Join(err, p.node.Do(bare))
	}
	text := fmt.Sprintf(conf, vendoropt.CodeAuthSrvr, standIn, vendoropt.CodeControlPort, server.Port())
	if err = errors.Join(err, os.WriteFile(l.file, []byte(text), 0o600)); err == nil {
		err = l.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lan: %w", err), l.Close())
	}
	return l, nil
}

// bare takes the addresses of the interface away that netlab gave it.
func bare() error {
	link, err := netlink.LinkByName(nic)
	if err != nil {
		return err
	}
	all, err := netlink.AddrList(link, netlink.FAMILY_V4)
	for _, a := range all {
		err = errors.Join(err, netlink.AddrDel(link, &a))
	}
	return err
}

// Ports are those of the terminals.
func (l *LAN) Ports() []*Port { return l.ports }

// Start starts the server, and returns when it answers.
func (l *LAN) Start() error {
	cmd := exec.Command("ip", "netns", "exec", filepath.Base(l.net.Nodes[machine].Namespace()), "dnsmasq", "-C", l.file,
		"--dhcp-leasefile="+l.file+".leases", "--pid-file="+l.file+".pid")
	out, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("lan: %w", err)
	}
	var said strings.Builder
	ready := false
	lines := bufio.NewScanner(out)
	for !ready && lines.Scan() {
		fmt.Fprintln(&said, lines.Text())
		ready = strings.Contains(lines.Text(), "IP range")
	}
	if !ready {
		return fmt.Errorf("lan: dnsmasq: %w\n%s", cmd.Wait(), said.String())
	}
	drained := make(chan struct{})
	l.cmd, l.drained = cmd, drained
	go func() {
		defer close(drained)
		for lines.Scan() {
		}
	}()
	return nil
}

// Server is the server's process; it is ip netns exec, which has become dnsmasq.
func (l *LAN) Server() int { return l.cmd.Process.Pid }

// Kill ends the server, if it runs.
func (l *LAN) Kill() {
	if l.cmd == nil {
		return
	}
	_ = l.cmd.Process.Signal(unix.SIGKILL) // it may have ended
	<-l.drained
	_ = l.cmd.Wait() // that it was killed is as it should be
	l.cmd = nil
}

// Close ends everything. No terminal may be on any longer. It says what went
// wrong with the ports.
func (l *LAN) Close() error {
	l.Kill()
	var errs []error
	for _, p := range l.ports {
		errs = append(errs, p.failed)
	}
	return errors.Join(append(errs, l.net.Close())...)
}

// A Port is where a terminal is plugged in.
type Port struct {
	N      int
	node   *netlab.Node
	server netip.Addr // what standIn is

	mu     sync.Mutex
	on     bool
	times  int // that it was switched on
	state  network.State
	failed error
}

// Run is the life of the terminal's network.
func (p *Port) Run(ctx context.Context, post func(network.State)) {
	p.set(func() { p.on, p.state, p.times = true, network.State{}, p.times+1 })
	err := p.node.Do(func() error {
		n, err := network.Open(network.Config{Interface: nic, Configure: true})
		if err != nil {
			return err
		}
		n.Run(ctx, func(s network.State) {
			p.set(func() { p.state = s })
			post(s)
		})
		return nil
	})
	p.set(func() { p.on, p.state, p.failed = false, network.State{}, errors.Join(p.failed, err) })
}

// Servers are those that the lease names, where they are.
func (p *Port) Servers(s network.State) []netip.AddrPort {
	all := s.Lease.Servers()
	for i, a := range all {
		if a.Addr() == standIn {
			all[i] = netip.AddrPortFrom(p.server, a.Port())
		}
	}
	return all
}

func (p *Port) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// Now is whether the terminal is on, how many times it was switched on, and what
// has become of its network.
func (p *Port) Now() (on bool, times int, state network.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.on, p.times, p.state
}
