//go:build linux

// Package usbfs is the USB smart card readers of a Linux machine, through the
// kernel alone: without libusb and without cgo, for terminals that are one
// static program.
//
// Source: package reader (the contract); Linux, include/uapi/linux/usbdevice_fs.h
// and drivers/usb/core/devio.c; the kernel's files under /sys/bus/usb/devices.
//
// Invariants: those of packages reader and driver; a reader is claimed before
// it is used, and a kernel driver that holds it is put off.
//
// Transfers are submitted and reaped, never waited for in the kernel; a device
// has one goroutine that reaps. Limits: those of package driver.
package usbfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"hotdesk/smartcard/ccid"
	"hotdesk/smartcard/reader"
	"hotdesk/smartcard/reader/driver"
	"hotdesk/smartcard/reader/uevent"
)

const (
	sysfs = "/sys/bus/usb/devices"
	devfs = "/dev/bus/usb"
	// maxText bounds what is read from a file of sysfs.
	maxText = 256
)

// Open watches the machine's USB card readers until ctx ends or the Source is
// closed. log may be nil.
func Open(ctx context.Context, log *slog.Logger) (reader.Source, error) {
	if _, err := os.Stat(sysfs); err != nil {
		return nil, fmt.Errorf("usbfs: this machine has no USB, or /sys is not mounted: %w", err)
	}
	w, err := uevent.Open()
	if err != nil {
		return nil, err
	}
	return driver.Open(ctx, &bus{Watch: w}, log), nil
}

// bus is the machine's USB.
type bus struct{ *uevent.Watch }

// Scan lists the interfaces of card readers.
func (b *bus) Scan() ([]driver.Found, error) {
	classes, err := filepath.Glob(sysfs + "/*:*/bInterfaceClass")
	if err != nil {
		return nil, fmt.Errorf("usbfs: %w", err)
	}
	var found []driver.Found
	for _, c := range classes {
		if v, err := strconv.ParseUint(text(c), 16, 8); err != nil || v != ccid.InterfaceClass {
			continue // of another class, or gone meanwhile
		}
		name := filepath.Base(filepath.Dir(c)) // 1-2.3:1.0
		device, _, _ := strings.Cut(name, ":")
		dir := filepath.Join(sysfs, device)
		if number := text(filepath.Join(dir, "devnum")); number != "" {
			found = append(found, driver.Found{Key: name + "#" + number, Name: label(dir) + " " + name})
		}
	}
	return found, nil
}

// label is what a device says that it is.
func label(dir string) string {
	if product := text(filepath.Join(dir, "product")); product != "" {
		return product
	}
	return "card reader " + text(filepath.Join(dir, "idVendor")) + ":" + text(filepath.Join(dir, "idProduct"))
}

// text reads a line of sysfs; "" if it is gone.
func text(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	b := make([]byte, maxText)
	n, err := f.Read(b)
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(strings.TrimSpace(string(b[:n])), "?")
}

// Open claims a reader.
func (b *bus) Open(_ context.Context, f driver.Found) (driver.Pipes, ccid.Interface, error) {
	fail := func(err error) (driver.Pipes, ccid.Interface, error) {
		return nil, ccid.Interface{}, fmt.Errorf("usbfs: %w", err)
	}
	name, number, _ := strings.Cut(f.Key, "#")
	device, suffix, _ := strings.Cut(name, ":")
	dir := filepath.Join(sysfs, device)
	raw, err := read(filepath.Join(dir, "descriptors"))
	if err != nil {
		return fail(err)
	}
	i, err := choose(raw, suffix)
	if err != nil {
		return fail(err)
	}
	busNumber, err1 := strconv.Atoi(text(filepath.Join(dir, "busnum")))
	deviceNumber, err2 := strconv.Atoi(number)
	if err := errors.Join(err1, err2); err != nil {
		return fail(err)
	}
	d, err := openDevice(filepath.Join(devfs, fmt.Sprintf("%03d/%03d", busNumber, deviceNumber)), i)
	if err != nil {
		return fail(err)
	}
	return d, i, nil
}

// choose finds the interface "configuration.number" among the descriptors.
func choose(raw []byte, suffix string) (ccid.Interface, error) {
	list, err := ccid.Interfaces(raw)
	for _, i := range list {
		if suffix == fmt.Sprintf("%d.%d", i.Configuration, i.Number) {
			return i, nil
		}
	}
	return ccid.Interface{}, errors.Join(fmt.Errorf("usbfs: interface %s is not one of a card reader", suffix), err)
}

func read(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, ccid.MaxDescriptors)
	n := 0
	for n < len(b) {
		m, err := f.Read(b[n:])
		n += m
		if err != nil || m == 0 {
			break
		}
	}
	if n == 0 {
		return nil, &fs.PathError{Op: "read", Path: file, Err: fs.ErrInvalid}
	}
	return b[:n], nil
}
