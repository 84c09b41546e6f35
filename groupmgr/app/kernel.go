package app

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"hotdesk/groupmgr/engine"
	"hotdesk/protocol/group"
)

// kernel reads what this host is like.
type kernel struct {
	local   netip.Addr // in local mode our 127.0.0.N: the only interface
	primary netip.Addr // as configured, or zero
}

func (k kernel) describe() (engine.Describe, error) {
	var d engine.Describe
	k.figures(&d)
	if k.local.IsValid() {
		d.Addr = k.local
		d.Interfaces = []group.Interface{{Name: "lo0", IP: k.local, Mask: netip.AddrFrom4([4]byte{255}), Bcast: loopbackBroadcast}}
		return d, nil
	}
	list, err := interfaces()
	if err != nil {
		return d, err
	}
	d.Interfaces, d.Addr = list, k.primary
	if !d.Addr.IsValid() && len(list) > 0 {
		d.Addr = list[0].IP
	}
	return d, nil
}

// figures fills in what changes all the time.
func (k kernel) figures(d *engine.Describe) {
	d.CPUs, d.Clock, d.Busy = runtime.NumCPU(), clockMHz(), busy()
	d.Memory, d.Free = memory()
}

// interfaces reads the IPv4 addresses of all interfaces that are up, that of
// the default route first, those without broadcast last: peers are reached by
// them.
func interfaces() ([]group.Interface, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("groupmgr: network interfaces: %w", err)
	}
	main := -1
	if routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: nil}, netlink.RT_FILTER_DST); err == nil && len(routes) > 0 {
		main = routes[0].LinkIndex
	}
	var first, rest, narrow []group.Interface
	for _, l := range links {
		a := l.Attrs()
		if a.Flags&net.FlagUp == 0 || a.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
		if err != nil {
			continue // it went away meanwhile
		}
		for _, addr := range addrs {
			ones, bits := addr.Mask.Size()
			ip, ok := netip.AddrFromSlice(addr.IP.To4())
			if !ok || bits != 32 {
				continue
			}
			i := group.Interface{Name: a.Name, IP: ip, Mask: netip.AddrFrom4([4]byte(addr.Mask)), Bcast: netip.IPv4Unspecified()}
			if a.Flags&net.FlagBroadcast == 0 || ones > 30 {
				narrow = append(narrow, i)
				continue
			}
			i.Bcast = lastOf(netip.PrefixFrom(ip, ones))
			if b, ok := netip.AddrFromSlice(addr.Broadcast.To4()); ok && !b.IsUnspecified() {
				i.Bcast = b
			}
			if a.Index == main {
				first = append(first, i)
			} else {
				rest = append(rest, i)
			}
		}
	}
	list := slices.Concat(first, rest, narrow)
	return list[:min(len(list), group.MaxInterfaces)], nil
}

// watchLinks puts a mark into changed whenever the kernel says that a link or
// an address changed, until ctx ends.
func watchLinks(ctx context.Context, changed chan<- struct{}, log *slog.Logger) {
	for ctx.Err() == nil {
		err := subscribe(ctx, func() {
			select {
			case changed <- struct{}{}:
			default: // one is as good as many
			}
		})
		if ctx.Err() == nil {
			log.Warn("changes of interfaces were lost, they are read anew", "error", err)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	}
}

// subscribe calls mark at once, as changes may have been missed, and at each
// change, until ctx ends or the kernel had more to say than we could read.
func subscribe(ctx context.Context, mark func()) error {
	addrs, links := make(chan netlink.AddrUpdate), make(chan netlink.LinkUpdate)
	done := make(chan struct{})
	end := sync.OnceFunc(func() { close(done) })
	defer end()
	failed := make(chan error, 1)
	fail := func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	if err := netlink.AddrSubscribeWithOptions(addrs, done, netlink.AddrSubscribeOptions{ErrorCallback: fail}); err != nil {
		return err
	}
	defer func() {
		end()
		for range addrs { // until its reader has ended
		}
	}()
	if err := netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{ErrorCallback: fail}); err != nil {
		return err
	}
	defer func() {
		end()
		for range links {
		}
	}()
	mark()
	for {
		select {
		case _, ok := <-addrs:
			if !ok {
				return <-failed
			}
			mark()
		case _, ok := <-links:
			if !ok {
				return <-failed
			}
			mark()
		case <-ctx.Done():
			return nil
		}
	}
}

func lastOf(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		a[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(a)
}

func busy() int {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), " ")
	v, err := strconv.ParseFloat(first, 64)
	if err != nil || v < 0 || v > 1e6 {
		return 0
	}
	return int(v * 100)
}

// memory returns MiB in all and MiB that new programs could have.
func memory() (total, free int) {
	return kib("/proc/meminfo", "MemTotal:") >> 10, kib("/proc/meminfo", "MemAvailable:") >> 10
}

// clockMHz is the processors' clock, 0 where the kernel does not tell.
func clockMHz() int { return kib("/proc/cpuinfo", "cpu MHz") }

// kib is the first number after key in a file of the kernel's "key: number"
// kind.
func kib(path, key string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		rest, ok := strings.CutPrefix(sc.Text(), key)
		if !ok {
			continue
		}
		f := strings.Fields(strings.TrimLeft(rest, "\t :"))
		if len(f) == 0 {
			return 0
		}
		v, err := strconv.ParseFloat(f[0], 64)
		if err != nil || v < 0 || v > 1<<40 {
			return 0
		}
		return int(v)
	}
	return 0
}
