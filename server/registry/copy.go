package registry

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// copyFile holds the changes, a line of JSON each.
const copyFile = "changes.log"

// A diskCopy is the list of changes on this host's disk. It is the Registry's
// Serve alone that writes to it.
type diskCopy struct {
	path string
	f    *os.File
}

// openCopy opens the copy of dir, makes it where there is none, cuts off what a
// crash tore, and hands each change to f.
func openCopy(dir string, f func(c Change, raw []byte) error) (*diskCopy, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	d := &diskCopy{path: filepath.Join(dir, copyFile)}
	file, err := os.OpenFile(d.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	good, err := readChanges(file, f)
	if err == nil {
		err = file.Truncate(good)
	}
	if err == nil {
		_, err = file.Seek(good, io.SeekStart)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("registry: %s: %w", d.path, err)
	}
	d.f = file
	return d, nil
}

// readChanges hands the changes of a copy to f and returns how many bytes hold
// whole ones. A last line that does not end is none.
func readChanges(r io.Reader, f func(c Change, raw []byte) error) (good int64, err error) {
	br := bufio.NewReaderSize(r, 64<<10)
	for {
		var line []byte
		for {
			part, err := br.ReadSlice('\n')
			if line = append(line, part...); len(line) > MaxChange+1 {
				return good, fmt.Errorf("a line of more than %d bytes", MaxChange)
			}
			if err == nil {
				break
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				if err == io.EOF {
					err = nil
				}
				return good, err
			}
		}
		b := bytes.TrimSuffix(line, []byte("\n"))
		c, err := decode(b)
		if err != nil {
			return good, err
		}
		if err := f(c, b); err != nil {
			return good, err
		}
		good += int64(len(line))
	}
}

// write adds encoded changes and waits until the disk has them.
func (d *diskCopy) write(encoded [][]byte) error {
	var b []byte
	for _, e := range encoded {
		b = append(append(b, e...), '\n')
	}
	at, err := d.f.Seek(0, io.SeekCurrent)
	if err == nil {
		if _, err = d.f.Write(b); err == nil {
			err = d.f.Sync()
		}
		if err != nil { // a part of a line must not stay before the next one
			err = errors.Join(err, d.f.Truncate(at))
			_, _ = d.f.Seek(at, io.SeekStart)
		}
	}
	if err != nil {
		return fmt.Errorf("registry: %s: %w", d.path, err)
	}
	return nil
}

// aside puts the copy out of the way and begins an empty one.
func (d *diskCopy) aside(now time.Time) (old string, err error) {
	old = d.path + ".old-" + strconv.FormatInt(now.UnixMilli(), 10)
	if err := os.Rename(d.path, old); err != nil {
		return "", fmt.Errorf("registry: %w", err)
	}
	f, err := os.OpenFile(d.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("registry: %w", err)
	}
	d.f.Close()
	d.f = f
	return old, nil
}

func (d *diskCopy) close() { d.f.Close() }

// scan hands the changes of the copy of dir to f, beside whoever writes to it.
func scan(dir string, f func(c Change, raw []byte) error) error {
	file, err := os.Open(filepath.Join(dir, copyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	defer file.Close()
	if _, err := readChanges(file, f); err != nil {
		return fmt.Errorf("registry: %s: %w", file.Name(), err)
	}
	return nil
}
