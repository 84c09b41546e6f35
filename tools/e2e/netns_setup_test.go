package e2e

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/tools/internal/account"
	"hotdesk/tools/internal/lab"
)

// hotdesk runs the administrators' program on the machine of a name.
func (r *realm) hotdesk(machine, stdin string, args ...string) (string, error) {
	r.t.Helper()
	cmd := exec.CommandContext(r.ctx, filepath.Join(bin, "hotdesk"), args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	r.must(r.node(machine).Do(cmd.Start))
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("hotdesk %s at %s: %w\n%s%s", strings.Join(args, " "), machine, err, out.String(), errs.String())
	}
	return out.String(), nil
}

// aging has a host's certificate end soon, as if it had been given long ago, and
// returns when.
func (r *realm) aging(authority, host string) time.Time {
	r.t.Helper()
	pair, err := tls.LoadX509KeyPair(r.lab.Path(authority+"-state", "authority.pem"), r.lab.Path(authority+"-state", "authority.key"))
	r.must(err)
	path := r.lab.Path(host+"-state", "host-"+host+".pem")
	text, err := os.ReadFile(path)
	r.must(err)
	block, rest := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	r.must(err)
	cert.NotAfter = time.Now().Add(80 * 24 * time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, cert, pair.Leaf, cert.PublicKey, pair.PrivateKey)
	r.must(err)
	r.must(os.WriteFile(path, append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), rest...), 0o644))
	return cert.NotAfter
}

