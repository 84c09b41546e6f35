package etcdstore

import (
	"os"
	"strings"
	"testing"

	"hotdesk/server/registry"
	"hotdesk/server/registry/registrytest"
)

// dir is a directory whose path is short enough for a socket.
func dir(t *testing.T) string {
	d, err := os.MkdirTemp("", "hd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(d) })
	return d
}

func start(t *testing.T, e Embedded) *Store {
	t.Helper()
	s, err := Start(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEmbedded(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registry.Store {
		s := start(t, Embedded{Dir: dir(t)})
		t.Cleanup(func() { s.Close() })
		return s
	})
}

func TestMemory(t *testing.T) {
	registrytest.Run(t, func(*testing.T) registry.Store { return registrytest.New() })
}

// What was stored is there after a restart.
func TestRestart(t *testing.T) {
	d := dir(t)
	s := start(t, Embedded{Dir: d})
	if err := s.Append(t.Context(), 1, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s = start(t, Embedded{Dir: d})
	defer s.Close()
	if b, err := s.Get(t.Context(), 1); string(b) != "one" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if st, err := os.Stat(d); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

// The embedded etcd of one host can be reached from nowhere: neither by other
// machines nor by other users of this one.
func TestListensNowhere(t *testing.T) {
	before := sockets(t)
	s := start(t, Embedded{Dir: dir(t)})
	defer s.Close()
	for fd, name := range sockets(t) {
		if before[fd] == "" && strings.HasPrefix(name, "socket:") {
			t.Errorf("descriptor %s is %s", fd, name)
		}
	}
}

func sockets(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			all[e.Name()] = to
		}
	}
	return all
}
