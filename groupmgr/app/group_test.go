package app

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hotdesk/groupmgr/engine"
	"hotdesk/protocol/group/local"
	"hotdesk/protocol/rpc"
)

func ctl(t *testing.T, r *running, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := Main(append([]string{"ctl", "-runtime", r.runtime}, args...), &out, &errs); code != 0 {
		t.Fatalf("ctl %v: exit %d, %s", args, code, errs.String())
	}
	return out.String()
}

// Keys are rolled over on three running hosts, each with a file of its own: the
// new one second in every file, then first, then alone. All the while nobody is
// seen untrusted, down or suspect by anybody, in log and table.
func TestKeysAreRolledOverLive(t *testing.T) {
	line := func(b byte) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32)) + "\n" }
	write := func(dir, text string) {
		path := filepath.Join(dir, "group.key")
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	var hosts []*running
	var dirs []string
	port := 0
	for range 3 {
		dirs = append(dirs, t.TempDir())
		write(dirs[len(dirs)-1], line(1))
		h := start(t, port, dirs[len(dirs)-1], func(c *Config) { c.Period = 100 * time.Millisecond })
		hosts, port = append(hosts, h), h.port
	}
	for _, h := range hosts {
		for _, other := range hosts {
			h.row(other.host, func(r local.TableHost) bool { return r.Trusted })
		}
	}
	// From now on every record of every log is looked at.
	read := make([]chan bool, len(hosts))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i, h := range hosts {
		read[i] = make(chan bool, 10)
		wg.Go(func() {
			for {
				select {
				case got := <-h.log:
					switch {
					case strings.HasPrefix(got, "key file read anew"):
						read[i] <- true
					case !strings.HasPrefix(got, "host trusted"):
						t.Errorf("%s: %s", h.host, got)
					}
				case <-stop:
					return
				}
			}
		})
	}
	for _, text := range []string{line(1) + line(2), line(2) + line(1), line(2)} {
		for _, dir := range dirs { // each host takes it over when it looks next
			write(dir, text)
		}
		for i := range hosts {
			<-read[i]
			for _, h := range hosts {
				for _, row := range call[local.Table](h, local.OpTable, local.TableRequest{}).Hosts {
					if !row.Trusted || row.Down || row.Suspect {
						t.Errorf("%s sees %+v", h.host, row)
					}
				}
			}
		}
	}
	// The new key alone: a message signed with it came to each from each.
	var status [3]local.Status
	for i, h := range hosts {
		status[i] = call[local.Status](h, local.OpStatus, nil)
		if len(status[i].Keys) != 1 || !status[i].Keys[0].Signs || status[i].Keys[0] != status[0].Keys[0] {
			t.Errorf("%s: keys %+v", h.host, status[i].Keys)
		}
		h.lookup("card.1") // all answer, or they would be suspect
	}
	close(stop)
	wg.Wait()
	for _, h := range hosts {
		if s := call[local.Status](h, local.OpStatus, nil); s.Trusted != 2 || s.Suspect != 0 || s.Down != 0 || len(s.Untrusted) != 0 || s.Counters.Untrusted != 0 {
			t.Errorf("%s: %+v", h.host, s)
		}
	}
}

// gateway is a connection that says hello and hears of states.
func gateway(t *testing.T, r *running, port int) (local.Welcome, <-chan local.State) {
	t.Helper()
	conn, err := net.Dial("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	states := make(chan local.State, 10)
	c := rpc.New(conn, func(_ context.Context, op string, body json.RawMessage) (any, error) {
		var s local.State
		if err := rpc.Decode(body, &s); err != nil || op != local.OpState {
			return nil, fmt.Errorf("%s: %v", op, err)
		}
		states <- s
		return nil, nil
	})
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Serve(context.Background()) }()
	t.Cleanup(func() { c.Close(); <-done })
	var w local.Welcome
	if err := c.Call(t.Context(), local.OpHello, local.Hello{ControlPort: port}, &w); err != nil {
		t.Fatal(err)
	}
	return w, states
}

// An admin drains a host: the group and the gateway know, a restart does not
// change it, and at the deadline it is down.
func TestStatesLive(t *testing.T) {
	state := t.TempDir()
	a := start(t, 0, state)
	runtime := shortDir(t)
	again := func(c *Config) { c.Runtime, c.Host = runtime, "drained" }
	b := start(t, a.port, state, again)
	a.await("host trusted drained")
	_, states := gateway(t, b, 7002)
	if got := ctl(t, b, "offline"); got != "offline, 0 sessions here\n" {
		t.Error(got)
	}
	if got := <-states; got != (local.State{State: local.Offline}) {
		t.Errorf("the gateway heard %+v", got)
	}
	a.row("drained", func(h local.TableHost) bool { return h.State == local.Offline })

	// A stop in good order is known at once; the state is kept.
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	a.await("host stopped drained")
	b = start(t, a.port, state, again)
	a.await("host trusted drained")
	w, states := gateway(t, b, 7002)
	if w.State.State != local.Offline || !strings.HasPrefix(ctl(t, b, "status"), "host       drained addr ") {
		t.Errorf("after a restart: %+v", w)
	}
	var s local.State
	if err := json.Unmarshal([]byte(ctl(t, b, "-json", "offline", "-deadline", "1s")), &s); err != nil || s.State != local.Offline || s.Deadline == 0 {
		t.Fatalf("got %+v, %v", s, err)
	}
	if got := <-states; got != s {
		t.Errorf("the gateway heard %+v, not %+v", got, s)
	}
	if got := <-states; got != (local.State{State: local.Down}) {
		t.Errorf("after the deadline: %+v", got)
	}
	a.row("drained", func(h local.TableHost) bool { return h.State == local.Down && !h.Down })
	if got := ctl(t, b, "online"); got != "online, 0 sessions here\n" {
		t.Error(got)
	}
	if got := <-states; got.State != local.Online {
		t.Errorf("the gateway heard %+v", got)
	}
	if out := ctl(t, a, "table"); !strings.Contains(out, "Host drained lastseen ") {
		t.Error(out)
	}
	// -offline wins over what was kept.
	h := start(t, a.port, state, func(conf *Config) { conf.Offline = true })
	if w, _ := gateway(t, h, 7003); w.State.State != local.Offline {
		t.Errorf("-offline: %+v", w)
	}
}

