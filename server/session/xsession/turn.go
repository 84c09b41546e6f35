package xsession

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// sockets is where X servers put theirs.
	sockets = "/tmp/.X11-unix"
	// turnWithin bounds the wait for a turn: whoever may log in on this host can
	// hold the lock, and must not be able to hold up sessions for long.
	turnWithin = 5 * time.Second
	turnAgain  = 5 * time.Millisecond
)

// takeTurn waits till no other session of this machine starts an X server; give
// ends the turn. Servers that look for a free number at the same time take each
// other's sockets away: seen with 40 starts at once, where one in four ended up
// without a socket, or programs came to another session's server, which only
// its cookie keeps shut.
func takeTurn(ctx context.Context) (give func()) {
	f, err := os.Open(sockets)
	if err != nil {
		return func() {} // this server will make it
	}
	ctx, cancel := context.WithTimeout(ctx, turnWithin)
	defer cancel()
	tick := time.NewTicker(turnAgain)
	defer tick.Stop()
	for unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return func() { f.Close() }
		}
	}
	return func() { f.Close() } // which ends the lock: nobody inherits the file
}
