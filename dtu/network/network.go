// Package network is the network round a terminal that finds its way itself:
// the link, the DHCP client's packets, the interface's address and routes, and
// DNS.
//
// Source: RFC 2131 and 2132 (DHCP), RFC 5227 (is an address free), netlink(7), packet(7); reference/alp.md
// section 10. Packets are read and written by github.com/insomniacslk/dhcp;
// package bootstrap decides what is said and when.
//
// Invariants:
//  1. One goroutine owns the DHCP client; it receives, steps, performs.
//  2. The interface is changed only where Config.Configure says so, and what
//     was set is taken away again at the latest when Run returns.
//  3. Run returns when everything it started has ended. A lease is given back
//     before.
//
// It needs the rights to open packet sockets (CAP_NET_RAW) and, to configure,
// to change the interface (CAP_NET_ADMIN). Limits: maxPacket; of packets that
// come faster than they are handled the kernel drops some.
package network

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"hotdesk/dtu/bootstrap"
	"hotdesk/protocol/alp"
)

// Config says which network.
type Config struct {
	Interface string
	MAC       alp.TerminalID // own address in DHCP; empty: the interface's
	Configure bool           // give the interface the address and route of the lease
	Log       *slog.Logger
}

// State is what is known of the network.
type State struct {
	Link  bool            `json:"link"` // the plug is in
	Up    bool            `json:"up"`   // servers can be talked to
	Phase bootstrap.Phase `json:"phase"`
	Lease bootstrap.Lease `json:"lease"` // Addr invalid: none
	// Settled: what the lease holds is all that will come of it.
	Settled bool `json:"settled"`
	// Silent: no DHCP server answers.
	Silent bool `json:"silent"`
	// Taken is the address that a DHCP server gave and another machine has.
	Taken netip.Addr `json:"taken,omitzero"`
}

// Network is one interface.
type Network struct {
	cfg    Config
	mac    net.HardwareAddr
	kernel *kernel
	conn   net.PacketConn
	client *bootstrap.Client

	state   State
	unicast *net.UDPConn // from the lease's address, nil: none
	prober  *prober      // of an address that is not ours yet, nil: none
	claims  chan claim   // what probers heard
	wg      sync.WaitGroup
}

// Servers are those that the lease of a state names.
func (n *Network) Servers(s State) []netip.AddrPort { return s.Lease.Servers() }

// MAC is the address of an interface as a terminal's name.
func MAC(name string) (alp.TerminalID, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return "", fmt.Errorf("network: interface %s: %w", name, err)
	}
	if len(i.HardwareAddr) != 6 {
		return "", fmt.Errorf("network: interface %s has no Ethernet address", name)
	}
	return alp.TerminalID(hex.EncodeToString(i.HardwareAddr)), nil
}

// Open opens the interface. Run must be called.
func Open(cfg Config) (*Network, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	own, err := MAC(cfg.Interface)
	if err != nil {
		return nil, err
	}
	if cfg.MAC == "" {
		cfg.MAC = own
	}
	mac, err := hex.DecodeString(string(cfg.MAC))
	if err != nil {
		return nil, fmt.Errorf("network: address %q: %w", cfg.MAC, err)
	}
	k, err := openKernel(cfg.Interface, cfg.Configure)
	if err != nil {
		return nil, err
	}
	conn, err := listen(cfg.Interface, cfg.MAC != own)
	if err != nil {
		k.close()
		return nil, err
	}
	var seed [8]byte
	rand.Read(seed[:])
	return &Network{
		cfg: cfg, mac: mac, kernel: k, conn: conn, claims: make(chan claim),
		client: bootstrap.NewClient(cfg.Configure, binary.BigEndian.Uint64(seed[:])),
	}, nil
}

// Run works until ctx ends. It tells post every change of the state; post must
// not wait for long.
func (n *Network) Run(ctx context.Context, post func(State)) {
	ctx, cancel := context.WithCancel(ctx)
	defer n.wg.Wait()
	defer n.kernel.close()
	defer n.conn.Close()
	defer n.drop()
	defer n.endProbe()
	defer cancel()
	replies := make(chan bootstrap.Reply)
	n.wg.Go(func() { n.read(ctx, replies) })

	n.state.Phase = bootstrap.Down
	told := State{Phase: "none yet"}
	n.link()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		n.state.Phase = n.client.Phase()
		if !reflect.DeepEqual(n.state, told) {
			told = n.state
			post(told)
		}
		if next := n.client.Next(); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
		select {
		case r := <-replies:
			n.perform(n.client.Answer(time.Now(), r))
		case <-n.kernel.changed:
			n.link()
		case <-timer.C:
			n.perform(n.client.Tick(time.Now()))
		case c := <-n.claims:
			if c.by == n.prober {
				n.perform(n.client.Taken(time.Now(), c.by.addr))
			}
		case <-ctx.Done():
			n.perform(n.client.Release(time.Now()))
			return
		}
	}
}

