package sweep

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// TestSocket: the socket of a dead program goes, that of another one, or of one
// that lives, stays.
func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listen := func() *net.UnixListener {
		t.Helper()
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		return l
	}
	remove := func(s Socket) {
		t.Helper()
		if err := s.Remove(); err != nil {
			t.Error(err)
		}
	}
	there := func() bool { _, err := os.Lstat(path); return err == nil }

	none := SocketAt(path)
	l := listen()
	s := SocketAt(path)
	if s.Inode == 0 || none.Inode != 0 {
		t.Fatalf("%v, before %v", s, none)
	}
	if got, err := ParseSocket(s.String()); err != nil || got != s {
		t.Errorf("%v, %v", got, err)
	}
	remove(none)
	remove(s)
	if !there() {
		t.Fatal("one that lives was removed")
	}
	l.Close()
	remove(Socket{path, s.Inode + 1})
	if !there() {
		t.Fatal("another's was removed")
	}
	remove(s)
	if there() {
		t.Error("a dead one stays")
	}
	remove(s)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	remove(s)
	if SocketAt(path).Inode != 0 || !there() {
		t.Error("a file that is none was taken for one")
	}
}

func FuzzParseSocket(f *testing.F) {
	f.Add(Socket{"/tmp/.X11-unix/X1000", 7}.String())
	f.Add("7")
	f.Add("x /tmp")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSocket(text)
		if err != nil {
			if s != (Socket{}) {
				t.Errorf("%v beside %v", s, err)
			}
			return
		}
		if again, err := ParseSocket(s.String()); err != nil || again != s {
			t.Errorf("%v, %v, of %v", again, err, s)
		}
	})
}
