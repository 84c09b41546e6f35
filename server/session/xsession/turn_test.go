package xsession

import (
	"context"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// One session at a time starts its X server. Who holds the lock for ever, or a
// machine without the folder, holds up nobody.
func TestTurns(t *testing.T) {
	if err := os.MkdirAll(sockets, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	give := takeTurn(t.Context())
	other, err := os.Open(sockets)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := unix.Flock(int(other.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		t.Errorf("during a turn the lock is free: %v", err)
	}
	begun := make(chan struct{})
	next := make(chan func(), 1)
	go func() {
		close(begun)
		next <- takeTurn(t.Context())
	}()
	<-begun
	select {
	case <-next:
		t.Error("two turns at once")
	default:
	}
	give()
	(<-next)()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	defer takeTurn(t.Context())()
	begin := time.Now()
	takeTurn(over)()
	if d := time.Since(begin); d > turnWithin {
		t.Errorf("a start that was given up waited %v", d)
	}
}
