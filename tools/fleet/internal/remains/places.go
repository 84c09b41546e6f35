package remains

import (
	"errors"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
)

// Places are files, folders and sockets that must be gone when a run is over.
// The zero Places are none. They are safe for concurrent use.
type Places struct {
	mu  sync.Mutex
	all map[string]bool
}

// Add adds some.
func (p *Places) Add(paths ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil {
		p.all = map[string]bool{}
	}
	for _, path := range paths {
		p.all[path] = true
	}
}

// Left are those that are still there. A socket at which somebody listens is
// another's, who has come since.
func (p *Places) Left() (left []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, path := range slices.Sorted(maps.Keys(p.all)) {
		info, err := os.Lstat(path)
		if err != nil {
			continue
		}
		if info.Mode()&os.ModeSocket != 0 {
			c, err := net.Dial("unix", path)
			if err == nil {
				c.Close()
			}
			if !errors.Is(err, syscall.ECONNREFUSED) {
				continue
			}
		}
		left = append(left, path)
	}
	return left
}
