package network

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"hotdesk/dtu/bootstrap"
)

const print = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

// dnsmasqConf serves addresses and, on the same port as ever, names.
const dnsmasqConf = `
no-daemon
no-resolv
no-hosts
no-ping
user=root
interface=eth0
bind-interfaces
except-interface=lo
log-dhcp
dhcp-authoritative
dhcp-range=10.77.0.100,10.77.0.150,2m
dhcp-option=option:router,10.77.0.1
dhcp-option=option:domain-name,lab.example
dhcp-option=option:mtu,1400
host-record=sunray-servers.lab.example,10.77.0.8
`

const dnsmasqVendor = `
dhcp-vendorclass=set:sunray,SUNW.NewT
dhcp-option=vendor:SUNW.NewT,21,10.77.0.5
dhcp-option=vendor:SUNW.NewT,22,7009s
dhcp-option=vendor:SUNW.NewT,23,"GUI4.0_48_2007.08.06.15.41"
dhcp-option=vendor:SUNW.NewT,35,10.77.0.6,10.77.0.7
dhcp-option=vendor:SUNW.NewT,224,"` + print + `"
dhcp-option=tag:sunray,49,10.77.0.9
dhcp-option=tag:sunray,66,"10.77.0.4"
`

func dnsmasq(l *lab, conf string) (stop func()) {
	l.t.Helper()
	return l.daemon("IP range", "dnsmasq", "-C", l.file("dnsmasq.conf", conf), "--dhcp-leasefile="+l.dir+"/leases", "--pid-file="+l.dir+"/pid")
}

// TestDnsmasq: a terminal with an interface that has nothing gets an address, a
// route and everything that a Sun Ray site's DHCP tells, asks DNS, and leaves
// the interface as it was.
func TestDnsmasq(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	dnsmasq(l, dnsmasqConf+dnsmasqVendor)
	s := l.start(childConfig{Config{Configure: true}, true})
	got := s.until("a lease", settled)
	lease := got.State.Lease
	if !got.State.Up || !netip.MustParsePrefix("10.77.0.0/24").Contains(lease.Addr) || lease.Letter() != "D" || lease.Firmware != "10.77.0.4" || lease.Domain != "lab.example" {
		t.Errorf("%+v, letter %s", got.State, lease.Letter())
	}
	if o := lease.Options; o.AuthSrvr != addr("10.77.0.5") || o.AuthPort != 7009 || o.NewTVer != "GUI4.0_48_2007.08.06.15.41" || fmt.Sprintf("%x", o.Fingerprint) != print || o.Bad != nil {
		t.Errorf("vendor options %+v", o)
	}
	want := []netip.AddrPort{netip.MustParseAddrPort("10.77.0.6:7443"), netip.MustParseAddrPort("10.77.0.7:7443"), netip.MustParseAddrPort("10.77.0.5:7443")}
	if all := lease.Servers(); !reflect.DeepEqual(all, want) {
		t.Errorf("servers %v", all)
	}
	if want := []netip.AddrPort{netip.MustParseAddrPort("10.77.0.8:7443")}; !reflect.DeepEqual(got.DNS, want) {
		t.Errorf("DNS %v, %s", got.DNS, got.Error)
	}
	if out := l.ip("-n " + l.terminal + " -4 addr show eth0"); !strings.Contains(out, lease.Addr.String()+"/24 brd 10.77.0.255") || !strings.Contains(out, "mtu 1400") {
		t.Error(out)
	}
	if out := l.ip("-n " + l.terminal + " route"); !strings.Contains(out, "default via 10.77.0.1") {
		t.Error(out)
	}

	// The plug out and in again: the same address, at once.
	l.plug(false)
	s.until("no link", func(s State) bool { return !s.Link && !s.Up })
	l.plug(true)
	if again := s.until("the lease again", func(s State) bool { return s.Phase == bootstrap.Holding && s.Up }); again.State.Lease.Addr != lease.Addr {
		t.Errorf("another address: %v", again.State.Lease.Addr)
	}
	s.stop()
	l.says("DHCPRELEASE(eth0)", lease.Addr.String())
	if out := l.ip("-n " + l.terminal + " addr show eth0"); strings.Contains(out, "inet ") || !strings.Contains(out, "mtu 1500") {
		t.Errorf("left behind: %s", out)
	}
}

