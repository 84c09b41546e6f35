package app

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hotdesk/groupmgr/engine"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
	"hotdesk/protocol/rpc"
)

// Nothing is given up before the goodbye is sent, and that says that the gateway
// stays.
func TestGoodbyeFirst(t *testing.T) {
	peer, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	sock, err := listenGroup(true, netip.Addr{}, netip.Addr{}, 0, netip.Addr{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(shortDir(t), "groupmgr.sock")
	l, err := listenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	keys := keyFile{path: filepath.Join(t.TempDir(), "group.key")}
	if err := keys.create(); err != nil {
		t.Fatal(err)
	}
	ring, err := keys.read()
	if err != nil {
		t.Fatal(err)
	}
	s := &shell{
		log: slog.New(slog.DiscardHandler), sock: sock, calls: make(chan func(time.Time)), packets: make(chan engine.Packet),
		answers: map[uint64]func(engine.Answered){}, noticed: newNoticed(), tell: make(chan told, 1),
		engine: engine.New(time.Now(), engine.Config{
			Host: "north", Port: uint16(sock.port), Ring: ring, Alg: group.SHA256, Period: time.Second, Down: 3 * time.Second, MaxSkew: time.Minute,
			NoBroadcast: true, Peers: []netip.AddrPort{peer.LocalAddr().(*net.UDPAddr).AddrPort()},
		}),
	}
	s.engine.Step(time.Now(), engine.Describe{Addr: sock.addr, CPUs: 1, Interfaces: []group.Interface{{Name: "lo", IP: sock.addr, Mask: netip.MustParseAddr("255.0.0.0"), Bcast: netip.MustParseAddr("127.255.255.255")}}})

	// said is the last host message that has come to the peer by now.
	said := func() (last group.Host) {
		raw, err := peer.SyscallConn()
		if err != nil {
			t.Error(err)
			return last
		}
		b := make([]byte, group.MaxPacket)
		_ = raw.Control(func(fd uintptr) {
			for {
				n, _, err := unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT)
				if err != nil {
					return
				}
				if h, err := group.ParseHost(b[:n]); err == nil {
					last = h
				}
			}
		})
		return last
	}
	stop, cancel := context.WithCancel(t.Context())
	ended, inside := make(chan struct{}), make(chan context.Context, 1)
	go func() {
		defer close(ended)
		_ = s.run(stop, l, func(ctx context.Context) { // it never fails
			inside <- ctx
			<-ctx.Done()
			if h := said(); h.State != group.Gone || h.Control != 7443 {
				t.Errorf("before the end was said %+v", h)
			}
		})
	}()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	gateway := rpc.New(conn, nil)
	served := make(chan struct{})
	go func() { defer close(served); _ = gateway.Serve(context.Background()) }()
	if err := gateway.Call(t.Context(), local.OpHello, local.Hello{ControlPort: 7443}, nil); err != nil {
		t.Fatal(err)
	}
	held, release := make(chan struct{}), make(chan struct{})
	s.calls <- func(time.Time) { close(held); <-release }
	<-held
	cancel()
	if ctx := <-inside; ctx.Err() != nil {
		t.Error("the end has begun, and nothing was said")
	}
	close(release)
	<-ended
	gateway.Close()
	<-served
	if next, err := listenUnix(path); err != nil {
		t.Error(err)
	} else {
		next.Close()
	}
}
