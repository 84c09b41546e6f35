package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
	"hotdesk/protocol/program"
	"hotdesk/protocol/rpc"
)

const (
	terminal = alp.TerminalID("0003ba0a0b0c")
	s1       = alp.SessionID("1111111111111111")
)

var home = netip.MustParseAddr("127.0.0.1")

// events is a log handler that hands its records over.
type events chan string

func (events) Enabled(context.Context, slog.Level) bool { return true }
func (e events) WithAttrs([]slog.Attr) slog.Handler     { return e }
func (e events) WithGroup(string) slog.Handler          { return e }
func (e events) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "host" {
			text += " " + a.Value.String()
		}
		return true
	})
	e <- text
	return nil
}

// running is one real group manager.
type running struct {
	t       *testing.T
	host    string
	addr    netip.Addr
	port    int
	socket  string
	runtime string
	log     events
	stop    func() error
	*rpc.Conn
}

// shortDir is for sockets, whose paths are limited.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func start(t *testing.T, port int, state string, more ...func(*Config)) *running {
	t.Helper()
	out, in := io.Pipe()
	c := Default()
	c.Local, c.Runtime, c.State, c.Port = true, shortDir(t), state, port
	for _, f := range more {
		f(&c)
	}
	r := &running{t: t, runtime: c.Runtime, log: make(events, 1000)}
	c.Stdout, c.Log = in, slog.New(r.log)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		err := Run(ctx, c)
		in.CloseWithError(fmt.Errorf("Run: %w", err))
		ended <- err
	}()
	r.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	sc := bufio.NewScanner(out)
	lines := []string{"groupmgr: ready ", "next: server -local "}
	if !c.Local {
		lines = lines[:1]
	}
	for _, want := range lines {
		if !sc.Scan() || !strings.HasPrefix(sc.Text(), want) {
			t.Fatalf("said %q, %v, want %q", sc.Text(), sc.Err(), want)
		}
		if want[0] == 'g' {
			var addr string
			if _, err := fmt.Sscanf(sc.Text(), "groupmgr: ready host=%s addr=%s port=%d socket=%s", &r.host, &addr, &r.port, &r.socket); err != nil {
				t.Fatal(err)
			}
			r.addr = netip.MustParseAddr(addr)
		}
	}
	r.Conn = r.dial()
	return r
}

// dial opens a connection as the gateway does.
func (r *running) dial() *rpc.Conn {
	r.t.Helper()
	conn, err := net.Dial("unix", r.socket)
	if err != nil {
		r.t.Fatal(err)
	}
	c := rpc.New(conn, nil)
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Serve(context.Background()) }()
	r.t.Cleanup(func() { c.Close(); <-done })
	return c
}

func call[T any](r *running, op string, in any) T {
	r.t.Helper()
	var out T
	if err := r.Call(r.t.Context(), op, in, &out); err != nil {
		r.t.Fatalf("%s %s: %v", r.host, op, err)
	}
	return out
}

func (r *running) lookup(token alp.Token) local.Answer {
	r.t.Helper()
	return call[local.Answer](r, local.OpLookup, local.Lookup{Token: token, Terminal: terminal, Addr: home})
}

// await waits for a line of the log.
func (r *running) await(want string) {
	r.t.Helper()
	for {
		select {
		case got := <-r.log:
			if got == want {
				return
			}
		case <-r.t.Context().Done():
			r.t.Fatalf("%s: %q never came", r.host, want)
		}
	}
}

// row waits until the table has that host in that form.
func (r *running) row(host string, ok func(local.TableHost) bool) local.TableHost {
	r.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, h := range call[local.Table](r, local.OpTable, local.TableRequest{}).Hosts {
			if h.Host == host && ok(h) {
				return h
			}
		}
		select {
		case <-tick.C:
		case <-r.t.Context().Done():
			r.t.Fatalf("%s: no such row of %s", r.host, host)
		}
	}
}

