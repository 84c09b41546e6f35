package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// failPause is how long a message stays on the console before the machine
	// starts again.
	failPause = 10 * time.Second
	awaitTick = 20 * time.Millisecond
)

// First reports whether this process is the machine's first.
func First() bool { return os.Getpid() == 1 }

// Run is the life of a machine whose first process is a program: it makes the
// kernel's file systems and hardware ready, runs the program, and switches the
// machine off when that ends well. After an error it is started again, after
// a pause in which what out was told can be read. The program's arguments are
// the words after "--" on the kernel's command line: the others that the kernel
// does not know, which it hands over too, are not meant for the program. It
// does not return.
func Run(out io.Writer, program func(args []string) int) {
	if err := Prepare(); err != nil {
		fmt.Fprintln(out, err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGCHLD)
	go func() {
		for range signals {
			reap()
		}
	}()
	how := unix.LINUX_REBOOT_CMD_POWER_OFF
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		fmt.Fprintln(out, "boot:", err)
	}
	if code := program(arguments(string(line))); code != 0 {
		fmt.Fprintf(out, "boot: the program ended with %d; starting again in %v\n", code, failPause)
		time.Sleep(failPause)
		how = unix.LINUX_REBOOT_CMD_RESTART
	}
	unix.Sync()
	err = unix.Reboot(how)
	fmt.Fprintln(out, "boot: the machine stays on:", err)
	select {}
}

// arguments are the words of a kernel's command line that follow "--".
func arguments(line string) []string {
	words := strings.Fields(line)
	i := slices.Index(words, "--")
	if i < 0 {
		return nil
	}
	return words[i+1:]
}

// Prepare mounts, loads modules, and sets the clock and the hot keys of the
// kernel.
func Prepare() error {
	errs := []error{Mount()}
	_, err := LoadModules()
	errs = append(errs, err)
	// Ctrl+Alt+Delete is the session's; if no program takes the keyboard it ends
	// this one in order, and the machine with it.
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF); err != nil {
		errs = append(errs, fmt.Errorf("boot: Ctrl+Alt+Delete: %w", err))
	}
	return errors.Join(append(errs, setClock())...)
}

// setClock moves the clock forward to when the program was made, on a machine
// whose own clock has lost the time: no certificate of a server would be valid
// yet.
func setClock() error {
	info, err := os.Stat("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("boot: clock: %w", err)
	}
	made := info.ModTime()
	if !time.Now().Before(made) {
		return nil
	}
	tv := unix.NsecToTimeval(made.UnixNano())
	if err := unix.Settimeofday(&tv); err != nil {
		return fmt.Errorf("boot: clock: %w", err)
	}
	return nil
}

// reap takes the exit status of processes that have no other parent.
func reap() {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if pid <= 0 && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// Await waits until the files are there, as those of devices are some time
// after their module. It returns an error that names the first that is missing
// when ctx ends.
func Await(ctx context.Context, files ...string) error {
	tick := time.NewTicker(awaitTick)
	defer tick.Stop()
	for _, f := range files {
		for {
			if _, err := os.Stat(f); err == nil {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("boot: no %s: %w", f, ctx.Err())
			}
		}
	}
	return nil
}
