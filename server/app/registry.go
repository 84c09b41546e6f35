package app

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/program"
	"hotdesk/server/auth"
	"hotdesk/server/registry"
	"hotdesk/server/registry/etcdstore"
)

// Kinds of -registry that are no address and no directory.
const (
	registryEmbedded = "embedded"
	registryNone     = "none"
)

// adoptedFile says that an admin made this host the registry.
const adoptedFile = "registry-adopted"

// RegistryConfig says where the registry is.
type RegistryConfig struct {
	At      string         // embedded, none, a directory, or addresses of etcd
	Listen  netip.AddrPort // where other hosts reach an embedded one
	Peer    netip.AddrPort // where the other two voters reach it
	Cluster string         // NAME=https://ADDRESS:PORT of all three
	TLS     string         // directory of ca.pem, client.pem and client.key for etcd of others
	Login   string         // file with a line USER:PASSWORD
}

// dataDir is the gateway's own directory.
func (c *Config) dataDir() string {
	if c.Local { // several hosts may share -state
		return filepath.Join(c.State, "gateway-"+c.Addr.String())
	}
	return filepath.Join(c.State, "gateway")
}

// endpoints reads addresses of etcd, nil where at is something else.
func (r RegistryConfig) endpoints() ([]string, error) {
	if r.At == registryEmbedded || r.At == registryNone || filepath.IsAbs(r.At) {
		return nil, nil
	}
	all := strings.Split(r.At, ",")
	for _, s := range all {
		u, err := url.Parse(s)
		ok := err == nil && (u.Scheme == "https" && u.Host != "" || u.Scheme == "unix" || u.Scheme == "http" && loopback(u.Hostname()))
		if !ok {
			return nil, program.Usagef("-registry %q: it is embedded, none, an absolute DIR, or https://HOST:PORT of etcd, several with commas; http is for loopback addresses only", r.At)
		}
	}
	if len(all) == 2 {
		return nil, program.Usagef("-registry %s: two are no better than one, as both must answer; name one, or three", r.At)
	}
	return all, nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// cluster reads NAME=URL,NAME=URL,NAME=URL.
func (r RegistryConfig) cluster() (map[string]string, error) {
	if r.Cluster == "" {
		return nil, nil
	}
	out := map[string]string{}
	for s := range strings.SplitSeq(r.Cluster, ",") {
		name, at, ok := strings.Cut(s, "=")
		u, err := url.Parse(at)
		if !ok || err != nil || u.Scheme != "https" || u.Port() == "" || name == "" {
			return nil, program.Usagef("-registry-cluster: %q is not NAME=https://ADDRESS:PORT", s)
		}
		out[name] = at
	}
	if len(out) != 3 {
		return nil, program.Usagef("-registry-cluster names %d hosts: it has three voters, so that one may be away; with two hosts one is the registry and the other follows it with -registry https://ADDRESS:PORT", len(out))
	}
	return out, nil
}

func (r RegistryConfig) check() error {
	_, err1 := r.endpoints()
	c, err2 := r.cluster()
	err := cmp.Or(err1, err2)
	switch {
	case err != nil:
		return err
	case c != nil && (!r.Listen.IsValid() || !r.Peer.IsValid()):
		return program.Usagef("-registry-cluster needs -registry-listen and -registry-peer, the addresses of this host in it")
	case r.Peer.IsValid() && c == nil:
		return program.Usagef("-registry-peer is for -registry-cluster")
	}
	return nil
}

// hostKeys is this host's certificate, as the parent gave it.
type hostKeys struct{ cert, key []byte }

func readHostKeys(cert, key io.ReaderAt) (hostKeys, error) {
	c, err1 := io.ReadAll(io.NewSectionReader(cert, 0, auth.MaxFile))
	k, err2 := io.ReadAll(io.NewSectionReader(key, 0, auth.MaxFile))
	if err := errors.Join(err1, err2); err != nil {
		return hostKeys{}, fmt.Errorf("server: %w", err)
	}
	return hostKeys{c, k}, nil
}

// authority is the PEM of the group authority's certificate.
func (i hostKeys) authority() []byte {
	var last *pem.Block
	for block, rest := pem.Decode(i.cert); block != nil; block, rest = pem.Decode(rest) {
		last = block
	}
	if last == nil {
		return nil
	}
	return pem.EncodeToMemory(last)
}

// files writes the hostKeys where etcd, which wants files, can read it: into
// the gateway's own directory, which is closed to others.
func (i hostKeys) files(dir string) (cert, key, ca string, err error) {
	cert, key, ca = filepath.Join(dir, "registry-host.pem"), filepath.Join(dir, "registry-host.key"), filepath.Join(dir, "registry-authority.pem")
	for path, text := range map[string][]byte{cert: i.cert, key: i.key, ca: i.authority()} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return "", "", "", fmt.Errorf("server: %w", err)
		}
	}
	return cert, key, ca, nil
}

