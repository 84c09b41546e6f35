package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hotdesk/tools/internal/debian"
	"hotdesk/tools/internal/vm"
)

// TestImage boots what was made: it becomes a terminal, on its own screen.
func TestImage(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute) // an emulated processor, on a busy machine
	defer cancel()
	if err := debian.Need(ctx, t.Output(), debian.Machine...); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "image")
	if code := run([]string{"-out", dir, "--", "-trust", "first-use", "-trust-file", "/run/trusted"}, io.Discard, t.Output()); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	words, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := vm.Start(ctx, vm.Config{
		Kernel: &vm.Kernel{Image: filepath.Join(dir, "vmlinuz")}, Initramfs: filepath.Join(dir, "initrd"), Memory: 512,
		Width: 1024, Height: 768, Keyboard: true, Log: t.Output(), Append: strings.Fields(string(words)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	next := 0
	for _, text := range []string{"dtu: ready", "input device"} {
		if _, next, err = m.Wait(ctx, next, text); err != nil {
			t.Fatal(err)
		}
	}
}

func TestArguments(t *testing.T) {
	for _, args := range [][]string{{}, {"-nonsense"}, {"-out"}} {
		if code := run(args, io.Discard, io.Discard); code != 2 {
			t.Errorf("%q: exit code %d, want 2", args, code)
		}
	}
	if code := run([]string{"-h"}, io.Discard, io.Discard); code != 0 {
		t.Errorf("-h: exit code %d", code)
	}
}
