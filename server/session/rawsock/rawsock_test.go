package rawsock

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
)

// pair is two ends of a unix socket, the first of them a Stream.
func pair(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	s := NewStream(a)
	if _, ok := s.(*Stream); !ok {
		t.Fatalf("%T is no Stream", s)
	}
	return s, b
}

func TestStream(t *testing.T) {
	s, peer := pair(t)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // more than the kernel takes at once
	go io.Copy(peer, peer)
	go s.Write(sent)
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("what came back is not what was sent: %v", err)
	}
	s.SetReadDeadline(time.Unix(0, 1))
	if _, err := s.Read(got); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("past the deadline: %v", err)
	}
	s.SetReadDeadline(time.Time{})
	peer.Close()
	if _, err := s.Read(got); err != io.EOF {
		t.Errorf("after the other end closed: %v", err)
	}
	if _, err := s.Write(got); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("writing to nobody: %v", err)
	}
	s.Close()
	if _, err := s.Read(got); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestNoSocket(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if NewStream(a) != a {
		t.Error("a pipe became a Stream")
	}
}

// listen is a Datagrams on an address.
func listen(t testing.TB, network string, ip net.IP) *Datagrams {
	t.Helper()
	c, err := net.ListenUDP(network, &net.UDPAddr{IP: ip})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	d, ok := NewDatagrams(c).(*Datagrams)
	if !ok {
		t.Fatal("no Datagrams")
	}
	return d
}

func TestDatagrams(t *testing.T) {
	four, six := net.IPv4(127, 0, 0, 1), net.IPv6loopback
	for _, c := range []struct {
		name, network string
		from, at, to  net.IP
	}{
		{"IPv4", "udp4", four, four, four},
		{"IPv6", "udp6", six, six, six},
		{"IPv4 on a socket for both", "udp", net.IPv6unspecified, net.IPv6unspecified, four},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := listen(t, c.network, c.from), listen(t, c.network, c.at)
			to := &net.UDPAddr{IP: c.to, Port: b.LocalAddr().(*net.UDPAddr).Port}
			ms := []ipv4.Message{{Buffers: [][]byte{make([]byte, 100)}, OOB: make([]byte, 128)}}
			var peer net.Addr
			for _, text := range []string{"one", "another"} {
				if n, _, err := a.WriteMsgUDP([]byte(text), nil, to); err != nil || n != len(text) {
					t.Fatalf("sent %d: %v", n, err)
				}
				n, err := b.ReadBatch(ms, 0)
				if err != nil || n != 1 || string(ms[0].Buffers[0][:ms[0].N]) != text {
					t.Fatalf("%d: %q, %v", n, ms[0].Buffers[0][:ms[0].N], err)
				}
				from := ms[0].Addr.(*net.UDPAddr)
				if !from.IP.Equal(c.to) || from.Port != a.LocalAddr().(*net.UDPAddr).Port {
					t.Errorf("came from %v, not from %v", from, a.LocalAddr())
				}
				if peer != nil && peer != ms[0].Addr {
					t.Error("the same peer has two addresses")
				}
				peer = ms[0].Addr
			}
			// And another peer is another.
			third := listen(t, c.network, c.from)
			if _, _, err := third.WriteMsgUDP([]byte("x"), nil, to); err != nil {
				t.Fatal(err)
			}
			if _, err := b.ReadBatch(ms, 0); err != nil || ms[0].Addr.(*net.UDPAddr).Port != third.LocalAddr().(*net.UDPAddr).Port {
				t.Errorf("from %v: %v", ms[0].Addr, err)
			}
			if _, _, err := a.WriteMsgUDP(make([]byte, 1<<16), nil, to); !errors.Is(err, syscall.EMSGSIZE) {
				t.Errorf("too large: %v", err)
			}
			var sys *os.SyscallError
			if _, _, err := a.WriteMsgUDP(make([]byte, 1<<16), nil, to); !errors.As(err, &sys) || sys.Syscall != "sendmsg" {
				t.Errorf("too large: %v", err)
			}
			b.SetReadDeadline(time.Unix(0, 1))
			if _, err := b.ReadBatch(ms, 0); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("past the deadline: %v", err)
			}
			b.Close()
			if _, err := b.ReadBatch(ms, 0); !errors.Is(err, net.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		})
	}
}

// BenchmarkDatagrams is a datagram to another socket and its reading.
func BenchmarkDatagrams(b *testing.B) {
	x, y := listen(b, "udp4", net.IPv4(127, 0, 0, 1)), listen(b, "udp4", net.IPv4(127, 0, 0, 1))
	to := y.LocalAddr().(*net.UDPAddr)
	ms := []ipv4.Message{{Buffers: [][]byte{make([]byte, 100)}, OOB: make([]byte, 128)}}
	text := make([]byte, 90)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := x.WriteMsgUDP(text, nil, to); err != nil {
			b.Fatal(err)
		}
		ms[0].OOB = ms[0].OOB[:cap(ms[0].OOB)]
		if _, err := y.ReadBatch(ms, 0); err != nil {
			b.Fatal(err)
		}
	}
}
