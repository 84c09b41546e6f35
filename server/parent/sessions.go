package parent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/client"
	"hotdesk/server/session/keeperapi"

	"golang.org/x/sys/unix"
)

const (
	// maxBasePath bounds the content of a session's lock file, in bytes.
	maxBasePath = 4096
	// stopAtOnce is how many sessions are ended at the same time: hundreds at
	// once would all take longer than one may.
	stopAtOnce = 16
	// lookAgain is how often the end of a session is looked for.
	lookAgain = 20 * time.Millisecond
)

func tryLock(f *os.File) bool { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil }

// claim makes a session's directory and its locked lock file, which names
// where the session's frame buffer will be and, on a second line, the account
// of a kiosk.
func claim(runtime string, id alp.SessionID, base, account string) (*os.File, error) {
	ids, err := lockFiles(runtime)
	if err != nil {
		return nil, err
	}
	if len(ids) >= MaxSessions {
		return nil, fmt.Errorf("parent: this host has %d sessions, and takes no more", len(ids))
	}
	lock, err := os.OpenFile(keeperapi.Lock(runtime, id), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("parent: session %s exists", id)
	}
	if err != nil {
		return nil, fmt.Errorf("parent: session %s: %w", id, err)
	}
	if !tryLock(lock) {
		os.Remove(lock.Name())
		lock.Close()
		return nil, fmt.Errorf("parent: session %s is taken", id)
	}
	_, err = lock.WriteString(base + "\n" + account)
	if err == nil {
		err = os.Mkdir(keeperapi.Dir(runtime, id), 0o700)
	}
	if err != nil {
		os.Remove(lock.Name())
		lock.Close()
		return nil, fmt.Errorf("parent: session %s: %w", id, err)
	}
	return lock, nil
}

// lockFiles returns the ids of all lock files.
func lockFiles(runtime string) ([]alp.SessionID, error) {
	entries, err := os.ReadDir(keeperapi.Sessions(runtime))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("parent: %w", err)
	}
	var ids []alp.SessionID
	for _, e := range entries {
		id, isLock := strings.CutSuffix(e.Name(), ".lock")
		if isLock && alp.SessionID(id).Valid() {
			ids = append(ids, alp.SessionID(id))
		}
	}
	return ids, nil
}

// alive reports whether a session's keeper lives, and what its lock file says.
// One whose lock cannot be looked at, for want of descriptors, is not taken for
// dead: what is dead is removed.
func alive(runtime string, id alp.SessionID) (lives bool, base, account string) {
	f, err := os.Open(keeperapi.Lock(runtime, id))
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist), "", ""
	}
	defer f.Close()
	lives = !tryLock(f)
	b, err := io.ReadAll(io.LimitReader(f, maxBasePath))
	if err != nil {
		return lives, "", ""
	}
	base, account, _ = strings.Cut(string(b), "\n")
	return lives, base, account
}

// sessions returns those that run, and those that do not any more and left
// something. No session may be starting meanwhile.
func sessions(runtime string) (running []alp.SessionID, dead map[alp.SessionID]string, err error) {
	ids, err := lockFiles(runtime)
	if err != nil {
		return nil, nil, err
	}
	dead = map[alp.SessionID]string{} // and where their frame buffers are
	for _, id := range ids {
		if lives, base, _ := alive(runtime, id); lives {
			running = append(running, id)
		} else {
			dead[id] = base
		}
	}
	return running, dead, nil
}

// sessions returns those that run, and has what the others left removed.
func (p *parent) sessions() ([]alp.SessionID, error) {
	running, dead, err := sessions(p.Runtime)
	for id, base := range dead {
		p.remains.add(id, base)
	}
	return running, err
}

// open connects to a keeper and checks that it is one.
func open(runtime string, id alp.SessionID) (*net.UnixConn, error) {
	if !id.Valid() {
		return nil, fmt.Errorf("parent: bad session id %.40q", string(id))
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: keeperapi.Socket(runtime, id), Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("parent: session %s does not answer: %w", id, err)
	}
	if err := keeperapi.CheckPeer(conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// StopSessions ends every session of a runtime directory and says how many it
// ended; it returns when their processes are gone, and with an error for each
// that has not ended in keeperapi.EndTime, or left something. No server should
// run.
func StopSessions(ctx context.Context, runtime string, log *slog.Logger) (int, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ids, dead, err := sessions(runtime)
	if err != nil {
		return 0, err
	}
	var errs []error
	for id, base := range dead {
		log.Warn("a session's keeper is dead: its files are removed", "session", id)
		errs = append(errs, removeSession(runtime, id, base))
	}
	stopped := make([]error, len(ids))
	var stopping sync.WaitGroup
	turns := make(chan struct{}, stopAtOnce)
	for i, id := range ids {
		turns <- struct{}{}
		stopping.Go(func() {
			stopped[i] = stopSession(ctx, runtime, id)
			<-turns
		})
	}
	stopping.Wait()
	n := 0
	for i, err := range stopped {
		if err != nil {
			log.Error("session not stopped", "session", ids[i], "error", err)
			continue
		}
		n++
		log.Info("session stopped", "session", ids[i])
	}
	return n, errors.Join(append(errs, stopped...)...)
}

func stopSession(ctx context.Context, runtime string, id alp.SessionID) error {
	within, cancel := context.WithTimeout(ctx, keeperapi.EndTime)
	defer cancel()
	// Held open: the keeper removes the file, but locks it until its process
	// has ended.
	lock, err := os.Open(keeperapi.Lock(runtime, id))
	if errors.Is(err, os.ErrNotExist) {
		return nil // it ended just now
	}
	if err != nil {
		return fmt.Errorf("parent: %w", err)
	}
	defer lock.Close()
	conn, err := open(runtime, id)
	if err == nil {
		k := client.New(conn, deaf{})
		var serving sync.WaitGroup
		defer serving.Wait()
		serving.Go(func() { _ = k.Serve(within) })
		defer k.Close()
		_ = k.Stop(within) // its success shows below
	}
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	for !tryLock(lock) {
		select {
		case <-look.C:
		case <-within.Done():
			why := fmt.Errorf("parent: session %s has not ended in %v, and goes on: stop the sessions again later; what its keeper is at is in %s/keeper.log", id, keeperapi.EndTime, keeperapi.Dir(runtime, id))
			if ctx.Err() != nil {
				why = fmt.Errorf("parent: the end of session %s was not waited for", id)
			}
			return errors.Join(why, err)
		}
	}
	if _, err := os.Lstat(lock.Name()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, base, _ := alive(runtime, id)
	return removeSession(runtime, id, base)
}

// deaf ignores a keeper's events.
type deaf struct{}

func (deaf) Attached(client.Change)       {}
func (deaf) Detached(client.Change)       {}
func (deaf) MediaRestarted(client.Change) {}
func (deaf) Quiet(client.Change, bool)    {}
func (deaf) Ended(client.Ended)           {}
