package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"hotdesk/protocol/alp"
)

// Embedded says how etcd runs in this process.
type Embedded struct {
	Dir string // its data; made where it is missing

	// Listen is where other hosts reach it, with TLS; zero: nowhere. The files
	// are this host's certificate and key and the group authority.
	Listen             netip.AddrPort
	Cert, Key, Trusted string

	// Name and Cluster make it one of three: its own name in it, and
	// NAME=https://ADDRESS:PORT of all. Peer is where the others reach it.
	Name    string
	Cluster map[string]string
	Peer    netip.AddrPort

	Log *slog.Logger // nil: silent
}

const (
	startTime = 60 * time.Second
	// A registry is small: what it may grow to, so that a mistake does not fill the disk.
	quota = 512 << 20
	// segment is how large etcd makes the files of its log, of which it has two at
	// least, before there is anything in them. Its own choice is 64 MB.
	segment = 4 << 20
	// room is what must be free: with less etcd ends the whole process while it
	// starts, which the gateway's terminals would feel.
	room = 8 * segment
)

func init() { wal.SegmentSizeBytes = segment }

// unused is how much a program may still write to a folder's file system.
var unused = func(dir string) (uint64, error) {
	var disk unix.Statfs_t
	err := unix.Statfs(dir, &disk)
	return disk.Bavail * uint64(disk.Bsize), err
}

// Start runs etcd in this process and connects to it without a socket.
func Start(ctx context.Context, e Embedded) (*Store, error) {
	if err := os.MkdirAll(e.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	if err := os.Chmod(e.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	if left, err := unused(e.Dir); err != nil {
		return nil, fmt.Errorf("registry: %s: %w", e.Dir, err)
	} else if left < room {
		return nil, fmt.Errorf("registry: %s: the disk is full: %d MB are free, it wants %d", e.Dir, left>>20, room>>20)
	}
	conf := embed.NewConfig()
	conf.Dir = filepath.Join(e.Dir, "etcd")
	conf.Name = "registry"
	// One node has no peers, and its only client is this process, which needs
	// no socket. The addresses are names.
	conf.ListenClientUrls, conf.ListenPeerUrls = nil, nil
	nowhere := []url.URL{{Scheme: "unix", Host: "nowhere"}}
	conf.AdvertiseClientUrls, conf.AdvertisePeerUrls = nowhere, nowhere
	if e.Listen.IsValid() {
		at := url.URL{Scheme: "https", Host: e.Listen.String()}
		conf.ListenClientUrls, conf.AdvertiseClientUrls = []url.URL{at}, []url.URL{at}
		conf.ClientTLSInfo = tlsFiles(e)
	}
	conf.InitialCluster = conf.InitialClusterFromName(conf.Name)
	if len(e.Cluster) > 0 {
		if err := e.cluster(conf); err != nil {
			return nil, err
		}
	}
	conf.EnableGRPCGateway = false
	conf.QuotaBackendBytes = quota
	conf.AutoCompactionMode, conf.AutoCompactionRetention = "revision", "1"
	conf.ZapLoggerBuilder = embed.NewZapLoggerBuilder(logger(e.Log))
	server, err := embed.StartEtcd(conf)
	if err != nil {
		return nil, fmt.Errorf("registry: etcd in %s: %w", conf.Dir, err)
	}
	within, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	select {
	case <-server.Server.ReadyNotify():
	case err := <-server.Err():
		server.Close()
		return nil, fmt.Errorf("registry: etcd in %s: %w", conf.Dir, err)
	case <-within.Done():
		server.Close()
		return nil, fmt.Errorf("registry: etcd in %s does not get ready: %w", conf.Dir, within.Err())
	}
	c := v3client.New(server.Server)
	return &Store{c: c, done: server.Server.StopNotify(), close: func() error {
		err := c.Close()
		server.Close()
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		return err
	}}, nil
}

func tlsFiles(e Embedded) transport.TLSInfo {
	return transport.TLSInfo{CertFile: e.Cert, KeyFile: e.Key, TrustedCAFile: e.Trusted, ClientCertAuth: true, SkipClientSANVerify: true, MinVersion: tls13, Logger: zap.NewNop()}
}

// cluster makes it one of three.
func (e Embedded) cluster(conf *embed.Config) error {
	if n := len(e.Cluster); n != 3 {
		return fmt.Errorf("registry: a cluster of %d: it has three voters, so that one may be away; with two hosts let one be the registry, with more take three of them", n)
	}
	if e.Cluster[e.Name] == "" || !e.Peer.IsValid() {
		return fmt.Errorf("registry: the cluster does not name this host, %q", e.Name)
	}
	at := url.URL{Scheme: "https", Host: e.Peer.String()}
	conf.Name = e.Name
	conf.ListenPeerUrls, conf.AdvertisePeerUrls = []url.URL{at}, []url.URL{at}
	conf.PeerTLSInfo = tlsFiles(e)
	conf.PeerTLSInfo.ServerName = serverName
	conf.InitialCluster = ""
	for name, u := range e.Cluster {
		if conf.InitialCluster != "" {
			conf.InitialCluster += ","
		}
		conf.InitialCluster += name + "=" + u
	}
	return nil
}

// logger has etcd write its warnings to log.
func logger(log *slog.Logger) *zap.Logger {
	if log == nil {
		return zap.NewNop()
	}
	return zap.New(core{log})
}

// core is the part of zap that is needed: what is a warning or worse becomes a
// line of our log.
type core struct{ log *slog.Logger }

func (core) Enabled(l zapcore.Level) bool        { return l >= zapcore.ErrorLevel }
func (c core) With([]zapcore.Field) zapcore.Core { return c }
func (core) Sync() error                         { return nil }

func (c core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	m := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(m)
	}
	if strings.HasPrefix(e.Message, "setting up serving") { // so it calls the end of serving
		return nil
	}
	c.log.Warn("etcd", "msg", e.Message, "fields", m.Fields)
	return nil
}

// tls13 and serverName are what every connection of a group uses.
const (
	tls13      = 0x0304
	serverName = alp.ServerName
)