func TestTwoHosts(t *testing.T) {
	state := t.TempDir()
	a := start(t, 0, state)
	b := start(t, a.port, state)
	if a.addr == b.addr || a.host == b.host || !a.addr.IsLoopback() {
		t.Fatalf("%s at %v, %s at %v", a.host, a.addr, b.host, b.addr)
	}
	a.await("host trusted " + b.host)
	b.await("host trusted " + a.host)
	if w := call[local.Welcome](a, local.OpHello, local.Hello{ControlPort: 7001}); w != (local.Welcome{Host: a.host, Addr: a.addr, State: local.State{State: local.Online}}) {
		t.Fatalf("got %+v", w)
	}
	call[local.Welcome](b, local.OpHello, local.Hello{ControlPort: 7002})
	a.row(b.host, func(h local.TableHost) bool { return h.Control == 7002 && h.Trusted && h.Interfaces[0].LastPkt == 0 })
	b.row(a.host, func(h local.TableHost) bool { return h.Control == 7001 })

	if got := a.lookup("card.1"); !reflect.DeepEqual(got, local.Answer{Where: local.New, Host: a.host}) {
		t.Fatalf("got %+v", got)
	}
	call[any](a, local.OpReport, local.Report{Sessions: []local.Session{{ID: s1, Token: "card.1", Connected: true, Last: time.Now().UnixMilli()}}})
	if got := a.lookup("card.1"); !reflect.DeepEqual(got, local.Answer{Where: local.Here, Session: s1, Host: a.host}) {
		t.Fatalf("got %+v", got)
	}
	got := b.lookup("card.1")
	if got.Where != local.There || got.Session != s1 || got.Host != a.host || got.Target != netip.AddrPortFrom(a.addr, 7001) {
		t.Fatalf("got %+v", got)
	}
	proof := local.Verify{Props: got.Props, Token: "card.1", Terminal: terminal}
	if v := call[local.Verified](a, local.OpVerify, proof); v != (local.Verified{OK: true, Session: s1}) {
		t.Fatalf("got %+v", v)
	}
	if v := call[local.Verified](b, local.OpVerify, proof); v.OK {
		t.Fatalf("got %+v", v)
	}

	// A new gateway takes over; the old one's end is then not a loss, and it has
	// no say any more.
	old := a.Conn
	a.Conn = a.dial()
	call[local.Welcome](a, local.OpHello, local.Hello{ControlPort: 7011})
	if err := old.Call(t.Context(), local.OpReport, local.Report{}, nil); err == nil {
		t.Fatal("the old gateway reported")
	}
	old.Close()
	b.row(a.host, func(h local.TableHost) bool { return h.Control == 7011 && h.Sessions == 1 })

	// Stopped and started anew, it is known at once.
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(b.socket); err == nil {
		t.Error("the socket file is still there")
	}
	c := start(t, a.port, state)
	c.await("host trusted " + a.host)
	if got := c.lookup("card.1"); got.Where != local.There || got.Target.Port() != 7011 {
		t.Fatalf("got %+v", got)
	}
}

// A host with another key is in the table and gets no token traffic. That
// nothing came is known by what comes next: the sender sends in order.
func TestOtherKey(t *testing.T) {
	a := start(t, 0, t.TempDir())
	call[local.Welcome](a, local.OpHello, local.Hello{ControlPort: 7001})
	conn := own(t, a.port)
	from := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	key := group.Ring{group.NewKey([group.KeySize]byte{9})}
	h := group.Host{Name: "rogue", Addr: from, Time: time.Now().Unix(), State: group.Online, Control: 7003, Boot: 5, Counter: 1,
		Interfaces: []group.Interface{{Name: "lo0", IP: from, Mask: netip.AddrFrom4([4]byte{255}), Bcast: loopbackBroadcast}}}
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopbackBroadcast, uint16(a.port)))
	if _, err := conn.WriteToUDP(key.Sign(h.Append(nil), group.SHA1), to); err != nil {
		t.Fatal(err)
	}
	a.await("host not trusted rogue")
	row := a.row("rogue", func(h local.TableHost) bool { return !h.Trusted })
	if !strings.Contains(row.Why, "key that is not in our key file") || row.Interfaces[0].LastPkt < 0 {
		t.Errorf("got %+v", row)
	}
	if got := a.lookup("card.1"); got.Where != local.New {
		t.Errorf("got %+v", got)
	}
	if _, err := conn.WriteToUDP(group.ServerQ{Hardware: "test", Terminal: terminal, ID: 7}.Append(nil), to); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2*group.MaxPacket)
	n, _, err := conn.ReadFromUDPAddrPort(buf)
	if err != nil || group.Kind(buf[:n]) != group.CmdServerR {
		t.Fatalf("the first that came is %q, %v", buf[:n], err)
	}
}

