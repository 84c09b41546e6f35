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

// two are the account and somebody else; without root there is the caller
// alone, and what others do is not tested.
func two() (account, other uint32) {
	if os.Geteuid() == 0 {
		return 54321, 54322
	}
	return uint32(os.Geteuid()), uint32(os.Geteuid())
}

// A tree is a shared directory.
type tree struct {
	*testing.T
	dir string
}

func newTree(t *testing.T) tree {
	w := tree{t, t.TempDir()}
	if err := os.Chmod(w.dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w tree) path(name string) string { return filepath.Join(w.dir, name) }

// put makes a name somebody's: a directory where it ends in /, a link where it
// has an arrow.
func (w tree) put(uid uint32, mode os.FileMode, names ...string) {
	w.Helper()
	for _, name := range names {
		from, to, link := strings.Cut(name, " -> ")
		path := w.path(from)
		var err error
		switch {
		case link:
			err = os.Symlink(to, path)
		case strings.HasSuffix(name, "/"):
			err = os.Mkdir(path, 0o700)
		default:
			err = os.WriteFile(path, []byte(name), 0o600)
		}
		if err == nil && !link {
			err = os.Chmod(path, mode)
		}
		if err == nil && os.Geteuid() == 0 {
			err = os.Lchown(path, int(uid), int(uid))
		}
		if err != nil {
			w.Fatal(err)
		}
	}
}

func (w tree) want(left ...string) {
	w.Helper()
	var got []string
	err := filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if path != w.dir && err == nil {
			got = append(got, strings.TrimPrefix(path, w.dir+"/"))
		}
		return err
	})
	if err != nil || strings.Join(got, " ") != strings.Join(left, " ") {
		w.Errorf("left: %s (%v), want %s", got, err, left)
	}
}

// Invariants 1 and 2: what is the account's goes, whatever kind it is and
// wherever its links lead.
func TestOf(t *testing.T) {
	account, other := two()
	kept := newTree(t)
	kept.put(other, 0o600, "precious")
	w := newTree(t)
	w.put(account, 0o600, "file", "deep/", "deep/er/", "deep/er/file", "link -> "+kept.dir, "deep/link -> "+kept.path("precious"), "dangling -> nowhere")
	if err := unix.Mkfifo(w.path("deep/pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		w.put(other, 0o1777, "sockets/")
		w.put(account, 0o600, "sockets/X1")
		w.put(other, 0o600, "sockets/X2", "deep/foreign")
		w.put(other, 0o755, "home/", "deep/hers/")
		w.put(other, 0o600, "deep/hers/file", "home/file")
		w.put(account, 0o600, "home/out-of-reach")
	}
	if err := Of(t.Context(), account, w.dir, w.path("nosuch")); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		w.want("home", "home/file", "home/out-of-reach", "sockets", "sockets/X2")
	} else {
		w.want()
	}
	kept.want("precious")
}

// withFew runs f where few descriptors may be open.
func withFew(t *testing.T, n uint64, f func()) {
	t.Helper()
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	few := was
	few.Cur = n
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	f()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
}

// A visitor may nest directories deeper than there are descriptors.
func TestOfDeep(t *testing.T) {
	account, _ := two()
	w := newTree(t)
	at, err := unix.Open(w.dir, unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 400 {
		if err := unix.Mkdirat(at, "d", 0o700); err != nil {
			t.Fatal(err)
		}
		if os.Geteuid() == 0 {
			if err := unix.Fchownat(at, "d", int(account), int(account), 0); err != nil {
				t.Fatal(err)
			}
		}
		below, err := unix.Openat(at, "d", unix.O_DIRECTORY, 0)
		unix.Close(at)
		if at = below; err != nil {
			t.Fatal(err)
		}
	}
	unix.Close(at)
	withFew(t, 100, func() { err = Of(t.Context(), account, w.dir) })
	if err != nil {
		t.Fatal(err)
	}
	w.want()
}

// Invariant 4: a directory of others that could not be opened may hold what is
// the account's.
func TestUnopened(t *testing.T) {
	const nobodyHere = 54321
	_, other := two()
	w := newTree(t)
	var path strings.Builder
	for range maxDepth - 4 {
		path.WriteString("d/")
		w.put(other, 0o777, path.String())
	}
	var err error
	withFew(t, 40, func() { err = Of(t.Context(), nobodyHere, w.dir) })
	if !errors.Is(err, unix.EMFILE) {
		t.Errorf("out of descriptors: %v", err)
	}
	if err := Of(t.Context(), nobodyHere, w.dir); err != nil {
		t.Error(err)
	}
}

// Only what others do to their own is passed over.
func TestPassedOver(t *testing.T) {
	for err, want := range map[error]struct{ open, look bool }{
		unix.ENOENT:   {open: true},
		unix.ENOTDIR:  {open: true},
		unix.ELOOP:    {open: true},
		errExchanged:  {open: true},
		unix.EACCES:   {look: true},
		unix.ENOTCONN: {look: true},
		unix.EMFILE:   {},
		unix.ENFILE:   {},
		unix.ENOMEM:   {},
		unix.EIO:      {},
	} {
		if open, look := takenAway(err), othersMount(err); open != want.open || look != want.look {
			t.Errorf("%v: open %t, look %t, want %+v", err, open, look, want)
		}
	}
}

// Invariant 4: what took too long was not removed, and is told.
func TestTooLate(t *testing.T) {
	account, _ := two()
	w := newTree(t)
	w.put(account, 0o600, "file")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Of(ctx, account, w.dir); err == nil {
		t.Error("no error")
	}
	w.want("file")
}

// Invariant 1: a directory that somebody exchanges for a link while it is looked
// at leads nowhere.
func TestExchanged(t *testing.T) {
	_, other := two()
	kept := newTree(t)
	kept.put(other, 0o600, "precious")
	w := newTree(t)
	w.put(other, 0o777, "dir/")
	top, err := os.Open(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer top.Close()
	st, ok, err := look(top, "dir")
	if err != nil || !ok {
		t.Fatal(err)
	}
	for what, exchange := range map[string]func() error{
		"a link":    func() error { return os.Symlink(kept.dir, w.path("dir")) },
		"another":   func() error { return os.Mkdir(w.path("dir"), 0o777) },
		"a pipe":    func() error { return unix.Mkfifo(w.path("dir"), 0o666) },
		"of others": func() error { return os.Rename(kept.dir, w.path("dir")) },
	} {
		// Moved, not removed: its number may not come again.
		if err := os.Rename(w.path("dir"), w.path(fmt.Sprintf("was-before-%s", what))); err != nil {
			t.Fatal(err)
		}
		if err := exchange(); err != nil {
			t.Fatal(err)
		}
		if f, err := reopen(top, "dir", st); err == nil {
			f.Close()
			t.Errorf("%s was opened", what)
		} else if !takenAway(err) {
			t.Errorf("%s: %v", what, err)
		}
		if what == "of others" {
			if err := os.Rename(w.path("dir"), kept.dir); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(w.path("dir"), 0o777); err != nil {
				t.Fatal(err)
			}
		}
	}
	kept.want("precious")
}
