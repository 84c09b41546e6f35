package harm

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/tools/internal/lab"
)

const registryAway = "registry away"

// registry kills the server that has the registry, and later it is back. Nobody's session depends on it.
func (b *blow) registry(ctx context.Context, _ *lab.Host) error {
	if err := b.Registry.Stay(); err != nil {
		return err
	}
	b.Registry.Server.Kill()
	away := until(ctx, seenWithin, func() bool { return b.connected(ctx) == 0 })
	wait(ctx, b.time(0, 4*time.Second))
	b.saw("%d of %d hosts had it no longer", len(b.Hosts)-b.connected(ctx), len(b.Hosts))
	if !away && ctx.Err() == nil {
		b.wrong("%v after the registry's end %d hosts say that they have it", seenWithin, b.connected(ctx))
	}
	boot, cancel := context.WithTimeout(ctx, bootWithin)
	defer cancel()
	if err := b.Registry.StartServer(boot); err != nil {
		return err
	}
	if !until(ctx, seenWithin, func() bool { return b.connected(ctx) == len(b.Hosts) }) && ctx.Err() == nil {
		b.wrong("%v after the registry is back %d of %d hosts have it again", seenWithin, b.connected(ctx), len(b.Hosts))
	}
	return nil
}

// connected is how many hosts say that they have the registry.
func (b *blow) connected(ctx context.Context) (n int) {
	for _, h := range b.Hosts {
		var st adminapi.Status
		if err := h.Admin(ctx, "/status", &st); err == nil && st.Registry.Connected {
			n++
		}
	}
	return n
}

// keys changes the group's key in three steps, as an admin does: the next one is
// accepted, then used, then it is the only one. Nobody distrusts anybody at any
// moment.
func (b *blow) keys(ctx context.Context, _ *lab.Host) error {
	file := b.Lab.Path("state", "group.key")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	old := ""
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' && old == "" {
			old = line
		}
	}
	next := rand.Text()
	distrust := b.logged("host not trusted")
	for step, lines := range [][]string{{old, next}, {next, old}, {next}} {
		before := b.logged("key file read anew")
		fresh := file + ".new"
		if err := os.WriteFile(fresh, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			return err
		}
		if err := os.Rename(fresh, file); err != nil {
			return err
		}
		read := func() (n int) {
			for i, now := range b.logged("key file read anew") {
				if now > before[i] {
					n++
				}
			}
			return n
		}
		if !until(ctx, seenWithin, func() bool { return read() == len(b.Hosts) }) && ctx.Err() == nil {
			b.wrong("step %d of the change of keys was taken by %d of %d hosts", step+1, read(), len(b.Hosts))
		}
	}
	for i, n := range b.logged("host not trusted") {
		if n > distrust[i] {
			b.wrong("%s distrusts a host since the key was changed", b.Hosts[i].Name)
		}
	}
	b.saw("all %d hosts took over three key files", len(b.Hosts))
	return nil
}

// logged counts the lines of the group managers' logs that hold a text.
func (b *blow) logged(text string) []int {
	var n []int
	for _, h := range b.Hosts {
		all, err := os.ReadFile(b.Lab.Path("log", "groupmgr-"+h.Name+".log"))
		if err != nil {
			n = append(n, 0)
			continue
		}
		n = append(n, strings.Count(string(all), text))
	}
	return n
}

// upgrade puts other program files in the place of the hosts' and starts one
// host's programs anew, as an installation of a new version does. Sessions stay,
// with the keeper they have.
func (b *blow) upgrade(ctx context.Context, host *lab.Host) error {
	over, err := b.partition(ctx, host) // its group manager is away for a moment
	if err != nil {
		return err
	}
	defer over()
	from := b.Upgrade
	if from == "" {
		from = b.Lab.Bin
	}
	for _, program := range []string{"groupmgr", "server", "session"} {
		if err := replace(filepath.Join(from, program), filepath.Join(b.Lab.Bin, program)); err != nil {
			return err
		}
	}
	before, err := b.sessions(ctx, host)
	if err != nil {
		return err
	}
	if err := host.Stay(); err != nil {
		return err
	}
	if err := host.GroupMgr.Stop(seenWithin); err != nil {
		b.wrong("%v", err)
	}
	boot, cancel := context.WithTimeout(ctx, bootWithin)
	defer cancel()
	if err := host.StartGroupMgr(boot); err != nil {
		return err
	}
	if err := host.Server.Stop(seenWithin); err != nil {
		b.wrong("%v", err)
	}
	if err := host.StartServer(boot); err != nil {
		return err
	}
	old := 0
	for _, s := range before {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", s.keeper)); err == nil && strings.HasSuffix(exe, " (deleted)") {
			old++
		}
	}
	var st adminapi.Status
	if err := host.Admin(ctx, "/status", &st); err != nil {
		b.wrong("after the upgrade: %v", err)
	}
	b.saw("server is process %d, of %q; %d sessions have the old program", host.Server.PID(), st.Version, old)
	return nil
}

// replace puts a copy of a program in another's place at once.
func replace(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to+".new", text, 0o755); err != nil {
		return err
	}
	return os.Rename(to+".new", to)
}

// certificate starts a host's server with another authority's certificate: no
// terminal talks to it. Then it has its own again.
func (b *blow) certificate(ctx context.Context, host *lab.Host) error {
	over, err := b.partition(ctx, host)
	if err != nil {
		return err
	}
	defer over()
	if err := host.Stay(); err != nil {
		return err
	}
	if err := host.Server.Stop(seenWithin); err != nil {
		b.wrong("%v", err)
	}
	boot, cancel := context.WithTimeout(ctx, bootWithin)
	defer cancel()
	if err := host.StartServer(boot, "-state", b.Lab.Path("stranger-"+host.Name)); err != nil {
		return err
	}
	_, right := host.Greets(ctx)
	wait(ctx, b.time(2*time.Second, 6*time.Second))
	var st adminapi.Status
	if err := host.Admin(ctx, "/status", &st); err != nil {
		b.wrong("with the other certificate: %v", err)
	}
	if right == nil || st.Terminals > 0 {
		b.wrong("%d terminals talk to a host of another authority (%v)", st.Terminals, right)
	}
	b.saw("%d terminals there; %v", st.Terminals, right)
	if err := host.Server.Stop(seenWithin); err != nil {
		b.wrong("%v", err)
	}
	boot, cancel = context.WithTimeout(ctx, bootWithin)
	defer cancel()
	if err := host.StartServer(boot); err != nil {
		return err
	}
	if _, err := host.Greets(ctx); err != nil {
		b.wrong("with its own certificate again: %v", err)
	}
	return nil
}
