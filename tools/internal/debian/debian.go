// Package debian installs, by name and through apt, what a machine lacks, and
// says so.
//
// Source: dpkg-query(1), apt-get(8). It runs those programs; nothing is
// installed that was not named by the caller.
package debian

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// Session is what a session server needs: an X server, a window manager, a
// terminal emulator, fonts and keyboard layouts.
var Session = []string{"xvfb", "xterm", "openbox", "x11-xserver-utils", "x11-xkb-utils", "xkb-data", "fonts-dejavu-core", "dbus-daemon"}

// Browser is what the tests of the workbench need.
var Browser = []string{"chromium"}

// Addresses is a DHCP server, and namespaces to run it in.
var Addresses = []string{"dnsmasq-base", "iproute2"}

// DHCP is what the tests of a terminal's network need: that, and another server.
var DHCP = append([]string{"kea-dhcp4-server"}, Addresses...)

// Cards is what the tests with a real PC/SC service need: the service with a
// virtual reader, its library to link with, and the tools that read cards.
var Cards = []string{"pcscd", "vsmartcard-vpcd", "libpcsclite-dev", "pkg-config", "opensc", "opensc-pkcs11", "pcsc-tools", "openssh-client", "iproute2"}

// Machine is what tests with virtual computers need; the kernel that these boot
// is downloaded by package vm and not installed.
var Machine = []string{"qemu-system-x86", "seabios"}

// USB is what the program for USB card readers through libusb is built with.
var USB = []string{"libusb-1.0-0-dev", "pkg-config"}

// Logins is what the tests of logins need: the library of login modules, and a
// module that asks for a second factor, with its tool.
var Logins = []string{"libpam0g-dev", "libpam-modules", "libpam-oath", "oathtool", "gcc", "libc6-dev"}

// Desktop is a real desktop, for the long test of one.
var Desktop = []string{"xfce4-session", "xfwm4", "xfce4-panel", "xfdesktop4", "xfce4-settings", "thunar", "adwaita-icon-theme", "x11-common", "x11-utils", "dbus-bin"}

// Need installs those of the packages that are missing.
func Need(ctx context.Context, out io.Writer, packages ...string) error {
	var missing []string
	for _, p := range packages {
		b, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${db:Status-Abbrev}", p).Output()
		if err != nil || !strings.HasPrefix(string(b), "ii") {
			missing = append(missing, p)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	fmt.Fprintf(out, "installing from Debian: %s\n", strings.Join(missing, " "))
	if os.Geteuid() != 0 {
		return fmt.Errorf("debian: only root can install; run: apt-get install --no-install-recommends %s", strings.Join(missing, " "))
	}
	for _, args := range [][]string{
		{"update", "-qq"},
		append([]string{"install", "-qq", "-y", "--no-install-recommends"}, missing...),
	} {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-o", "DPkg::Lock::Timeout=300"}, args...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("debian: apt-get %s: %w\n%s", args[0], err, tail(string(text), 20))
		}
	}
	return nil
}

func tail(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
