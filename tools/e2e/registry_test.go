package e2e

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// runEtcd is `etcd DIR`: an etcd of others, on a loopback address that it keeps
// in DIR for the next start, and nothing of Hotdesk. It writes its process id to
// DIR/pid once it answers.
func runEtcd(args []string) int {
	dir := args[0]
	fail := func(err error) int { fmt.Fprintln(os.Stderr, "etcd:", err); return 1 }
	at, err := os.ReadFile(filepath.Join(dir, "addr"))
	if err != nil {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fail(err)
		}
		at = []byte("http://" + ln.Addr().String())
		ln.Close()
		if err := os.WriteFile(filepath.Join(dir, "addr"), at, 0o600); err != nil {
			return fail(err)
		}
	}
	u, err := url.Parse(string(at))
	if err != nil {
		return fail(err)
	}
	conf := embed.NewConfig()
	conf.Dir = filepath.Join(dir, "data")
	conf.ListenClientUrls, conf.AdvertiseClientUrls = []url.URL{*u}, []url.URL{*u}
	conf.ListenPeerUrls = nil
	conf.InitialCluster = conf.InitialClusterFromName(conf.Name)
	conf.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(conf)
	if err != nil {
		return fail(err)
	}
	<-e.Server.ReadyNotify()
	if err := os.WriteFile(filepath.Join(dir, "pid"), fmt.Append(nil, os.Getpid()), 0o600); err != nil {
		return fail(err)
	}
	return fail(<-e.Err())
}

// cmdEtcd starts the etcd of a directory, again if it ran before: etcd DIR. Its
// address comes into $ETCD.
func cmdEtcd(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "etcd DIR")
	dir := ts.MkAbs(args[0])
	check(ts, os.MkdirAll(dir, 0o700))
	pid := filepath.Join(dir, "pid")
	if err := os.Remove(pid); err != nil && !os.IsNotExist(err) {
		check(ts, err)
	}
	w := worldOf(ts)
	p, err := w.lab.Start("etcd", "etcd", dir)
	check(ts, err)
	for end := time.Now().Add(patience); ; pause() {
		if _, err := os.Stat(pid); err == nil {
			break
		}
		select {
		case <-p.Done():
			ts.Fatalf("etcd ended: %v", p.Err())
		default:
		}
		if time.Now().After(end) {
			ts.Fatalf("etcd does not answer")
		}
	}
	at, err := os.ReadFile(filepath.Join(dir, "addr"))
	check(ts, err)
	ts.Setenv("ETCD", string(at))
	ts.Setenv("ETCDPID", fmt.Sprint(p.PID()))
}

// cmdUntil runs a program again and again until it succeeds: until PROGRAM ARGS.
func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "until PROGRAM ARGS")
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); pause() {
		if err = ts.Exec(args[0], args[1:]...); err == nil {
			return
		}
	}
	ts.Fatalf("%v: %v", args, err)
}
