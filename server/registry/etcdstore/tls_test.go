package etcdstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/server/auth"
	"hotdesk/server/registry"
	"hotdesk/server/registry/registrytest"
)

// A member is a host's files.
type member struct{ cert, key, ca string }

func members(t *testing.T, names ...string) []member {
	t.Helper()
	d := t.TempDir()
	a, err := auth.Create(d)
	if err != nil {
		t.Fatal(err)
	}
	var all []member
	for _, n := range names {
		cert, key, err := a.Host(n)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, member{cert, key, a.File()})
	}
	return all
}

func (m member) client(t *testing.T) *tls.Config {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(m.cert, m.key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(m.ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return &tls.Config{MinVersion: tls.VersionTLS13, ServerName: alp.ServerName, RootCAs: roots, Certificates: []tls.Certificate{pair}}
}

// free is a loopback address that nobody uses now.
func free(t *testing.T) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.9:0", os.Getpid()>>8&0xff, os.Getpid()&0xff))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return netip.MustParseAddrPort(ln.Addr().String())
}

func dial(t *testing.T, at netip.AddrPort, conf *tls.Config) (*Store, error) {
	return dialSoon(t, Remote{Endpoints: []string{"https://" + at.String()}, TLS: conf})
}

// TestTwoHosts: the second host follows the first one's registry with its
// certificate of the group; whoever has none, or another group's, is refused.
func TestTwoHosts(t *testing.T) {
	m := members(t, "north", "south")
	at := free(t)
	north := start(t, Embedded{Dir: dir(t), Listen: at, Cert: m[0].cert, Key: m[0].key, Trusted: m[0].ca})
	defer north.Close()
	conf := m[1].client(t)
	c, err := Dial(t.Context(), Remote{Endpoints: []string{"https://" + at.String()}, TLS: conf})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Append(t.Context(), 1, []byte("by south")); err != nil {
		t.Fatal(err)
	}
	if b, err := north.Get(t.Context(), 1); string(b) != "by south" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	none := m[1].client(t)
	none.Certificates = nil
	strange := members(t, "south")[0].client(t)
	strange.RootCAs = conf.RootCAs
	for name, conf := range map[string]*tls.Config{"no certificate": none, "another group's": strange} {
		if s, err := dial(t, at, conf); err == nil {
			s.Close()
			t.Errorf("%s: let in", name)
		}
	}
	posing := m[1].client(t)
	posing.RootCAs = members(t, "x")[0].client(t).RootCAs
	if s, err := dial(t, at, posing); err == nil {
		s.Close()
		t.Error("a registry of another group is followed")
	}
}

// TestThreeVoters: any one of three may be away, and what was made meanwhile is
// there when it is back; with two away no change is made.
func TestThreeVoters(t *testing.T) {
	names := []string{"h1", "h2", "h3"}
	m := members(t, names...)
	var confs []Embedded
	cluster := map[string]string{}
	for i, n := range names {
		e := Embedded{Dir: dir(t), Listen: free(t), Peer: free(t), Cert: m[i].cert, Key: m[i].key, Trusted: m[i].ca, Name: n, Cluster: cluster}
		cluster[n] = "https://" + e.Peer.String()
		confs = append(confs, e)
	}
	type result struct {
		i   int
		s   *Store
		err error
	}
	results := make(chan result)
	for i, e := range confs {
		go func() {
			s, err := Start(context.WithoutCancel(t.Context()), e)
			results <- result{i, s, err}
		}()
	}
	stores := make([]*Store, 3)
	for range stores {
		r := <-results
		if r.err != nil {
			t.Fatal(r.err)
		}
		stores[r.i] = r.s
	}
	for i, s := range stores { // each can write
		if err := s.Append(t.Context(), uint64(i+1), []byte(names[i])); err != nil {
			t.Fatal(err)
		}
	}
	stores[0].Close()
	if err := put(t, stores[1], 4); err != nil {
		t.Errorf("with one away: %v", err)
	}
	if err := stores[1].Close(); err != nil {
		t.Error(err)
	}
	within, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	if err := stores[2].Append(within, 5, []byte("x")); err == nil {
		t.Error("a change with two of three away")
	}
	cancel()
	for _, i := range []int{0, 1} {
		go func() {
			s, err := Start(context.WithoutCancel(t.Context()), confs[i])
			results <- result{i, s, err}
		}()
	}
	for range 2 {
		r := <-results
		if r.err != nil {
			t.Fatal(r.err)
		}
		stores[r.i] = r.s
		defer r.s.Close()
	}
	defer stores[2].Close()
	if b, err := stores[0].Get(t.Context(), 4); string(b) != "later" || err != nil {
		t.Errorf("what was made meanwhile: %q, %v", b, err)
	}
}

// put appends; a leader that has just gone is waited for.
func put(t *testing.T, s *Store, rev uint64) error {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		within, stop := context.WithTimeout(ctx, 5*time.Second)
		err := s.Append(within, rev, []byte("later"))
		stop()
		if b, _ := s.Get(ctx, rev); err == nil || string(b) == "later" {
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
	}
}

func TestClusterOfTwo(t *testing.T) {
	e := Embedded{Dir: dir(t), Name: "a", Cluster: map[string]string{"a": "https://127.0.0.1:1", "b": "https://127.0.0.1:2"}}
	if _, err := Start(t.Context(), e); err == nil {
		t.Error("two voters")
	}
}

// TestRegistry is a registry on a real etcd that is lost and comes back, from
// another process's view: over the network.
func TestRegistry(t *testing.T) {
	m := members(t, "north", "south")
	e := Embedded{Dir: dir(t), Listen: free(t), Cert: m[0].cert, Key: m[0].key, Trusted: m[0].ca}
	north := start(t, e)
	conf := m[1].client(t)
	copyDir := filepath.Join(t.TempDir(), "copy")
	r, err := registry.Open(registry.Config{Dir: copyDir, Host: "south", Connect: func(ctx context.Context) (registry.Store, error) {
		return Dial(ctx, Remote{Endpoints: []string{"https://" + e.Listen.String()}, TLS: conf})
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan struct{})
	go func() { defer close(served); r.Serve(ctx) }()
	defer func() { cancel(); <-served }()
	until := func(connected bool, rev uint64) {
		t.Helper()
		late := time.After(60 * time.Second)
		for {
			news := r.News()
			if st := r.Status(); st.Connected == connected && st.Rev >= rev {
				return
			}
			select {
			case <-news:
			case <-late:
				t.Fatalf("never: connected %v, revision %d: %+v", connected, rev, r.Status())
			}
		}
	}
	until(true, 0)
	if _, err := registrytest.Put(ctx, r, "card.1"); err != nil {
		t.Fatal(err)
	}
	if err := north.Close(); err != nil {
		t.Error(err)
	}
	until(false, 1)
	if _, ok := r.Snapshot().Token("card.1"); !ok {
		t.Error("what is known is gone with the registry")
	}
	north = start(t, e)
	defer north.Close()
	until(true, 1)
	if rev, err := registrytest.Put(ctx, r, "card.2"); err != nil || rev != 2 {
		t.Errorf("revision %d, %v", rev, err)
	}
}
