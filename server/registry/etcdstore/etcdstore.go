// Package etcdstore keeps a registry's changes in etcd: one that runs in this
// process, with its own directory, or others that run elsewhere.
//
// Source: design section 5; go.etcd.io/etcd server/v3 (embed) and client/v3.
// Change n is the key PREFIX/<n as 20 digits>; a key is made once and never
// changed, so that etcd's own history stays as small as ours.
//
// Invariants:
//  1. A change is made in one transaction that needs its number to be free and
//     the one before it to be there: of several writers one wins.
//  2. The embedded etcd listens nowhere unless an address is configured; there
//     it speaks TLS and asks every client for a certificate of the group
//     authority.
//
// A Store is safe for concurrent use. Limits: those of package registry.
package etcdstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/grpclog"

	"hotdesk/server/registry"
)

const (
	prefix   = "/hotdesk/1/change/"
	page     = 64              // changes of one request
	probe    = 5 * time.Second // between two looks whether etcd is there
	timeout  = 5 * time.Second // for one request
	dialTime = 5 * time.Second
)

func init() {
	// gRPC would write to standard error by itself.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(discard{}, discard{}, discard{}))
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// A Store is a connection to etcd.
type Store struct {
	c     *clientv3.Client
	close func() error
	done  <-chan struct{} // the embedded etcd has ended; nil: there is none
}

// Remote says where others' etcd is.
type Remote struct {
	Endpoints      []string // https://HOST:PORT; http and unix for tests and loopback
	TLS            *tls.Config
	User, Password string // empty: the certificate says who we are
	Log            *slog.Logger
}

// Dial connects to etcd. It returns once that answers, or ctx ends.
func Dial(ctx context.Context, r Remote) (*Store, error) {
	c, err := clientv3.New(clientv3.Config{
		Endpoints: r.Endpoints, TLS: named(r.TLS), Username: r.User, Password: r.Password,
		DialTimeout: dialTime, DialKeepAliveTime: probe, DialKeepAliveTimeout: probe,
		Logger: zap.NewNop(), Context: ctx,
	})
	if err != nil {
		return nil, fmt.Errorf("registry: etcd at %s: %w", strings.Join(r.Endpoints, ","), plain(err))
	}
	s := &Store{c: c, close: c.Close}
	if err := s.alive(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("registry: etcd at %s: %w", strings.Join(r.Endpoints, ","), err)
	}
	return s, nil
}

// plain says what an admin has to do about an error of etcd, where that is not
// to wait.
func plain(err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrAuthFailed):
		return fmt.Errorf("the user or the password in the file of -registry-login is wrong: %w", err)
	case errors.Is(err, rpctypes.ErrUserEmpty):
		return fmt.Errorf("this etcd asks for a user and a password: write a line USER:PASSWORD into a file and name it with -registry-login: %w", err)
	case errors.Is(err, rpctypes.ErrAuthNotEnabled):
		return fmt.Errorf("this etcd knows no users: leave -registry-login out, or turn its authentication on: %w", err)
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		return fmt.Errorf("etcd does not let this host read and write below %s: give its user or role the right: %w", prefix, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("it does not answer: %w", err)
	}
	return err
}

// named has a server's certificate checked for the name that the configuration
// gives: etcd's client would check it for the address.
func named(c *tls.Config) *tls.Config {
	if c == nil || c.ServerName == "" {
		return c
	}
	c = c.Clone()
	c.InsecureSkipVerify = true // VerifyConnection does what is skipped
	name, roots := c.ServerName, c.RootCAs
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return errors.New("registry: etcd has no certificate")
		}
		o := x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: x509.NewCertPool()}
		for _, more := range s.PeerCertificates[1:] {
			o.Intermediates.AddCert(more)
		}
		_, err := s.PeerCertificates[0].Verify(o)
		return err
	}
	return c
}

// alive asks etcd for something that needs its leader.
func (s *Store) alive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := s.c.Get(ctx, key(1), clientv3.WithCountOnly())
	return plain(err)
}

func key(rev uint64) string { return fmt.Sprintf("%s%020d", prefix, rev) }

// Append stores a change.
func (s *Store) Append(ctx context.Context, rev uint64, data []byte) error {
	cmp := []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key(rev)), "=", 0)}
	if rev > 1 {
		cmp = append(cmp, clientv3.Compare(clientv3.CreateRevision(key(rev-1)), ">", 0))
	}
	r, err := s.c.Txn(ctx).If(cmp...).Then(clientv3.OpPut(key(rev), string(data))).Commit()
	switch {
	case err != nil:
		return fmt.Errorf("registry: etcd: %w", plain(err))
	case !r.Succeeded:
		return registry.ErrConflict
	}
	return nil
}

// Get returns a change.
func (s *Store) Get(ctx context.Context, rev uint64) ([]byte, error) {
	r, err := s.c.Get(ctx, key(rev))
	if err != nil {
		return nil, fmt.Errorf("registry: etcd: %w", err)
	}
	if len(r.Kvs) == 0 {
		return nil, nil
	}
	return r.Kvs[0].Value, nil
}

// Follow hands changes on until ctx ends or etcd does not answer.
func (s *Store) Follow(ctx context.Context, after uint64, f func([][]byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	next := after + 1
	read := func() (int64, error) {
		for {
			within, stop := context.WithTimeout(ctx, timeout)
			r, err := s.c.Get(within, key(next), clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)), clientv3.WithLimit(page))
			stop()
			if err != nil {
				return 0, fmt.Errorf("registry: etcd: %w", err)
			}
			var data [][]byte
			for _, kv := range r.Kvs {
				if string(kv.Key) != key(next) {
					return 0, fmt.Errorf("registry: etcd has %q where change %d should be: put it right from a backup of etcd, or begin a new one with `hotdesk registry export` and `import`", kv.Key, next)
				}
				data = append(data, kv.Value)
				next++
			}
			if err := f(data); err != nil {
				return 0, err
			}
			if !r.More {
				return r.Header.Revision, nil
			}
		}
	}
	at, err := read()
	if err != nil {
		return err
	}
	watch := s.c.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix(), clientv3.WithRev(at+1))
	tick := time.NewTicker(probe)
	defer tick.Stop()
	for {
		select {
		case r, ok := <-watch:
			switch {
			case ctx.Err() != nil:
				return nil
			case !ok:
				return errors.New("registry: etcd ended the watch")
			case r.Err() != nil:
				return fmt.Errorf("registry: etcd: %w", r.Err())
			}
			// What came is read again, in order and with nothing left out.
			if len(r.Events) > 0 {
				if _, err := read(); err != nil {
					return err
				}
			}
		case <-tick.C:
			if err := s.alive(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("registry: etcd: %w", err)
			}
		case <-s.done:
			return errors.New("registry: etcd of this host has ended")
		case <-ctx.Done():
			return nil
		}
	}
}

// Close ends the connection, and the etcd of this process.
func (s *Store) Close() error { return s.close() }
