package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/rpc"
	"hotdesk/server/session/client"
	"hotdesk/server/session/keeperapi"
	"hotdesk/server/session/mediaapi"
	"hotdesk/server/session/services"
)

const (
	// ReadyTime bounds the start of a media process.
	ReadyTime = 10 * time.Second
	// backoffFirst and backoffMost are the pauses before media is started
	// again, doubled each time; the first restart has none. A media that ran
	// for healthyAfter starts the count anew.
	backoffFirst = 100 * time.Millisecond
	backoffMost  = 2 * time.Second // less than a gateway waits for an attach
	healthyAfter = 2 * time.Second
	// offerTime bounds the wait for a ticket of a media that runs: one that hangs,
	// or was stopped by a program of its user's, is ended, and the next one asked.
	offerTime = 4 * time.Second
	// detachTime bounds the wait for media to end an attachment.
	detachTime = 2 * time.Second
)

// desktop is what a core needs of the X session.
type desktop interface {
	Display() string
	Done() <-chan struct{}
	Reason() string
}

// media is one run of a media process.
type media struct {
	control net.Conn
	pid     int
	done    <-chan struct{} // closed when the process has ended
	kill    func()
}

// coreConfig is a session without its processes.
type coreConfig struct {
	start      status
	desktop    desktop
	setup      mediaapi.Setup
	startMedia func() (media, error)
	connection func(alp.TerminalID)     // told who shows the session, "" if nobody; does not wait
	services   func() []services.Report // nil: none
	log        *slog.Logger
}

// status is the part of client.Status that never changes.
type status struct {
	session alp.SessionID
	token   alp.Token
	user    string
	started time.Time
	x       int
}

// core keeps the session's state: who is attached, which numbers were given
// out, which media answers. mu guards all that follows it.
type core struct {
	coreConfig

	mu       sync.Mutex
	gen      uint64 // highest number given out
	offered  map[uint64]offered
	terminal alp.TerminalID
	attached uint64 // number of what is attached, while terminal is set
	last     time.Time
	locked   bool          // by the gateway, which may not live as long
	locks    int           // how often it was
	word     int64         // when the gateway said the last of it
	quiet    bool          // nothing has been typed there for its time
	moved    time.Time     // when what is attached came, or stirred
	pid      int           // of media
	media    *rpc.Conn     // answering offers, or nil
	mediaErr error         // why there is none
	changed  chan struct{} // closed and replaced when media does
	watchers map[*watcher]struct{}
	over     bool
	reason   string // first reason to end

	stop chan struct{} // closed when over is set
}

// offered is for whom a number was given out. Media runs as the session's user,
// whose programs may have taken it over: it is not believed that any other
// terminal has come or gone, or the same one twice.
type offered struct {
	terminal alp.TerminalID
	came     bool
	locks    int           // how often the session had been locked when it was asked for
	quiet    time.Duration // that is to be told of; 0: none
}

// maxOffered bounds the numbers that are remembered; what is attached is always
// among them.
const maxOffered = 64

// offer gives out the next number. mu is held.
func (c *core) offer(a client.Attach, locks int) uint64 {
	c.gen++
	c.offered[c.gen] = offered{terminal: a.Terminal, locks: locks, quiet: time.Duration(a.Quiet) * time.Millisecond}
	for gen := range c.offered {
		if gen+maxOffered <= c.gen && gen != c.attached {
			delete(c.offered, gen)
		}
	}
	return c.gen
}

func newCore(cfg coreConfig) *core {
	return &core{
		coreConfig: cfg,
		offered:    map[uint64]offered{},
		changed:    make(chan struct{}),
		watchers:   map[*watcher]struct{}{},
		stop:       make(chan struct{}),
	}
}

// run keeps media running until the session is over, whose reason it returns;
// watchers have been told by then, and media has ended.
func (c *core) run(ctx context.Context) string {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() { c.runMedia(ctx) })
	select {
	case <-c.desktop.Done():
		c.end(c.desktop.Reason())
	case <-c.stop:
	case <-ctx.Done():
		c.end("Your session was ended: the host is being stopped.")
	}
	cancel()
	running.Wait()
	return c.reason
}

// end tells the watchers and makes run return. The first reason counts.
func (c *core) end(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	c.over, c.reason = true, reason
	c.tell(client.EventEnded, client.Ended{Reason: reason})
	close(c.stop)
}

