package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/rpc"
	"hotdesk/server/audit"
	"hotdesk/server/session/client"
	"hotdesk/server/sessions"
)

// Errors of what admins ask for.
var (
	// ErrNoSession means that there is no session of that id here.
	ErrNoSession = errors.New("control: there is no such session on this host: `hotdesk session list` shows those that are")
	// ErrKeeper means that a session's keeper does not answer.
	ErrKeeper = errors.New("control: the session's keeper does not answer: try again in a moment")
	// ErrNoLogins means that nobody could unlock a session.
	ErrNoLogins = errors.New("control: this server has no logins, so that nobody could unlock the session: end it, or take it off its terminal")
	// ErrStopped means that the gateway is ending.
	ErrStopped = errors.New("control: the gateway is stopping")
)

// query runs f as an event, unless ctx ends before its turn, and waits for its end:
// with an error nothing of f has been done, or will be.
func (s *Server) query(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case s.events <- func() { defer close(done); f() }:
		<-done // the owner waits for nobody
		return nil
	case <-s.stopped:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Sessions returns the sessions of this host, by id.
func (s *Server) Sessions(ctx context.Context) (all []adminapi.Session, err error) {
	var rows []sessions.Session
	keepers := map[alp.SessionID]*client.Keeper{}
	if err := s.query(ctx, func() {
		rows = s.table.All()
		for id, k := range s.keepers {
			keepers[id] = k.client
		}
	}); err != nil {
		return nil, err
	}
	asked := s.askKeepers(ctx, keepers)
	for _, r := range rows {
		x := adminapi.Session{ID: r.ID, Token: r.Token, User: r.User, State: r.State.String(), Last: r.Last.UTC().Round(0), Terminal: r.Terminal, Display: asked[r.ID].Display}
		for _, v := range asked[r.ID].Services {
			x.Services = append(x.Services, adminapi.Service{Name: v.Name, State: string(v.State), Required: v.Required, PID: v.PID, Restarts: v.Restarts, Error: v.Error})
		}
		all = append(all, x)
	}
	return all, nil
}

// askWithin bounds how long a list of sessions waits for their keepers.
const askWithin = time.Second

// askKeepers asks keepers what only they know; who does not answer is left out.
func (s *Server) askKeepers(ctx context.Context, keepers map[alp.SessionID]*client.Keeper) map[alp.SessionID]client.Status {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	var mu sync.Mutex
	var asking sync.WaitGroup
	all := map[alp.SessionID]client.Status{}
	places := make(chan struct{}, maxOpening)
	for id, k := range keepers {
		if k == nil {
			continue
		}
		places <- struct{}{}
		asking.Go(func() {
			defer func() { <-places }()
			if st, err := k.Status(ctx); err == nil {
				mu.Lock()
				defer mu.Unlock()
				all[id] = st
			}
		})
	}
	asking.Wait()
	return all
}

// Terminals returns the terminals that this host knows now, by id.
func (s *Server) Terminals(ctx context.Context) (all []adminapi.TerminalState, err error) {
	err = s.query(ctx, func() {
		for _, t := range s.terminals {
			x := adminapi.TerminalState{ID: t.id, Connected: t.conn != nil, Session: t.shown.session}
			if t.conn != nil {
				x.Addr, x.Shown = t.conn.addr.String(), t.conn.key.String()
			}
			if t.now != nil {
				x.Token = t.now.req.Token()
			}
			if row, ok := s.table.At(t.id); ok {
				x.Session = row.ID
			}
			all = append(all, x)
		}
	})
	slices.SortFunc(all, func(a, b adminapi.TerminalState) int { return cmp.Compare(a.ID, b.ID) })
	return all, err
}

// keeperOf returns a session's keeper, and the number of what is attached.
func (s *Server) keeperOf(ctx context.Context, id alp.SessionID) (c *client.Keeper, gen uint64, err error) {
	found := false
	err = s.query(ctx, func() {
		if k := s.keepers[id]; k != nil {
			found, c = true, k.client
		}
		if row, ok := s.table.Get(id); ok {
			gen = row.Gen
		}
	})
	switch {
	case err != nil:
		return nil, 0, err
	case !found:
		return nil, 0, ErrNoSession
	case c == nil:
		return nil, 0, ErrKeeper
	}
	return c, gen, nil
}

// End ends a session, whose programs are told to stop.
func (s *Server) End(ctx context.Context, id alp.SessionID) error {
	c, _, err := s.keeperOf(ctx, id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, StartWithin)
	defer cancel()
	if err := s.stopSession(ctx, id, c); err != nil {
		return fmt.Errorf("%w: %w", ErrKeeper, err)
	}
	return nil
}

// stopSession has a keeper end its session. Word of that end may overtake the
// answer, and close the connection that it was to come on.
func (s *Server) stopSession(ctx context.Context, id alp.SessionID, c *client.Keeper) error {
	err := c.Stop(ctx)
	if !errors.Is(err, rpc.ErrClosed) {
		return err
	}
	select { // the end of the connection may overtake that word in turn
	case <-c.Told():
	case <-ctx.Done():
	}
	ended := false
	if s.query(ctx, func() { ended = s.keepers[id] == nil }) == nil && ended {
		return nil
	}
	return err
}

// Detach takes a session from the terminal that shows it, and tells that why.
// It reports whether there was one.
func (s *Server) Detach(ctx context.Context, id alp.SessionID, why string) (was bool, err error) {
	c, gen, err := s.keeperOf(ctx, id)
	if err != nil || gen == 0 {
		return false, err
	}
	// The terminal first: it blanks by itself, and does not ask for the
	// session again when its media ends.
	if err := s.query(ctx, func() {
		for _, t := range s.terminals {
			if t.shown.session == id && t.shown.gen <= gen {
				s.takeAway(t, why, osdNoSession)
			}
		}
	}); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, KeeperWithin)
	defer cancel()
	if err := c.Detach(ctx, gen); err != nil {
		return false, fmt.Errorf("%w: %w", ErrKeeper, err)
	}
	return true, nil
}

// Message has the user of a session read something over the picture. It reports
// whether the session is shown anywhere.
func (s *Server) Message(ctx context.Context, id alp.SessionID, text string) (was bool, err error) {
	if _, _, err := s.keeperOf(ctx, id); err != nil {
		return false, err
	}
	err = s.query(ctx, func() {
		for _, t := range s.terminals {
			if t.shown.session == id && t.conn != nil {
				was = true
				s.tell(t, text, readFor)
			}
		}
	})
	return was, err
}

// audit notes what happened to a session or a token.
func (s *Server) audit(e audit.Entry) {
	if s.conf.Audit != nil {
		s.conf.Audit(e)
	}
}

// auditKeeper notes what happened to a session.
func (s *Server) auditKeeper(what string, k *keeper, terminal alp.TerminalID, text string) {
	row, _ := s.table.Get(k.id)
	e := audit.Entry{What: what, Who: row.User, Token: string(k.token), Session: string(k.id), Terminal: string(terminal), Text: text}
	if t := s.terminals[terminal]; t != nil && t.conn != nil {
		e.Addr = t.conn.addr.String()
	}
	s.audit(e)
}

// auditLogin notes who logged in, or wanted to, and from where.
func (s *Server) auditLogin(what string, v *visit, user string) {
	s.audit(audit.Entry{What: what, Who: user, Token: string(v.p.token), Terminal: string(v.p.t.id), Addr: v.addr.String()})
}
