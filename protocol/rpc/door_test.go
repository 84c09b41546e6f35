package rpc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// echo serves a line after the other.
func echo(c net.Conn) {
	defer c.Close()
	in := bufio.NewScanner(c)
	for in.Scan() {
		fmt.Fprintln(c, in.Text())
	}
}

// Who says nothing makes room, who has said something stays, and the log is
// short.
func TestDoorMakesRoom(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "door"))
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	d := Door{Most: 4, Serve: echo, Notes: Notes{Log: slog.New(slog.NewTextHandler(&log, nil))}}
	ctx, cancel := context.WithCancel(t.Context())
	var open sync.WaitGroup
	open.Go(func() { d.Open(ctx, l) })
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	speaks := func(c net.Conn) error {
		if _, err := fmt.Fprintln(c, "hello"); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, len("hello\n")))
		return err
	}
	first := dial()
	if err := speaks(first); err != nil {
		t.Fatal(err)
	}
	var slow []net.Conn
	for range 40 {
		c := dial()
		fmt.Fprint(c, "no end")
		slow = append(slow, c)
	}
	// The oldest of them are out.
	for _, c := range slow[:30] {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("one that says nothing has stayed")
		}
	}
	var good []net.Conn
	for range 3 {
		c := dial()
		if err := speaks(c); err != nil {
			t.Fatalf("nobody is let in beside those that say nothing: %v", err)
		}
		good = append(good, c)
	}
	for range 50 { // now all have spoken
		c := dial()
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("there was room for one too many")
		}
		c.Close()
	}
	for _, c := range append(good, first) {
		if err := speaks(c); err != nil {
			t.Error(err)
		}
		c.Close()
	}
	for _, c := range slow {
		c.Close()
	}
	cancel()
	open.Wait()
	if n := strings.Count(log.String(), "\n"); n == 0 || n > 30 {
		t.Errorf("%d lines of log:\n%s", n, log.String())
	}
}

// A listener out of descriptors for a while serves again afterwards.
func TestDoorRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		l := &failing{errs: 3, conn: far, done: make(chan struct{})}
		d := Door{Most: 1, Serve: echo}
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		var open sync.WaitGroup
		open.Go(func() { d.Open(ctx, l) })
		fmt.Fprintln(near, "hello")
		if _, err := io.ReadFull(near, make([]byte, len("hello\n"))); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 3*restAfterError {
			t.Errorf("served after %v", took)
		}
		near.Close()
		cancel()
		open.Wait()
	})
}

// Whom Check refuses is not served.
func TestDoorChecks(t *testing.T) {
	near, far := net.Pipe()
	l := &failing{conn: far, done: make(chan struct{})}
	d := Door{Most: 1, Check: func(net.Conn) error { return errors.New("another user") }, Serve: func(net.Conn) { t.Error("served") }}
	ctx, cancel := context.WithCancel(t.Context())
	var open sync.WaitGroup
	open.Go(func() { d.Open(ctx, l) })
	if _, err := near.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read: %v", err)
	}
	cancel()
	open.Wait()
}

// failing has errors first, then one connection.
type failing struct {
	errs int
	conn net.Conn
	once sync.Once
	done chan struct{}
}

func (f *failing) Accept() (net.Conn, error) {
	if f.errs > 0 {
		f.errs--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	if c := f.conn; c != nil {
		f.conn = nil
		return c, nil
	}
	<-f.done
	return nil, net.ErrClosed
}

func (f *failing) Close() error   { f.once.Do(func() { close(f.done) }); return nil }
func (f *failing) Addr() net.Addr { return nil }
