package vm

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// An Initramfs is what a machine starts with.
type Initramfs struct {
	// Init is the file of a static program, which becomes process 1.
	Init string
	// Modules are what Kernel.Modules gave. They are put into ModuleFolder, with
	// their order in the file ModuleOrder.
	Modules []string
	// Files are further ones: their path in the machine, without the first
	// slash, and their file here. Links are followed.
	Files map[string]string
	// Text is further files by their content.
	Text map[string]string
}

// Where package boot of the terminal looks for modules.
const (
	ModuleFolder = "modules"
	ModuleOrder  = ModuleFolder + "/order"
)

// Write makes the file, a zstd-compressed cpio archive.
func (i Initramfs) Write(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("vm: initramfs: %w", err)
	}
	defer f.Close()
	z, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return fmt.Errorf("vm: initramfs: %w", err)
	}
	c := &cpio{w: bufio.NewWriter(z), made: map[string]bool{}}
	if err := i.pack(c); err != nil {
		return fmt.Errorf("vm: initramfs: %w", err)
	}
	c.entry("TRAILER!!!", 0, nil, 0, 0, 0)
	for _, end := range []func() error{func() error { return c.err }, c.w.Flush, z.Close, f.Close} {
		if err := end(); err != nil {
			return fmt.Errorf("vm: initramfs: %w", err)
		}
	}
	return nil
}

func (i Initramfs) pack(c *cpio) error {
	for _, dir := range []string{"dev", "proc", "sys", "tmp", "run", "etc"} {
		c.folder(dir)
	}
	// The kernel gives its first process this console, and there is none else
	// before /dev is mounted.
	c.device("dev/console", 0o600, 5, 1)
	c.device("dev/null", 0o666, 1, 3)
	if err := c.file("init", i.Init); err != nil {
		return err
	}
	var order strings.Builder
	for _, m := range i.Modules {
		name := filepath.Base(m)
		if err := c.file(path.Join(ModuleFolder, name), m); err != nil {
			return err
		}
		fmt.Fprintln(&order, name)
	}
	c.text(ModuleOrder, order.String())
	for _, name := range slices.Sorted(maps.Keys(i.Files)) {
		if err := c.file(name, i.Files[name]); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(i.Text)) {
		c.text(name, i.Text[name])
	}
	return nil
}

// A cpio writes the "new ASCII" format of cpio(5).
type cpio struct {
	w     *bufio.Writer
	made  map[string]bool // folders
	ino   int
	mtime int64 // of what comes
	err   error // the first one
}

const (
	modeFolder = 0o040000
	modeFile   = 0o100000
	modeDevice = 0o020000
)

func (c *cpio) folder(name string) {
	if name == "." || c.made[name] {
		return
	}
	c.folder(path.Dir(name))
	c.made[name] = true
	c.add(name, modeFolder|0o755, nil, 0)
}

func (c *cpio) device(name string, perm uint32, major, minor uint32) {
	c.folder(path.Dir(name))
	c.entry(name, modeDevice|perm, nil, 0, major, minor)
}

func (c *cpio) text(name, text string) {
	c.folder(path.Dir(name))
	c.add(name, modeFile|0o644, strings.NewReader(text), int64(len(text)))
}

// file copies one, with its permissions.
func (c *cpio) file(name, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	c.folder(path.Dir(name))
	c.mtime = info.ModTime().Unix()
	c.add(name, modeFile|uint32(info.Mode().Perm()), f, info.Size())
	return nil
}

func (c *cpio) add(name string, mode uint32, r io.Reader, size int64) {
	c.entry(name, mode, r, size, 0, 0)
}

func (c *cpio) entry(name string, mode uint32, r io.Reader, size int64, major, minor uint32) {
	if c.err != nil {
		return
	}
	c.ino++
	// magic ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor
	// rdevminor namesize check
	head := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		c.ino, mode, 0, 0, 1, c.mtime, size, 0, 0, major, minor, len(name)+1, 0, name)
	c.write(strings.NewReader(head), int64(len(head)))
	if r != nil {
		c.write(r, size)
	}
}

// write writes n bytes and fills up to a multiple of four.
func (c *cpio) write(r io.Reader, n int64) {
	if c.err != nil {
		return
	}
	if _, c.err = io.CopyN(c.w, r, n); c.err == nil {
		_, c.err = c.w.WriteString("\x00\x00\x00"[:(4-n%4)%4])
	}
}