func (c *core) runMedia(ctx context.Context) {
	pause := time.Duration(0)
	for ctx.Err() == nil {
		began := time.Now()
		err := c.oneMedia(ctx)
		select {
		case <-c.desktop.Done(): // media fell over with its X server
			return
		case <-ctx.Done():
			return
		default:
		}
		if time.Since(began) > healthyAfter {
			pause = 0
		}
		c.log.Error("media ended and is started again", "session", c.start.session, "error", err, "after", pause)
		c.mediaGone(err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(max(2*pause, backoffFirst), backoffMost)
	}
}

// oneMedia runs one media process from its start to its end.
func (c *core) oneMedia(ctx context.Context) error {
	m, err := c.startMedia()
	if err != nil {
		return err
	}
	conn := rpc.New(m.control, c.fromMedia)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := conn.Serve(context.Background()); err != nil {
			c.log.Error("media said what it must not", "session", c.start.session, "error", err)
		}
	})
	defer func() {
		conn.Close() // ends a media that lives
		serving.Wait()
		select {
		case <-m.done:
		case <-time.After(keeperapi.EndMedia):
			m.kill()
			<-m.done
		}
	}()
	setupCtx, cancel := context.WithTimeout(ctx, ReadyTime)
	defer cancel()
	if err := conn.Call(setupCtx, mediaapi.OpSetup, c.setup, &mediaapi.Ready{}); err != nil {
		return fmt.Errorf("keeper: media's setup: %w", err)
	}
	c.mu.Lock()
	c.media, c.pid, c.mediaErr = conn, m.pid, nil
	c.announce()
	c.mu.Unlock()
	select {
	case <-conn.Done():
	case <-m.done:
	case <-ctx.Done():
	}
	return errors.New("keeper: media stopped")
}

// announce wakes whoever waits for media. mu is held.
func (c *core) announce() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *core) mediaGone(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ran := c.media != nil
	c.media, c.pid, c.mediaErr = nil, 0, err
	c.shownAt("")
	if ran {
		c.tell(client.EventMedia, client.Change{Gen: c.gen, Reason: "media was restarted"})
	}
}

// fromMedia handles media's events.
func (c *core) fromMedia(_ context.Context, op string, body json.RawMessage) (any, error) {
	switch op {
	case mediaapi.EventAttached, mediaapi.EventDetached, mediaapi.EventQuiet, mediaapi.EventStirred:
	default:
		return nil, fmt.Errorf("keeper: unknown request %.40q", op)
	}
	var change client.Change
	if err := rpc.Decode(body, &change); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if op == mediaapi.EventQuiet || op == mediaapi.EventStirred {
		return nil, c.hush(change, op == mediaapi.EventQuiet)
	}
	was, ok := c.offered[change.Gen]
	if !ok || change.Terminal != was.terminal || was.came == (op == mediaapi.EventAttached) {
		return nil, fmt.Errorf("keeper: no such attachment: %d", change.Gen)
	}
	if was.came {
		delete(c.offered, change.Gen)
	} else {
		was.came = true
		c.offered[change.Gen] = was
	}
	c.last = time.Now()
	switch {
	case op == mediaapi.EventAttached:
		c.attached = change.Gen
		if was.locks == c.locks { // a gateway offered it to whoever may see it
			c.locked = false
		}
		c.shownAt(change.Terminal)
		c.tell(client.EventAttached, change)
	case change.Gen == c.attached:
		c.shownAt("")
		fallthrough
	default:
		c.tell(client.EventDetached, change)
	}
	return nil, nil
}

// hush is word of quiet, or of its end, which come in turns and take their time.
// mu is held.
func (c *core) hush(change client.Change, quiet bool) error {
	was, now := c.offered[change.Gen], time.Now()
	if !was.came || change.Gen != c.attached || change.Terminal != c.terminal || quiet == c.quiet ||
		was.quiet == 0 || quiet && now.Sub(c.moved) < was.quiet/2 {
		return fmt.Errorf("keeper: attachment %d is not quiet, or not any more", change.Gen)
	}
	c.quiet, c.moved = quiet, now
	op := client.EventStirred
	if quiet {
		op = client.EventQuiet
	}
	c.tell(op, client.Change{Terminal: change.Terminal, Gen: change.Gen})
	return nil
}

// handle answers a gateway's requests.
func (c *core) handle(ctx context.Context, op string, body json.RawMessage) (any, error) {
	switch op {
	case client.OpStatus:
		return c.status(), nil
	case client.OpAttach:
		var a client.Attach
		if err := rpc.Decode(body, &a); err != nil {
			return nil, err
		}
		c.mu.Lock()
		locks := c.locks
		c.mu.Unlock()
		return rpc.Later(func() (any, error) { return c.attach(ctx, a, locks) }), nil
	case client.OpDetach:
		var d client.Detach
		if err := rpc.Decode(body, &d); err != nil {
			return nil, err
		}
		return nil, c.detach(ctx, d)
	case client.OpStop:
		c.end("Your session was ended.")
		return nil, nil
	case client.OpLock, client.OpUnlock:
		var w client.Word
		if err := rpc.Decode(body, &w); err != nil {
			return nil, err
		}
		c.lock(op == client.OpLock, w.At)
		return nil, nil
	}
	return nil, fmt.Errorf("keeper: unknown request %.40q", op)
}

