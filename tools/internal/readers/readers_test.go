package readers

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"hotdesk/smartcard/ccid"
	"hotdesk/smartcard/reader"
	"hotdesk/smartcard/reader/emulated"
	"hotdesk/smartcard/reader/emulated/issuer"
	"hotdesk/smartcard/reader/usbtest"
	"hotdesk/smartcard/reader/usbtest/usbredir"
	"hotdesk/tools/internal/debian"
	"hotdesk/tools/internal/vm"
)

// automatic is what most readers do by themselves.
const automatic = ccid.AutoATR | ccid.AutoActivate | ccid.AutoVoltage | ccid.AutoClock | ccid.AutoRate | ccid.AutoNegotiate

// kinds are the emulated readers, and which card of the folder is theirs.
var kinds = map[string]struct {
	cfg  usbtest.Config
	card string
}{
	"extended": {usbtest.Config{Level: ccid.ExtendedAPDU, Features: automatic, Extensions: 1}, "t1"},
	"short":    {usbtest.Config{Level: ccid.ShortAPDU, Features: automatic}, "t1"},
	"tpdu-t1":  {usbtest.Config{CardVoltage: 2, EmptyPacket: true}, "t1"},
	"tpdu-t0":  {usbtest.Config{Features: ccid.AutoPPS | ccid.AutoVoltage}, "t0"},
}

// hands do what the guest says.
type hands struct {
	t     *testing.T
	m     *vm.Machine
	ports [2]*usbredir.Port
	cards *emulated.Reader
	kind  string
	dev   *usbtest.Device
	heard <-chan struct{}
	hung  chan struct{}
	in    bool
}

// echo is a card that answers with what it got, or never.
type echo struct{ hung chan struct{} }

func (e *echo) ATR() []byte { return usbtest.ATR(1, 0, "ECHO") }
func (e *echo) Reset()      {}
func (e *echo) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if e.hung != nil {
		e.hung <- struct{}{}
		<-ctx.Done()
		return nil, reader.ErrRemoved
	}
	return append(bytes.Clone(command), 0x90, 0), nil
}

func (h *hands) serve() {
	for r := bufio.NewScanner(h.m.Line()); r.Scan(); {
		words, later := strings.CutPrefix(strings.TrimSpace(r.Text()), "later ")
		answer := "ok"
		if !later {
			if err := h.do(words); err != nil {
				answer = strings.ReplaceAll(err.Error(), "\n", "; ")
			}
		}
		if _, err := fmt.Fprintln(h.m.Line(), answer); err != nil {
			return
		}
		if later {
			if err := h.do(words); err != nil {
				h.t.Error(err)
			}
		}
	}
}

func (h *hands) do(words string) error {
	ctx := h.t.Context()
	word, arg, _ := strings.Cut(words, " ")
	switch word {
	case "kind":
		return h.change(arg)
	case "plug":
		h.heard = h.dev.Heard()
		return h.ports[0].Plug(h.dev)
	case "unplug":
		return h.ports[0].Unplug()
	case "second":
		d := usbtest.New(kinds["short"].cfg)
		d.Insert(0, &echo{})
		return h.ports[1].Plug(d)
	case "no":
		return h.ports[1].Unplug()
	case "heard":
		if h.dev != nil {
			<-h.heard
		}
		return nil
	case "hung":
		<-h.hung
		return nil
	case "insert":
		return h.insert(arg)
	case "remove":
		h.in = false
		if h.dev == nil {
			return h.m.Slot("qemu").Remove()
		}
		h.dev.Remove(0)
		return nil
	}
	return fmt.Errorf("hands: what is %q? (%v)", words, ctx.Err())
}

// change takes the reader away and plugs one of another kind in, without a card.
func (h *hands) change(kind string) error {
	ctx := h.t.Context()
	var err error
	switch {
	case h.dev != nil:
		err = h.ports[0].Unplug()
	case h.kind != "":
		err = h.m.RemoveReader(ctx, "qemu")
	}
	h.kind, h.dev, h.in = kind, nil, false
	if err != nil {
		return err
	}
	if kind == "qemu" {
		return h.m.AddReader(ctx, "qemu")
	}
	k, ok := kinds[kind]
	if !ok {
		return fmt.Errorf("hands: no reader %q", kind)
	}
	h.dev = usbtest.New(k.cfg)
	h.heard = h.dev.Heard()
	return h.ports[0].Plug(h.dev)
}

