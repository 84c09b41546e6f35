package xdisplay

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/BurntSushi/xgb/xproto"
)

const (
	layoutRules = "evdev" // X key code = Linux key code + 8
	layoutModel = "pc105"
	// maxLayout bounds a layout's name in bytes.
	maxLayout = 32
	// layoutTime bounds setxkbmap and the compiler that it starts, which take
	// 7 ms together.
	layoutTime = 5 * time.Second
)

// SetLayout makes the keyboard one of the layouts that setxkbmap knows: "us",
// "de", "fr". Keys that are down are let go first; keys pressed meanwhile wait.
// It does nothing when the keyboard is of that layout.
func (d *Display) SetLayout(name string) error {
	if !layoutName(name) {
		return fmt.Errorf("xdisplay: keyboard layout %q: want a name like us, de or fr", name)
	}
	d.layout.Lock()
	defer d.layout.Unlock()
	if have, err := d.currentLayout(); err != nil {
		return fmt.Errorf("xdisplay: %w", err)
	} else if have == name {
		return nil
	}
	d.Release()
	if err := d.asker.sync(); err != nil { // setxkbmap comes by another connection
		return fmt.Errorf("xdisplay: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), layoutTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "setxkbmap", "-display", d.conf.Display,
		"-rules", layoutRules, "-model", layoutModel, "-layout", name, "-variant", "")
	cmd.Env = append(os.Environ(), "XAUTHORITY="+d.conf.Authority)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("xdisplay: setxkbmap -layout %s: %w: %s", name, err, bytes.TrimSpace(out[:min(len(out), 200)]))
	}
	return nil
}

func layoutName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || i > 0 && (c >= '0' && c <= '9' || c == '_' || c == '-')) {
			return false
		}
	}
	return len(s) > 0 && len(s) <= maxLayout
}

// currentLayout reads what setxkbmap and the X server itself note of the
// keyboard; empty when it is of other rules or another model, or has a variant.
func (d *Display) currentLayout() (string, error) {
	const property = "_XKB_RULES_NAMES"
	if d.rules == 0 { // asked once: a terminal that comes waits for each answer
		atom, err := xproto.InternAtom(d.conn, false, uint16(len(property)), property).Reply()
		if err != nil {
			return "", err
		}
		d.rules = atom.Atom
	}
	p, err := xproto.GetProperty(d.conn, false, d.root, d.rules, xproto.AtomString, 0, 256).Reply()
	if err != nil {
		return "", err
	}
	// Rules, model, layout, variant, options.
	f := strings.Split(string(p.Value), "\x00")
	if len(f) < 4 || f[0] != layoutRules || f[1] != layoutModel || f[3] != "" {
		return "", nil
	}
	return f[2], nil
}
