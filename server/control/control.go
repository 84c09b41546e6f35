// Package control is the gateway's end of the control connections: it takes
// what terminals say, decides with the policy and the group manager what each
// gets, and tells them where to find it.
//
// Source: design sections 1 to 4; reference/alp.md sections 2 to 4;
// protocol/alp for the lines.
//
// Each connection has a reader, which hands whole lines on, and a writer. One
// goroutine, the owner, has everything else: it runs the events one after the
// other and never waits for anybody. What takes time (the group manager, the
// parent, the keepers) is done beside it, and its result is an event.
//
// Invariants:
//  1. A removal ends every attachment that its terminal was given before it:
//     what is under way is dropped when it is done, and detached, not answered.
//  2. Of a terminal one presentation is under way; a newer one takes its place.
//     Of its connections the newest counts.
//  3. No token gets a session made while one of it is here or, as far as the
//     group manager can tell, elsewhere, unless its user, told so, chooses
//     that on the screen; none is made in place of one that a redirect named.
//  4. A terminal that loses its session to another one is told when that one
//     has it, not before.
//  5. A lost control connection ends nothing: the media end decides.
//  6. No session is made, offered or redirected to for a card that has not
//     given the proof that it needs for that, and none is made or offered for a
//     user who is still to log in (see mayGoOn): that is done where the session
//     is or is to be, once, and a redirect says whether it was.
//  7. No session is made on a host that the policy bars from it. The group
//     manager places by the same rule; here it is judged again.
//  8. Of several sessions the one is shown that the user has chosen, or that a
//     redirect names, or that the terminal showed until its media was lost;
//     where it has ended, its user is told so.
//  9. A password that a user has typed is given to the host that the user is
//     sent to for a new session, and to no other, where its own login modules
//     judge it (see handOver). It is kept until then, or for typedFor.
//
// A Server is safe for concurrent use; Serve is its life. Limits: those below
// and alp.MaxLine.
package control

import (
	"context"
	"crypto/tls"
	"image"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/audit"
	"hotdesk/server/greeter"
	"hotdesk/server/login"
	"hotdesk/server/parent"
	"hotdesk/server/policy"
	"hotdesk/server/session/client"
	"hotdesk/server/sessions"
	"hotdesk/smartcard/identity"
)

const (
	// MaxConns bounds the control connections.
	MaxConns = 4096
	// MaxHalfOpen bounds those that have not yet named their terminal.
	MaxHalfOpen = 256
	// MaxTerminals bounds the terminals that are remembered.
	MaxTerminals = 2 * MaxConns
	// MaxSessions bounds the sessions of this host.
	MaxSessions = local.MaxSessions
	// MaxBadLines is how many lines of a connection may be wrong.
	MaxBadLines = 3
	// MaxRedirects is how often a terminal is sent on within RedirectWindow.
	MaxRedirects = 4
	// RedirectWindow is the time over which redirects are counted.
	RedirectWindow = 10 * time.Second
	// MaxLookups is how often one presentation asks the group manager.
	MaxLookups = 3

	// GreetWithin is the time for the handshake and the first line.
	GreetWithin = 10 * time.Second
	// SilentAfter is the silence after which a connection is closed.
	SilentAfter = 90 * time.Second
	// WriteWithin is the time a terminal has to take a line.
	WriteWithin = 10 * time.Second
	// GroupWithin is how long a token waits for the group manager.
	GroupWithin = 10 * time.Second
	// StartWithin is how long a session may take to start.
	StartWithin = 30 * time.Second
	// KeeperWithin is how long a keeper may take to answer, also to an attach.
	KeeperWithin = client.MostWait + time.Second
	// EndWithin is how long word of a session's end may take after its keeper
	// has refused to attach.
	EndWithin = 500 * time.Millisecond

	maxQueued = 64 // lines that wait for a terminal to take them
)

// On-screen codes of what terminals are told (alp.md section 10).
const (
	osdNoSession    = 5
	osdWaiting      = 22
	osdDisconnected = 24
)

// Group is the group manager. Lookup and Verify wait for one that is away
// until ctx ends; Report does not block; Away is "" or a sentence for the user.
type Group interface {
	Lookup(context.Context, local.Lookup) (local.Answer, error)
	Verify(context.Context, local.Verify) (local.Verified, error)
	Report(local.Report)
	Away() string
}

// Parent starts keepers and finds them again.
type Parent interface {
	Start(context.Context, parent.Start) (net.Conn, error)
	Open(context.Context, alp.SessionID) (net.Conn, error)
	List(context.Context) ([]alp.SessionID, error)
}

// Screens shows what needs no session. Its calls return at once.
type Screens interface {
	Show(greeter.Request) (client.Offer, error)
	Put(gen uint64, form greeter.Form) (bool, error)
	Hide(terminal alp.TerminalID, gen uint64)
}