func TestStateFile(t *testing.T) {
	f := stateFile(filepath.Join(t.TempDir(), "groupmgr.state"))
	if got, err := f.read(); err != nil || got != (engine.SetState{}) {
		t.Errorf("no file: %+v, %v", got, err)
	}
	for _, want := range []local.State{{State: local.Online}, {State: local.Down}, {State: local.Offline}, {State: local.Offline, Deadline: 1700000000, Sessions: 3}} {
		if err := f.write(want); err != nil {
			t.Fatal(err)
		}
		got, err := f.read()
		if err != nil || string(got.State) != want.State || got.Deadline.IsZero() != (want.Deadline == 0) || want.Deadline != 0 && got.Deadline.Unix() != want.Deadline {
			t.Errorf("%+v: got %+v, %v", want, got, err)
		}
	}
	for _, bad := range []string{`{"state":"gone"}`, "\x00", "", "{}", `{"state":"offline","x":"` + strings.Repeat("x", maxStateFile) + `"}`} {
		if err := os.WriteFile(string(f), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := f.read(); err == nil || got != (engine.SetState{}) || !strings.Contains(err.Error(), "groupmgr ctl") {
			t.Errorf("%.30q: %+v, %v", bad, got, err)
		}
	}
}

func TestPeersFile(t *testing.T) {
	f := addrsFile(filepath.Join(t.TempDir(), "groupmgr.peers"))
	if got := f.read(); got != nil {
		t.Errorf("no file: %v", got)
	}
	var list []netip.AddrPort
	for i := range maxPeers + 5 {
		list = append(list, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 7009))
	}
	if err := f.write(list); err != nil {
		t.Fatal(err)
	}
	if got := f.read(); !slices.Equal(got, list[:maxPeers]) {
		t.Errorf("%d of them", len(got))
	}
	if err := os.WriteFile(string(f), []byte("x\n10.0.0.1:7009\n10.0.0.1\n::1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := f.read(); !slices.Equal(got, []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:7009")}) {
		t.Errorf("got %v", got)
	}
}

// Without broadcasts hosts find each other by a multicast group, or by peers
// that one of the two was told of.
func TestOtherWays(t *testing.T) {
	for name, tc := range map[string]func(c *Config, first *running){
		"multicast": func(c *Config, _ *running) { c.Multicast = netip.MustParseAddr("239.255.70.9") },
		"peer": func(c *Config, first *running) {
			if first == nil {
				c.Peers = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9")} // nobody's
			} else {
				c.Peers = []netip.AddrPort{netip.AddrPortFrom(first.addr, 0)}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			set := func(first *running) func(*Config) {
				return func(c *Config) {
					c.Broadcast, c.Period, c.Down = false, 100*time.Millisecond, 300*time.Millisecond
					tc(c, first)
				}
			}
			a := start(t, 0, state, set(nil))
			b := start(t, a.port, state, set(a))
			deaf := start(t, a.port, state, func(c *Config) { c.Period = time.Hour; c.Down = 2 * time.Hour })
			a.await("host trusted " + b.host)
			b.await("host trusted " + a.host)
			call[local.Welcome](a, local.OpHello, local.Hello{ControlPort: 7001})
			b.row(a.host, func(h local.TableHost) bool { return h.Control == 7001 && !h.Down })
			for range 5 { // several times Down: it stays so
				before := call[local.Status](a, local.OpStatus, nil).Counters.Hosts
				a.status(func(s local.Status) bool { return s.Counters.Hosts > before+1 })
			}
			for h, other := range map[*running]*running{a: b, b: a} {
				h.row(other.host, func(r local.TableHost) bool {
					if r.Down || !r.Trusted {
						t.Errorf("%s sees %+v", h.host, r)
					}
					return true
				})
			}
			if name == "multicast" {
				if s := call[local.Status](deaf, local.OpStatus, nil); s.Counters.Hosts > 3+2 { // its own, and two greetings
					t.Errorf("a host outside the multicast group heard %d messages", s.Counters.Hosts)
				}
			}
		})
	}
}

// status waits until the status has that form.
func (r *running) status(ok func(local.Status) bool) local.Status {
	r.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if s := call[local.Status](r, local.OpStatus, nil); ok(s) {
			return s
		}
		select {
		case <-tick.C:
		case <-r.t.Context().Done():
			r.t.Fatalf("%s: the status never had that form", r.host)
		}
	}
}
