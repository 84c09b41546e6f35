package boot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLoadModules(t *testing.T) {
	dir := t.TempDir()
	order := filepath.Join(dir, "order")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := loadModules(dir, order, nil); n != 0 || err != nil {
		t.Errorf("no file: %d, %v", n, err)
	}
	for _, m := range []string{"a.ko", "b.ko", "c.ko", "d.ko"} {
		write(m, m)
	}
	write("order", "c.ko\na.ko\ngone.ko\nd.ko\nb.ko\n")
	var asked []string
	n, err := loadModules(dir, order, func(f *os.File) error {
		name := filepath.Base(f.Name())
		asked = append(asked, name)
		return map[string]error{"a.ko": unix.EEXIST, "d.ko": unix.ENOEXEC}[name]
	})
	if n != 2 || !slices.Equal(asked, []string{"c.ko", "a.ko", "d.ko", "b.ko"}) {
		t.Errorf("%d loaded, asked for %q", n, asked)
	}
	if !errors.Is(err, os.ErrNotExist) || !errors.Is(err, unix.ENOEXEC) || errors.Is(err, unix.EEXIST) {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"../../etc/passwd", strings.Repeat("x\n", maxOrder)} {
		write("order", bad)
		if _, err := loadModules(dir, order, nil); err == nil {
			t.Errorf("taken: %.20q", bad)
		}
	}
}

func TestArguments(t *testing.T) {
	for line, want := range map[string]string{
		"console=ttyS0 quiet\n":                           "",
		"console=ttyS0 nokaslr -- -display fb --  -mac 1": "-display|fb|--|-mac|1",
		"quiet --\n": "",
	} {
		if got := strings.Join(arguments(line), "|"); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

func TestAwait(t *testing.T) {
	dir := t.TempDir()
	late := filepath.Join(dir, "late")
	go os.WriteFile(late, nil, 0o600)
	if err := Await(t.Context(), dir, late); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := Await(ctx, filepath.Join(dir, "never")); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "never") {
		t.Errorf("%v", err)
	}
}