// own is a socket on an address of its own, as another program would have it.
func own(t *testing.T, port int) *net.UDPConn {
	t.Helper()
	for i := 2; i < 255; i++ {
		if conn, err := listenUDP(fmt.Sprintf("127.0.1.%d:%d", i, port), true); err == nil {
			t.Cleanup(func() { conn.Close() })
			return conn
		}
	}
	t.Fatal("no free address")
	return nil
}

func TestServerQuestion(t *testing.T) {
	state := t.TempDir()
	a := start(t, 0, state)
	b := start(t, a.port, state)
	call[local.Welcome](a, local.OpHello, local.Hello{ControlPort: 7001})
	call[local.Welcome](b, local.OpHello, local.Hello{ControlPort: 7002})
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	q := group.ServerQ{Hardware: "Hotdesk", Terminal: terminal, ID: 42}.Append(nil)
	if _, err := conn.WriteToUDPAddrPort(q, netip.AddrPortFrom(loopbackBroadcast, uint16(a.port))); err != nil {
		t.Fatal(err)
	}
	got := map[group.ServerR]netip.Addr{}
	for range 2 {
		buf := make([]byte, group.MaxPacket)
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			t.Fatal(err)
		}
		r, err := group.ParseServerR(buf[:n])
		if err != nil || n > len(q) {
			t.Fatalf("%q: %v", buf[:n], err)
		}
		got[r] = from.Addr()
	}
	for _, h := range []*running{a, b} {
		want := group.ServerR{Addr: h.addr, Port: map[*running]int{a: 7001, b: 7002}[h], Terminal: terminal, ID: 42, Host: h.host}
		if got[want] != h.addr {
			t.Errorf("%+v did not come from %v: %v", want, h.addr, got)
		}
	}
}

