package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"hotdesk/server/auth"
	"hotdesk/tools/internal/account"
	"hotdesk/tools/internal/lab"
	"hotdesk/tools/internal/netlab"
)

// idleFor is how long the cable of a terminal is watched: a period of host
// messages and of keepAliveReq. It begins when idleAfter has passed since the
// session was shown, and QUIC has found out what the cable can carry.
const (
	idleAfter = 10 * time.Second
	idleFor   = 20 * time.Second
	fewDeaths = 3
)

// FailoverNet is Failover on a network of its own: two installed hosts and a
// terminal, each a network namespace, on one switch. A host dies by its
// processes, all at once, or by its cable, which is pulled at the switch, so
// that the terminal sees nothing but silence. Periods are those that a group
// has by default. What goes over the cable of the terminal while nothing
// happens is printed too, unless so few deaths are asked for that this would
// take longer than they do. It needs root.
func FailoverNet(ctx context.Context, l *lab.Lab, n int, out io.Writer) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	if err := cards(l); err != nil {
		return err
	}
	gateway, err := account.Temporary(ctx, "g", true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, gateway.RemoveTemporary()) }()
	user, err := account.Temporary(ctx, "u", false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, user.RemoveTemporary()) }()
	network, err := netlab.New(ctx, []string{"north", "south", "a"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, network.Close()) }()
	f := &failover{}
	defer func() { err = errors.Join(err, l.Close(f.hosts...)) }()
	if err := os.Chmod(l.Dir, 0o711); err != nil {
		return err
	}
	if _, err := auth.Create(l.Path("state")); err != nil {
		return err
	}
	for _, name := range []string{"north", "south"} {
		conf := lab.Installed{NetNS: network.Nodes[name].Namespace(), Addr: network.Nodes[name].Addr, Gateway: gateway, User: user}
		if err := l.Provision(name, &conf, "the line of a group that lives for a measurement"); err != nil {
			return err
		}
		h, err := l.Installed(ctx, name, conf)
		if h != nil {
			f.hosts = append(f.hosts, h)
		}
		if err != nil {
			return err
		}
	}
	node := network.Nodes["a"]
	if f.terminal, err = l.TerminalIn(ctx, node.Namespace(), l.Authority(), "a"); err != nil {
		return err
	}
	if err := f.begin(ctx); err != nil {
		return err
	}
	if n >= fewDeaths {
		idle, err := idleTraffic(ctx, node)
		if err != nil {
			return err
		}
		fmt.Fprintln(out, idle)
	}
	return f.measure(ctx, n, netDeaths(network), out)
}

// netDeaths of hosts that are machines.
func netDeaths(network *netlab.Net) []death {
	bury := func(ctx context.Context, h *lab.Host) error {
		all := h.Machine()
		lab.Signal(all, syscall.SIGKILL)
		if err := h.Gone(ctx, all); err != nil {
			return err
		}
		return network.Nodes[h.Name].Link(ctx, true)
	}
	return []death{
		{"processes killed", 300 * time.Millisecond, 0, func(_ context.Context, h *lab.Host) (func() error, error) {
			all := h.Machine()
			return func() error { lab.Signal(all, syscall.SIGKILL); return nil }, nil
		}, bury},
		{"link cut", 1500 * time.Millisecond, 2500 * time.Millisecond, func(ctx context.Context, h *lab.Host) (func() error, error) {
			return func() error { return network.Nodes[h.Name].Link(ctx, false) }, nil
		}, bury},
	}
}

// idleTraffic watches a terminal that shows a session in which nothing happens.
func idleTraffic(ctx context.Context, node *netlab.Node) (string, error) {
	var read [2]netlab.Traffic
	for i, wait := range []time.Duration{idleAfter, idleFor} {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return "", ctx.Err()
		}
		var err error
		if read[i], err = node.Traffic(); err != nil {
			return "", err
		}
	}
	t := read[1].Since(read[0])
	kbit := func(bytes, packets uint64) float64 {
		return float64(bytes+packets*netlab.FrameOverhead) * 8 / 1000 / idleFor.Seconds()
	}
	return fmt.Sprintf("an idle terminal: %.2f kbit/s on the wire (%.2f to it, %.2f from it; %d and %d frames in %v, with preamble, checksum and gap); aim 3 kbit/s",
		kbit(t.InBytes+t.OutBytes, t.InFrames+t.OutFrames), kbit(t.InBytes, t.InFrames), kbit(t.OutBytes, t.OutFrames), t.InFrames, t.OutFrames, idleFor), nil
}
