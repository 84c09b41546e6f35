//go:build usb

package app

import "hotdesk/smartcard/reader/usb"

func init() { openers[readersUSB] = usb.Open }
