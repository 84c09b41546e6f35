package app

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hotdesk/dtu/trust"
)

func TestReaders(t *testing.T) {
	for in, want := range map[string]string{
		"emulated": "emulated", "usbfs, pcsc": "usbfs pcsc", "none": "none",
		"": "!", "usb,usb": "!", "none,usb": "!", "floppy": "!",
	} {
		got, err := parseReaders(in)
		if (err != nil) != (want == "!") || err == nil && strings.Join(got, " ") != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, tc := range []struct {
		cards, socket string
		readers       []string
		want          string // what the error says, or the readers
	}{
		{"", "", nil, "none"},
		{"cards", "", nil, "emulated"},
		{"", "s", nil, "vpcd"},
		{"cards", "s", nil, "emulated vpcd"},
		{"cards", "", []string{"usbfs", "emulated"}, "usbfs emulated"},
		{"", "", []string{"emulated"}, "which folder"},
		{"", "", []string{"vpcd"}, "where do card programs connect"},
		{"cards", "", []string{"usbfs"}, "no reader that they fit"},
		{"", "s", []string{"usbfs"}, "no reader that it belongs to"},
	} {
		c := Config{Cards: tc.cards, CardSocket: tc.socket, Readers: tc.readers}
		if err := c.checkReaders(); err != nil && !strings.Contains(err.Error(), tc.want) || err == nil && strings.Join(c.Readers, " ") != tc.want {
			t.Errorf("%+v: %v", tc, err)
		}
	}
	if _, err := (&Config{Readers: []string{"none"}}).openReaders(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := (&Config{Readers: []string{"emulated"}, Cards: "no such folder"}).openReaders(t.Context()); err == nil {
		t.Error("a folder that is not there")
	}
	if openers[readersPCSC] == nil { // a build without the tag
		if _, err := (&Config{Readers: []string{"pcsc"}}).openReaders(t.Context()); err == nil || !strings.Contains(err.Error(), "-tags pcsc") {
			t.Errorf("%v", err)
		}
	}
}

// TestCardSocket: the socket for card programs is the terminal's user's own, no
// second terminal takes it, and it goes with the readers.
func TestCardSocket(t *testing.T) {
	c := Config{Readers: []string{"vpcd"}, CardSocket: filepath.Join(t.TempDir(), "s")}
	set, err := c.openReaders(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(c.CardSocket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := c.openReaders(t.Context()); err == nil || !strings.Contains(err.Error(), "another terminal listens there") {
		t.Errorf("a second terminal: %v", err)
	}
	if err := set.close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(c.CardSocket); !os.IsNotExist(err) {
		t.Errorf("the socket stays: %v", err)
	}
	if set, err = c.openReaders(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := set.close(); err != nil {
		t.Error(err)
	}
}

func TestHotKeys(t *testing.T) {
	cfg := Default()
	cfg.GroupPort, cfg.Authority = 7009, "unused"
	if err := cfg.check(); err != nil {
		t.Fatal(err)
	}
	s := newShell(cfg, new(trust.Store), readerSet{})
	held := func(codes ...uint16) func(uint16) bool {
		return func(c uint16) bool { return slices.Contains(codes, c) }
	}
	if s.hot(119, held(29)) || s.hot(30, held(29, 56)) || s.hot(116, held()) {
		t.Error("a key of the session was taken")
	}
	if !s.hot(119, held(97, 56)) || len(s.local) != 1 {
		t.Error("Ctrl+Alt+Pause was not taken")
	}
}
