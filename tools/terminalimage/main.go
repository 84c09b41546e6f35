// Command terminalimage makes what a machine needs to be a terminal and nothing
// else: Debian's kernel, and an initramfs with dtu as the first process, the
// kernel's modules and the group's authority. A boot loader, PXE or qemu starts
// the two files with the words of the third.
//
//	go run ./tools/terminalimage -out image -authority authority.pem -- -dhcp eth0 -dhcp-configure
//	qemu-system-x86_64 -kernel image/vmlinuz -initrd image/initrd -append "$(cat image/cmdline)" ...
//
// What stands after the dashes are dtu's flags; -display fb -readers usbfs are
// set already. The kernel's package is downloaded by apt and not installed.
// Limits: drivers that need firmware of their own are not in it; graphics go by
// what the machine's firmware has set up, or by the modules for virtual ones.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"hotdesk/tools/internal/vm"
)

// modules are the drivers that terminals usually need.
const modules = "virtio_pci,virtio_net,e1000,e1000e,igb,r8169,tg3,xhci-pci,ehci-pci,usbhid,hid-generic,evdev,bochs,virtio-gpu,button"

// authority is where the image has the group's.
const authority = "etc/authority.pem"

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

type config struct {
	out, authority string
	modules        []string
	args           []string // dtu's
}

func run(args []string, stdout, stderr io.Writer) int {
	fl := flag.NewFlagSet("terminalimage", flag.ContinueOnError)
	fl.SetOutput(stderr)
	var c config
	fl.StringVar(&c.out, "out", "", "`DIR` to be made, for vmlinuz, initrd and cmdline")
	fl.StringVar(&c.authority, "authority", "", "`FILE` with the certificate of the group's authority (empty: give dtu -trust)")
	mods := fl.String("modules", modules, "`NAMES` of the kernel's modules, with commas; what they need comes too")
	switch err := fl.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case c.out == "":
		fmt.Fprintln(stderr, "terminalimage: -out DIR: where to?")
		return 2
	}
	c.modules, c.args = strings.Split(*mods, ","), fl.Args()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := build(ctx, c); err != nil {
		fmt.Fprintf(stderr, "terminalimage: %v\n", err)
		return 1
	}
	fmt.Fprintf(stdout, "next: qemu-system-x86_64 -m 512 -vga std -usb -device qemu-xhci -device usb-kbd -kernel %[1]s/vmlinuz -initrd %[1]s/initrd -append \"$(cat %[1]s/cmdline)\"\n", c.out)
	return 0
}

// build makes the three files.
func build(ctx context.Context, c config) error {
	kernel, err := vm.Debian(ctx)
	if err != nil {
		return err
	}
	files, err := kernel.Modules(c.modules...)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.out, 0o755); err != nil {
		return err
	}
	dtu := filepath.Join(c.out, "dtu")
	if err := vm.Build(ctx, "hotdesk/dtu", dtu); err != nil {
		return err
	}
	defer os.Remove(dtu)
	i := vm.Initramfs{Init: dtu, Modules: files}
	words := []string{"quiet", "panic=10", "--", "-display", "fb", "-readers", "usbfs"}
	if c.authority != "" {
		i.Files = map[string]string{authority: c.authority}
		words = append(words, "-authority", "/"+authority)
	}
	for _, a := range c.args {
		if strings.ContainsAny(a, " \t\n\"") {
			return fmt.Errorf("flag %q: the kernel's command line takes words without blanks and quotes", a)
		}
	}
	words = append(words, c.args...)
	if err := i.Write(filepath.Join(c.out, "initrd")); err != nil {
		return err
	}
	image, err := os.ReadFile(kernel.Image)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(c.out, "vmlinuz"), image, 0o644),
		os.WriteFile(filepath.Join(c.out, "cmdline"), []byte(strings.Join(words, " ")+"\n"), 0o644))
}
