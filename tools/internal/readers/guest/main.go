//go:build linux

// Command guest is process 1 of the machine in the tests of package readers,
// and, started again by itself, the tests that run there: the conformance suite
// and what only hardware does. With the build tag usb they run through libusb,
// otherwise through usbfs.
//
// The environment says what to do: READERS=usbfs,libusb (from the kernel's
// command line) are the programs to run, in this order, and RUN_usbfs=PATTERN
// which tests of one.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"hotdesk/dtu/boot"
)

func main() {
	if os.Getpid() != 1 {
		hands = open()
		name := os.Args[0]
		os.Args = []string{name, "-test.v", "-test.timeout=170s"}
		if run := os.Getenv("RUN_" + filepath.Base(name)); run != "" {
			os.Args = append(os.Args, "-test.run="+run)
		}
		testing.Main(regexp.MatchString, tests(), nil, nil)
		return
	}
	fmt.Println("guest: mount", boot.Mount())
	n, err := boot.LoadModules()
	fmt.Println("guest: modules", n, err)
	for name := range strings.SplitSeq(os.Getenv("READERS"), ",") {
		cmd := exec.Command("/" + name)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			fmt.Printf("guest: %s failed: %v\n", name, err)
		} else {
			fmt.Printf("guest: %s passed\n", name)
		}
	}
	fmt.Println("guest: done")
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("guest:", err)
	}
	select {}
}

// line is the second serial line: a word for the hands outside, and their answer.
type line struct {
	mu sync.Mutex
	w  io.Writer
	r  *bufio.Reader
}

var hands *line

func open() *line {
	f, err := os.OpenFile("/dev/ttyS1", os.O_RDWR|unix.O_NOCTTY, 0)
	if err == nil {
		var t *unix.Termios
		if t, err = unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			t.Lflag &^= unix.ECHO
			err = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t)
		}
	}
	if err != nil {
		fmt.Println("guest:", err)
		os.Exit(1)
	}
	return &line{w: f, r: bufio.NewReader(f)}
}

// do has the hands do something and waits until they have.
func (l *line) do(t testing.TB, words string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := fmt.Fprintln(l.w, words)
	var answer string
	if err == nil {
		answer, err = l.r.ReadString('\n')
	}
	if answer = strings.TrimSpace(answer); err == nil && answer != "ok" {
		err = errors.New(answer)
	}
	if err != nil {
		t.Fatalf("%s: %v", words, err)
	}
}
