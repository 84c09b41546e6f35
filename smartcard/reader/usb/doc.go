// Package usb is the USB smart card readers of a machine, through libusb.
//
// Source: package reader (the contract); github.com/google/gousb. It needs cgo
// and libusb, and so the build tag usb. On Linux package usbfs does the same
// without either.
//
// Invariants: those of packages reader and driver.
//
// gousb does not tell of readers that come, so the kernel's notices have
// them listed anew, each time in a libusb context of its own; elsewhere than on
// Linux they are looked for once a second. gousb cannot end a halt either: it
// is cleared by the standard request, and a reader that does not answer after
// that is reset. Limits: those of package driver.
package usb
