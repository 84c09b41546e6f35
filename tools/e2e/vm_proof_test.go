package e2e

import (
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"hotdesk/smartcard/reader/emulated/issuer"
	"hotdesk/smartcard/reader/usbtest"
	"hotdesk/tools/internal/debian"
	"hotdesk/tools/internal/lab"
	"hotdesk/tools/internal/vm"
)

var atrLine = regexp.MustCompile(`(?m)^atr = .*$`)

// pivOf issues a PIV card into the lab, beside an authority and a list of what
// is revoked, and rules by which it must prove itself: with its PIN first, and
// without at each re-attach. The card speaks T=0, which is all that qemu's
// reader does.
func (w *world) pivOf(t *testing.T, name, pin string, t0 bool) (rules string) {
	t.Helper()
	i, err := issuer.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	files, err := i.Card(issuer.Spec{Name: name, PIN: pin, Now: time.Now(), RSA: true})
	if err != nil {
		t.Fatal(err)
	}
	list, err := i.Revoke()
	if err != nil {
		t.Fatal(err)
	}
	put := func(path string, text []byte) {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for file, text := range files {
		if t0 && strings.HasSuffix(file, ".card") {
			text = atrLine.ReplaceAll(text, fmt.Appendf(nil, "atr = %x", usbtest.ATR(0, 0, "HOTDESK1")))
		}
		put(w.lab.Path("cards", file), text)
	}
	put(w.lab.Path("ours.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Authority.Raw}))
	put(w.lab.Path("ours.crl"), list)
	rules = w.lab.Path("rules")
	put(rules, []byte("card piv piv piv-card\ncard * none none\nauthority ours.pem\ncrl ours.crl\n"))
	return rules
}

// A card in the USB reader of a machine that is a terminal: it proves itself
// with the PIN that is typed at the USB keyboard, programs of the session use
// it, and a pull later it proves itself without.
func TestVMProof(t *testing.T) {
	r := newRealm(t, []string{"north", "dhcp"})
	r.must(debian.Need(r.ctx, t.Output(), debian.Cards...))
	rules := r.pivOf(t, "alice", "123456", true)
	r.host("north", func(c *lab.Installed) { c.ServerArgs = []string{"-proof-rules", rules} })
	r.dhcpFor(r.node("north").Addr)
	booth := r.sniff("north")
	boxes := r.boxes("-dhcp", "eth0", "-dhcp-configure", "-trust", "dhcp", "-trust-file", "/run/trusted", "-find", "dhcp")
	x := boxes.boot("proof", "00:03:ba:00:00:03")
	x.says("control connection up")

	x.insert(boxes, "alice")
	// The terminal's own screen asks; what is typed goes to the card alone.
	for _, try := range []struct{ pin, status string }{{"654321", "63c2"}, {"123456", "9000"}} {
		x.says("PIN asked for")
		r.keep("pin-"+try.status, x.rests())
		r.must(x.m.Type(r.ctx, try.pin+"\n"))
		if line := x.says("PIN given to the card"); !strings.Contains(line, "status="+try.status) {
			t.Errorf("the card's word on %s: %s", try.pin, line)
		}
	}
	x.says("session on the screen")
	x.shows("the desktop", has(400, 300, xtermColour))
	r.logged(r.hosts["north"].Server, "card has proven itself", 1)
	x.paint("336699")

	// Programs of the session, over the same USB reader.
	said := filepath.Join(r.user.Home, "said")
	x.commands("opensc-tool -a >'" + said + "' && " + filepath.Join(bin, "cardping") + " 100 >>'" + said + "'\n")
	var text []byte
	r.within(bootWithin, "what programs say of the card", func() (bool, string) {
		text, _ = os.ReadFile(said)
		return strings.Contains(string(text), " of 100\n"), string(text)
	})
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if want := fmt.Sprintf("% x", usbtest.ATR(0, 0, "HOTDESK1")); strings.ReplaceAll(strings.ToLower(lines[0]), ":", " ") != want {
		t.Errorf("the programs' ATR is %s, want %s", lines[0], want)
	}
	t.Logf("figure: a program's exchange with the card in the USB reader (usbfs, emulated processor): %s", lines[len(lines)-1])

	x.remove()
	x.says("card out")
	x.insert(boxes, "alice")
	x.says("session on the screen")
	x.shows("the desktop", has(1270, 1014, "336699"))
	r.logged(r.hosts["north"].Server, "card has proven itself", 2)
	x.remove()
	x.says("card out")
	booth.cardsOnTheWire(t, "usbfs (emulated processor)", func() { x.insert(boxes, "alice") }, x.back)
	for _, line := range x.m.Console() {
		if strings.Contains(line, "123456") || strings.Contains(line, "654321") {
			t.Errorf("a PIN is on the console: %s", line)
		}
	}
}

// back pulls the card that was put in, once its session is there: what was on the
// wire may have been a late word about the one before.
func (x *box) back() {
	x.r.t.Helper()
	x.says("session on the screen")
	x.remove()
	x.says("card out")
}

var library = regexp.MustCompile(`(/\S+) \(0x`)

// throughLibusb has the boxes' program be one that reaches readers through
// libusb, with the libraries that it needs.
func (b *boxes) throughLibusb() {
	r := b.r
	r.t.Helper()
	r.must(debian.Need(r.ctx, r.t.Output(), debian.USB...))
	program := r.lab.Path("usb-dtu")
	cmd := exec.CommandContext(r.ctx, "go", "build", "-ldflags", "-s -w", "-tags", "usb", "-o", program, "hotdesk/dtu")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "HOME="+callersHome())
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%v\n%s", err, out)
	}
	if out, err = exec.CommandContext(r.ctx, "ldd", program).Output(); err != nil {
		r.t.Fatalf("ldd: %v\n%s", err, out)
	}
	files := map[string]string{}
	for _, m := range library.FindAllStringSubmatch(string(out), -1) {
		files[strings.TrimPrefix(m[1], "/")] = m[1]
	}
	modules, err := b.cfg.Kernel.Modules(boxModules...)
	r.must(err)
	r.must(vm.Initramfs{Init: program, Modules: modules, Files: files}.Write(b.cfg.Initramfs))
	b.cfg.Append[slices.Index(b.cfg.Append, "usbfs")] = "usb"
}

// callersHome is the caller's, where the compiler keeps what it has made; the tests'
// programs have another.
func callersHome() string {
	if u, err := user.Current(); err == nil {
		return u.HomeDir
	}
	return os.Getenv("HOME")
}

// The same reader through libusb: how long its cards take.
func TestVMLibusb(t *testing.T) {
	if os.Getenv("HOTDESK_LONG") == "" {
		return // package readers runs the suite over libusb; this is for the figures
	}
	r := newRealm(t, []string{"north", "dhcp"})
	r.host("north", nil)
	r.dhcpFor(r.node("north").Addr)
	booth := r.sniff("north")
	boxes := r.boxes("-dhcp", "eth0", "-dhcp-configure", "-trust", "dhcp", "-trust-file", "/run/trusted", "-find", "dhcp")
	boxes.throughLibusb()
	x := boxes.boot("libusb", "00:03:ba:00:00:04")
	x.says("control connection up")
	x.insert(boxes, "card1")
	x.says("session on the screen")
	x.remove()
	x.says("card out")
	booth.cardsOnTheWire(t, "gousb (emulated processor)", func() { x.insert(boxes, "card1") }, x.back)
}
