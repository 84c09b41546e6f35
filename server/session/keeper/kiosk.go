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

	"golang.org/x/sys/unix"
)

// shared are the directories where every account may leave files.
var shared = []string{"/tmp", "/var/tmp"}

// lookAgain is how often the end of killed processes is looked for.
const lookAgain = 10 * time.Millisecond

// forsake ends and removes what is left of a kiosk's account outside the
// session's own directory: by a keeper that was killed, or by programs that put
// files where they should not. The parent saw to it that the account is for
// kiosks alone, and has this one. Where it is the caller's own nothing is.
func (k *keeper) forsake(ctx context.Context) error {
	if k.Start.Kiosk == nil || k.user.UID == 0 || int(k.user.UID) == os.Geteuid() {
		return nil
	}
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	for killAll(k.user.UID) > 0 {
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("keeper: processes of %s do not end: %w", k.user.Name, ctx.Err())
		}
	}
	var errs []error
	for _, dir := range shared {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // a machine without it
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			var st unix.Stat_t
			if unix.Lstat(path, &st) == nil && st.Uid == k.user.UID {
				errs = append(errs, os.RemoveAll(path)) // it follows no links
			}
		}
	}
	return errors.Join(errs...)
}

// killAll kills the processes of a user and returns how many there were.
func killAll(uid uint32) (n int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || !runs(pid, uid) {
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
		if runs(pid, uid) { // the number is still that process's
			n++
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		unix.Close(fd)
	}
	return n
}

// runs reports whether a process is a user's, and not just a name that its
// parent has still to hear of.
func runs(pid int, uid uint32) bool {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return false
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
	return its && !dead
}
