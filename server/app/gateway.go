package app

import (
	"context"
	"errors"
	"fmt"
	"image"
	"net"
	"os"
	"path/filepath"
	"sync"

	"hotdesk/protocol/group/local"
	"hotdesk/server/auth"
	"hotdesk/server/control"
	"hotdesk/server/greeter"
	"hotdesk/server/grouplink"
	"hotdesk/server/parent"
	"hotdesk/server/policy"
)

// screenMost is the largest of the gateway's own screens: they are drawn sharp
// for every size up to it, whatever the largest of a session is.
var screenMost = image.Pt(3840, 2160)

// runGateway is the gateway, with the descriptors that the parent gave it.
func runGateway(ctx context.Context, c Config) error {
	if err := c.check(); err != nil {
		return err
	}
	up, err := parent.NewClient(os.NewFile(parent.GatewayFD, "parent"))
	if err != nil {
		return fmt.Errorf("server: the gateway is started by `server`, not by hand: %w", err)
	}
	defer up.Close()
	ln, pc, err := sockets()
	if err != nil {
		return err
	}
	defer ln.Close()
	defer pc.Close()
	cert, key := os.NewFile(certFD, "host certificate"), os.NewFile(keyFD, "host key")
	id, err := readHostKeys(cert, key)
	if err != nil {
		return err
	}
	cert.Close()
	key.Close()
	who, err := newPassport(id, filepath.Join(c.dataDir(), renewedFile), c.Log)
	if err != nil {
		return err
	}
	at, ok := ln.Addr().(*net.TCPAddr)
	if !ok {
		return fmt.Errorf("server: %v is no TCP socket", ln.Addr())
	}
	office, err := c.openOffice(who)
	if err != nil {
		return err
	}
	office.sign = up.Sign
	screens, err := greeter.New(greeter.Config{Conn: pc, Host: c.Host, Most: screenMost, Log: c.Log})
	if err != nil {
		return err
	}
	proofs, rules, err := c.cardFiles()
	if err != nil {
		return err
	}
	var srv *control.Server
	link := grouplink.New(grouplink.Config{
		Dial: grouplink.Unix(c.groupSocket()), Hello: local.Hello{ControlPort: at.Port}, Log: c.Log,
		Heed: func(st local.State) { srv.SetState(st) },
	})

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	failed := make(chan error, 2)
	wg.Go(func() {
		if err := screens.Serve(ctx); err != nil {
			failed <- err
			cancel()
		}
	})
	wg.Go(func() {
		select {
		case <-up.Done():
			failed <- errParentGone
			cancel()
		case <-ctx.Done():
		}
	})
	srv = control.New(control.Config{
		View: office.view, Audit: office.note, Enroll: office.enroll, Pin: office.pin,
		TLS: who.serverConfig(), Peers: office.peers.Take, Policy: policy.Config{Bare: c.Bare, Login: c.Login}, User: c.SessionUser, Local: c.Local, Most: c.Most,
		Proofs: proofs, Rules: rules,
		Host: c.Host, Warnings: c.Warnings, Group: link, Parent: up, Screens: screens, Log: c.Log,
		Logins: logins(ctx), HandOver: office.handOver,
		Ready: func() {
			wg.Go(func() { link.Serve(ctx) })
			c.ready(at)
		},
	})
	wg.Go(func() { office.serve(ctx, srv) })
	err = srv.Serve(ctx, ln)
	cancel()
	wg.Wait()
	select {
	case e := <-failed:
		err = errors.Join(err, e)
	default:
	}
	return err
}

// sockets takes over the descriptors of the parent.
func sockets() (net.Listener, net.PacketConn, error) {
	tcp, udp := os.NewFile(controlFD, "control"), os.NewFile(greeterFD, "greeter")
	defer tcp.Close()
	defer udp.Close()
	ln, err := net.FileListener(tcp)
	if err != nil {
		return nil, nil, fmt.Errorf("server: control socket: %w", err)
	}
	pc, err := net.FilePacketConn(udp)
	if err != nil {
		ln.Close()
		return nil, nil, fmt.Errorf("server: media socket: %w", err)
	}
	return ln, pc, nil
}

// ready says that terminals may come.
func (c *Config) ready(at net.Addr) {
	authority := filepath.Join(c.State, auth.AuthorityFile)
	fmt.Fprintf(c.Stdout, "server: ready control=%s runtime=%s authority=%s\n", at, c.Runtime, authority)
	if c.Local {
		fmt.Fprintf(c.Stdout, "next: dtu -local -authority %s -display workbench\n", authority)
	}
}
