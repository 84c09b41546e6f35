package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// broadcast lets a socket send to everybody.
func broadcast(_, _ string, c syscall.RawConn) error {
	var err error
	return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1) }), err)
}

// nobody is a user of this machine who has no part in Hotdesk.
const nobody = 65534

// asNobody runs work on a thread of its own that has another user's rights:
// the kernel keeps them for each thread. The thread ends with it.
func asNobody(t *testing.T, work func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good
		for _, call := range [][4]uintptr{{unix.SYS_SETGROUPS}, {unix.SYS_SETRESGID, nobody, nobody, nobody}, {unix.SYS_SETRESUID, nobody, nobody, nobody}} {
			if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
				done <- fmt.Errorf("another user's rights: %w", errno)
				return
			}
		}
		work()
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// Another user of the same machine reads nothing, connects to nothing, sees no
// secret.
func TestAttackUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test takes another user's part: run it as root")
	}
	f := newFort(t)
	st, keeper, err := f.host.Keeper(f.ctx, f.before.Session)
	f.must(err)
	screens := filepath.Join("/dev/shm", filepath.Base(f.lab.Dir)+"-north")

	t.Run("files", func(t *testing.T) {
		f.must(os.Chmod(f.lab.Dir, 0o755)) // the test's own door
		shot := f.lab.Path("shot.png")
		f.ctl("screenshot", shot)
		walk := func(allowed ...string) {
			t.Helper()
			asNobody(t, func() {
				for _, root := range []string{f.host.Runtime, f.lab.Path("state"), screens, shot, f.good.Socket()} {
					for _, path := range everything(root) {
						if what := reach(path); what != "" && !fits(allowed, filepath.Base(path)) {
							t.Errorf("another user can %s %s", what, path)
						}
					}
				}
			})
		}
		walk()
		// Even where the folders stood open: what is public is public, the rest
		// has locks of its own.
		f.must(os.Chmod(f.host.Runtime, 0o755))
		f.must(os.Chmod(f.lab.Path("state"), 0o755))
		walk("north", "state", "*.pem")
	})

	t.Run("X server", func(t *testing.T) {
		number := strings.TrimPrefix(st.Display, ":")
		for _, addr := range []string{"/tmp/.X11-unix/X" + number, "@/tmp/.X11-unix/X" + number} {
			for name, auth := range map[string][2]string{"no cookie": {}, "a wrong one": {"MIT-MAGIC-COOKIE-1", "0123456789abcdef"}} {
				asNobody(t, func() {
					if err := openDisplay(addr, auth[0], auth[1]); err != nil {
						t.Errorf("%s with %s: %v", addr, name, err)
					}
				})
			}
		}
		if c, err := net.Dial("tcp", "127.0.0.1:60"+fmt.Sprintf("%02s", number)); err == nil {
			c.Close()
			t.Error("the X server takes TCP")
		}
	})

	t.Run("processes", func(t *testing.T) {
		gateway, err := f.host.Gateway()
		f.must(err)
		pids := []int{st.Media, st.X, keeper, gateway, f.host.Server.PID(), f.host.GroupMgr.PID(), f.good.Proc.PID()}
		asNobody(t, func() {
			for _, pid := range pids {
				for _, name := range []string{"environ", "mem", "maps", "fd", "cwd", "root", "stack"} {
					path := fmt.Sprintf("/proc/%d/%s", pid, name)
					if what := reach(path); what != "" {
						t.Errorf("another user can %s %s", what, path)
					}
				}
			}
		})
		// What everybody, or at least the same user's programs, may read.
		secret := regexp.MustCompile(`[0-9a-fA-F]{32}|PRIVATE|MAGIC|3f63e2dd7c0543506ce318c677a5e456`)
		for _, pid := range pids {
			for _, name := range []string{"cmdline", "environ"} {
				b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
				f.must(err)
				if found := secret.FindString(strings.ReplaceAll(string(b), "\x00", "\n")); found != "" && !strings.Contains(os.Getenv("PATH")+strings.Join(os.Environ(), "\n"), found) {
					t.Errorf("%s of %d holds %q", name, pid, found)
				}
			}
		}
		// sha256=... is the authority's, for people to compare.
		if found := regexp.MustCompile(`(?i)ticket=[0-9a-f]{8,}|[^=][0-9a-f]{64}|PRIVATE KEY|3f63e2dd7c0543506ce318c677a5e456`).FindString(f.log()); found != "" {
			t.Errorf("the log holds %q", found)
		}
	})
	f.works()
	f.unharmed()
}

// everything lists root and all below it that the caller can see.
func everything(root string) []string {
	paths := []string{root}
	_ = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && path != root {
			paths = append(paths, path)
		}
		return nil
	})
	return paths
}

func fits(patterns []string, name string) bool {
	for _, p := range patterns {
		if ok, _ := filepath.Match(p, name); ok {
			return true
		}
	}
	return false
}

// reach says what the calling thread's user can do to a path, "" for nothing.
// It makes the system calls itself, so that they are this thread's.
func reach(path string) string {
	var st unix.Stat_t
	if unix.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			return "not even make a socket for"
		}
		defer unix.Close(fd)
		if unix.Connect(fd, &unix.SockaddrUnix{Name: path}) == nil {
			return "connect to"
		}
		return ""
	}
	if fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
		unix.Close(fd)
		return "read"
	}
	if fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
		unix.Close(fd)
		return "write"
	}
	return ""
}

// openDisplay fails if an X server lets the calling thread's user in. The
// answer to a setup that is refused begins with 0 (X11 protocol, section 8).
func openDisplay(addr, name, data string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: addr}); err != nil {
		return nil //nolint:nilerr // not even that
	}
	pad := func(s string) string { return s + strings.Repeat("\x00", (4-len(s)%4)%4) }
	setup := []byte{'l', 0, 11, 0, 0, 0, byte(len(name)), 0, byte(len(data)), 0, 0, 0}
	setup = append(setup, pad(name)+pad(data)...)
	if _, err := unix.Write(fd, setup); err != nil {
		return err
	}
	var b [1]byte
	if n, err := unix.Read(fd, b[:]); err != nil || n == 1 && b[0] != 0 {
		return fmt.Errorf("the X server answers %d, %v", b[0], err)
	}
	return nil
}
