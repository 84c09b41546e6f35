package vm

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A Kernel is Debian's, unpacked and not installed.
type Kernel struct {
	Image   string // file of the kernel itself
	Version string // as uname -r says

	modules map[string]string // name, with underscores -> file
}

// What the process began with: tests give their programs another HOME.
var (
	environ         = os.Environ()
	cache, errCache = os.UserCacheDir()
)

// Build builds a program of this module, by its import path, static and for
// Initramfs.Init.
func Build(ctx context.Context, pkg, file string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", file, pkg)
	cmd.Env = append(slices.Clone(environ), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("vm: go build %s: %w: %s", pkg, err, bytes.TrimSpace(out))
	}
	return nil
}

// metaPackage depends on the kernel that Debian boots by default.
const metaPackage = "linux-image-amd64"

// Debian returns the kernel of the Debian that this machine runs. The first
// call on a machine downloads the package, by apt and without installing it,
// and unpacks it below the user's cache folder; later ones find it there. Where
// apt's lists are missing or too old root renews them.
func Debian(ctx context.Context) (*Kernel, error) {
	k, err := find(ctx)
	if err == nil || os.Geteuid() != 0 || ctx.Err() != nil {
		return k, err
	}
	update := exec.CommandContext(ctx, "apt-get", "-o", "DPkg::Lock::Timeout=300", "update", "-qq")
	if text, err2 := update.CombinedOutput(); err2 != nil {
		return nil, fmt.Errorf("%w; apt-get update: %w: %s", err, err2, bytes.TrimSpace(text))
	}
	return find(ctx)
}

func find(ctx context.Context) (*Kernel, error) {
	out, err := exec.CommandContext(ctx, "apt-cache", "depends", metaPackage).Output()
	if err != nil {
		return nil, fmt.Errorf("vm: apt-cache depends %s: %w; run: apt-get update", metaPackage, err)
	}
	pkg := ""
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: linux-image-"); ok {
			pkg = "linux-image-" + name
			break
		}
	}
	if pkg == "" {
		return nil, fmt.Errorf("vm: %s names no kernel; run: apt-get update", metaPackage)
	}
	if errCache != nil {
		return nil, fmt.Errorf("vm: %w", errCache)
	}
	dir := filepath.Join(cache, "hotdesk", "vm")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("vm: %w", err)
	}
	// Tests of several packages run at once, and one of them is the first.
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("vm: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("vm: lock: %w", err)
	}
	root := filepath.Join(dir, pkg)
	if _, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) {
		if err := unpack(ctx, dir, pkg, root); err != nil {
			return nil, err
		}
	}
	return open(root, strings.TrimPrefix(pkg, "linux-image-"))
}

// unpack puts the package's files at root, all of them or none.
func unpack(ctx context.Context, dir, pkg, root string) error {
	tmp, err := os.MkdirTemp(dir, ".unpack-")
	if err != nil {
		return fmt.Errorf("vm: %w", err)
	}
	defer os.RemoveAll(tmp)
	get := exec.CommandContext(ctx, "apt-get", "-o", "APT::Sandbox::User=root", "download", pkg)
	get.Dir = tmp
	if text, err := get.CombinedOutput(); err != nil {
		return fmt.Errorf("vm: apt-get download %s: %w: %s", pkg, err, bytes.TrimSpace(text))
	}
	debs, _ := filepath.Glob(filepath.Join(tmp, "*.deb")) // the pattern is good
	if len(debs) != 1 {
		return fmt.Errorf("vm: apt-get download %s brought %d files", pkg, len(debs))
	}
	files := filepath.Join(tmp, "files")
	if text, err := exec.CommandContext(ctx, "dpkg", "-x", debs[0], files).CombinedOutput(); err != nil {
		return fmt.Errorf("vm: dpkg -x %s: %w: %s", pkg, err, bytes.TrimSpace(text))
	}
	if err := os.Rename(files, root); err != nil {
		return fmt.Errorf("vm: %w", err)
	}
	return nil
}

// open reads what is in an unpacked package.
func open(root, version string) (*Kernel, error) {
	k := &Kernel{Image: filepath.Join(root, "boot", "vmlinuz-"+version), Version: version, modules: map[string]string{}}
	if _, err := os.Stat(k.Image); err != nil {
		return nil, fmt.Errorf("vm: %w", err)
	}
	err := filepath.WalkDir(filepath.Join(root, "lib", "modules", version), func(path string, _ fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			k.modules[underscores(name)] = path
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("vm: %w", err)
	}
	return k, nil
}

func underscores(name string) string { return strings.ReplaceAll(name, "-", "_") }

// Modules returns the files of the named modules and of what they depend on,
// in an order in which they can be loaded.
func (k *Kernel) Modules(names ...string) ([]string, error) {
	var files []string
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		name = underscores(name)
		if seen[name] {
			return nil
		}
		seen[name] = true // before its dependencies: the kernel's are no circles
		file, ok := k.modules[name]
		if !ok {
			return fmt.Errorf("vm: kernel %s has no module %s", k.Version, name)
		}
		needs, err := depends(file)
		if err != nil {
			return err
		}
		for _, n := range needs {
			if err := add(n); err != nil {
				return fmt.Errorf("%w, which %s needs", err, name)
			}
		}
		files = append(files, file)
		return nil
	}
	for _, n := range names {
		if err := add(n); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// depends reads what a module says it depends on.
func depends(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, fmt.Errorf("vm: module %s: %w", filepath.Base(file), err)
	}
	defer f.Close()
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("vm: module %s has no .modinfo", filepath.Base(file))
	}
	info, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("vm: module %s: %w", filepath.Base(file), err)
	}
	for entry := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := strings.CutPrefix(string(entry), "depends="); ok && list != "" {
			return slices.Collect(strings.SplitSeq(list, ",")), nil
		}
	}
	return nil, nil
}
