package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/server/audit"
	"hotdesk/server/proof"
	"hotdesk/server/session/client"
	"hotdesk/server/sessions"
)

// A keeper is the connection to a session's keeper. All of it is the owner's.
type keeper struct {
	id      alp.SessionID
	token   alp.Token
	client  *client.Keeper  // nil while it starts or is looked for again
	waiting []*presentation // for client
	void    uint64          // attachments up to this number are no more
	asked   uint64          // the keeper was asked to detach up to this number
	ended   bool
	upAt    time.Time  // when client came
	again   bool       // client is not the first
	kiosk   string     // the account of a kiosk that starts
	from    netip.Addr // whose terminal asked for it, where nothing else vouches for its token

	presented alp.Token // at the terminal that was offered it last
	at        alp.TerminalID
	user      string      // who had logged in there
	pulled    bool        // its card was, since
	left      bool        // its user took it off the terminal
	untold    bool        // the keeper has still to hear whether it is locked
	telling   bool        // it is being told
	end       *time.Timer // of a session that is shown nowhere
	epitaph   string      // why it was ended
	idle      *time.Timer // of a session that is shown, and nobody types
}

// steadyAfter is how long a keeper's connection must have lasted for another
// to be tried when it is lost.
const steadyAfter = 10 * time.Second

// maxOpening bounds the keepers that are asked at the same time at the start.
const maxOpening = 16

// find takes over the sessions that run already.
func (s *Server) find(ctx context.Context) {
	list, err := s.conf.Parent.List(ctx)
	if err != nil && ctx.Err() == nil {
		s.log.Error("sessions that run cannot be listed", "err", err)
	}
	var wg sync.WaitGroup
	places := make(chan struct{}, maxOpening)
	for _, id := range list {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			if err := s.findOne(ctx, id); err != nil && ctx.Err() == nil {
				s.log.Error("session that runs cannot be reached, and is tried again", "session", id, "err", err)
				s.post(func() { s.stray(id) })
			}
		})
	}
	wg.Wait()
	s.post(s.report)
}

// findOne takes over one of them.
func (s *Server) findOne(ctx context.Context, id alp.SessionID) error {
	conn, st, rest, err := s.open(ctx, id)
	if err != nil {
		return err
	}
	done := make(chan struct{})
	if !s.post(func() { defer close(done); s.found(conn, st, rest) }) {
		conn.Close()
		rest.drop()
		return nil
	}
	<-done
	return nil
}

// StrayAgain is how often a session is tried again whose keeper lives and does not
// answer.
const StrayAgain = 10 * time.Second

// stray has a session tried again, until it is found or its keeper has ended: nobody
// else would find it before the gateway's next start.
func (s *Server) stray(id alp.SessionID) {
	s.strays[id] = struct{}{}
	if len(s.strays) == 1 {
		time.AfterFunc(StrayAgain, func() { s.post(s.gather) })
	}
}

// gather tries the strays. The parent is not asked which of them are left: no session
// starts while it looks. A keeper that has ended refuses at once, and one that lives
// and has no time lets it run out.
func (s *Server) gather() {
	ids := slices.Collect(maps.Keys(s.strays))
	s.wg.Go(func() {
		var over []alp.SessionID
		for _, id := range ids {
			if err := s.findOne(s.ctx, id); !errors.Is(err, context.DeadlineExceeded) {
				over = append(over, id)
			}
		}
		s.post(func() {
			for _, id := range over {
				delete(s.strays, id)
			}
			if len(s.strays) > 0 {
				time.AfterFunc(StrayAgain, func() { s.post(s.gather) })
			}
			s.report()
		})
	})
}

