package rumour

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"hotdesk/protocol/group"
)

var start = time.Unix(1e9, 0)

// host is a host message whose only interface has the address.
func host(addr netip.Addr, port int) group.Host {
	mask := netip.AddrFrom4([4]byte{255, 255, 255, 0})
	bcast := addr.As4()
	bcast[3] = 255
	return group.Host{Name: "h", Addr: addr, Time: start.Unix(), CPUs: 1, Control: port, State: group.Online, Boot: 1, Counter: 1,
		Interfaces: []group.Interface{{Name: "eth0", IP: addr, Mask: mask, Bcast: netip.AddrFrom4(bcast)}}}
}

func addr(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }

func TestHear(t *testing.T) {
	var l List
	now := start
	a, b := addr(1), addr(2)
	hears := func(what string, want bool, from netip.Addr, h group.Host) {
		t.Helper()
		if got := l.Hear(now, from, h.Append(nil)); got != want {
			t.Errorf("%s: changed %v, want %v", what, got, want)
		}
	}
	hears("a host", true, a, host(a, 7443))
	hears("it again", false, a, host(a, 7443))
	hears("another", true, b, host(b, 7443))
	hears("an address that the message does not name", false, addr(3), host(a, 7443))
	hears("a host without a gateway", false, addr(4), host(addr(4), 0))
	gone := host(addr(5), 7443)
	gone.State = group.Gone
	hears("last words", false, addr(5), gone)
	if l.Hear(now, a, []byte("serverQ x=1\n")) || l.Hear(now, a, []byte("host=")) || l.Hear(now, a, nil) {
		t.Error("something else was heard")
	}
	hears("its second port", true, a, host(a, 7444))
	hears("its third", false, a, host(a, 7445))
	want := fmt.Sprint([]string{"10.0.0.1:7444", "10.0.0.2:7443", "10.0.0.1:7443"})
	if got := fmt.Sprint(l.Servers(now)); got != want {
		t.Errorf("servers %v, want %v", got, want)
	}
	now = now.Add(Keep / 2)
	hears("b goes on", false, b, host(b, 7443))
	now = now.Add(Keep / 2)
	if got := fmt.Sprint(l.Servers(now)); got != "[10.0.0.2:7443]" {
		t.Errorf("after a while: %v", got)
	}
}

// TestFlood: whoever was heard before a flood of forged messages is there
// after it, and the flood costs only so many looks.
func TestFlood(t *testing.T) {
	var l List
	now := start
	real := host(addr(1), 7443).Append(nil)
	l.Hear(now, addr(1), real)
	looked, told := 0, 0
	for i := range 100_000 { // ten seconds
		now = now.Add(100 * time.Microsecond)
		h := host(addr(2+i%60_000), 7443)
		before := l.spent
		if l.Hear(now, h.Addr, h.Append(nil)) {
			told++
		}
		if l.spent > before {
			looked++
		}
		if i%20_000 == 0 {
			l.Hear(now, addr(1), real)
		}
	}
	if most := Burst + 10*Rate; looked > most {
		t.Errorf("%d messages were looked at, at most %d may be", looked, most)
	}
	if told != MaxServers-1 {
		t.Errorf("%d changes", told)
	}
	if got := l.Servers(now); len(got) != MaxServers || !slices.Contains(got, netip.AddrPortFrom(addr(1), 7443)) {
		t.Errorf("after the flood: %v", got)
	}
}

func FuzzHear(f *testing.F) {
	f.Add(host(addr(1), 7443).Append(nil))
	f.Add([]byte("host=mud addr=0a000001"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var l List
		l.Hear(start, addr(1), data)
		for _, s := range l.Servers(start) {
			if s.Addr() != addr(1) || s.Port() == 0 {
				t.Errorf("%v was heard from %v", s, addr(1))
			}
		}
	})
}
