package xsession

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"hotdesk/server/session/sweep"
)

// A number that somebody has is left to them, whether it is seen to be taken or
// the X server finds out; the next one is as good.
func TestNumberTaken(t *testing.T) {
	if err := os.MkdirAll(sockets, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	seen := drawNumber()
	// An X server has both; where the first is the only one it is found by
	// looking, and by trying where the second is.
	l, err := net.Listen("unix", socketOf(seen))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	was := sweep.SocketAt(socketOf(seen))
	hidden := seen + 1
	for taken(hidden) {
		hidden++
	}
	if l, err = net.Listen("unix", "@"+socketOf(hidden)); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	free := hidden + 1
	for taken(free) {
		free++
	}
	cfg := config(t)
	draws := []int{seen, hidden, free}
	cfg.number = func() int {
		n := draws[0]
		draws = draws[1:]
		return n
	}
	s, err := Start(t.Context(), cfg)
	defer end(t, s)
	if err != nil {
		t.Fatal(err)
	}
	if s.Display() != fmt.Sprintf(":%d", free) || sweep.SocketAt(socketOf(seen)) != was {
		t.Errorf("display %s, want %d; the socket that was there is %v, was %v", s.Display(), free, sweep.SocketAt(socketOf(seen)), was)
	}
}

// Where every number is taken a start ends with words.
func TestNoNumber(t *testing.T) {
	if err := os.MkdirAll(sockets, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	their := drawNumber()
	l, err := net.Listen("unix", socketOf(their))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := config(t)
	cfg.number = func() int { return their }
	if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "free number") {
		t.Errorf("no free number: %v", err)
	}
}

// The socket of a killed X server does not stay, and one that is another's does.
func TestSocketStays(t *testing.T) {
	cfg := config(t)
	s, err := Start(t.Context(), cfg)
	if err != nil {
		end(t, s)
		t.Fatal(err)
	}
	mine := s.socket
	x := s.X()
	fam.Signal(x, 9)
	<-x.Done()
	if _, err := os.Lstat(mine.Path); err != nil {
		t.Errorf("a killed server leaves no socket: %v", err)
	}
	other := sweep.Socket{Path: mine.Path, Inode: mine.Inode + 1}
	if err := other.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(mine.Path); err != nil {
		t.Error("another's socket was removed")
	}
	end(t, s)
	if _, err := os.Lstat(mine.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the end: %v", err)
	}
}

// A server that ends before it is ready leaves no socket either, whether it was
// killed or does not get ready and is given up; one that somebody listens to
// stays.
func TestSocketOfAbandoned(t *testing.T) {
	xvfb, err := exec.LookPath("Xvfb")
	if err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{
		"killed":      xvfb + ` "$1" & until test -S "$2"; do sleep .01; done; kill -9 $!; wait $!; exec 3>&-`,
		"never ready": `exec ` + xvfb + ` "$1"`,
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			free := drawNumber()
			for taken(free) {
				free++
			}
			cfg.number = func() int { return free }
			bin := t.TempDir()
			text := fmt.Sprintf("#!/bin/sh\nset -- \"$1\" %s\n%s\n", socketOf(free), script)
			if err := os.WriteFile(filepath.Join(bin, "Xvfb"), []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if name == "never ready" {
				var watching sync.WaitGroup
				defer watching.Wait()
				watching.Go(func() {
					for !taken(free) && t.Context().Err() == nil {
						runtime.Gosched()
					}
					cancel()
				})
			}
			s, err := Start(ctx, cfg)
			if err == nil {
				t.Error("it started")
			}
			end(t, s)
			if taken(free) {
				t.Error("its socket is there")
				os.Remove(socketOf(free))
			}
			l, err := net.Listen("unix", socketOf(free))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if err := abandoned(free, cfg.User.UID); err != nil || !taken(free) {
				t.Errorf("a socket that somebody listens to was removed: %v", err)
			}
		})
	}
}
