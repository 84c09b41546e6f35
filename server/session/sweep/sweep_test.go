package sweep

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// chain makes folders in folders below dir, and a file in each.
func chain(t *testing.T, dir, name string, depth int) {
	t.Helper()
	at, err := open(unix.AT_FDCWD, dir, 0)
	for range depth {
		if err != nil {
			t.Fatal(err)
		}
		err = errors.Join(unix.Mkdirat(int(at.Fd()), name, 0o700), unix.Mknodat(int(at.Fd()), "file", unix.S_IFREG|0o600, 0))
		if err == nil {
			var below *os.File
			below, err = open(int(at.Fd()), name, 0)
			at.Close()
			at = below
		}
	}
	at.Close()
}

// However deep, wide and strangely named: all of it goes, with few descriptors,
// and nothing else.
func TestAll(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "left")
	for _, d := range []string{path, filepath.Join(path, "a", "b", "c"), filepath.Join(dir, "other", "full")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	outside := filepath.Join(dir, "other", "file")
	for _, file := range []string{outside, filepath.Join(path, "x\ny"), filepath.Join(path, "a", "b", strings.Repeat("n", 255)), filepath.Join(path, ".1"), filepath.Join(path, "a", ".2")} {
		if err := os.WriteFile(file, nil, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"up": "..", "there": filepath.Join(dir, "other"), "a/loop": "..", "a/b/file": outside} {
		if err := os.Symlink(to, filepath.Join(path, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(path, "a", "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 3 * atOnce {
		if err := os.Mkdir(filepath.Join(path, "a", fmt.Sprint(i)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	chain(t, path, "d", 600)
	chain(t, filepath.Join(path, "a"), ".3", 200) // the name that a folder gets which is moved

	var err error
	withFew(t, 40, func() { err = All(t.Context(), path) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
	for _, stays := range []string{outside, filepath.Join(dir, "other", "full")} {
		if _, err := os.Lstat(stays); err != nil {
			t.Error(err)
		}
	}
	for _, gone := range []string{path, filepath.Join(path, "below")} {
		if err := All(t.Context(), gone); err != nil {
			t.Errorf("%s is not there: %v", gone, err)
		}
	}
}

func TestLinks(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "full", "file"), filepath.Join(dir, "link")
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o700), os.WriteFile(file, nil, 0o600), os.Symlink("full", link)); err != nil {
		t.Fatal(err)
	}
	if err := All(t.Context(), link); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(file); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(link); err == nil {
		t.Error("the link is there")
	}
}

func TestStops(t *testing.T) {
	dir := t.TempDir()
	chain(t, dir, "d", 10)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := All(ctx, filepath.Join(dir, "d")); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "d")); err != nil {
		t.Error(err)
	}
}
