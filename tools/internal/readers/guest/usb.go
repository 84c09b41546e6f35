//go:build linux && usb

package main

import (
	"testing"

	"hotdesk/smartcard/reader"
	"hotdesk/smartcard/reader/usb"
)

func source(t *testing.T) reader.Source {
	s, err := usb.Open(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
