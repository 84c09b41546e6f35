package app

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/server/admin"
	"hotdesk/server/audit"
	"hotdesk/server/auth"
	"hotdesk/server/control"
	"hotdesk/server/grouplink"
	"hotdesk/server/policy"
	"hotdesk/server/registry"
)

// makeData makes the gateway's own directory, where the registry's copy and the
// audit are. The parent does so, since -state is root's.
func (c *Config) makeData() error {
	dir := c.dataDir()
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("server: %w", err)
	}
	if c.Local {
		return nil
	}
	uid, gid, err := account(c.GatewayUser)
	if err != nil {
		return fmt.Errorf("server: -gateway-user: %w", err)
	}
	if err := os.Lchown(dir, uid, gid); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return nil
}

func account(name string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, err
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return uid, gid, errors.Join(err1, err2)
}

// adminSocket opens the admin API's socket: root's, and the admin group's if
// there is one. The runtime directory is there by now.
func (c *Config) adminSocket() (*os.File, error) {
	path := filepath.Join(c.Runtime, adminapi.Socket)
	if nc, err := net.Dial("unix", path); err == nil {
		nc.Close()
		return nil, fmt.Errorf("server: another server answers at %s", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("server: %w", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("server: admin API: %w", err)
	}
	defer ln.Close()
	ln.SetUnlinkOnClose(false)
	mode := fs.FileMode(0o600)
	if c.AdminGroup != "" {
		g, err := user.LookupGroup(c.AdminGroup)
		if err != nil {
			return nil, fmt.Errorf("server: -admin-group: %w", err)
		}
		gid, err := strconv.Atoi(g.Gid)
		if err == nil {
			err = os.Lchown(path, os.Geteuid(), gid)
		}
		if err != nil {
			return nil, fmt.Errorf("server: -admin-group: %w", err)
		}
		mode = 0o660
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, fmt.Errorf("server: admin API: %w", err)
	}
	f, err := ln.File()
	if err != nil {
		return nil, fmt.Errorf("server: admin API: %w", err)
	}
	return f, nil
}

// adminFile returns what hands out the admin API's socket, which is opened at
// the first gateway's start, when the parent has the runtime directory.
func (c *Config) adminFile() func() *os.File {
	return sync.OnceValue(func() *os.File {
		f, err := c.adminSocket()
		if err != nil {
			c.Log.Error("no admin API", "err", err)
			f, _ = os.Open(os.DevNull) // keeps the place among the descriptors
		}
		return f
	})
}

// An office is what of the gateway admins see: registry, audit, API.
type office struct {
	conf     *Config
	registry *registry.Registry // nil: none
	audit    *audit.Log         // nil: it cannot be written
	ln       *net.UnixListener  // nil: there is none
	id       *passport
	peers    *admin.Peers
	sign     func(ctx context.Context, name string, public []byte) ([]byte, error) // has the parent renew a certificate

	entries chan audit.Entry
	lost    atomic.Int64
}

// maxEntries bounds the entries that wait for the disk.
const maxEntries = 4096

func (c *Config) openOffice(id *passport) (*office, error) {
	o := &office{conf: c, id: id, peers: admin.NewPeers(), entries: make(chan audit.Entry, maxEntries)}
	var err error
	if o.audit, err = audit.Open(c.auditDir(), c.Host, time.Now); err != nil {
		// Terminals are served nevertheless: an audit that stops the work
		// would be a way to stop it.
		c.Log.Error("audit cannot be written", "err", err)
	}
	if o.registry, err = c.openRegistry(id); err != nil {
		return nil, err
	}
	f := os.NewFile(adminFD, "admin API")
	defer f.Close()
	if ln, err := net.FileListener(f); err == nil {
		if u, ok := ln.(*net.UnixListener); ok {
			o.ln = u
		} else {
			ln.Close()
		}
	}
	return o, nil
}

func (c *Config) auditDir() string { return filepath.Join(c.dataDir(), "audit") }

// view is what control reads of the registry.
func (o *office) view() policy.View {
	if o.registry == nil {
		return nil
	}
	return o.registry.Snapshot()
}

// handOver gives a user's login to the host that the user is sent to.
func (o *office) handOver(ctx context.Context, host string, to netip.AddrPort, l adminapi.PeerLogin) error {
	return admin.HandLogin(ctx, o.id.dialPeer(), host, to, l)
}

// note takes an entry for the audit and returns at once.
func (o *office) note(e audit.Entry) {
	select {
	case o.entries <- e:
	default:
		o.lost.Add(1)
	}
}

// serve runs until ctx ends and what was noted is written.
func (o *office) serve(ctx context.Context, desk *control.Server) {
	var wg sync.WaitGroup
	defer o.audit.Close()
	defer wg.Wait()
	wg.Go(func() { o.write(ctx) })
	if o.registry != nil {
		wg.Go(func() { o.registry.Serve(ctx) })
	}
	c := o.conf
	allow := admin.Allow{UID: -1, Group: c.AdminGroup}
	if c.Local {
		allow.UID = os.Geteuid()
	}
	conf := admin.Config{
		Host: c.Host, Allow: allow, Desk: desk, Registry: o.registry, Adopt: c.adopt(), Audit: o.audit,
		AuditDir: c.auditDir(), Dial: o.id.dialPeer(), Sign: o.sign, Group: grouplink.Unix(c.groupSocket()), Version: version(), Log: c.Log,
	}
	conf.Cert = func() (string, time.Time) { return o.id.now.Load().keys.facts() }
	api := admin.New(conf)
	wg.Go(func() { o.id.keep(ctx, o.sign, api.Renew) })
	wg.Go(func() { api.ServePeers(ctx, o.peers) })
	if o.ln == nil {
		return
	}
	wg.Go(func() {
		if err := api.Serve(ctx, o.ln); err != nil {
			c.Log.Error("admin API ended", "err", err)
		}
	})
}

// write puts entries on the disk. Those that come while ctx ends are taken too.
func (o *office) write(ctx context.Context) {
	add := func(e audit.Entry) {
		if n := o.lost.Swap(0); n > 0 {
			e.Text += fmt.Sprintf(" (%d entries before this one were lost: they came too fast)", n)
		}
		if err := o.audit.Add(e); err != nil {
			o.conf.Log.Error("audit cannot be written", "err", err)
		}
	}
	for {
		select {
		case e := <-o.entries:
			add(e)
		case <-ctx.Done():
			for {
				select {
				case e := <-o.entries:
					add(e)
				default:
					return
				}
			}
		}
	}
}

// facts are the authority's fingerprint and the end of the certificate.
func (i hostKeys) facts() (authority string, until time.Time) {
	if block, _ := pem.Decode(i.authority()); block != nil {
		authority = fmt.Sprintf("%x", sha256.Sum256(block.Bytes))
	}
	if block, _ := pem.Decode(i.cert); block != nil {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			until = c.NotAfter
		}
	}
	return authority, until
}

// version names the source that this program was made of.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return info.Main.Version + " " + s.Value[:min(12, len(s.Value))]
		}
	}
	return info.Main.Version
}

// certificate returns this host's: one that the authority here made, or, where
// its key is elsewhere, one that the host got when it joined.
func (c *Config) certificate(open func(string) (*auth.Authority, error), name string) (cert, key, fingerprint string, err error) {
	if _, err := os.Lstat(filepath.Join(c.State, auth.AuthorityKey)); errors.Is(err, fs.ErrNotExist) {
		if cert, key, fingerprint, err = auth.Joined(c.State, name); !errors.Is(err, auth.ErrNotJoined) {
			if err != nil && c.renewed(cert, key) {
				return cert, key, "", nil
			}
			return cert, key, fingerprint, err
		}
	}
	a, err := open(c.State)
	if err != nil {
		return "", "", "", err
	}
	cert, key, err = a.Host(name)
	return cert, key, a.Fingerprint(), err
}
