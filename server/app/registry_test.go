package app

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hotdesk/server/auth"
)

func TestRegistryFlags(t *testing.T) {
	listen, peer := netip.MustParseAddrPort("192.0.2.1:7445"), netip.MustParseAddrPort("192.0.2.1:7446")
	const three = "a=https://192.0.2.1:7446,b=https://192.0.2.2:7446,c=https://192.0.2.3:7446"
	for _, c := range []struct {
		r    RegistryConfig
		want string // in the error, "" for none
	}{
		{RegistryConfig{At: "embedded"}, ""},
		{RegistryConfig{At: "none"}, ""},
		{RegistryConfig{At: "/var/lib/x"}, ""},
		{RegistryConfig{At: "https://192.0.2.1:2379"}, ""},
		{RegistryConfig{At: "https://a:1,https://b:1,https://c:1"}, ""},
		{RegistryConfig{At: "http://127.0.0.1:2379"}, ""},
		{RegistryConfig{At: "https://a:1,https://b:1"}, "two are no better"},
		{RegistryConfig{At: "http://192.0.2.1:2379"}, "loopback addresses only"},
		{RegistryConfig{At: "somewhere"}, "it is embedded, none"},
		{RegistryConfig{At: "embedded", Listen: listen, Peer: peer, Cluster: three}, ""},
		{RegistryConfig{At: "embedded", Cluster: three}, "needs -registry-listen"},
		{RegistryConfig{At: "embedded", Peer: peer}, "is for -registry-cluster"},
		{RegistryConfig{At: "embedded", Listen: listen, Peer: peer, Cluster: "a=https://192.0.2.1:7446,b=https://192.0.2.2:7446"}, "three voters"},
		{RegistryConfig{At: "embedded", Listen: listen, Peer: peer, Cluster: three + ",d=https://192.0.2.4:7446"}, "three voters"},
		{RegistryConfig{At: "embedded", Listen: listen, Peer: peer, Cluster: "a=http://192.0.2.1:7446"}, "NAME=https"},
	} {
		err := c.r.check()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.r, err, c.want)
		}
	}
}

// A host that follows another becomes the registry when an admin says so, and
// stays it.
func TestAdopt(t *testing.T) {
	c := Config{Local: true, State: t.TempDir(), Addr: netip.MustParseAddr("127.0.0.9"), Host: "south", Registry: RegistryConfig{At: "https://192.0.2.1:7445"}}
	if err := c.makeData(); err != nil {
		t.Fatal(err)
	}
	adopt := c.adopt()
	if adopt == nil {
		t.Fatal("a follower cannot adopt")
	}
	next, err := adopt()
	if err != nil || !strings.Contains(next, "restart server") {
		t.Errorf("%q, %v", next, err)
	}
	r, err := c.openRegistry(nil)
	if err != nil {
		t.Fatal(err)
	}
	if st := r.Status(); st.Mode != "embedded, adopted" {
		t.Errorf("%+v", st)
	}
	if c.adopt() != nil {
		t.Error("twice")
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan struct{})
	go func() { defer close(served); r.Serve(ctx) }()
	for news := r.News(); !r.Status().Connected; news = r.News() {
		<-news
	}
	cancel()
	<-served
}

// A host that has joined needs no authority's key.
func TestJoinedHost(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	a, err := auth.Create(first)
	if err != nil {
		t.Fatal(err)
	}
	key, request, err := auth.Request("south")
	if err != nil {
		t.Fatal(err)
	}
	chain, err := a.Sign("south", request)
	if err != nil {
		t.Fatal(err)
	}
	if err := auth.Install(second, "south", strings.Repeat("0", 64), key, chain); err == nil {
		t.Error("another fingerprint")
	}
	if err := auth.Install(second, "south", a.Fingerprint(), key, chain); err != nil {
		t.Fatal(err)
	}
	c := Config{State: second, Host: "south"}
	cert, keyFile, fingerprint, err := c.certificate(auth.Open, "south")
	if err != nil || fingerprint != a.Fingerprint() || filepath.Base(cert) != "host-south.pem" {
		t.Fatalf("%s, %s, %v", cert, fingerprint, err)
	}
	cf, err1 := os.Open(cert)
	kf, err2 := os.Open(keyFile)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	defer cf.Close()
	defer kf.Close()
	if _, err := auth.ServerConfig(cf, kf); err != nil {
		t.Error(err)
	}
	id, err := readHostKeys(cf, kf)
	if err != nil {
		t.Fatal(err)
	}
	if got, until := id.facts(); got != a.Fingerprint() || until.IsZero() {
		t.Errorf("%s, %v", got, until)
	}
	if _, _, _, err := c.certificate(auth.Open, "west"); err == nil {
		t.Error("another name")
	}
	if _, err := a.Sign("south", []byte("x")); err == nil {
		t.Error("a request that is none")
	}
}
