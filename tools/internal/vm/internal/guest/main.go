// Command guest is process 1 of the machine in the tests of package vm: it
// says what hardware is there and what comes of it, and repeats what the second
// serial line says to it.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hotdesk/dtu/boot"
)

func main() {
	fmt.Println("guest: mount", boot.Mount())
	n, err := boot.LoadModules()
	fmt.Println("guest: modules", n, err)
	line, err := os.OpenFile("/dev/ttyS1", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		fmt.Println("guest:", err)
		return
	}
	if t, err := unix.IoctlGetTermios(int(line.Fd()), unix.TCGETS); err == nil {
		t.Lflag &^= unix.ECHO
		err = unix.IoctlSetTermios(int(line.Fd()), unix.TCSETS, t)
		fmt.Println("guest: line", err)
	}
	fmt.Println("guest: ready")
	for r := bufio.NewScanner(line); r.Scan(); {
		switch word, arg, _ := strings.Cut(r.Text(), " "); word {
		case "echo":
			fmt.Fprintln(line, arg)
		case "usb":
			fmt.Fprintln(line, devices(strings.Fields(arg)))
		case "hear":
			fmt.Fprintln(line, inputs())
		case "paint":
			fmt.Fprintln(line, paint())
		case "off":
			unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
		}
	}
}

// devices names what is on the USB bus once the wanted ones are.
func devices(wanted []string) string {
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		var all []string
		files, _ := filepath.Glob("/sys/bus/usb/devices/*/product") // the pattern is good
		for _, f := range files {
			if b, err := os.ReadFile(f); err == nil {
				all = append(all, strings.TrimSpace(string(b)))
			}
		}
		text := strings.Join(all, ",")
		if !slices.ContainsFunc(wanted, func(w string) bool { return !strings.Contains(text, w) }) {
			return text
		}
	}
}

// inputs tells from now on which keys go down, and returns how many devices
// there are at the time.
func inputs() int {
	files, _ := filepath.Glob("/dev/input/event*") // the pattern is good
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		go func() {
			for b := make([]byte, 24); ; {
				if _, err := io.ReadFull(f, b); err != nil {
					return
				}
				if b[16] == 1 && b[20] == 1 { // EV_KEY, pressed
					fmt.Println("guest: key", int(b[18])|int(b[19])<<8)
				}
			}
		}()
	}
	return len(files)
}

// paint makes the screen red.
func paint() string {
	f, err := os.OpenFile("/dev/fb0", os.O_RDWR, 0)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	size, err := os.ReadFile("/sys/class/graphics/fb0/virtual_size")
	if err != nil {
		return err.Error()
	}
	var w, h int
	if _, err := fmt.Sscanf(string(size), "%d,%d", &w, &h); err != nil {
		return err.Error()
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, 4*w*h, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err.Error()
	}
	for i := range mem {
		mem[i] = "\x00\x00\xff\x00"[i%4]
	}
	return "painted"
}
