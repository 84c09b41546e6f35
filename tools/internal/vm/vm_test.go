package vm

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hotdesk/tools/internal/debian"
)

// lines is a conversation over the second serial line.
type lines struct {
	t *testing.T
	m *Machine
	r *bufio.Reader
}

func (l lines) ask(words string) string {
	l.t.Helper()
	if _, err := fmt.Fprintln(l.m.Line(), words); err != nil {
		l.t.Fatal(err)
	}
	text, err := l.r.ReadString('\n')
	if err != nil {
		l.t.Fatalf("%s: %v\n%s", words, err, l.m.tail())
	}
	return strings.TrimSpace(text)
}

func TestMachine(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := debian.Need(ctx, t.Output(), debian.Machine...); err != nil {
		t.Fatal(err)
	}
	k, err := Debian(ctx)
	if err != nil {
		t.Fatal(err)
	}
	mods, err := k.Modules("xhci-pci", "usbhid", "hid-generic", "evdev", "bochs")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cfg := Config{
		Kernel: k, Initramfs: filepath.Join(dir, "initramfs"), Width: 800, Height: 600, Line: true,
		Keyboard: true, Readers: []string{"ccid0"},
	}
	guest := filepath.Join(dir, "guest")
	if err := Build(ctx, "hotdesk/tools/internal/vm/internal/guest", guest); err != nil {
		t.Fatal(err)
	}
	if err := (Initramfs{Init: guest, Modules: mods}).Write(cfg.Initramfs); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	m, err := Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, _, err := m.Wait(ctx, 0, "guest: ready"); err != nil {
		t.Fatal(err)
	}
	t.Logf("from power on to ready: %v", time.Since(began))
	defer context.AfterFunc(ctx, func() { m.Line().Close() })()

	l := lines{t, m, bufio.NewReader(m.Line())}
	if got := l.ask("echo hello"); got != "hello" {
		t.Errorf("echo: %q", got)
	}
	if got := l.ask("usb CCID Keyboard"); !strings.Contains(got, "CCID") || !strings.Contains(got, "Keyboard") {
		t.Errorf("on the bus: %q", got)
	}
	if got := l.ask("paint"); got != "painted" {
		t.Errorf("paint: %q", got)
	}
	pic, err := m.Shows(ctx, func(pic image.Image) bool {
		return color.RGBAModel.Convert(pic.At(320, 100)) == color.RGBA{255, 0, 0, 255}
	})
	if err != nil {
		t.Fatal(err)
	}
	if b := pic.Bounds(); b.Dx() != 800 || b.Dy() != 600 {
		t.Errorf("the screen has %v", b)
	}
	if got := l.ask("hear"); got == "0" {
		t.Error("no input devices")
	}

	// Saved and gone on with: the picture is there, the keyboard works.
	began = time.Now()
	state := filepath.Join(dir, "state")
	if err := m.Save(ctx, state); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(state)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("saved %d MiB in %v", info.Size()>>20, time.Since(began))
	m.Close()
	began = time.Now()
	cfg.Restore = state
	m2, err := Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer m2.Close()
	defer context.AfterFunc(ctx, func() { m2.Line().Close() })()
	l = lines{t, m2, bufio.NewReader(m2.Line())}
	if got := l.ask("echo again"); got != "again" {
		t.Errorf("echo: %q", got)
	}
	t.Logf("restored in %v", time.Since(began))
	if err := m2.Keys(ctx, "shift+a"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m2.Wait(ctx, 0, "guest: key 30"); err != nil {
		t.Fatal(err)
	}
	if err := m2.RemoveReader(ctx, "ccid0"); err != nil {
		t.Fatal(err)
	}
	if err := m2.AddReader(ctx, "ccid0"); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(m2.Line(), "off"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-m2.Exited():
	case <-ctx.Done():
		t.Error("the machine does not go off")
	}
}

func TestReadPPM(t *testing.T) {
	const good = "P6\n2 1\n255\n\n \t\x01\x02\x03"
	m, err := readPPM([]byte(good))
	if err != nil || m.Bounds() != image.Rect(0, 0, 2, 1) || m.RGBAAt(0, 0) != (color.RGBA{'\n', ' ', '\t', 255}) || m.RGBAAt(1, 0) != (color.RGBA{1, 2, 3, 255}) {
		t.Errorf("%+v, %v", m, err)
	}
	for _, bad := range []string{"", "P6\n", "P5\n2 1\n255\n123456", good[:len(good)-1], good + "x", "P6\n0 0\n255\n", "P6\n-1 -2\n255\n123456", "P6\n99999 1\n255\n", "P6\n2 1\n65535\n123456"} {
		if m, err := readPPM([]byte(bad)); err == nil {
			t.Errorf("%q is %+v", bad, m)
		}
	}
}

func TestModules(t *testing.T) {
	ctx := t.Context()
	k, err := Debian(ctx)
	if err != nil {
		t.Fatal(err)
	}
	files, err := k.Modules("usbhid", "xhci-pci")
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]int{}
	for i, f := range files {
		at[strings.TrimSuffix(filepath.Base(f), ".ko")] = i + 1
	}
	if at["usb-common"] == 0 || at["usb-common"] > at["usbcore"] || at["usbcore"] > at["usbhid"] || at["xhci-hcd"] > at["xhci-pci"] || len(at) != len(files) {
		t.Errorf("%v", files)
	}
	if _, err := k.Modules("no-such-thing"); err == nil {
		t.Error("a module that is not there")
	}
}

// What T=0 makes of commands with data and long answers.
func TestT0Card(t *testing.T) {
	long := bytes.Repeat([]byte{7}, 300)
	card := func(c []byte) ([]byte, error) {
		if c[1] == 0xa4 {
			if len(c) < 6 || c[len(c)-1] != 0 {
				t.Errorf("card got % x", c)
			}
			return append(long[:len(long):len(long)], 0x90, 0), nil
		}
		return []byte{0x6d, 0}, nil
	}
	var c t0Card
	for i, tc := range []struct{ in, want []byte }{
		{[]byte{0, 0xa4, 4, 0, 1, 9}, []byte{0x61, 0}},
		{[]byte{0, 0xc0, 0, 0, 0}, append(long[:256:256], 0x61, 44)},
		{[]byte{0, 0xc0, 0, 0, 44}, append(long[256:300:300], 0x90, 0)},
		{[]byte{0, 0xc0, 0, 0, 44}, []byte{0x6d, 0}},
		{[]byte{0, 0xca, 0, 0, 0}, []byte{0x6d, 0}},
	} {
		if got, err := c.exchange(tc.in, card); err != nil || !bytes.Equal(got, tc.want) {
			t.Errorf("%d: % x, %v; want % x", i, got, err, tc.want)
		}
	}
}
