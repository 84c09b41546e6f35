package attach

import (
	"context"
	"crypto/tls"
	"net"
	"runtime"
	"testing"

	"github.com/quic-go/quic-go"
	"golang.org/x/sys/unix"

	"hotdesk/protocol/native"
	"hotdesk/server/session/rawsock"
)

// BenchmarkFrame is the least that a frame costs: one pixel that changes, is
// sent, and is acknowledged, over sockets of the loopback and on one core. Both
// ends are in the process, so its CPU is about twice the media end's.
func BenchmarkFrame(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	listen := func() *net.UDPConn {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		return c
	}
	here, there := listen(), listen()
	id, err := NewIdentity()
	if err != nil {
		b.Fatal(err)
	}
	ep, err := New(Config{Conn: here, Identity: id})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	served := make(chan error)
	go func() { served <- ep.Serve(ctx) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			b.Error(err)
		}
	}()
	s := newShown(1)
	ticket, err := ep.Offer(s.spec)
	if err != nil {
		b.Fatal(err)
	}
	c := &client{t: b, tr: &quic.Transport{Conn: rawsock.NewDatagrams(there)}}
	defer c.tr.Close()
	c.conn, err = c.tr.Dial(ctx, here.LocalAddr(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{native.ALPN}},
		&quic.Config{EnableDatagrams: true})
	if err != nil {
		b.Fatal(err)
	}
	defer c.conn.CloseWithError(0, "the benchmark is over")
	c.send(hello(s.spec, ticket))
	c.ack(c.frame().Seq)
	begin := used(b)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		s.source.Dot(n%64, n/64%64, byte(1+n/(64*64)%255)) // never the colour that is there
		c.ack(c.frame().Seq)
	}
	b.ReportMetric((used(b)-begin)/float64(n), "us-CPU/op")
}

// used is the CPU time of the process, in microseconds.
func used(b *testing.B) float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e3
}