// Two hosts are set up by `hotdesk setup`, as root would on bare machines, the
// second by the line that the first one's invitation prints: they trust each
// other, a terminal that knows the authority of either uses both, and the
// registry follows. The host that joined renews its certificate by itself.
func TestNetnsSetup(t *testing.T) {
	account1 := fmt.Sprintf("hde2e%ds", os.Getpid())
	t.Cleanup(func() { // after the programs have ended
		if err := (&account.Account{Name: account1}).RemoveTemporary(); err != nil {
			t.Error(err)
		}
	})
	r := newRealm(t, []string{"north", "south", "a"})
	places := func(host string) []string {
		return []string{"-state", r.lab.Path(host + "-state"), "-runtime", r.lab.Path(host)}
	}
	setup := func(host string, words ...string) []string {
		return append(append(places(host), "-host", host, "-gateway-user", account1, "-session-user", r.user.Name), words...)
	}
	out, err := r.hotdesk("north", "", setup("north", "setup")...)
	r.must(err)
	for _, want := range []string{"made the account " + account1, "wrote " + r.lab.Path("north-state", "server.conf"), "fingerprint ", "next:"} {
		if !strings.Contains(out, want) {
			t.Errorf("setup does not say %q:\n%s", want, out)
		}
	}
	u, err := user.Lookup(account1)
	r.must(err)
	acc := &account.Account{Name: account1}
	acc.UID, err = strconv.Atoi(u.Uid)
	r.must(err)
	acc.GID, err = strconv.Atoi(u.Gid)
	r.must(err)
	registry := fmt.Sprintf("%v:7445", r.node("north").Addr)
	start := func(host string, more ...string) {
		t.Helper()
		conf := lab.Installed{
			NetNS: r.node(host).Namespace(), State: r.lab.Path(host + "-state"), GroupState: r.lab.Path(host+"-state", "group"), Gateway: acc, User: r.user,
			GroupArgs:  []string{"-config", r.lab.Path(host+"-state", "groupmgr.conf"), "-period", period.String(), "-down", down.String()},
			ServerArgs: append(more, "-config", r.lab.Path(host+"-state", "server.conf")),
		}
		ctx, cancel := context.WithTimeout(r.ctx, patience)
		defer cancel()
		h, err := r.lab.Installed(ctx, host, conf)
		if h != nil {
			r.hosts[host] = h
		}
		r.must(err)
	}
	start("north", "-registry-listen", registry)

	// The second host joins by one pasted line.
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	invite := exec.CommandContext(ctx, filepath.Join(bin, "hotdesk"), setup("north", "setup", "invite", "-listen", r.node("north").Addr.String(), "-registry", "https://"+registry)...)
	lines, err := invite.StdoutPipe()
	r.must(err)
	r.must(r.node("north").Do(invite.Start))
	read := bufio.NewReader(lines)
	line, err := read.ReadString('\n')
	r.must(err)
	_, err = r.hotdesk("south", line, setup("south", "setup", "join")...)
	r.must(err)
	said, err := read.ReadString('\n')
	r.must(err)
	if said != "south has joined\n" {
		t.Errorf("the invitation says %q", said)
	}
	r.must(invite.Wait())
	old := r.aging("north", "south")
	start("south")
	r.together("north", "south")

	// A certificate that ends soon is renewed: the gateway asks when it starts.
	gateway, err := r.hosts["south"].Gateway()
	r.must(err)
	r.must(lab.Kill(r.ctx, gateway))
	r.logged(r.hosts["south"].Server, "certificate renewed", 1)
	r.logged(r.hosts["north"].Server, "certificate renewed for a host", 1)
	r.eventually("the new certificate is served", func() (bool, string) {
		out, err := r.hotdesk("south", "", append(places("south"), "-json", "status")...)
		var st adminapi.Status
		if json.Unmarshal([]byte(out), &st) != nil {
			return false, fmt.Sprint(err)
		}
		return st.CertUntil.Sub(old) > 365*24*time.Hour, st.CertUntil.String()
	})

	for path, want := range map[string]struct {
		mode fs.FileMode
		uid  int
	}{
		"north-state":                 {fs.ModeDir | 0o711, 0},
		"north-state/authority.key":   {0o600, 0},
		"north-state/host-north.key":  {0o600, 0},
		"north-state/group":           {fs.ModeDir | 0o700, acc.UID},
		"north-state/group/group.key": {0o600, acc.UID},
		"north-state/gateway":         {fs.ModeDir | 0o700, acc.UID},
		"south-state":                 {fs.ModeDir | 0o711, 0},
		"south-state/authority.pem":   {0o644, 0},
		"south-state/host-south.key":  {0o600, 0},
		"south-state/group/group.key": {0o600, acc.UID},
		"south/admin.sock":            {fs.ModeSocket | 0o600, 0},
	} {
		st, err := os.Lstat(r.lab.Path(path))
		if err != nil {
			t.Error(err)
			continue
		}
		if sys := st.Sys().(*syscall.Stat_t); st.Mode() != want.mode || int(sys.Uid) != want.uid {
			t.Errorf("%s is %v of uid %d, want %v of %d", path, st.Mode(), sys.Uid, want.mode, want.uid)
		}
	}
	if _, err := os.Lstat(r.lab.Path("south-state/authority.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the host that joined has the authority's key: %v", err)
	}

	// A terminal that knows the first host's authority works at the second.
	ctx, cancel = context.WithTimeout(r.ctx, patience)
	defer cancel()
	a, err := r.lab.TerminalIn(ctx, r.node("a").Namespace(), r.lab.Path("north-state", "authority.pem"), "a", "-server", r.at("south"))
	r.must(err)
	r.terminals["a"] = a
	r.see(a, "picture")
	r.hands(a, "insert", "card1")
	r.desk(a)

	// What is changed at one host is known at the other.
	_, err = r.hotdesk("north", "", append(places("north"), "token", "add", "card.9", "user="+r.user.Name)...)
	r.must(err)
	has := func(host, token string) func() (bool, string) {
		return func() (bool, string) {
			_, err := r.hotdesk(host, "", append(places(host), "token", "show", token)...)
			return err == nil, fmt.Sprint(err)
		}
	}
	r.eventually("the registry follows", has("south", "card.9"))
	_, err = r.hotdesk("south", "", append(places("south"), "token", "add", "card.8")...)
	r.must(err)
	r.eventually("the registry is told", has("north", "card.8"))
	for _, host := range []string{"north", "south"} {
		out, err := r.hotdesk(host, "", append(places(host), "session", "list")...)
		r.must(err)
		if strings.Count(out, " connected ") != 1 {
			t.Errorf("%s lists the sessions\n%s", host, out)
		}
		out, err = r.hotdesk(host, "", append(places(host), "status")...)
		if err != nil || strings.Contains(out, "WARNING") {
			t.Errorf("%s: %v\n%s", host, err, out)
		}
	}
}