// openRegistry opens this host's copy. It is nil for -registry none.
func (c *Config) openRegistry(id *passport) (*registry.Registry, error) {
	if c.Registry.At == registryNone {
		return nil, nil
	}
	dir := c.dataDir()
	conf := registry.Config{Dir: filepath.Join(dir, "registry-copy"), Host: c.Host, Mode: c.Registry.At, Log: c.Log}
	ends, err := c.Registry.endpoints()
	if err != nil {
		return nil, err
	}
	if c.adopted() {
		conf.Mode, ends = "embedded, adopted", nil
	}
	cluster, err := c.Registry.cluster()
	if err != nil {
		return nil, err
	}
	if ends != nil {
		conf.Connect = func(ctx context.Context) (registry.Store, error) { return c.dialRegistry(ctx, ends, id) }
		return registry.Open(conf)
	}
	conf.Owner = cluster == nil
	if cluster != nil {
		conf.Mode = "one of three voters"
	}
	conf.Connect = func(ctx context.Context) (registry.Store, error) {
		e := etcdstore.Embedded{Dir: filepath.Join(dir, "registry"), Listen: c.Registry.Listen, Name: c.Host, Cluster: cluster, Peer: c.Registry.Peer, Log: c.Log}
		if filepath.IsAbs(c.Registry.At) {
			e.Dir = c.Registry.At
		}
		if e.Listen.IsValid() {
			var err error
			if e.Cert, e.Key, e.Trusted, err = id.now.Load().keys.files(dir); err != nil {
				return nil, err
			}
		}
		return etcdstore.Start(ctx, e)
	}
	return registry.Open(conf)
}

func (c *Config) adopted() bool {
	_, err := os.Lstat(filepath.Join(c.dataDir(), adoptedFile))
	return err == nil
}

// adopt notes that this host is the registry from its next start on. It is nil
// where it is already.
func (c *Config) adopt() func() (string, error) {
	ends, err := c.Registry.endpoints()
	if err != nil || ends == nil || c.adopted() {
		return nil
	}
	return func() (string, error) {
		if err := os.WriteFile(filepath.Join(c.dataDir(), adoptedFile), []byte(c.Registry.At+"\n"), 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("server: %w", err)
		}
		next := "restart server on this host: it goes on from its copy"
		if !c.Registry.Listen.IsValid() {
			next += "; start it with -registry-listen ADDRESS:PORT, so that the other host can follow"
		}
		return next + "; on the other host, before it comes back, set -registry to this host's address, and once it is back run `hotdesk registry accept` there if it says so", nil
	}
}

// dialRegistry connects to etcd of others: with the certificate of this host,
// or what -registry-tls holds.
func (c *Config) dialRegistry(ctx context.Context, ends []string, id *passport) (registry.Store, error) {
	r := etcdstore.Remote{Endpoints: ends, Log: c.Log}
	if slices.ContainsFunc(ends, func(s string) bool { return strings.HasPrefix(s, "https:") }) {
		r.TLS = &tls.Config{MinVersion: tls.VersionTLS13, ServerName: alp.ServerName}
		keys := id.now.Load().keys
		ca, cert, key := keys.authority(), keys.cert, keys.key
		if dir := c.Registry.TLS; dir != "" {
			r.TLS.ServerName, r.TLS.MinVersion = "", tls.VersionTLS12
			for name, to := range map[string]*[]byte{"ca.pem": &ca, "client.pem": &cert, "client.key": &key} {
				b, err := readSmall(filepath.Join(dir, name))
				if err != nil {
					return nil, fmt.Errorf("server: -registry-tls: %w", err)
				}
				*to = b
			}
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("server: the registry's client certificate: %w", err)
		}
		r.TLS.Certificates = []tls.Certificate{pair}
		if r.TLS.RootCAs = x509.NewCertPool(); !r.TLS.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errors.New("server: the registry's authority is no certificate")
		}
	}
	if c.Registry.Login != "" {
		b, err := readSmall(c.Registry.Login)
		if err != nil {
			return nil, fmt.Errorf("server: -registry-login: %w", err)
		}
		var ok bool
		if r.User, r.Password, ok = strings.Cut(strings.TrimSpace(string(b)), ":"); !ok {
			return nil, fmt.Errorf("server: -registry-login %s: want a line USER:PASSWORD", c.Registry.Login)
		}
	}
	return etcdstore.Dial(ctx, r)
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, auth.MaxFile))
}

func registryFlags(fs *flag.FlagSet, c *Config) {
	r := &c.Registry
	fs.StringVar(&r.At, "registry", r.At, "`WHERE` the registry of tokens, users, policies and terminals is: embedded, in this program; an absolute DIR for that; https://HOST:PORT of the host of the group that has it, or of three etcd, with commas; none")
	fs.Func("registry-listen", "`ADDRESS:PORT` where other hosts of the group reach the embedded registry, with certificates of the group's authority (empty: nowhere)", addrPort(&r.Listen))
	fs.StringVar(&r.Cluster, "registry-cluster", "", "the `THREE` hosts that are the registry together: NAME=https://ADDRESS:PORT,... with the names of -host and the addresses of -registry-peer; each is started with an empty registry")
	fs.Func("registry-peer", "`ADDRESS:PORT` where the other two of -registry-cluster reach this host", addrPort(&r.Peer))
	fs.StringVar(&r.TLS, "registry-tls", "", "`DIR` of ca.pem, client.pem and client.key for an etcd that has another authority than the group")
	fs.StringVar(&r.Login, "registry-login", "", "`FILE` with a line USER:PASSWORD for an etcd that asks for one")
	fs.StringVar(&c.AdminGroup, "admin-group", "", "`NAME` of the group whose members may use the admin API (hotdesk), besides root")
}

func addrPort(to *netip.AddrPort) func(string) error {
	return func(s string) (err error) {
		*to, err = netip.ParseAddrPort(s)
		return err
	}
}
