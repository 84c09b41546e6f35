package keeper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// sharedMemory is where POSIX shared memory and semaphores are (shm_open(3)).
const sharedMemory = "/dev/shm"

// A space is what the programs of a session have to themselves, besides their
// directory and control group: System V and POSIX shared memory, semaphores and
// queues, which so end with them. It is made on the thread that starts them.
type space struct {
	base string   // of the frame buffers, which must stay to be seen
	net  *os.File // network namespace of the programs, nil: the keeper's own
}

// enter changes the calling thread. What a caller without the right to do so
// lacks is told in missing, and is no error.
func (s space) enter() (missing string, err error) {
	if s.net != nil {
		if err := unix.Setns(int(s.net.Fd()), unix.CLONE_NEWNET); err != nil {
			return "", fmt.Errorf("keeper: the host's network: %w", err)
		}
	}
	if err := unix.Unshare(unix.CLONE_NEWIPC); err != nil {
		return fmt.Sprintf("System V shared memory of its own (%v)", err), nil
	}
	if err := s.ownSharedMemory(); err != nil {
		return fmt.Sprintf("%s of its own (%v)", sharedMemory, err), nil
	}
	return "", nil
}

// ownSharedMemory lays an empty tmpfs over /dev/shm, for this thread's programs
// alone; all other mounts come and go as on the host.
func (s space) ownSharedMemory() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	var in, above unix.Stat_t
	if err := errors.Join(unix.Stat(sharedMemory, &in), unix.Stat(filepath.Dir(sharedMemory), &above)); err != nil {
		return err
	}
	if in.Dev == above.Dev {
		return errors.New("it is no mount of its own")
	}
	base, err := os.OpenFile(s.base, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer base.Close()
	// Private, so that what is laid over it does not show on the host.
	if err := unix.Mount("", sharedMemory, "", unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", sharedMemory, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
		return err
	}
	if !strings.HasPrefix(s.base, sharedMemory+"/") {
		return nil
	}
	if err := os.MkdirAll(s.base, 0o755); err != nil {
		return err
	}
	return unix.Mount(fmt.Sprintf("/proc/self/fd/%d", base.Fd()), s.base, "", unix.MS_BIND, "")
}
