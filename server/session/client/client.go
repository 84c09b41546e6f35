// Package client speaks to a session's keeper: it is what the gateway knows of
// the session program.
//
// Source: design sections 1 and 2. Requests of package rpc on the keeper's
// unix socket.
//
// A Keeper is safe for concurrent use.
package client

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/rpc"
	"hotdesk/server/session/services"
)

// Requests to a keeper, and its events. Only ever appended to.
const (
	OpStatus = "status" // nothing -> Status
	OpAttach = "attach" // Attach -> Offer
	OpDetach = "detach" // Detach -> nothing; a gen that is no longer shown is no error
	OpStop   = "stop"   // nothing -> nothing; the session ends
	OpLock   = "lock"   // Word -> nothing; Status.Locked until OpUnlock, or until an attachment comes that was asked for later
	OpUnlock = "unlock" // Word -> nothing; whoever sees the session may

	EventAttached = "attached" // Change: a terminal redeemed its ticket
	EventDetached = "detached" // Change: it is gone
	EventMedia    = "media"    // Change: media was restarted; attachments up to Gen are void
	EventEnded    = "ended"    // Ended: the session is over, the keeper is about to exit
	EventQuiet    = "quiet"    // Change: no input came for Attach's Quiet
	EventStirred  = "stirred"  // Change: some does again
)

// Attach asks for a ticket for a terminal. What was attached before stays
// until the ticket is redeemed.
type Attach struct {
	Terminal alp.TerminalID `json:"terminal"`
	Addr     netip.Addr     `json:"addr"` // the ticket is good from there alone
	Width    int            `json:"width"`
	Height   int            `json:"height"`
	Layout   string         `json:"layout,omitempty"` // keyboard, "us" when empty
	Quiet    int64          `json:"quiet,omitempty"`  // milliseconds without input that are to be told of, at least MinQuiet; 0: none
}

// MostWait is how long a keeper lets an Attach wait for its media: who asks must wait
// longer. What is asked for behind it is answered meanwhile.
const MostWait = 7 * time.Second

// MinQuiet and MaxQuiet bound Attach.Quiet, in milliseconds: media runs as the
// session's user, and must not be able to tell of quiet all the time.
const (
	MinQuiet = 500
	MaxQuiet = 1 << 35
)

// Offer is how the terminal gets in.
type Offer struct {
	Port   int    `json:"port"`   // UDP
	Cert   []byte `json:"cert"`   // SHA-256 of the media end's certificate
	Ticket []byte `json:"ticket"` // alp.TicketSize bytes, good once, for native.TicketLife
	Gen    uint64 `json:"gen"`    // number of this attachment, rising within a session
}

// Detach ends attachment Gen and every ticket up to Gen.
type Detach struct {
	Gen uint64 `json:"gen"`
}

// A Word is when a lock, or its end, was said, by the host's clock since it was
// switched on, in nanoseconds. Of a connection that is lost a word may be heard after
// one of the next; the one that was said last counts. 0: a gateway of before, whose
// words count as they are heard.
type Word struct {
	At int64 `json:"at,omitempty"`
}

func said() Word {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return Word{}
	}
	return Word{At: t.Nano()}
}

// Status is what a keeper says of its session.
type Status struct {
	Session  alp.SessionID  `json:"session"`
	Token    alp.Token      `json:"token"`
	User     string         `json:"user"`
	Started  int64          `json:"started"`            // Unix milliseconds
	Last     int64          `json:"last"`               // Unix milliseconds of its last connection, 0 if none
	Terminal alp.TerminalID `json:"terminal,omitempty"` // attached now
	Gen      uint64         `json:"gen"`                // highest number given out; the attached one's, when Terminal is set
	Quiet    bool           `json:"quiet,omitempty"`    // EventQuiet was the last word of the attached one
	Locked   bool           `json:"locked,omitempty"`   // it is for nobody who has not logged in: kept for gateways to come
	Display  string         `json:"display"`            // X display, ":7"
	Media    int            `json:"media"`              // process id of media, for the tools
	X        int            `json:"x"`                  // process id of the X server

	Services []services.Report `json:"services,omitempty"`
}

// Change is the body of attached, detached and media events.
type Change struct {
	Terminal alp.TerminalID `json:"terminal,omitempty"`
	Gen      uint64         `json:"gen"`
	Reason   string         `json:"reason,omitempty"`
}

// Ended is the body of the ended event.
type Ended struct {
	Reason string `json:"reason"` // for the user
}

// A Keeper is a connection to one.
type Keeper struct {
	conn *rpc.Conn
	told chan struct{} // closed when Serve has returned
}

// Events is told what a keeper reports, one call at a time, from Serve.
type Events interface {
	Attached(Change)
	Detached(Change)
	MediaRestarted(Change)
	Quiet(c Change, quiet bool) // false: it was, and is not any more
	Ended(Ended)
}

// New makes a Keeper over an open connection. Serve must run for calls to be
// answered.
func New(conn net.Conn, ev Events) *Keeper {
	handle := func(_ context.Context, op string, body json.RawMessage) (any, error) {
		var c Change
		var e Ended
		if op == EventEnded {
			if err := rpc.Decode(body, &e); err != nil {
				return nil, err
			}
			ev.Ended(e)
			return nil, nil
		}
		if err := rpc.Decode(body, &c); err != nil {
			return nil, err
		}
		switch op {
		case EventAttached:
			ev.Attached(c)
		case EventDetached:
			ev.Detached(c)
		case EventMedia:
			ev.MediaRestarted(c)
		case EventQuiet, EventStirred:
			ev.Quiet(c, op == EventQuiet)
		}
		return nil, nil // later keepers may say more
	}
	return &Keeper{rpc.New(conn, handle), make(chan struct{})}
}

// Serve reads until the connection ends.
func (k *Keeper) Serve(ctx context.Context) error {
	defer close(k.told)
	return k.conn.Serve(ctx)
}

// Told is closed when the connection has ended and every event that came on it
// has been told.
func (k *Keeper) Told() <-chan struct{} { return k.told }

// Close ends the connection; the session goes on.
func (k *Keeper) Close() error { return k.conn.Close() }

// Status asks what the session is doing.
func (k *Keeper) Status(ctx context.Context) (Status, error) {
	var s Status
	err := k.conn.Call(ctx, OpStatus, nil, &s)
	return s, err
}

// Attach asks for a ticket.
func (k *Keeper) Attach(ctx context.Context, a Attach) (Offer, error) {
	var o Offer
	err := k.conn.Call(ctx, OpAttach, a, &o)
	return o, err
}

// Detach ends an attachment.
func (k *Keeper) Detach(ctx context.Context, gen uint64) error {
	return k.conn.Call(ctx, OpDetach, Detach{gen}, nil)
}

// Lock has the keeper remember, beyond this gateway's life, that the session is
// shown to nobody who has not logged in.
func (k *Keeper) Lock(ctx context.Context) error { return k.conn.Call(ctx, OpLock, said(), nil) }

// Unlock ends that.
func (k *Keeper) Unlock(ctx context.Context) error { return k.conn.Call(ctx, OpUnlock, said(), nil) }

// Stop ends the session.
func (k *Keeper) Stop(ctx context.Context) error { return k.conn.Call(ctx, OpStop, nil, nil) }
