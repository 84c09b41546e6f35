package xsession

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Bounds of a skeleton: a home is in memory, as all of a session's directory.
const (
	maxSkeletonFiles = 10_000
	maxSkeletonBytes = 256 << 20
)

// tmp is where a kiosk's programs put their temporary files.
func (s *Session) tmp() string { return filepath.Join(s.dir, "tmp") }

// makeHome makes the home of a kiosk, a copy of its skeleton. It lies in the
// session's directory, and goes with it whoever removes that.
func (s *Session) makeHome() error {
	u := s.cfg.User
	for _, dir := range []string{s.tmp(), u.Home} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		if err := u.own(dir); err != nil {
			return err
		}
	}
	if s.cfg.Kiosk.Skeleton == "" {
		return nil
	}
	// What is below it, and nothing that a link in it leads to.
	root, err := os.OpenRoot(s.cfg.Kiosk.Skeleton)
	if err != nil {
		return err
	}
	defer root.Close()
	files, left := 0, int64(maxSkeletonBytes)
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if files++; files > maxSkeletonFiles {
			return fmt.Errorf("more than %d files in %s", maxSkeletonFiles, root.Name())
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		to := filepath.Join(u.Home, name)
		switch {
		case d.IsDir():
			err = os.Mkdir(to, info.Mode().Perm()|0o700)
		case d.Type() == fs.ModeSymlink: // as it is
			var at string
			if at, err = root.Readlink(name); err == nil {
				err = os.Symlink(at, to)
			}
		case d.Type().IsRegular():
			var n int64
			n, err = copyFile(root, name, to, info.Mode().Perm(), left)
			if left -= n; err == nil && left < 0 {
				err = fmt.Errorf("more than %d bytes in %s", maxSkeletonBytes, root.Name())
			}
		default: // a socket or a device is no part of a home
			return nil
		}
		if err != nil {
			return err
		}
		return u.own(to)
	})
}

// copyFile copies a file, and of one that is longer than most no more than a
// byte above that.
func copyFile(root *os.Root, name, to string, mode fs.FileMode, most int64) (n int64, err error) {
	in, err := root.Open(name)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(out, io.LimitReader(in, most+1))
	if e := out.Close(); err == nil {
		err = e
	}
	return n, err
}