// TestDnsmasqLearns: an interface that has its address keeps it, and a terminal
// that is called otherwise than the interface gets answers all the same. The
// server has no vendor options: the terminal asks for them and goes on with
// what there is.
func TestDnsmasqLearns(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	dnsmasq(l, dnsmasqConf)
	l.ip("-n " + l.terminal + " addr add 10.77.0.50/24 dev eth0")
	s := l.start(childConfig{Config{MAC: "02005e0000bb"}, false})
	got := s.until("a lease", func(s State) bool { return s.Phase == bootstrap.Holding })
	if lease := got.State.Lease; lease.Letter() != "B" || !got.State.Up || lease.Addr == addr("10.77.0.50") || lease.Servers() != nil {
		t.Errorf("%+v", got.State)
	}
	if out := l.ip("-n " + l.terminal + " -4 addr show eth0"); !strings.Contains(out, "10.77.0.50/24") || strings.Count(out, "inet ") != 1 {
		t.Errorf("the interface was changed: %s", out)
	}
}

// keaConf has leases that end soon, so that renewal and loss can be waited for.
const keaConf = `{"Dhcp4": {
 "interfaces-config": {"interfaces": ["eth0"], "dhcp-socket-type": "raw",
  "service-sockets-max-retries": 100, "service-sockets-retry-wait-time": 100},
 "lease-database": {"type": "memfile", "persist": false},
 "valid-lifetime": 8, "min-valid-lifetime": 8, "max-valid-lifetime": 8, "renew-timer": 2, "rebind-timer": 5,
 "option-def": [
  {"space": "sun", "name": "auth", "code": 21, "type": "ipv4-address"},
  {"space": "sun", "name": "alt", "code": 35, "type": "ipv4-address", "array": true},
  {"space": "sun", "name": "print", "code": 224, "type": "binary"}],
 "client-classes": [{
  "name": "sunray", "test": "substring(option[60].hex,0,9) == 'SUNW.NewT'",
  "option-def": [{"name": "vendor-encapsulated-options", "code": 43, "type": "empty", "encapsulate": "sun"}],
  "option-data": [
   {"name": "vendor-encapsulated-options"},
   {"space": "sun", "name": "auth", "data": "10.77.0.5"},
   {"space": "sun", "name": "alt", "data": "10.77.0.6, 10.77.0.7"},
   {"space": "sun", "name": "print", "csv-format": false, "data": "` + print + `"}]}],
 "subnet4": [{"id": 1, "subnet": "10.77.0.0/24", "pools": [{"pool": "10.77.0.100 - 10.77.0.150"}],
  "option-data": [{"name": "routers", "data": "10.77.0.1"}]}],
 "loggers": [{"name": "kea-dhcp4", "severity": "INFO", "output_options": [{"output": "stdout", "flush": true}]}]
}}`

func kea(l *lab) (stop func()) {
	l.t.Helper()
	return l.daemon("DHCP4_STARTED", "kea-dhcp4", "-c", l.file("kea.json", keaConf))
}

