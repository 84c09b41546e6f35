//go:build linux

package usbfs

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"hotdesk/smartcard/reader/driver"
)

// Host controllers have different words for a reader that is pulled.
func TestExplain(t *testing.T) {
	for errno, want := range map[unix.Errno]error{
		unix.EPIPE: driver.ErrStall, unix.ENODEV: driver.ErrGone, unix.ESHUTDOWN: driver.ErrGone,
		unix.EPROTO: driver.ErrGone, unix.EILSEQ: driver.ErrGone, unix.ETIME: driver.ErrGone,
	} {
		if err := explain(errno); !errors.Is(err, want) {
			t.Errorf("%v: %v", errno, err)
		}
	}
	if err := explain(unix.EOVERFLOW); errors.Is(err, driver.ErrGone) || errors.Is(err, driver.ErrStall) || !errors.Is(err, unix.EOVERFLOW) {
		t.Errorf("%v", err)
	}
}