// open connects to a keeper that runs and asks for its status. Events that
// come are kept in the relay until the owner has the keeper.
func (s *Server) open(ctx context.Context, id alp.SessionID) (*client.Keeper, client.Status, *relay, error) {
	ctx, cancel := context.WithTimeout(ctx, KeeperWithin)
	defer cancel()
	nc, err := s.conf.Parent.Open(ctx, id)
	if err != nil {
		return nil, client.Status{}, nil, err
	}
	r := newRelay(s)
	k := client.New(nc, r)
	s.wg.Go(func() { r.over(k.Serve(s.ctx)) })
	st, err := k.Status(ctx)
	if err == nil && (st.Session != id || !st.Token.Valid()) {
		err = fmt.Errorf("control: the keeper of %s says that it has session %q of token %q", id, st.Session, st.Token)
	}
	if err != nil {
		k.Close()
		r.drop()
		return nil, client.Status{}, nil, err
	}
	return k, st, r, nil
}

// found puts a session of before in the table.
func (s *Server) found(c *client.Keeper, st client.Status, r *relay) {
	last := st.Last
	if last == 0 {
		last = st.Started
	}
	row := sessions.Session{ID: st.Session, Token: st.Token, User: st.User, State: sessions.Disconnected, Last: moment(last)}
	if err := s.table.Add(row); err != nil {
		s.log.Error("session that runs has no place", "session", st.Session, "token", st.Token, "err", err)
		c.Close()
		r.drop()
		return
	}
	k := &keeper{id: st.Session, token: st.Token}
	s.keepers[k.id] = k
	s.up(k, c, r, st)
	s.log.Info("session found", "session", k.id, "token", k.token, "terminal", st.Terminal)
}

// moment is a time that a keeper told, as one that setting the clock from now
// on does not move.
func moment(ms int64) time.Time {
	now := time.Now()
	return now.Add(-now.Sub(time.UnixMilli(ms)))
}

// up gives a keeper its connection.
func (s *Server) up(k *keeper, c *client.Keeper, r *relay, st client.Status) {
	k.client, k.upAt = c, time.Now()
	k.stirred() // whoever typed meanwhile was not heard
	s.table.Up(k.id)
	switch {
	case k.again: // it may not have heard the last word
		k.untold = true
	case st.Locked:
		s.locks[k.id] = struct{}{}
		if st.Terminal.Valid() { // the gateway that locked it did not come to take it away
			k.asked = max(k.asked, st.Gen)
		}
	}
	s.tellLock(k)
	if st.Terminal.Valid() {
		last := moment(st.Last)
		if row, ok := s.table.Get(k.id); ok && row.Last.After(last) {
			last = row.Last
		}
		s.table.Attached(k.id, st.Terminal, st.Gen, last)
		if st.Quiet {
			s.quiet(k, client.Change{Terminal: st.Terminal, Gen: st.Gen})
		}
	} else {
		s.table.Void(k.id, ^uint64(0))
		if k.end == nil && len(k.waiting) == 0 {
			s.unseen(k)
		}
	}
	r.attach(k)
	if s.service.down {
		s.stop(k, nil)
	}
	if gen := k.asked; gen > 0 { // it may not have heard of it
		k.asked = 0
		s.detach(k.id, gen)
	}
	waiting := k.waiting
	k.waiting = nil
	for _, p := range waiting {
		s.attach(p, k.id)
	}
}

// started is what came of start.
func (s *Server) started(k *keeper, nc net.Conn, err error) {
	if k.kiosk != "" {
		s.kioskStarted(k.kiosk, err)
	}
	if err != nil {
		weight := slog.LevelError
		if !slices.ContainsFunc(k.waiting, func(p *presentation) bool { return !p.sworn }) {
			weight = slog.LevelInfo // their users log in
		}
		s.log.Log(s.ctx, weight, "session did not start", "session", k.id, "token", k.token, "err", err)
		s.gone(k, "")
		for _, p := range k.waiting {
			if k.kiosk != "" && s.anotherAccount(p) {
				continue
			}
			if p.sworn { // of most users this host wants the password
				s.logInAsThere(p)
				continue
			}
			s.deny(p, osdNoSession, "Your session could not be started. "+plain(err))
		}
		return
	}
	r := newRelay(s)
	c := client.New(nc, r)
	s.wg.Go(func() { r.over(c.Serve(s.ctx)) })
	s.auditKeeper(audit.Begin, k, "", "")
	s.log.Info("session runs", "session", k.id, "token", k.token)
	s.up(k, c, r, client.Status{})
	s.report()
}

