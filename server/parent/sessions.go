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
	"path/filepath"
	"strings"
	"sync"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/cgroup"
	"hotdesk/server/session/client"
	"hotdesk/server/session/keeperapi"
	"hotdesk/server/session/sweep"

	"golang.org/x/sys/unix"
)

const (
	// maxBasePath bounds the content of a session's lock file, in bytes.
	maxBasePath = 4096
	// stopAtOnce is how many sessions are ended at the same time: hundreds at
	// once would all take longer than stopTime.
	stopAtOnce = 16
	// stopTime bounds the end of one session.
	stopTime = 20 * time.Second
	// lookAgain is how often the end of a session is looked for.
	lookAgain = 20 * time.Millisecond
	// discardTime bounds the end of what a dead keeper's session left running.
	discardTime = 2 * time.Second
	// sweepTime bounds the removal of the files that it left.
	sweepTime = 10 * time.Second
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

// readSome reads a small file of ours.
func readSome(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4*maxBasePath))
	return string(b), err
}

// sessions returns those that run, and removes what dead keepers left. No
// session may be starting meanwhile.
func (p *parent) sessions() ([]alp.SessionID, error) {
	p.removing.Lock()
	defer p.removing.Unlock()
	return sessions(p.Runtime, p.Log)
}

func sessions(runtime string, log *slog.Logger) ([]alp.SessionID, error) {
	ids, err := lockFiles(runtime)
	if err != nil {
		return nil, err
	}
	var running []alp.SessionID
	for _, id := range ids {
		lives, base, _ := alive(runtime, id)
		if lives {
			running = append(running, id)
			continue
		}
		log.Warn("a session's keeper is dead: its files are removed", "session", id)
		removeSession(log, runtime, id, base)
	}
	return running, nil
}

// removeSession removes the files of a session whose keeper is dead, and reports
// whether it came to the end of them. Where it did not, the lock file stays: who
// looks next for sessions goes on.
func removeSession(log *slog.Logger, runtime string, id alp.SessionID, base string) bool {
	if !id.Valid() {
		return true
	}
	if text, err := readSome(keeperapi.Groups(runtime, id)); err == nil { // before the files that they may hold open
		ctx, cancel := context.WithTimeout(context.Background(), discardTime)
		defer cancel()
		_ = cgroup.Discard(ctx, string(id), strings.Split(text, "\n"))
	}
	ctx, cancel := context.WithTimeout(context.Background(), sweepTime)
	defer cancel()
	return removeFiles(ctx, log, runtime, id, base)
}

// removeFiles removes them until ctx ends.
func removeFiles(ctx context.Context, log *slog.Logger, runtime string, id alp.SessionID, base string) bool {
	if base != "" {
		err := sweep.All(ctx, filepath.Join(base, string(id)))
		if err != nil && ctx.Err() != nil {
			log.Warn("a dead session has more files than could be removed in time: the rest goes when sessions are looked for again", "session", id, "error", err)
			return false
		}
		if err != nil {
			log.Warn("files of a dead session stay: remove them by hand", "session", id, "error", err)
		}
	}
	_ = os.RemoveAll(keeperapi.Dir(runtime, id))
	_ = os.Remove(keeperapi.Lock(runtime, id))
	return true
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
// ended; it returns when their processes are gone. No server should run.
func StopSessions(ctx context.Context, runtime string, log *slog.Logger) (int, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ids, err := sessions(runtime, log)
	if err != nil {
		return 0, err
	}
	errs := make([]error, len(ids))
	var stopping sync.WaitGroup
	turns := make(chan struct{}, stopAtOnce)
	for i, id := range ids {
		turns <- struct{}{}
		stopping.Go(func() {
			errs[i] = stopSession(ctx, runtime, id)
			<-turns
		})
	}
	stopping.Wait()
	n := 0
	for i, err := range errs {
		if err != nil {
			log.Error("session not stopped", "session", ids[i], "error", err)
			continue
		}
		n++
		log.Info("session stopped", "session", ids[i])
	}
	return n, errors.Join(errs...)
}

func stopSession(ctx context.Context, runtime string, id alp.SessionID) error {
	ctx, cancel := context.WithTimeout(ctx, stopTime)
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
		serving.Go(func() { _ = k.Serve(ctx) })
		defer k.Close()
		_ = k.Stop(ctx) // its success shows below
	}
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	for !tryLock(lock) {
		select {
		case <-look.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("parent: session %s does not end", id), err)
		}
	}
	return nil
}

// deaf ignores a keeper's events.
type deaf struct{}

func (deaf) Attached(client.Change)       {}
func (deaf) Detached(client.Change)       {}
func (deaf) MediaRestarted(client.Change) {}
func (deaf) Quiet(client.Change, bool)    {}
func (deaf) Ended(client.Ended)           {}
