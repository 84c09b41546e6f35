package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hotdesk/protocol/group/local"
	"hotdesk/server/auth"
	"hotdesk/tools/internal/account"
	"hotdesk/tools/internal/lab"
	"hotdesk/tools/internal/netlab"
)

// Times of a group in these tests: short, so that partitions are noticed while
// one watches, and long enough for two busy processors.
const (
	period = 400 * time.Millisecond
	down   = 2 * time.Second
)

// A realm is an installation on several machines, each a network namespace:
// root's programs, an account without rights, and a user.
type realm struct {
	*world
	t       *testing.T
	net     *netlab.Net
	gateway *account.Account
	user    *account.Account
	key     string // line of the group key file
}

func newRealm(t *testing.T, subnets ...[]string) *realm {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("machines, accounts and networks of one's own need root; CI is root")
	}
	r := &realm{t: t, key: rand.Text()}
	var err error
	for kind, to := range map[string]**account.Account{"g": &r.gateway, "u": &r.user} {
		if *to, err = account.Temporary(t.Context(), kind, kind == "g"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.must((*to).RemoveTemporary()) })
	}
	if r.net, err = netlab.New(t.Context(), subnets...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.must(r.net.Close()) })
	if r.world, err = newWorld(t, t.Cleanup); err != nil {
		t.Fatal(err)
	}
	r.must(os.Chmod(r.lab.Dir, 0o711))
	_, err = auth.Create(r.lab.Path("state"))
	r.must(err)
	return r
}

// must is for what is not the test's subject: it ends the test, or, while it
// ends, reports.
func (r *realm) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Errorf("%v", err)
		if r.t.Context().Err() == nil {
			r.t.FailNow()
		}
	}
}

