package xdisplay

import (
	"fmt"
	"image"
	"strings"

	"github.com/BurntSushi/xgb/randr"
	"github.com/BurntSushi/xgb/xproto"
)

// modePrefix begins the names of the modes that were made here.
const modePrefix = "hotdesk-"

// Resize makes the screen as large as a terminal's, within alp.MinSide and the
// X server's initial size.
func (d *Display) Resize(w, h int) {
	s := &d.screen
	s.Lock()
	defer s.Unlock()
	if s.frame == nil {
		return
	}
	size := image.Pt(min(max(w, minSide), s.max.X), min(max(h, minSide), s.max.Y))
	if size == s.size && !s.resized {
		return
	}
	err := d.setSize(size)
	if err == nil {
		err = d.adoptSize()
	}
	if err != nil {
		d.log.Warn("the screen keeps its size", "want", fmt.Sprintf("%dx%d", size.X, size.Y), "err", err)
	}
	d.signal()
}

// setSize gives the X server's one output a mode of that size. Nobody else
// changes it meanwhile.
func (d *Display) setSize(size image.Point) error {
	c, root := d.conn, d.root
	xproto.GrabServer(c)
	defer xproto.UngrabServer(c)
	res, err := randr.GetScreenResourcesCurrent(c, root).Reply()
	if err != nil {
		return err
	}
	if len(res.Crtcs) == 0 || len(res.Outputs) == 0 {
		return fmt.Errorf("the X server has no output to resize")
	}
	crtc, output := res.Crtcs[0], res.Outputs[0]
	mode, old, err := d.mode(res, output, size)
	if err != nil {
		return err
	}
	set := func(m randr.Mode, outputs []randr.Output) error {
		r, err := randr.SetCrtcConfig(c, crtc, 0, res.ConfigTimestamp, 0, 0, m, randr.RotationRotate0, outputs).Reply()
		if err == nil && r.Status != randr.SetConfigSuccess {
			err = fmt.Errorf("RandR refuses with status %d", r.Status)
		}
		return err
	}
	// The screen cannot shrink below what the output shows.
	if err := set(0, nil); err != nil {
		return err
	}
	const dpi = 96
	mm := func(pixels int) uint32 { return uint32(pixels * 254 / (10 * dpi)) }
	if err := randr.SetScreenSizeChecked(c, root, uint16(size.X), uint16(size.Y), mm(size.X), mm(size.Y)).Check(); err != nil {
		return err
	}
	if err := set(mode, []randr.Output{output}); err != nil {
		return err
	}
	for _, m := range old {
		randr.DeleteOutputMode(c, output, m)
		randr.DestroyMode(c, m)
	}
	return nil
}

// mode finds or makes a mode of that size, and lists the others that were made
// here.
func (d *Display) mode(res *randr.GetScreenResourcesCurrentReply, output randr.Output, size image.Point) (mode randr.Mode, old []randr.Mode, err error) {
	names := res.Names
	for _, m := range res.Modes {
		name := string(names[:min(int(m.NameLen), len(names))])
		names = names[len(name):]
		ours := strings.HasPrefix(name, modePrefix)
		switch {
		case image.Pt(int(m.Width), int(m.Height)) == size && mode == 0:
			mode = randr.Mode(m.Id)
		case ours:
			old = append(old, randr.Mode(m.Id))
		}
	}
	if mode == 0 {
		w, h := uint16(size.X), uint16(size.Y)
		name := fmt.Sprintf("%s%dx%d", modePrefix, w, h)
		info := randr.ModeInfo{Width: w, Height: h, DotClock: uint32(w) * uint32(h) * 60,
			HsyncStart: w, HsyncEnd: w, Htotal: w, VsyncStart: h, VsyncEnd: h, Vtotal: h, NameLen: uint16(len(name))}
		r, err := randr.CreateMode(d.conn, d.root, info, name).Reply()
		if err != nil {
			return 0, nil, err
		}
		mode = r.Mode
	}
	// A mode may exist without belonging to the output; adding it twice is no
	// error.
	if err := randr.AddOutputModeChecked(d.conn, output, mode).Check(); err != nil {
		return 0, nil, err
	}
	return mode, old, nil
}
