package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whoever can write to the state directory is the group's authority.
func TestStateDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lib", "hotdesk")
	if err := stateDir(dir); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o711 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := stateDir(dir); err != nil {
		t.Errorf("one that is there: %v", err)
	}
	if err := os.Chmod(dir, 0o730); err != nil {
		t.Fatal(err)
	}
	if err := stateDir(dir); err == nil || !strings.Contains(err.Error(), "chmod 711") {
		t.Errorf("others may write: %v", err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	if err := stateDir(link); err == nil {
		t.Error("a link was taken")
	}
}