func (h *hands) insert(card string) error {
	h.in = true
	switch card {
	case "echo":
		h.dev.Insert(0, &echo{})
		return nil
	case "hang":
		h.dev.Insert(0, &echo{h.hung})
		return nil
	case "":
		card = kinds[h.kind].card
		if h.dev == nil {
			card = "t0"
		}
	}
	c, err := h.cards.Insert(card)
	if err != nil {
		return err
	}
	if h.dev == nil {
		return h.m.Slot("qemu").Insert(c)
	}
	h.dev.Insert(0, c)
	return nil
}

func folder(t *testing.T) fstest.MapFS {
	const simple = "atr = %x\ntype = simple\nid = 0123456789abcdef\nsecret = 00112233445566778899aabbccddeeff\n"
	cards := fstest.MapFS{
		"t0.card": {Data: fmt.Appendf(nil, simple, usbtest.ATR(0, 0, "HOTDESK1"))},
		"t1.card": {Data: fmt.Appendf(nil, simple, usbtest.ATR(1, 0, "HOTDESK1"))},
	}
	i, err := issuer.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	files, err := i.Card(issuer.Spec{Name: "piv", PIN: "123456"})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range files {
		cards[name] = &fstest.MapFile{Data: b}
	}
	return cards
}

// build makes a guest's program.
func build(ctx context.Context, t *testing.T, cgo, tags string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "guest")
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-tags", tags, "-o", file, "./guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return file
}

var library = regexp.MustCompile(`(/\S+) \(0x`)

// libraries are the files that a dynamic program needs, at their places.
func libraries(ctx context.Context, t *testing.T, program string) map[string]string {
	t.Helper()
	out, err := exec.CommandContext(ctx, "ldd", program).Output()
	if err != nil {
		t.Fatalf("ldd: %v\n%s", err, out)
	}
	files := map[string]string{}
	for _, m := range library.FindAllStringSubmatch(string(out), -1) {
		files[strings.TrimPrefix(m[1], "/")] = m[1]
	}
	return files
}

// some chooses tests: all of them take 80 seconds.
func some() []string {
	if os.Getenv("HOTDESK_LONG") != "" {
		return nil
	}
	return []string{"RUN_usbfs=Suite/(extended|tpdu-t1)|Pulled|Two|PIV|Long", "RUN_libusb=Suite/extended|Pulled|Long"}
}

// TestRealKernel runs the suite in a virtual machine, over usbfs and over
// libusb: some of it, and with HOTDESK_LONG all.
func TestRealKernel(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	if err := debian.Need(ctx, t.Output(), append(append([]string{}, debian.Machine...), debian.USB...)...); err != nil {
		t.Fatal(err)
	}
	k, err := vm.Debian(ctx)
	if err != nil {
		t.Fatal(err)
	}
	mods, err := k.Modules("xhci-pci")
	if err != nil {
		t.Fatal(err)
	}
	static, dynamic := build(ctx, t, "0", ""), build(ctx, t, "1", "usb")
	files := map[string]string{"usbfs": static, "libusb": dynamic}
	maps.Copy(files, libraries(ctx, t, dynamic))
	cfg := vm.Config{
		Kernel: k, Initramfs: filepath.Join(t.TempDir(), "initramfs"), Line: true,
		Log: t.Output(), Append: append([]string{"READERS=usbfs,libusb"}, some()...), Sockets: []string{"port0", "port1"},
		Devices: []string{"usb-redir,chardev=port0,id=redir0", "usb-redir,chardev=port1,id=redir1"},
	}
	if err := (vm.Initramfs{Init: static, Modules: mods, Files: files}).Write(cfg.Initramfs); err != nil {
		t.Fatal(err)
	}
	m, err := vm.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	h := &hands{t: t, m: m, cards: emulated.New(folder(t)), hung: make(chan struct{})}
	defer h.cards.Close()
	for i := range h.ports {
		if h.ports[i], err = usbredir.New(m.Socket(fmt.Sprintf("port%d", i))); err != nil {
			t.Fatal(err)
		}
		defer h.ports[i].Close()
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		h.serve()
	}()
	_, _, err = m.Wait(ctx, 0, "guest: done")
	for i, p := range h.ports {
		if err := p.Err(); err != nil {
			t.Errorf("port %d: %v", i, err)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"usbfs", "libusb"} {
		if _, _, err := m.Wait(ctx, 0, "guest: "+name+" passed"); err != nil {
			t.Error(errors.Unwrap(err))
		}
	}
}
