package netlab

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const patience = 20 * time.Second

func listen(t *testing.T, n *Node, port int) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	err := n.Do(func() (err error) {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	return conn
}

func send(t *testing.T, conn *net.UDPConn, text string, to netip.Addr, port uint16) {
	t.Helper()
	if _, err := conn.WriteToUDPAddrPort([]byte(text), netip.AddrPortFrom(to, port)); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, conn *net.UDPConn, want string) netip.AddrPort {
	t.Helper()
	b := make([]byte, 2048)
	n, from, err := conn.ReadFromUDPAddrPort(b)
	if err != nil || string(b[:n]) != want {
		t.Fatalf("got %q, %v; want %q", b[:n], err, want)
	}
	return netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

// What the tests of the group rely on: broadcasts reach the subnet and no
// other, the router forwards, cuts have a direction, and nothing remains.
func TestNetwork(t *testing.T) {
	ctx := t.Context()
	n, err := New(ctx, []string{"a", "b"}, []string{"c", "b"})
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := n.Nodes["a"], n.Nodes["b"], n.Nodes["c"]
	onA, onB, onC := listen(t, a, 700), listen(t, b, 700), listen(t, c, 700)

	send(t, onA, "to all", a.Bcast, 700)
	if from := receive(t, onB, "to all"); from != netip.AddrPortFrom(a.Addr, 700) {
		t.Errorf("from %v", from)
	}
	receive(t, onA, "to all")
	send(t, onA, "routed", c.Addr, 700)
	receive(t, onC, "routed") // and not the broadcast before it
	send(t, onC, "back", a.Addr, 700)
	receive(t, onA, "back")

	heard, err := c.Capture()
	if err != nil {
		t.Fatal(err)
	}
	defer heard.Close()
	if err := c.Cut(ctx, a); err != nil {
		t.Fatal(err)
	}
	send(t, onA, "cut off", c.Addr, 700)
	send(t, onC, "one way", a.Addr, 700)
	receive(t, onA, "one way")
	send(t, onB, "others", c.Addr, 700)
	receive(t, onC, "others") // and not "cut off"
	if err := c.Heal(ctx); err != nil {
		t.Fatal(err)
	}
	send(t, onA, "healed", c.Addr, 700)
	receive(t, onC, "healed")

	if err := b.Forge(Datagram{From: netip.AddrPortFrom(a.Addr, 77), To: netip.AddrPortFrom(c.Addr, 700), Data: []byte("forged")}); err != nil {
		t.Fatal(err)
	}
	if from := receive(t, onC, "forged"); from != netip.AddrPortFrom(a.Addr, 77) {
		t.Errorf("forged from %v", from)
	}
	for text, sent := range map[string]bool{"one way": true, "healed": false, "forged": false, "cut off": false} {
		got, err := heard.Wait(1, patience, func(d Datagram) bool { return string(d.Data) == text })
		if err != nil || got[0].Sent != sent {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}

	if len(b.Addrs) != 2 || b.Addrs[1] != netip.MustParseAddr("10.90.2.11") {
		t.Errorf("addresses: %v", b.Addrs)
	}
	send(t, onC, "to the second", b.Addrs[1], 700)
	receive(t, onB, "to the second")
	if err := b.Link(ctx, false); err != nil {
		t.Fatal(err)
	}
	send(t, onA, "unplugged", a.Bcast, 700)
	receive(t, onA, "unplugged")
	if err := b.Link(ctx, true); err != nil {
		t.Fatal(err)
	}
	send(t, onA, "plugged in", a.Bcast, 700)
	receive(t, onB, "plugged in")

	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(directory)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(strings.TrimSuffix(n.router, "router"))) {
			t.Errorf("%s is left", e.Name())
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, subnets := range map[string][][]string{
		"no name":    {{""}},
		"long":       {{"a-name-that-is-longer"}},
		"subnets":    make([][]string, maxSubnets+1),
		"many nodes": {make([]string, maxNodes+1)},
	} {
		if n, err := New(t.Context(), subnets...); err == nil {
			t.Errorf("%s: accepted", name)
			_ = n.Close()
		}
	}
}

func FuzzParse(f *testing.F) {
	whole := packet(Datagram{From: netip.MustParseAddrPort("10.0.0.1:7"), To: netip.MustParseAddrPort("10.0.0.2:9"), Data: []byte("host")})
	f.Add(whole)
	f.Add(whole[:27])
	f.Add(bytes.Replace(whole, []byte{0x45}, []byte{0x4f}, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, ok := parse(b)
		if !ok {
			return
		}
		if again, ok := parse(packet(d)); !ok || again.From != d.From || again.To != d.To || !bytes.Equal(again.Data, d.Data) {
			t.Fatalf("%+v, then %+v", d, again)
		}
	})
}

// A cable's broadcast reaches the subnet's nodes, and the cable goes with its
// file.
func TestTap(t *testing.T) {
	n, err := New(t.Context(), []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	f, err := n.Tap(t.Context(), 1, "box")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Tap(t.Context(), 1, "a-name-that-is-too-long"); err == nil {
		t.Error("a long name")
	}
	var heard *net.UDPConn
	if err := n.Nodes["a"].Do(func() (err error) {
		heard, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 4000})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer heard.Close()
	// Ethernet, IPv4 and UDP of "hello" from 10.90.1.99 to the broadcast address.
	frame := []byte("\xff\xff\xff\xff\xff\xff\x00\x03\xba\x00\x00\x01\x08\x00" +
		"\x45\x00\x00\x21\x00\x00\x00\x00\x40\x11\x00\x00\x0a\x5a\x01\x63\x0a\x5a\x01\xff" +
		"\x0f\xa0\x0f\xa0\x00\x0d\x00\x00hello")
	sum := uint32(0)
	for i := 14; i < 34; i += 2 {
		sum += uint32(frame[i])<<8 | uint32(frame[i+1])
	}
	sum = ^(sum&0xffff + sum>>16)
	frame[24], frame[25] = byte(sum>>8), byte(sum)
	if err := heard.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(frame); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	if k, from, err := heard.ReadFromUDP(b); err != nil || string(b[:k]) != "hello" || from.IP.String() != "10.90.1.99" {
		t.Errorf("%q from %v: %v", b[:k], from, err)
	}
	f.Close()
	again, err := n.Tap(t.Context(), 1, "box")
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