// state makes a host's state directory as an admin would: root's with the
// group's authority, and in it the group manager's with the group's key.
func (r *realm) state(host string) string {
	r.t.Helper()
	dir := r.lab.Path(host + "-state")
	r.must(os.Mkdir(dir, 0o711))
	for _, name := range []string{"authority.pem", "authority.key"} {
		text, err := os.ReadFile(r.lab.Path("state", name))
		r.must(err)
		r.must(os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	r.must(os.Mkdir(groupState(dir), 0o700))
	r.must(os.Chown(groupState(dir), r.gateway.UID, r.gateway.GID))
	r.writeKey(host, r.key)
	return dir
}

// rogue starts a host that has neither the group's key nor its authority, and
// looks like one of it in all else.
func (r *realm) rogue(name string) *lab.Host {
	r.t.Helper()
	key := r.key
	defer func() { r.key = key }()
	r.key = "a line that is not the group's"
	return r.host(name, func(c *lab.Installed) {
		for _, file := range []string{"authority.pem", "authority.key"} {
			r.must(os.Remove(filepath.Join(c.State, file)))
		}
		c.ServerArgs = []string{"-new-authority"}
	})
}

func groupState(state string) string { return filepath.Join(state, "group") }

// writeKey puts a group key file in place at once, as an admin's tools should.
func (r *realm) writeKey(host string, lines ...string) {
	r.t.Helper()
	path := filepath.Join(groupState(r.lab.Path(host+"-state")), "group.key")
	var text []byte
	for _, l := range lines {
		text = append(append(text, l...), '\n')
	}
	r.must(os.WriteFile(path+".new", text, 0o600))
	r.must(os.Chown(path+".new", r.gateway.UID, r.gateway.GID))
	r.must(os.Rename(path+".new", path))
}

// host starts an installed host on the machine of its name, group manager
// first, unless change says otherwise.
func (r *realm) host(name string, change func(*lab.Installed)) *lab.Host {
	r.t.Helper()
	conf := lab.Installed{
		NetNS: r.node(name).Namespace(), State: r.state(name), Gateway: r.gateway, User: r.user,
		GroupState: groupState(r.lab.Path(name + "-state")),
		GroupArgs:  []string{"-period", period.String(), "-down", down.String()},
	}
	if change != nil {
		change(&conf)
	}
	if !conf.ServerFirst { // as a service manager's RuntimeDirectory= does
		r.must(os.Mkdir(r.lab.Path(name), 0o700))
		r.must(os.Chown(r.lab.Path(name), r.gateway.UID, r.gateway.GID))
	}
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	h, err := r.lab.Installed(ctx, name, conf)
	if h != nil {
		r.hosts[name] = h
	}
	r.must(err)
	return h
}

func (r *realm) node(name string) *netlab.Node {
	r.t.Helper()
	n := r.net.Nodes[name]
	if n == nil {
		r.t.Fatalf("no machine %q", name)
	}
	return n
}

// at is where a host's control port is.
func (r *realm) at(host string) string { return fmt.Sprintf("%v:7443", r.node(host).Addr) }

// terminal starts a terminal on the machine of its name, with a small screen where
// args do not say its size.
func (r *realm) terminal(name string, args ...string) *lab.Terminal {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	t, err := r.lab.TerminalIn(ctx, r.node(name).Namespace(), r.lab.Authority(), name, append([]string{"-size", small}, args...)...)
	r.must(err)
	r.terminals[name] = t
	return t
}

// hands does what hands do at a terminal.
func (r *realm) hands(t *lab.Terminal, words ...string) {
	r.t.Helper()
	_, err := t.Ctl(r.ctx, words...)
	r.must(err)
}

// see waits until the terminal is as the words of `dtu ctl wait` say.
func (r *realm) see(t *lab.Terminal, words ...string) {
	r.t.Helper()
	if _, err := t.Ctl(r.ctx, append([]string{"wait", "-timeout", patience.String()}, words...)...); err != nil {
		text, _ := t.Ctl(r.ctx, "status")
		_, _ = t.Ctl(r.ctx, "screenshot", r.lab.Path("log", t.Name+".png"))
		r.t.Fatalf("%v\nits status:\n%s", err, text)
	}
}

// desk waits for the default session's desktop, its xterm with the keyboard.
func (r *realm) desk(t *lab.Terminal) {
	r.t.Helper()
	r.see(t, "picture", "pixel=400,300,"+xtermColour)
	r.rest(t)
}

// paint types a command that colours the desktop, and waits for the colour.
func (r *realm) paint(t *lab.Terminal, rrggbb string) {
	r.t.Helper()
	r.hands(t, "type", "xsetroot -solid '#"+rrggbb+"'\n")
	r.colour(t, rrggbb)
}

func (r *realm) colour(t *lab.Terminal, rrggbb string) {
	r.t.Helper()
	r.see(t, "picture", corner+rrggbb)
}

func (r *realm) rest(t *lab.Terminal) string {
	r.t.Helper()
	hash, err := t.Rest(r.ctx, patience)
	r.must(err)
	return hash
}

func (r *realm) shows(t *lab.Terminal, hash string) {
	r.t.Helper()
	r.must(t.Shows(r.ctx, hash, patience))
}

// status is one value of the terminal's status.
func (r *realm) status(t *lab.Terminal, key string) string {
	r.t.Helper()
	v, err := t.Status(r.ctx, key)
	r.must(err)
	return v
}

// eventually polls what no event tells of.
func (r *realm) eventually(what string, f func() (bool, string)) {
	r.t.Helper()
	r.within(patience, what, f)
}

// within is the same with a wait of its own.
func (r *realm) within(wait time.Duration, what string, f func() (bool, string)) {
	r.t.Helper()
	for until := time.Now().Add(wait); ; pause() {
		ok, have := f()
		if ok {
			return
		}
		if time.Now().After(until) {
			r.t.Fatalf("%s: it does not come to that: %s", what, have)
		}
	}
}

// sessions are the hosts' sessions, in all.
func (r *realm) sessions(hosts ...string) (n int) {
	r.t.Helper()
	for name, h := range r.hosts {
		if len(hosts) == 0 || slices.Contains(hosts, name) {
			ids, err := h.Sessions()
			r.must(err)
			n += len(ids)
		}
	}
	return n
}

// table is what a host's group manager knows, by host name.
func (r *realm) table(host string) map[string]local.TableHost {
	r.t.Helper()
	var t local.Table
	r.must(json.Unmarshal(r.groupctl(host, "-json", "table"), &t))
	all := map[string]local.TableHost{}
	for _, h := range t.Hosts {
		all[h.Host] = h
	}
	return all
}

// groupctl runs `groupmgr ctl` at a host.
func (r *realm) groupctl(host string, words ...string) []byte {
	r.t.Helper()
	args := append([]string{"ctl", "-runtime", r.hosts[host].Runtime}, words...)
	out, err := exec.CommandContext(r.ctx, filepath.Join(bin, "groupmgr"), args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("groupmgr %v: %w: %s", args, err, exit.Stderr)
	}
	r.must(err)
	return out
}

// knows waits until a host's table has the others so, and no more hosts than
// these and itself.
func (r *realm) knows(host string, others map[string]func(local.TableHost) bool) {
	r.t.Helper()
	r.eventually(host+"'s table", func() (bool, string) {
		t := r.table(host)
		for name, ok := range others {
			if h, there := t[name]; !there || !ok(h) {
				return false, fmt.Sprintf("%s: %+v", name, h)
			}
		}
		return len(t) == len(others)+1, fmt.Sprintf("%+v", t)
	})
}

// What knows is asked.
func trusted(h local.TableHost) bool   { return h.Trusted && !h.Down }
func untrusted(h local.TableHost) bool { return !h.Trusted && !h.Down && h.Why != "" }
func isDown(h local.TableHost) bool    { return h.Trusted && h.Down }

// together waits until each of the hosts trusts all others.
func (r *realm) together(hosts ...string) {
	r.t.Helper()
	for _, h := range hosts {
		others := map[string]func(local.TableHost) bool{}
		for _, o := range hosts {
			if o != h {
				others[o] = trusted
			}
		}
		r.knows(h, others)
	}
}

// capture listens at a machine's cable until the test ends.
func (r *realm) capture(name string) *netlab.Capture {
	r.t.Helper()
	c, err := r.node(name).Capture()
	r.must(err)
	r.t.Cleanup(c.Close)
	return c
}

// logged waits until the program's log has the text so often.
func (r *realm) logged(p *lab.Proc, text string, times int) {
	r.t.Helper()
	r.eventually(fmt.Sprintf("%s logs %q", p.Name, text), func() (bool, string) {
		n := strings.Count(p.Log(), text)
		return n >= times, strconv.Itoa(n)
	})
}
