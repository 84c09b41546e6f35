// Package sweep removes what the programs of a session have left, whatever they
// made of it: All a folder of theirs, Of what an account has left in directories
// that all accounts share, Socket one that a dead program listened to.
//
// Source: openat(2), unlinkat(2), rename(2); hier(7) and the FHS for Shared.
// os.RemoveAll takes a descriptor for each level: of a program that makes folders
// in folders, some ten thousand deep, the files would stay, in the memory of the
// host.
//
// Invariants:
//  1. No link is followed: what is opened is opened relative to an open folder,
//     and in a shared directory is looked at again once it is open.
//  2. Nothing goes from a shared directory but what is the account's, and what
//     is below a folder of the account.
//  3. Nothing on another file system is touched: what is mounted stays, which is
//     an error.
//  4. What could not be looked at or removed is an error, never passed over, and
//     does not keep the rest.
//  5. Of a folder's depth three descriptors are open at most.
//
// Both are safe for concurrent use, of different paths. Time is bounded by the
// caller's context. Limits: maxDepth.
package sweep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// atOnce is how many names are read before they are removed.
const atOnce = 1024

// All removes path and all below it; that there is none is no error.
func All(ctx context.Context, path string) error {
	above, err := open(unix.AT_FDCWD, filepath.Dir(path), 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep: %s: %w", filepath.Dir(path), err)
	}
	defer above.Close()
	name := filepath.Base(path)
	full, err := remove(above, name)
	if full {
		err = emptied(ctx, above, name)
	}
	if err != nil {
		return fmt.Errorf("sweep: %s: %w", path, err)
	}
	return nil
}

// errFull is the error of a folder that somebody fills as it is emptied.
var errFull = errors.New("it is not empty for long enough")

// emptied removes a folder with what is in it.
func emptied(ctx context.Context, above *os.File, name string) error {
	top, err := open(int(above.Fd()), name, unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer top.Close()
	stays := empty(ctx, top)
	full, err := remove(above, name)
	if full && stays == nil {
		stays = errFull
	}
	return errors.Join(stays, err)
}

// empty removes what is in a folder. Folders in its folders it moves up, to
// where it sees them: however deep they lie, each is moved once.
func empty(ctx context.Context, top *os.File) error {
	moved := 0
	for {
		done, stays := each(ctx, top, func(n string) (bool, error) {
			full, err := remove(top, n)
			if !full {
				return err == nil, err
			}
			return flatten(ctx, top, n, &moved)
		})
		if done == 0 {
			return stays
		}
	}
}

// flatten removes a folder of top's, as far as its own folders can be moved to
// top. It reports whether it did anything.
func flatten(ctx context.Context, top *os.File, name string, moved *int) (bool, error) {
	sub, err := open(int(top.Fd()), name, unix.O_NOFOLLOW)
	if err != nil {
		return false, err
	}
	defer sub.Close()
	done, stays := each(ctx, sub, func(n string) (bool, error) {
		full, err := remove(sub, n)
		for full { // a name that is there already is not taken
			*moved++
			err = unix.Renameat(int(sub.Fd()), n, int(top.Fd()), "."+strconv.Itoa(*moved))
			full = errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.ENOTDIR)
		}
		return err == nil, err
	})
	full, err := remove(top, name)
	return done > 0 || !full && err == nil, errors.Join(stays, err)
}

// each calls f for every name in a folder, and counts those that it is done
// with. It returns the first error: there may be very many.
func each(ctx context.Context, dir *os.File, f func(string) (bool, error)) (done int, first error) {
	if _, err := dir.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	for {
		names, err := dir.Readdirnames(atOnce)
		for _, n := range names {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			ok, err := f(n)
			if ok {
				done++
			}
			if first == nil {
				first = err
			}
		}
		if err == io.EOF {
			return done, first
		}
		if err != nil {
			return done, errors.Join(first, err)
		}
	}
}

// remove removes a file or an empty folder, and reports a folder that is full.
func remove(dir *os.File, name string) (full bool, err error) {
	err = unix.Unlinkat(int(dir.Fd()), name, 0)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
		err = unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR)
	}
	switch {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST):
		return true, nil
	}
	return false, err
}

func open(at int, path string, flags int) (*os.File, error) {
	for {
		fd, err := unix.Openat(at, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|flags, 0)
		if err == nil {
			return os.NewFile(uintptr(fd), path), nil
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, err
		}
	}
}
