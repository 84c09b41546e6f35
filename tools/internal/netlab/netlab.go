// Package netlab makes small networks of network namespaces for tests: subnets
// joined by one router, with nodes that really broadcast, and cables that can
// be cut.
//
// Source: ip-netns(8), veth(4), bridge(8), nft(8).
//
// One namespace is the router and holds a bridge for each subnet; each node is
// a namespace of its own with an interface, eth0, plugged into its subnet's
// bridge, and one more for each further subnet. None of them is joined to the
// machine's own network.
//
// Invariants:
//  1. No packet leaves the namespaces: no interface of theirs has its other end
//     elsewhere.
//  2. Names carry the process id. New removes what processes that are dead left
//     behind, Close what is this one's.
//
// Needs root, iproute2 and nftables. A Net is for one goroutine; a Capture is
// safe for concurrent use. Limits: maxSubnets, maxNodes, maxCaptured.
package netlab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxSubnets = 8
	maxNodes   = 32 // of a subnet
	firstHost  = 10 // last byte of the first node's address
	directory  = "/run/netns"
	prefix     = "hd"
)

// A Node is a machine of the network: a namespace with an interface.
type Node struct {
	Name  string
	Addr  netip.Addr   // on its first subnet
	Bcast netip.Addr   // of that
	Addrs []netip.Addr // on each of its subnets

	net *Net
	ns  string
}

// A Net is a network.
type Net struct {
	Nodes  map[string]*Node
	router string
}

var count atomic.Int32

// New makes a network. Each subnet lists the names of its nodes: the first is
// 10.90.1.0/24, and its nodes have the addresses .10, .11 and so on; the router
// has .1 in each. A name that is in several subnets is one node with an
// interface in each.
func New(ctx context.Context, subnets ...[]string) (*Net, error) {
	if len(subnets) > maxSubnets {
		return nil, fmt.Errorf("netlab: %d subnets, at most %d", len(subnets), maxSubnets)
	}
	removeDead(ctx)
	base := fmt.Sprintf("%s%d-%d-", prefix, os.Getpid(), count.Add(1))
	n := &Net{Nodes: map[string]*Node{}, router: base + "router"}
	var add, setup strings.Builder
	space := func(ns string) { fmt.Fprintf(&add, "netns add %s\n", ns) }
	space(n.router)
	inner := map[string]*strings.Builder{n.router: &setup}
	setup.WriteString("link set lo up\n")
	var links strings.Builder
	for i, names := range subnets {
		if len(names) > maxNodes {
			return nil, fmt.Errorf("netlab: %d nodes in a subnet, at most %d", len(names), maxNodes)
		}
		bridge, s := fmt.Sprintf("br%d", i+1), byte(i+1)
		// Everything is known at once: no waiting for spanning trees or
		// duplicate addresses.
		fmt.Fprintf(&setup, "link add %s type bridge forward_delay 0 mcast_snooping 0\nlink set %s up\naddr add 10.90.%d.1/24 brd + dev %s\n", bridge, bridge, s, bridge)
		for k, name := range names {
			addr := netip.AddrFrom4([4]byte{10, 90, s, byte(firstHost + k)})
			node := n.Nodes[name]
			if node == nil {
				node = &Node{Name: name, net: n, ns: base + name, Addr: addr, Bcast: netip.AddrFrom4([4]byte{10, 90, s, 255})}
				n.Nodes[name] = node
				space(node.ns)
				inner[node.ns] = &strings.Builder{}
				inner[node.ns].WriteString("link set lo up\n")
			}
			nic := len(node.Addrs)
			node.Addrs = append(node.Addrs, addr)
			plug := node.port(nic)
			if name == "" || len(plug) > unix.IFNAMSIZ-1 {
				return nil, fmt.Errorf("netlab: %q cannot be a node's name", name)
			}
			fmt.Fprintf(&links, "link add eth%d netns %s type veth peer name %s netns %s\n", nic, node.ns, plug, n.router)
			fmt.Fprintf(&setup, "link set %s master %s\nlink set %s up\n", plug, bridge, plug)
			fmt.Fprintf(inner[node.ns], "addr add %v/24 brd + dev eth%d\nlink set eth%d up\n", addr, nic, nic)
			if nic == 0 {
				fmt.Fprintf(inner[node.ns], "route add default via 10.90.%d.1\n", s)
			}
		}
	}
	err := batch(ctx, "", add.String())
	if err == nil {
		err = batch(ctx, "", links.String())
	}
	for _, ns := range slices.Sorted(maps.Keys(inner)) {
		if err == nil {
			err = within(ns, quiet)
		}
		if err == nil {
			err = batch(ctx, ns, inner[ns].String())
		}
	}
	if err == nil {
		err = within(n.router, func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644) })
	}
	for _, node := range n.Nodes {
		if err == nil {
			err = node.carries(ctx)
		}
	}
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// carries waits until both ends of the node's cables are up: the kernel works
// off such changes at its leisure, and drops what is sent before.
func (n *Node) carries(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for nic := range n.Addrs {
		for ns, name := range map[string]string{n.ns: fmt.Sprintf("eth%d", nic), n.net.router: n.port(nic)} {
			for running := false; !running; {
				err := within(ns, func() error {
					i, err := net.InterfaceByName(name)
					running = err == nil && i.Flags&net.FlagRunning != 0
					return err
				})
				if err != nil {
					return fmt.Errorf("netlab: %s: %w", name, err)
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
					return fmt.Errorf("netlab: the cable of %s does not come up: %w", n.Name, ctx.Err())
				}
			}
		}
	}
	return nil
}

