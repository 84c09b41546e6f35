package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// Plug tells whether the interface that has an address has a link: now, and at
// every change until ctx ends. It is for terminals that have no DHCP client of
// their own. tell must not wait for long.
func Plug(ctx context.Context, own netip.Addr, tell func(up bool)) error {
	name, err := nameOf(own)
	if err != nil {
		return err
	}
	k, err := openKernel(name, false)
	if err != nil {
		return err
	}
	defer k.close()
	told, first := false, true
	for {
		if up, _ := k.look(); first || up != told {
			tell(up)
			told, first = up, false
		}
		select {
		case <-k.changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// nameOf is the interface that has an address.
func nameOf(own netip.Addr) (string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return "", fmt.Errorf("network: %w", err)
	}
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			continue // it has just gone
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && address(n.IP) == own {
				return i.Name, nil
			}
		}
	}
	return "", fmt.Errorf("network: no interface has the address %v", own)
}