const busy = "The server has too much to do. Wait a moment, then try again."

// plain is why something failed, for users, who know nothing of contexts.
func plain(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return busy
	}
	return err.Error()
}

// attach asks the session's keeper for a ticket for p.
func (s *Server) attach(p *presentation, id alp.SessionID) {
	k := s.keepers[id]
	if k == nil {
		s.lookup(p)
		return
	}
	if p.away != nil {
		s.noneElsewhere(p)
		return
	}
	if s.stranger(p, id) || s.outsider(p, id) {
		return
	}
	if (id != p.own || s.isLocked(id)) && !s.mayGoOn(p, proof.Reattach, id, func() { s.attach(p, id) }) {
		return
	}
	if s.choosing(p, id) {
		return
	}
	if k.client == nil {
		k.waiting = append(k.waiting, p)
		return
	}
	w, h := s.size(p)
	a := client.Attach{Terminal: p.t.id, Addr: p.t.addr, Width: w, Height: h, Layout: p.req.Layout, Quiet: quietAfter(s.says(p).Idle).Milliseconds()}
	c := k.client
	p.wants = id
	s.beside(p, func() (then, stale func()) {
		// Not p.ctx: whoever gives up here would never hear of the number to
		// detach.
		ctx, cancel := context.WithTimeout(s.ctx, KeeperWithin)
		defer cancel()
		o, err := c.Attach(ctx, a)
		if err == nil {
			err = checkOffer(o)
		}
		return func() {
				p.wants = ""
				switch {
				case k.ended || k.client != c || err == nil && o.Gen <= k.void:
					s.lookup(p) // it has ended, or its media has, since
				case err == nil && p.user == "" && s.isLocked(id): // since
					s.detach(id, o.Gen)
					s.attach(p, id)
				case err != nil:
					s.unattached(p, k, err)
				default:
					s.offer(p, id, o)
				}
			}, func() {
				if err == nil {
					s.detach(id, o.Gen)
				}
			}
	})
}

// unattached: the keeper gave no ticket. If that is because the session ends,
// word of it is on its way, and decides.
func (s *Server) unattached(p *presentation, k *keeper, err error) {
	k.waiting = append(k.waiting, p)
	time.AfterFunc(EndWithin, func() {
		s.post(func() {
			i := slices.Index(k.waiting, p)
			if i < 0 {
				return
			}
			k.waiting = slices.Delete(k.waiting, i, i+1)
			s.log.Error("session does not attach", "terminal", p.t.id, "token", p.token, "session", k.id, "err", err)
			p.refused = k.id
			s.ask(p, "Your session does not answer.", true)
		})
	})
}

func checkOffer(o client.Offer) error {
	if o.Port < 1 || o.Port > 65535 || len(o.Cert) != 32 || len(o.Ticket) != alp.TicketSize || o.Gen == 0 {
		return fmt.Errorf("control: the keeper's offer is none: port %d, certificate %d bytes, ticket %d bytes, number %d", o.Port, len(o.Cert), len(o.Ticket), o.Gen)
	}
	return nil
}

// detach ends an attachment at its keeper. The row changes when that says so.
func (s *Server) detach(id alp.SessionID, gen uint64) {
	k := s.keepers[id]
	if k == nil || gen <= k.asked {
		return
	}
	k.asked = gen
	c := k.client
	if c == nil {
		return // up asks
	}
	s.wg.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, KeeperWithin)
		defer cancel()
		if err := c.Detach(ctx, gen); err != nil && s.ctx.Err() == nil {
			s.log.Warn("attachment cannot be ended", "session", id, "gen", gen, "err", err)
			s.post(func() { k.asked = 0 })
		}
	})
}

