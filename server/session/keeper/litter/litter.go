// Package litter removes what an account has left in directories that all
// accounts share.
//
// Source: openat(2), unlinkat(2), statx(2); hier(7) and the FHS for Shared.
//
// Invariants:
//  1. A name is followed nowhere: what was looked at is opened relative to an
//     open directory, never through a symbolic link, and is looked at again
//     once it is open.
//  2. Nothing goes but what is the account's, and what is below a directory of
//     the account: an account's directory must not stay because somebody else
//     put a file there.
//  3. Nothing on another file system is touched.
//  4. What could not be looked at or removed is an error, never passed over:
//     the account is not clean.
//
// The account must have no process any more. Others may run meanwhile: they can
// make a call fail, and lose nothing by it. Limits: maxDepth; time is bounded by
// the caller's context.
package litter

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
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

const (
	// maxDepth is how many directories are open at a time, and the shared one;
	// what lies deeper is moved up there, and removed after all else.
	maxDepth = 64
	// batch is how many names are read at a time.
	batch = 1024
	// maxPasses is how often a directory is emptied that others fill meanwhile.
	maxPasses = 4
)

// Remove removes what is an account's in the directories, and in those below
// them that everybody may write to.
func Remove(ctx context.Context, uid uint32, dirs ...string) error {
	var errs []error
	for _, dir := range dirs {
		f, err := os.Open(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue // a machine without it
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		w := walk{ctx: ctx, uid: uid, top: f}
		var st unix.Stat_t
		if err = unix.Fstat(fd(f), &st); err == nil {
			w.dev = st.Dev
			err = w.shared(f, 0)
		}
		if err == nil {
			err = w.removeLater()
		}
		f.Close()
		errs = append(errs, w.errs...)
		if err != nil {
			errs = append(errs, fmt.Errorf("litter: %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}

func fd(f *os.File) int { return int(f.Fd()) }

// A walk is one directory of those that are shared.
type walk struct {
	ctx   context.Context
	uid   uint32
	dev   uint64
	top   *os.File
	later []moved
	errs  []error
}

// A moved is a directory that was moved up to the top.
type moved struct {
	name string
	ino  uint64
	uid  uint32
}

// maxErrors bounds what is told of a walk.
const maxErrors = 4

func (w *walk) failed(err error) {
	if err != nil && len(w.errs) < maxErrors {
		w.errs = append(w.errs, err)
	}
}

// each calls f for the names in a directory, until one call says stop.
func (w *walk) each(dir *os.File, f func(name string) error) error {
	if _, err := dir.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for {
		names, err := dir.Readdirnames(batch)
		for _, name := range names {
			if err := w.ctx.Err(); err != nil {
				return err
			}
			if err := f(name); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// errExchanged is the error of a name that is another thing than it was.
var errExchanged = errors.New("it was exchanged")

// takenAway reports an error of open for a directory that its owner has just
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
	err = unix.Fstatat(fd(dir), name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	if err == unix.ENOENT {
		return st, false, nil
	}
	return st, err == nil, err
}

func isDir(st unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// open opens a directory that was looked at.
func open(dir *os.File, name string, st unix.Stat_t) (*os.File, error) {
	n, err := unix.Openat(fd(dir), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(n), name)
	var is unix.Stat_t
	if err = unix.Fstat(n, &is); err == nil && (is.Dev != st.Dev || is.Ino != st.Ino || is.Uid != st.Uid) {
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
	return w.each(dir, func(name string) error {
		st, ok, err := look(dir, name)
		switch {
		case err != nil && !othersMount(err):
			w.failed(fmt.Errorf("%s: %w", name, err))
		case err != nil || !ok:
		case st.Dev != w.dev:
		case st.Uid == w.uid:
			w.failed(w.remove(dir, name, st, depth))
		case isDir(st) && st.Mode&unix.S_IWOTH != 0 && depth < maxDepth:
			below, err := open(dir, name, st)
			if err != nil && takenAway(err) {
				return nil
			}
			if err != nil {
				w.failed(fmt.Errorf("%s: %w", name, err))
				return nil
			}
			defer below.Close()
			w.failed(w.shared(below, depth+1))
		}
		return nil
	})
}

// remove removes a name and, where it is a directory, all that is in it.
func (w *walk) remove(dir *os.File, name string, st unix.Stat_t, depth int) error {
	if !isDir(st) {
		return gone(name, unix.Unlinkat(fd(dir), name, 0))
	}
	if depth >= maxDepth {
		up := ".litter-" + rand.Text()
		if err := unix.Renameat(fd(dir), name, fd(w.top), up); err != nil {
			return gone(name, err)
		}
		w.later = append(w.later, moved{up, st.Ino, st.Uid}) // here, those above would stay open
		return nil
	}
	below, err := open(dir, name, st)
	if err != nil {
		return gone(name, err)
	}
	defer below.Close()
	for pass := 1; ; pass++ {
		err := w.each(below, func(name string) error {
			st, ok, err := look(below, name)
			switch {
			case err != nil:
				return fmt.Errorf("%s: %w", name, err)
			case !ok:
				return nil
			case st.Dev != w.dev:
				return fmt.Errorf("%s: something is mounted there", name)
			}
			return w.remove(below, name, st, depth+1)
		})
		if err != nil {
			return err
		}
		err = unix.Unlinkat(fd(dir), name, unix.AT_REMOVEDIR)
		if err != unix.ENOTEMPTY && err != unix.EEXIST || pass == maxPasses {
			return gone(name, err)
		}
	}
}

// removeLater removes what was moved up, with all that it moves up in turn.
func (w *walk) removeLater() error {
	for len(w.later) > 0 {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		m := w.later[len(w.later)-1]
		w.later = w.later[:len(w.later)-1]
		st := unix.Stat_t{Dev: w.dev, Ino: m.ino, Uid: m.uid, Mode: unix.S_IFDIR}
		w.failed(w.remove(w.top, m.name, st, 0))
	}
	return nil
}

// gone is the error of a removal: what is not there any more is removed.
func gone(name string, err error) error {
	if err == nil || err == unix.ENOENT {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}