// Config is what a Server works with.
type Config struct {
	TLS      *tls.Config // nil: lines in the clear, for tests
	Policy   policy.Config
	User     string      // whose the sessions are, where the parent has a choice
	Local    bool        // the parent has none: all sessions are the caller's, kiosks too
	Most     image.Point // largest screen of a session
	Group    Group
	Parent   Parent
	Screens  Screens
	Host     string          // this host's name, for users
	Warnings []time.Duration // before the end of a drain; nil: Warnings
	Proofs   Proofs          // nil: cards need none
	Logins   Logins          // what users choose from when they log in
	// HandOver gives a user's login to the host of that name, at that address; it
	// takes its time, and wipes the password. Nil: users who are sent on type it
	// again.
	HandOver func(context.Context, string, netip.AddrPort, adminapi.PeerLogin) error
	Rules    identity.List      // by which terminals name cards; zero: as they like
	View     func() policy.View // what the registry says now; nil: nothing
	// Enroll registers a card as a user's, and takes its time; nil: cards
	// cannot be registered.
	Enroll func(ctx context.Context, token alp.Token, user string) error
	// Pin registers the hash of a terminal's key as the only one that it has, and
	// takes its time; ErrOtherKey where there is another. Nil: it cannot.
	Pin   func(ctx context.Context, id alp.TerminalID, key string) error
	Audit func(audit.Entry) // is told what is to be remembered, and returns at once; may be nil
	Peers func(*tls.Conn)   // serves a connection of another host's gateway, to its end; nil: there are none
	Ready func()            // called once the sessions of before are known; may be nil
	Log   *slog.Logger      // nil: silent
}

// A Server has the terminals and the sessions of this host.
type Server struct {
	conf  Config
	log   *slog.Logger
	gate  *gate
	notes notes // of what terminals cause

	refusals, pins notes // of terminals' keys

	ctx     context.Context // of Serve
	events  chan func()
	stopped chan struct{} // the owner takes no more events
	wg      sync.WaitGroup

	// What follows is the owner's.
	table     *sessions.Table
	keepers   map[alp.SessionID]*keeper
	ended     []ended                    // the newest last
	strays    map[alp.SessionID]struct{} // whose keepers live, as far as is known, and do not answer
	service   service
	terminals map[alp.TerminalID]*terminal
	conns     map[*conn]struct{}
	keys      keyring
	backoff   *login.Backoff
	logins    int // whose modules are at work
	pool      pool
	handed    map[alp.TerminalID]*handed // logins of users who are about to come
	locks     map[alp.SessionID]struct{} // sessions that are shown to nobody who has not logged in
}

// New makes a Server.
func New(conf Config) *Server {
	if conf.Log == nil {
		conf.Log = slog.New(slog.DiscardHandler)
	}
	conf.Policy.Host = conf.Host
	if conf.Proofs != nil {
		conf.Policy.Proof = conf.Proofs.Kind
	}
	if conf.Warnings == nil {
		conf.Warnings = Warnings
	}
	return &Server{
		conf:      conf,
		log:       conf.Log,
		gate:      newGate(MaxConns, MaxHalfOpen),
		notes:     notes{burst: allNotes, rate: allNotesRate},
		refusals:  notes{burst: keyNotes, rate: keyNotesRate},
		pins:      notes{burst: keyPins, rate: keyPinsRate},
		events:    make(chan func()),
		stopped:   make(chan struct{}),
		table:     sessions.New(MaxSessions),
		keepers:   map[alp.SessionID]*keeper{},
		strays:    map[alp.SessionID]struct{}{},
		terminals: map[alp.TerminalID]*terminal{},
		conns:     map[*conn]struct{}{},
		keys:      keyring{},
		backoff:   login.NewBackoff(),
		pool:      pool{},
		handed:    map[alp.TerminalID]*handed{},
		locks:     map[alp.SessionID]struct{}{},
	}
}

// Serve finds the sessions that run, then takes connections from ln until ctx
// ends. It closes ln, and the connections; sessions go on. It is called once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.ctx = ctx
	defer s.wg.Wait()
	s.wg.Go(func() { s.own(ctx) })
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	s.find(ctx)
	if s.conf.Ready != nil && ctx.Err() == nil {
		s.conf.Ready()
	}
	full := notes{burst: 1, rate: 1}
	for {
		nc, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				nc.Close()
			}
			return nil
		}
		if err != nil {
			if t, ok := err.(interface{ Temporary() bool }); ok && t.Temporary() {
				// Out of descriptors, most likely: those that end free some.
				full.note(func(more ...any) {
					s.log.Error("control connection could not be accepted", append([]any{"err", err}, more...)...)
				})
				select {
				case <-time.After(100 * time.Millisecond):
				case <-ctx.Done():
				}
				continue
			}
			cancel()
			return err
		}
		s.wg.Go(func() { s.serve(ctx, nc) })
	}
}

// own runs events until ctx ends.
func (s *Server) own(ctx context.Context) {
	defer close(s.stopped)
	for {
		select {
		case f := <-s.events:
			f()
		case <-ctx.Done():
			for c := range s.conns {
				c.nc.Close()
			}
			return
		}
	}
}

// post hands an event to the owner. It reports whether there still is one.
func (s *Server) post(f func()) bool {
	select {
	case s.events <- f:
		return true
	case <-s.stopped:
		return false
	}
}

func (s *Server) report() { s.conf.Group.Report(s.table.Report(time.Now())) }