func TestLocalSocket(t *testing.T) {
	a := start(t, 0, t.TempDir())
	if st, err := os.Stat(a.socket); err != nil || st.Mode() != fs.ModeSocket|0o600 {
		t.Fatalf("%v, %v", st.Mode(), err)
	}
	for name, tc := range map[string]struct {
		op   string
		in   any
		want string
	}{
		"unknown":         {"reboot", nil, "unknown request"},
		"no port":         {local.OpHello, local.Hello{}, "control port 0"},
		"wide port":       {local.OpHello, local.Hello{ControlPort: 65536}, "control port 65536"},
		"report too soon": {local.OpReport, local.Report{}, "report without hello"},
		"bad report":      {local.OpReport, local.Report{Sessions: []local.Session{{}}}, "session"},
		"bad lookup":      {local.OpLookup, local.Lookup{Token: "x"}, "lookup of token"},
		"bad body":        {local.OpLookup, []int{1}, "bad body"},
	} {
		err := a.Call(t.Context(), tc.op, tc.in, nil)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
	if v := call[local.Verified](a, local.OpVerify, local.Verify{}); v.OK || v.Reason == "" {
		t.Errorf("got %+v", v)
	}
	// Garbage costs its sender the connection, and nobody else anything.
	conn, err := net.Dial("unix", a.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintln(conn, "hello")
	if n, err := conn.Read(make([]byte, 10)); err == nil {
		t.Errorf("%d bytes", n)
	}
	// More than MaxConns are turned away.
	turned := false
	for range MaxConns + 1 {
		c, err := net.Dial("unix", a.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, `{"id":1,"op":"table"}`+"\n")
		if n, _ := c.Read(make([]byte, 10)); n == 0 {
			turned = true
		}
	}
	if !turned {
		t.Error("nobody was turned away")
	}
	if got := a.lookup("card.1"); got.Where != local.New {
		t.Errorf("got %+v", got)
	}
}

// The server is at the address that its group manager had when it began: a
// group manager that is started again has the same.
func TestAddressStays(t *testing.T) {
	runtime, state := shortDir(t), t.TempDir()
	again := func(c *Config) { c.Runtime = runtime }
	first := start(t, 0, state, again)
	for range 5 {
		if err := first.stop(); err != nil {
			t.Fatal(err)
		}
		next := start(t, first.port, state, again)
		if next.addr != first.addr {
			t.Fatalf("was at %v, is at %v", first.addr, next.addr)
		}
		first = next
	}
}

func TestPlacesTaken(t *testing.T) {
	state := t.TempDir()
	a := start(t, 0, state)
	c := Default()
	c.Local, c.State, c.Port = true, state, a.port
	for name, tc := range map[string]struct {
		runtime string
		addr    netip.Addr
		want    string
	}{
		"same directory": {a.runtime, netip.Addr{}, "another group manager is running there"},
		"same address":   {shortDir(t), a.addr, "is another group manager running there?"},
	} {
		c.Runtime, c.Addr = tc.runtime, tc.addr
		if err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// A socket file that was left behind is no obstacle.
	dir := shortDir(t)
	for _, name := range []string{"s", "s.new"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := listenUnix(filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestKeyFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	path := filepath.Join(dir, "group.key")
	if _, err := (&keyFile{path: path}).read(); err == nil || !strings.Contains(err.Error(), "head -c 32 /dev/urandom") {
		t.Fatalf("got %v", err)
	}
	// Many at once: one file, one key, nothing left over.
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := (&keyFile{path: path}).create(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	k := keyFile{path: path}
	ring, err := k.read()
	if err != nil || len(ring) != 1 || k.changed() {
		t.Fatalf("%v, %v", ring, err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("%v", files)
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	// A second line is a second key; the first stays what it was.
	text, _ := os.ReadFile(path)
	if err := os.WriteFile(path, append(text, "\n# new\n  correct horse battery  \n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if !k.changed() {
		t.Error("the change was not seen")
	}
	two, err := k.read()
	if err != nil || len(two) != 2 || two[0] != ring[0] || two[1] == ring[0] {
		t.Fatalf("%v, %v", two, err)
	}
	for want, bad := range map[string]string{
		"has no key":        "# nothing\n\n",
		":2: a key of fewe": "# short\nabc\n",
		"longer than":       strings.Repeat("x", maxKeyFile+1),
	} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if ring, err := k.read(); err == nil || ring != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v", want, ring, err)
		}
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := k.read(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("got %v", err)
	}
}

func TestCtl(t *testing.T) {
	a := start(t, 0, t.TempDir())
	run := func(args ...string) (code int, stdout, stderr string) {
		var out, errs bytes.Buffer
		code = Main(append([]string{"ctl"}, args...), &out, &errs)
		return code, out.String(), errs.String()
	}
	code, out, errs := run("-runtime", a.runtime, "table")
	hex := group.Hex8(a.addr)
	var since, pkt int
	if n, err := fmt.Sscanf(out, "Host "+a.host+" lastseen %d timeoff 0 addr "+hex+" numifs 1 TRUSTED\n  interface lo0 ip "+hex+" mask ff000000 bcast 7fffffff lastpkt %d\n", &since, &pkt); code != 0 || n != 2 {
		t.Errorf("exit %d, %v:\n%s%s", code, err, out, errs)
	}
	code, out, _ = run("-runtime", a.runtime, "-json", "table")
	var table local.Table
	if err := json.Unmarshal([]byte(out), &table); code != 0 || err != nil || len(table.Hosts) != 1 || table.Hosts[0].Host != a.host {
		t.Errorf("exit %d, %v:\n%s", code, err, out)
	}
	for want, args := range map[string][]string{
		"is groupmgr running":        {"-runtime", t.TempDir(), "table"},
		"want one of: table, status": {"-runtime", a.runtime},
		"for offline only":           {"-deadline", "1m", "table"},
		"from 1s to 8760h0m0s":       {"offline", "-deadline", "9000h"},
		`unknown argument "now"`:     {"offline", "now"},
		"not defined":                {"offline", "-dead"},
		"'groupmgr ctl -h'":          {"tables"},
	} {
		if code, _, errs := run(args...); code == 0 || !strings.Contains(errs, want) {
			t.Errorf("%v: exit %d, %s", args, code, errs)
		}
	}
	if code, out, _ := run("-h"); code != 0 || !strings.Contains(out, "-json") {
		t.Errorf("exit %d: %s", code, out)
	}
}

func TestFlags(t *testing.T) {
	for want, args := range map[string][]string{
		"from 1 to 65535":            {"-port", "0"},
		"longer than -period":        {"-down", "20s"},
		"at least 100ms":             {"-period", "1ms"},
		"-max-skew 1ms":              {"-max-skew", "1ms"},
		"neither hmac-sha1":          {"-alg", "md5"},
		"is not an IPv4 address":     {"-addr", "::1"},
		"an address of 127.0.0.0/8":  {"-local", "-addr", "10.0.0.1"},
		"letters, digits":            {"-host", "a b"},
		`unknown argument "start"`:   {"start"},
		"-max-sessions -1":           {"-max-sessions", "-1"},
		"not an IPv4 multicast":      {"-multicast", "10.0.0.1"},
		"from 1 to 255":              {"-multicast-ttl", "0"},
		"an IPv4 address of a host":  {"-peer", "10.0.0.1,fe80::1"},
		"-peer: with -local":         {"-local", "-peer", "127.0.0.9:1,10.0.0.1"},
		"no host can be found":       {"-broadcast=false"},
		"copy it from a host of the": {"-runtime", t.TempDir(), "-state", t.TempDir()},
	} {
		var out, errs bytes.Buffer
		if code := Main(args, &out, &errs); code == program.ExitOK || !strings.Contains(errs.String(), want) {
			t.Errorf("%v: exit %d, %s", args, code, errs.String())
		}
	}
	for _, c := range []*program.Command{Command(), CtlCommand()} {
		if !strings.Contains(c.Reference(), "-runtime DIR") {
			t.Errorf("%s", c.Reference())
		}
	}
}

func TestKernel(t *testing.T) {
	d, err := kernel{local: netip.MustParseAddr("127.0.0.9")}.describe()
	if err != nil || d.CPUs < 1 || d.Memory < 1 || d.Free < 1 || d.Free > d.Memory || len(d.Interfaces) != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	i := d.Interfaces[0]
	if i.Name != "lo0" || group.Hex8(i.IP) != "7f000009" || group.Hex8(i.Mask) != "ff000000" || group.Hex8(i.Bcast) != "7fffffff" {
		t.Fatalf("%+v", i)
	}
	if got := lastOf(netip.MustParsePrefix("10.1.2.3/20")); got.String() != "10.1.15.255" {
		t.Fatal(got)
	}
	// What this machine's network is like nobody knows; that it can be read, or
	// that the error tells what to do, holds everywhere.
	list, err := interfaces()
	if err != nil && !strings.Contains(err.Error(), "-local") {
		t.Fatal(err)
	}
	for _, i := range list {
		if p := i.Prefix(); !p.IsValid() || !p.Contains(i.IP) || !i.Bcast.Is4() || i.IP.IsLoopback() {
			t.Errorf("%+v", i)
		}
	}
}
