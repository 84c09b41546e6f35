package program

import (
	"fmt"
	"os"
	"path/filepath"
)

// RuntimeDir is where sockets and locks are where -runtime says nothing: gone
// at the next boot. With local it is a directory of the caller's.
func RuntimeDir(local bool) string {
	if !local {
		return "/run/hotdesk"
	}
	if d := os.Getenv("XDG_RUNTIME_DIR"); d != "" {
		return filepath.Join(d, "hotdesk")
	}
	return fmt.Sprintf("/tmp/hotdesk-%d", os.Getuid())
}

// StateDir is where keys and certificates are where -state says nothing. With
// local it is a directory of the caller's.
func StateDir(local bool) string {
	if !local {
		return "/var/lib/hotdesk"
	}
	if d := os.Getenv("XDG_STATE_HOME"); d != "" {
		return filepath.Join(d, "hotdesk")
	}
	if d, err := os.UserHomeDir(); err == nil {
		return filepath.Join(d, ".local", "state", "hotdesk")
	}
	return filepath.Join(RuntimeDir(true), "state")
}