// lock takes in a gateway's word, unless it has been overtaken by a later one.
func (c *core) lock(locked bool, at int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at != 0 && at < c.word {
		return
	}
	c.locked, c.word = locked, max(c.word, at)
	if locked {
		c.locks++
	}
}

func (c *core) status() client.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := client.Status{
		Session:  c.start.session,
		Token:    c.start.token,
		User:     c.start.user,
		Started:  c.start.started.UnixMilli(),
		Terminal: c.terminal,
		Gen:      c.gen,
		Display:  c.desktop.Display(),
		Media:    c.pid,
		X:        c.start.x,
		Locked:   c.locked,
	}
	if c.terminal != "" {
		s.Gen, s.Quiet = c.attached, c.quiet
	}
	if c.coreConfig.services != nil {
		s.Services = c.coreConfig.services()
	}
	if !c.last.IsZero() {
		s.Last = time.Now().Add(-time.Since(c.last)).UnixMilli() // by the clock as it is now set
	}
	return s
}

// attach gets a ticket from media, when that is ready; locks is how often the session
// had been locked when it was asked for.
func (c *core) attach(ctx context.Context, a client.Attach, locks int) (client.Offer, error) {
	if !a.Terminal.Valid() || !a.Addr.IsValid() {
		return client.Offer{}, errors.New("keeper: an attach names its terminal and its address")
	}
	if a.Quiet != 0 && (a.Quiet < client.MinQuiet || a.Quiet > client.MaxQuiet) {
		return client.Offer{}, fmt.Errorf("keeper: an attach that is quiet after %d ms", a.Quiet)
	}
	ctx, cancel := context.WithTimeout(ctx, client.MostWait)
	defer cancel()
	for {
		conn, err := c.awaitMedia(ctx)
		if err != nil {
			return client.Offer{}, err
		}
		c.mu.Lock()
		offer := mediaapi.Offer{Attach: a, Gen: c.offer(a, locks)}
		c.mu.Unlock()
		var out client.Offer
		offering, done := context.WithTimeout(ctx, offerTime)
		err = conn.Call(offering, mediaapi.OpOffer, offer, &out)
		done()
		var refused rpc.RemoteError
		switch {
		case err == nil:
			out.Gen = offer.Gen
			return out, nil
		case errors.As(err, &refused) || ctx.Err() != nil:
			return client.Offer{}, fmt.Errorf("keeper: media made no ticket: %w", err)
		}
		c.forget(conn) // it died under the call, or hangs: ask its successor
	}
}

// forget makes awaitMedia wait for the successor of conn.
func (c *core) forget(conn *rpc.Conn) {
	conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.media == conn {
		c.media = nil
		c.tell(client.EventMedia, client.Change{Gen: c.gen, Reason: "media was restarted"})
		c.shownAt("")
	}
}

// shownAt notes which terminal shows the session, "" for none. mu is held.
func (c *core) shownAt(terminal alp.TerminalID) {
	c.terminal, c.quiet, c.moved = terminal, false, time.Now()
	if c.connection != nil {
		c.connection(terminal)
	}
}

func (c *core) awaitMedia(ctx context.Context) (*rpc.Conn, error) {
	for {
		c.mu.Lock()
		conn, changed, why := c.media, c.changed, c.mediaErr
		c.mu.Unlock()
		if conn != nil {
			return conn, nil
		}
		select {
		case <-changed:
		case <-c.stop:
			return nil, errors.New("keeper: the session is over")
		case <-ctx.Done():
			if why == nil {
				why = ctx.Err()
			}
			return nil, fmt.Errorf("keeper: media is not ready: %w", why)
		}
	}
}

// detach waits until media has ended the attachment, or is ended itself. Where
// media is not running there is nothing to end.
func (c *core) detach(ctx context.Context, d client.Detach) error {
	c.mu.Lock()
	conn := c.media
	c.mu.Unlock()
	if conn == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, detachTime)
	defer cancel()
	err := conn.Call(ctx, mediaapi.OpDetach, d, nil)
	if conn.Err() != nil {
		return nil // a dead media shows nothing
	}
	if errors.Is(err, context.DeadlineExceeded) {
		c.forget(conn) // and one that hangs is ended
		return nil
	}
	if err != nil {
		return fmt.Errorf("keeper: detach: %w", err)
	}
	return nil
}
