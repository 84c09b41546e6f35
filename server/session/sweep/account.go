package sweep

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Shared are the directories where every account may leave files. Those of jobs
// (cron, at) are here for what was left before such accounts were kept away from
// them. X11-unix and its like lie in /tmp.
var Shared = []string{
	"/tmp", "/var/tmp", "/dev/shm", "/run/lock", "/var/crash",
	"/var/spool/cron", "/var/spool/cron/crontabs", "/var/spool/cron/atjobs", "/var/spool/at",
}

// maxDepth is how deep other accounts' directories are looked into, each of which
// is open meanwhile.
const maxDepth = 64

// Of removes what is an account's in the directories, and in those below them
// that everybody may write to. The account must have no process any more. Others
// may run meanwhile: they can make a call fail, and lose nothing by it.
func Of(ctx context.Context, uid uint32, dirs ...string) error {
	var errs []error
	for _, dir := range dirs {
		if err := ofOne(ctx, uid, dir); err != nil {
			errs = append(errs, fmt.Errorf("sweep: %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}

func ofOne(ctx context.Context, uid uint32, dir string) error {
	f, err := os.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil // a machine without it
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	w := walk{ctx: ctx, uid: uid, dev: st.Dev}
	return w.shared(f, 0)
}

// A walk is one directory of those that are shared, and its file system.
type walk struct {
	ctx context.Context
	uid uint32
	dev uint64
}

// errExchanged is the error of a name that is another thing than it was.
var errExchanged = errors.New("it was exchanged")

// takenAway reports an error of reopen for a directory that its owner has just
// taken away, or put something else in its place.
func takenAway(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, errExchanged)
}

// othersMount reports an error of look for a mount of somebody else's, which may
// answer nobody but its owner: it is not the account's.
func othersMount(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOTCONN)
}

// look is what a name in a directory is; ok is false where it is gone.
func look(dir *os.File, name string) (st unix.Stat_t, ok bool, err error) {
	err = unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	if err == unix.ENOENT {
		return st, false, nil
	}
	return st, err == nil, err
}

func isDir(st unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// reopen opens a directory that was looked at.
func reopen(dir *os.File, name string, st unix.Stat_t) (*os.File, error) {
	f, err := open(int(dir.Fd()), name, unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	var is unix.Stat_t
	if err = unix.Fstat(int(f.Fd()), &is); err == nil && (is.Dev != st.Dev || is.Ino != st.Ino || is.Uid != st.Uid) {
		err = errExchanged
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// shared goes through a directory that others use too.
func (w *walk) shared(dir *os.File, depth int) error {
	_, err := each(w.ctx, dir, func(name string) (bool, error) {
		st, ok, err := look(dir, name)
		switch {
		case err != nil && !othersMount(err):
			return false, fmt.Errorf("%s: %w", name, err)
		case err != nil || !ok:
		case st.Dev != w.dev:
		case st.Uid == w.uid:
			if err := w.remove(dir, name, st); err != nil {
				return false, fmt.Errorf("%s: %w", name, err)
			}
		case isDir(st) && st.Mode&unix.S_IWOTH != 0 && depth < maxDepth:
			below, err := reopen(dir, name, st)
			if err != nil && takenAway(err) {
				return false, nil
			}
			if err != nil {
				return false, fmt.Errorf("%s: %w", name, err)
			}
			defer below.Close()
			return false, w.shared(below, depth+1)
		}
		return false, nil
	})
	return err
}

// remove removes what is the account's and, where it is a directory, all that is
// in it, whoever's it is: an account's directory must not stay because somebody
// else put a file there.
func (w *walk) remove(dir *os.File, name string, st unix.Stat_t) error {
	if !isDir(st) {
		return gone(unix.Unlinkat(int(dir.Fd()), name, 0))
	}
	top, err := reopen(dir, name, st)
	if err != nil {
		return gone(err)
	}
	defer top.Close()
	if err := empty(w.ctx, top); err != nil {
		return err
	}
	return gone(unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR))
}

// gone is the error of a removal: what is not there any more is removed.
func gone(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
