package etcdstore

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// On a full disk Start says so: etcd would end the process. Once there is room
// it starts, and takes little of it.
func TestDiskFull(t *testing.T) {
	defer func(was func(string) (uint64, error)) { unused = was }(unused)
	real := unused
	unused = func(string) (uint64, error) { return 7 << 20, nil }
	d := dir(t)
	if s, err := Start(t.Context(), Embedded{Dir: d}); err == nil || !strings.Contains(err.Error(), "the disk is full: 7 MB are free, it wants 32") {
		t.Fatalf("on 7 MB: %v, %v", s, err)
	}
	unused = real
	s := start(t, Embedded{Dir: d})
	if err := s.Append(t.Context(), 1, []byte("one")); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	var size int64
	if err := filepath.WalkDir(d, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		i, err := e.Info()
		if err == nil {
			size += i.Size()
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if size > room {
		t.Errorf("it takes %d MB", size>>20)
	}
}