// link looks at the interface.
func (n *Network) link() {
	up, own := n.kernel.look()
	n.state.Link = up
	n.perform(n.client.Link(time.Now(), up, own))
	n.usable()
}

// usable works out whether servers can be talked to.
func (n *Network) usable() {
	_, own := n.kernel.look()
	n.state.Up = n.state.Link && (!n.cfg.Configure || own.IsValid())
}

func (n *Network) perform(actions []bootstrap.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case bootstrap.Probe:
			n.probe(a.Addr)
		case bootstrap.Refused:
			n.cfg.Log.Warn("another machine uses the address that DHCP gave", "address", a.Addr)
			n.state.Taken = a.Addr
		case bootstrap.Say:
			if err := n.send(a.Query); err != nil {
				n.cfg.Log.Info("DHCP message not sent", "kind", a.Query.Kind.String(), "reason", err.Error())
			}
		case bootstrap.Bound:
			n.cfg.Log.Info("DHCP lease", "address", a.Lease.Addr, "peer", a.Lease.Server, "for", a.Lease.Reply.Lease)
			n.state.Silent, n.state.Taken = false, netip.Addr{}
			if !n.state.Lease.Addr.IsValid() {
				n.state.Settled = false
			}
			n.state.Lease = a.Lease
			if n.cfg.Configure {
				n.configure(a.Lease)
			}
		case bootstrap.Settled:
			if len(a.Lease.Options.Bad) > 0 {
				n.cfg.Log.Warn("vendor options that cannot be meant", "peer", a.Lease.Server, "codes", fmt.Sprint(a.Lease.Options.Bad))
			}
			n.state.Lease, n.state.Settled = a.Lease, true
		case bootstrap.Unbound:
			if n.client.Phase() == bootstrap.Down && n.state.Link {
				n.cfg.Log.Info("DHCP lease given back", "address", a.Lease.Addr)
			} else {
				n.cfg.Log.Warn("DHCP lease lost", "address", a.Lease.Addr)
			}
			n.drop()
			n.state.Lease, n.state.Settled = bootstrap.Lease{}, false
		case bootstrap.Silent:
			n.cfg.Log.Info("no DHCP server answers")
			n.state.Silent = true
		}
		n.usable()
	}
	if n.client.Phase() != bootstrap.Probing {
		n.endProbe()
	}
}

// probe asks once who has an address. Where that cannot be, the address is
// taken without.
func (n *Network) probe(a netip.Addr) {
	if n.prober == nil {
		p, err := newProber(n.cfg.Interface, a)
		if err != nil {
			n.cfg.Log.Info("address not probed for", "address", a, "reason", err.Error())
			return
		}
		n.prober = p
		n.wg.Go(func() { p.listen(n.claims) })
	}
	if err := n.prober.ask(); err != nil {
		n.cfg.Log.Info("address not probed for", "address", a, "reason", err.Error())
	}
}

func (n *Network) endProbe() {
	if n.prober != nil {
		n.prober.close()
		n.prober = nil
	}
}

// configure gives the interface what the lease says.
func (n *Network) configure(l bootstrap.Lease) {
	if err := n.kernel.set(l); err != nil {
		n.cfg.Log.Error("interface not configured", "address", l.Addr, "reason", err.Error())
		return
	}
	if n.unicast != nil {
		return
	}
	c, err := unicast(n.cfg.Interface, l.Addr)
	if err != nil {
		n.cfg.Log.Info("renewals go to all servers", "reason", err.Error())
		return
	}
	n.unicast = c
	n.wg.Go(func() { // answers are read from the packet socket
		b := make([]byte, 1)
		for {
			if _, _, err := c.ReadFrom(b); err != nil && isClosed(err) {
				return
			}
		}
	})
}

// drop takes away what configure gave.
func (n *Network) drop() {
	if n.unicast != nil {
		n.unicast.Close()
		n.unicast = nil
	}
	n.kernel.unset()
}

func (n *Network) send(q bootstrap.Query) error {
	b := encode(n.mac, q)
	if q.To.IsValid() && n.unicast != nil {
		if _, err := n.unicast.WriteToUDPAddrPort(b, netip.AddrPortFrom(q.To, 67)); err == nil {
			return nil
		}
	}
	_, err := n.conn.WriteTo(b, &net.UDPAddr{IP: net.IPv4bcast, Port: 67})
	return err
}

// read hands replies on. What cannot be read is dropped: anybody can send it.
func (n *Network) read(ctx context.Context, replies chan<- bootstrap.Reply) {
	b := make([]byte, maxPacket+1)
	for ctx.Err() == nil {
		size, from, err := n.conn.ReadFrom(b)
		if err != nil {
			select { // the link went down
			case <-time.After(100 * time.Millisecond):
				continue
			case <-ctx.Done():
				return
			}
		}
		r, err := decode(n.mac, b[:size])
		if err != nil {
			n.cfg.Log.Debug("DHCP message dropped", "peer", from.String(), "reason", err.Error())
			continue
		}
		select {
		case replies <- r:
		case <-ctx.Done():
			return
		}
	}
}