// quiet switches IPv6 off: its own chatter would be in every capture.
func quiet() error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0o644)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// port is the router's end of a node's cable.
func (n *Node) port(nic int) string { return fmt.Sprintf("v%d-%s", nic, n.Name) }

// Close removes the network. What runs in it must have ended.
func (n *Net) Close() error {
	spaces := []string{n.router}
	for _, node := range n.Nodes {
		spaces = append(spaces, node.ns)
	}
	var errs []error
	for _, ns := range spaces {
		if _, err := os.Stat(filepath.Join(directory, ns)); err == nil {
			errs = append(errs, run(context.Background(), "", "ip", "netns", "del", ns))
		}
	}
	return errors.Join(errs...)
}

// removeDead removes the namespaces of processes that are no more.
func removeDead(ctx context.Context) {
	entries, _ := os.ReadDir(directory)
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), prefix)
		text, _, _ := strings.Cut(rest, "-")
		pid, err := strconv.Atoi(text)
		if !ours || err != nil || unix.Kill(pid, 0) != unix.ESRCH {
			continue
		}
		_ = run(ctx, "", "ip", "netns", "del", e.Name()) // another test may be doing the same
	}
}

// Cut lets nothing that from sends come to the node. The other way stays open.
func (n *Node) Cut(ctx context.Context, from ...*Node) error {
	var b strings.Builder
	b.WriteString("add table ip cut\nadd chain ip cut in { type filter hook input priority 0; }\n")
	for _, f := range from {
		for _, a := range f.Addrs {
			fmt.Fprintf(&b, "add rule ip cut in ip saddr %v drop\n", a)
		}
	}
	return n.nft(ctx, b.String())
}

// Heal undoes every Cut of the node.
func (n *Node) Heal(ctx context.Context) error { return n.nft(ctx, "flush ruleset\n") }

func (n *Node) nft(ctx context.Context, rules string) error {
	return run(ctx, rules, "ip", "netns", "exec", n.ns, "nft", "-f", "-")
}

// Link pulls the node's cables, or plugs them in again.
func (n *Node) Link(ctx context.Context, up bool) error {
	state := "down"
	if up {
		state = "up"
	}
	for nic := range n.Addrs {
		if err := run(ctx, "", "ip", "-n", n.net.router, "link", "set", n.port(nic), state); err != nil {
			return err
		}
	}
	if !up {
		return nil
	}
	return n.carries(ctx)
}

// Namespace is the file of the node's namespace.
func (n *Node) Namespace() string { return filepath.Join(directory, n.ns) }

// Do runs f with its sockets made in the node's namespace. f must not hand
// that on to other goroutines: only its own thread is there.
func (n *Node) Do(f func() error) error { return within(n.ns, f) }

// within runs f on a thread of its own in a namespace.
func within(ns string, f func() error) error {
	return OnThread(func() error {
		file, err := os.Open(filepath.Join(directory, ns))
		if err != nil {
			return fmt.Errorf("netlab: %w", err)
		}
		defer file.Close()
		if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("netlab: setns %s: %w", ns, err)
		}
		return f()
	})
}

// OnThread runs f on a thread that ends with it, so that f may move the thread
// to other namespaces. It is never the process's first thread: that one does
// not end, and is what others see of the process.
func OnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			defer runtime.UnlockOSThread()
			done <- OnThread(f) // on another, while this one is held
			return
		}
		done <- f() // never unlocked: nobody else gets this thread
	}()
	return <-done
}

func batch(ctx context.Context, ns, commands string) error {
	args := []string{"-batch", "-"}
	if ns != "" {
		args = append([]string{"-n", ns}, args...)
	}
	return run(ctx, commands, "ip", args...)
}

func run(ctx context.Context, input, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("netlab: %s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
