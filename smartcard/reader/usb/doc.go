// Package usb is the USB smart card readers of a machine, through libusb.
//
// Source: package reader (the contract); github.com/google/gousb. It needs cgo
// and libusb, and so the build tag usb. On Linux package usbfs does the same
// without either.
//
// Invariants: those of packages reader and driver.
//
// gousb tells neither of readers that come nor of a halted pipe's end: the kernel's notices have
// the readers listed anew, each time in a libusb context of its own, and a halt
// is cleared by the standard request, after which the reader is reset if it
// does not answer. Limits: those of package driver.
package usb
