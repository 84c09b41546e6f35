// Package controltest is what stands round a control.Server in its tests: a
// group manager, a parent with keepers, the screens, and a listener, all in
// memory.
//
// Source: the interfaces of package control; server/session/client for what a
// keeper answers.
//
// Invariants: keepers speak the real protocol over net.Pipe, so that the real
// client is used; nothing takes time unless a test says so.
//
// All types are safe for concurrent use.
package controltest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/protocol/rpc"
	"hotdesk/server/greeter"
	"hotdesk/server/parent"
	"hotdesk/server/session/client"
	"hotdesk/server/session/keeper/pam/pamtest"
)

// Group is a group manager: it answers "new" unless Answer says otherwise.
type Group struct {
	Answer func(local.Lookup) (local.Answer, error)
	Proof  func(local.Verify) local.Verified

	mu      sync.Mutex
	away    string
	back    chan struct{}
	lookups int
	report  local.Report
}

// SetAway takes the group manager away, with what is said of that, or brings
// it back ("").
func (g *Group) SetAway(reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.away = reason; reason != "" {
		g.back = make(chan struct{})
	} else {
		close(g.back)
	}
}

// Away implements control.Group.
func (g *Group) Away() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.away
}

func (g *Group) wait(ctx context.Context) error {
	g.mu.Lock()
	away, back := g.away, g.back
	g.mu.Unlock()
	if away == "" {
		return ctx.Err()
	}
	select {
	case <-back:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Lookup implements control.Group.
func (g *Group) Lookup(ctx context.Context, q local.Lookup) (local.Answer, error) {
	if err := g.wait(ctx); err != nil {
		return local.Answer{}, err
	}
	g.mu.Lock()
	g.lookups++
	report := g.report
	g.mu.Unlock()
	if g.Answer != nil {
		return g.Answer(q)
	}
	for _, s := range report.Sessions {
		if s.Token == q.Token {
			return local.Answer{Where: local.Here, Session: s.ID}, nil
		}
	}
	return local.Answer{Where: local.New}, nil
}

// Verify implements control.Group.
func (g *Group) Verify(ctx context.Context, v local.Verify) (local.Verified, error) {
	if err := g.wait(ctx); err != nil {
		return local.Verified{}, err
	}
	if g.Proof == nil {
		return local.Verified{Reason: "no proof holds here"}, nil
	}
	return g.Proof(v), nil
}

// Report implements control.Group.
func (g *Group) Report(r local.Report) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.report = r
}

// Reported is the last report.
func (g *Group) Reported() local.Report {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.report
}

// Lookups is how many were answered.
func (g *Group) Lookups() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lookups
}

// Parent starts keepers in memory.
type Parent struct {
	Hold chan struct{} // if not nil, Start waits for one thing from it
	Fail error         // what Start returns, if not nil
	// FailFor is what it returns for users, if not nil.
	FailFor func(user string) error
	// Asks is what it returns for those who do not log in, if not nil.
	Asks error
	// FailOpen says why Open fails for a session, if not nil.
	FailOpen func(alp.SessionID) error
	// Users log in where Start asks for that.
	Users *pamtest.Users

	mu      sync.Mutex
	begun   []client.Begin
	keepers map[alp.SessionID]*Keeper
	starts  []parent.Start
}

