package app

import (
	"context"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"hotdesk/dtu/boot"
	"hotdesk/dtu/evdev"
)

// hardwareWithin is how long the hardware of a machine that was just switched
// on may take to be there.
const hardwareWithin = 15 * time.Second

// awaitHardware waits for what the flags name, where the terminal's program is
// all that runs on the machine. What does not come is found missing by what
// needs it.
func (c *Config) awaitHardware(ctx context.Context) {
	if !boot.First() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, hardwareWithin)
	defer cancel()
	var files []string
	if c.Display == "fb" {
		files = append(files, c.FrameBuffer)
	}
	if c.DHCP != "" {
		files = append(files, filepath.Join("/sys/class/net", c.DHCP))
	}
	if err := boot.Await(ctx, files...); err != nil {
		c.Log.Warn("hardware is missing", "reason", err.Error())
	}
}

// hot are the keys that are the terminal's own: Ctrl+Alt+Pause starts it
// afresh, and the power button, on a machine that runs nothing else, switches
// it off.
func (s *shell) hot(code uint16, down func(uint16) bool) bool {
	control := down(evdev.LeftControl) || down(evdev.RightControl)
	alt := down(evdev.LeftAlt) || down(evdev.RightAlt)
	switch {
	case code == evdev.Pause && control && alt:
		s.log.Info("power cycle by hot key")
		hands{s}.PowerCycle()
		return true
	case code == evdev.Power && boot.First():
		s.log.Info("power button")
		// Our own end in order, and with it the machine's.
		if err := unix.Kill(unix.Getpid(), unix.SIGTERM); err != nil {
			s.log.Warn("power button", "reason", err.Error())
		}
		return true
	}
	return false
}
