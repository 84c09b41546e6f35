//go:build usb

package usb

import "hotdesk/smartcard/reader/uevent"

func watch() (watcher, error) { return uevent.Open() }