// Start implements control.Parent.
func (p *Parent) Start(ctx context.Context, s parent.Start) (net.Conn, error) {
	p.mu.Lock()
	p.starts = append(p.starts, s)
	fail := p.Fail
	if fail == nil && p.FailFor != nil {
		fail = p.FailFor(s.User)
	}
	if fail == nil && !s.Login {
		fail = p.Asks
	}
	p.mu.Unlock()
	if p.Hold != nil {
		select {
		case <-p.Hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if fail != nil {
		return nil, fail
	}
	if s.Login {
		return p.lobby(s), nil
	}
	return p.Add(client.Status{Session: s.Session, Token: s.Token, User: s.User}).open(), nil
}

// Add puts in a session that runs.
func (p *Parent) Add(st client.Status) *Keeper {
	k := &Keeper{status: st, conns: map[*rpc.Conn]bool{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keepers == nil {
		p.keepers = map[alp.SessionID]*Keeper{}
	}
	p.keepers[st.Session] = k
	return k
}

// Open implements control.Parent.
func (p *Parent) Open(_ context.Context, id alp.SessionID) (net.Conn, error) {
	if p.FailOpen != nil {
		if err := p.FailOpen(id); err != nil {
			return nil, err
		}
	}
	k := p.Keeper(id)
	if k == nil || k.isDead() {
		return nil, fmt.Errorf("no keeper of %s", id)
	}
	return k.open(), nil
}

// List implements control.Parent.
func (p *Parent) List(context.Context) ([]alp.SessionID, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []alp.SessionID
	for id, k := range p.keepers {
		if !k.isDead() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// Keeper returns a session's, or nil.
func (p *Parent) Keeper(id alp.SessionID) *Keeper {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keepers[id]
}

// Starts is what Start was asked.
func (p *Parent) Starts() []parent.Start {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.starts)
}

// A Keeper has a session without X server: its terminals redeem tickets by
// calls of the test.
type Keeper struct {
	mu      sync.Mutex
	status  client.Status
	conns   map[*rpc.Conn]bool
	hold    chan struct{}
	refuse  bool
	word    int64 // when the last lock, or its end, was said
	offers  map[uint64]client.Attach
	detachs []uint64
	dead    bool
}

func (k *Keeper) open() net.Conn {
	ours, theirs := net.Pipe()
	conn := rpc.New(ours, k.handle)
	k.mu.Lock()
	k.conns[conn] = true
	k.mu.Unlock()
	go func() {
		conn.Serve(context.Background())
		k.mu.Lock()
		delete(k.conns, conn)
		k.mu.Unlock()
	}()
	return theirs
}

func (k *Keeper) isDead() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dead
}

// SetHold has Attach wait for one thing from c before it answers.
func (k *Keeper) SetHold(c chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hold = c
}

// SetRefuse has Attach fail.
func (k *Keeper) SetRefuse(refuse bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refuse = refuse
}

func (k *Keeper) handle(ctx context.Context, op string, body json.RawMessage) (any, error) {
	k.mu.Lock()
	hold := k.hold
	k.mu.Unlock()
	switch op {
	case client.OpStatus:
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.status, nil
	case client.OpAttach:
		var a client.Attach
		if err := rpc.Decode(body, &a); err != nil {
			return nil, err
		}
		return rpc.Later(func() (any, error) { return k.attach(ctx, a, hold) }), nil
	case client.OpDetach:
		var d client.Detach
		if err := rpc.Decode(body, &d); err != nil {
			return nil, err
		}
		k.mu.Lock()
		k.detachs = append(k.detachs, d.Gen)
		had := client.Change{Terminal: k.status.Terminal, Gen: k.status.Gen, Reason: "detached"}
		hit := k.status.Terminal != "" && k.status.Gen <= d.Gen
		if hit {
			k.status.Terminal = ""
		}
		k.mu.Unlock()
		if hit {
			k.notify(client.EventDetached, had)
		}
		return nil, nil
	case client.OpLock, client.OpUnlock:
		var w client.Word
		if err := rpc.Decode(body, &w); err != nil {
			return nil, err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if w.At >= k.word {
			k.status.Locked, k.word = op == client.OpLock, w.At
		}
		return nil, nil
	case client.OpStop:
		k.End("") // whose word overtakes the answer
		return nil, nil
	}
	return nil, errors.New("not here: " + op)
}

func (k *Keeper) attach(ctx context.Context, a client.Attach, hold chan struct{}) (any, error) {
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refuse {
		return nil, errors.New("the session is over")
	}
	if k.offers == nil {
		k.offers = map[uint64]client.Attach{}
	}
	gen := k.status.Gen + 1
	for k.offers[gen].Terminal != "" {
		gen++
	}
	k.offers[gen] = a
	return client.Offer{Port: 40000, Cert: make([]byte, 32), Ticket: make([]byte, alp.TicketSize), Gen: gen}, nil
}

func (k *Keeper) notify(op string, body any) {
	k.mu.Lock()
	conns := make([]*rpc.Conn, 0, len(k.conns))
	for c := range k.conns {
		conns = append(conns, c)
	}
	k.mu.Unlock()
	for _, c := range conns {
		_ = c.Notify(op, body) // one that is gone hears nothing
	}
}

// Redeem has the terminal of an offer come, and whoever was there go. It
// reports whether the offer was still good.
func (k *Keeper) Redeem(gen uint64) bool {
	k.mu.Lock()
	a, ok := k.offers[gen]
	for _, d := range k.detachs {
		ok = ok && d < gen
	}
	if !ok {
		k.mu.Unlock()
		return false
	}
	was := client.Change{Terminal: k.status.Terminal, Gen: k.status.Gen, Reason: "shown elsewhere"}
	k.status.Terminal, k.status.Gen, k.status.Locked = a.Terminal, gen, false
	k.mu.Unlock()
	if was.Terminal != "" {
		k.notify(client.EventDetached, was)
	}
	k.notify(client.EventAttached, client.Change{Terminal: a.Terminal, Gen: gen})
	return true
}

// Offered is what attachment gen was offered for.
func (k *Keeper) Offered(gen uint64) client.Attach {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.offers[gen]
}

// Offers is how many offers were made.
func (k *Keeper) Offers() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.offers)
}

// Status is what the keeper says.
func (k *Keeper) Status() client.Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.status
}

// Detached is what was asked to be ended.
func (k *Keeper) Detached() []uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.detachs)
}