// attached: a terminal has redeemed its ticket. Those that were offered the
// session before have lost it.
func (s *Server) attached(k *keeper, c client.Change) {
	if _, ok := s.table.Attached(k.id, c.Terminal, c.Gen, time.Now()); !ok {
		return
	}
	if t := s.terminals[c.Terminal]; t != nil && t.shown == (attachment{k.id, c.Gen}) {
		// Whoever still has that offer may see it. One that was pulled or locked
		// since has not, however late this comes.
		k.last(nil)
		s.reveal(k)
		s.pin(t)
	}
	k.stirred()
	s.auditKeeper(audit.Attach, k, c.Terminal, "")
	s.log.Info("attached", "terminal", c.Terminal, "token", k.token, "session", k.id, "gen", c.Gen)
	s.report()
	for _, t := range s.terminals {
		if t.id != c.Terminal && t.shown.session == k.id && t.shown.gen < c.Gen {
			s.takeAway(t, "Your session is shown at another terminal.", osdNoSession)
		}
	}
}

// takeAway tells a terminal that it no longer has its session.
func (s *Server) takeAway(t *terminal, cause string, osd int) {
	if s.logInAgain(t, cause) {
		return
	}
	seq := 0
	if t.now != nil {
		seq = t.now.req.TokenSeq
	}
	s.drop(t)
	t.shown = attachment{}
	s.send(t.conn, alp.DiscInf{TokenSeq: seq, Cause: text(cause), OSD: osd}.Message())
}

func (s *Server) detached(k *keeper, c client.Change) {
	row, _ := s.table.Get(k.id)
	if !s.table.Detached(k.id, c.Gen) {
		return
	}
	k.stirred()
	s.auditKeeper(audit.Detach, k, row.Terminal, c.Reason)
	s.log.Info("detached", "terminal", row.Terminal, "token", k.token, "session", k.id, "gen", c.Gen, "reason", c.Reason)
	s.unseen(k)
	s.report()
	if t := s.terminals[row.Terminal]; t != nil {
		s.prune(t)
	}
}

// mediaRestarted: the attachments up to c.Gen are no more. The terminal that
// has the session is told where it is now.
func (s *Server) mediaRestarted(k *keeper, c client.Change) {
	k.void = max(k.void, c.Gen)
	k.stirred()
	s.log.Warn("media was restarted", "token", k.token, "session", k.id, "gen", c.Gen, "reason", c.Reason)
	if s.table.Void(k.id, c.Gen) {
		s.report()
	}
	var last *terminal
	for _, t := range s.terminals {
		if t.shown.session == k.id && t.shown.gen <= k.void && (last == nil || t.shown.gen > last.shown.gen) {
			last = t
		}
	}
	if last != nil && last.conn != nil && last.now != nil && !last.busy {
		last.shown = attachment{}
		last.now.must = k.id // it may be ending: then the terminal is told so
		s.attach(last.now, k.id)
	}
}

// gone takes a session out of the table and tells who had it why.
func (s *Server) gone(k *keeper, reason string) {
	if k.ended {
		return
	}
	k.ended = true
	k.last(nil)
	k.stirred()
	delete(s.locks, k.id)
	if reason != "" && k.epitaph != "" {
		reason = k.epitaph
	}
	if k.client != nil {
		k.client.Close()
	}
	delete(s.keepers, k.id)
	s.auditKeeper(audit.End, k, "", reason)
	row, _ := s.table.End(k.id)
	s.report()
	if reason == "" {
		return
	}
	if s.service.down {
		reason = s.outOfService()
	}
	s.log.Info("session ended", "token", k.token, "session", k.id, "reason", reason)
	s.bury(k.id, reason)
	for _, t := range s.terminals {
		if t.shown.session == k.id || t.now != nil && t.now.refused == k.id {
			s.bereave(t, reason)
		}
	}
	if t := s.terminals[row.Terminal]; t != nil {
		s.prune(t)
	}
}

// An ended is a session that is no more, and what its user is told.
type ended struct {
	id     alp.SessionID
	reason string
}

// maxEnded bounds the ended sessions whose reasons are remembered, for
// terminals that hear of the end of their media first.
const maxEnded = 64

func (s *Server) bury(id alp.SessionID, reason string) {
	if len(s.ended) == maxEnded {
		s.ended = slices.Delete(s.ended, 0, 1)
	}
	s.ended = append(s.ended, ended{id, reason})
}