// TestTaken: an address that another machine has is declined, by servers of two
// makes, which then give another. Switched off, the terminal gives it back.
func TestTaken(t *testing.T) {
	for name, server := range map[string]struct {
		start              func(*lab) func()
		declined, released string
	}{
		"dnsmasq": {func(l *lab) func() {
			return dnsmasq(l, dnsmasqConf+dnsmasqVendor+"dhcp-host=02:00:5e:00:00:aa,10.77.0.100\n")
		}, "DHCPDECLINE(eth0) 10.77.0.100", "DHCPRELEASE(eth0) "},
		"kea": {kea, "DHCP4_DECLINE_LEASE", "DHCP4_RELEASE "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.ip("-n " + l.server + " addr add 10.77.0.100/32 dev lo") // answers at eth0 too
			server.start(l)
			s := l.start(childConfig{Config{Configure: true}, false})
			got := s.until("an address in use", func(s State) bool { return s.Taken.IsValid() }).State
			if got.Taken != addr("10.77.0.100") || got.Lease.Addr.IsValid() || got.Up {
				t.Errorf("%+v", got)
			}
			l.says(server.declined, "10.77.0.100")
			got = s.until("another", func(s State) bool { return s.Up && s.Settled }).State
			if a := got.Lease.Addr; a == addr("10.77.0.100") || got.Taken.IsValid() {
				t.Errorf("%+v", got)
			}
			s.stop()
			l.says(server.released, got.Lease.Addr.String())
		})
	}
}

// TestOverload: what has no room among dnsmasq's options comes in the fields of
// names, and is found there.
func TestOverload(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var conf strings.Builder
	conf.WriteString(dnsmasqConf + dnsmasqVendor + "dhcp-vendorclass=set:big,SUNW.NewT\n")
	for code := range 4 { // of a site's own, asked for or not
		fmt.Fprintf(&conf, "dhcp-option-force=tag:big,%d,%s\n", 230+code, strings.Repeat("x", 240))
	}
	conf.WriteString("dhcp-option-force=tag:big,240," + strings.Repeat("y", 60) + "\n")
	dnsmasq(l, conf.String())
	s := l.start(childConfig{Config{Configure: true}, false})
	got := s.until("a lease", settled).State.Lease
	if got.Letter() != "D" || got.Options.AuthSrvr != addr("10.77.0.5") || len(got.Displays) != 1 || fmt.Sprintf("%x", got.Options.Fingerprint) != print {
		t.Errorf("%+v, letter %s", got, got.Letter())
	}
	if !got.Overloaded {
		t.Error("all had room: this tested nothing")
	}
}

// TestKea: a lease is renewed in time; when the server is gone the address goes
// at the lease's end and not before; when it is back there is one again.
func TestKea(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	stop := kea(l)
	s := l.start(childConfig{Config{Configure: true}, false})
	first := s.until("a lease", settled).State.Lease
	if first.Letter() != "D" || first.Options.AuthSrvr != addr("10.77.0.5") || len(first.Options.AltAuth) != 2 || fmt.Sprintf("%x", first.Options.Fingerprint) != print {
		t.Errorf("%+v", first)
	}
	s.until("renewing", func(s State) bool { return s.Phase == bootstrap.Renewing })
	renewed := s.until("renewed", func(s State) bool { return s.Phase == bootstrap.Holding }).State.Lease
	if renewed.Addr != first.Addr || renewed.ID == first.ID {
		t.Errorf("renewed %+v", renewed)
	}
	stop()
	if got := s.until("rebinding", func(s State) bool { return s.Phase == bootstrap.Rebinding }); got.State.Lease.Addr != first.Addr || !got.State.Up {
		t.Errorf("before the end of the lease %+v", got.State)
	}
	s.until("the loss of the lease", func(s State) bool { return !s.Lease.Addr.IsValid() && !s.Up && s.Phase == bootstrap.Selecting })
	if out := l.ip("-n " + l.terminal + " -4 addr show eth0"); strings.Contains(out, "inet") {
		t.Errorf("the address stays: %s", out)
	}
	kea(l)
	s.until("a lease again", func(s State) bool { return s.Up && s.Settled })
}

// TestKeaLearns: a lease that is only a way to learn is renewed too.
func TestKeaLearns(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	kea(l)
	s := l.start(childConfig{Config{}, false})
	first := s.until("a lease", settled).State.Lease
	for range 2 {
		s.until("renewing", func(s State) bool { return s.Phase == bootstrap.Renewing })
		if got := s.until("renewed", func(s State) bool { return s.Phase != bootstrap.Renewing }); got.State.Phase != bootstrap.Holding || got.State.Lease.Addr != first.Addr {
			t.Errorf("%+v", got.State)
		}
	}
}
