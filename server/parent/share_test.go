package parent

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The runtime directory is root's in the end, whoever came first, and the
// gateway's account can put the group manager's socket there; nothing that was
// put there before stands in for what is root's.
func TestRuntimeDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("giving directories away needs root; CI is root")
	}
	const gateway, other = 61007, 61008
	own := func(t *testing.T, dir string, uid int, mode os.FileMode) {
		t.Helper()
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		before func(t *testing.T, dir string)
		shared bool
		want   string // of the error
	}{
		"missing":         {func(*testing.T, string) {}, true, ""},
		"the gateway's":   {func(t *testing.T, dir string) { own(t, dir, gateway, 0o700) }, true, ""},
		"root's":          {func(t *testing.T, dir string) { own(t, dir, 0, 0o755) }, false, ""},
		"another's":       {func(t *testing.T, dir string) { own(t, dir, other, 0o700) }, false, "belongs to uid 61008"},
		"with a sessions": {func(t *testing.T, dir string) { own(t, dir, gateway, 0o700); own(t, dir+"/sessions", gateway, 0o700) }, true, "sessions belongs to uid 61007"},
		"a link": {func(t *testing.T, dir string) {
			if err := os.Symlink(t.TempDir(), dir); err != nil {
				t.Fatal(err)
			}
		}, false, "-runtime"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &parent{Config: Config{Runtime: filepath.Join(t.TempDir(), "run"), Log: slog.New(slog.DiscardHandler)}}
			p.gateway = &syscall.Credential{Uid: gateway, Gid: gateway}
			c.before(t, p.Runtime)
			lock, err := p.prepare()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
			if lock != nil {
				lock.Close()
			}
			if !c.shared {
				return
			}
			st, err := os.Stat(p.Runtime)
			if err != nil {
				t.Fatal(err)
			}
			sys := st.Sys().(*syscall.Stat_t)
			if sys.Uid != 0 || sys.Gid != gateway || st.Mode() != os.ModeDir|os.ModeSticky|0o770 {
				t.Errorf("uid %d, gid %d, %v", sys.Uid, sys.Gid, st.Mode())
			}
		})
	}
}
