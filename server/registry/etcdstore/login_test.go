package etcdstore

import (
	"context"
	"crypto/tls"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"hotdesk/server/registry"
	"hotdesk/server/registry/registrytest"
)

// others starts an etcd of others: TLS, and whoever comes says name and password.
func others(t *testing.T, dir string, m member, at url.URL) *embed.Etcd {
	t.Helper()
	conf := embed.NewConfig()
	conf.Dir = filepath.Join(dir, "etcd")
	peer := []url.URL{{Scheme: "unix", Host: "nowhere"}}
	conf.ListenPeerUrls, conf.AdvertisePeerUrls = nil, peer
	conf.InitialCluster = conf.InitialClusterFromName(conf.Name)
	conf.ListenClientUrls, conf.AdvertiseClientUrls = []url.URL{at}, []url.URL{at}
	conf.ClientTLSInfo = transport.TLSInfo{CertFile: m.cert, KeyFile: m.key, Logger: zap.NewNop()}
	conf.BcryptCost = 4 // the cheapest
	conf.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(conf)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		t.Fatal(err)
	}
	return e
}

// account makes a user who may do what Hotdesk needs and nothing else, and turns
// etcd's authentication on.
func account(t *testing.T, r Remote) {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: r.Endpoints, TLS: named(r.TLS), Logger: zap.NewNop(), DialTimeout: dialTime})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := t.Context()
	perm := clientv3.PermissionType(clientv3.PermReadWrite)
	for _, do := range []func() error{
		func() error { _, err := c.UserAdd(ctx, "root", "the admin's"); return err },
		func() error { _, err := c.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := c.RoleAdd(ctx, "registry"); return err },
		func() error {
			_, err := c.RoleGrantPermission(ctx, "registry", prefix, clientv3.GetPrefixRangeEnd(prefix), perm)
			return err
		},
		func() error { _, err := c.UserAdd(ctx, r.User, r.Password); return err },
		func() error { _, err := c.UserGrantRole(ctx, r.User, "registry"); return err },
		func() error { _, err := c.UserAdd(ctx, "guest", "guest"); return err },
		func() error { _, err := c.AuthEnable(ctx); return err },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPassword is an etcd of others with TLS, a user and a password. Its tokens
// are lost when it starts again, as when they have expired: the registry goes on
// with new ones.
func TestPassword(t *testing.T) {
	m := members(t, "etcd")[0]
	d := dir(t)
	at := url.URL{Scheme: "https", Host: free(t).String()}
	r := Remote{Endpoints: []string{at.String()}, TLS: m.client(t), User: "hotdesk", Password: "no: guess"}
	r.TLS.Certificates = nil
	e := others(t, d, m, at)
	defer func() { e.Close() }() // waits for those who still follow it
	account(t, r)

	for _, c := range []struct{ user, password, want string }{
		{"hotdesk", "guess", "-registry-login"},
		{"nobody", "no: guess", "-registry-login"},
		{"", "", "-registry-login"},
		{"guest", "guest", "give its user or role the right"},
	} {
		bad := r
		bad.User, bad.Password = c.user, c.password
		s, err := Dial(t.Context(), bad)
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || c.password != "" && strings.Contains(err.Error(), c.password) && c.user != c.password {
			t.Errorf("%s: %v", c.user, err)
		}
	}
	plain := r
	plain.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
	if s, err := dialSoon(t, plain); err == nil {
		s.Close()
		t.Error("an etcd of an unknown authority is followed")
	}

	reg, err := registry.Open(registry.Config{Dir: dir(t), Host: "north", Mode: "etcd", Connect: func(ctx context.Context) (registry.Store, error) { return Dial(ctx, r) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan struct{})
	go func() { defer close(served); reg.Serve(ctx) }()
	defer func() { cancel(); <-served }()
	until := func(connected bool) {
		t.Helper()
		for news := reg.News(); reg.Status().Connected != connected; news = reg.News() {
			<-news
		}
	}
	until(true)
	if rev, err := registrytest.Put(t.Context(), reg, "card.1"); err != nil || rev != 1 {
		t.Fatalf("revision %d, %v", rev, err)
	}
	e.Close()
	until(false)
	if _, err := registrytest.Put(t.Context(), reg, "card.2"); err == nil {
		t.Error("a change was made while etcd was away")
	}
	e = others(t, d, m, at)
	until(true)
	if rev, err := registrytest.Put(t.Context(), reg, "card.2"); err != nil || rev != 2 {
		t.Errorf("revision %d, %v", rev, err)
	}
}

// TestTokenLost is a connection whose token etcd does not know any more: it asks
// for a new one by itself.
func TestTokenLost(t *testing.T) {
	m := members(t, "etcd")[0]
	d := dir(t)
	at := url.URL{Scheme: "https", Host: free(t).String()}
	r := Remote{Endpoints: []string{at.String()}, TLS: m.client(t), User: "hotdesk", Password: "word"}
	e := others(t, d, m, at)
	account(t, r)
	s, err := Dial(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Append(t.Context(), 1, []byte("one")); err != nil {
		t.Fatal(err)
	}
	e.Close()
	e = others(t, d, m, at) // tokens are in its memory only
	defer e.Close()
	if err := put(t, s, 2); err != nil {
		t.Error(err)
	}
}

func dialSoon(t *testing.T, r Remote) (*Store, error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	return Dial(ctx, r)
}
