package engine

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
)

// crowd is one engine that has heard of n others, each with two interfaces,
// and a maker of their next messages.
func crowd(n int) (e *Engine, now time.Time, next func(i int) Packet) {
	now = time.Unix(1700000000, 0)
	e = New(now, Config{
		Host: "self", Port: group.Port, Ring: ring(1), Alg: group.SHA1,
		Period: 20 * time.Second, Down: time.Minute, MaxSkew: 5 * time.Minute, Settle: Settle,
	})
	at := func(net, i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(net), byte(i >> 8), byte(i)}) }
	about := func(i int) []group.Interface {
		mask := ip("255.255.0.0")
		return []group.Interface{
			{Name: "eth0", IP: at(0, i), Mask: mask, Bcast: ip("10.0.255.255")},
			{Name: "eth1", IP: at(1, i), Mask: mask, Bcast: ip("10.1.255.255")},
		}
	}
	e.Step(now, Describe{Addr: at(0, 5000), CPUs: 16, Clock: 3000, Memory: 64000, Free: 48000, Interfaces: about(5000)})
	e.Step(now, Hello{7443})
	e.Tick(now)
	counter := make([]uint64, n)
	next = func(i int) Packet {
		counter[i]++
		h := group.Host{
			Name: fmt.Sprintf("server-%04d", i), Addr: at(0, i+1), Time: now.Unix(), Flags: group.FlagsSent, CPUs: 16, Clock: 3000,
			Interfaces: about(i + 1), Control: 7443, State: group.Online, Boot: uint64(i + 1), Counter: counter[i],
			Load: group.Load{Sessions: 25, Limit: 100, Busy: 312, Memory: 64000, Free: 48000},
		}
		return Packet{From: netip.AddrPortFrom(at(0, i+1), group.Port), To: ip("10.0.255.255"), Data: ring(1).Sign(h.Append(nil), group.SHA1)}
	}
	for i := range n {
		e.Step(now, next(i))
	}
	e.Tick(now.Add(time.Second)) // the greetings that were put off
	return e, now, next
}

// BenchmarkHostMessage is what a host message costs with 1,000 hosts in the
// table: parse, signature, replay check, row, next alarm.
func BenchmarkHostMessage(b *testing.B) {
	e, now, next := crowd(1000)
	packets := make([]Packet, 0, 50000)
	for i := range cap(packets) {
		packets = append(packets, next(i%1000))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if i == len(packets) {
			b.StopTimer()
			packets = packets[:0]
			for j := range cap(packets) {
				packets = append(packets, next(j%1000))
			}
			i = 0
			b.StartTimer()
		}
		e.Step(now, packets[i])
		e.Next()
		i++
	}
}

// BenchmarkLookup is what one lookup costs the asker with 1,000 hosts: the
// questions and, when nobody answers, the decision.
func BenchmarkLookup(b *testing.B) {
	e, now, _ := crowd(1000)
	now = now.Add(time.Second)
	b.ReportAllocs()
	for b.Loop() {
		e.Step(now, Ask{1, local.Lookup{Token: "card.1", Terminal: terminal, Addr: ip("10.0.0.50")}})
		e.lookups = nil
	}
}

// BenchmarkTokenQ is what a question of another host costs.
func BenchmarkTokenQ(b *testing.B) {
	e, now, _ := crowd(1000)
	stamp := group.Stamp{Host: "server-0000", Time: now.Unix(), Boot: 1, Counter: 1}
	for b.Loop() {
		stamp.Counter++
		q := group.TokenQ{Stamp: stamp, ID: 1, Token: "card.1", Ticket: 1}
		e.Step(now, Packet{From: addrPort("10.0.0.1:7009"), To: ip("10.0.19.136"), Data: ring(1).Sign(q.Append(nil), group.SHA1)})
	}
}

// What a thousand hosts in the table take. The bound is twice what was measured.
func TestMemoryOf1000Hosts(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	e, now, next := crowd(1000)
	for round := range 3 {
		for i := range 1000 {
			e.Step(now.Add(time.Duration(round)*20*time.Second), next(i))
		}
	}
	took := heap() - before
	t.Logf("%d hosts: %d bytes, %d a host", e.table.Len(), took, took/1000)
	if took > 4<<20 {
		t.Errorf("%d bytes", took)
	}
	runtime.KeepAlive(e)
	runtime.KeepAlive(next)
}

// headers are those of Ethernet with its preamble and gap, IPv4 and UDP.
const headers = 38 + 20 + 8

// Group traffic, of real messages at their periods: what all hosts together
// send into one network when nothing happens, and what one lookup costs.
func TestTraffic(t *testing.T) {
	for _, n := range []int{10, 100, 1000} {
		e, now, next := crowd(n)
		host := len(next(0).Data) + headers
		idle := float64(host) * float64(n) / (20 * time.Second).Seconds()
		now = now.Add(time.Second)
		out := e.Step(now, Ask{1, local.Lookup{Token: "mondex.9998007668077709", Terminal: terminal, Addr: ip("10.0.0.50")}})
		question := len(out.Send[0].Data) + headers
		stamp := group.Stamp{Host: "server-0000", Time: now.Unix(), Boot: 1 << 60, Counter: 1000}
		answer := len(e.sign(group.TokenR{Stamp: stamp, To: "self", ID: 1 << 60, Token: "mondex.9998007668077709", Total: 26}.Append(nil))) + headers
		t.Logf("%4d hosts: host message %d bytes on the wire; idle %.1f kB/s on each network (%.3f %% of 1 Gbit/s); a lookup %d + %d messages, %.1f kB; a hundred insertions a second %.1f MB/s",
			n, host, idle/1000, idle*8/1e7, len(out.Send), len(out.Send), float64((question+answer)*n)/1000, float64((question+answer)*n)*100/1e6)
		// A shift begins: everybody comes with a card within five minutes. Redirected
		// insertions ask nobody.
		const cards, within = 300, 5 * time.Minute
		all := float64((question+answer)*n) * cards
		t.Logf("%4d hosts: %d cards in %v: %.1f MB in all, %.3f Mbit/s on average; each host gets and sends %.1f kbit/s", n, cards, within,
			all/1e6, all*8/1e6/within.Seconds(), all/float64(n)*8/1e3/within.Seconds())
		if each := all / float64(n) * 8 / within.Seconds(); each > 5000 {
			t.Errorf("%d hosts: a shift change costs each of them %.0f bit/s", n, each)
		}
		if len(out.Send) != n || host > 600 || idle > float64(n)*30 {
			t.Errorf("%d hosts: %d questions, host message %d bytes, %.0f bytes/s", n, len(out.Send), host, idle)
		}
	}
}
