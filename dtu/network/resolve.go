package network

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"hotdesk/dtu/bootstrap"
)

// Name is what servers are called in the DHCP domain (alp.md section 10).
const Name = "sunray-servers"

// askWithin is how long one DNS server may take.
const askWithin = time.Second

// Resolve asks the DNS servers of a lease, one after the other, for the
// servers of its domain. Several are given in random order, so that terminals
// spread.
func Resolve(ctx context.Context, l bootstrap.Lease) ([]netip.AddrPort, error) {
	if l.Domain == "" || len(l.DNS) == 0 {
		return nil, errors.New("network: DHCP named no domain or no DNS server")
	}
	var last error
	for _, server := range l.DNS {
		addrs, err := lookup(ctx, server, Name+"."+l.Domain+".")
		if err != nil {
			last = err
			continue
		}
		var all []netip.AddrPort
		for _, a := range addrs {
			s := netip.AddrPortFrom(a.Unmap(), bootstrap.ControlPort)
			if a.Unmap().Is4() && !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		return all[:min(len(all), bootstrap.MaxServers)], nil
	}
	return nil, fmt.Errorf("network: DNS: %w", last)
}

func lookup(ctx context.Context, server netip.Addr, name string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, netip.AddrPortFrom(server, 53).String())
	}}
	return r.LookupNetIP(ctx, "ip4", name)
}
