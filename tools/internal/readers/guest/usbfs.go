//go:build linux && !usb

package main

import (
	"log/slog"
	"testing"

	"hotdesk/smartcard/reader"
	"hotdesk/smartcard/reader/usbfs"
)

func source(t *testing.T) reader.Source {
	s, err := usbfs.Open(t.Context(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}