// obituary tells why a session of before is not shown.
func (s *Server) obituary(id alp.SessionID) string {
	if _, runs := s.table.Get(id); runs {
		return "Your session runs on, but is not this card's any more. Take the card out and insert it again for another one."
	}
	return cmp.Or(s.why(id), "Your session has ended. Take the card out and insert it again for a new one.")
}

// why is the same, or "" where it is not known.
func (s *Server) why(id alp.SessionID) string {
	for _, e := range s.ended {
		if e.id == id {
			return e.reason
		}
	}
	return ""
}

// keeperLost: the connection to a keeper is no more. If the keeper is, the
// session goes on.
func (s *Server) keeperLost(k *keeper, err error) {
	if k.ended {
		return
	}
	k.client = nil
	const unexpected = "Your session has ended unexpectedly. Take the card out and insert it again for a new one."
	if k.again && time.Since(k.upAt) < steadyAfter {
		s.gone(k, unexpected)
		s.giveUp(k)
		return
	}
	k.again = true
	reason := "the keeper closed it"
	if err != nil {
		reason = err.Error()
	}
	s.log.Warn("keeper connection lost", "token", k.token, "session", k.id, "reason", reason)
	s.wg.Go(func() {
		c, st, r, err := s.open(s.ctx, k.id)
		if err == nil && st.Token != k.token {
			err = errors.New("control: the session has another token")
			c.Close()
			r.drop()
		}
		ok := s.post(func() {
			switch {
			case k.ended || err != nil:
				if err == nil {
					c.Close()
					r.drop()
				}
				s.gone(k, unexpected)
				s.giveUp(k)
				s.stray(k.id) // it may live nevertheless
			default:
				s.log.Info("keeper connected again", "token", k.token, "session", k.id)
				s.up(k, c, r, st)
				s.report()
			}
		})
		if !ok && err == nil {
			c.Close()
			r.drop()
		}
	})
}

// giveUp has those who waited for a keeper look once more.
func (s *Server) giveUp(k *keeper) {
	waiting := k.waiting
	k.waiting = nil
	for _, p := range waiting {
		if p.current() {
			s.lookup(p)
		}
	}
}

// A relay hands a keeper's events to the owner, from the moment that the owner
// has the keeper.
type relay struct {
	s     *Server
	k     *keeper       // set before ready is closed
	ready chan struct{} // closed by attach or drop
}

func newRelay(s *Server) *relay { return &relay{s: s, ready: make(chan struct{})} }

// attach lets the events of k through.
func (r *relay) attach(k *keeper) {
	r.k = k
	close(r.ready)
}

// drop throws the events away: nobody wants the keeper.
func (r *relay) drop() { close(r.ready) }

func (r *relay) event(f func(*keeper)) {
	select {
	case <-r.ready:
	case <-r.s.stopped:
		return
	}
	if r.k != nil {
		r.s.post(func() {
			if !r.k.ended {
				f(r.k)
			}
		})
	}
}

func (r *relay) Attached(c client.Change) { r.event(func(k *keeper) { r.s.attached(k, c) }) }
func (r *relay) Detached(c client.Change) { r.event(func(k *keeper) { r.s.detached(k, c) }) }
func (r *relay) MediaRestarted(c client.Change) {
	r.event(func(k *keeper) { r.s.mediaRestarted(k, c) })
}
func (r *relay) Quiet(c client.Change, quiet bool) {
	r.event(func(k *keeper) {
		if quiet {
			r.s.quiet(k, c)
		} else {
			r.s.stirs(k)
		}
	})
}
func (r *relay) Ended(e client.Ended) {
	r.event(func(k *keeper) {
		reason := e.Reason
		if reason == "" {
			reason = "Your session has ended."
		}
		r.s.gone(k, reason)
		r.s.giveUp(k)
	})
}

// over is the end of the connection.
func (r *relay) over(err error) { r.event(func(k *keeper) { r.s.keeperLost(k, err) }) }