// RestartMedia loses every attachment.
func (k *Keeper) RestartMedia() {
	k.mu.Lock()
	for gen := range k.offers {
		k.status.Gen = max(k.status.Gen, gen)
	}
	k.status.Terminal = ""
	c := client.Change{Gen: k.status.Gen, Reason: "it crashed"}
	k.mu.Unlock()
	k.notify(client.EventMedia, c)
}

// End ends the session in good order.
func (k *Keeper) End(reason string) {
	k.mu.Lock()
	k.dead = true
	k.mu.Unlock()
	k.notify(client.EventEnded, client.Ended{Reason: reason})
	k.Cut()
}

// Kill ends the keeper without a word.
func (k *Keeper) Kill() {
	k.mu.Lock()
	k.dead = true
	k.mu.Unlock()
	k.Cut()
}

// Cut ends its connections; the session goes on.
func (k *Keeper) Cut() {
	k.mu.Lock()
	conns := k.conns
	k.conns = map[*rpc.Conn]bool{}
	k.mu.Unlock()
	for c := range conns {
		c.Close()
	}
}

// Screens offers screens that nobody sees.
type Screens struct {
	Fail error

	mu     sync.Mutex
	gen    uint64
	shown  map[uint64]greeter.Request
	hidden []uint64
}

// Show implements control.Screens.
func (s *Screens) Show(r greeter.Request) (client.Offer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Fail != nil {
		return client.Offer{}, s.Fail
	}
	if s.shown == nil {
		s.shown = map[uint64]greeter.Request{}
	}
	s.gen++
	s.shown[s.gen] = r
	return client.Offer{Port: 40001, Cert: make([]byte, 32), Ticket: make([]byte, alp.TicketSize), Gen: s.gen}, nil
}

// Put implements control.Screens.
func (s *Screens) Put(gen uint64, f greeter.Form) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.shown[gen]
	if !ok {
		return false, nil
	}
	r.Form = &f
	s.shown[gen] = r
	return true, nil
}

// Hide implements control.Screens.
func (s *Screens) Hide(_ alp.TerminalID, gen uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hidden = append(s.hidden, gen)
}

// Last is the number of the newest screen.
func (s *Screens) Last() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gen
}

// Shown is what was asked for as gen.
func (s *Screens) Shown(gen uint64) greeter.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown[gen]
}

// Hidden is what was ended.
func (s *Screens) Hidden() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.hidden)
}

// A Listener hands out pipes.
type Listener struct {
	conns chan net.Conn
	fails chan error
	done  chan struct{}
	once  sync.Once
}

// NewListener makes one.
func NewListener() *Listener {
	return &Listener{conns: make(chan net.Conn), fails: make(chan error), done: make(chan struct{})}
}

// Dial connects from an address.
func (l *Listener) Dial(from netip.AddrPort) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case l.conns <- named{b, net.TCPAddrFromAddrPort(from)}:
		return a, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Fail has an Accept fail, and returns when it has.
func (l *Listener) Fail(err error) { l.fails <- err }

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case err := <-l.fails:
		return nil, err
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(netip.AddrPort{}) }

type named struct {
	net.Conn
	peer net.Addr
}

func (n named) RemoteAddr() net.Addr { return n.peer }
