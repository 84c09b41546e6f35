package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"hotdesk/server/session/sweep"

	"golang.org/x/sys/unix"
)

// lookAgain is how often the end of killed processes is looked for.
const lookAgain = 10 * time.Millisecond

// forsake ends and removes what is left of a kiosk's account outside the
// session's own directory: by a keeper that was killed, or by programs that put
// files where they should not. The parent saw to it that the account is for
// kiosks alone, and has this one. Where it is the caller's own nothing is. With
// an error the account is not clean, and no session of it may begin; its parent
// still waits then, as it has no more time before a session than after it.
func (k *keeper) forsake(ctx context.Context) error {
	if k.Start.Kiosk == nil || k.user.UID == 0 || int(k.user.UID) == os.Geteuid() {
		return nil
	}
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	for {
		n, err := killAll(procfs, k.user.UID)
		if err != nil {
			return fmt.Errorf("keeper: processes of %s: %w", k.user.Name, err)
		}
		if n == 0 {
			break
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("keeper: processes of %s do not end: %w", k.user.Name, ctx.Err())
		}
	}
	if err := sweep.Of(ctx, k.user.UID, sweep.Shared...); err != nil {
		return fmt.Errorf("keeper: files of %s: %w", k.user.Name, err)
	}
	return nil
}

// noRights has the calling thread's programs get no rights by a file's mode: a
// kiosk's visitor leaves no job with cron or at, mounts nothing, and becomes
// nobody else.
func noRights() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keeper: no new rights for a kiosk: %w", err)
	}
	return nil
}

// procfs is where the system tells of processes.
const procfs = "/proc"

// killAll kills the processes of a user and returns how many there were; with an
// error there may be more.
func killAll(proc string, uid uint32) (n int, err error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		its, err := runs(proc, pid, uid)
		if err != nil {
			return n, err
		}
		if !its {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			n++
			continue
		}
		its, err = runs(proc, pid, uid)
		if err == nil && its { // the number is still that process's
			n++
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		unix.Close(fd)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// runs reports whether a process is a user's, and not just a name that its
// parent has still to hear of.
func runs(proc string, pid int, uid uint32) (bool, error) {
	text, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "status"))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return false, nil // it has ended
	}
	if err != nil {
		return false, err
	}
	its, dead := false, false
	for l := range strings.Lines(string(text)) {
		switch f := strings.Fields(l); {
		case len(f) > 1 && f[0] == "State:" && (f[1] == "Z" || f[1] == "X"):
			dead = true
		case len(f) > 1 && f[0] == "Threads:" && f[1] != "1":
			dead = false // its first thread has ended, others run
		case len(f) > 1 && f[0] == "Uid:":
			for _, id := range f[1:] {
				its = its || id == strconv.FormatUint(uint64(uid), 10)
			}
		}
	}
	return its && !dead, nil
}
